"""Curves of many runs: aligned, thinned, smoothed, averaged over groups; live by cursor."""

from __future__ import annotations

import io
import json
import math
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from service.tracking import curves
from tests.service.tracking.test_compare import RUNS, run
from tests.service.tracking.test_metrics import column, send

POSTGRESQL_IS_SLOW = True

ARROW = {"accept": "application/vnd.apache.arrow.stream"}


def ask(client: TestClient, ids: list[str], *keys: str, **body: Any) -> dict[str, Any]:
    answer = client.post(f"{RUNS}/curves", json={"run_ids": ids, "keys": list(keys or ("loss",)), **body})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def refused(client: TestClient, ids: list[str], **body: Any) -> tuple[int, str]:
    answer = client.post(f"{RUNS}/curves", json={"run_ids": ids, "keys": ["loss"], **body})
    return answer.status_code, answer.json()["error"]["code"]


def logged(client: TestClient, steps: list[int], values: list[float], /, **body: Any) -> str:
    made = run(client, **body)
    send(client, made, 1, column("loss", steps, values))
    return made


def bulk(key: str, n: int, values: np.ndarray) -> dict[str, Any]:
    steps = np.arange(n, dtype="<i8")
    return {
        "key": key,
        "step": steps.tobytes(),
        "time": steps.astype("<f8").tobytes(),
        "value": values.astype("<f8").tobytes(),
    }


def test_short_curves_come_as_they_are(client: TestClient) -> None:
    made = logged(client, [1, 2, 3, 4], [1.0, math.nan, math.inf, 0.5])
    (curve,) = ask(client, [made])["curves"]
    assert curve == {
        "run_id": made, "key": "loss", "rank": 0, "count": 4, "sampled": False, "not_finite": 2, "x": [1, 2, 3, 4],
        "value": [1.0, None, None, 0.5], "min": [1.0, None, None, 0.5], "max": [1.0, None, None, 0.5],
    }  # fmt: skip


def test_long_curves_share_their_pixels_and_keep_spikes(client: TestClient) -> None:
    ids = [run(client), run(client)]
    noise = np.random.default_rng(0).normal(size=9000)
    noise[1234] = 50.0
    send(client, ids[0], 1, bulk("loss", 9000, noise))
    send(client, ids[1], 1, bulk("loss", 4500, noise[:4500]))
    first, second = ask(client, ids, max_points=90)["curves"]
    assert (len(first["x"]), len(second["x"])) == (90, 45)
    assert first["x"][:45] == second["x"][:45]
    assert max(first["max"]) == 50.0
    assert first["sampled"]
    assert first["value"][3] == pytest.approx(
        noise[(np.arange(9000) >= 3 * 99.98889) & (np.arange(9000) < 4 * 99.98889)].mean()
    )


def test_time_counts_from_the_runs_first_point(client: TestClient) -> None:
    """Whenever the run was made: an imported one is made long after."""
    made = run(client, created_at=-10.0)
    send(client, made, 1, column("loss", [5, 6, 7], [3.0, 2.0, 1.0]))
    send(client, made, 2, {**column("acc", [5, 6], [0.1, 0.2]), "time": struct.pack("<2d", 4.0, 6.0)})
    loss, acc = ask(client, [made], "loss", "acc", x="time")["curves"]
    assert (loss["x"], acc["x"]) == ([0, 1, 2], [4, 6])


def test_a_run_whose_clock_was_wrong_is_still_drawn(client: TestClient) -> None:
    made = run(client, created_at=1e9)
    send(client, made, 1, bulk("loss", 3000, np.arange(3000.0)))
    (curve,) = ask(client, [made], x="time", max_points=100)["curves"]
    assert len(curve["x"]) == 100
    assert curve["value"] == sorted(curve["value"])


def test_epochs_are_those_the_run_logged_and_never_beyond(client: TestClient) -> None:
    with_epochs, without = run(client), logged(client, [1], [1.0])
    send(
        client, with_epochs, 1,
        column("loss", [0, 10, 15, 20, 30], [5.0, 4.0, 3.0, 2.0, 1.0]),
        column("train/epoch", [10, 20], [1.0, 2.0]),
    )  # fmt: skip
    found = ask(client, [with_epochs, without], x="epoch")
    assert found["curves"][0]["x"] == [1.0, 1.5, 2.0]
    assert found["curves"][0]["value"] == [4.0, 3.0, 2.0]
    assert found["missing"] == [{"run_id": without, "key": "loss", "reason": "no_epoch"}]


def test_a_resumed_run_shows_its_newest_segment(client: TestClient) -> None:
    made = logged(client, [1, 2, 3, 4], [1.0, 2.0, 3.0, 4.0])
    send(client, made, 2, column("loss", [3, 4], [30.0, 40.0]))
    assert ask(client, [made])["curves"][0]["value"] == [1, 2, 30, 40]


def test_smoothing_keeps_the_measured_range_beside_it(client: TestClient) -> None:
    made = logged(client, [0, 1, 2], [0.0, 1.0, 1.0])
    (curve,) = ask(client, [made], smoothing=0.99)["curves"]
    kept = math.sqrt(0.99) ** 500  # half the chart is 500 units wide
    assert curve["value"] == pytest.approx([0.0, 1 / (1 + kept), (1 + kept) / (1 + kept + kept**2)])
    assert curve["min"] == curve["max"] == [0, 1, 1]


def seeds(client: TestClient) -> list[str]:
    """Two configurations, three seeds of the one and one of the other; every launcher writes its own folder."""
    made = []
    for rate, seed, height in ((0.1, 0, 1.0), (0.1, 1, 2.0), (0.1, 2, 6.0), (0.2, 0, 9.0)):
        config = {"lr": rate, "train": {"seed": seed, "output_dir": f"runs/{rate}-{seed}"}, "model": "qwen"}
        made.append(
            logged(client, [0, 10, 20][: 3 - (seed == 2)], [height] * (3 - (seed == 2)), config=config,
                   tags={"team": "nlp" if seed else "cv"}, group="a" if rate == 0.1 else None)
        )  # fmt: skip
    return made


def test_seeds_of_one_configuration_are_averaged(client: TestClient) -> None:
    ids = seeds(client)
    found = ask(client, ids, group_by=["seed"])
    assert found["curves"] == []
    assert [(held["label"], held["run_ids"]) for held in found["groups"]] == [("lr 0.1", ids[:3]), ("lr 0.2", ids[3:])]
    three, one = found["group_curves"]
    assert three["x"] == [0, 10, 20]
    assert three["mean"] == pytest.approx([3.0, 3.0, 1.5])
    assert three["n"] == [3, 3, 2]  # the third seed stopped at step 10 and is not carried on
    assert three["sd"] == pytest.approx([math.sqrt(7), math.sqrt(7), math.sqrt(0.5)])
    assert (three["min"], three["max"]) == ([1, 1, 1], [6, 6, 2])
    assert one["sd"] == [None, None, None]
    assert one["mean"] == [9, 9, 9]


@pytest.mark.parametrize(
    ("fields", "labels"),
    [
        (["params.lr"], ["lr 0.1", "lr 0.2"]),
        (["tags.team"], ["team cv", "team nlp"]),
        (["group"], ["group a", "group not set"]),
        (["params.lr", "tags.team"], ["lr 0.1, team cv", "lr 0.1, team nlp", "lr 0.2, team cv"]),
        (["params.nothing"], ["nothing not set"]),
        (["params.train.seed"], ["seed 0", "seed 1", "seed 2"]),
    ],
)
def test_groups_by_config_tag_and_group(client: TestClient, fields: list[str], labels: list[str]) -> None:
    assert [held["label"] for held in ask(client, seeds(client), group_by=fields)["groups"]] == labels


def test_runs_that_differ_in_nothing_are_one_group(client: TestClient) -> None:
    ids = [logged(client, [1], [1.0], config={"seed": seed}) for seed in range(2)]
    assert [held["label"] for held in ask(client, ids, group_by=["seed"])["groups"]] == ["same configuration"]


@pytest.mark.parametrize("fields", [["lr"], ["params."], ["seed", "group"], ["metrics.loss"]])
def test_a_field_that_cannot_group_is_refused(client: TestClient, fields: list[str]) -> None:
    assert refused(client, [logged(client, [1], [1.0])], group_by=fields) == (400, "bad_grouping")


def test_too_many_groups_are_refused(client: TestClient) -> None:
    ids = [run(client, config={"i": i}) for i in range(51)]
    assert refused(client, ids, group_by=["params.i"]) == (400, "too_many_groups")


def test_a_cursor_gives_only_what_grew(client: TestClient) -> None:
    done, going = logged(client, [1, 2], [1.0, 2.0]), logged(client, [1, 2], [3.0, 4.0])
    first = ask(client, [done, going])
    assert ask(client, [done, going], after=first["cursor"])["curves"] == []
    send(client, going, 2, column("loss", [3], [5.0]))
    then = ask(client, [done, going], after=first["cursor"])
    assert [(curve["run_id"], curve["value"]) for curve in then["curves"]] == [(going, [3, 4, 5])]
    assert ask(client, [done, going], after=then["cursor"])["curves"] == []


def test_a_cursor_of_another_question_hides_nothing(client: TestClient) -> None:
    made = logged(client, [1, 2], [1.0, 2.0], config={"lr": 1})
    cursor = ask(client, [made])["cursor"]
    assert len(ask(client, [made], smoothing=0.5, after=cursor)["curves"]) == 1
    grouped = ask(client, [made], group_by=["params.lr"])
    assert ask(client, [made], group_by=["params.lr"], after=grouped["cursor"])["group_curves"] == []
    client.patch(f"{RUNS}/{made}", json={"tags": {"team": "nlp"}})
    assert refused(client, [made], after="nonsense") == (400, "bad_cursor")


def test_a_group_is_given_again_when_one_of_its_runs_grew(client: TestClient) -> None:
    ids = [logged(client, [1, 2], [1.0, 2.0], config={"lr": rate}) for rate in (1, 1, 2)]
    cursor = ask(client, ids, group_by=["params.lr"])["cursor"]
    send(client, ids[0], 2, column("loss", [3], [5.0]))
    then = ask(client, ids, group_by=["params.lr"], after=cursor)
    assert [(curve["group"], curve["n"]) for curve in then["group_curves"]] == [(0, [2, 2, 1])]


def test_a_metric_a_run_lacks_is_said_so(client: TestClient) -> None:
    ids = [logged(client, [1], [1.0]), run(client)]
    found = ask(client, ids)
    assert len(found["curves"]) == 1
    assert found["missing"] == [{"run_id": ids[1], "key": "loss", "reason": "no_metric"}]


@pytest.mark.parametrize("grouped", [False, True])
def test_arrow_says_what_json_says(client: TestClient, grouped: bool) -> None:
    ids = seeds(client)
    send(client, ids[0], 2, column("acc", [1, 2], [math.nan, 0.5]))
    body = {"run_ids": ids, "keys": ["loss", "acc"], "group_by": ["seed"] if grouped else []}
    plain = client.post(f"{RUNS}/curves", json=body).json()
    stream = client.post(f"{RUNS}/curves", json=body, headers=ARROW).content
    table = pa.ipc.open_stream(io.BytesIO(stream)).read_all()
    about = json.loads(table.schema.metadata[b"about"])
    assert {name: about[name] for name in ("groups", "missing", "cursor")} == {
        name: plain[name] for name in ("groups", "missing", "cursor")
    }
    kind, owner = ("group_curves", "group") if grouped else ("curves", "run_id")
    values = ("x", "mean", "sd", "n", "min", "max") if grouped else ("rank", "x", "value", "min", "max")
    rows = [
        (curve[owner], curve["key"], *entry)
        for curve in plain[kind]
        for entry in zip(*(curve[name] if name != "rank" else [0] * len(curve["x"]) for name in values), strict=True)
    ]
    assert [tuple(row.values()) for row in table.to_pylist()] == rows
    assert [
        {name: value for name, value in curve.items() if not isinstance(value, list)} for curve in plain[kind]
    ] == about[kind]


def test_more_than_a_call_may_cost_is_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [logged(client, [1, 2, 3], [1.0, 2.0, 3.0]) for _ in range(2)]
    monkeypatch.setattr(curves, "MAX_POINTS", 5)
    assert refused(client, ids) == (400, "too_much_for_a_call")
    monkeypatch.undo()
    monkeypatch.setattr(curves, "MAX_ENTRIES", 5)
    assert refused(client, ids) == (400, "too_much_for_a_call")
    assert len(ask(client, ids, max_points=2)["curves"]) == 2  # two entries each


@pytest.mark.parametrize(
    "body",
    [{"x": "tokens"}, {"smoothing": 1.0}, {"smoothing": -0.1}, {"max_points": 1}, {"max_points": 5001}, {"keys": []}],
)
def test_what_cannot_be_asked(client: TestClient, body: dict[str, Any]) -> None:
    assert refused(client, ["x"], **body) == (400, "invalid_request")


def test_nothing_at_all(client: TestClient) -> None:
    made = run(client)
    assert ask(client, [made], group_by=["seed"])["group_curves"] == []
    stream = client.post(f"{RUNS}/curves", json={"run_ids": [made], "keys": ["loss"]}, headers=ARROW).content
    assert pa.ipc.open_stream(io.BytesIO(stream)).read_all().num_rows == 0


def test_groups_of_dense_curves_meet_on_the_pixels_of_the_chart(client: TestClient) -> None:
    ids = [run(client, config={"arm": i % 2}) for i in range(4)]
    for i, run_id in enumerate(ids):
        n = 6000 if i < 2 else 3000
        send(client, run_id, 1, bulk("loss", n, np.full(n, float(i))))
    first, second = ask(client, ids, group_by=["params.arm"], max_points=100)["group_curves"]
    assert first["x"] == second["x"]
    assert len(first["x"]) == 100
    assert (first["n"][:49], first["n"][51:]) == ([2] * 49, [1] * 49)
    assert (first["mean"][10], second["mean"][10]) == (1.0, 2.0)
    assert first["sd"][10] == pytest.approx(math.sqrt(2))
    assert first["sd"][80] is None
