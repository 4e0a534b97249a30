"""MLflow's face on both databases: odd requests, errors, keys."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.auth import create_key
from service.settings import Settings
from service.store.database import Database
from tests.service.tracking.mlflow_face import API, Face, refused


def test_requests_may_be_odd(face: Face) -> None:
    """Two layers of JSON, nulls, unknown fields, a charset, numbers as text and a bare NaN."""
    run_id = face.create()
    twice = json.dumps(json.dumps({"run_id": run_id, "key": "p", "value": "1"})).encode()
    assert face.raw("runs/log-parameter", twice) == (200, {})
    nulls = {"run_uuid": run_id, "run_id": None, "metrics": None, "tags": [{"key": "t", "value": None}], "more": [1]}
    assert face.raw("runs/log-batch", json.dumps(nulls).encode(), "application/json; charset=utf-8") == (200, {})
    text = {"run_id": run_id, "key": "m", "value": "0.25", "timestamp": "7", "step": "-2"}
    assert face.raw("runs/log-metric", json.dumps(text).encode()) == (200, {})
    bare = f'{{"run_id": "{run_id}", "key": "n", "value": NaN, "timestamp": 5}}'.encode()
    assert face.raw("runs/log-metric", bare) == (200, {})
    assert face.params(run_id) == {"p": "1"}
    assert face.tags(run_id)["t"] == ""
    assert face.history(run_id, "m") == [(0.25, 7, -2)]
    assert face.history(run_id, "n") == [("NaN", 5, 0)]


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b"{", "application/json", "is no JSON"),
        (b"\xff", "application/json", "is no JSON"),
        (b"[]", "application/json", "Expected `object`, got `array`"),
        (b"{}", "text/plain", "Bad Request. Content-Type must be one of ['application/json']."),
        (b"", "application/json", "Missing value for required parameter 'run_id'."),
        (b'{"runId": "x"}', "application/json", "Missing value for required parameter 'run_id'."),
        (
            b'{"run_id": "x", "metrics": [{"key": "a", "value": 1, "timestamp": 1}, {"key": "b", "value": 1}]}',
            "application/json",
            "Missing value for required parameter 'metrics[1].timestamp'.",
        ),
        (
            b'{"run_id": 5}',
            "application/json",
            "Invalid value 5 for parameter 'run_id' supplied:  Hint: Value was of type 'int'. "
            "See the API docs for more information about request parameters.",
        ),
        (
            b'{"run_id": "x", "metrics": [{"key": "a", "value": 1, "timestamp": 1e30}]}',
            "application/json",
            "Invalid value",
        ),
    ],
)
def test_unreadable_requests_say_why(face: Face, body: bytes, kind: str, said: str) -> None:
    assert said in refused(face.raw("runs/log-batch", body, kind))


def test_errors_have_mlflows_shape(client: TestClient) -> None:
    unknown = client.get(f"{API}/runs/none")
    assert (unknown.status_code, unknown.json()["error_code"]) == (404, "ENDPOINT_NOT_FOUND")
    assert unknown.json()["message"].startswith(f"Tunescope does not know this call: GET {API}/runs/none. Of MLflow's")
    wrong_verb = client.get(f"{API}/runs/create")
    assert (wrong_verb.status_code, set(wrong_verb.json())) == (405, {"error_code", "message"})
    missing = client.get(f"{API}/runs/get", params={"run_id": "none"})
    assert (missing.status_code, missing.json()) == (
        404,
        {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Run with id=none not found"},
    )
    zero = client.post(f"{API}/experiments/create", json={"name": "a\x00b"})
    assert zero.status_code in {200, 400}
    assert zero.status_code == 200 or zero.json()["error_code"] == "INVALID_PARAMETER_VALUE"
    elsewhere = client.get("/api/v1/runs/none")
    assert set(elsewhere.json()) == {"error"}


@pytest.mark.parametrize(
    ("verb", "path", "named"),
    [
        ("POST", "/v1/traces", "traces (mlflow.trace"),
        ("GET", "/api/2.0/mlflow/traces", "traces (mlflow.trace"),
        ("POST", "/api/3.0/mlflow/traces/search", "traces (mlflow.trace"),
        ("POST", "/api/3.0/mlflow/datasets/create", "evaluation data sets"),
        ("GET", "/api/2.0/mlflow/webhooks", "/api/v1/webhooks"),
    ],
)
def test_what_is_not_spoken_is_named(client: TestClient, verb: str, path: str, named: str) -> None:
    """By a code that clients do not retry, and fall back on."""
    answer = client.request(verb, path)
    assert (answer.status_code, answer.json()["error_code"]) == (404, "ENDPOINT_NOT_FOUND")
    assert answer.json()["message"].startswith(f"Tunescope does not keep {named}" if "traces" in path else "Tunescope")
    assert named in answer.json()["message"]
    assert f"{verb} {path}" in answer.json()["message"]


def test_the_probes_answer(client: TestClient) -> None:
    version = client.get("/version")
    assert version.headers["content-type"].startswith("text/plain")
    assert tuple(int(part) for part in version.text.split(".")) >= (3, 4)
    assert client.get("/health").text == "OK"
    info = client.get("/api/3.0/mlflow/server-info").json()
    assert (info["workspaces_enabled"], info["multipart_uploads_enabled"]) == (False, False)


@pytest.fixture
def guarded(settings: Settings, database: Database) -> Iterator[TestClient]:
    limited = settings.model_copy(update={"auth": True, "max_body_bytes": 10_000})
    with TestClient(create_app(limited, database)) as client:
        yield client


def test_keys_are_asked_for(guarded: TestClient, database: Database) -> None:
    with database.write() as session:
        reader, writer = create_key(session, "r", ["read"]), create_key(session, "w", ["write"])

    def attempt(authorization: str | None, verb: str = "POST") -> tuple[int, str]:
        headers = {} if authorization is None else {"authorization": authorization}
        path = f"{API}/runs/create" if verb == "POST" else f"{API}/experiments/get?experiment_id=0"
        answer = guarded.request(verb, path, json={"experiment_id": "0"} if verb == "POST" else None, headers=headers)
        return answer.status_code, answer.json().get("error_code", "")

    def basic(password: str) -> str:
        return "Basic " + base64.b64encode(f"anyone:{password}".encode()).decode()

    assert attempt(None) == (401, "UNAUTHENTICATED")
    assert attempt("Basic !!") == (401, "UNAUTHENTICATED")
    assert attempt(basic("wrong")) == (401, "UNAUTHENTICATED")
    assert attempt(basic(reader)) == (403, "PERMISSION_DENIED")
    assert attempt(basic(reader), "GET") == (200, "")
    assert attempt(basic(writer)) == (200, "")
    assert attempt(f"Bearer {writer}") == (200, "")
    for probe in ("/version", "/health", "/api/3.0/mlflow/server-info"):
        assert guarded.get(probe).status_code == 200


def test_a_body_that_is_too_large_is_refused(guarded: TestClient, database: Database) -> None:
    with database.write() as session:
        writer = create_key(session, "w", ["write"])
    body = {"run_id": "x", "tags": [{"key": "t", "value": "x" * 10_001}]}
    answer = guarded.post(f"{API}/runs/log-batch", json=body, headers={"authorization": f"Bearer {writer}"})
    assert (answer.status_code, answer.json()["error_code"]) == (413, "BAD_REQUEST")
