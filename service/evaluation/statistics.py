"""Items and answers into a metric's statistics, with refusals that name the item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from service.errors import Invalid
from service.measure.metric import FloatArray
from service.measure.metrics import METRICS
from service.measure.validation import MeasureError

if TYPE_CHECKING:
    import pyarrow as pa


class CannotScore(Invalid):
    """A metric cannot score an item (`details.item`) or the set."""

    code = "cannot_score"


def item_statistics(metric: str, items: pa.Table, answers: Sequence[str | None]) -> FloatArray:
    """Statistics (n, k) of `answers` to `items` (columns id, label, references), in the items' order."""
    try:
        return METRICS[metric].statistics(answers, _expected(metric, items))
    except MeasureError as error:
        item = None if error.index is None else items.column("id")[error.index].as_py()
        place = "the set" if item is None else f"item '{item}'"
        raise CannotScore(
            f"The metric '{metric}' cannot score {place}: {error}.", details={"item": item, "reason": error.code}
        ) from error


def _expected(metric: str, items: pa.Table) -> list[list[str]]:
    """What answers are compared with: the label, or the references (the label of an item that has none)."""
    labels = items.column("label").to_pylist()
    if METRICS[metric].reads == "label":
        return [[label] for label in labels]
    texts = items.column("references").to_pylist()
    return [given or [label] for given, label in zip(texts, labels, strict=True)]
