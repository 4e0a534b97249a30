"""What MLflow's own client recorded, in a folder and in a database, point by point."""

from __future__ import annotations

import hashlib
import math
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.client.importers.conftest import (
    Record,
    assert_second_import_changes_nothing,
    point,
    points,
    recorded,
    run_import,
    runs_of,
)
from tests.conftest import running_service
from tunescope import Client
from tunescope.importers._record import ImportProblem

# MLflow uses what other packages have deprecated.
pytestmark = pytest.mark.filterwarnings("ignore")

SPECIAL = {3: math.nan, 4: math.inf, 5: -math.inf}
STEPS = 50
ENVIRONMENT = {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}
RECORDING = """
    import math
    from mlflow import MlflowClient
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

    special = {3: math.nan, 4: math.inf, 5: -math.inf}
    client = MlflowClient("URI")
    experiment = client.create_experiment("intents", artifact_location="PLACE/artifacts")
    parent = client.create_run(
        experiment, start_time=1_000_250, run_name="sweep",
        tags={"mlflow.note.content": "as noted", "team": "nlp", "mlflow.source.git.commit": "abc",
              "mlflow.user": "ada"},
    ).info.run_id
    for step in range(50):
        value = special.get(step, 1 / (step + 1))
        client.log_metric(parent, "loss", value, timestamp=1_001_125 + 1000 * step, step=step)
    client.log_batch(parent, [Metric("lr", step / 7, 1_001_000 + step, step) for step in range(1500)][:1000])
    client.log_metric(parent, "loss", 9.0, timestamp=1_900_000, step=10)  # resumed at an earlier step
    client.log_batch(parent, params=[Param("lr", "0.1"), Param("model.layers", "[1, 2]")])
    dataset = Dataset(name="tickets", digest="d1", source_type="local", source="tickets.csv")
    client.log_inputs(parent, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    client.log_text(parent, "hello", "notes/hello.txt")
    client.log_dict(parent, {"a": 1}, "a.json")
    client.set_terminated(parent, "FINISHED", end_time=2_000_500)
    for name, status in (("failed", "FAILED"), ("killed", "KILLED"), ("running", None)):
        run = client.create_run(experiment, run_name=name, tags={"mlflow.parentRunId": parent}).info.run_id
        if status:
            client.set_terminated(run, status)
    deleted = client.create_run(experiment, run_name="deleted").info.run_id
    client.delete_run(deleted)
"""


@pytest.fixture(scope="module", params=["folder", "database"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recorded once: nothing writes into it, which a test below holds."""
    folder = tmp_path_factory.mktemp(f"mlflow-{request.param}")
    found = folder / ("mlruns" if request.param == "folder" else "mlflow.db")
    uri = found.as_uri() if request.param == "folder" else f"sqlite:///{found}"
    recorded(folder, RECORDING.replace("URI", uri).replace("PLACE", folder.as_uri()), **ENVIRONMENT)
    return found


def imported(client: Client, place: Path, project: str) -> dict[str, dict[str, Any]]:
    project = f"{project} {place.suffix}"
    found = run_import(client, "mlflow", place, project)
    assert found.left_out == {("runs of experiment 'intents'", "deleted in MLflow"): 1}
    return runs_of(client, project)


def test_every_point(api: Client, place: Path) -> None:
    runs = imported(api, place, "mlflow points")
    stored = points(api, runs["sweep"]["id"])
    losses = [point(s, 1001.125 + s, SPECIAL.get(s, 1 / (s + 1))) for s in range(STEPS)]
    assert stored["loss"] == [*losses, point(10, 1900.0, 9.0)]
    assert stored["lr"] == [point(s, (1_001_000 + s) / 1000, s / 7) for s in range(1000)]


def test_the_registry_is_that_of_the_source(
    api: Client, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the environment names another one, for the models of this process."""
    elsewhere = f"sqlite:///{tmp_path / 'registry.db'}"
    recorded(
        tmp_path, f"from mlflow import MlflowClient\nMlflowClient({elsewhere!r}).create_registered_model('elsewhere')"
    )
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", elsewhere)
    imported(api, place, "mlflow registry")
    assert "elsewhere" not in [model["name"] for model in api.list_models()["items"]]


def test_everything_else(api: Client, place: Path) -> None:
    runs = imported(api, place, "mlflow fields")
    sweep = runs["sweep"]
    assert {
        name: sweep[name] for name in ("created_at", "finished_at", "status", "notes", "config", "parent_run_id")
    } == {
        "created_at": 1000.25,
        "finished_at": 2000.5,
        "status": "finished",
        "notes": "as noted",
        "config": {"lr": "0.1", "model.layers": "[1, 2]"},
        "parent_run_id": None,
    }
    assert sweep["tags"]["team"] == "nlp"
    assert "mlflow.note.content" not in sweep["tags"]
    environment = sweep["environment"]
    assert environment["git"]["commit"] == "abc"
    assert environment["user"] == "ada"
    (dataset,) = environment["datasets"]
    assert (dataset["name"], dataset["digest"], dataset["tags"]) == (
        "tickets",
        "d1",
        {"mlflow.data.context": "training"},
    )
    assert {name: run["status"] for name, run in runs.items()} == {
        "sweep": "finished",
        "failed": "failed",
        "killed": "killed",
        "running": "running",
    }
    assert {runs[name]["parent_run_id"] for name in ("failed", "killed", "running")} == {sweep["id"]}
    found = api.list_runs(f"mlflow fields {place.suffix}", "params.lr = 0.1")["items"]
    assert [run["name"] for run in found] == ["sweep"]


def test_files(api: Client, place: Path) -> None:
    run = imported(api, place, "mlflow files")["sweep"]
    assert {one["path"] for one in api.list_artifacts(run["id"])["items"]} == {"notes/hello.txt", "a.json"}
    assert api.download_artifact(run["id"], "notes/hello.txt") == b"hello"


def test_files_that_a_server_kept(api: Client, tmp_path: Path, record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server's database names addresses that only the server knows: its folder is beside it, or named, or missing."""
    database = tmp_path / "mlflow.db"
    recording = f"""
        from mlflow import MlflowClient
        client = MlflowClient("sqlite:///{database}")
        for name in ("kept", "outside"):
            client.create_run(client.create_experiment(name, artifact_location="mlflow-artifacts:/1"), run_name=name)
    """
    record(recording, **ENVIRONMENT)
    with sqlite3.connect(database) as connection:
        (run_id,) = connection.execute("SELECT run_uuid FROM runs WHERE name = 'kept'").fetchone()
        connection.execute("UPDATE runs SET artifact_uri = 'mlflow-artifacts:/../..' WHERE name <> 'kept'")
    connection.close()
    found = run_import(api, "mlflow", database, "mlflow unserved")
    ((name, reason),) = found.left_out
    assert (name, found.left_out[name, reason]) == ("artifacts of a run, if it has any", 2)
    assert "MLFLOW_ARTIFACTS_DESTINATION" in reason
    for folder in (tmp_path / "mlartifacts", tmp_path / "elsewhere"):
        (folder / "1" / run_id / "artifacts" / "plots").mkdir(parents=True)
        (folder / "1" / run_id / "artifacts" / "plots" / "a b.txt").write_text(folder.name)
    for project, uri in (("mlartifacts", f"sqlite:///{database}"), ("elsewhere", str(database))):
        if project == "elsewhere":
            monkeypatch.setenv("MLFLOW_ARTIFACTS_DESTINATION", str(tmp_path / "elsewhere"))
        found = run_import(api, "mlflow", uri, f"mlflow {project}")
        assert (found.tally.artifacts, found.left_out) == (1, {})
        run = runs_of(api, f"mlflow {project}")["kept"]
        assert api.download_artifact(run["id"], "plots/a b.txt") == project.encode()


def test_importing_twice_changes_nothing_here_or_there(api: Client, place: Path) -> None:
    def contents() -> dict[str, str]:
        files = sorted(place.rglob("*")) if place.is_dir() else [place]
        return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()}

    before = contents()
    project = f"mlflow twice {place.suffix}"
    run_import(api, "mlflow", place, project)
    assert_second_import_changes_nothing(api, "mlflow", place, project)
    assert contents() == before


def test_experiments_are_projects(api: Client, place: Path) -> None:
    """Without a project of one's own."""
    tally = run_import(api, "mlflow", place).tally
    assert tally.runs == 4
    assert {"sweep", "failed", "killed", "running"} <= set(runs_of(api, "intents"))


@pytest.mark.slow
def test_many_runs_are_read_page_by_page(api: Client, tmp_path: Path, record: Record) -> None:
    uri = f"sqlite:///{tmp_path / 'many.db'}"
    record(
        f"""
        from mlflow import MlflowClient
        client = MlflowClient("{uri}")
        for number in range(405):
            client.create_run("0", run_name=f"run {{number}}", start_time=1000 + number % 3)
        """,
        **ENVIRONMENT,
    )
    tally = run_import(None, "mlflow", uri).tally
    assert tally.runs == 405


def test_an_older_database_is_read_and_left_as_it_is(tmp_path: Path, record: Record) -> None:
    """MLflow would upgrade it in place."""
    database = tmp_path / "old.db"
    record(
        f"""
        from alembic import command
        from mlflow.store.db.utils import _get_alembic_config
        from mlflow.store.tracking.dbmodels.initial_models import Base
        from sqlalchemy import create_engine, text
        engine = create_engine("sqlite:///{database}")
        Base.metadata.create_all(engine)
        command.upgrade(_get_alembic_config("sqlite:///{database}"), "451aebb31d03")
        with engine.begin() as connection:
            connection.execute(text(
                "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) "
                "VALUES (0, 'old', 'there', 'active')"
            ))
            connection.execute(text(
                "INSERT INTO runs (run_uuid, name, experiment_id, status, start_time, lifecycle_stage, artifact_uri, "
                "user_id, source_type, source_name, entry_point_name, source_version) "
                "VALUES ('r1', 'ancient', 0, 'FINISHED', 1000, 'active', 'there', 'ada', 'LOCAL', '', '', '')"
            ))
            connection.execute(text("INSERT INTO metrics VALUES ('loss', 0.5, 1500, 'r1', 0)"))
        """,
        **ENVIRONMENT,
    )
    before = database.read_bytes()
    tally = run_import(None, "mlflow", database).tally
    assert (tally.runs, tally.points) == (1, 1)
    assert database.read_bytes() == before


def test_what_is_no_mlflow_is_said_and_not_touched(tmp_path: Path) -> None:
    with pytest.raises(ImportProblem, match="holds no MLflow runs"):
        run_import(None, "mlflow", tmp_path)
    with pytest.raises(ImportProblem, match="There is no database"):
        run_import(None, "mlflow", f"sqlite:///{tmp_path}/none.db")
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE mine (a)")
    connection.close()
    with pytest.raises(ImportProblem, match="is no database of MLflow"):
        run_import(None, "mlflow", tmp_path / "other.db")
    assert [file.name for file in tmp_path.iterdir()] == ["other.db"]


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ImportProblem, match="MLflow cannot read http://127"):
        run_import(None, "mlflow", "http://127.0.0.1:9")


@pytest.mark.slow
def test_a_tracking_server(api: Client, tmp_path: Path, record: Record) -> None:
    """By its address: what speaks MLflow's protocol. MLflow's own server needs a package that is not installed here;
    this one is Tunescope."""
    with running_service(tmp_path / "tracking-data") as server:
        record(RECORDING.replace("URI", server.url).replace(', artifact_location="PLACE/artifacts"', ""), **ENVIRONMENT)
        tally = run_import(api, "mlflow", server.url, "mlflow http").tally
        assert tally.runs == 4
        runs = runs_of(api, "mlflow http")
        losses = [point(s, 1001.125 + s, SPECIAL.get(s, 1 / (s + 1))) for s in range(STEPS)]
        # A server gives a history by time.
        assert points(api, runs["sweep"]["id"])["loss"] == [*losses, point(10, 1900.0, 9.0)]
        assert {runs[name]["parent_run_id"] for name in ("failed", "killed", "running")} == {runs["sweep"]["id"]}
        assert runs["sweep"]["tags"]["team"] == "nlp"
        assert runs["sweep"]["environment"]["datasets"][0]["name"] == "tickets"
        assert api.download_artifact(runs["sweep"]["id"], "notes/hello.txt") == b"hello"
        assert_second_import_changes_nothing(api, "mlflow", server.url, "mlflow http")
