"""MLflow's face on both databases: what happens to runs, and how both sides see them."""

from __future__ import annotations

import json

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from service.store.database import Database
from service.store.tables import Run
from service.tracking.mlflow import runs
from tests.service.tracking.mlflow_face import Face, refused


def test_a_run_begins_and_ends(face: Face) -> None:
    created = face.ok(
        "runs/create", experiment_id="0", user_id="ada", start_time=1234, tags=[{"key": "t", "value": "v"}]
    )["run"]
    info = created["info"]
    run_id = info["run_id"]
    assert info == {
        "run_id": run_id,
        "run_uuid": run_id,
        "run_name": info["run_name"],
        "experiment_id": "0",
        "user_id": "ada",
        "status": "RUNNING",
        "start_time": 1234,
        "artifact_uri": f"mlflow-artifacts:/0/{run_id}/artifacts",
        "lifecycle_stage": "active",
    }
    assert info["run_name"]
    assert face.tags(run_id) == {"t": "v", "mlflow.runName": info["run_name"], "mlflow.user": "ada"}
    ended = face.ok("runs/update", run_uuid=run_id, status="FINISHED", end_time=5678)["run_info"]
    assert (ended["status"], ended["end_time"]) == ("FINISHED", 5678)
    again = face.ok("runs/update", run_id=run_id, status="RUNNING", end_time=5678)["run_info"]
    assert again["status"] == "RUNNING"
    assert "end_time" not in again
    assert face.ok("runs/update", run_id=run_id, status=5)["run_info"]["status"] == "KILLED"


@pytest.mark.parametrize(
    ("given", "native"),
    [
        ("RUNNING", "running"),
        ("SCHEDULED", "scheduled"),
        ("FINISHED", "finished"),
        ("FAILED", "failed"),
        ("KILLED", "killed"),
    ],
)
def test_a_status_is_the_same_on_both_sides(face: Face, client: TestClient, given: str, native: str) -> None:
    run_id = face.create()
    face.ok("runs/update", run_id=run_id, status=given)
    assert client.get(f"/api/v1/runs/{run_id}").json()["status"] == native
    assert face.run(run_id)["info"]["status"] == given


def test_a_client_that_logs_rarely_is_not_called_silent(settings: Settings, database: Database) -> None:
    """MLflow clients send no heartbeat: of a quiet one nothing is known for an hour."""
    quick = settings.model_copy(update={"silent_after_seconds": 1e-9})
    with TestClient(create_app(quick, database)) as client:
        face = Face(client)
        run_id = face.create()
        native = client.post("/api/v1/runs", json={"project": "Default", "id": "native"}).json()

        def seen() -> tuple[str, list[str], str]:
            status = client.get(f"/api/v1/runs/{run_id}").json()["status"]
            found = client.get("/api/v1/runs", params={"q": "status = silent"}).json()["items"]
            rules = client.get(f"/api/v1/runs/{run_id}/diagnoses").json()["items"]
            return status, [run["id"] for run in found], next(r["state"] for r in rules if r["rule"] == "silent")

        assert native["status"] == "silent"
        assert seen() == ("running", ["native"], "clear")
        with database.write() as session:
            session.get_one(Run, run_id).heartbeat_at -= runs.PATIENCE + 1
        assert seen() == ("silent", [run_id, "native"][:: 1 if run_id > "native" else -1], "found")
        # Resumed by a client that sends signs of life, then by one that does not.
        client.post("/api/v1/runs", json={"project": "Default", "id": run_id, "resume": "must"})
        assert seen()[0] == "silent"
        face.ok("runs/update", run_id=run_id, status="RUNNING")
        assert seen()[0] == "running"


def test_a_run_written_through_the_face_is_a_run(face: Face, client: TestClient) -> None:
    experiment = face.ok("experiments/create", name="tuning")["experiment_id"]
    parent = face.create(experiment_id=experiment, run_name="sweep")
    run_id = face.create(
        experiment_id=experiment,
        start_time=1_700_000_000_123,
        tags=[
            {"key": "mlflow.runName", "value": "trial"},
            {"key": "mlflow.parentRunId", "value": parent},
            {"key": "mlflow.note.content", "value": "what for"},
            {"key": "mlflow.user", "value": "eve"},
            {"key": "mlflow.source.name", "value": "train.py"},
        ],
    )
    face.ok(
        "runs/log-batch",
        run_id=run_id,
        params=[{"key": "lr", "value": "1e-3"}, {"key": "model.name", "value": "gpt2"}],
        metrics=[{"key": "loss", "value": 0.5, "timestamp": 1000, "step": 3}],
    )
    run = client.get(f"/api/v1/runs/{run_id}").json()
    assert (run["project"], run["name"], run["notes"], run["parent_run_id"]) == ("tuning", "trial", "what for", parent)
    assert run["created_at"] == 1_700_000_000.123
    assert run["config"] == {"lr": "1e-3", "model.name": "gpt2"}
    assert run["tags"] == {"mlflow.source.name": "train.py"}
    assert run["environment"] == {"user": "eve"}
    assert run["metrics"]["loss"]["last"] == 0.5
    assert run["points_stored"] == 1
    found = client.get("/api/v1/runs", params={"q": "params.lr < 0.01 and metrics.loss = 0.5"}).json()
    assert [one["id"] for one in found["items"]] == [run_id]
    assert face.tags(run_id)["mlflow.parentRunId"] == parent


def test_names_and_their_tag_are_one(face: Face) -> None:
    run_id = face.create(run_name="first")
    face.ok("runs/set-tag", run_id=run_id, key="mlflow.runName", value="second")
    assert face.run(run_id)["info"]["run_name"] == "second"
    face.ok("runs/update", run_id=run_id, run_name="third")
    assert face.tags(run_id)["mlflow.runName"] == "third"
    face.ok("runs/set-tag", run_id=run_id, key="mlflow.runName", value="")
    assert face.run(run_id)["info"]["run_name"] == "third"
    tags = [{"key": "mlflow.runName", "value": "b"}]
    assert "different values" in refused(face.post("runs/create", experiment_id="0", run_name="a", tags=tags))


def test_a_deleted_run_takes_nothing(face: Face, client: TestClient) -> None:
    run_id = face.create()
    face.ok("runs/delete", run_id=run_id)
    face.ok("runs/delete", run_id=run_id)
    assert face.run(run_id)["info"]["lifecycle_stage"] == "deleted"
    assert client.get(f"/api/v1/runs/{run_id}").status_code == 404
    point = {"key": "m", "value": 1, "timestamp": 1}
    writes = [
        face.post("runs/log-metric", run_id=run_id, **point),
        face.post("runs/log-parameter", run_id=run_id, key="p", value="1"),
        face.post("runs/set-tag", run_id=run_id, key="t", value="1"),
        face.post("runs/delete-tag", run_id=run_id, key="t"),
        face.post("runs/log-batch", run_id=run_id, metrics=[point]),
        face.post("runs/update", run_id=run_id, status="FINISHED"),
        face.post("runs/log-inputs", run_id=run_id, datasets=[]),
    ]
    said = f"The run {run_id} must be in the 'active' state. Current state is deleted."
    assert {refused(answer) for answer in writes} == {said}
    face.ok("runs/restore", run_id=run_id)
    face.ok("runs/restore", run_id=run_id)
    face.ok("runs/log-metric", run_id=run_id, **point)


def test_a_model_of_a_2x_client_is_a_tag(face: Face) -> None:
    run_id = face.create()
    model = {"artifact_path": "model", "flavors": {}, "utc_time_created": "now", "run_id": run_id}
    for _ in range(2):
        face.ok("runs/log-model", run_id=run_id, model_json=json.dumps(model))
    assert json.loads(face.tags(run_id)["mlflow.log-model.history"]) == [model, model]
    assert "missing mandatory fields" in refused(face.post("runs/log-model", run_id=run_id, model_json="{}"))
    assert "not a valid JSON" in refused(face.post("runs/log-model", run_id=run_id, model_json="{"))
