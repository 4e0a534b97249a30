"""Tiny models, built on the spot: what a test of the trainer trains in a second."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from trainer.config import TrainConfig, config_from

# More threads than work only wait for one another.
torch.set_num_threads(1)

SUMS = [
    {"prompt": f"{a}+{b}=", "answer": str(a + b), "kind": "even" if a % 2 == 0 else "odd"}
    for a in range(5)
    for b in range(4)
]
TICKETS = [
    {"text": f"{thing} {fault}", "label": label}
    for thing in ("my card", "the order", "a phone", "her key")
    for fault, label in (("is late", "delay"), ("broke", "repair"), ("is gone", "lost"))
]


def write_jsonl(path: Path, records: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def write_csv(path: Path, records: Sequence[Mapping[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)
    return path


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A token for each byte: every text can be written, and there is nothing to learn."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<pad>", "<eos>", *alphabet])}
    plain = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", eos_token="<eos>")


@pytest.fixture(scope="session")
def tokenizer_folder(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return folder


def llama(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=258,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def bert(labels: int = 3, seed: int = 0) -> BertForSequenceClassification:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=258,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        pad_token_id=0,
        num_labels=labels,
    )
    return BertForSequenceClassification(config)


@pytest.fixture(scope="session")
def causal_folder(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("causal") / "base"
    llama().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def encoder_folder(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "base"
    bert().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def sums_config(causal_folder: Path, tmp_path: Path) -> dict[str, Any]:
    """A causal LM that learns sums, to be changed by the test."""
    write_jsonl(tmp_path / "sums.jsonl", SUMS)
    return {
        "project": "sums",
        "task": "causal_lm",
        "model": {"path": str(causal_folder)},
        "data": {"folder": str(tmp_path), "train": "sums.jsonl", "max_length": 32},
        "train": {"learning_rate": 1e-2, "max_steps": 8, "batch_size": 8, "log_every": 1, "device": "cpu"},
        "evaluate": [{"suite": "sums", "path": "sums.jsonl", "max_new_tokens": 4}],
        "output": str(tmp_path / "out"),
    }


@pytest.fixture
def tickets_config(encoder_folder: Path, tmp_path: Path) -> dict[str, Any]:
    """An encoder that learns to sort tickets, to be changed by the test."""
    write_csv(tmp_path / "tickets.csv", TICKETS)
    return {
        "project": "tickets",
        "task": "classification",
        "model": {"path": str(encoder_folder)},
        "data": {"folder": str(tmp_path), "train": "tickets.csv", "test": "tickets.csv", "max_length": 32},
        "train": {"learning_rate": 3e-3, "max_steps": 6, "batch_size": 6, "log_every": 1, "device": "cpu"},
        "evaluate": [{"suite": "tickets"}],
        "output": str(tmp_path / "out"),
    }


def built(content: Mapping[str, Any], **changes: Any) -> TrainConfig:
    return config_from({**content, **changes})
