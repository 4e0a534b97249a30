from __future__ import annotations

from collections import Counter

import pytest
import torch

from trainer.batches import BatchOrder, Collator
from trainer.data import NO_LOSS, Example


def order(rows: int, batch_size: int, epoch: int = 0, **options: object) -> list[list[int]]:
    settings = {"group_by_length": False, "seed": 0} | options
    sampler = BatchOrder([1 + row % 17 for row in range(rows)], batch_size, **settings)  # type: ignore[arg-type]
    sampler.set_epoch(epoch)
    flat = list(sampler)
    assert len(flat) == len(sampler)
    return [flat[start : start + batch_size] for start in range(0, len(flat), batch_size)]


@pytest.mark.parametrize("group_by_length", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 8, 9, 1000])
def test_an_epoch_holds_every_row_once(rows: int, group_by_length: bool) -> None:
    batches = order(rows, 8, group_by_length=group_by_length)
    assert sorted(row for batch in batches for row in batch) == list(range(rows))
    assert all(len(batch) == 8 for batch in batches[:-1])


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    assert order(100, 8, epoch=3, seed=5) == order(100, 8, epoch=3, seed=5)
    assert order(100, 8, epoch=3, seed=5) != order(100, 8, epoch=4, seed=5)
    assert order(100, 8, epoch=3, seed=5) != order(100, 8, epoch=3, seed=6)


def test_grouping_by_length_saves_padding() -> None:
    def padding(batches: list[list[int]]) -> int:
        lengths = [[1 + row % 17 for row in batch] for batch in batches]
        return sum(max(batch) * len(batch) - sum(batch) for batch in lengths)

    assert padding(order(1000, 8, group_by_length=True)) < padding(order(1000, 8)) / 5


@pytest.mark.parametrize("rows", [60, 61])
def test_every_batch_holds_its_share_of_replay(rows: int) -> None:
    batches = order(rows, 10, replay=7, share=0.2)
    assert [sum(row >= rows for row in batch) for batch in batches] == [2] * len(batches)
    assert sorted(row for batch in batches for row in batch if row < rows) == list(range(rows))


def test_replay_rows_take_turns_across_epochs() -> None:
    seen = Counter(
        row for epoch in range(7) for batch in order(60, 10, epoch, replay=7, share=0.2) for row in batch if row >= 60
    )
    assert set(seen) == set(range(60, 67))
    assert max(seen.values()) - min(seen.values()) <= 1


def test_a_small_share_is_still_one_row() -> None:
    assert all(sum(row >= 30 for row in batch) == 1 for batch in order(30, 4, replay=3, share=0.01))


def test_collating_pads_on_the_right() -> None:
    batch = Collator(9)([Example(input_ids=[1, 2, 3], labels=[NO_LOSS, 2, 3]), Example(input_ids=[4], labels=[4])])
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[NO_LOSS, 2, 3], [4, NO_LOSS, NO_LOSS]]
    classes = Collator(9)([Example(input_ids=[1, 2], labels=0), Example(input_ids=[4], labels=2)])
    assert torch.equal(classes["labels"], torch.tensor([0, 2]))
