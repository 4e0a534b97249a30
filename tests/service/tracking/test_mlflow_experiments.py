"""MLflow's face on both databases: experiments, and the data sets of their runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
from starlette.testclient import TestClient

from service.store.database import Database
from service.tracking.mlflow import experiments
from service.tracking.mlflow.errors import ResourceAlreadyExists
from service.tracking.mlflow.messages import CreateExperiment, LogInputs
from service.tracking.mlflow.runs import log_inputs
from tests.service.tracking.mlflow_face import Face, refused


def test_the_default_experiment_is_there(face: Face, client: TestClient) -> None:
    found = face.get("experiments/get", experiment_id="0")["experiment"]
    assert (found["name"], found["lifecycle_stage"], found["artifact_location"]) == (
        "Default",
        "active",
        "mlflow-artifacts:/0",
    )
    assert client.get("/api/v1/projects").json()["items"] == []
    face.create()
    assert [project["name"] for project in client.get("/api/v1/projects").json()["items"]] == ["Default"]


def test_deleting_an_experiment_takes_its_runs_along(face: Face, client: TestClient) -> None:
    experiment = face.ok("experiments/create", name="gone")["experiment_id"]
    kept, binned = face.create(experiment_id=experiment), face.create(experiment_id=experiment)
    face.ok("runs/delete", run_id=binned)
    face.ok("experiments/delete", experiment_id=experiment)
    assert face.run(kept)["info"]["lifecycle_stage"] == "deleted"
    assert client.get("/api/v1/projects").json()["items"] == []
    refused(face.post("experiments/delete", experiment_id=experiment), 404, "RESOURCE_DOES_NOT_EXIST")
    refused(face.post("experiments/create", name="gone"), 400, "RESOURCE_ALREADY_EXISTS")
    refused(face.post("experiments/update", experiment_id=experiment, new_name="x"), 409, "INVALID_STATE")
    assert "must be in the 'active' state" in refused(face.post("runs/create", experiment_id=experiment))
    refused(face.post("experiments/set-experiment-tag", experiment_id=experiment, key="a", value="b"))
    found = face.get("experiments/get-by-name", experiment_name="gone")["experiment"]
    assert found["lifecycle_stage"] == "deleted"
    face.ok("experiments/restore", experiment_id=experiment)
    refused(face.post("experiments/restore", experiment_id=experiment), 404, "RESOURCE_DOES_NOT_EXIST")
    assert {face.run(one)["info"]["lifecycle_stage"] for one in (kept, binned)} == {"active"}


def test_experiments_have_names_tags_and_places(face: Face) -> None:
    tags = [{"key": "a", "value": "1"}]
    made = face.ok("experiments/create", name="e", tags=tags, artifact_location="s3://bucket/x/")["experiment_id"]
    face.ok("experiments/set-experiment-tag", experiment_id=made, key="b", value="2")
    face.ok("experiments/set-experiment-tag", experiment_id=made, key="b", value="3")
    face.ok("experiments/update", experiment_id=made, new_name="f")
    found = face.get("experiments/get", experiment_id=made)["experiment"]
    assert (found["name"], found["artifact_location"]) == ("f", "s3://bucket/x")
    assert found["tags"] == [{"key": "a", "value": "1"}, {"key": "b", "value": "3"}]
    assert found["last_update_time"] >= found["creation_time"] > 0
    run_id = face.create(experiment_id=made)
    assert face.run(run_id)["info"]["artifact_uri"] == f"s3://bucket/x/{run_id}/artifacts"
    face.ok("experiments/delete-experiment-tag", experiment_id=made, key="a")
    missing = face.post("experiments/delete-experiment-tag", experiment_id=made, key="a")
    refused(missing, 404, "RESOURCE_DOES_NOT_EXIST")
    refused(face.post("experiments/create", name="f"), 400, "RESOURCE_ALREADY_EXISTS")
    other = face.ok("experiments/create", name="g")["experiment_id"]
    refused(face.post("experiments/update", experiment_id=other, new_name="f"), 400, "RESOURCE_ALREADY_EXISTS")
    face.ok("experiments/update", experiment_id=other, new_name="g")


def test_data_sets_are_linked_once(face: Face) -> None:
    run_id = face.create()
    dataset = {"name": "squad", "digest": "d", "source_type": "hf", "source": "{}", "schema": "[]", "profile": "{}"}
    context = [{"key": "mlflow.data.context", "value": "training"}]
    for _ in range(2):
        face.ok("runs/log-inputs", run_id=run_id, datasets=[{"dataset": dataset, "tags": context}])
    face.ok("runs/log-inputs", run_id=run_id, datasets=[{"dataset": {**dataset, "digest": "e"}, "tags": []}])
    inputs = face.run(run_id)["inputs"]["dataset_inputs"]
    assert inputs == [
        {"dataset": dataset, "tags": context},
        {"dataset": {**dataset, "digest": "e"}, "tags": []},
    ]
    summaries = face.ok("experiments/search-datasets", experiment_ids=["0"])["dataset_summaries"]
    named = {"experiment_id": "0", "name": "squad"}
    assert sorted(summaries, key=lambda one: str(one["digest"])) == [
        {**named, "digest": "d", "context": "training"},
        {**named, "digest": "e"},
    ]
    for field, longest in (("name", 500), ("digest", 36), ("source", 65_535), ("schema", 1_048_575)):
        long = {**dataset, field: "x" * (longest + 1)}
        said = refused(face.post("runs/log-inputs", run_id=run_id, datasets=[{"dataset": long}]))
        assert said == f"'{field}' exceeds the maximum length of {longest} characters"


def at_once(count: int, call: Callable[[int], Any]) -> list[Any]:
    start = threading.Barrier(count)

    def one(number: int) -> Any:
        start.wait(30)
        return call(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_of_many_who_create_an_experiment_one_does(database: Database) -> None:
    """All ranks of a training call `set_experiment` at once; a crash would have them retry for minutes."""

    def create(_: int) -> bool:
        try:
            with database.write() as session:
                experiments.create(session, CreateExperiment("shared"))
        except ResourceAlreadyExists:
            return False
        return True

    assert sorted(at_once(6, create)) == [False] * 5 + [True]


def test_a_data_set_that_many_runs_read_is_one(face: Face, database: Database) -> None:
    runs = [face.create() for _ in range(6)]
    dataset = {"name": "squad", "digest": "d", "source_type": "hf", "source": "{}"}

    def log(number: int) -> None:
        given = {"run_id": runs[number], "datasets": [{"dataset": dataset, "tags": []}]}
        with database.write() as session:
            log_inputs(session, msgspec.convert(given, LogInputs))

    at_once(6, log)
    assert {str(face.run(run)["inputs"]["dataset_inputs"]) for run in runs} == {str([{"dataset": dataset, "tags": []}])}
    assert len(face.ok("experiments/search-datasets", experiment_ids=["0"])["dataset_summaries"]) == 1
