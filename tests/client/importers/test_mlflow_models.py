"""Registered models, prompts and logged models: what MLflow's own client made, read here by both ways."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient, artifacts
from mlflow.exceptions import MlflowException
from typer.testing import CliRunner

from tests.client.importers.conftest import Imported, recorded, run_import, runs_of
from tests.client.importers.test_mlflow import ENVIRONMENT
from tests.conftest import LiveService
from tunescope import Client
from tunescope.cli import app

# MLflow uses what other packages have deprecated.
pytestmark = pytest.mark.filterwarnings("ignore")

RECORDING = """
    import math, tempfile
    from pathlib import Path
    import mlflow
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModelInput, LoggedModelOutput, Metric

    uri = "sqlite:///PLACE/mlflow.db"
    mlflow.set_tracking_uri(uri)
    client = MlflowClient(uri)
    experiment = client.create_experiment("intents", artifact_location="mlflow-artifacts:/1")
    run = client.create_run(experiment, run_name="maker").info.run_id
    reader = client.create_run(experiment, run_name="reader").info.run_id
    gone = client.create_run(experiment, run_name="gone").info.run_id

    made = client.create_logged_model(
        experiment, name="forest", source_run_id=run, tags={"team": "nlp"}, params={"depth": "3"}, model_type="Agent")
    client.log_outputs(run, [LoggedModelOutput(made.model_id, step=4)])
    client.log_inputs(reader, models=[LoggedModelInput(made.model_id)])
    measured = dict(timestamp=1_000_500, step=4, model_id=made.model_id)
    client.log_batch(run, [
        Metric("f1", 0.75, dataset_name="tickets", dataset_digest="d1", run_id=run, **measured),
        Metric("loss", math.inf, run_id=run, **measured),
    ])
    client.log_batch(gone, [Metric("f1", 0.5, run_id=gone, **measured)])
    client.finalize_logged_model(made.model_id, "READY")
    folder = Path("PLACE/mlartifacts/1/models") / made.model_id / "artifacts"
    (folder / "weights").mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}")
    (folder / "weights" / "a.bin").write_bytes(b"123")
    waiting = client.create_logged_model(experiment, name="waiting", source_run_id=gone)
    client.delete_run(gone)

    client.create_registered_model("intents-o'clock", tags={"task": "chat"}, description="sorts **mail**")
    name = "intents-o'clock"
    root = client.get_run(run).info.artifact_uri
    client.create_model_version(name, f"{root}/model", run_id=run, tags={"bits": "4"}, description="first")
    client.create_model_version(name, "s3://bucket/model")
    client.create_model_version(name, f"models:/{made.model_id}", run_id=run, model_id=made.model_id)
    client.create_model_version(name, f"runs:/{gone}/model", run_id=gone)
    client.delete_model_version(name, "2")
    client.transition_model_version_stage(name, "1", "Production")
    client.set_registered_model_alias(name, "champion", "3")
    client.create_registered_model("empty")
    mlflow.genai.register_prompt("greeting", "Hello {{name}}", commit_message="first", tags={"tone": "warm"})
    mlflow.genai.register_prompt("greeting", "Hi {{name}}")
    mlflow.genai.set_prompt_alias("greeting", alias="live", version=2)
"""
NAME = "intents-o'clock"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mlflow-models")
    recorded(folder, RECORDING.replace("PLACE", str(folder)), **ENVIRONMENT)
    return folder / "mlflow.db"


NOT_BROUGHT = "the run was not brought over"
LEFT_OUT = {
    ("runs of experiment 'intents'", "deleted in MLflow"): 1,
    ("metric 'f1' of the logged model 'forest'", NOT_BROUGHT): 1,
    ("run of the logged model 'waiting'", NOT_BROUGHT): 1,
    (f"run behind version 4 of the registered model '{NAME}'", NOT_BROUGHT): 1,
}


@pytest.fixture(scope="module")
def imported(live_service: str, place: Path) -> Iterator[Imported]:
    """One import for all tests. The registry is the service's, not a project's: it is left empty again."""
    with Client(live_service) as client:
        yield run_import(client, "mlflow", place, "models")
        for name in (NAME, "empty", "greeting"):
            client.delete_model(name)


@pytest.fixture
def logged(api: Client, imported: Imported) -> dict[str, dict[str, Any]]:
    """The logged models by name, as MLflow's client finds them; each as the native API shows it."""
    mlflow = MlflowClient(api.url)
    experiment = mlflow.get_experiment_by_name("models")
    found = mlflow.search_logged_models([experiment.experiment_id])
    return {model.name: api.get_logged_model(model.model_id) for model in found}


def test_what_came_and_what_did_not(imported: Imported) -> None:
    tally = imported.tally
    assert (tally.models, tally.prompts, tally.versions, tally.logged_models, tally.artifacts) == (2, 1, 5, 2, 2)
    assert imported.left_out == LEFT_OUT


def test_logged_models(api: Client, logged: dict[str, dict[str, Any]]) -> None:
    runs = runs_of(api, "models")
    forest = logged["forest"]
    assert {name: forest[name] for name in ("project", "run_id", "model_type", "status", "params", "made_by")} == {
        "project": "models",
        "run_id": runs["maker"]["id"],
        "model_type": "Agent",
        "status": "READY",
        "params": {"depth": "3"},
        "made_by": [{"run_id": runs["maker"]["id"], "step": 4}],
    }
    assert forest["used_by"] == [runs["reader"]["id"]]
    assert forest["tags"]["team"] == "nlp"
    # The service's own note of what it became.
    assert json.loads(forest["tags"]["mlflow.modelVersions"]) == [{"name": NAME, "version": "3"}]
    measured = {one["key"]: one for one in forest["metrics"]}
    common = {"run_id": runs["maker"]["id"], "step": 4, "time": 1000.5}
    assert measured == {
        "f1": {**common, "key": "f1", "value": 0.75, "dataset_name": "tickets", "dataset_digest": "d1"},
        "loss": {**common, "key": "loss", "value": "Infinity", "dataset_name": None, "dataset_digest": None},
    }
    assert (logged["waiting"]["run_id"], logged["waiting"]["status"]) == (None, "PENDING")
    assert [one["path"] for one in api.logged_model_files(forest["id"])["items"]] == ["MLmodel", "weights/a.bin"]


def test_mlflow_reads_them_here(
    api: Client, logged: dict[str, dict[str, Any]], place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client that made them, pointed at this service, finds the same; and loads the files of a version."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", api.url)
    here, there = MlflowClient(api.url), MlflowClient(f"sqlite:///{place}")
    for name in (NAME, "empty"):
        mine, theirs = here.get_registered_model(name), there.get_registered_model(name)
        assert (mine.description or None, mine.tags, {k: int(v) for k, v in mine.aliases.items()}) == (
            theirs.description or None,
            theirs.tags,
            theirs.aliases,
        )
        assert mine.creation_timestamp == theirs.creation_timestamp
    for number in ("1", "3", "4"):
        mine, theirs = here.get_model_version(NAME, number), there.get_model_version(NAME, number)
        assert (mine.creation_timestamp, mine.current_stage, mine.tags, mine.description or None) == (
            theirs.creation_timestamp,
            theirs.current_stage,
            theirs.tags,
            theirs.description or None,
        )
    with pytest.raises(MlflowException, match="not found"):
        here.get_model_version(NAME, "2")
    runs = runs_of(api, "models")
    first, third = here.get_model_version(NAME, "1"), here.get_model_version_by_alias(NAME, "champion")
    assert (first.run_id, first.source) == (runs["maker"]["id"], f"runs:/{runs['maker']['id']}/model")
    assert (third.version, third.source) == ("3", f"models:/{logged['forest']['id']}")
    folder = artifacts.download_artifacts(f"models:/{NAME}@champion", dst_path=str(tmp_path))
    assert (Path(folder) / "weights" / "a.bin").read_bytes() == b"123"
    prompts = {number: here.get_prompt_version("greeting", number) for number in ("1", "2")}
    assert {number: prompt.template for number, prompt in prompts.items()} == {
        "1": "Hello {{name}}",
        "2": "Hi {{name}}",
    }
    assert prompts["1"].tags["tone"] == "warm"
    assert here.get_prompt_version_by_alias("greeting", "live").version == 2


def test_the_registry_of_this_service_has_them(api: Client, imported: Imported) -> None:
    model = api.get_model(NAME)
    assert (model["description"], model["tags"], model["aliases"], model["n_versions"]) == (
        "sorts **mail**",
        {"task": "chat"},
        {"champion": 3},
        3,
    )
    versions = {one["version"]: one for one in api.model_versions(NAME)["items"]}
    assert {number: one["stage"] for number, one in versions.items()} == {1: "Production", 3: "None", 4: "None"}
    assert (versions[1]["tags"], versions[1]["description"]) == ({"bits": "4"}, "first")
    assert [one["name"] for one in api.list_models(prompts=True)["items"]] == ["greeting"]


def test_again_changes_nothing_and_moves_nothing(api: Client, imported: Imported, place: Path) -> None:
    def everything() -> list[Any]:
        names = [one["name"] for one in (*api.list_models()["items"], *api.list_models(prompts=True)["items"])]
        models = [(api.get_model(name), api.model_versions(name)) for name in names]
        experiment = MlflowClient(api.url).get_experiment_by_name("models").experiment_id
        found = MlflowClient(api.url).search_logged_models([experiment])
        return [models, [(api.get_logged_model(m.model_id), api.logged_model_files(m.model_id)) for m in found]]

    before = everything()
    again = run_import(api, "mlflow", place, "models")
    tally = again.tally
    assert (tally.versions, tally.logged_models, tally.artifacts, tally.points) == (0, 0, 0, 0)
    assert (tally.known_versions, tally.known_logged_models, tally.known_artifacts) == (5, 2, 2)
    # A version that is here is not asked about again.
    assert again.left_out == {one: count for one, count in LEFT_OUT.items() if not one[0].startswith("run behind")}
    assert everything() == before
    # What somebody has moved here stays where it is, and is said.
    api.set_alias(NAME, "champion", 1)
    again = run_import(api, "mlflow", place, "models")
    alias = f"alias 'champion' of the registered model '{NAME}'"
    assert again.left_out[alias, "it is at version 1 here, and at version 3 there"] == 1
    assert api.get_alias(NAME, "champion")["version"] == 1
    api.set_alias(NAME, "champion", 3)


def test_a_name_that_is_taken_is_not_mixed(other: LiveService, place: Path) -> None:
    with Client(other.url) as client:
        client.register_model(NAME, description="mine")
        found = run_import(client, "mlflow", place, "taken")
        reason = "there is another of this name here: rename that one, and import again"
        assert found.left_out[f"registered model '{NAME}'", reason] == 1
        assert [one["description"] for one in client.model_versions(NAME)["items"]] == ["mine"]
        assert client.get_model("empty")["n_versions"] == 0


def test_the_command_says_what_came(place: Path) -> None:
    said = CliRunner().invoke(app, ["import", "mlflow", str(place), "--dry-run"]).output
    assert "2 registered models and 1 prompts with 5 versions, 2 logged models would be imported" in said
