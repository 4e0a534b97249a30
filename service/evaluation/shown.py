"""Items as reports show them, and their texts as they are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from service.evaluation.quality_schemas import LabelCount, LengthsOut, ShownItem
from service.measure import ngrams, quality
from service.measure.near_duplicates import NearDuplicates, near_duplicates
from service.measure.validation import OutOfRangeError
from service.store import row_sets
from service.store.blobs import BlobStore
from service.store.tables import RowSet, Suite

CHARACTERS = 1_000
LABELS = 1_000


@dataclass(frozen=True)
class Columns:
    """The items of a set, a list a column."""

    ids: list[str]
    inputs: list[str]
    labels: list[str | None]
    references: list[list[str]]
    groups: list[str | None]
    tags: list[list[str]]
    sets: list[list[str] | None]
    """Every label of a multi-label item; None for another."""

    @classmethod
    def read(cls, blobs: BlobStore, items: RowSet | Suite) -> Columns:
        table = row_sets.read_items(blobs, items)
        names = ("id", "input", "label", "references", "group", "tags", "labels")
        # Files of before there were multi-label items have no `labels`.
        nothing: Any = [None] * len(table)
        columns: list[Any] = [
            table.column(name).to_pylist() if name in table.column_names else nothing for name in names
        ]
        return cls(*columns)

    @cached_property
    def several(self) -> bool:
        """Are these multi-label items?"""
        return any(own is not None for own in self.sets)

    @cached_property
    def own_labels(self) -> list[list[str] | None]:
        """The labels of each item, one or several; None where nothing is said of them."""
        return [
            own if own is not None else None if label is None else [label]
            for own, label in zip(self.sets, self.labels, strict=True)
        ]

    @cached_property
    def texts(self) -> list[str]:
        """Inputs as they are compared."""
        return [ngrams.normalise(text) for text in self.inputs]

    @cached_property
    def answers(self) -> list[str | None]:
        """What each item is answered with: its label or labels, or its first reference."""
        return [
            ", ".join(own) if own is not None else label if label is not None else (given[0] if given else None)
            for own, label, given in zip(self.sets, self.labels, self.references, strict=True)
        ]

    def answer_key(self, row: int) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
        own = self.own_labels[row]
        return None if own is None else tuple(sorted(own)), tuple(sorted(self.references[row]))

    def show(self, row: int) -> ShownItem:
        answer = self.answers[row]
        return ShownItem(id=self.ids[row], input=cut(self.inputs[row]), answer=None if answer is None else cut(answer))


def cut(text: str) -> str:
    return text if len(text) <= CHARACTERS else text[: CHARACTERS - 1] + "…"


def label_counts(counts: Sequence[tuple[str, int]]) -> list[LabelCount]:
    return [LabelCount(label=label, n=n) for label, n in counts[:LABELS]]


def lengths_out(texts: Sequence[str]) -> LengthsOut | None:
    found = quality.lengths(texts)
    return None if found is None else LengthsOut.model_validate(found, from_attributes=True)


def similar(
    texts: Sequence[str], threshold: float, sides: Sequence[int] | None = None
) -> tuple[NearDuplicates | None, str | None]:
    """The near-duplicates among texts, or None and the code of why they were not looked for."""
    try:
        return near_duplicates(texts, threshold, sides), None
    except OutOfRangeError as error:
        return None, error.code
