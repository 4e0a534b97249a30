"""Items and answers into a metric's statistics, with refusals that name the item."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from service.errors import Invalid
from service.evaluation.uploads import Rows
from service.measure.metric import FloatArray
from service.measure.metrics import METRICS
from service.measure.validation import MeasureError

if TYPE_CHECKING:
    import pyarrow as pa


class CannotScore(Invalid):
    """A metric cannot score an item (`details.item`) or the set."""

    code = "cannot_score"


def item_statistics(
    metric: str,
    items: pa.Table,
    answers: Sequence[Any] | FloatArray,
    *,
    labels: Sequence[str] | None = None,
    piece: Rows[Any] | None = None,
) -> FloatArray:
    """Statistics (n, k) of `answers` (what the metric reads) to `items` (`columns_read`), in the items' order.

    `labels`: the vocabulary of the set that the items are a piece of. `piece`: the rows of an upload that they are,
    which a refusal then names.
    """
    try:
        return METRICS[metric].statistics(cast(Sequence[Any], answers), _expected(metric, items), labels)
    except MeasureError as error:
        raise _refusal(metric, items, error, piece) from error


def _refusal(metric: str, items: pa.Table, error: MeasureError, piece: Rows[Any] | None) -> CannotScore:
    details: dict[str, Any] = {"item": None, "reason": error.code}
    if error.index is None:
        return CannotScore(f"The metric '{metric}' cannot score the set: {error}.", details=details)
    details["item"] = item = items.column("id")[error.index].as_py()
    # A metric counts from the beginning of the piece it was given.
    what = re.sub(rf"\bitem {error.index}\b", f"item '{item}'", str(error)).rstrip(".")
    row = ""
    if piece is not None and piece.numbers is not None:
        details["row"] = piece.numbers[error.index]
        row = f"Row {details['row']:,}: "
    return CannotScore(f"{row}The metric '{metric}' cannot score item '{item}': {what}.", details=details)


def columns_read(metrics: Sequence[str]) -> list[str]:
    """The columns of items that these metrics are told."""
    read = {METRICS[name].reads for name in metrics}
    more = [column for column, what in (("labels", "labels"), ("input", "likelihood")) if what in read]
    return ["id", "label", "references", *more]


def _expected(metric: str, items: pa.Table) -> list[list[str]]:
    """What answers are compared with: the label or labels, or the references.

    Of an item without references: its label; its input, where it is the text itself that is scored; nothing, where
    samples were judged already.
    """
    what = METRICS[metric].reads
    if what == "labels":
        found: list[list[str]] = items.column("labels").to_pylist()
        return found
    labels = items.column("label").to_pylist()
    if what in ("label", "scores"):
        return [[label] for label in labels]
    texts: list[list[str]] = items.column("references").to_pylist()
    if what == "samples":
        return texts
    instead = items.column("input").to_pylist() if what == "likelihood" else labels
    return [given or [text] for given, text in zip(texts, instead, strict=True)]
