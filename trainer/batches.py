"""Which rows share a batch, and how a batch becomes tensors."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Sampler

from trainer.data import NO_LOSS, Example

POOL = 50
"""Batches sorted by length together: enough to save the padding, few enough to keep the order random."""


class BatchOrder(Sampler[int]):
    """Row numbers such that each run of `batch_size` of them is a batch.

    Rows `0 .. n-1` come once an epoch. Where there are `replay` rows (numbered from `n` on), each batch gives
    `round(share * batch_size)` places, at least one, to them, in an order of their own that runs on from epoch to
    epoch, so that all of them are seen equally often. The order depends on (seed, epoch) and nothing else: a resumed
    run sees what an uninterrupted one would have seen.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        *,
        group_by_length: bool,
        seed: int,
        replay: int = 0,
        share: float = 0.0,
    ) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.group_by_length = group_by_length
        self.seed = seed
        self.replay = replay
        self.guests = min(max(1, round(share * batch_size)), batch_size - 1) if replay else 0
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths) + self._batches() * self.guests

    def __iter__(self) -> Iterator[int]:
        rows = list(range(len(self.lengths)))
        generator = random.Random(f"{self.seed}:{self.epoch}")
        generator.shuffle(rows)
        size = self.batch_size - self.guests
        if self.group_by_length:
            pools = [rows[start : start + POOL * size] for start in range(0, len(rows), POOL * size)]
            rows = [row for pool in pools for row in sorted(pool, key=self.lengths.__getitem__)]
        batches = [rows[start : start + size] for start in range(0, len(rows), size)]
        # Only the last batch may be short, or what follows a short one would be cut in the wrong places.
        short = batches.pop() if len(batches[-1]) < size else []
        generator.shuffle(batches)
        guests = self._guests()
        for batch in [*batches, short] if short else batches:
            yield from batch
            yield from (next(guests) for _ in range(self.guests))

    def _batches(self) -> int:
        return -(-len(self.lengths) // (self.batch_size - self.guests))

    def _guests(self) -> Iterator[int]:
        """Replay rows from where the epochs before this one stopped: pass after pass, each in an order of its own."""
        if not self.replay:
            return
        start = self.epoch * self._batches() * self.guests
        turn, place = divmod(start, self.replay)
        while True:
            order = list(range(len(self.lengths), len(self.lengths) + self.replay))
            random.Random(f"{self.seed}:replay:{turn}").shuffle(order)
            yield from order[place:]
            turn, place = turn + 1, 0


class Collator:
    """Examples -> one batch, padded on the right to its longest."""

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        width = max(len(example["input_ids"]) for example in examples)
        ids = np.full((len(examples), width), self.pad_id)
        mask = np.zeros_like(ids)
        labels = np.full_like(ids, NO_LOSS)
        classes: list[int] = []
        for row, example in enumerate(examples):
            length = len(example["input_ids"])
            ids[row, :length] = example["input_ids"]
            mask[row, :length] = 1
            if isinstance(example["labels"], int):
                classes.append(example["labels"])
            else:
                labels[row, :length] = example["labels"]
        targets = np.array(classes) if classes else labels
        return {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask),
            "labels": torch.from_numpy(targets),
        }
