"""Predictions meet the items of a suite: joined by id, parsed, counted, hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from service.evaluation.evidence import Evidence, EvidenceCheck, PredictionInvalid, best_label, reads
from service.evaluation.parsers import LIST, parser_for
from service.evaluation.schemas import Prediction
from service.evaluation.uploads import Rows
from service.measure.metric import Reads
from service.store import parquet, suites
from service.store.evaluations import EVIDENCE_COLUMNS
from service.store.spool import Ids, Places, RowFile, digests
from service.store.tables import Suite

if TYPE_CHECKING:
    import pyarrow as pa


class Answers:
    """The answers to the items of a suite, in its order, whatever order they came in; their texts are on disk.

    A missing or unparsed answer is None in `parsed`.
    """

    def __init__(
        self,
        ids: pa.ChunkedArray,
        places: Places,
        rows: RowFile,
        *,
        named: Collection[str],
        n_missing: int,
        n_unparsed: int,
        lacks_scores: bool,
    ) -> None:
        """`places`: the number of each item's row in `rows`, -1 where it has none. `named`: the different answers of
        a suite of labels. `lacks_scores` as in `EvidenceCheck`."""
        self._ids = ids
        self._places = places
        self._rows = rows
        self.named = named
        self.n_missing = n_missing
        self.n_unparsed = n_unparsed
        self.lacks_scores = lacks_scores

    def columns(self, start: int, stop: int) -> dict[str, list[Any]]:
        """id, output, parsed, probability and `EVIDENCE_COLUMNS` of the items from `start` to `stop`."""
        lines = self._rows.read(self._places[start:stop], ABSENT)
        rows = [orjson.loads(line) for line in lines]
        columns = {
            name: [row[place] for row in rows] for place, name in enumerate(("output", "parsed", "probability"), 1)
        }
        carried: list[Evidence] = [row[4] if len(row) > 4 else {} for row in rows]
        evidence = {name: [one.get(name) for one in carried] for name in EVIDENCE_COLUMNS}
        return {"id": self._ids[start:stop].to_pylist(), **columns, **evidence}

    def hash(self) -> str:
        """SHA-256 over every item's answer, by id."""
        digest = hashlib.sha256()
        order = suites.by_id(self._ids)
        for place, line in zip(order, self._rows.read(self._places[order], ABSENT), strict=True):
            if line is ABSENT:
                line = _line(self._ids[int(place)].as_py(), None, None, None)
            digest.update(line + b"\n")
        return digest.hexdigest()


def hash_of(answers: Iterable[tuple[str, str | None, str | None, float | None]]) -> str:
    """The same of answers in memory: id, output, parsed and probability of each item, in any order."""
    digest = hashlib.sha256()
    for answer in sorted(answers, key=itemgetter(0)):
        digest.update(_line(*answer) + b"\n")
    return digest.hexdigest()


def _line(
    item_id: str,
    output: str | None,
    parsed: str | None,
    probability: float | None,
    evidence: Evidence | None = None,
) -> bytes:
    """An answer that carries nothing else is a line of four, as all were once: its hash stays."""
    return orjson.dumps((item_id, output, parsed, probability, *([evidence] if evidence else [])))


ABSENT = _line("", None, None, None)


def align(
    suite: Suite,
    ids: pa.ChunkedArray,
    predictions: Iterable[Rows[Prediction]],
    rows: RowFile,
    vocabulary: Mapping[Reads, Sequence[str]],
) -> Answers:
    """Join `predictions` to the items (`ids`, in their order) by id; what they say goes to `rows`.

    Unknown and repeated ids are refused, and so is an upload without a prediction; absent ids are missing.
    `vocabulary` as in `EvidenceCheck`.
    """
    starts = range(0, len(ids), parquet.ROWS)
    known = Ids([digests(ids.slice(start, parquet.ROWS).to_pylist()) for start in starts])
    read, check = _Reader(suite), EvidenceCheck(suite, vocabulary)
    places = np.full(len(known), -1)
    of_labels = "label" in reads(suite)
    named: set[str] = set()
    n_answered = n_unparsed = 0
    for piece in predictions:
        found = known.places([prediction["id"] for prediction in piece.rows])
        first = len(rows)
        lines = []
        for index, (prediction, place) in enumerate(zip(piece.rows, found.tolist(), strict=True)):
            item_id, output = prediction["id"], prediction.get("output")
            if place < 0:
                what = f"is not in the suite '{suite.name}' version {suite.version}"
                raise piece.fault(PredictionInvalid, index, item_id, what)
            if places[place] >= 0:
                raise piece.fault(PredictionInvalid, index, item_id, "is predicted twice")
            evidence = check(piece, index)
            parsed = read(piece, index, evidence)
            places[place] = first + index
            n_answered += output is not None or bool(evidence)
            unread = (read.wanted and parsed is None) or (check.lists and "predicted_labels" not in evidence)
            n_unparsed += output is not None and unread
            if of_labels and parsed is not None:
                named.add(parsed)
            lines.append(_line(item_id, output, parsed, prediction.get("probability"), evidence))
        rows.add(lines)
    if not len(rows):
        raise PredictionInvalid(
            f"There is no prediction: send those for the {len(known):,} items of '{suite.name}', with `output` null "
            "where the model gave none.",
            details={"item": None},
        )
    n_missing = len(known) - n_answered
    return Answers(
        ids,
        places,
        rows,
        named=named,
        n_missing=n_missing,
        n_unparsed=n_unparsed,
        lacks_scores=check.lacks_scores,
    )


class _Reader:
    """What a prediction answers: its own `parsed`, else what the suite's parser finds in the output, else the label of
    highest score. Where no metric reads an answer (`wanted`), outputs are not parsed."""

    def __init__(self, suite: Suite) -> None:
        labels: list[str] | None = suite.definition["labels"]
        parser = suite.definition["parser"]
        self.labels = None if labels is None else frozenset(labels)
        # A list of labels is read with the other evidence.
        self.parse = parser_for(parser if isinstance(parser, str) and parser != LIST else None, labels)
        self.wanted = not reads(suite).isdisjoint(("label", "text"))

    def __call__(self, piece: Rows[Prediction], index: int, evidence: Evidence) -> str | None:
        prediction = piece.rows[index]
        output, scores = prediction.get("output"), evidence.get("label_scores")
        if "parsed" not in prediction:
            if output is not None:
                return self.parse(output) if self.wanted else None
            if not scores:
                return None
        parsed = prediction["parsed"] if "parsed" in prediction else best_label(scores or {})
        if parsed is None:
            return None
        if output is None and not evidence:
            raise piece.fault(PredictionInvalid, index, prediction["id"], "has a parsed answer but no output")
        if self.labels is not None and parsed not in self.labels:
            what = f"is predicted '{parsed}', which is not among the suite's labels"
            raise piece.fault(PredictionInvalid, index, prediction["id"], what)
        return parsed
