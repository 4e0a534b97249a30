"""Every table of the record, and nothing but tables.

Ids that leave the service are time-ordered text (`new_id`); instants are Unix seconds (UTC, float).
Bulk never sits in a row: metric points are packed chunks, items and predictions are Parquet files in
the artifact store, named by their SHA-256.
"""

from service.store.tables.access import ApiKey
from service.store.tables.artifacts import (
    ArtifactAlias,
    ArtifactCollection,
    ArtifactUse,
    ArtifactVersion,
    ArtifactVersionFile,
)
from service.store.tables.bin import OrphanBlob, Purge
from service.store.tables.columns import new_id
from service.store.tables.evaluation import Evaluation, QualityReport, RowSet, Suite
from service.store.tables.experiments import (
    ArmSum,
    BeforeSum,
    Experiment,
    ExperimentChange,
    Exposure,
    GatewayContent,
    GatewayRequest,
    LatencyBin,
    Outcome,
    StickyUnit,
    UnitBefore,
    UnitRollup,
    Upstream,
)
from service.store.tables.forgetting import Audit, AuditEvaluation, Policy, Waiver
from service.store.tables.lineage import Dataset, LoggedModel, LoggedModelFile, LoggedModelMetric, RunDataset, RunModel
from service.store.tables.registry import ModelAlias, ModelVersion, ModelVersionTag, RegisteredModel, RegisteredModelTag
from service.store.tables.review import Judgement, Review, ReviewLease, ReviewTask
from service.store.tables.tracking import (
    Alert,
    Artifact,
    Chunk,
    ConsoleChunk,
    Delivery,
    Media,
    Param,
    Project,
    ProjectTag,
    Run,
    Series,
    Tag,
    Webhook,
    Writer,
)

__all__ = [
    "Alert",
    "ApiKey",
    "ArmSum",
    "Artifact",
    "ArtifactAlias",
    "ArtifactCollection",
    "ArtifactUse",
    "ArtifactVersion",
    "ArtifactVersionFile",
    "Audit",
    "AuditEvaluation",
    "BeforeSum",
    "Chunk",
    "ConsoleChunk",
    "Dataset",
    "Delivery",
    "Evaluation",
    "Experiment",
    "ExperimentChange",
    "Exposure",
    "GatewayContent",
    "GatewayRequest",
    "Judgement",
    "LatencyBin",
    "LoggedModel",
    "LoggedModelFile",
    "LoggedModelMetric",
    "Media",
    "ModelAlias",
    "ModelVersion",
    "ModelVersionTag",
    "OrphanBlob",
    "Outcome",
    "Param",
    "Policy",
    "Project",
    "ProjectTag",
    "Purge",
    "QualityReport",
    "RegisteredModel",
    "RegisteredModelTag",
    "Review",
    "ReviewLease",
    "ReviewTask",
    "RowSet",
    "Run",
    "RunDataset",
    "RunModel",
    "Series",
    "StickyUnit",
    "Suite",
    "Tag",
    "UnitBefore",
    "UnitRollup",
    "Upstream",
    "Waiver",
    "Webhook",
    "Writer",
    "new_id",
]
