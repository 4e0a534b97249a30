"""Metrics of texts read their references apart from the outputs, so that several systems share the work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.measure.metric import FloatArray
from service.measure.validation import LengthMismatchError, MeasureError, check_outputs, check_texts

Read = TypeVar("Read")


@dataclass(frozen=True)
class Parsed(Generic[Read]):
    """References as `metric` reads them, an entry an item: give them to its `statistics` in place of the texts."""

    metric: TextMetric[Read]
    items: list[Read]

    def __len__(self) -> int:
        return len(self.items)


class TextMetric(Generic[Read]):
    """`read` turns the references of an item into what `count` compares outputs with."""

    def read(self, references: list[list[str]]) -> list[Read]:
        raise NotImplementedError

    def count(self, outputs: list[str], references: list[Read]) -> FloatArray:
        raise NotImplementedError

    def parse(self, references: Sequence[Sequence[str]]) -> Parsed[Read]:
        """Checked references, read once."""
        return Parsed(self, self.read(check_texts([None] * len(references), references)[1]))

    def statistics(
        self,
        outputs: Sequence[str | None],
        references: Sequence[Sequence[str]] | Parsed[Read],
        labels: Sequence[str] | None = None,
    ) -> FloatArray:
        if not isinstance(references, Parsed):
            texts, checked = check_texts(outputs, references)
            return self.count(texts, self.read(checked))
        if references.metric != self:
            raise MeasureError("the references were parsed for another metric: parse them with this one")
        if len(outputs) != len(references):
            shorter = min(len(outputs), len(references))
            raise LengthMismatchError(f"{len(outputs)} outputs but {len(references)} lists of references", shorter)
        return self.count(check_outputs(outputs), references.items)
