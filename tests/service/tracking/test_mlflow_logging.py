"""MLflow's face on both databases: params, metrics and tags, their limits and their words."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from tests.service.tracking.mlflow_face import Face, refused


def test_tags_are_set_and_taken_away(face: Face) -> None:
    run_id = face.create()
    for key in ("t", "mlflow.note.content", "mlflow.parentRunId", "mlflow.user"):
        face.ok("runs/set-tag", run_id=run_id, key=key, value="v")
        face.ok("runs/set-tag", run_id=run_id, key=key, value="w")
        assert face.tags(run_id)[key] == "w"
        face.ok("runs/delete-tag", run_id=run_id, key=key)
        assert key not in face.tags(run_id)
        said = refused(face.post("runs/delete-tag", run_id=run_id, key=key), 404, "RESOURCE_DOES_NOT_EXIST")
        assert said == f"No tag with name: {key} in run with id {run_id}"


def test_a_param_is_written_once(face: Face) -> None:
    run_id = face.create()
    face.ok("runs/log-parameter", run_id=run_id, key="lr", value="0.1")
    face.ok("runs/log-parameter", run_id=run_id, key="lr", value="0.1")
    said = refused(face.post("runs/log-parameter", run_id=run_id, key="lr", value="0.2"))
    assert said == (
        "Changing param values is not allowed. Param with key='lr' was already logged with value='0.1' "
        f"for run ID='{run_id}'. Attempted logging new value '0.2'."
    )
    face.ok("runs/log-parameter", run_id=run_id, key="empty")
    assert face.params(run_id) == {"lr": "0.1", "empty": ""}


def test_one_conflict_refuses_the_whole_batch(face: Face) -> None:
    run_id = face.create()
    face.ok("runs/log-batch", run_id=run_id, params=[{"key": "a", "value": "1"}])
    batch = {
        "params": [{"key": "b", "value": "2"}, {"key": "a", "value": "3"}],
        "metrics": [{"key": "m", "value": 1, "timestamp": 1}],
        "tags": [{"key": "t", "value": "v"}],
    }
    said = refused(face.post("runs/log-batch", run_id=run_id, **batch))
    assert said.endswith(f"logged='[{{'key': 'a', 'old_value': '1', 'new_value': '3'}}]' for run ID='{run_id}'.")
    assert face.params(run_id) == {"a": "1"}
    assert face.metrics(run_id) == {}
    assert "t" not in face.tags(run_id)


@pytest.mark.parametrize("fault", ["metric", "tag"])
def test_a_batch_is_stored_whole_or_not(face: Face, fault: str) -> None:
    run_id = face.create()
    metrics = [{"key": "m", "value": 1, "timestamp": 1 if fault == "tag" else -1}]
    tags = [{"key": "../t" if fault == "tag" else "t", "value": "v"}]
    params = [{"key": "p", "value": "1"}]
    refused(face.post("runs/log-batch", run_id=run_id, metrics=metrics, tags=tags, params=params))
    assert (face.params(run_id), face.metrics(run_id)) == ({}, {})


def test_a_param_comes_once_a_batch(face: Face) -> None:
    params = [{"key": "a", "value": "1"}, {"key": "a", "value": "1"}]
    assert "['a']" in refused(face.post("runs/log-batch", run_id=face.create(), params=params))


def test_a_tag_may_come_twice_and_the_last_holds(face: Face) -> None:
    run_id = face.create()
    face.ok("runs/log-batch", run_id=run_id, tags=[{"key": "t", "value": "1"}, {"key": "t", "value": "2"}])
    assert face.tags(run_id)["t"] == "2"


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        ({"metrics": [{"key": "k", "value": 1, "timestamp": 1}] * 1001}, "at most 1000 metrics. Got 1001 metrics"),
        ({"params": [{"key": f"k{i}", "value": ""} for i in range(101)]}, "at most 100 params. Got 101 params"),
        ({"tags": [{"key": f"k{i}", "value": ""} for i in range(101)]}, "at most 100 tags. Got 101 tags"),
        (
            {
                "metrics": [{"key": "k", "value": 1, "timestamp": 1}] * 1000,
                "tags": [{"key": "t", "value": ""}],
            },
            "at most 1000 metrics, params, and tags. Got 1001",
        ),
        ({"metrics": [{"key": "k" * 251, "value": 1, "timestamp": 1}]}, "'Metric name' exceeds the maximum length"),
        ({"params": [{"key": "k" * 251, "value": ""}]}, "'Param key' exceeds the maximum length of 250 characters"),
        ({"tags": [{"key": "k" * 251, "value": ""}]}, "'tags[0].key' exceeds the maximum length of 250 characters"),
    ],
)
def test_limits(face: Face, batch: dict[str, Any], said: str) -> None:
    assert said in refused(face.post("runs/log-batch", run_id=face.create(), **batch))


def test_the_largest_batch_passes(face: Face) -> None:
    run_id = face.create()
    metrics = [{"key": f"m{i % 7}", "value": i, "timestamp": i, "step": i} for i in range(800)]
    params = [{"key": f"p{i}", "value": "v"} for i in range(100)]
    tags = [{"key": f"t{i}", "value": "v"} for i in range(100)]
    face.ok("runs/log-batch", run_id=run_id, metrics=metrics, params=params, tags=tags)
    assert len(face.params(run_id)) == 100
    assert sum(len(face.history(run_id, f"m{i}")) for i in range(7)) == 800


def test_long_values_are_cut(face: Face) -> None:
    run_id = face.create()
    face.ok("runs/log-parameter", run_id=run_id, key="p", value="é" * 6001)
    face.ok("runs/log-parameter", run_id=run_id, key="p", value="é" * 6001)
    face.ok("runs/set-tag", run_id=run_id, key="t", value="x" * 8001)
    assert face.params(run_id)["p"] == "é" * 6000
    assert face.tags(run_id)["t"] == "x" * 8000


@pytest.mark.parametrize("name", ["a//b", "/a", "../a", ".", "a/../b", "a*b", "a#b", "a,b", "a\\b", "a/"])
def test_names_that_are_no_names(face: Face, name: str) -> None:
    run_id = face.create()
    point = {"value": 1, "timestamp": 1}
    assert "Names may " in refused(face.post("runs/log-metric", run_id=run_id, key=name, **point))
    assert "Names may " in refused(face.post("runs/log-parameter", run_id=run_id, key=name, value="x"))
    assert "Names may " in refused(face.post("runs/set-tag", run_id=run_id, key=name, value="x"))


@pytest.mark.parametrize("name", ["a/b.c-d_e f:g", "größe", "日本", "a" * 250, "system/cpu.0"])
def test_names_that_are_names(face: Face, name: str) -> None:
    run_id = face.create()
    face.ok("runs/log-metric", run_id=run_id, key=name, value=1.5, timestamp=7)
    face.ok("runs/log-parameter", run_id=run_id, key=name, value="x")
    assert face.metrics(run_id) == {name: 1.5}
    assert face.params(run_id) == {name: "x"}


def test_every_float_comes_back(face: Face) -> None:
    run_id = face.create()
    values = [0.1 + 0.2, 5e-324, 1.7976931348623157e308, -0.0, "NaN", "Infinity", "-Infinity", "2.5", 10**17]
    metrics = [{"key": "m", "value": value, "timestamp": 1, "step": step} for step, value in enumerate(values)]
    face.ok("runs/log-batch", run_id=run_id, metrics=metrics)
    expected = [*values[:7], 2.5, 1e17]
    assert [value for value, _, _ in face.history(run_id, "m")] == expected
    assert math.copysign(1, face.history(run_id, "m")[3][0]) == -1
    for value in ("NaN", "Infinity", "-Infinity"):
        face.ok("runs/log-metric", run_id=run_id, key=value, value=value, timestamp=1)
        assert face.metrics(run_id)[value] == value


def test_the_latest_is_by_step_then_time_then_value(face: Face) -> None:
    run_id = face.create()
    for value, timestamp, step in [(1, 50, 5), (2, 99, 4), (3, 40, 5), (4, 50, 5), (0, 50, 5), (9, 1, -3)]:
        face.ok("runs/log-metric", run_id=run_id, key="m", value=value, timestamp=timestamp, step=step)
    assert face.metrics(run_id) == {"m": 4}
    assert face.run(run_id)["data"]["metrics"][0]["timestamp"] == 50
    assert face.history(run_id, "m") == [(9, 1, -3), (3, 40, 5), (0, 50, 5), (1, 50, 5), (4, 50, 5), (2, 99, 4)]


def test_what_is_sent_twice_is_shown_once(face: Face) -> None:
    run_id = face.create()
    points = [(1, 10, 0), ("NaN", 10, 1), (2, 10, 0)]
    for _ in range(3):
        metrics = [{"key": "m", "value": v, "timestamp": t, "step": s} for v, t, s in points]
        face.ok("runs/log-batch", run_id=run_id, metrics=metrics)
    assert face.history(run_id, "m") == [(1, 10, 0), (2, 10, 0), ("NaN", 10, 1)]


def test_history_comes_in_pages(face: Face) -> None:
    run_id = face.create()
    metrics = [{"key": "m", "value": i, "timestamp": i, "step": i} for i in range(25)]
    face.ok("runs/log-batch", run_id=run_id, metrics=metrics)
    given: dict[str, Any] = {"run_id": run_id, "metric_key": "m", "max_results": 10}
    sizes, steps, token = [], [], ""
    while True:
        page = face.get("metrics/get-history", **given, page_token=token)
        sizes.append(len(page["metrics"]))
        steps += [point["step"] for point in page["metrics"]]
        if not (token := page.get("next_page_token", "")):
            break
    assert (sizes, steps) == ([10, 10, 5], list(range(25)))
    assert face.get("metrics/get-history", run_id="none", metric_key="m") == {}


def test_logging_goes_on_after_the_end(face: Face) -> None:
    run_id = face.create()
    face.ok("runs/update", run_id=run_id, status="FINISHED", end_time=int(time.time() * 1000))
    face.ok("runs/log-batch", run_id=run_id, metrics=[{"key": "m", "value": 1, "timestamp": 1}])
    assert face.metrics(run_id) == {"m": 1}
    assert face.run(run_id)["info"]["status"] == "FINISHED"


def test_metrics_of_a_model_are_kept_with_it(face: Face) -> None:
    run_id = face.create()
    made = face.ok("logged-models", experiment_id="0", name="m", source_run_id=run_id)["model"]["info"]
    point = {"key": "f1", "value": 0.5, "timestamp": 5, "model_id": made["model_id"], "dataset_name": "squad"}
    face.ok("runs/log-metric", run_id=run_id, **point)
    assert face.metrics(run_id) == {"f1": 0.5}
    model = face.get(f"logged-models/{made['model_id']}")["model"]
    assert [(one["key"], one["value"], one["dataset_name"]) for one in model["data"]["metrics"]] == [
        ("f1", 0.5, "squad")
    ]
    unknown = face.post("runs/log-metric", run_id=run_id, **{**point, "model_id": "m-none"})
    refused(unknown, 404, "RESOURCE_DOES_NOT_EXIST")
    face.ok("runs/log-inputs", run_id=run_id, models=[{"model_id": made["model_id"]}])
    assert face.run(run_id)["inputs"]["model_inputs"] == [{"model_id": made["model_id"]}]
