"""What scripts log besides numbers, through the fluent API, and what comes back."""

from __future__ import annotations

import time
from io import BytesIO

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from PIL import Image

from tunescope import Client

# MLflow uses what other packages have deprecated.
pytestmark = pytest.mark.filterwarnings("ignore")


def test_pictures_tables_and_figures(uri: str, experiment: str) -> None:
    from matplotlib.figure import Figure

    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    figure = Figure()
    figure.subplots().plot([1, 2])
    mlflow.set_experiment(experiment_id=experiment)
    with mlflow.start_run() as run:
        mlflow.log_figure(figure, "plots/loss.png")
        mlflow.log_image(pixels, "one.png")
        for step in range(2):
            mlflow.log_image(Image.fromarray(pixels), key="val/dogs", step=step)
        mlflow.log_table({"q": ["a"], "n": [1]}, "table.json")
        mlflow.log_table(pd.DataFrame({"q": ["b"], "n": [2]}), "table.json")
    client = MlflowClient(uri)
    root = {one.path: one.is_dir for one in client.list_artifacts(run.info.run_id)}
    assert root == {"images": True, "one.png": False, "plots": True, "table.json": False}
    assert (np.asarray(mlflow.artifacts.load_image(f"{run.info.artifact_uri}/one.png")) == pixels).all()
    # Of each step of a key the picture and a small copy.
    assert len(client.list_artifacts(run.info.run_id, "images")) == 4
    with Client(uri) as native:
        shown = native.list_media(run.info.run_id)["items"]
        assert [(one["key"], one["step"], one["kind"]) for one in shown] == [
            ("val/dogs", 1, "image"),
            ("val/dogs", 0, "image"),
        ]
        assert (np.asarray(Image.open(BytesIO(native.download_media(shown[0]["id"])))) == pixels).all()
    table = mlflow.load_table("table.json", run_ids=[run.info.run_id], extra_columns=["run_id"])
    assert table.to_dict("list") == {"q": ["a", "b"], "n": [1, 2], "run_id": [run.info.run_id] * 2}
    tags = client.get_run(run.info.run_id).data.tags
    assert tags["mlflow.loggedArtifacts"] == '[{"path": "table.json", "type": "table"}]'
    assert tags["mlflow.loggedImages"] == "True"


def test_data_sets_of_several_kinds_are_found_by_name(uri: str, experiment: str) -> None:
    train = mlflow.data.from_pandas(pd.DataFrame({"x": [1.0], "y": [0]}), source="s3://b/k.csv", name="train")
    test = mlflow.data.from_numpy(np.zeros((3, 2)), name="test")
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_input(train, context="training", tags={"fold": "1"})
        mlflow.log_inputs([train, test], ["training", "eval"], [None, None])
    inputs = MlflowClient(uri).get_run(run.info.run_id).inputs.dataset_inputs
    assert sorted((one.dataset.name, one.dataset.source_type) for one in inputs) == [("test", "code"), ("train", "s3")]
    for query, hits in (
        ("dataset.name = 'train' and dataset.context = 'training'", 1),
        ("dataset.name IN ('test', 'other')", 1),
        ("dataset.context = 'other'", 0),
    ):
        assert len(mlflow.search_runs([experiment], query, output_format="list")) == hits


def test_what_cannot_be_traced_ends_in_a_warning(uri: str, experiment: str) -> None:
    """Traces are not kept: the traced code goes on, at once, and a question about them is answered with why."""

    @mlflow.trace
    def traced(x: int) -> int:
        return x + 1

    began = time.monotonic()
    with mlflow.start_run(experiment_id=experiment) as run:
        assert [traced(n) for n in range(3)] == [1, 2, 3]
    mlflow.flush_trace_async_logging()
    assert time.monotonic() - began < 30
    assert MlflowClient(uri).get_run(run.info.run_id).info.status == "FINISHED"
    with pytest.raises(mlflow.exceptions.RestException, match="does not keep traces"):
        mlflow.search_traces(locations=[experiment])


@pytest.mark.slow
def test_a_table_of_predictions_is_evaluated(uri: str, experiment: str) -> None:
    rows = pd.DataFrame({"truth": [1.0, 2.0, 3.0], "said": [1.0, 2.0, 2.5]})
    with mlflow.start_run(experiment_id=experiment) as run:
        found = mlflow.models.evaluate(data=rows, predictions="said", targets="truth", model_type="regressor")
    stored = MlflowClient(uri).get_run(run.info.run_id)
    assert stored.data.metrics == pytest.approx(found.metrics)
    assert stored.data.metrics["mean_absolute_error"] == pytest.approx(1 / 6)
    assert len(stored.inputs.dataset_inputs) == 1
