"""Exact match and token F1 of answers, as the official SQuAD v1.1 script scores them.

An answer is lower-cased, stripped of ASCII punctuation and of the articles a, an, the, and its white space is
collapsed; the best of several references counts (Rajpurkar et al. 2016, section 6.1). Scripts written without
spaces (Chinese, Japanese) are one token a run of characters, so there token F1 is little finer than exact match.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from service.measure.metric import MEASURE_VERSION, FloatArray, Kind, Metric, Reads, weighted_mean
from service.measure.validation import check_texts

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise_answer(text: str) -> str:
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _exact_match(output: str, reference: str) -> float:
    return float(output == reference)


def _token_f1(output: str, reference: str) -> float:
    predicted, true = output.split(), reference.split()
    common = (Counter(predicted) & Counter(true)).total()
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted), common / len(true)
    return (2 * precision * recall) / (precision + recall)


@dataclass(frozen=True)
class AnswerMetric:
    """Best score of an answer over its references. Statistics (n, 1): that score."""

    name: str
    kind: Kind
    compare: Callable[[str, str], float]
    reads: Reads = "text"
    higher_is_better: bool = True

    def signature(self) -> str:
        return f"{self.name}|norm:squad-v1.1|references:best|missing:wrong|measure:{MEASURE_VERSION}"

    def statistics(
        self, outputs: Sequence[str | None], references: Sequence[Sequence[str]], labels: Sequence[str] | None = None
    ) -> FloatArray:
        texts, reference_texts = check_texts(outputs, references)
        scores = np.empty((len(texts), 1))
        for index, (text, item) in enumerate(zip(texts, reference_texts, strict=True)):
            answer = normalise_answer(text)
            # A model that gave nothing is wrong even where the reference is empty after normalising.
            given = outputs[index] is not None
            scores[index, 0] = max(self.compare(answer, normalise_answer(one)) for one in item) if given else 0.0
        return scores

    def aggregate(self, statistics: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        return weighted_mean(statistics[:, 0], weights)

    def item_scores(self, statistics: FloatArray) -> FloatArray | None:
        return statistics[:, 0]


FAMILY: list[Metric] = [
    AnswerMetric("exact_match", "proportion", _exact_match),
    AnswerMetric("token_f1", "mean", _token_f1),
]
