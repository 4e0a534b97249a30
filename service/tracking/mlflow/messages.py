"""What clients send to the tracking half of the face. What MLflow names and this service ignores is left out."""

from __future__ import annotations

from typing import Annotated

import msgspec

from service.tracking.mlflow.wire import Int64, RunRequest, Text


class KeyValue(msgspec.Struct):
    """A param or a tag."""

    key: Text
    value: str = ""


class Metric(msgspec.Struct):
    """One point; `timestamp` in milliseconds. The last three say which logged model it was measured on, and on what."""

    key: Text
    value: float
    timestamp: Int64
    step: Int64 = 0
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class CreateRun(msgspec.Struct):
    experiment_id: str = ""
    user_id: str = ""
    run_name: str = ""
    start_time: Int64 | None = None
    tags: list[KeyValue] = []


class UpdateRun(RunRequest):
    status: str | int | None = None
    end_time: Int64 | None = None
    run_name: str = ""


class LogBatch(RunRequest):
    metrics: list[Metric] = msgspec.field(default_factory=list)
    params: list[KeyValue] = msgspec.field(default_factory=list)
    tags: list[KeyValue] = msgspec.field(default_factory=list)


class LogMetric(RunRequest, kw_only=True):
    key: Text
    value: float
    timestamp: Int64
    step: Int64 = 0
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None

    @property
    def metric(self) -> Metric:
        return Metric(
            self.key,
            self.value,
            self.timestamp,
            self.step,
            self.model_id,
            self.dataset_name,
            self.dataset_digest,
        )


class SetKey(RunRequest, kw_only=True):
    """log-parameter and set-tag."""

    key: Text
    value: str = ""


class DeleteKey(RunRequest, kw_only=True):
    key: Text


class SearchRuns(msgspec.Struct):
    experiment_ids: list[str] = []
    filter: str = ""
    run_view_type: str | int = "ACTIVE_ONLY"
    max_results: Int64 = 1000
    order_by: list[str] = []
    page_token: str = ""


class Dataset(msgspec.Struct):
    name: Text
    digest: Text
    source_type: Text
    source: Text
    schema: str | None = None
    profile: str | None = None


class DatasetInput(msgspec.Struct):
    dataset: Dataset
    tags: list[KeyValue] = []


class ModelInput(msgspec.Struct):
    model_id: Text


class LogInputs(RunRequest):
    datasets: list[DatasetInput] = msgspec.field(default_factory=list)
    models: list[ModelInput] = msgspec.field(default_factory=list)


class LogModel(RunRequest, kw_only=True):
    model_json: Text


class GetHistory(RunRequest, kw_only=True):
    metric_key: Text
    max_results: Int64 | None = None
    page_token: str = ""


class GetHistoryBulk(msgspec.Struct):
    run_id: list[str] = []
    metric_key: str = ""
    max_results: Int64 = 25_000


class GetHistoryInterval(msgspec.Struct):
    run_ids: Annotated[list[str], msgspec.Meta(min_length=1)]
    metric_key: Text
    start_step: Int64 | None = None
    end_step: Int64 | None = None
    max_results: Int64 = 2500


class ListArtifacts(RunRequest):
    path: str = ""


class CreateExperiment(msgspec.Struct):
    name: Text
    artifact_location: str = ""
    tags: list[KeyValue] = []


class GetExperiment(msgspec.Struct):
    """Also experiments/delete and /restore."""

    experiment_id: Text


class GetExperimentByName(msgspec.Struct):
    experiment_name: Text


class UpdateExperiment(msgspec.Struct):
    experiment_id: Text
    new_name: Text


class SetExperimentTag(msgspec.Struct):
    experiment_id: Text
    key: Text
    value: str = ""


class DeleteExperimentTag(msgspec.Struct):
    experiment_id: Text
    key: Text


class SearchExperiments(msgspec.Struct):
    # Absent means 0, and 0 is refused: MLflow asks for a number.
    max_results: Int64 = 0
    filter: str = ""
    view_type: str | int = "ACTIVE_ONLY"
    order_by: list[str] = []
    page_token: str = ""


class SearchDatasets(msgspec.Struct):
    experiment_ids: list[str] = []
