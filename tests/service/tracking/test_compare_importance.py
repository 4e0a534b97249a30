"""Which settings a metric depends on, over what a project or a search holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.service.tracking.test_compare import RUNS, run
from tests.service.tracking.test_metrics import column, send


def ask(client: TestClient, **body: Any) -> dict[str, Any]:
    answer = client.post(f"{RUNS}/importance", json={"metric": "eval/loss", **body})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def sweep(client: TestClient, n: int = 24, project: str = "sweep") -> list[str]:
    """The learning rate decides the last loss; the least loss is the same for all but for noise."""
    draw = np.random.default_rng(0)
    ids = []
    for i in range(n):
        rate = float(10 ** draw.uniform(-5, -2))
        config = {"lr": rate, "warmup": float(draw.uniform()), "model": "qwen", "output_dir": f"runs/{i}"}
        made = run(client, project=project, config=config, tags={"half": str(i % 2)})
        low = float(draw.normal(0, 1e-3))
        send(client, made, 1, column("eval/loss", [1, 2], [low, float(np.log10(rate)) + 10]))
        ids.append(made)
    return ids


def test_the_setting_that_decides_comes_first(client: TestClient) -> None:
    ids = sweep(client)
    run(client, project="sweep")  # never evaluated
    found = ask(client, project="sweep")
    assert (found["n"], found["without"], found["truncated"], found["reason"]) == (24, 1, False, None)
    first, second = found["settings"]
    assert (first["key"], first["kind"], first["levels"]) == ("lr", "numeric", 24)
    assert first["importance"] > 0.9
    assert first["interval"][0] > 0.8
    assert first["correlation"] == pytest.approx(1.0)
    assert second["key"] == "warmup"
    assert second["interval"][0] == 0.0
    assert (found["unclear"], found["constant"]) == (["output_dir"], 1)
    assert ask(client, run_ids=ids[::-1])["settings"] == found["settings"]


def test_which_value_counts(client: TestClient) -> None:
    sweep(client)
    best = ask(client, project="sweep", by="best")
    assert best["by"] == "min"
    assert {held["key"]: held["interval"][0] for held in best["settings"]}["lr"] == 0.0
    assert ask(client, project="sweep", by="max")["settings"][0]["importance"] > 0.9
    assert ask(client, project="sweep", by="best", direction="max")["by"] == "max"


def test_a_search_narrows_the_runs(client: TestClient) -> None:
    sweep(client)
    assert ask(client, project="sweep", query='tags.half = "1"')["n"] == 12
    assert ask(client, project="elsewhere")["n"] == 0


def test_few_runs_cannot_tell(client: TestClient) -> None:
    sweep(client, 9)
    found = ask(client, project="sweep")
    assert (found["reason"], found["settings"]) == ("too_few_runs", [])
    assert found["message"].startswith("Cannot tell: 9 runs have a finite 'eval/loss'")


def test_runs_whose_value_is_not_finite_do_not_count(client: TestClient) -> None:
    sweep(client, 12)
    made = run(client, project="sweep", config={"lr": 1.0})
    send(client, made, 1, column("eval/loss", [1], [float("nan")]))
    found = ask(client, project="sweep")
    assert (found["n"], found["without"]) == (12, 1)


def test_the_best_of_a_metric_nobody_knows(client: TestClient) -> None:
    answer = client.post(f"{RUNS}/importance", json={"metric": "zeta", "by": "best"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "direction_unknown")


def test_a_wrong_search_says_where(client: TestClient) -> None:
    answer = client.post(f"{RUNS}/importance", json={"metric": "zeta", "query": "lr >"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_query")
