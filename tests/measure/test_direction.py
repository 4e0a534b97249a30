"""Which way is better, told from the name."""

from __future__ import annotations

import pytest

from service.measure.direction import guess


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("eval/loss", "min"),
        ("train_loss", "min"),
        ("perplexity", "min"),
        ("val.WER", "min"),
        ("error_rate", "min"),
        ("latency_p95", "min"),
        ("seconds_per_step", "min"),
        ("eval/accuracy", "max"),
        ("eval/f1_macro", "max"),
        ("rougeL", "max"),
        ("rouge2", "max"),
        ("pass@1", "max"),
        ("exact_match", "max"),
        ("evalAccuracy", "max"),
        ("train/tokens_per_second", "max"),
        ("steps_per_s", "max"),
        ("reward_loss", "min"),
        ("learning_rate", None),
        ("grad_norm", None),
        ("epoch", None),
        ("per_layer", None),
        ("", None),
    ],
)
def test_the_last_telling_word_decides(name: str, direction: str | None) -> None:
    assert guess(name) == direction
