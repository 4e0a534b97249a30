"""Gates on metrics of which lower is better: a rise is the loss, and the margin is what it may be."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from .wire import Json, audit, get, make_policy, post, protect

N = 200
LABELS = ("no", "yes")


@pytest.fixture
def database_url(sqlite_template: Path, tmp_path: Path) -> str:
    """What is tested here is arithmetic; audits themselves are tested on both databases."""
    path = tmp_path / "tunescope.db"
    shutil.copy(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def suite(client: TestClient) -> Json:
    items = [
        {"id": f"i{place}", "input": f"{place}?", "label": LABELS[place % 2], "group": ("odd", "even")[place < 50]}
        for place in range(N)
    ]
    metrics = ["log_loss", "accuracy", "roc_auc"]
    return post(client, "suites", {"name": "sure", "task_type": "classification", "items": items, "metrics": metrics})


def losses(shift: float, seed: int = 0) -> np.ndarray:
    """Each item's log-loss, about 0.3 + shift."""
    return 0.3 + shift + np.random.default_rng(seed).uniform(-0.1, 0.1, N)


def evaluate(client: TestClient, suite: Json, wanted: np.ndarray) -> str:
    chances = np.exp(-wanted).tolist()
    predictions = [
        {"id": f"i{place}", "label_scores": {LABELS[place % 2]: chance, LABELS[1 - place % 2]: 1 - chance}}
        for place, chance in enumerate(chances)
    ]
    made = post(client, "evaluations", {"suite_id": suite["id"], "predictions": predictions})
    assert made["scores"][0]["value"] == pytest.approx(wanted.mean())
    return str(made["id"])


@pytest.mark.parametrize(
    ("shift", "verdict"), [(-0.2, "PASS"), (0.0, "PASS"), (0.045, "PASS"), (0.06, "FAIL"), (0.2, "FAIL")]
)
def test_a_rise_is_the_loss(client: TestClient, suite: Json, shift: float, verdict: str) -> None:
    before, after = losses(0.0), losses(shift, seed=1)
    policy = make_policy(client, protect("sure", 0.05, metric="log_loss"))
    found = audit(client, policy, (evaluate(client, suite, before), evaluate(client, suite, after)))
    task = found["tasks"][0]
    assert (found["verdict"], task["direction"]) == (verdict, "lower")
    assert (task["before"], task["after"]) == pytest.approx((before.mean(), after.mean()))
    assert task["difference"] == pytest.approx(before.mean() - after.mean()), "negative is worse"
    assert (task["lower_bound"] > -0.05) == (verdict == "PASS")
    assert (task["lost"], task["gained"]) == ((after > before).sum(), (after < before).sum())
    assert {one["group"]: one["lost"] for one in task["by_group"]} == {
        "even": (after > before)[:50].sum(), "odd": (after > before)[50:].sum()
    }  # fmt: skip
    assert "the policy allows a rise of 0.050" in found["sentence"]
    rise = f"{after.mean() - before.mean():+.3f}".replace("-", "−")
    assert f"({rise} log_loss" in found["sentence"]
    lost = get(client, f"audits/{found['id']}/items", kind="lost", limit=1000)["items"]
    assert {item["id"] for item in lost} == {f"i{place}" for place in np.flatnonzero(after > before)}
    page = client.get(f"/api/v1/audits/{found['id']}/report", params={"format": "markdown"}).text
    assert "sure (log\\_loss, lower is better)" in page


def test_answers_without_what_the_metric_reads_cannot_be_audited(client: TestClient) -> None:
    items = [{"id": f"i{place}", "input": "?", "label": LABELS[place % 2]} for place in range(4)]
    body = {"name": "told", "task_type": "classification", "items": items, "metrics": ["accuracy", "log_loss"]}
    suite = post(client, "suites", body)
    told = [{"id": f"i{place}", "output": "no"} for place in range(4)]
    ids = [post(client, "evaluations", {"suite_id": suite["id"], "predictions": told})["id"] for _ in "ab"]
    found = audit(client, make_policy(client, protect("told", 0.05, metric="log_loss")), (ids[0], ids[1]))
    assert found["verdict"] == "INVALID"
    assert found["problems"] == [
        f"'told': the answers {side} carry no `label_scores`, which 'log_loss' reads." for side in ("before", "after")
    ]


def test_the_floor_is_what_the_base_loses_against_itself(client: TestClient, suite: Json) -> None:
    runs = [losses(0.0), losses(0.0, seed=1), losses(0.15, seed=2)]
    before, again = runs[:2]
    ids = [evaluate(client, suite, run) for run in runs]
    policy = make_policy(client, protect("sure", 0.05, metric="log_loss"), require_aa=True)
    found = audit(client, policy, (ids[0], ids[2]), aa=[ids[1]])
    floor = found["tasks"][0]["floor"]
    assert (floor["n10"], floor["n01"]) == ((again > before).sum(), (again < before).sum())
    assert floor["called"]
    assert found["verdict"] == "FAIL"


def test_a_policy_that_leaves_the_metric_open_says_the_direction(client: TestClient, suite: Json) -> None:
    pair = evaluate(client, suite, losses(0.0)), evaluate(client, suite, losses(0.2, seed=1))
    unsaid = audit(client, make_policy(client, protect("sure", 0.05)), pair)
    assert unsaid["verdict"] == "INVALID"
    assert "'log_loss' is better the lower it is, and the policy says 'higher'" in unsaid["problems"][0]
    said = audit(client, make_policy(client, protect("sure", 0.05, direction="lower")), pair)
    assert (said["verdict"], said["tasks"][0]["metric"]) == ("FAIL", "log_loss")
