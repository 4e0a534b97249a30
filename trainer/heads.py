"""Which layers of a classifier start at random: those after the encoder that pre-training knew."""

from __future__ import annotations

from torch import nn

HEADS = ("classifier", "score", "pooler", "pre_classifier", "classification_head", "head")
"""What Transformers' classes call them: BERT pooler and classifier, DistilBERT pre_classifier, Llama score, …"""


def head_names(model: nn.Module) -> list[str]:
    present = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    return [name for name in HEADS if name in present]


def in_head(parameter: str) -> bool:
    """Is this parameter's dotted name one of a head's?"""
    return not set(parameter.split(".")).isdisjoint(HEADS)
