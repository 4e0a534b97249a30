"""The unmodified `mlflow` client, call by call, against a live service."""

from __future__ import annotations

import math
import threading
import time
import uuid
from pathlib import Path

import mlflow
import pandas as pd
import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException, RestException

import tunescope
from service.auth import create_key
from service.store.database import Database
from tests.conftest import LiveService
from tests.contract.mlflow.conftest import Rest


def code(refused: pytest.ExceptionInfo[MlflowException]) -> str:
    return str(refused.value.error_code)


def test_a_script_of_the_first_lesson(uri: str) -> None:
    """Nothing is set up, so the client logs to experiment "0" without asking whether it is there."""
    with mlflow.start_run() as run:
        mlflow.log_param("lr", 0.1)
        mlflow.log_metric("loss", 0.5)
        mlflow.set_tag("team", "nlp")
    stored = mlflow.get_run(run.info.run_id)
    assert (stored.info.experiment_id, stored.info.status, stored.info.lifecycle_stage) == ("0", "FINISHED", "active")
    assert (stored.data.params, stored.data.metrics) == ({"lr": "0.1"}, {"loss": 0.5})
    assert stored.data.tags["team"] == "nlp"
    assert stored.data.tags["mlflow.runName"] == stored.info.run_name
    assert stored.data.tags["mlflow.user"] == stored.info.user_id
    assert stored.info.start_time <= stored.info.end_time
    default = mlflow.get_experiment("0")
    assert (default.name, default.artifact_location) == ("Default", "mlflow-artifacts:/0")


def test_an_experiment_by_name(uri: str) -> None:
    name = f"by name {uuid.uuid4().hex}"
    made = mlflow.set_experiment(name)
    with mlflow.start_run(run_name="one", description="why"):
        pass
    assert mlflow.set_experiment(name).experiment_id == made.experiment_id
    found = mlflow.search_runs(experiment_names=[name], output_format="list")
    assert [run.info.run_name for run in found] == ["one"]
    assert found[0].data.tags["mlflow.note.content"] == "why"
    assert MlflowClient().get_experiment_by_name(f"{name}?") is None


def test_a_failed_run_says_so(uri: str, experiment: str) -> None:
    with pytest.raises(ZeroDivisionError), mlflow.start_run(experiment_id=experiment) as run:
        print(1 / 0)
    assert mlflow.get_run(run.info.run_id).info.status == "FAILED"


def test_a_run_is_resumed(uri: str, experiment: str) -> None:
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_metric("loss", 1.0, step=5)
    with mlflow.start_run(run_id=run.info.run_id):
        assert mlflow.get_run(run.info.run_id).info.status == "RUNNING"
        mlflow.log_metric("loss", 3.0, step=2)
    stored = mlflow.get_run(run.info.run_id)
    assert (stored.info.status, stored.data.metrics) == ("FINISHED", {"loss": 1.0})


def test_nested_runs_know_their_parent(uri: str, experiment: str) -> None:
    with mlflow.start_run(experiment_id=experiment) as parent:
        for n in range(2):
            with mlflow.start_run(nested=True, run_name=f"child {n}", experiment_id=experiment):
                mlflow.log_metric("n", n)
    condition = f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    children = mlflow.search_runs([experiment], filter_string=condition, output_format="list")
    assert {run.info.run_name for run in children} == {"child 0", "child 1"}


def test_asynchronous_logging_from_many_threads_loses_nothing(uri: str, experiment: str) -> None:
    with mlflow.start_run(experiment_id=experiment) as run:
        for step in range(300):
            mlflow.log_metrics({"a": step, "b": -step}, step=step, synchronous=False)
        mlflow.log_params({f"p{n}": n for n in range(250)}, synchronous=False)
    # The queue goes on after the run has ended.
    mlflow.flush_async_logging()
    client = MlflowClient(uri)
    for key, sign in (("a", 1), ("b", -1)):
        points = client.get_metric_history(run.info.run_id, key)
        assert sorted((point.step, point.value) for point in points) == [(n, sign * n) for n in range(300)]
    stored = client.get_run(run.info.run_id)
    assert stored.data.metrics == {"a": 299, "b": -299}
    assert len(stored.data.params) == 250


def test_clients_write_one_run_at_once(uri: str, mlflow_client: MlflowClient, experiment: str) -> None:
    run_id = mlflow_client.create_run(experiment).info.run_id

    def write(worker: int) -> None:
        client = MlflowClient(uri)
        for n in range(20):
            points = [Metric("shared", worker * 1000 + n, 1000 + n, n), Metric(f"own/{worker}", n, 1000, n)]
            client.log_batch(run_id, points, [Param(f"p{worker}.{n}", str(n))], [RunTag("last", str(worker))])

    workers = [threading.Thread(target=write, args=(worker,)) for worker in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(mlflow_client.get_metric_history(run_id, "shared")) == 120
    stored = mlflow_client.get_run(run_id)
    assert len(stored.data.params) == 120
    assert stored.data.metrics["shared"] == 5019
    assert stored.data.tags["last"] in {str(worker) for worker in range(6)}


def test_numbers_that_json_does_not_have(mlflow_client: MlflowClient, experiment: str) -> None:
    run_id = mlflow_client.create_run(experiment).info.run_id
    for step, value in enumerate([math.nan, math.inf, -math.inf, 0.1 + 0.2]):
        mlflow_client.log_metric(run_id, "m", value, step=step)
    values = [point.value for point in sorted(mlflow_client.get_metric_history(run_id, "m"), key=lambda p: p.step)]
    assert math.isnan(values[0])
    assert values[1:] == [math.inf, -math.inf, 0.1 + 0.2]


def test_a_history_of_many_pages(mlflow_client: MlflowClient, experiment: str) -> None:
    run_id = mlflow_client.create_run(experiment).info.run_id
    for start in range(0, 27_000, 1000):
        points = [Metric("m", float(n), 1000 + n, n) for n in range(start, start + 1000)]
        mlflow_client.log_batch(run_id, metrics=points)
    found = mlflow_client.get_metric_history(run_id, "m")
    assert [point.step for point in found] == list(range(27_000))


def test_params_are_not_changed(mlflow_client: MlflowClient, experiment: str) -> None:
    run_id = mlflow_client.create_run(experiment).info.run_id
    mlflow_client.log_param(run_id, "lr", 0.1)
    mlflow_client.log_param(run_id, "lr", 0.1)
    with pytest.raises(MlflowException, match="Changing param values is not allowed") as refused:
        mlflow_client.log_param(run_id, "lr", 0.2)
    assert code(refused) == "INVALID_PARAMETER_VALUE"
    with pytest.raises(RestException, match="Params were already logged"):
        mlflow_client.log_batch(run_id, params=[Param("lr", "0.3"), Param("new", "1")])
    assert mlflow_client.get_run(run_id).data.params == {"lr": "0.1"}


def test_runs_and_experiments_go_and_come_back(mlflow_client: MlflowClient, experiment: str) -> None:
    runs = [mlflow_client.create_run(experiment, run_name=name).info.run_id for name in ("a", "b")]
    mlflow_client.delete_run(runs[0])
    with pytest.raises(MlflowException, match="must be in the 'active' state"):
        mlflow_client.set_tag(runs[0], "t", "v")

    def names(view: int) -> set[str]:
        return {run.info.run_name for run in mlflow_client.search_runs([experiment], run_view_type=view)}

    assert (names(ViewType.ACTIVE_ONLY), names(ViewType.DELETED_ONLY)) == ({"b"}, {"a"})
    mlflow_client.restore_run(runs[0])
    mlflow_client.delete_experiment(experiment)
    assert mlflow_client.get_experiment(experiment).lifecycle_stage == "deleted"
    assert names(ViewType.DELETED_ONLY) == {"a", "b"}
    with pytest.raises(MlflowException, match="must be in the 'active' state"):
        mlflow_client.create_run(experiment)
    # At once: the status of MLflow's own server has its client try again for four minutes.
    with pytest.raises(MlflowException, match="Cannot rename a non-active experiment") as refused:
        mlflow_client.rename_experiment(experiment, "other")
    assert code(refused) == "INVALID_STATE"
    mlflow_client.restore_experiment(experiment)
    assert names(ViewType.ACTIVE_ONLY) == {"a", "b"}
    mlflow_client.rename_experiment(experiment, f"renamed-{experiment}")
    mlflow_client.set_experiment_tag(experiment, "owner", "ada")
    found = mlflow_client.get_experiment(experiment)
    assert (found.name, found.tags) == (f"renamed-{experiment}", {"owner": "ada"})
    mlflow_client.update_run(runs[0], status="KILLED", name="c")
    mlflow_client.set_terminated(runs[1], "FAILED", end_time=5_000)
    assert mlflow_client.get_run(runs[0]).info.status == "KILLED"
    assert mlflow_client.get_run(runs[1]).info.end_time == 5_000
    mlflow_client.set_tag(runs[0], "t", 5)
    mlflow_client.delete_tag(runs[0], "t")
    with pytest.raises(MlflowException, match="No tag with name: t") as refused:
        mlflow_client.delete_tag(runs[0], "t")
    assert code(refused) == "RESOURCE_DOES_NOT_EXIST"


def test_runs_as_a_data_frame(uri: str, mlflow_client: MlflowClient, experiment: str) -> None:
    for n in range(5):
        run = mlflow_client.create_run(experiment, run_name=f"run {n}", start_time=1000 + n)
        mlflow_client.log_param(run.info.run_id, "n", n)
        if n != 3:
            mlflow_client.log_metric(run.info.run_id, "f1", n / 10)
    frame = mlflow.search_runs([experiment], filter_string="params.n != '0'", order_by=["metrics.f1 DESC"])
    assert isinstance(frame, pd.DataFrame)
    assert frame["params.n"].tolist() == ["4", "2", "1", "3"]
    assert frame["tags.mlflow.runName"].tolist() == ["run 4", "run 2", "run 1", "run 3"]
    assert frame["metrics.f1"].tolist()[:3] == [0.4, 0.2, 0.1]
    first = mlflow_client.search_runs([experiment], max_results=2)
    rest = mlflow_client.search_runs([experiment], max_results=2, page_token=first.token)
    assert [run.info.run_name for run in [*first, *rest]] == ["run 4", "run 3", "run 2", "run 1"]
    with pytest.raises(MlflowException, match="position 15, expected 'AND'") as refused:
        mlflow.search_runs([experiment], filter_string="metrics.a > 1 OR metrics.b > 1")
    assert code(refused) == "INVALID_PARAMETER_VALUE"


def test_native_runs_are_read_by_mlflow(uri: str, live_service: str) -> None:
    project = f"native {uuid.uuid4().hex}"
    with tunescope.init(project=project, name="mine", config={"model": {"lr": 0.5}}, url=live_service) as run:
        for step in range(10):
            run.log({"loss": 1 / (step + 1)}, step=step)
    frame = mlflow.search_runs(experiment_names=[project])
    row = frame.iloc[0]
    assert (row["run_id"], row["status"], row["params.model.lr"], row["metrics.loss"]) == (
        run.id,
        "FINISHED",
        "0.5",
        0.1,
    )
    assert row["tags.mlflow.runName"] == "mine"
    points = MlflowClient(uri).get_metric_history(run.id, "loss")
    assert [(point.step, point.value) for point in points] == [(n, 1 / (n + 1)) for n in range(10)]


# mlflow 3.17's log_table asks pandas 3 for columns in the manner of pandas 2.
@pytest.mark.filterwarnings("ignore:For backward compatibility, 'str' dtypes")
def test_files_go_up_and_down(uri: str, experiment: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "deep" / "weights.bin").write_bytes(bytes(range(256)) * 1000)
    (folder / "empty").touch()
    mlflow.set_experiment(experiment_id=experiment)
    with mlflow.start_run() as run:
        mlflow.log_artifacts(str(folder), "model")
        mlflow.log_artifact(str(folder / "config.json"))
        mlflow.log_text("grüße", "notes/a b.txt")
        mlflow.log_dict({"a": [1]}, "d.json")
        mlflow.log_table({"q": ["x", "y"], "a": [1, 2]}, "table.json")
    client = MlflowClient(uri)
    assert [(one.path, one.is_dir) for one in client.list_artifacts(run.info.run_id)] == [
        ("config.json", False),
        ("d.json", False),
        ("model", True),
        ("notes", True),
        ("table.json", False),
    ]
    assert [(one.path, one.file_size) for one in client.list_artifacts(run.info.run_id, "model/deep")] == [
        ("model/deep/weights.bin", 256_000)
    ]
    back = Path(client.download_artifacts(run.info.run_id, "model", str(tmp_path)))
    assert (back / "deep" / "weights.bin").read_bytes() == (folder / "deep" / "weights.bin").read_bytes()
    assert (back / "empty").read_bytes() == b""
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/notes/a b.txt") == "grüße"
    assert mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/d.json") == {"a": [1]}
    assert mlflow.load_table("table.json", run_ids=[run.info.run_id])["q"].tolist() == ["x", "y"]


def test_data_sets_of_a_run(mlflow_client: MlflowClient, experiment: str) -> None:
    run_id = mlflow_client.create_run(experiment).info.run_id
    dataset = Dataset("squad", "d1", "hf", "{}", "[]", '{"rows": 3}')
    mlflow_client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    stored = mlflow_client.get_run(run_id).inputs.dataset_inputs
    assert [one.dataset.to_dictionary() for one in stored] == [dataset.to_dictionary()]
    assert [(tag.key, tag.value) for tag in stored[0].tags] == [("mlflow.data.context", "training")]
    found = mlflow_client.search_runs([experiment], "dataset.name = 'squad' and dataset.context = 'training'")
    assert [run.info.run_id for run in found] == [run_id]


def test_system_metrics_arrive(uri: str, experiment: str) -> None:
    mlflow.set_system_metrics_sampling_interval(0.05)
    mlflow.set_system_metrics_samples_before_logging(1)
    try:
        with mlflow.start_run(experiment_id=experiment, log_system_metrics=True) as run:
            deadline = time.monotonic() + 30
            while not mlflow.get_run(run.info.run_id).data.metrics and time.monotonic() < deadline:
                time.sleep(0.05)
        stored = mlflow.get_run(run.info.run_id).data.metrics
    finally:
        mlflow.set_system_metrics_sampling_interval(None)
        mlflow.set_system_metrics_samples_before_logging(None)
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= set(stored)


@pytest.mark.parametrize("way", ["token", "password"])
def test_a_key_is_a_token_or_a_password(way: str, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = LiveService(tmp_path / "data", environment={"TUNESCOPE_AUTH": "true"})
    database = Database(f"sqlite:///{tmp_path}/data/tunescope.db")
    with database.write() as session:
        key = create_key(session, "trainer", ["write"])
    database.close()
    service.start()
    try:
        mlflow.set_tracking_uri(service.url)
        with pytest.raises(MlflowException, match="API key"):
            MlflowClient(service.url).create_experiment("e")
        if way == "token":
            monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", key)
        else:
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "anyone")
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", key)
        with mlflow.start_run() as run:
            mlflow.log_text("hello", "a.txt")
            mlflow.log_metric("m", 1)
        assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/a.txt") == "hello"
    finally:
        service.stop()


@pytest.mark.slow
def test_a_large_file_streams(live: LiveService, tmp_path: Path) -> None:
    """300 MB up and down: more than a body may have, and never in the service's memory."""
    rest = Rest(live.url)
    run_id = rest.post("runs/create", {"experiment_id": "0"})[1]["run"]["info"]["run_id"]
    big = tmp_path / "big.bin"
    with big.open("wb") as handle:
        for n in range(300):
            handle.write(bytes([n % 256]) * 1_000_000)
    assert live.process is not None
    before = psutil.Process(live.process.pid).memory_info().rss
    client = MlflowClient(live.url)
    client.log_artifact(run_id, str(big))
    back = Path(client.download_artifacts(run_id, "big.bin"))
    assert back.read_bytes() == big.read_bytes()
    assert psutil.Process(live.process.pid).memory_info().rss < before + 60e6
