"""What suites, evaluations and comparisons look like on the wire."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, with_config
from typing_extensions import TypedDict

from service.evaluation.parsers import ParserName
from service.shapes import Reply
from service.store.tables import Evaluation, Suite

TaskType = Literal[
    "classification",
    "multi_label",
    "multiple_choice",
    "generation",
    "summarisation",
    "translation",
    "extractive_qa",
    "language_modelling",
]


def _storable(value: dict[str, Any]) -> dict[str, Any]:
    """Refuses what JSON cannot hold: NaN, infinities, halves of characters."""
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    return value


def _of_pairs(value: Any) -> Any:
    """A map of Parquet comes as pairs."""
    if isinstance(value, list) and all(isinstance(one, tuple) and len(one) == 2 for one in value):
        return dict(value)
    return value


def _of_json(value: Any) -> Any:
    """An object given as JSON text; any other text is what it is."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        return json.loads(value)
    return value


Json = Annotated[dict[str, Any], AfterValidator(_storable)]
Name = Annotated[str, Field(min_length=1, max_length=250, pattern=r"^[^\x00-\x1f]+$")]
# A bound on the length has halves of characters (lone surrogates) refused too, which no file could hold.
Text = Annotated[str, Field(max_length=10_000_000)]
ItemId = Annotated[str, Field(min_length=1, max_length=500)]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(lt=2**53)]
Samples = Annotated[int, Field(le=1_000_000)]


@with_config(ConfigDict(extra="forbid"))
class SuiteItem(TypedDict):
    """A dictionary and not a model: a suite may hold a million of these."""

    id: ItemId
    input: Text
    label: NotRequired[Text | None]
    labels: NotRequired[
        Annotated[list[Text] | None, Field(description="Every true label of a multi-label item; `[]`: it has none.")]
    ]
    references: NotRequired[list[Text] | None]
    group: NotRequired[Text | None]
    tags: NotRequired[list[Text] | None]


class SuiteDefinition(BaseModel):
    """All of a suite but its items."""

    model_config = ConfigDict(extra="forbid")
    name: Name
    task_type: TaskType
    metrics: list[str] | None = Field(
        None,
        description="Names of metrics; every item and every prediction carries what each of them reads. Only scores of "
        "labels may be absent from all predictions of an evaluation, unless the primary metric reads them: the metrics "
        "that do have no value then. Absent: those that are usual for the task type.",
    )
    primary_metric: str | None = Field(None, description="The metric of verdicts and slices; absent: the first.")
    template: Text | None = Field(None, description="The prompt template the items are asked with.")
    parser: ParserName | Json | None = Field(
        None,
        description="How an output becomes an answer: a name the service applies where a prediction has no "
        "`parsed`, or a description of what the client does.",
    )
    labels: list[Text] | None = Field(
        None,
        description="The only answers there are, for a suite of labels. Metrics of scores and of sets of labels take "
        "them for their classes, sorted; absent: the labels that the items have.",
    )
    description: Text | None = None


class SuiteCreate(SuiteDefinition):
    items: list[SuiteItem]


class SuiteFile(SuiteDefinition):
    """A definition as query parameters: lists repeated, objects as JSON."""

    parser: Annotated[ParserName | Json | None, BeforeValidator(_of_json)] = Field(
        None, description="A name, or an object as JSON."
    )


class SuiteOut(Reply):
    id: str
    name: str
    version: int
    hash: str = Field(description="SHA-256 of the definition and the items.")
    task_type: str
    n_items: int
    definition: dict[str, Any] = Field(description="metrics, primary_metric, template, parser, labels, description.")
    created_at: float

    @classmethod
    def of(cls, suite: Suite) -> SuiteOut:
        return cls.model_validate(suite.model_dump(exclude={"items_sha256"}))


class SuiteItemOut(Reply):
    id: str
    input: str
    label: str | None
    labels: list[str] | None = Field(None, description="Of a multi-label item.")
    references: list[str]
    group: str | None
    tags: list[str]


@with_config(ConfigDict(extra="forbid"))
class Prediction(TypedDict):
    """An answer to one item: a text (`output`), or what the suite's metrics read instead of one, or both.

    With none of it, or `output` null, the model produced nothing. `parsed` null: no answer could be read out of the
    output. `parsed` absent: the suite's parser reads the output, or the output is the answer; without an output it is
    the label of highest score."""

    id: ItemId
    output: NotRequired[Text | None]
    parsed: NotRequired[Text | None]
    probability: NotRequired[
        Annotated[Probability | None, Field(description="How sure the model is of its answer, 0 to 1.")]
    ]
    label_scores: NotRequired[
        Annotated[
            dict[Text, Finite] | None,
            BeforeValidator(_of_pairs),
            Field(
                description="A number for each label: roc_auc, average_precision and top_k_accuracy read it, and "
                "log_loss, brier_score and ece, for which they are probabilities that add up to 1. In Parquet a map or "
                "a struct.",
            ),
        ]
    ]
    predicted_labels: NotRequired[
        Annotated[list[Text] | None, Field(description="Any number of labels, for metrics of multi-label items.")]
    ]
    nll: NotRequired[
        Annotated[
            float | None,
            Field(
                ge=0,
                le=1e12,
                allow_inf_nan=False,
                description="Negative log-likelihood of the item's text in nats, summed over its tokens: perplexity "
                "and bits_per_byte read it. The text is the item's reference, else its input.",
            ),
        ]
    ]
    n_tokens: NotRequired[
        Annotated[Count | None, Field(ge=1, description="Tokens that `nll` is summed over; perplexity reads it.")]
    ]
    n_bytes: NotRequired[
        Annotated[
            Count | None,
            Field(ge=1, description="Bytes that `nll` is of, for bits_per_byte; absent: those of the text in UTF-8."),
        ]
    ]
    n_samples: NotRequired[Annotated[Samples | None, Field(ge=1, description="Answers sampled, for pass_at_k.")]]
    n_correct: NotRequired[Annotated[Samples | None, Field(ge=0, description="How many of the samples are right.")]]


class EvaluationFields(BaseModel):
    """All of an evaluation but its predictions."""

    model_config = ConfigDict(extra="forbid")
    id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = Field(
        None,
        description="An id of your own, 32 hex digits: sent again with the same predictions, it answers 200 with what "
        "is stored.",
    )
    suite_id: str
    run_id: str | None = None
    model_version_id: str | None = None
    step: int | None = Field(None, ge=0, lt=2**63)
    name: Name | None = None
    settings: Json = Field(
        default_factory=dict, description="How the answers were made: decoding, few-shot, precision, batch size, …"
    )


class EvaluationCreate(EvaluationFields):
    predictions: list[Prediction]


class EvaluationFile(EvaluationFields):
    """The same as query parameters."""

    settings: Annotated[Json, BeforeValidator(_of_json)] = Field(
        default_factory=dict, description="How the answers were made, an object as JSON."
    )


class ScoreOut(Reply):
    name: str
    value: float | None = Field(
        description="Null where the metric is undefined or the answers carry nothing it reads; `reason` says why."
    )
    interval: tuple[float, float] | None
    confidence: float
    n: int
    n_missing: int
    method: str | None = Field(description="How the interval was made.")
    seed: int | None
    signature: str = Field(description="Everything that can alter the score, library versions included.")
    reason: str | None
    higher_is_better: bool


class SuiteRef(Reply):
    name: str
    version: int
    hash: str
    task_type: str


class EvaluationOut(Reply):
    id: str
    suite_id: str
    suite: SuiteRef
    run_id: str | None
    model_version_id: str | None
    step: int | None
    name: str | None
    n: int
    n_missing: int = Field(
        description="Items with no answer; they count as wrong, and metrics of likelihoods leave them out."
    )
    n_unparsed: int = Field(description="Items with an output but no readable answer; they count as wrong.")
    scores: list[ScoreOut]
    settings: dict[str, Any]
    prediction_hash: str
    created_at: float

    @classmethod
    def of(cls, evaluation: Evaluation, suite: Suite) -> EvaluationOut:
        row = evaluation.model_dump(exclude={"items_sha256"})
        return cls.model_validate({**row, "suite": suite.model_dump(include=set(SuiteRef.model_fields))})


class EvaluationItem(SuiteItemOut):
    output: str | None
    parsed: str | None
    probability: float | None
    label_scores: dict[str, float] | None = Field(None, description="A number for each label, as it was sent.")
    predicted_labels: list[str] | None = None
    nll: float | None = Field(None, description="Nats.")
    n_tokens: int | None = None
    n_bytes: int | None = None
    n_samples: int | None = None
    n_correct: int | None = None
    correct: bool | None = Field(description="Null where no metric of the suite says right or wrong.")
    scores: dict[str, float] = Field(description="The item's own score, for metrics that have one.")


class ClassScoreOut(Reply):
    """A rate and its interval are null where nothing has the class or was predicted it."""

    label: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int = Field(description="Items that have the class.")
    predicted: int = Field(description="Items that were predicted it.")
    precision_interval: tuple[float, float] | None = Field(description="95 %, Wilson.")
    recall_interval: tuple[float, float] | None = Field(description="95 %, Wilson.")
    f1_interval: tuple[float, float] | None = Field(
        description="95 %: F1 is 2J/(1+J) with J the share of hits among the items that have the class or were "
        "predicted it; Wilson for J."
    )


class ClassScoreList(Reply):
    items: list[ClassScoreOut] = Field(description="The lowest F1 first.")
    next_cursor: None = None


class ConfusedPair(Reply):
    true: str
    predicted: str
    n: int
    items: list[str] = Field(description="Ids of the first five; the items' `true` and `predicted` find all.")


class Confusion(Reply):
    labels: list[str]
    counts: list[list[int]]
    rows: Literal["true"] = "true"
    unanswered: list[int] = Field(description="By true label: items missing or unparsed, in no column of `counts`.")
    classes: list[ClassScoreOut]
    most_confused: list[ConfusedPair] = Field(description="The ten largest cells off the diagonal.")


class CalibrationBinOut(Reply):
    """Answers with a probability in [low, high)."""

    low: float
    high: float
    n: int
    confidence: float = Field(description="Their mean probability.")
    accuracy: float = Field(description="The share of them that is right.")
    interval: tuple[float, float] = Field(description="Of the accuracy, 95 %, Wilson.")


class Calibration(Reply):
    bins: list[CalibrationBinOut] = Field(description="Of 15 equally wide ones, those with items, from low to high.")
    ece: float | None = Field(description="Expected calibration error; null where `reason` says why.")
    interval: tuple[float, float] | None
    n: int = Field(description="Items with a probability and a right or wrong.")
    n_without: int = Field(description="The other items: they are in no bin.")
    method: str | None = Field(description="How the interval was made.")
    reason: str | None = Field(description="no_probabilities, not_right_or_wrong, or why there is no interval.")


class Slice(Reply):
    slice: str = Field(description="'(none)': the items without a group, tag or label.")
    n: int
    value: float | None
    interval: tuple[float, float] | None
    reason: str | None


class SuitePage(Reply):
    items: list[SuiteOut]
    next_cursor: str | None


class SuiteItemPage(Reply):
    items: list[SuiteItemOut]
    next_cursor: str | None


class EvaluationPage(Reply):
    items: list[EvaluationOut]
    next_cursor: str | None


class EvaluationItemPage(Reply):
    items: list[EvaluationItem]
    next_cursor: str | None


class SliceList(Reply):
    metric: str
    items: list[Slice] = Field(description="Worst first.")
    next_cursor: None = None
