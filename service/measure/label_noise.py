"""Labels that are probably wrong: confident learning over out-of-sample probabilities.

The model is multinomial logistic regression on TF-IDF of characters' trigrams, fitted by L-BFGS: no seed, and some
seconds for ten thousand texts. An item's probabilities come from the other folds. Which items are listed follows
Northcutt et al. 2021 ("Confident learning", off-diagonal, ranked by margin): an item whose probability of another label
is at least what items of that label have on average, and more than that of its own. `doubtful` does the same with
probabilities of other models.

Of items with several labels each label is judged by itself: with it and without it are the two labels then
(Thyagarajan et al. 2022, "Identifying incorrect annotations in multi-label classification data"), and the model is a
logistic regression for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from service.measure import ngrams
from service.measure.metric import FloatArray, IntArray, divide
from service.measure.validation import MeasureError

FOLDS = 5
GRAM = 3
PENALTY = 1 / 30  # of half the squared weights, against the summed log-loss: scikit-learn's C = 30
ITERATIONS = 30
CELLS = 10_000_000  # items by labels: more take minutes

if TYPE_CHECKING:
    from scipy import sparse

Single = NDArray[np.float32]


class CannotJudgeLabels(MeasureError):
    """The labels are too few, too rare or too many to learn from."""

    code = "cannot_judge_labels"


@dataclass(frozen=True)
class NoiseCandidate:
    """An item and what models hold for likelier than its label; probabilities are out of sample, None where unknown."""

    item: int
    label: str
    suggested: str
    label_probability: float | None
    probability: float | None


@dataclass(frozen=True)
class LabelNoise:
    """`accuracy`: how often the model, not having seen the item, gives its label. `judged`: of how many items."""

    candidates: list[NoiseCandidate]
    accuracy: float
    judged: int


@dataclass(frozen=True)
class SetDoubt:
    """A label that an item has and should not have (`given`), or the reverse; probability: that the item has it.

    models: how many say otherwise, where models were asked for answers.
    """

    label: str
    given: bool
    probability: float | None
    models: int | None


@dataclass(frozen=True)
class SetCandidate:
    """A multi-label item with doubtful labels, the most certain doubt first."""

    item: int
    doubts: list[SetDoubt]


@dataclass(frozen=True)
class SetNoise:
    """`accuracy`: how often a model says of every label whether the item has it. `judged`: of how many items."""

    candidates: list[SetCandidate]
    accuracy: float
    judged: int


def label_noise(texts: Sequence[str], labels: Sequence[str | None], folds: IntArray) -> LabelNoise:
    """Candidates for wrong labels, the widest margin first.

    texts: normalised. folds: the fold of each item; what cannot be told apart (copies of a text) is in one fold. Items
    without a label, and of labels that have no items in two folds, are left out.

    Raises:
        CannotJudgeLabels: fewer than two labels remain, or there are more than `CELLS` items times labels.
    """
    from scipy import special

    names, codes = _usable(labels, folds)
    rows = np.flatnonzero(codes >= 0)
    if len(names) < 2:
        raise CannotJudgeLabels("fewer than two labels have items to learn from and others to check")
    if len(rows) * len(names) > CELLS:
        raise CannotJudgeLabels(f"{len(rows):,} items of {len(names):,} labels would take too long")
    features, own, folds = tfidf([texts[row] for row in rows.tolist()]), codes[rows], folds[rows]
    probability = np.empty((len(rows), len(names)))
    for fold in np.unique(folds):
        inside = folds == fold
        weights = fit(features[~inside], own[~inside], len(names))
        probability[inside] = special.softmax((features[inside] @ weights).astype(np.float64), axis=1)
    return _judged(probability, own, rows, names)


def doubtful(probability: FloatArray, labels: Sequence[str | None], names: Sequence[str]) -> LabelNoise:
    """The same by the probabilities of models that learned from other items.

    probability: (n, L), a column a name, NaN in a row that nobody judged. Those items, and items without a label, are
    left out. A label that no judged item has is never suggested: there is nothing to say how sure is sure enough.

    Raises:
        CannotJudgeLabels: no item is left.
    """
    codes = {label: code for code, label in enumerate(names)}
    own = np.array([-1 if label is None else codes.get(label, -1) for label in labels], dtype=np.int64)
    rows = np.flatnonzero((own >= 0) & ~np.isnan(probability).any(axis=1))
    if not len(rows):
        raise CannotJudgeLabels("no item has both a label and probabilities")
    return _judged(probability[rows], own[rows], rows, list(names))


def _judged(probability: FloatArray, own: IntArray, rows: IntArray, names: list[str]) -> LabelNoise:
    """probability (n, L), own labels (n,) and what the n items are called (n,), n above 0."""
    accuracy = float((probability.argmax(axis=1) == own).mean())
    return LabelNoise(_candidates(probability, own, rows, names), accuracy, len(rows))


def _candidates(probability: FloatArray, own: IntArray, rows: IntArray, names: list[str]) -> list[NoiseCandidate]:
    places = np.arange(len(own))
    mine = probability[places, own]
    threshold = divide(
        np.bincount(own, weights=mine, minlength=len(names)).astype(np.float64),
        np.bincount(own, minlength=len(names)).astype(np.float64),
        undefined=np.inf,
    )
    confident = np.where(probability >= threshold, probability, 0.0)
    suggested = confident.argmax(axis=1)
    margin = confident[places, suggested] - mine
    found = np.flatnonzero((suggested != own) & (margin > 0))
    return [
        NoiseCandidate(
            item=int(rows[place]),
            label=names[own[place]],
            suggested=names[suggested[place]],
            label_probability=float(mine[place]),
            probability=float(probability[place, suggested[place]]),
        )
        for place in found[np.argsort(-margin[found], kind="stable")]
    ]


def indicators(sets: Sequence[Sequence[str] | None], names: Sequence[str]) -> IntArray:
    """(n, L): whether an item has a label; -1 throughout where nothing is said of its labels. Other labels are ignored.

    Raises:
        CannotJudgeLabels: there are more than `CELLS` items times labels.
    """
    if len(sets) * len(names) > CELLS:
        raise CannotJudgeLabels(f"{len(sets):,} items of {len(names):,} labels would take too long")
    codes = {label: code for code, label in enumerate(names)}
    found = np.zeros((len(sets), len(names)), dtype=np.int64)
    for row, own in enumerate(sets):
        if own is None:
            found[row] = -1
        else:
            found[row, [codes[label] for label in own if label in codes]] = 1
    return found


def set_noise(texts: Sequence[str], sets: Sequence[Sequence[str] | None], folds: IntArray) -> SetNoise:
    """`label_noise` of items with several labels. A label that has no items in two folds is not judged.

    Raises:
        CannotJudgeLabels: no label remains, or there are more than `CELLS` items times labels.
    """
    from scipy import sparse, special

    rows = np.array([row for row, own in enumerate(sets) if own is not None], dtype=np.int64)
    known = [sets[row] or () for row in rows.tolist()]
    names = sorted({label for own in known for label in own})
    own, folds = indicators(known, names), folds[rows]
    where = np.array([own[folds == fold].any(axis=0) for fold in np.unique(folds)])
    usable = np.flatnonzero(where.sum(axis=0) > 1)
    if not len(usable):
        raise CannotJudgeLabels("no label has items to learn from and others to check")
    own, names = own[:, usable], [names[code] for code in usable.tolist()]
    # Few items have a label: the column of ones learns how few.
    features = sparse.csr_array(sparse.hstack([tfidf([texts[row] for row in rows.tolist()]), np.ones((len(rows), 1))]))
    features = features.astype(np.float32)
    probability = np.empty(own.shape)
    for fold in np.unique(folds):
        inside = folds == fold
        weights = fit_sets(features[~inside], own[~inside])
        probability[inside] = special.expit((features[inside] @ weights).astype(np.float64))
    found = doubtful_sets(probability, own, names)
    return SetNoise(
        [SetCandidate(int(rows[one.item]), one.doubts) for one in found.candidates], found.accuracy, found.judged
    )


def doubtful_sets(probability: FloatArray, own: IntArray, names: Sequence[str]) -> SetNoise:
    """Candidates by probabilities of each label (n, L), NaN where nobody judged it; `own` as `indicators` gives it.

    Raises:
        CannotJudgeLabels: no label of an item was judged.
    """
    judged = ~np.isnan(probability) & (own >= 0)
    if not judged.any():
        raise CannotJudgeLabels("no item has both labels and probabilities")
    doubts: dict[int, list[tuple[float, SetDoubt]]] = {}
    for code, label in enumerate(names):
        rows = np.flatnonzero(judged[:, code])
        has, sure = own[rows, code], probability[rows, code]
        for one in _candidates(np.column_stack([1 - sure, sure]), has, rows, ["without", "with"]):
            of_own, other = cast("tuple[float, float]", (one.label_probability, one.probability))
            given = one.label == "with"
            doubt = SetDoubt(label, given, of_own if given else other, None)
            doubts.setdefault(one.item, []).append((other - of_own, doubt))
    items = np.flatnonzero(judged.any(axis=1))
    right = ((probability > 0.5) == (own > 0)) | ~judged
    return SetNoise(_widest_first(doubts), float(right[items].all(axis=1).mean()), len(items))


def outvoted_sets(said: Sequence[IntArray], own: IntArray, names: Sequence[str]) -> list[SetCandidate]:
    """Candidates by answers alone: labels that two models at least, and more than half of all, hold for otherwise.

    said, own: as `indicators` gives them, -1 where a model did not answer.
    """
    otherwise = np.zeros(own.shape, dtype=np.int64)
    for one in said:
        otherwise += (one >= 0) & (one != own) & (own >= 0)
    doubts: dict[int, list[tuple[float, SetDoubt]]] = {}
    for item, code in np.argwhere(otherwise > max(len(said) / 2, 1)).tolist():
        models = int(otherwise[item, code])
        doubt = SetDoubt(names[code], bool(own[item, code]), None, models)
        doubts.setdefault(item, []).append((float(models), doubt))
    return _widest_first(doubts)


def _widest_first(doubts: dict[int, list[tuple[float, SetDoubt]]]) -> list[SetCandidate]:
    ordered = [(item, sorted(own, key=lambda one: (-one[0], one[1].label))) for item, own in doubts.items()]
    ordered.sort(key=lambda one: (-one[1][0][0], one[0]))
    return [SetCandidate(item, [doubt for _, doubt in own]) for item, own in ordered]


def _usable(labels: Sequence[str | None], folds: IntArray) -> tuple[list[str], IntArray]:
    """The labels that occur in two folds at least, and each item's number of its label (-1: left out)."""
    seen: dict[str, set[int]] = {}
    for label, fold in zip(labels, folds.tolist(), strict=True):
        if label is not None:
            seen.setdefault(label, set()).add(fold)
    names = sorted(label for label, where in seen.items() if len(where) > 1)
    codes = {label: code for code, label in enumerate(names)}
    return names, np.array([-1 if label is None else codes.get(label, -1) for label in labels], dtype=np.int64)


def tfidf(texts: Sequence[str]) -> sparse.csr_array:
    """Texts by trigrams that two texts have: smoothed inverse document frequency, rows of length one (float32)."""
    from scipy import sparse

    counts = ngrams.matrix(texts, GRAM)
    frequency = np.bincount(counts.indices, minlength=counts.shape[1])
    kept = np.flatnonzero(frequency > 1)
    weight = np.log((1 + len(texts)) / (1 + frequency[kept])) + 1
    weighted = sparse.csr_array(counts[:, kept] @ sparse.diags_array(weight))
    length = np.sqrt(np.asarray(weighted.power(2).sum(axis=1))).ravel()
    scaled = sparse.diags_array(1 / np.where(length > 0, length, 1.0)) @ weighted
    return sparse.csr_array(scaled, dtype=np.float32)


def fit(features: sparse.csr_array, codes: IntArray, n_labels: int, iterations: int = ITERATIONS) -> Single:
    """The weights (features by labels) of least log-loss with an L2 penalty, where an item has one label."""
    places = np.arange(len(codes))

    def loss(scores: Single) -> float:
        scores -= scores.max(axis=1, keepdims=True)
        true = scores[places, codes]
        np.exp(scores, out=scores)
        total = scores.sum(axis=1, keepdims=True)
        value = float((np.log(total[:, 0]) - true).sum(dtype=np.float64))
        scores /= total
        scores[places, codes] -= 1
        return value

    return _fitted(features, n_labels, loss, iterations)


def fit_sets(features: sparse.csr_array, own: IntArray, iterations: int = ITERATIONS) -> Single:
    """The same where an item has any of the labels: own (n, L), 1 or 0."""
    from scipy import special

    given = own.astype(np.float32)

    def loss(scores: Single) -> float:
        value = float((np.logaddexp(0, scores) - given * scores).sum(dtype=np.float64))
        special.expit(scores, out=scores)
        scores -= given
        return value

    return _fitted(features, own.shape[1], loss, iterations)


def _fitted(features: sparse.csr_array, n_labels: int, loss: Callable[[Single], float], iterations: int) -> Single:
    """loss: of scores (n, L), for which it leaves its slope in them."""
    from scipy import optimize, sparse

    shape = (features.shape[1], n_labels)
    transposed = sparse.csr_array(features.T)

    def penalised(flat: FloatArray) -> tuple[float, FloatArray]:
        weights = flat.reshape(shape).astype(np.float32)
        scores = features @ weights
        value = loss(scores)
        slope = transposed @ scores + PENALTY * weights
        penalty = PENALTY / 2 * float(np.square(weights).sum(dtype=np.float64))
        return value + penalty, slope.ravel().astype(np.float64)

    start = np.zeros(shape[0] * shape[1])
    options = {"maxiter": iterations, "maxcor": 5}
    found = optimize.minimize(penalised, start, jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x.reshape(shape), dtype=np.float32)
