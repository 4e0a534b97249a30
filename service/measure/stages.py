"""Scores over a sequence of fine-tunes, each under the name of its published convention.

R[i][j] is the score on task j after training stage i, both counted from 0; stage i trained task i; shape (T, T).
The conventions disagree on one and the same matrix, so no number leaves here without its convention's name. With one
stage (T = 1) transfer and forgetting are None, never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.measure.metric import FloatArray
from service.measure.validation import LengthMismatchError, OutOfRangeError

Matrix = FloatArray | Sequence[Sequence[float]]
GEM = "Lopez-Paz & Ranzato 2017 (GEM)"
GEM_CODE = "GEM, the authors' code (divides by T)"
CHAUDHRY = "Chaudhry et al. 2018"
DIAZ = "Díaz-Rodríguez et al. 2018"


@dataclass(frozen=True)
class StageScore:
    """One score of a matrix under one convention. reason of a None value: one_stage, no_baseline, no_reference."""

    name: str
    value: float | None
    formula: str
    source: str
    higher_is_better: bool
    reason: str | None = None


def acc(R: Matrix) -> float:
    """Mean of the last row: average score over all tasks at the end (GEM)."""
    return float(_square(R)[-1].mean())


def learning_accuracy(R: Matrix) -> float:
    """Mean of the diagonal: average score right after learning each task (Riemer et al. 2019)."""
    return float(np.diagonal(_square(R)).mean())


def bwt_gem(R: Matrix) -> float | None:
    """Backward transfer, GEM's paper: mean over the T - 1 earlier tasks of R[T][i] - R[i][i]."""
    moved = _since_learned(R)
    return float(moved.mean()) if len(moved) else None


def bwt_gem_code(R: Matrix) -> float | None:
    """Backward transfer, GEM's code: the same sum divided by T."""
    moved = _since_learned(R)
    return float(moved.sum()) / (len(moved) + 1) if len(moved) else None


def fwt_gem(R: Matrix, baseline: Sequence[float]) -> float | None:
    """Forward transfer, GEM's paper: mean over tasks i >= 2 of R[i-1][i] - b[i]; b: scores before any training."""
    ahead = _before_learning(R, baseline)
    return float(ahead.mean()) if len(ahead) else None


def fwt_gem_code(R: Matrix, baseline: Sequence[float]) -> float | None:
    """Forward transfer, GEM's code: the same sum divided by T."""
    ahead = _before_learning(R, baseline)
    return float(ahead.sum()) / (len(ahead) + 1) if len(ahead) else None


def forgetting_max(R: Matrix) -> float | None:
    """Mean over earlier tasks of the best score at any stage but the last, less the last (Chaudhry, eq. 3)."""
    matrix = _square(R)
    return float((matrix[:-1, :-1].max(axis=0) - matrix[-1, :-1]).mean()) if len(matrix) > 1 else None


def forgetting_max_learned(R: Matrix) -> float | None:
    """As `forgetting_max`, with the best taken since the task was learned (l >= j; continuum)."""
    matrix = _square(R)
    if len(matrix) == 1:
        return None
    learned = np.where(np.tril(np.ones_like(matrix)) == 1, matrix, -np.inf)
    return float((learned[:-1, :-1].max(axis=0) - matrix[-1, :-1]).mean())


def forgetting_max_clipped(R: Matrix) -> float | None:
    """As `forgetting_max`, with the last stage among the best, so no task counts below 0 (Mammoth)."""
    matrix = _square(R)
    return float((matrix[:, :-1].max(axis=0) - matrix[-1, :-1]).mean()) if len(matrix) > 1 else None


def forgetting_first_last(R: Matrix) -> float | None:
    """Mean over earlier tasks of the score just after learning, less the last (Avalanche): minus GEM's BWT."""
    moved = _since_learned(R)
    return float(-moved.mean()) if len(moved) else None


def forgetting_matrix(R: Matrix) -> FloatArray:
    """F[i][j] = R[j][j] - R[i][j] for stages i after j was learned, else 0 (Avalanche); negative is improvement."""
    matrix = _square(R)
    return np.tril(np.diagonal(matrix)[None, :] - matrix, k=-1)


def dr_accuracy(R: Matrix) -> float:
    """A: mean of the lower triangle, diagonal included (Díaz-Rodríguez)."""
    matrix = _square(R)
    return float(matrix[np.tril_indices(len(matrix))].mean())


def dr_bwt(R: Matrix) -> float | None:
    """BWT: mean over all stages i > j of R[i][j] - R[j][j] (Díaz-Rodríguez)."""
    matrix = _square(R)
    rows, columns = np.tril_indices(len(matrix), k=-1)
    return float((matrix[rows, columns] - matrix[columns, columns]).mean()) if len(rows) else None


def dr_fwt(R: Matrix) -> float | None:
    """FWT: mean of the strict upper triangle (Díaz-Rodríguez)."""
    matrix = _square(R)
    return float(matrix[np.triu_indices(len(matrix), k=1)].mean()) if len(matrix) > 1 else None


def dr_remembering(R: Matrix) -> float | None:
    """REM = 1 - |min(BWT, 0)| with Díaz-Rodríguez' BWT."""
    transfer = dr_bwt(R)
    return None if transfer is None else 1.0 - abs(min(transfer, 0.0))


def dr_bwt_plus(R: Matrix) -> float | None:
    """BWT+ = max(BWT, 0) with Díaz-Rodríguez' BWT."""
    transfer = dr_bwt(R)
    return None if transfer is None else max(transfer, 0.0)


def intransigence(R: Matrix, reference: Sequence[float]) -> FloatArray:
    """Per task, what a jointly trained reference model scores, less R[k][k]: shape (T,) (Chaudhry)."""
    matrix = _square(R)
    return _vector(reference, len(matrix), "reference scores") - np.diagonal(matrix)


def retention(before: Sequence[float], after: Sequence[float]) -> list[float | None]:
    """after / before for each task; None where there was nothing to retain."""
    old, new = _pair(before, after)
    return [float(b / a) if a > 0 else None for a, b in zip(old, new, strict=True)]


def mean_change(before: Sequence[float], after: Sequence[float]) -> float:
    """Mean over tasks of after - before (TRACE's general ability delta). An average hides a collapse: no verdict."""
    old, new = _pair(before, after)
    return float((new - old).mean())


def stage_scores(
    R: Matrix, baseline: Sequence[float] | None = None, reference: Sequence[float] | None = None
) -> list[StageScore]:
    """Every score of a matrix, each with its convention.

    baseline: score on each task before any training (the base model's row), for forward transfer.
    reference: score on each task of a jointly trained model, for intransigence.
    """
    single = len(_square(R)) == 1
    forward = [None, None] if baseline is None else [fwt_gem(R, baseline), fwt_gem_code(R, baseline)]
    stubborn = None if reference is None else float(intransigence(R, reference).mean())
    max_formula = "mean_j(max_l R[l][j] - R[T][j])"
    rows: list[tuple[str, float | None, str, str, bool]] = [
        ("ACC", acc(R), "mean(R[T])", GEM, True),
        ("learning_accuracy", learning_accuracy(R), "mean(R[i][i])", "Riemer et al. 2019", True),
        ("BWT_gem_paper", bwt_gem(R), "1/(T-1) sum_i(R[T][i] - R[i][i])", GEM, True),
        ("BWT_gem_code", bwt_gem_code(R), "1/T sum_i(R[T][i] - R[i][i])", GEM_CODE, True),
        ("FWT_gem_paper", forward[0], "1/(T-1) sum_i(R[i-1][i] - b[i])", GEM, True),
        ("FWT_gem_code", forward[1], "1/T sum_i(R[i-1][i] - b[i])", GEM_CODE, True),
        ("forgetting_max", forgetting_max(R), f"{max_formula}, l < T", CHAUDHRY, False),
        ("forgetting_max_learned", forgetting_max_learned(R), f"{max_formula}, j <= l < T", "continuum", False),
        ("forgetting_max_clipped", forgetting_max_clipped(R), f"{max_formula}, l <= T", "Mammoth", False),
        ("forgetting_first_last", forgetting_first_last(R), "mean_j(R[j][j] - R[T][j])", "Avalanche", False),
        ("DR_A", dr_accuracy(R), "mean over i >= j of R[i][j]", DIAZ, True),
        ("DR_BWT", dr_bwt(R), "mean over i > j of (R[i][j] - R[j][j])", DIAZ, True),
        ("DR_FWT", dr_fwt(R), "mean over i < j of R[i][j]", DIAZ, True),
        ("DR_REM", dr_remembering(R), "1 - |min(DR_BWT, 0)|", DIAZ, True),
        ("DR_BWT+", dr_bwt_plus(R), "max(DR_BWT, 0)", DIAZ, True),
        ("intransigence", stubborn, "mean_k(joint[k] - R[k][k])", CHAUDHRY, False),
    ]
    absent = {"FWT_gem_paper": baseline is None, "FWT_gem_code": baseline is None}
    return [
        StageScore(name, value, formula, source, better, _reason(name, value, single, absent.get(name, False)))
        for name, value, formula, source, better in rows
    ]


def score_intervals(
    resampled: FloatArray, baseline: FloatArray | None = None, reference: FloatArray | None = None
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of every score, by name, from resamplings of R (B, T, T), b and reference (B, T).

    A maximum over stages picks what resampling favoured: intervals of the `forgetting_max` family lean upwards.
    """
    draws: dict[str, list[float]] = {}
    for place, R in enumerate(resampled):
        given = (None if one is None else one[place].tolist() for one in (baseline, reference))
        for one in stage_scores(R, *given):
            if one.value is not None:
                draws.setdefault(one.name, []).append(one.value)
    ends = {name: np.quantile(values, [0.025, 0.975]) for name, values in draws.items()}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def _reason(name: str, value: float | None, single: bool, no_baseline: bool) -> str | None:
    if value is not None:
        return None
    if name == "intransigence":
        return "no_reference"
    return "one_stage" if single else "no_baseline" if no_baseline else None


def _since_learned(R: Matrix) -> FloatArray:
    """R[T][i] - R[i][i] for the T - 1 earlier tasks."""
    matrix = _square(R)
    return np.asarray((matrix[-1] - np.diagonal(matrix))[:-1])


def _before_learning(R: Matrix, baseline: Sequence[float]) -> FloatArray:
    """R[i-1][i] - b[i] for tasks after the first."""
    matrix = _square(R)
    return np.diagonal(matrix, offset=1) - _vector(baseline, len(matrix), "baseline scores")[1:]


def _square(R: Matrix) -> FloatArray:
    matrix = np.asarray(R, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise LengthMismatchError(f"R must have a row for each stage and a column for each task, got {matrix.shape}")
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0]
        raise OutOfRangeError(f"R[{row}][{column}] is {matrix[row, column]}", int(row))
    return matrix


def _vector(values: Sequence[float], length: int, what: str) -> FloatArray:
    vector = np.asarray(values, dtype=np.float64)
    if vector.shape != (length,):
        raise LengthMismatchError(f"{what}: {length} tasks but shape {vector.shape}")
    return vector


def _pair(before: Sequence[float], after: Sequence[float]) -> tuple[FloatArray, FloatArray]:
    old = _vector(before, len(before), "scores before")
    if not len(old):
        raise LengthMismatchError("there are no tasks to compare")
    return old, _vector(after, len(old), "scores after")
