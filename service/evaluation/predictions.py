"""Predictions meet the items of a suite: joined by id, parsed, counted, hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import orjson

from service.errors import Invalid
from service.evaluation.parsers import parser_for
from service.evaluation.schemas import Prediction
from service.store.tables import Suite


class PredictionInvalid(Invalid):
    """`details.item` is the id of the item at fault."""

    code = "prediction_invalid"


@dataclass(frozen=True)
class Answers:
    """One row an item, in the suite's order. A missing or unparsed answer is None in `parsed`."""

    ids: list[str]
    outputs: list[str | None]
    parsed: list[str | None]
    probabilities: list[float | None]

    @property
    def n_missing(self) -> int:
        return self.outputs.count(None)

    @property
    def n_unparsed(self) -> int:
        return self.parsed.count(None) - self.n_missing

    def hash(self) -> str:
        """SHA-256 over every item's answer, by id."""
        digest = hashlib.sha256()
        for row in sorted(zip(self.ids, self.outputs, self.parsed, self.probabilities, strict=True), key=itemgetter(0)):
            digest.update(orjson.dumps(row) + b"\n")
        return digest.hexdigest()


def align(suite: Suite, item_ids: Sequence[str], predictions: Sequence[Prediction]) -> Answers:
    """Join `predictions` to the items by id. Unknown and repeated ids are refused; absent ones are missing."""
    by_id: dict[str, Prediction] = {}
    known = set(item_ids)
    for prediction in predictions:
        item_id = prediction["id"]
        if item_id in by_id:
            raise _fault(item_id, "is predicted twice")
        if item_id not in known:
            raise _fault(item_id, f"is not in the suite '{suite.name}' version {suite.version}")
        by_id[item_id] = prediction
    read = _Reader(suite)
    absent: Prediction = {"id": "", "output": None}
    rows = [by_id.get(item_id, absent) for item_id in item_ids]
    return Answers(
        ids=list(item_ids),
        outputs=[row["output"] for row in rows],
        parsed=[read(row) for row in rows],
        probabilities=[row.get("probability") for row in rows],
    )


class _Reader:
    """What a prediction answers: its own `parsed`, else what the suite's parser finds in the output."""

    def __init__(self, suite: Suite) -> None:
        labels: list[str] | None = suite.definition["labels"]
        parser = suite.definition["parser"]
        self.labels = None if labels is None else frozenset(labels)
        self.parse = parser_for(parser if isinstance(parser, str) else None, labels)

    def __call__(self, prediction: Prediction) -> str | None:
        output = prediction["output"]
        if "parsed" not in prediction:
            return None if output is None else self.parse(output)
        parsed = prediction["parsed"]
        if parsed is None:
            return None
        if output is None:
            raise _fault(prediction["id"], "has a parsed answer but no output")
        if self.labels is not None and parsed not in self.labels:
            raise _fault(prediction["id"], f"is predicted '{parsed}', which is not among the suite's labels")
        return parsed


def _fault(item_id: str, what: str) -> PredictionInvalid:
    return PredictionInvalid(f"Item '{item_id}' {what}.", details={"item": item_id})
