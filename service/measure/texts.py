"""Metrics of texts read their references apart from the outputs, so that several systems share the work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from service.measure.metric import FloatArray
from service.measure.validation import LengthMismatchError, MeasureError, check_outputs, check_texts

Read = TypeVar("Read")


@dataclass(frozen=True)
class Parsed(Generic[Read]):
    """Texts as the metrics of one `reader` read them, an entry an item: for `statistics` in place of the texts."""

    reader: str
    items: list[Read]
    derived: dict[str, Any] = field(default_factory=dict, compare=False)
    """What a metric worked out from these references and the outputs last seen, for its siblings."""

    def __len__(self) -> int:
        return len(self.items)


class TextMetric(ABC, Generic[Read]):
    """`count` compares outputs with references as `read_outputs` and `read` return them, an entry an item.

    Metrics whose `reader` is the same read texts alike and may share what was read: all types of ROUGE do.
    """

    @property
    def reader(self) -> str:
        return f"{type(self).__name__}|{self}"

    @abstractmethod
    def read(self, references: list[list[str]]) -> list[Read]: ...

    def read_outputs(self, outputs: list[str]) -> list[Any]:
        return outputs

    @abstractmethod
    def count(self, outputs: Parsed[Any], references: Parsed[Read]) -> FloatArray: ...

    def parse(self, references: Sequence[Sequence[str]]) -> Parsed[Read]:
        """Checked references, read once for several systems."""
        return Parsed(self.reader, self.read(check_texts([None] * len(references), references)[1]))

    def parse_outputs(self, outputs: Sequence[str | None]) -> Parsed[Any]:
        """Checked outputs, read once for several metrics of one reader."""
        return Parsed(self.reader, self.read_outputs(check_outputs(outputs)))

    def statistics(
        self,
        outputs: Sequence[str | None] | Parsed[Any],
        references: Sequence[Sequence[str]] | Parsed[Read],
        labels: Sequence[str] | None = None,
    ) -> FloatArray:
        if not isinstance(outputs, Parsed) and not isinstance(references, Parsed):
            texts, checked = check_texts(outputs, references)
            return self.count(Parsed(self.reader, self.read_outputs(texts)), Parsed(self.reader, self.read(checked)))
        read = outputs if isinstance(outputs, Parsed) else self.parse_outputs(outputs)
        wanted = references if isinstance(references, Parsed) else self.parse(references)
        if {read.reader, wanted.reader} != {self.reader}:
            raise MeasureError("the texts were parsed for another metric: parse them with this one")
        if len(read) != len(wanted):
            shorter = min(len(read), len(wanted))
            raise LengthMismatchError(f"{len(read)} outputs but {len(wanted)} lists of references", shorter)
        return self.count(read, wanted)
