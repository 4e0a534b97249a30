"""How far a fine-tune moved on general text: two causal LMs read the same tokens, and what they expect is compared.

Per predicted token, with logits at a position held against the next position's token: the difference of the negative
log-likelihoods, the ratio of the perplexities, and the forward divergence KL(base ‖ tuned) over the whole vocabulary.
All are ratios of sums over texts; their intervals come from resampling texts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from trainer.errors import TrainerError

Floats = npt.NDArray[np.float64]
CONFIDENCE = 0.95
RESAMPLES = 2_000
BATCH = 8
PASS_TOKENS = 1_024
"""Positions whose logits are held at once: with a vocabulary of 128,000, half a gigabyte for each distribution."""


class DriftError(TrainerError):
    """The two models cannot be compared, or there is nothing to compare them on."""


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    value: float
    interval: tuple[float, float] | None = None


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """As the service's `drift` of an audit takes it. In nats; `n_tokens` counts predicted tokens."""

    delta_nll: Estimate
    perplexity_ratio: Estimate
    kl: Estimate
    n_tokens: int
    n_texts: int
    text_hash: str
    confidence: float
    resamples: int | None
    seed: int

    def metrics(self) -> dict[str, float]:
        return {
            "drift/delta_nll": self.delta_nll.value,
            "drift/perplexity_ratio": self.perplexity_ratio.value,
            "drift/kl": self.kl.value,
        }


@dataclass(frozen=True)
class Sums:
    """Of each text, shape (n,): tokens predicted, negative log-likelihood under base and tuned, divergence."""

    tokens: Floats
    base: Floats
    tuned: Floats
    kl: Floats


class Reader(NamedTuple):
    """A model, and what is entered while it reads: with its adapter switched off, a tuned model is its own base."""

    model: nn.Module
    reading: Callable[[], AbstractContextManager[Any]] = nullcontext


@torch.inference_mode()
def compare(base: Reader, tuned: Reader, rows: Sequence[Sequence[int]], *, pass_tokens: int = PASS_TOKENS) -> Sums:
    """Reads token ids with both models. Rows of fewer than two tokens predict nothing.

    Texts go through in windows, each model keeping what it read in its cache, so that logits of no more than
    `pass_tokens` positions exist at once, however long a text is. Distributions are compared in float32, or in the
    models' own type where that is wider. Raises `DriftError` where the vocabularies differ.
    """
    models = {id(reader.model): reader.model for reader in (base, tuned)}
    modes = {key: model.training for key, model in models.items()}
    sums = np.zeros((4, len(rows)))
    try:
        for model in models.values():
            model.eval()
        order = sorted((row for row in range(len(rows)) if len(rows[row]) > 1), key=lambda row: len(rows[row]))
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            sums[:, batch] += _batch(base, tuned, [rows[row] for row in batch], max(1, pass_tokens // len(batch)))
    finally:
        for key, model in models.items():
            model.train(modes[key])
    return Sums(*sums)


def _batch(base: Reader, tuned: Reader, rows: Sequence[Sequence[int]], window: int) -> Floats:
    """The four sums of each row, shape (4, B). Rows are padded on the right, where no token sees the padding."""
    width = max(map(len, rows))
    ids_BT, mask_BT = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
    for place, row in enumerate(rows):
        ids_BT[place, : len(row)] = torch.tensor(row)
        mask_BT[place, : len(row)] = 1
    sums = np.zeros((4, len(rows)))
    for start, first_BWV, second_BWV in _windows(base, tuned, ids_BT, mask_BT, window):
        end = start + first_BWV.shape[1]
        device = first_BWV.device
        target_BW = ids_BT[:, start + 1 : end + 1].to(device)
        counted_BW = mask_BT[:, start + 1 : end + 1].to(device)
        first_BWV, second_BWV = _log_probabilities(first_BWV), _log_probabilities(second_BWV).to(device)
        nll_BW, tuned_nll_BW = (-one.gather(-1, target_BW[..., None])[..., 0] for one in (first_BWV, second_BWV))
        # A token that the base rules out adds nothing, whatever the tuned model says of it.
        gap_BWV = (first_BWV - second_BWV).masked_fill(first_BWV == -torch.inf, 0.0)
        kl_BW = (first_BWV.exp() * gap_BWV).sum(-1)
        parts = (torch.ones_like(nll_BW), nll_BW, tuned_nll_BW, kl_BW)
        sums += np.stack([torch.where(counted_BW == 1, part, 0.0).double().sum(-1).cpu().numpy() for part in parts])
    return sums


def _windows(
    base: Reader, tuned: Reader, ids_BT: torch.Tensor, mask_BT: torch.Tensor, window: int
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """(first position, logits of base, logits of tuned) for all positions but the last, which predicts nothing."""
    caches: list[Any] = [None, None]
    last = ids_BT.shape[1] - 1
    for start in range(0, last, window):
        end = min(start + window, last)
        logits = []
        for place, reader in enumerate((base, tuned)):
            device = next(reader.model.parameters()).device
            with reader.reading():
                output = reader.model(
                    input_ids=ids_BT[:, start:end].to(device),
                    attention_mask=mask_BT[:, :end].to(device),
                    past_key_values=caches[place],
                    use_cache=end < last,
                )
            caches[place] = getattr(output, "past_key_values", None)
            if end < last and caches[place] is None:
                raise DriftError("the model keeps no cache, so a long text cannot be read in windows: cut the texts.")
            logits.append(output.logits)
        if logits[0].shape[-1] != logits[1].shape[-1]:
            sizes = " and ".join(f"{one.shape[-1]:,}" for one in logits)
            raise DriftError(
                f"the models have vocabularies of {sizes} tokens: over different ones nothing is compared."
            )
        yield start, logits[0], logits[1]


def _log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return wide.log_softmax(-1)


def summarise(sums: Sums, texts: Sequence[str], *, seed: int = 0) -> Drift:
    """Ratios of sums with percentile intervals of 2,000 resamplings of texts; one text alone has no interval.

    Raises `DriftError` where no token was predicted.
    """
    tokens = float(sums.tokens.sum())
    if tokens == 0:
        raise DriftError("no text has two tokens or more: there is nothing to predict.")
    read = sums.tokens > 0
    n = int(read.sum())
    parts = np.stack([sums.tokens, sums.tuned - sums.base, sums.kl])[:, read]
    delta, kl = (float(part.sum()) / tokens for part in parts[1:])
    delta_interval = kl_interval = ratio_interval = None
    if n > 1:
        weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)
        drawn = weights @ parts.T
        delta_interval, kl_interval = (_ends(drawn[:, place] / drawn[:, 0]) for place in (1, 2))
        ratio_interval = (float(np.exp(delta_interval[0])), float(np.exp(delta_interval[1])))
    return Drift(
        delta_nll=Estimate(value=delta, interval=delta_interval),
        perplexity_ratio=Estimate(value=float(np.exp(delta)), interval=ratio_interval),
        # Rounding can leave two equal models a hair below 0, where no divergence is.
        kl=Estimate(value=max(kl, 0.0), interval=kl_interval),
        n_tokens=int(tokens),
        n_texts=n,
        text_hash=text_hash(texts),
        confidence=CONFIDENCE,
        resamples=RESAMPLES if n > 1 else None,
        seed=seed,
    )


def _ends(drawn: Floats) -> tuple[float, float]:
    low, high = np.quantile(drawn, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    return float(low), float(high)


def text_hash(texts: Sequence[str]) -> str:
    """SHA-256 of the texts in their order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def measure(
    base: Reader,
    tuned: Reader,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    max_length: int = 512,
    seed: int = 0,
    pass_tokens: int = PASS_TOKENS,
) -> Drift:
    """The drift between two causal LMs that share a tokenizer.

    Of each text the first `max_length` tokens are read, or as many as the smaller of the models' contexts holds.
    """
    rooms = [getattr(getattr(one.model, "config", None), "max_position_embeddings", None) for one in (base, tuned)]
    max_length = min([max_length, *(room for room in rooms if room is not None)])
    rows = [list(row)[:max_length] for row in tokenizer(list(texts))["input_ids"]]
    return summarise(compare(base, tuned, rows, pass_tokens=pass_tokens), texts, seed=seed)


def without_adapter(model: Any) -> Reader | None:
    """The base inside a model with an adapter; None where there is no adapter to switch off."""
    switch = getattr(model, "disable_adapter", None)
    return None if switch is None else Reader(model, switch)
