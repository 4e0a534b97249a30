"""Train against test: texts that are in both, and how like the two sets are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from service.evaluation.quality import PAIRS, too_small
from service.evaluation.quality_schemas import (
    DifferenceOut,
    LabelShares,
    Leakage,
    SetRef,
    SimilarPair,
    Warned,
)
from service.evaluation.shown import LABELS, Columns, lengths_out, similar
from service.measure import quality
from service.measure.near_duplicates import NearDuplicates
from service.store.blobs import BlobStore
from service.store.tables import RowSet, Suite

LEAKED = 10_000
ALPHA = 0.001  # a difference is said to be one from here; sets are large, so its size is given too
EFFECT = 0.1  # a small effect, by Cohen's convention: smaller differences are no reason to warn


@dataclass(frozen=True)
class _Found:
    """Rows of test items in the training set: exactly (with the training row), and nearly (with similarity)."""

    exact: list[tuple[int, int]]
    near: list[tuple[float, int, int]]
    complete: bool
    reason: str | None

    @property
    def near_rows(self) -> set[int]:
        return {row for _, _, row in self.near} - {row for _, row in self.exact}


def leakage(train: RowSet | Suite, test: RowSet | Suite, blobs: BlobStore, threshold: float) -> Leakage:
    own, held_out = Columns.read(blobs, train), Columns.read(blobs, test)
    found = _compare(own, held_out, threshold)
    labels = _labels(own.own_labels, held_out.own_labels)
    only = [one.label for one in labels if not one.train]
    several = own.several or held_out.several
    differences = [
        # The labels of one item do not come independently, as the test takes them to.
        quality.Difference("chi_square", None, None, None, "several_labels")
        if several
        else quality.label_difference(own.labels, held_out.labels),
        quality.length_difference(own.inputs, held_out.inputs),
    ]
    label_difference, length_difference = (
        DifferenceOut.model_validate(one, from_attributes=True) for one in differences
    )
    shown = [(1.0, row, other) for row, other in found.exact] + found.near
    rows = sorted({row for _, row in found.exact} | found.near_rows)
    return Leakage(
        train=_reference(train),
        test=_reference(test),
        warnings=_warnings(found, held_out, only, differences),
        n_exact=len(found.exact),
        n_near=None if found.reason else len(found.near_rows),
        complete=found.complete,
        reason=found.reason,
        threshold=threshold,
        pairs=[
            SimilarPair(similarity=similarity, first=own.show(row), second=held_out.show(other))
            for similarity, row, other in shown[:PAIRS]
        ],
        leaked=[held_out.ids[row] for row in rows[:LEAKED]],
        labels=labels[:LABELS],
        only_in_test=only[:LABELS],
        label_difference=label_difference,
        length_difference=length_difference,
        train_lengths=lengths_out(own.inputs),
        test_lengths=lengths_out(held_out.inputs),
    )


def _reference(items: RowSet | Suite) -> SetRef:
    kind = "suite" if isinstance(items, Suite) else "dataset"
    return SetRef.model_validate({**items.model_dump(include={"id", "name", "version", "n_items"}), "kind": kind})


def _compare(train: Columns, test: Columns, threshold: float) -> _Found:
    """Test items by training items; copies of a test text count each."""
    first: dict[str, int] = {}
    for row, text in enumerate(train.texts):
        first.setdefault(text, row)
    exact = [(first[text], row) for row, text in enumerate(test.texts) if text in first]
    copies: dict[str, list[int]] = {}
    for row, text in enumerate(test.texts):
        if text not in first:
            copies.setdefault(text, []).append(row)
    texts = [*first, *copies]
    found, reason = similar(texts, threshold, [0] * len(first) + [1] * len(copies))
    if found is None:
        return _Found(exact, [], True, reason)
    return _Found(exact, _near(found, list(first.values()), list(copies.values())), found.complete, None)


def _near(found: NearDuplicates, train: Sequence[int], test: Sequence[Sequence[int]]) -> list[tuple[float, int, int]]:
    """(similarity, training row, test row), most similar first. Texts of the training set come first in `found`."""
    pairs = zip(found.similarity.tolist(), found.first.tolist(), found.second.tolist(), strict=True)
    return [(similarity, train[one], row) for similarity, one, other in pairs for row in test[other - len(train)]]


def _labels(train: Sequence[Sequence[str] | None], test: Sequence[Sequence[str] | None]) -> list[LabelShares]:
    own, held_out = (Counter(label for labels in side for label in labels or ()) for side in (train, test))
    names = sorted(own.keys() | held_out.keys(), key=lambda label: (-own[label] - held_out[label], label))
    return [LabelShares(label=label, train=own[label], test=held_out[label]) for label in names]


def _warnings(
    found: _Found, test: Columns, only: Sequence[str], differences: Sequence[quality.Difference]
) -> list[Warned]:
    said = []
    n = len(test.ids)
    if found.exact:
        message = (
            f"{len(found.exact):,} of {n:,} test items ({100 * len(found.exact) / n:.1f} %) are in the training set: a "
            "score on them is memory."
        )
        said.append(Warned(code="leakage", message=message))
    near = len(found.near_rows)
    if near:
        message = f"{near:,} more test items ({100 * near / n:.1f} %) are nearly in it."
        said.append(Warned(code="near_leakage", message=message))
    if not found.complete:
        message = "The sets have too many like texts to compare all: more may be leaked than is counted here."
        said.append(Warned(code="leakage_incomplete", message=message))
    if only and any(label is not None for label in test.own_labels):
        message = f"{len(only):,} labels are in the test set only ('{only[0]}'): training never shows them."
        said.append(Warned(code="labels_only_in_test", message=message))
    for what, one in zip(("labels", "lengths"), differences, strict=True):
        if one.p_value is not None and one.effect is not None and one.p_value < ALPHA and one.effect >= EFFECT:
            p = "p < 0.001" if one.p_value < 0.001 else f"p = {one.p_value:.3f}"
            message = f"The {what} of the two sets are distributed differently (effect {one.effect:.2f}, {p})."
            said.append(Warned(code=f"{what}_differ", message=message))
    return said + too_small(n)
