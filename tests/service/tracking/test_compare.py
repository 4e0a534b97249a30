"""Runs side by side: only what differs, and who is ahead."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from service.tracking.compare import MAX_TEXT, differences, leaders
from service.tracking.flatten import flatten
from tests.service.tracking.test_metrics import column, send

RUNS = "/api/v1/runs"


def run(client: TestClient, /, **body: Any) -> str:
    answer = client.post(RUNS, json={"project": "p", **body})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def compared(client: TestClient, ids: list[str], **body: Any) -> dict[str, Any]:
    answer = client.post(f"{RUNS}/compare", json={"run_ids": ids, **body})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_only_the_differences_are_listed_and_the_rest_counted(client: TestClient) -> None:
    one = run(
        client, name="one", config={"lr": 1e-4, "train": {"epochs": 3, "fp16": True}, "model": "qwen"},
        tags={"team": "nlp", "stage": "old"}, environment={"git": {"commit": "a"}, "host": "gpu-1"}, data_hash="d1",
    )  # fmt: skip
    two = run(
        client, name="two", config={"lr": "1e-4", "train": {"epochs": 4, "fp16": True}, "model": "qwen", "lora_r": 8},
        tags={"team": "nlp"}, environment={"git": {"commit": "b"}, "host": "gpu-1"}, data_hash="d1",
    )  # fmt: skip
    found = compared(client, [two, one])
    assert [held["name"] for held in found["runs"]] == ["two", "one"]
    assert found["config"] == {
        "differing": [
            {"key": "lora_r", "values": ["8", None], "numbers": [8.0, None]},
            {"key": "train.epochs", "values": ["4", "3"], "numbers": [4.0, 3.0]},
        ],
        "equal": 3,  # lr is the same number, however it was written
    }
    assert found["tags"] == {
        "differing": [{"key": "stage", "values": [None, "old"], "numbers": [None, None]}],
        "equal": 1,
    }
    assert [row["key"] for row in found["environment"]["differing"]] == ["git.commit"]
    assert found["data_hash"] == {"differing": [], "equal": 1}


def test_another_data_hash_is_a_difference(client: TestClient) -> None:
    found = compared(client, [run(client, data_hash="d1"), run(client)])
    assert found["data_hash"]["differing"] == [{"key": "data_hash", "values": ["d1", None], "numbers": [None, None]}]


@pytest.mark.parametrize(
    ("values", "differ"),
    [
        ([1, 1.0], False),
        (["1e-4", 0.0001], False),
        ([True, "true"], False),
        ([9007199254740992, 9007199254740993], True),  # one float64, two integers
        ([[1, 2], [1, 2]], False),
        ([[1, 2], [2, 1]], True),
        ([None, None], False),
        ([None, "null"], False),
        ([0.3, 0.1 + 0.2], True),
        (["a", "A"], True),
    ],
)
def test_what_counts_as_the_same(values: list[Any], differ: bool) -> None:
    found = differences([flatten({"x": value}) for value in values])
    assert (len(found.differing), found.equal) == ((1, 0) if differ else (0, 1))


def test_long_values_are_compared_in_full_and_shown_cut() -> None:
    found = differences([flatten({"diff": "x" * 2000 + end}) for end in "ab"])
    assert found.differing[0].values == ["x" * MAX_TEXT + "…"] * 2


def test_metrics_side_by_side_with_the_best_marked(client: TestClient) -> None:
    ids = [run(client), run(client), run(client)]
    for run_id, loss, accuracy in zip(
        ids, ([2.0, 0.3, 0.9], [2.0, 0.5], [2.0, float("nan")]), (0.8, 0.9, 0.9), strict=True
    ):
        send(
            client, run_id, 1,
            column("eval/loss", list(range(len(loss))), loss),
            column("eval/accuracy", [1], [accuracy]),
            column("grad_norm", [1], [accuracy]),
        )  # fmt: skip
    metrics = {held["key"]: held for held in compared(client, ids)["metrics"]}
    loss = metrics["eval/loss"]
    assert loss["direction"] == "min"
    assert [held["last"] for held in loss["values"]] == [0.9, 0.5, "NaN"]
    assert loss["leaders"] == {"last": [ids[1]], "best": [ids[0]]}
    assert metrics["eval/accuracy"]["leaders"]["last"] == ids[1:]
    assert metrics["grad_norm"]["direction"] is None
    assert metrics["grad_norm"]["leaders"] == {"last": [], "best": []}
    given = compared(client, ids, metrics=["grad_norm", "nothing"], directions={"grad_norm": "min"})["metrics"]
    assert [held["key"] for held in given] == ["grad_norm", "nothing"]
    assert given[0]["leaders"]["last"] == ids[:1]
    assert given[1]["values"] == [None] * 3


@pytest.mark.parametrize(
    ("values", "direction", "ahead"),
    [
        ([1.0, 2.0, None], "max", ["b"]),
        ([1.0, 2.0, None], "min", ["a"]),
        ([1.0, 1.0, 2.0], "min", ["a", "b"]),
        ([1.0, 1.0, 1.0], "min", []),
        ([1.0, "NaN", None], "min", []),
        ([1.0, 2.0, 3.0], None, []),
    ],
)
def test_leaders(values: list[Any], direction: Any, ahead: list[str]) -> None:
    assert leaders(["a", "b", "c"], values, direction) == ahead


def test_a_run_that_is_not_there_is_named(client: TestClient) -> None:
    there = run(client)
    answer = client.post(f"{RUNS}/compare", json={"run_ids": [there, "gone", "lost"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "run_not_found")
    assert "'gone', 'lost'" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "body", [{"run_ids": []}, {"run_ids": ["x"] * 201}, {}, {"run_ids": ["x"], "directions": {"a": "up"}}]
)
def test_what_cannot_be_asked(client: TestClient, body: dict[str, Any]) -> None:
    answer = client.post(f"{RUNS}/compare", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


def test_more_metrics_than_one_call_takes(client: TestClient) -> None:
    made = run(client)
    send(client, made, 1, *(column(f"m{i}", [1], [1.0]) for i in range(501)))
    answer = client.post(f"{RUNS}/compare", json={"run_ids": [made]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "too_many_metrics")
