"""Every metric as an `evaluate.Metric`, for code that is written against Hugging Face's `evaluate`. No network.

    from service.measure.hugging_face import load

    load("f1_macro").compute(predictions=["a", "b"], references=["a", "a"])  # {"f1_macro": 0.333…}
    load("rouge1:stemmer=yes").compute(predictions=["the cat ran"], references=[["a cat runs", "cats ran"]])

It wants the extras `service` and `trainer`; the service itself never imports this module. A prediction is what
`service.measure.metric` says the metric reads, None where the model gave nothing. A reference is a label (for metrics
of labels and scores), a list of labels, or a text or a list of texts. `labels=` gives `compute` the vocabulary, which
scores of all classes are columns of.

The numbers and the refusals are those of the service: unequal lengths, transposed references, float labels and mixed
kinds raise a `MeasureError` (a ValueError) that names the item, where `evaluate` itself cuts, transposes or casts. What
has no value is None. Nothing is written to the cache folder: batches are kept in memory, so one process scores a set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import datasets
import evaluate

from service.measure.metric import Metric, Reads, base_name
from service.measure.metrics import METRICS
from service.measure.validation import LengthMismatchError, NotTextError

_TEXT, _NUMBER = datasets.Value("string"), datasets.Value("float64")
_FEATURES: dict[Reads, list[dict[str, Any]]] = {
    "label": [{"predictions": kind, "references": kind} for kind in (_TEXT, datasets.Value("int64"))],
    "labels": [{"predictions": [_TEXT], "references": [_TEXT]}],
    "scores": [{"predictions": [_NUMBER], "references": _TEXT}],
    "text": [{"predictions": _TEXT, "references": [_TEXT]}, {"predictions": _TEXT, "references": _TEXT}],
    "samples": [{"predictions": [_TEXT], "references": [_TEXT]}],
    "likelihood": [{"predictions": [_NUMBER], "references": _TEXT}],
}


class UnknownMetricError(ValueError):
    """There is no metric of this name, or it has no such option."""


class TunescopeMetric(evaluate.Metric):  # type: ignore[misc]  # evaluate is untyped
    """One metric of the registry; `load` makes them."""

    metric: ClassVar[Metric]

    def __init__(self, **kwargs: Any) -> None:
        if kwargs.get("num_process", 1) != 1:
            raise ValueError("one process scores a set: gather predictions and references first (num_process=1)")
        super().__init__(**{"keep_in_memory": True, "experiment_id": "memory", **kwargs})
        self._predictions: list[Any] = []
        self._references: list[Any] = []

    def __len__(self) -> int:
        return len(self._predictions)

    def __reduce__(self) -> tuple[Any, ...]:
        return load, (self.metric.name,)

    @property
    def signature(self) -> str:
        """All that can alter the value, library versions included."""
        return self.metric.signature()

    def add(self, *, prediction: Any = None, reference: Any = None, **kwargs: Any) -> None:
        """Keep one item for the next `compute`."""
        self.add_batch(predictions=[prediction], references=[reference], **kwargs)

    def add_batch(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> None:
        """Keep items for the next `compute`."""
        if kwargs:
            raise ValueError(f"{self.metric.name} takes predictions and references, not {', '.join(sorted(kwargs))}")
        given, wanted = _listed(predictions, "predictions"), _listed(references, "references")
        if len(given) != len(wanted) and self.metric.reads != "text":
            shorter = min(len(given), len(wanted))
            raise LengthMismatchError(f"{len(given)} predictions but {len(wanted)} references", shorter)
        if len(given) != len(wanted):
            # The metric says whether references came as streams, which would look like a difference of lengths here.
            self.metric.statistics(given, _as_lists(wanted, self.metric.reads))
        self._predictions += given
        self._references += wanted

    def compute(
        self, *, predictions: Any = None, references: Any = None, labels: Sequence[Any] | None = None, **kwargs: Any
    ) -> dict[str, float | None]:
        """{name: value} of what is given here and what was added before, which is forgotten then."""
        try:
            if predictions is not None or references is not None or kwargs:
                self.add_batch(predictions=predictions, references=references, **kwargs)
            return self._compute(predictions=self._predictions, references=self._references, labels=labels)
        finally:
            self._predictions, self._references = [], []

    def _info(self) -> Any:
        return evaluate.MetricInfo(
            description=type(self).__doc__ or "",
            citation="",
            inputs_description=f"An output of kind '{self.metric.reads}' an item; see service/measure/metric.py.",
            features=[datasets.Features(features) for features in _FEATURES[self.metric.reads]],
        )

    def _build_data_dir(self) -> str:
        return str(self._data_dir_root)

    def _compute(
        self, *, predictions: Sequence[Any], references: Sequence[Any], labels: Sequence[Any] | None = None
    ) -> dict[str, float | None]:
        wanted = _as_lists(references, self.metric.reads)
        statistics = self.metric.statistics(predictions, wanted, labels)
        value = float(self.metric.aggregate(statistics)[0])
        return {base_name(self.metric.name): None if value != value else value}


def load(name: str, **kwargs: Any) -> TunescopeMetric:
    """The metric of this name, which may set options ("top_k_accuracy:k=5"); kwargs are those of `evaluate.Metric`."""
    if name in CLASSES:
        return CLASSES[name](**kwargs)
    try:
        METRICS[name]
    except KeyError as error:
        raise UnknownMetricError(
            f"There is no metric {error.args[0]!r}. Known: {', '.join(sorted(METRICS))}."
        ) from error
    return _class_of(name)(**kwargs)


def _class_of(name: str) -> type[TunescopeMetric]:
    metric = METRICS[name]
    title = "".join(part.capitalize() for part in base_name(name).replace("++", "_plus_plus").split("_"))
    body = {
        "metric": metric,
        "__doc__": f"{metric.signature()}\n\n{type(metric).__doc__ or ''}",
        "__module__": __name__,
    }
    return type(title, (TunescopeMetric,), body)


def _listed(column: Any, what: str) -> list[Any]:
    if column is None:
        raise NotTextError(f"{what} are missing: predictions and references are asked for")
    if isinstance(column, str):
        raise NotTextError(f"{what} are one text: a list of them is asked for")
    return list(column.tolist() if hasattr(column, "tolist") else column)


def _as_lists(references: Sequence[Any], reads: Reads) -> list[Any]:
    """References as the metrics take them: a list an item."""
    if reads in ("label", "scores", "likelihood"):
        return [[one] for one in references]
    if reads == "text" and all(isinstance(one, str) for one in references):
        return [[one] for one in references]
    return list(references)


CLASSES: Mapping[str, type[TunescopeMetric]] = {name: _class_of(name) for name in METRICS}
"""A subclass of `evaluate.Metric` for every metric, by name."""
