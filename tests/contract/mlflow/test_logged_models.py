"""Logged models through the real client: what `log_model`, autologging and the Trainer save, and what loads again."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow.entities import LoggedModelStatus, Metric
from mlflow.exceptions import MlflowException
from sklearn.linear_model import LogisticRegression

from tunescope import Client

# What the client thinks of its own wrappers' type hints.
pytestmark = pytest.mark.filterwarnings("ignore:.*type hint:UserWarning")
# With its requirements given, the client does not start a process to find them out.
PICKLED = {"serialization_format": "cloudpickle", "pip_requirements": ["scikit-learn"]}
X, Y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1])


@pytest.fixture
def fitted() -> LogisticRegression:
    return LogisticRegression().fit(X, Y)


def test_a_model_is_logged_registered_and_loaded(
    uri: str, mlflow_client: mlflow.MlflowClient, experiment: str, fitted: LogisticRegression
) -> None:
    name = f"clf-{uuid.uuid4().hex}"
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_params({"C": 1.0})
        info = mlflow.sklearn.log_model(
            fitted, name="clf", registered_model_name=name, **PICKLED, tags={"a": "b"}, step=3
        )
    model = mlflow.get_logged_model(info.model_id)
    assert (model.name, model.status, model.source_run_id) == ("clf", LoggedModelStatus.READY, run.info.run_id)
    assert model.artifact_location == f"mlflow-artifacts:/{experiment}/models/{info.model_id}/artifacts"
    assert (model.params, model.tags["a"]) == ({"C": "1.0"}, "b")
    outputs = mlflow_client.get_run(run.info.run_id).outputs.model_outputs
    assert [(output.model_id, output.step) for output in outputs] == [(info.model_id, 3)]
    version = mlflow_client.get_model_version(name, "1")
    assert (version.source, version.run_id) == (f"models:/{info.model_id}", run.info.run_id)
    assert mlflow_client.get_model_version_download_uri(name, "1") == model.artifact_location
    # The service notes it, and so does the client, without looking.
    noted = json.loads(model.tags["mlflow.modelVersions"])
    assert {(found["name"], found["version"]) for found in noted} == {(name, "1")}
    for address in (info.model_uri, f"models:/{name}/1", f"runs:/{run.info.run_id}/clf"):
        assert mlflow.sklearn.load_model(address).predict(X).tolist() == [0, 0, 1, 1]
    assert mlflow.pyfunc.load_model(info.model_uri).predict(X).tolist() == [0, 0, 1, 1]
    with Client(uri) as native:
        newest = native.get_model(name)["latest"]
        assert (newest["logged_model_id"], newest["run_id"]) == (info.model_id, run.info.run_id)
        made = native.run_links(run.info.run_id)["logged_models"]
        assert [(link["id"], link["role"], link["step"]) for link in made] == [(info.model_id, "output", 3)]


def test_a_native_version_of_a_logged_model_loads(uri: str, experiment: str, fitted: LogisticRegression) -> None:
    name = f"clf-{uuid.uuid4().hex}"
    with mlflow.start_run(experiment_id=experiment):
        info = mlflow.sklearn.log_model(fitted, name="clf", **PICKLED)
    with Client(uri) as native:
        native.register_model(name, logged_model_id=info.model_id, aliases=["champion"])
    loaded = mlflow.sklearn.load_model(f"models:/{name}@champion")
    assert loaded.predict(X).tolist() == [0, 0, 1, 1]


def test_a_python_model_comes_back(uri: str, experiment: str) -> None:
    class Doubles(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: list[float], params: Any = None) -> list[float]:
            return [2 * value for value in model_input]

    with mlflow.start_run(experiment_id=experiment):
        info = mlflow.pyfunc.log_model(name="doubles", python_model=Doubles(), pip_requirements=["mlflow"])
    assert mlflow.pyfunc.load_model(info.model_uri).predict([1.0, 2.5]) == [2.0, 5.0]


def test_params_tags_status_and_deletion(mlflow_client: mlflow.MlflowClient, experiment: str) -> None:
    many = {f"p{number}": str(number) for number in range(250)}
    made = mlflow_client.create_logged_model(experiment, name="m", params=many, tags={"a": "1"}, model_type="agent")
    assert (made.status, made.model_type, made.params) == (LoggedModelStatus.PENDING, "agent", many)
    mlflow_client.log_model_params(made.model_id, {"more": "yes"})
    mlflow_client.set_logged_model_tags(made.model_id, {"a": "2", "b/c": "3"})
    mlflow_client.delete_logged_model_tag(made.model_id, "b/c")
    done = mlflow_client.finalize_logged_model(made.model_id, "FAILED")
    assert (done.status, done.tags, done.params["more"]) == (LoggedModelStatus.FAILED, {"a": "2"}, "yes")
    assert done.last_updated_timestamp >= done.creation_timestamp == made.creation_timestamp
    with pytest.raises(MlflowException, match="No tag with key 'b/c'"):
        mlflow_client.delete_logged_model_tag(made.model_id, "b/c")
    mlflow_client.delete_logged_model(made.model_id)
    with pytest.raises(MlflowException, match=f"Logged model with ID '{made.model_id}' not found"):
        mlflow_client.get_logged_model(made.model_id)
    assert mlflow_client.search_logged_models([experiment]) == []
    for bad in ("a/b", "a.b", "a:b"):
        with pytest.raises(MlflowException, match="Invalid model name"):
            mlflow_client.create_logged_model(experiment, name=bad)
    assert mlflow_client.create_logged_model(experiment).name


def test_metrics_of_models_are_searched(mlflow_client: mlflow.MlflowClient, experiment: str) -> None:
    run = mlflow_client.create_run(experiment).info.run_id
    for name, score in (("low", 0.1), ("high", 0.9)):
        made = mlflow_client.create_logged_model(experiment, name=name)
        mlflow_client.log_batch(run, metrics=[Metric("f1", score, 1000, 0, made.model_id, "mail", "d1")])
        mlflow_client.log_metric(run, "speed", 3.0, model_id=made.model_id)
    (best,) = mlflow_client.search_logged_models([experiment], "metrics.f1 > 0.5", datasets=[{"dataset_name": "mail"}])
    assert [(m.key, m.value, m.dataset_name, m.dataset_digest, m.run_id) for m in best.metrics] == [
        ("f1", 0.9, "mail", "d1", run),
        ("speed", 3.0, None, None, run),
    ]
    order = [{"field_name": "metrics.f1", "ascending": False}]
    first = mlflow_client.search_logged_models([experiment], order_by=order, max_results=1)
    rest = mlflow_client.search_logged_models([experiment], order_by=order, max_results=1, page_token=first.token)
    assert ([model.name for model in [*first, *rest]], rest.token) == (["high", "low"], None)


def test_a_model_is_an_input_of_another_run(mlflow_client: mlflow.MlflowClient, experiment: str) -> None:
    made = mlflow_client.create_logged_model(experiment, name="m")
    run = mlflow_client.create_run(experiment).info.run_id
    mlflow_client.log_inputs(run, models=[mlflow.entities.LoggedModelInput(made.model_id)])
    assert [found.model_id for found in mlflow_client.get_run(run).inputs.model_inputs] == [made.model_id]
    with pytest.raises(MlflowException, match="not found"):
        mlflow_client.log_outputs(run, [mlflow.entities.LoggedModelOutput("m-none", 0)])
    mlflow_client.delete_run(run)
    with pytest.raises(MlflowException, match="must be in the 'active' state"):
        mlflow_client.log_outputs(run, [mlflow.entities.LoggedModelOutput(made.model_id, 0)])


def test_files_of_a_model_are_listed(mlflow_client: mlflow.MlflowClient, experiment: str, tmp_path: Path) -> None:
    made = mlflow_client.create_logged_model(experiment, name="m")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "part.bin").write_bytes(b"12345")
    (tmp_path / "MLmodel").write_text("flavors: {}")
    mlflow_client.log_model_artifacts(made.model_id, str(tmp_path))
    listed = {
        file.path: (file.is_dir, file.file_size) for file in mlflow_client.list_logged_model_artifacts(made.model_id)
    }
    assert listed == {"MLmodel": (False, 11), "weights": (True, None)}
    below = mlflow_client.list_logged_model_artifacts(made.model_id, "weights")
    assert [(file.path, file.file_size) for file in below] == [("weights/part.bin", 5)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # autologging warns of versions of its own
def test_autologging_saves_the_model(uri: str, mlflow_client: mlflow.MlflowClient, experiment: str) -> None:
    mlflow.sklearn.autolog(serialization_format="cloudpickle")
    try:
        with mlflow.start_run(experiment_id=experiment) as run:
            LogisticRegression(C=0.5).fit(X, Y)
    finally:
        mlflow.sklearn.autolog(disable=True)
    read = mlflow_client.get_run(run.info.run_id)
    assert read.data.params["C"] == "0.5"
    assert read.data.metrics["training_accuracy_score"] == 1.0
    (model,) = mlflow.search_logged_models([experiment], output_format="list")
    assert (model.source_run_id, model.status) == (run.info.run_id, LoggedModelStatus.READY)
    assert mlflow.sklearn.load_model(model.model_uri).predict(X).tolist() == [0, 0, 1, 1]
