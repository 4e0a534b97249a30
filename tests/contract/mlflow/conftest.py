"""Real MLflow clients against a real service; and, where it is installed, a real MLflow server to compare with."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Read when mlflow is imported.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
# A refusal that should not be retried must not look like one that waits for four minutes.
os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"

import mlflow
import pytest

from tests.conftest import free_port, wait_until

PEER = Path(__file__).parents[3] / ".venv-peers" / "bin" / "python"


class Rest:
    """Plain HTTP to a server that speaks MLflow's protocol. Paths are below /api/2.0/mlflow or begin with /."""

    def __init__(self, url: str) -> None:
        self.url = url

    def call(
        self, verb: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers (names in lower case)."""
        target = self.url + (path if path.startswith("/") else f"/api/2.0/mlflow/{path}")
        request = urllib.request.Request(target, data=body, method=verb, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read(), {name.lower(): value for name, value in answer.headers.items()}
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read(), {name.lower(): value for name, value in refused.headers.items()}

    def post(self, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        status, answer, _ = self.call("POST", path, raw, {"content-type": "application/json"})
        return status, _json(answer)

    def get(self, path: str, **query: Any) -> tuple[int, dict[str, Any]]:
        given = f"?{urllib.parse.urlencode(query, doseq=True)}" if query else ""
        status, answer, _ = self.call("GET", path + given)
        return status, _json(answer)


def _json(answer: bytes) -> dict[str, Any]:
    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    try:
        parsed: dict[str, Any] = json.loads(answer or b"{}", parse_constant=no_constant)
    except json.JSONDecodeError:
        return {"text": answer.decode(errors="replace")}
    return parsed


@pytest.fixture
def uri(live_service: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The tracking URI of a live service, and `mlflow` pointed at it with nothing left over from another test."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_") and "TELEMETRY" not in name]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    # MLflow names them in the environment as well, and leaves them there.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", live_service)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", live_service)
    mlflow.set_tracking_uri(live_service)
    mlflow.set_registry_uri(live_service)
    yield live_service
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.tracking.fluent._active_experiment_id = None
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


@pytest.fixture
def mlflow_client(uri: str) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(uri)


@pytest.fixture
def rest(live_service: str) -> Rest:
    return Rest(live_service)


@pytest.fixture
def experiment(mlflow_client: mlflow.MlflowClient) -> str:
    """The id of a new experiment of this test."""
    return str(mlflow_client.create_experiment(f"test-{uuid.uuid4().hex}"))


@pytest.fixture(scope="session")
def real_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real MLflow server. Skips where it is not installed (`python benchmarks/peers.py` does)."""
    if not PEER.exists():
        pytest.skip("no MLflow server in .venv-peers")
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    command = [PEER, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([*command, *stores], stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        wait_until(lambda: _healthy(f"http://127.0.0.1:{port}/health", server), seconds=120)
        yield f"http://127.0.0.1:{port}"
    finally:
        # The server has workers of its own; they are one process group.
        os.killpg(server.pid, 15)
        server.wait(30)


def _healthy(url: str, server: subprocess.Popen[bytes]) -> bool:
    assert server.poll() is None, "the MLflow server ended"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
