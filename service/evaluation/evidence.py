"""What an answer carries beside its text: scores of labels, sets of labels, likelihoods, counts of samples.

Checked when it comes in, stored as it came, and turned into what each metric reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from service.errors import Invalid
from service.evaluation.parsers import LIST, label_list_reader
from service.evaluation.schemas import Prediction
from service.evaluation.uploads import Rows
from service.measure.metric import FloatArray, Reads
from service.measure.metrics import METRICS
from service.measure.metrics.likelihood import Likelihood, Scored
from service.measure.metrics.pass_at_k import Sampled
from service.store.evaluations import EVIDENCE_COLUMNS
from service.store.tables import Suite

Columns = Mapping[str, Sequence[Any]]
Evidence = dict[str, Any]

_HOW: dict[str, str] = {
    "output": "send the text that the model gave (`output`), or `output` null where it gave none",
    "label_scores": "send a number for each label, {label: number}",
    "predicted_labels": "send the list of labels that the model gave, [] for none",
    "nll": "send the negative log-likelihood of the text in nats, summed over its tokens",
    "n_tokens": "send the number of tokens that `nll` is summed over",
    "n_samples": "send how many answers were sampled, and as `n_correct` how many of them are right",
}
_FIELD: dict[Reads, str] = {
    "label": "output",
    "text": "output",
    "scores": "label_scores",
    "labels": "predicted_labels",
    "likelihood": "nll",
    "samples": "n_samples",
}


class PredictionInvalid(Invalid):
    """`details.item` is the id of the item at fault."""

    code = "prediction_invalid"


def reads(suite: Suite) -> set[Reads]:
    """What the metrics of a suite read."""
    return {METRICS[name].reads for name in suite.definition["metrics"]}


class EvidenceCheck:
    """What an answer must carry in a suite, and what of it may be said."""

    def __init__(self, suite: Suite, vocabulary: Mapping[Reads, Sequence[str]]) -> None:
        """`vocabulary`: the labels that metrics of scores, and of sets of labels, know."""
        self._needed = dict(_needed(suite.definition["metrics"]))
        self._may_lack_scores = METRICS[suite.definition["primary_metric"]].reads != "scores"
        self.lists = suite.definition["parser"] == LIST
        """Is an output a list of labels?"""
        self._read_list = label_list_reader(vocabulary.get("labels", ()))
        self._scored = False
        self._unscored: Invalid | None = None
        self._known = {of: dict.fromkeys(labels) for of, labels in vocabulary.items()}
        declared = suite.definition["labels"] is not None
        self._source = "the suite's labels" if declared else "the labels of its items: declare the suite's `labels`"

    def __call__(self, piece: Rows[Prediction], index: int) -> Evidence:
        """What this row carries, in one order whatever it came in; nothing that is null.

        A row that answers must carry what every metric reads; scores of labels may be absent from all of them, unless
        the primary metric reads them (`lacks_scores`). One that carries nothing answers nothing.
        """
        row = cast(Evidence, piece.rows[index])
        found: Evidence = {name: row[name] for name in EVIDENCE_COLUMNS if row.get(name) is not None}
        if self.lists and "predicted_labels" not in found and row.get("output") is not None and _to_read(row):
            listed = self._read_list(row["output"])
            if listed is not None:
                found["predicted_labels"] = listed
        answered = dict(found)
        if row.get("output") is not None:
            answered["output"] = row["output"]

        def fault(what: str) -> Invalid:
            return piece.fault(PredictionInvalid, index, row["id"], what)

        if not answered:
            if row.keys().isdisjoint(("output", *EVIDENCE_COLUMNS)):
                raise fault(f"has no answer: {_HOW['output']}, or what the suite's metrics read")
            return found
        for field, metric in self._needed.items():
            # Of scores alone, the best label is the answer.
            of_scores = field == "output" and METRICS[metric].reads == "label" and "label_scores" in found
            listed_here = field == "predicted_labels" and self.lists and "output" in answered
            if field not in answered and not of_scores and not listed_here:
                lack = fault(f"has no `{field}`, which the metric '{metric}' reads: {_HOW[field]}")
                if field != "label_scores" or not self._may_lack_scores or self._scored:
                    raise lack
                self._unscored = self._unscored or lack
        if "label_scores" in found:
            if self._unscored is not None:
                raise self._unscored
            self._scored = True
            # Sorted they are the columns of the vocabulary.
            found["label_scores"] = dict(sorted(found["label_scores"].items()))
            self._check_scores(found["label_scores"], fault)
        if "predicted_labels" in found:
            found["predicted_labels"] = sorted(found["predicted_labels"])
            self._check_labels(found["predicted_labels"], fault)
        if ("n_samples" in found) != ("n_correct" in found):
            given, absent = ("n_samples", "n_correct") if "n_samples" in found else ("n_correct", "n_samples")
            raise fault(f"has `{given}` but no `{absent}`: the two go together")
        if "n_samples" in found and found["n_correct"] > found["n_samples"]:
            raise fault(f"has {found['n_correct']:,} right samples of {found['n_samples']:,}")
        return found

    @property
    def lacks_scores(self) -> bool:
        """Metrics read scores of labels, and the rows that answered carry none: these metrics cannot tell."""
        return self._unscored is not None

    def _check_scores(self, scores: Mapping[str, float], fault: Any) -> None:
        known = self._known.get("scores")
        if known is None or scores.keys() == known.keys():
            return
        for label in scores:
            if label not in known:
                raise fault(f"has a score for '{label}', which is not among {self._source}")
        absent = next(label for label in known if label not in scores)
        raise fault(f"has no score for the label '{absent}': each of the {len(known):,} labels takes one")

    def _check_labels(self, labels: Sequence[str], fault: Any) -> None:
        known = self._known.get("labels")
        seen: set[str] = set()
        for label in labels:
            if label in seen:
                raise fault(f"is predicted '{label}' twice")
            if known is not None and label not in known:
                raise fault(f"is predicted '{label}', which is not among {self._source}")
            seen.add(label)


def _to_read(row: Evidence) -> bool:
    """The client has not said that there is no answer in the output."""
    return row.get("parsed", "") is not None


def _needed(metrics: Sequence[str]) -> list[tuple[str, str]]:
    """(field, the first metric that reads it)."""
    fields = [(_FIELD[METRICS[name].reads], name) for name in reversed(metrics)]
    for name in reversed(metrics):
        metric = METRICS[name]
        if isinstance(metric, Likelihood) and metric.per == "token":
            fields.append(("n_tokens", name))
    return fields


def best_label(label_scores: Mapping[str, float]) -> str:
    """The label of highest score, of several the first one sorted, as numpy's argmax over the columns."""
    return max(label_scores, key=label_scores.__getitem__)


def given(metric: str, columns: Columns, vocabulary: Sequence[str] | None) -> Sequence[Any] | FloatArray:
    """The answers as the metric reads them, None (a row of NaN) where there is none.

    `columns`: `parsed` and `EVIDENCE_COLUMNS`, checked by `EvidenceCheck`.
    """
    what = METRICS[metric].reads
    if what in ("label", "text"):
        return columns["parsed"]
    if what == "labels":
        return columns["predicted_labels"]
    if what == "scores":
        absent = [float("nan")] * len(vocabulary or ())
        rows = [absent if scores is None else list(scores.values()) for scores in columns["label_scores"]]
        return np.array(rows, dtype=np.float64)
    if what == "likelihood":
        return _together(Scored, columns, "nll", "n_tokens", "n_bytes")
    return _together(Sampled, columns, "n_samples", "n_correct")


def _together(kind: Any, columns: Columns, first: str, *others: str) -> list[Any]:
    rows = zip(columns[first], *(columns[name] for name in others), strict=True)
    return [None if row[0] is None else kind(*row) for row in rows]
