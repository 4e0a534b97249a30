"""A real MLflow server answers as this service does: each filter, each order, and the refusals clients see."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest

from tests.contract.mlflow.conftest import Rest
from tests.contract.mlflow.search_cases import FILTERS, ORDERS, REFUSED, populate, search

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def real(real_mlflow: str) -> Rest:
    return Rest(real_mlflow)


@pytest.fixture(scope="module")
def stored(real: Rest) -> tuple[str, dict[str, str]]:
    return populate(real.post, f"search-{uuid.uuid4().hex}")


def test_filters_find_what_mlflow_finds(real: Rest, stored: tuple[str, dict[str, str]]) -> None:
    found = {text: " ".join(search(real.post, *stored, filter=text)) for text in FILTERS}  # type: ignore[arg-type]
    assert found == FILTERS


def test_mlflow_refuses_these_filters(real: Rest, stored: tuple[str, dict[str, str]]) -> None:
    assert [text for text in REFUSED if search(real.post, *stored, filter=text) != 400] == []


def test_orders_are_mlflows(real: Rest, stored: tuple[str, dict[str, str]]) -> None:
    found = {text: " ".join(search(real.post, *stored, order_by=list(text))) for text in ORDERS}  # type: ignore[arg-type]
    assert found == ORDERS


METRIC: dict[str, Any] = {"key": "k", "value": 1, "timestamp": 1}
# Path and body; RUN, DELETED (a run), EXPERIMENT and GONE (a deleted experiment) stand for ids.
WRITES: list[tuple[str, dict[str, Any]]] = [
    ("runs/create", {"experiment_id": "999999"}),
    ("runs/create", {"experiment_id": "letters"}),
    ("runs/create", {"experiment_id": "GONE"}),
    ("runs/create", {"experiment_id": 5}),
    ("runs/create", {"experiment_id": "EXPERIMENT", "start_time": "x"}),
    ("runs/create", {"experiment_id": "EXPERIMENT", "run_name": 5}),
    (
        "runs/create",
        {"experiment_id": "EXPERIMENT", "run_name": "a", "tags": [{"key": "mlflow.runName", "value": "b"}]},
    ),
    ("runs/update", {}),
    ("runs/update", {"run_id": "nope"}),
    ("runs/update", {"run_id": "DELETED", "status": "FINISHED"}),
    ("runs/log-metric", {"run_id": "RUN"}),
    ("runs/log-metric", METRIC),
    ("runs/log-metric", {"run_id": "RUN", "key": "k", "value": 1}),
    ("runs/log-metric", {"run_id": "RUN", **METRIC, "timestamp": -1}),
    ("runs/log-metric", {"run_id": "RUN", **METRIC, "value": "abc"}),
    ("runs/log-metric", {"run_id": "RUN", **METRIC, "step": "x"}),
    ("runs/log-metric", {"run_id": "RUN", **METRIC, "key": ""}),
    ("runs/log-metric", {"run_id": "RUN", **METRIC, "key": 7}),
    ("runs/log-metric", {"run_id": "RUN", **METRIC, "key": "a//b"}),
    ("runs/log-metric", {"run_id": "RUN", **METRIC, "key": "a*b"}),
    ("runs/log-metric", {"run_id": "RUN", **METRIC, "key": "k" * 251}),
    ("runs/log-metric", {"run_id": "DELETED", **METRIC}),
    ("runs/log-metric", {"run_id": "RUN", "key": "k", "value": "NaN", "timestamp": "7", "step": "3"}),
    ("runs/log-metric", {"run_uuid": "RUN", **METRIC, "step": -4}),
    ("runs/log-parameter", {"run_id": "RUN", "key": "p", "value": "1"}),
    ("runs/log-parameter", {"run_id": "RUN", "key": "p", "value": "2"}),
    ("runs/log-parameter", {"run_id": "RUN", "value": "2"}),
    ("runs/log-parameter", {"run_id": "RUN", "key": "../x", "value": "2"}),
    ("runs/log-parameter", {"run_id": "RUN", "key": "q"}),
    ("runs/log-parameter", {"run_id": "RUN", "key": "n", "value": 5}),
    ("runs/log-parameter", {"run_id": "RUN", "key": "k" * 251, "value": "1"}),
    ("runs/set-tag", {"run_id": "RUN", "key": "/t", "value": "x"}),
    ("runs/set-tag", {"run_id": "RUN", "key": "t" * 251, "value": "x"}),
    ("runs/set-tag", {"run_id": "DELETED", "key": "t", "value": "x"}),
    ("runs/delete-tag", {"run_id": "RUN", "key": "missing"}),
    ("runs/delete-tag", {"run_id": "RUN"}),
    ("runs/log-batch", {}),
    ("runs/log-batch", {"run_id": "RUN", "metrics": [METRIC] * 1001}),
    ("runs/log-batch", {"run_id": "RUN", "params": [{"key": f"a{i}", "value": "1"} for i in range(101)]}),
    ("runs/log-batch", {"run_id": "RUN", "tags": [{"key": f"a{i}", "value": "1"} for i in range(101)]}),
    (
        "runs/log-batch",
        {"run_id": "RUN", "metrics": [METRIC] * 950, "tags": [{"key": f"a{i}", "value": "1"} for i in range(60)]},
    ),
    ("runs/log-batch", {"run_id": "RUN", "params": [{"key": "z", "value": "1"}, {"key": "z", "value": "1"}]}),
    ("runs/log-batch", {"run_id": "RUN", "params": [{"key": "p", "value": "3"}, {"key": "y", "value": "1"}]}),
    ("runs/log-batch", {"run_id": "RUN", "metrics": [{"key": "k", "value": 1}]}),
    ("runs/log-batch", {"run_id": "RUN", "metrics": [METRIC, {"value": 1, "timestamp": 1}]}),
    ("runs/log-batch", {"run_id": "RUN", "metrics": [{"key": "k", "timestamp": 1}]}),
    ("runs/log-batch", {"run_id": "RUN", "params": [{"value": "1"}]}),
    ("runs/log-batch", {"run_id": "RUN", "tags": [{"value": "1"}]}),
    ("runs/log-batch", {"run_id": "RUN", "metrics": "foo"}),
    ("runs/log-batch", {"run_id": "RUN", "metrics": [{**METRIC, "key": "a//b"}]}),
    ("runs/log-batch", {"run_id": "RUN", "metrics": [METRIC, {**METRIC, "timestamp": -5}]}),
    ("runs/log-batch", {"run_id": "RUN", "params": [{"key": "a\\b", "value": "1"}]}),
    ("runs/log-batch", {"run_id": "RUN", "tags": [{"key": ".", "value": "1"}]}),
    ("runs/log-batch", {"run_id": "nope", "tags": [{"key": "x", "value": "1"}]}),
    ("runs/log-batch", {"run_id": "no pe"}),
    ("runs/log-batch", {"run_id": "DELETED"}),
    ("runs/search", {"experiment_ids": ["EXPERIMENT"], "max_results": 0}),
    ("runs/search", {"experiment_ids": ["EXPERIMENT"], "max_results": "abc"}),
    ("runs/search", {"experiment_ids": ["letters"]}),
    ("runs/search", {"experiment_ids": ["999999"]}),
    ("runs/search", {"experiment_ids": ["EXPERIMENT"], "page_token": "!!"}),
    ("runs/search", {"experiment_ids": ["EXPERIMENT"], "order_by": "start_time"}),
    ("runs/search", {"experiment_ids": ["EXPERIMENT"], "order_by": [1]}),
    ("runs/search", {}),
    ("runs/delete", {}),
    ("runs/delete", {"run_id": "DELETED"}),
    ("runs/delete", {"run_id": "nope"}),
    ("runs/restore", {"run_id": "nope"}),
    ("runs/restore", {"run_id": "RUN"}),
    ("experiments/create", {}),
    ("experiments/create", {"name": ""}),
    ("experiments/create", {"name": 5}),
    ("experiments/create", {"name": "n" * 501}),
    ("experiments/create", {"name": "elsewhere", "artifact_location": "s3://x/y#z"}),
    ("experiments/create", {"name": "elsewhere", "artifact_location": "runs:/x"}),
    ("experiments/create", {"name": "tagged", "tags": [{"key": "k" * 251, "value": "x"}]}),
    ("experiments/create", {"name": "tagged", "tags": [{"key": "k", "value": "x" * 20001}]}),
    ("experiments/delete", {"experiment_id": "GONE"}),
    ("experiments/delete", {"experiment_id": "999999"}),
    ("experiments/restore", {"experiment_id": "EXPERIMENT"}),
    ("experiments/update", {"experiment_id": "EXPERIMENT"}),
    ("experiments/set-experiment-tag", {"experiment_id": "GONE", "key": "a", "value": "b"}),
    ("experiments/set-experiment-tag", {"experiment_id": "EXPERIMENT", "value": "b"}),
    ("experiments/set-experiment-tag", {"experiment_id": "999999", "key": "a", "value": "b"}),
    ("experiments/delete-experiment-tag", {"experiment_id": "EXPERIMENT", "key": "nope"}),
    ("experiments/search", {}),
    ("experiments/search", {"max_results": -1}),
    ("experiments/search", {"max_results": 50001}),
    ("experiments/search", {"max_results": 5, "page_token": "!!"}),
    ("runs/log-inputs", {}),
    ("runs/log-inputs", {"run_id": "RUN", "datasets": []}),
    (
        "runs/log-inputs",
        {
            "run_id": "RUN",
            "datasets": [{"dataset": {"name": "n", "digest": "d" * 37, "source_type": "l", "source": "s"}}],
        },
    ),
    ("runs/log-model", {"run_id": "RUN", "model_json": "{"}),
    ("runs/log-model", {"run_id": "RUN"}),
]
READS = [
    "runs/get",
    "runs/get?run_id=nope",
    "runs/get?run_uuid=nope",
    "metrics/get-history?run_id=RUN",
    "metrics/get-history?run_id=RUN&metric_key=none",
    "metrics/get-history?run_id=nope&metric_key=none",
    "metrics/get-history?run_id=RUN&metric_key=h&max_results=0",
    "metrics/get-history?run_id=RUN&metric_key=h&page_token=!!",
    "metrics/get-history?run_id=RUN&metric_key=h",
    "metrics/get-history?run_id=RUN&metric_key=h&max_results=7",
    "/ajax-api/2.0/mlflow/metrics/get-history-bulk?run_id=RUN&run_id=DELETED&metric_key=h&max_results=3",
    "/ajax-api/2.0/mlflow/metrics/get-history-bulk?run_id=RUN",
    "/ajax-api/2.0/mlflow/metrics/get-history-bulk?metric_key=h",
    *(
        f"metrics/get-history-bulk-interval?{query}"
        for query in (
            "metric_key=h",
            "run_ids=RUN",
            "run_ids=RUN&metric_key=h",
            "run_ids=RUN&metric_key=h&max_results=1",
            "run_ids=RUN&metric_key=h&max_results=5",
            "run_ids=RUN&metric_key=h&max_results=7&start_step=-2&end_step=9",
            "run_ids=RUN&metric_key=h&start_step=1",
            "run_ids=RUN&metric_key=h&start_step=2&end_step=1",
            "run_ids=nope&metric_key=h",
        )
    ),
    "experiments/get",
    "experiments/get?experiment_id=999999",
    "experiments/get?experiment_id=letters",
    "experiments/get?experiment_id=0",
    "experiments/get-by-name?experiment_name=nope",
    "experiments/get-by-name",
    "experiments/search",
    "artifacts/list",
    "artifacts/list?run_id=RUN",
    "artifacts/list?run_id=nope",
    "artifacts/list?run_id=RUN&path=../x",
    "/api/2.0/mlflow-artifacts/artifacts?path=../x",
    "/api/2.0/mlflow-artifacts/artifacts?path=EXPERIMENT/RUN/artifacts/none.txt",
    "/api/2.0/mlflow-artifacts/artifacts/%2e%2e/%2e%2e/etc/passwd",
    "/get-artifact?run_id=RUN&path=../x",
    "/get-artifact?run_id=nope&path=x",
]


class Side:
    """One of the two servers, with the same things in it."""

    def __init__(self, rest: Rest) -> None:
        self.rest = rest
        self.ids = {"EXPERIMENT": self.made("experiments/create", {"name": f"edge-{uuid.uuid4().hex}"})}
        self.ids["GONE"] = self.made("experiments/create", {"name": f"gone-{uuid.uuid4().hex}"})
        rest.post("experiments/delete", {"experiment_id": self.ids["GONE"]})
        for name in ("RUN", "DELETED"):
            given = {"experiment_id": self.ids["EXPERIMENT"], "run_name": name, "start_time": 5}
            self.ids[name] = self.made("runs/create", given)
        rest.post("runs/delete", {"run_id": self.ids["DELETED"]})
        points = [
            {"key": "h", "value": value, "timestamp": time, "step": step}
            for value, time, step in [(0.5, 9, 0), ("NaN", 9, 1), (2, 3, 2), (2, 3, 2), (1, 3, 2), (7, 3, 1)]
        ]
        points += [{"key": "h", "value": n, "timestamp": 20 + n, "step": n - 5} for n in range(40)]
        given = {"run_id": self.ids["RUN"], "metrics": points, "params": [{"key": "p", "value": "1"}]}
        assert rest.post("runs/log-batch", given)[0] == 200

    def made(self, path: str, body: dict[str, Any]) -> str:
        status, answer = self.rest.post(path, body)
        assert status == 200, answer
        return str(answer.get("experiment_id") or answer["run"]["info"]["run_id"])

    def write(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        return self.plain(self.rest.post(path, self.named(body)))

    def read(self, path: str) -> tuple[int, Any]:
        return self.plain(self.rest.get(self.named(path)))

    def named(self, value: Any) -> Any:
        if isinstance(value, str):
            return re.sub(r"\b(EXPERIMENT|RUN|DELETED|GONE)\b", lambda found: self.ids[found[0]], value)
        if isinstance(value, dict):
            return {key: self.named(inner) for key, inner in value.items()}
        return [self.named(inner) for inner in value] if isinstance(value, list) else value

    def plain(self, answer: tuple[int, dict[str, Any]]) -> tuple[int, Any]:
        """The answer without what differs between any two servers: ids, times of making, MLflow's extra fields."""
        status, body = answer
        return status, self._anonymous({k: v for k, v in body.items() if k not in {"sqlstate", "error_class"}})

    def _anonymous(self, value: Any) -> Any:
        if isinstance(value, dict):
            hidden = {"creation_time", "last_update_time", "workspace"}
            # Protobuf leaves out what is empty.
            return {k: self._anonymous(v) for k, v in value.items() if k not in hidden and v not in ([], {})}
        if isinstance(value, list):
            return [self._anonymous(inner) for inner in value]
        if isinstance(value, str):
            for name in ("RUN", "DELETED"):
                value = value.replace(self.ids[name], name)
            for name in ("EXPERIMENT", "GONE"):
                before = r"(mlflow-artifacts:/|[Ee]xperiment |[Ee]xperiment with id[ =]|^)"
                value = re.sub(rf"{before}{self.ids[name]}(?!\w)", rf"\1{name}", value)
            # Lists of what would have been valid come in any order.
            return value.split(" Valid keys are ")[0]
        return value


@pytest.fixture(scope="module")
def sides(real: Rest, live_service: str) -> tuple[Side, Side]:
    return Side(Rest(live_service)), Side(real)


@pytest.mark.parametrize("path", READS)
def test_reads_answer_as_mlflow_does(sides: tuple[Side, Side], path: str) -> None:
    ours, theirs = sides
    assert ours.read(path) == theirs.read(path)


@pytest.mark.parametrize(("path", "body"), WRITES, ids=lambda value: str(value)[:60])
def test_refusals_read_as_mlflows(sides: tuple[Side, Side], path: str, body: dict[str, Any]) -> None:
    ours, theirs = sides
    assert ours.write(path, body) == theirs.write(path, body)


def test_renaming_a_deleted_experiment_differs_on_purpose(sides: tuple[Side, Side]) -> None:
    """MLflow answers 500, on which its clients try again for four minutes."""
    (status, ours), (theirs_status, theirs) = (
        side.write("experiments/update", {"experiment_id": "GONE", "new_name": "x"}) for side in sides
    )
    assert (status, theirs_status) == (409, 500)
    assert ours["message"] == theirs["message"]
