"""How far a model's confidence can be trusted: the calibration curve of an evaluation, and the error it sums up to."""

from __future__ import annotations

import numpy as np

from service.evaluation.schemas import Calibration, CalibrationBinOut
from service.measure.calibration import calibration_curve
from service.measure.metric import FloatArray
from service.measure.metrics import METRICS
from service.measure.score import score, wilson_interval
from service.store import evaluations
from service.store.blobs import BlobStore
from service.store.tables import Evaluation

EXPECTED_ERROR = "ece"


def calibration(evaluation: Evaluation, blobs: BlobStore) -> Calibration:
    """Over the items that have both an answer's probability and a right or wrong; the others are counted."""
    sure, n_judged = _sure(evaluation, blobs)
    n_without = evaluation.n - len(sure)
    if not len(sure):
        reason = "no_probabilities" if n_judged else "not_right_or_wrong"
        return Calibration(bins=[], ece=None, interval=None, n=0, n_without=n_without, method=None, reason=reason)
    bins = [
        CalibrationBinOut(
            low=one.low,
            high=one.high,
            n=one.n,
            confidence=one.confidence,
            accuracy=one.accuracy,
            interval=wilson_interval(one.accuracy * one.n, one.n),
        )
        for one in calibration_curve(*sure.T)
    ]
    error = score(METRICS[EXPECTED_ERROR], sure)
    return Calibration(
        bins=bins,
        ece=error.value,
        interval=error.interval,
        n=len(sure),
        n_without=n_without,
        method=error.method,
        reason=error.reason,
    )


def _sure(evaluation: Evaluation, blobs: BlobStore) -> tuple[FloatArray, int]:
    """Confidence and 1 where it was right, shape (n, 2), of the items that have both; how many are right or wrong."""
    found, n_judged = [np.empty((0, 2))], 0
    with evaluations.answers(blobs, evaluation) as answers:
        for piece in answers.pieces(["probability", "correct"]):
            judged = piece.filter(piece.column("correct").is_valid())
            given = judged.filter(judged.column("probability").is_valid())
            n_judged += len(judged)
            confidence, right = given.column("probability").to_numpy(), given.column("correct").to_numpy()
            found.append(np.column_stack([confidence, right.astype(np.float64)]))
    return np.concatenate(found), n_judged
