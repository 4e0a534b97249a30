"""The same work in two tongues: the MLflow REST protocol (both peers) and Tunescope's native API.

A system only says what to send and how to read the answer; `Wire` sends it, over one kept-alive
connection of the standard library for all, so that no client library flatters anyone.
"""

from __future__ import annotations

import array
import http.client
import json
import math
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import msgspec
import numpy as np
import pyarrow as pa
from workload import CONDITIONS, ORDER, PAGE, Points, RunContent

ARROW = "application/vnd.apache.arrow.stream"


class CallFailed(RuntimeError):
    """A server refused a call: no figure may come of it."""


@dataclass(frozen=True)
class Call:
    method: str
    path: str
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


class Wire:
    """One kept-alive HTTP connection.

    Servers close a connection that was idle for some seconds (uvicorn after five), and the other systems' turns
    take longer: then it is opened anew, before the clock starts.
    """

    IDLE = 2.0

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self._used_at = 0.0

    def close(self) -> None:
        self._connection.close()

    def send(self, call: Call) -> bytes:
        return self.timed(call)[1]

    def timed(self, call: Call) -> tuple[float, bytes]:
        """Seconds from the first byte sent to the last byte received, and the answer."""
        try:
            if time.monotonic() - self._used_at > self.IDLE:
                self._connection.close()
                self._connection.connect()
            begun = time.perf_counter()
            self._connection.request(call.method, call.path, body=call.body, headers=call.headers)
            answer = self._connection.getresponse()
            body = answer.read()
            seconds = time.perf_counter() - begun
        except (OSError, http.client.HTTPException) as error:
            raise CallFailed(f"{call.method} {call.path.split('?')[0]}: {error!r}") from error
        self._used_at = time.monotonic()
        if not 200 <= answer.status < 300:
            raise CallFailed(f"{call.method} {call.path.split('?')[0]}: {answer.status} {body[:300]!r}")
        return seconds, body


@dataclass(frozen=True)
class Stored:
    """What a system says it holds of one metric."""

    count: int
    total: float


def stored(values: list[float]) -> Stored:
    return Stored(len(values), math.fsum(values))


class System(ABC):
    """One tracking server, as the benchmark drives it."""

    def __init__(self, name: str, wire: Wire) -> None:
        self.name = name
        self.wire = wire

    @abstractmethod
    def open_project(self, project: str) -> None: ...
    @abstractmethod
    def new_run(self, project: str, content: RunContent) -> Call: ...
    @abstractmethod
    def fill_run(self, run_id: str, content: RunContent) -> Call: ...
    @abstractmethod
    def log(self, run_id: str, columns: list[Points]) -> Call: ...
    @abstractmethod
    def log_one(self, run_id: str, key: str, step: int, value: float) -> Call: ...
    @abstractmethod
    def history(self, run_id: str, key: str) -> Call: ...
    @abstractmethod
    def search(self, project: str) -> Call: ...
    @abstractmethod
    def list_runs(self, project: str, limit: int) -> Call: ...
    @abstractmethod
    def read_run_id(self, answer: bytes) -> str: ...
    @abstractmethod
    def read_history(self, answer: bytes) -> Stored: ...
    @abstractmethod
    def read_runs(self, answer: bytes) -> list[RunContent]: ...

    def create_run(self, project: str, content: RunContent) -> tuple[float, str]:
        """Seconds, and the id, of a run made with its params, metrics and tags: two calls everywhere."""
        first, answer = self.wire.timed(self.new_run(project, content))
        run_id = self.read_run_id(answer)
        second, _ = self.wire.timed(self.fill_run(run_id, content))
        return first + second, run_id


class Mlflow(System):
    """Any server of the MLflow tracking protocol: MLflow itself and FastTrackML."""

    ROOT = "/api/2.0/mlflow"

    def __init__(self, name: str, wire: Wire) -> None:
        super().__init__(name, wire)
        self._experiments: dict[str, str] = {}

    def open_project(self, project: str) -> None:
        answer = self.wire.send(self._post("experiments/create", {"name": project}))
        self._experiments[project] = json.loads(answer)["experiment_id"]

    def find_project(self, project: str) -> None:
        """Take part in a project that is there."""
        found = self.wire.send(
            Call("GET", f"{self.ROOT}/experiments/get-by-name?" + urlencode({"experiment_name": project}))
        )
        self._experiments[project] = json.loads(found)["experiment"]["experiment_id"]

    def _post(self, path: str, body: dict[str, Any]) -> Call:
        return Call("POST", f"{self.ROOT}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})

    def new_run(self, project: str, content: RunContent) -> Call:
        return self._post(
            "runs/create",
            {
                "experiment_id": self._experiments[project],
                "run_name": content.name,
                "start_time": time.time_ns() // 1_000_000,
                "tags": [{"key": key, "value": value} for key, value in content.tags.items()],
            },
        )

    def fill_run(self, run_id: str, content: RunContent) -> Call:
        now = time.time_ns() // 1_000_000
        return self._post(
            "runs/log-batch",
            {
                "run_id": run_id,
                "params": [{"key": key, "value": str(value)} for key, value in content.params.items()],
                "metrics": [
                    {"key": key, "value": value, "timestamp": now, "step": 0} for key, value in content.metrics.items()
                ],
            },
        )

    def log(self, run_id: str, columns: list[Points]) -> Call:
        metrics = [
            {"key": column.key, "value": value, "timestamp": int(at * 1000), "step": step}
            for column in columns
            for step, at, value in zip(column.steps, column.times, column.values, strict=True)
        ]
        return self._post("runs/log-batch", {"run_id": run_id, "metrics": metrics})

    def log_one(self, run_id: str, key: str, step: int, value: float) -> Call:
        now = time.time_ns() // 1_000_000
        return self._post(
            "runs/log-metric", {"run_id": run_id, "key": key, "value": value, "timestamp": now, "step": step}
        )

    def history(self, run_id: str, key: str) -> Call:
        return Call("GET", f"{self.ROOT}/metrics/get-history?" + urlencode({"run_id": run_id, "metric_key": key}))

    def search(self, project: str) -> Call:
        return self.find(project, PAGE, filter=CONDITIONS, order_by=[ORDER])

    def list_runs(self, project: str, limit: int) -> Call:
        return self.find(project, limit)

    def find(self, project: str, limit: int, **rest: Any) -> Call:
        return self._post("runs/search", {"experiment_ids": [self._experiments[project]], "max_results": limit, **rest})

    def read_run_id(self, answer: bytes) -> str:
        run_id: str = json.loads(answer)["run"]["info"]["run_id"]
        return run_id

    def read_history(self, answer: bytes) -> Stored:
        return stored([metric["value"] for metric in json.loads(answer).get("metrics", [])])

    def read_runs(self, answer: bytes) -> list[RunContent]:
        return [
            RunContent(
                run["info"]["run_name"],
                {param["key"]: param["value"] for param in run["data"]["params"]},
                {metric["key"]: metric["value"] for metric in run["data"]["metrics"]},
                {tag["key"]: tag["value"] for tag in run["data"]["tags"] if not tag["key"].startswith("mlflow.")},
            )
            for run in json.loads(answer).get("runs", [])
        ]


class MlflowFace(Mlflow):
    """Tunescope asked in MLflow's protocol, beside its own: the same server, in projects of their own."""

    def open_project(self, project: str) -> None:
        answer = self.wire.send(self._post("experiments/create", {"name": f"{project} through MLflow"}))
        self._experiments[project] = json.loads(answer)["experiment_id"]


class Tunescope(System):
    """The native API: numbered msgpack batches of packed columns in, JSON or Arrow out."""

    ROOT = "/api/v1"

    def __init__(self, name: str, wire: Wire) -> None:
        super().__init__(name, wire)
        self._batches: Counter[str] = Counter()

    def open_project(self, project: str) -> None:
        """A project is made by its first run."""

    def new_run(self, project: str, content: RunContent) -> Call:
        given = {"project": project, "name": content.name, "config": content.params, "tags": content.tags}
        return Call("POST", f"{self.ROOT}/runs", json.dumps(given).encode(), {"Content-Type": "application/json"})

    def fill_run(self, run_id: str, content: RunContent) -> Call:
        now = time.time()
        return self.log(run_id, [Points(key, [0], [now], [value]) for key, value in content.metrics.items()])

    def log(self, run_id: str, columns: list[Points]) -> Call:
        self._batches[run_id] += 1
        body = {
            "writer": "benchmark",
            "batch": self._batches[run_id],
            "metrics": [
                {
                    "key": column.key,
                    "step": _packed("q", column.steps),
                    "time": _packed("d", column.times),
                    "value": _packed("d", column.values),
                }
                for column in columns
            ],
        }
        headers = {"Content-Type": "application/msgpack"}
        return Call("POST", f"{self.ROOT}/runs/{run_id}/batches", msgspec.msgpack.encode(body), headers)

    def log_one(self, run_id: str, key: str, step: int, value: float) -> Call:
        return self.log(run_id, [Points(key, [step], [time.time()], [value])])

    def history(self, run_id: str, key: str) -> Call:
        return self.read_metric(run_id, key, accept="")

    def read_metric(self, run_id: str, key: str, *, accept: str = ARROW, **query: Any) -> Call:
        """Its points, all of them or what `query` says; JSON without `accept`."""
        asked = urlencode({"run_id": run_id, "key": key} | query)
        return Call("GET", f"{self.ROOT}/metrics?{asked}", headers={"Accept": accept} if accept else {})

    def search(self, project: str) -> Call:
        return self.find(project=project, q=CONDITIONS, order_by=ORDER, limit=PAGE)

    def list_runs(self, project: str, limit: int) -> Call:
        return self.find(project=project, limit=limit)

    def find(self, **query: Any) -> Call:
        return Call("GET", f"{self.ROOT}/runs?" + urlencode(query))

    def read_run_id(self, answer: bytes) -> str:
        run_id: str = json.loads(answer)["id"]
        return run_id

    def read_history(self, answer: bytes) -> Stored:
        return stored([value for series in json.loads(answer)["series"] for value in series["values"]])

    def read_runs(self, answer: bytes) -> list[RunContent]:
        return [
            RunContent(
                run["name"],
                {key: str(value) for key, value in run["config"].items()},
                {key: summary["last"] for key, summary in run["metrics"].items()},
                run["tags"],
            )
            for run in json.loads(answer)["items"]
        ]


class TunescopeArrow(Tunescope):
    """The same service, asked for its histories as Arrow: what its dashboard does."""

    def history(self, run_id: str, key: str) -> Call:
        return self.read_metric(run_id, key)

    def read_history(self, answer: bytes) -> Stored:
        return stored(pa.ipc.open_stream(answer).read_all()["value"].to_pylist())


def _packed(kind: str, column: Sequence[float] | np.ndarray) -> bytes:
    if isinstance(column, np.ndarray):
        return column.astype({"q": "<i8", "d": "<f8"}[kind]).tobytes()
    numbers = array.array(kind, column)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()
