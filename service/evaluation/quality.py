"""The quality of a set of items: is it balanced, are texts repeated, is it large enough."""

from __future__ import annotations

from collections.abc import Sequence

from service.evaluation.quality_schemas import (
    BalanceOut,
    CoverageOut,
    DuplicatesOut,
    NearDuplicatesOut,
    Quality,
    RepeatedText,
    SimilarPair,
    TagCount,
    Warned,
)
from service.evaluation.shown import LABELS, Columns, label_counts, lengths_out, similar
from service.measure import quality
from service.measure.near_duplicates import NearDuplicates
from service.store.blobs import BlobStore
from service.store.tables import RowSet, Suite

REVISION = "3"  # of what reports say: a report that was kept by another is made anew
GROUPS, PAIRS, SHOWN = 100, 200, 10
UNEVEN = 10.0  # times: from here on labels are said to be out of balance
FEW = 5  # items of a label under which its own score means nothing


def report(items: RowSet | Suite, blobs: BlobStore, threshold: float) -> Quality:
    columns = Columns.read(blobs, items)
    balanced = quality.balance(columns.own_labels)
    groups = quality.repeated(columns.texts)
    duplicates = _duplicates(columns, groups)
    near = _near_duplicates(columns, threshold)
    return Quality(
        name=items.name,
        version=items.version,
        n_items=items.n_items,
        warnings=warnings(columns, balanced, duplicates, near),
        balance=BalanceOut(
            n_labels=len(balanced.labels),
            unlabelled=balanced.unlabelled,
            without=balanced.without,
            per_item=balanced.per_item if columns.several else None,
            ratio=balanced.ratio,
            evenness=balanced.evenness,
            reason=balanced.reason,
            labels=label_counts(balanced.labels),
        ),
        input_lengths=lengths_out(columns.inputs),
        answer_lengths=lengths_out([text for given in columns.references for text in given[:1]]),
        duplicates=duplicates,
        near_duplicates=near,
        coverage=_coverage(columns),
    )


def too_small(n: int) -> list[Warned]:
    if n >= quality.SMALL:
        return []
    width = 100 * quality.half_width(n)
    message = (
        f"{_items(n)} {'is' if n == 1 else 'are'} few: an accuracy measured on so many is known to ± "
        f"{width:.0f} points only. Have at least {quality.SMALL}."
    )
    return [Warned(code="too_small", message=message)]


def warnings(
    columns: Columns, balanced: quality.Balance, duplicates: DuplicatesOut, near: NearDuplicatesOut
) -> list[Warned]:
    """What should be looked at, worst first."""
    found = too_small(len(columns.ids))
    empty = sum(not text for text in columns.texts)
    if empty:
        found.append(Warned(code="empty_text", message=f"{_items(empty)} with an empty input."))
    if duplicates.n_conflicting:
        what = "at least one of each is wrong" if balanced.labels else "if all are right, one item can have several"
        n = duplicates.n_conflicting
        message = f"{n:,} {'text comes' if n == 1 else 'texts come'} with different answers: {what}."
        found.append(Warned(code="conflicting_answers", message=message))
    if duplicates.n_extra:
        found.append(Warned(code="duplicates", message=f"{_items(duplicates.n_extra, 'repeat')} the text of another."))
    if near.n_items:
        message = f"{_items(near.n_items, 'nearly repeat')} another (similarity {near.threshold:g} or more)."
        found.append(Warned(code="near_duplicates", message=message))
    if not near.complete:
        message = (
            "The set has too many like texts to compare all: there are more near-duplicates than are counted here."
        )
        found.append(Warned(code="near_duplicates_incomplete", message=message))
    if balanced.unlabelled and balanced.labels:
        found.append(Warned(code="unlabelled", message=f"{_items(balanced.unlabelled)} without a label."))
    if balanced.ratio is not None and balanced.ratio >= UNEVEN:
        (most, n), (least, few) = balanced.labels[0], balanced.labels[-1]
        message = (
            f"'{most}' has {n:,} items, '{least}' {few:,}: judge by macro-averaged F1 or balanced accuracy, not by "
            "accuracy alone."
        )
        found.append(Warned(code="unbalanced", message=message))
    rare = [label for label, n in balanced.labels if n < FEW]
    if rare:
        message = f"{len(rare):,} labels have fewer than {FEW} items ('{rare[-1]}'): their own scores mean nothing."
        found.append(Warned(code="rare_labels", message=message))
    return found


def _items(n: int, verb: str = "") -> str:
    return f"{n:,} item {verb}s".removesuffix(" s") if n == 1 else f"{n:,} items {verb}".rstrip()


def _duplicates(columns: Columns, groups: Sequence[Sequence[int]]) -> DuplicatesOut:
    conflicting = [len({columns.answer_key(row) for row in group}) > 1 for group in groups]
    order = sorted(range(len(groups)), key=lambda place: not conflicting[place])
    return DuplicatesOut(
        n_groups=len(groups),
        n_extra=sum(len(group) - 1 for group in groups),
        n_conflicting=sum(conflicting),
        groups=[
            RepeatedText(
                n=len(groups[place]),
                conflicting=conflicting[place],
                items=[columns.show(row) for row in groups[place][:SHOWN]],
            )
            for place in order[:GROUPS]
        ],
    )


def _near_duplicates(columns: Columns, threshold: float) -> NearDuplicatesOut:
    first_row: dict[str, int] = {}
    for row, text in enumerate(columns.texts):
        first_row.setdefault(text, row)
    rows = list(first_row.values())
    found, reason = similar(list(first_row), threshold)
    if found is None:
        return NearDuplicatesOut(
            threshold=threshold, n_pairs=None, n_items=None, complete=True, reason=reason, pairs=[]
        )
    return NearDuplicatesOut(
        threshold=threshold,
        n_pairs=len(found),
        n_items=_touched(columns, rows, found),
        complete=found.complete,
        reason=None,
        pairs=[
            SimilarPair(
                similarity=float(found.similarity[place]),
                first=columns.show(rows[int(found.first[place])]),
                second=columns.show(rows[int(found.second[place])]),
            )
            for place in range(min(PAIRS, len(found)))
        ],
    )


def _touched(columns: Columns, rows: Sequence[int], found: NearDuplicates) -> int:
    """Items of all texts in a pair, copies included."""
    texts = {columns.texts[rows[place]] for place in (*found.first.tolist(), *found.second.tolist())}
    return sum(text in texts for text in columns.texts)


def _coverage(columns: Columns) -> CoverageOut:
    groups = quality.coverage([[group] for group in columns.groups if group is not None])
    tags = quality.coverage(columns.tags)
    return CoverageOut(
        untagged=sum(not own for own in columns.tags),
        tags=[TagCount(tag=tag, n=n) for tag, n in tags[:LABELS]],
        n_groups=len(groups),
        largest_group=groups[0][1] if groups else 0,
    )
