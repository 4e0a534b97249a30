"""A review ends, and what people said becomes evaluations like any other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlmodel import Session

from service.evaluation import reviews
from service.evaluation.predictions import hash_of
from service.evaluation.review_results import SEED, Counted, count, rated_rows, ratings
from service.evaluation.review_schemas import ReviewOut
from service.measure.metric import FloatArray, Metric
from service.measure.score import score
from service.store import evaluations, suites
from service.store import reviews as store
from service.store.blobs import BlobStore
from service.store.database import Database
from service.store.tables import Evaluation, Review, Suite


def close(database: Database, blobs: BlobStore, review_id: str) -> ReviewOut:
    """Nothing is judged any more. Closing twice is closing once."""
    while True:
        with database.read() as session:
            review = store.existing(session, review_id)
            number = store.last_number(session, review_id)
            counted = count(session, blobs, review)
        left = None if review.closed_at is not None else left_behind(blobs, review, counted)
        with database.write() as session:
            review = store.existing(session, review_id, lock=True)
            if review.closed_at is None:
                if store.last_number(session, review_id) != number:
                    continue  # someone judged meanwhile
                review.closed_at = time.time()
                review.outcome = None if left is None else _stored(session, counted.votes.ids, *left)
                session.flush()
            return reviews.shown(session, [review])[0]


def _stored(session: Session, ids: list[str], suite: Suite, made: list[Evaluation]) -> dict[str, object]:
    suite, _ = suites.add(session, suite)
    by_id: dict[str, str] = {}
    for rated, evaluation in zip(ids, made, strict=True):
        evaluation.suite_id = suite.id
        by_id[rated] = evaluations.add(session, evaluation)[0].id
    return {"suite_id": suite.id, "evaluations": by_id}


def left_behind(blobs: BlobStore, review: Review, counted: Counted) -> tuple[Suite, list[Evaluation]] | None:
    """A rating review as a suite of its items, and an evaluation for each that was rated, scored by what people said.

    So comparisons, slices, flips and audits work on human judgement as on any score. None: pairwise, or no item was
    rated for all of the evaluations.
    """
    votes, rows = counted.votes, rated_rows(counted.votes)
    if review.kind != "rating" or not len(rows):
        return None
    metric, statistics = ratings(votes, rows)
    items = store.read_items(blobs, review).take(rows).to_pylist()
    outputs = [item.pop("outputs") for item in items]
    definition = {
        "metrics": [metric.name],
        "primary_metric": metric.name,
        "template": counted.suite.definition["template"],
        "parser": None,
        "labels": None,
        "description": f"What people said in the review '{review.name}' version {review.version}.",
        "review_id": review.id,
    }
    with suites.NewItems(blobs) as new:
        new.add(items, suites.items_table(items))
        content_hash, items_sha256 = new.store("human_review", definition)
    suite = Suite(
        name=f"{review.name} (human)",
        version=0,
        hash=content_hash,
        task_type="human_review",
        n_items=len(items),
        definition=definition,
        items_sha256=items_sha256,
        created_at=time.time(),
    )
    ids = [item["id"] for item in items]
    made = [
        _as_evaluation(blobs, review, one, ids, [texts[place] for texts in outputs], metric, statistics[place])
        for place, one in enumerate(counted.evaluations)
    ]
    return suite, made


def _as_evaluation(
    blobs: BlobStore,
    review: Review,
    rated: Evaluation,
    ids: list[str],
    outputs: list[str | None],
    metric: Metric,
    statistics: FloatArray,
) -> Evaluation:
    shares = statistics[:, 0].tolist()
    said = ["good" if share > 0.5 else "bad" if share < 0.5 else "split" for share in shares]
    answers: dict[str, Sequence[Any]] = {
        "id": ids,
        "output": outputs,
        "parsed": said,
        "probability": [None] * len(ids),
        "correct": [None if word == "split" else word == "good" for word in said],
    }
    missing = outputs.count(None)
    with evaluations.NewAnswers(blobs) as new:
        new.add(answers, {metric.name: statistics})
        items_sha256 = new.store()
    return Evaluation(
        run_id=rated.run_id,
        model_version_id=rated.model_version_id,
        step=rated.step,
        name=rated.name,
        settings={**rated.settings, "review_id": review.id},
        suite_id="",
        n=len(ids),
        n_missing=missing,
        n_unparsed=0,
        scores=[asdict(score(metric, statistics, n_missing=missing, seed=SEED))],
        prediction_hash=hash_of(zip(ids, outputs, said, shares, strict=True)),
        items_sha256=items_sha256,
        created_at=time.time(),
    )
