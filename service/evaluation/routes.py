"""The evaluation API: suites, evaluations, the items behind them, comparisons."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import ConfigDict, TypeAdapter
from sqlmodel import Session

from service.auth import require
from service.dependencies import Blobs, ReadSession, ServiceDatabase, ServiceSettings
from service.evaluation import calibration, comparison, items, scoring
from service.evaluation import slices as slicing
from service.evaluation import suites as suite_rules
from service.evaluation.comparison_schemas import (
    ComparisonItemPage,
    ConfigurationCard,
    SeveralCard,
    VerdictCard,
)
from service.evaluation.schemas import (
    Calibration,
    ClassScoreList,
    Confusion,
    EvaluationCreate,
    EvaluationFields,
    EvaluationFile,
    EvaluationItemPage,
    EvaluationOut,
    EvaluationPage,
    Prediction,
    SliceList,
    SuiteCreate,
    SuiteDefinition,
    SuiteFile,
    SuiteItem,
    SuiteItemPage,
    SuiteOut,
    SuitePage,
)
from service.evaluation.uploads import TYPES, Rows, checked, file_type, one_at_a_time, pieces, spooled
from service.measure.comparison import CorpusTest
from service.store import evaluations, records, suites
from service.store.blobs import BlobStore
from service.store.database import Database
from service.store.tables import Evaluation, Suite

router = APIRouter(prefix="/api/v1")
READ = [Depends(require("read"))]
WRITE = [Depends(require("write"))]
EVALUATE = [Depends(require("evaluate"))]

SUITE_ITEMS = TypeAdapter(list[SuiteItem], config=ConfigDict(defer_build=True))
PREDICTIONS = TypeAdapter(list[Prediction], config=ConfigDict(defer_build=True))
FILE = {
    "requestBody": {
        "required": True,
        "content": {name: {"schema": {"type": "string", "format": "binary"}} for name in TYPES},
    }
}

Limit = Annotated[int, Query(ge=1, le=1000)]
Confidence = Annotated[float, Query(gt=0, lt=1)]
Margin = Annotated[
    float, Query(ge=0, allow_inf_nan=False, description="In the metric's unit: 0.01 is one point of accuracy.")
]
Several = Annotated[list[str], Query(min_length=1, max_length=50, description="Ids of evaluations, repeated.")]
Metric = Annotated[str | None, Query(description="Absent: the suite's primary metric.")]
Test = Annotated[
    CorpusTest,
    Query(
        description="How metrics of the whole set, such as BLEU, are tested: by paired bootstrap, or by approximate "
        "randomisation (10,000 trials, 1,000 of rankings), both as sacrebleu's for texts. The interval is the "
        "bootstrap's either way. Metrics of single items have one test each. The card's `test` names what was done."
    ),
]


@router.post("/suites", tags=["suites"], dependencies=WRITE, status_code=201)
def create_suite(wanted: SuiteCreate, database: ServiceDatabase, blobs: Blobs, response: Response) -> SuiteOut:
    """Store a suite. The same content again answers 200 with the version there is; a change is the next version."""
    return _add_suite(wanted, pieces(wanted.items), database, blobs, response)


@router.post("/suites/file", tags=["suites"], dependencies=WRITE, status_code=201, openapi_extra=FILE)
async def create_suite_of_file(
    wanted: Annotated[SuiteFile, Query()],
    request: Request,
    database: ServiceDatabase,
    blobs: Blobs,
    settings: ServiceSettings,
    response: Response,
) -> SuiteOut:
    """Store a suite whose items are the request's body: JSON lines or Parquet, of any number of rows.

    A row is an item as in `POST /suites`: `id`, `input`, and `label`, `labels`, `references`, `group`, `tags` where it
    has them.
    A cut upload stores nothing.
    """
    kind = file_type(request.headers.get("content-type", ""))
    with await spooled(request, blobs, settings.max_evaluation_file_bytes) as file:
        rows = checked(file, kind, SUITE_ITEMS)
        return await one_at_a_time(_add_suite, wanted, rows, database, blobs, response)


@router.get("/suites", tags=["suites"], dependencies=READ)
def list_suites(
    session: ReadSession, name: str | None = None, limit: Limit = 100, cursor: str | None = None
) -> SuitePage:
    """Suites, newest first; every version is one."""
    found, next_cursor = suites.page(session, name=name, limit=limit, cursor=cursor)
    return SuitePage(items=[SuiteOut.of(suite) for suite in found], next_cursor=next_cursor)


@router.get("/suites/{suite_id}", tags=["suites"], dependencies=READ)
def get_suite(suite_id: str, session: ReadSession) -> SuiteOut:
    """One suite version."""
    return SuiteOut.of(suite_rules.existing(session, suite_id))


@router.get("/suites/{suite_id}/items", tags=["suites"], dependencies=READ)
def list_suite_items(
    suite_id: str, session: ReadSession, blobs: Blobs, limit: Limit = 100, cursor: str | None = None
) -> SuiteItemPage:
    """The items of a suite, in order."""
    return items.of_suite(suite_rules.existing(session, suite_id), blobs, limit, cursor)


@router.post("/evaluations", tags=["evaluations"], dependencies=EVALUATE, status_code=201)
def create_evaluation(
    wanted: EvaluationCreate, database: ServiceDatabase, blobs: Blobs, response: Response
) -> EvaluationOut:
    """Score predictions on a suite. They are joined by item id; an item without one counts as missing, and wrong.

    A prediction that answers carries what every metric of the suite reads: an `output`, `label_scores`,
    `predicted_labels`, `nll` (with `n_tokens` for perplexity), `n_samples` and `n_correct`.
    """
    return _add_evaluation(wanted, pieces(wanted.predictions), database, blobs, response)


@router.post("/evaluations/file", tags=["evaluations"], dependencies=EVALUATE, status_code=201, openapi_extra=FILE)
async def create_evaluation_of_file(
    wanted: Annotated[EvaluationFile, Query()],
    request: Request,
    database: ServiceDatabase,
    blobs: Blobs,
    settings: ServiceSettings,
    response: Response,
) -> EvaluationOut:
    """Score predictions that are the request's body: JSON lines or Parquet, of any number of rows and in any order.

    A row is a prediction as in `POST /evaluations`: `id`, `output`, and the other fields where it has them (in Parquet,
    where there is such a column). A cut upload stores nothing.
    """
    kind = file_type(request.headers.get("content-type", ""))
    with await spooled(request, blobs, settings.max_evaluation_file_bytes) as file:
        rows = checked(file, kind, PREDICTIONS)
        return await one_at_a_time(_add_evaluation, wanted, rows, database, blobs, response)


@router.get("/evaluations", tags=["evaluations"], dependencies=READ)
def list_evaluations(
    session: ReadSession,
    run_id: Annotated[list[str] | None, Query(max_length=1000, description="One or several runs, repeated.")] = None,
    suite_id: str | None = None,
    suite: Annotated[str | None, Query(description="A suite's name: all its versions.")] = None,
    model_version_id: str | None = None,
    limit: Limit = 100,
    cursor: str | None = None,
) -> EvaluationPage:
    """Evaluations, newest first."""
    found, next_cursor = evaluations.page(
        session,
        run_ids=run_id,
        suite_id=suite_id,
        suite=suite,
        model_version_id=model_version_id,
        limit=limit,
        cursor=cursor,
    )
    by_id = evaluations.suites_of(session, found)
    return EvaluationPage(items=[EvaluationOut.of(one, by_id[one.suite_id]) for one in found], next_cursor=next_cursor)


@router.get("/evaluations/{evaluation_id}", tags=["evaluations"], dependencies=READ)
def get_evaluation(evaluation_id: str, session: ReadSession) -> EvaluationOut:
    """One evaluation with its scores."""
    return EvaluationOut.of(*_existing(session, evaluation_id))


@router.get("/evaluations/{evaluation_id}/items", tags=["evaluations"], dependencies=READ)
def list_evaluation_items(
    evaluation_id: str,
    session: ReadSession,
    blobs: Blobs,
    correct: bool | None = None,
    tag: str | None = None,
    group: str | None = None,
    true: Annotated[str | None, Query(description="The item's label.")] = None,
    predicted: Annotated[str | None, Query(description="The parsed answer.")] = None,
    limit: Limit = 100,
    cursor: str | None = None,
) -> EvaluationItemPage:
    """Items with the model's answers, in the suite's order; all given conditions hold."""
    wanted = items.Filter(correct=correct, tag=tag, group=group, true=true, predicted=predicted)
    return items.of_evaluation(*_existing(session, evaluation_id), blobs, wanted, limit, cursor)


@router.get("/evaluations/{evaluation_id}/confusion", tags=["evaluations"], dependencies=READ)
def get_confusion(evaluation_id: str, session: ReadSession, blobs: Blobs) -> Confusion:
    """The confusion matrix of a label suite, the scores of each class, and the pairs most confused."""
    return items.confusion(*_existing(session, evaluation_id), blobs)


@router.get("/evaluations/{evaluation_id}/classes", tags=["evaluations"], dependencies=READ)
def get_classes(evaluation_id: str, session: ReadSession, blobs: Blobs) -> ClassScoreList:
    """Precision, recall and F1 of each class with their intervals, the lowest F1 first; of multi-label items too."""
    return items.classes(*_existing(session, evaluation_id), blobs)


@router.get("/evaluations/{evaluation_id}/calibration", tags=["evaluations"], dependencies=READ)
def get_calibration(evaluation_id: str, session: ReadSession, blobs: Blobs) -> Calibration:
    """How often answers of each confidence are right (the calibration curve), and the expected calibration error."""
    return calibration.calibration(evaluations.existing(session, evaluation_id), blobs)


@router.get("/evaluations/{evaluation_id}/slices", tags=["evaluations"], dependencies=READ)
def get_slices(
    evaluation_id: str, session: ReadSession, blobs: Blobs, by: slicing.By, metric: Metric = None
) -> SliceList:
    """One metric on each group, tag, label or quarter of input lengths, worst first."""
    return slicing.slices(*_existing(session, evaluation_id), blobs, by, metric)


@router.get("/comparisons", tags=["comparisons"], dependencies=READ)
def compare(
    session: ReadSession,
    blobs: Blobs,
    baseline: str,
    candidate: str,
    metric: Metric = None,
    margin: Margin = 0.0,
    confidence: Confidence = 0.95,
    test: Test = "bootstrap",
) -> VerdictCard:
    """Is the candidate better than the baseline? Two evaluation ids of the same suite version."""
    before, after = (evaluations.existing(session, one) for one in (baseline, candidate))
    return comparison.verdict_card(
        session, blobs, before, after, metric=metric, margin=margin, confidence=confidence, test=test
    )


@router.get("/comparisons/several", tags=["comparisons"], dependencies=READ)
def compare_several(
    session: ReadSession,
    blobs: Blobs,
    baseline: str,
    candidate: Several,
    metric: Metric = None,
    margin: Margin = 0.0,
    confidence: Confidence = 0.95,
    test: Test = "bootstrap",
) -> SeveralCard:
    """Which candidates are better than the baseline? Verdicts go by p-values adjusted for their number (Holm)."""
    before = evaluations.existing(session, baseline)
    after = [evaluations.existing(session, one) for one in candidate]
    return comparison.several(
        session, blobs, before, after, metric=metric, margin=margin, confidence=confidence, test=test
    )


@router.get("/comparisons/configurations", tags=["comparisons"], dependencies=READ)
def compare_configurations(
    session: ReadSession,
    blobs: Blobs,
    baseline: Several,
    candidate: Several,
    metric: Metric = None,
    margin: Margin = 0.0,
    confidence: Confidence = 0.95,
) -> ConfigurationCard:
    """Is a configuration better than another, whatever the seed? Evaluations of each one's runs with several seeds.

    Mean and spread of each, and the difference of means with an interval over items and seeds.
    """
    before, after = ([evaluations.existing(session, one) for one in ids] for ids in (baseline, candidate))
    return comparison.configurations(session, blobs, before, after, metric=metric, margin=margin, confidence=confidence)


@router.get("/comparisons/items", tags=["comparisons"], dependencies=READ)
def list_changed_items(
    session: ReadSession,
    blobs: Blobs,
    baseline: str,
    candidate: str,
    kind: Literal["lost", "gained"],
    metric: Metric = None,
    limit: Limit = 100,
    cursor: str | None = None,
) -> ComparisonItemPage:
    """The items that the candidate lost or gained, with both outputs, the largest change first."""
    before, after = (evaluations.existing(session, one) for one in (baseline, candidate))
    return comparison.changed_items(session, blobs, before, after, kind=kind, metric=metric, limit=limit, cursor=cursor)


def _add_suite(
    wanted: SuiteDefinition, rows: Iterable[Rows[SuiteItem]], database: Database, blobs: BlobStore, response: Response
) -> SuiteOut:
    built = suite_rules.build(wanted, rows, blobs)
    with database.write() as session:
        suite, new = suites.add(session, built)
        response.status_code = 201 if new else 200
        return SuiteOut.of(suite)


def _add_evaluation(
    wanted: EvaluationFields,
    rows: Iterable[Rows[Prediction]],
    database: Database,
    blobs: BlobStore,
    response: Response,
) -> EvaluationOut:
    with database.read() as session:
        suite = suite_rules.existing(session, wanted.suite_id)
        records.check_links(session, wanted.run_id, wanted.model_version_id)
    scored = scoring.evaluate(suite, wanted, rows, blobs)
    with database.write() as session:
        evaluation, new = evaluations.add(session, scored)
        response.status_code = 201 if new else 200
        return EvaluationOut.of(evaluation, suite)


def _existing(session: Session, evaluation_id: str) -> tuple[Evaluation, Suite]:
    evaluation = evaluations.existing(session, evaluation_id)
    return evaluation, evaluations.suites_of(session, [evaluation])[evaluation.suite_id]
