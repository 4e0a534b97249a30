"""How likely a model finds given texts: perplexity and bits per byte.

An output is (negative log-likelihood of the text in nats, tokens it was scored on), and where it is of other bytes than
the reference's their number (`Scored`). Perplexity is exp of the corpus mean per token, not a mean of the items'
perplexities; it compares models of one tokeniser only. Bits per byte count the UTF-8 bytes of the reference and compare
any models. A missing output is left out: no likelihood stands for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from service.measure.metric import MEASURE_VERSION, FloatArray, Kind, Metric, Reads, divide, weighted_sum
from service.measure.validation import MissingReferenceError, OutOfRangeError, check_referenced, check_texts

MAX_NATS = 200.0
"""Per token: beyond it a perplexity says nothing, and its powers in intervals and tests are more than a float holds."""


class Scored(NamedTuple):
    """A text as a model scored it. `tokens` may be None for bits per byte; `size` None: the reference's bytes."""

    nats: float
    tokens: int | None = None
    size: int | None = None


@dataclass(frozen=True)
class Likelihood:
    """Statistics (n, 2): nats, and tokens or bytes. Lower is better."""

    name: str
    per: Literal["token", "byte"]
    reads: Reads = "likelihood"
    kind: Kind = "corpus"
    higher_is_better: bool = False

    def signature(self) -> str:
        unit = "exp-of-mean" if self.per == "token" else "bits|encoding:utf-8"
        return f"{self.name}|value:{unit}|per:{self.per}|missing:left-out|measure:{MEASURE_VERSION}"

    def statistics(
        self, outputs: Sequence[Any], references: Sequence[Sequence[Any]], labels: Sequence[Any] | None = None
    ) -> FloatArray:
        check_referenced(outputs, references)
        texts = check_texts([None] * len(outputs), references)[1]
        rows = np.zeros((len(outputs), 2))
        for index, (output, item) in enumerate(zip(outputs, texts, strict=True)):
            if len(item) != 1:
                raise MissingReferenceError(f"item {index} has {len(item)} texts; a likelihood is of one", index)
            if output is not None:
                scored = _checked(output, index, self.per)
                rows[index] = scored.nats, scored.tokens if self.per == "token" else _bytes(scored, item[0], index)
        return rows

    def aggregate(self, statistics: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        sums = weighted_sum(statistics, weights)
        mean = divide(sums[:, 0], sums[:, 1], undefined=np.nan)
        if self.per == "byte":
            return mean / math.log(2)
        return np.exp(np.where(mean < MAX_NATS, mean, np.nan))

    def item_scores(self, statistics: FloatArray) -> FloatArray | None:
        return None


def _checked(output: Any, index: int, per: Literal["token", "byte"]) -> Scored:
    try:
        nats, tokens, *size = output
        scored = Scored(float(nats), tokens if tokens is None else int(tokens), *size)
    except (TypeError, ValueError) as error:
        raise OutOfRangeError(
            f"the output of item {index} is {output!r}: (negative log-likelihood, tokens) is asked for", index
        ) from error
    if not (math.isfinite(scored.nats) and scored.nats >= 0):
        raise OutOfRangeError(f"the negative log-likelihood of item {index} is {nats!r}: finite, 0 or more", index)
    if scored.tokens != tokens or (tokens is None and per == "token") or (tokens is not None and tokens < 1):
        raise OutOfRangeError(f"the number of tokens of item {index} is {tokens!r}: a whole number, 1 or more", index)
    return scored


def _bytes(scored: Scored, text: str, index: int) -> int:
    if scored.size is not None and scored.size < 1:
        raise OutOfRangeError(f"the number of bytes of item {index} is {scored.size!r}: 1 or more", index)
    if scored.size is None and not text:
        raise OutOfRangeError(f"the text of item {index} is empty: it has no bytes to count", index)
    return len(text.encode()) if scored.size is None else scored.size


FAMILY: list[Metric] = [Likelihood("perplexity", "token"), Likelihood("bits_per_byte", "byte")]
