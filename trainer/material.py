"""Everything a run reads, read and checked before a model is loaded: a slip shows in a second, not after an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.config import TrainConfig
from trainer.data import (
    Example,
    Table,
    Tokenizer,
    draw,
    encode_answers,
    encode_classes,
    fingerprint,
    label_set,
    labels_of,
    locate,
    read_table,
    split,
)
from trainer.errors import DataError
from trainer.suite import Item, Suite, items, read_suite


@dataclass(frozen=True)
class Material:
    """A run's data as read."""

    train: Table
    validation: Table | None
    replay: Table | None
    labels: list[str] | None
    """Classification: in the order of their class numbers."""
    suites: list[Suite]
    probe: tuple[Item, ...]
    drift: tuple[str, ...]
    """General texts."""
    data_hash: str


@dataclass(frozen=True)
class Examples:
    """A run's data as a model is fitted to it: rows to train on, to validate on, and to replay among the first."""

    train: Sequence[Example]
    validation: Sequence[Example] = ()
    replay: Sequence[Example] = ()
    share: float = 0.0


def gather(config: TrainConfig) -> Material:
    """Reads every file that `config` names. Raises `DataError` for the first thing wrong with one."""
    data = config.data
    train = read_table(locate(data, data.train))
    labels = label_set(train, data.label) if config.task == "classification" else None
    validation = None
    if isinstance(data.validation, str):
        validation = read_table(locate(data, data.validation))
    elif data.validation:
        train, validation = split(train, data.validation, config.train.seed)
    train = draw(train, data.limit, config.train.seed)
    replay = read_table(locate(data, config.replay.path)) if config.replay is not None else None
    probe: tuple[Item, ...] = ()
    if config.probe is not None:
        table = draw(read_table(locate(data, config.probe.path)), config.probe.limit, config.train.seed)
        inputs, answers = table.column(data.prompt, "data.prompt"), table.column(data.answer, "data.answer")
        probe = items(table, inputs, answers, config.probe.group)
    general: tuple[str, ...] = ()
    if config.drift is not None:
        table = draw(read_table(locate(data, config.drift.path)), config.drift.limit, config.train.seed)
        general = tuple(table.column(data.text, "data.text"))
    suites = [read_suite(one, data, config.task, labels) for one in config.evaluate]
    tables = [table for table in (train, validation, replay) if table is not None]
    return Material(train, validation, replay, labels, suites, probe, general, fingerprint(*tables))


def encode(material: Material, config: TrainConfig, tokenizer: Tokenizer) -> Examples:
    """Token ids for all that is trained on. Raises `DataError` for a row that cannot be trained on."""

    def rows(table: Table | None) -> list[Example]:
        if table is None:
            return []
        if material.labels is None:
            return encode_answers(table, config.data, tokenizer)
        texts = table.column(config.data.text, "data.text")
        labels = labels_of(table, config.data.label, material.labels)
        return encode_classes(texts, labels, material.labels, tokenizer, config.data.max_length)

    examples = Examples(
        train=rows(material.train),
        validation=rows(material.validation),
        replay=rows(material.replay),
        share=config.replay.share if config.replay is not None else 0.0,
    )
    if not any(len(example["input_ids"]) > 1 for example in examples.train):
        raise DataError(f"{material.train.path}: the tokenizer makes nothing of the texts.")
    return examples


def domain_answers(material: Material, config: TrainConfig) -> frozenset[str]:
    """The distinct answers a causal LM is taught, where they are few enough to be labels."""
    column = config.data.answer
    answers = {str(record[column]).strip() for record in material.train.records if record.get(column)}
    return frozenset(answers) if len(answers) <= len(material.train.records) / 4 else frozenset()
