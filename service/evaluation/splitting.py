"""A data set into train, validation and test, or into folds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from service.errors import Invalid
from service.evaluation.quality import too_small
from service.evaluation.quality_schemas import PartOut, SplitOut, Warned
from service.evaluation.shown import Columns, label_counts, similar
from service.measure import quality, splits
from service.measure.metric import IntArray
from service.measure.near_duplicates import components
from service.measure.splits import CannotSplit, Split
from service.store.blobs import BlobStore
from service.store.tables import RowSet

PARTS = ("train", "validation", "test")


class SplitImpossible(Invalid):
    """`details.item` is the id of an item at fault, where one is."""

    code = "split_impossible"


def split(
    dataset: RowSet,
    blobs: BlobStore,
    *,
    seed: int,
    stratify: bool,
    folds: int | None,
    shares: str | None,
    near_duplicates: float | None,
) -> SplitOut:
    columns = Columns.read(blobs, dataset)
    names, parts = _parts(folds, shares, len(columns.ids))
    if stratify and not any(columns.own_labels):
        raise SplitImpossible(f"'{dataset.name}' has no labels to stratify by: name the column of labels, or do not.")
    units, warned = _units(columns, near_duplicates)
    try:
        labels = columns.labels if stratify and not columns.several else None
        sets = columns.own_labels if stratify and columns.several else None
        found = splits.split(columns.texts, units, labels, sets=sets, names=names, shares=parts, seed=seed)
    except CannotSplit as error:
        item = None if error.index is None else columns.ids[error.index]
        where = "" if item is None else f" (item '{item}')"
        raise SplitImpossible(
            f"'{dataset.name}' cannot be split so: {error}{where}.", details={"item": item}
        ) from error
    return _out(found, columns.own_labels, seed, warned + (_rare(found, columns) if sets else []))


def _parts(folds: int | None, shares: str | None, n: int) -> tuple[Sequence[str], list[float]]:
    if folds is not None:
        if shares is not None:
            raise SplitImpossible("Give `folds` or `shares`, not both: folds are of equal size.")
        return [f"fold{number}" for number in range(folds)], [1 / folds] * folds
    if shares is None:
        return PARTS, splits.default_shares(n)
    try:
        given = [float(part) for part in shares.split("/")]
    except ValueError:
        given = []
    if len(given) not in (2, 3) or not all(0 < part < float("inf") for part in given):
        raise SplitImpossible(f"`shares` is '{shares}': write two or three positive numbers, as 80/20 or 70/15/15.")
    names = PARTS if len(given) == 3 else ("train", "test")
    return names, [part / sum(given) for part in given]


def _units(columns: Columns, threshold: float | None) -> tuple[IntArray, list[Warned]]:
    """What stays together: the same group, the same text, and near-duplicates where they are asked for."""
    texts = quality.groups_of(columns.texts)
    links = [_chain(quality.groups_of(columns.groups)), _chain(texts)]
    warned: list[Warned] = []
    if threshold is not None:
        first = np.unique(texts, return_index=True)[1]
        found, reason = similar([columns.texts[row] for row in first], threshold)
        if found is None or not found.complete:
            message = "Not all near-duplicates could be looked for" + (f" ({reason})." if reason else ".")
            warned.append(Warned(code="near_duplicates_incomplete", message=message))
        if found is not None:
            links.append((first[found.first], first[found.second]))
    one, other = (np.concatenate(side) for side in zip(*links, strict=True))
    return components(one, other, len(columns.ids)), warned


def _chain(numbers: IntArray) -> tuple[IntArray, IntArray]:
    """Each item with the next one of the same number."""
    order = np.argsort(numbers, kind="stable")
    same = numbers[order[1:]] == numbers[order[:-1]]
    return order[:-1][same], order[1:][same]


def _rare(found: Split, columns: Columns) -> list[Warned]:
    """Labels of multi-label items that some part has none of."""
    parts: dict[str, set[int]] = {}
    for own, part in zip(columns.own_labels, found.part.tolist(), strict=True):
        for label in own or ():
            parts.setdefault(label, set()).add(part)
    absent = sorted(label for label, where in parts.items() if len(where) < len(found.names))
    if not absent:
        return []
    message = f"{len(absent):,} of {len(parts):,} labels have too few items to be in every part ('{absent[0]}')."
    return [Warned(code="labels_not_in_every_part", message=message)]


def _out(found: Split, labels: Sequence[Sequence[str] | None], seed: int, warned: list[Warned]) -> SplitOut:
    sizes = found.sizes()
    counts: list[Counter[str]] = [Counter() for _ in found.names]
    for own, part in zip(labels, found.part.tolist(), strict=True):
        counts[part].update(own or ())
    warned = warned + [Warned(code="shares_not_kept", message=f"{text}.") for text in splits.warnings(found)]
    for name, size in zip(found.names, sizes, strict=True):
        warned += [Warned(code=one.code, message=f"'{name}': {one.message}") for one in too_small(size)]
    return SplitOut(
        seed=seed,
        parts=[
            PartOut(
                name=name,
                n=size,
                share=size / len(found.part),
                asked=share,
                labels=label_counts(sorted(own.items(), key=lambda one: (-one[1], one[0]))),
            )
            for name, size, share, own in zip(found.names, sizes, found.shares, counts, strict=True)
        ],
        units=found.units,
        warnings=warned,
        assignment=found.part.tolist(),
    )
