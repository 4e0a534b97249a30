"""A suite: items under a name, and how they are judged. Scores are the service's business."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from trainer.config import DataConfig, EvaluationConfig
from trainer.data import Table, labels_of, locate, read_table
from trainer.errors import ConfigError

LABEL_METRICS = ("accuracy", "f1_macro", "roc_auc", "average_precision", "log_loss", "brier_score", "ece")


class Item(Struct, frozen=True, kw_only=True):
    id: str
    input: str
    answer: str
    """The label, or the text that is right."""
    group: str | None = None


class Suite(Struct, frozen=True, kw_only=True):
    """Items under a name, and how they are judged."""

    name: str
    task: str
    items: tuple[Item, ...]
    metrics: tuple[str, ...]
    primary: str
    labels: tuple[str, ...] | None = None
    template: str | None = None

    def body(self) -> dict[str, Any]:
        """As the service's `POST /suites` takes it."""
        key = "label" if self.labels else "references"
        items = [
            {"id": item.id, "input": item.input, key: item.answer if self.labels else [item.answer]}
            | ({"group": item.group} if item.group is not None else {})
            for item in self.items
        ]
        body: dict[str, Any] = {"name": self.name, "items": items, "metrics": list(self.metrics)}
        body |= {"task_type": "classification" if self.labels else "generation", "primary_metric": self.primary}
        if self.labels:
            body["labels"] = list(self.labels)
        if self.template is not None:
            body["template"] = self.template
        return body


def read_suite(evaluation: EvaluationConfig, data: DataConfig, task: str, labels: Sequence[str] | None) -> Suite:
    """The suite that an entry of `evaluate:` describes. Raises `DataError` for what is wrong with its file."""
    source = evaluation.path or data.test
    if source is None:
        raise ConfigError(f"evaluate: {evaluation.suite} has no path, and there is no data.test.")
    table = read_table(locate(data, source))
    if labels is not None:
        inputs, answers = table.column(data.text, "data.text"), labels_of(table, data.label, labels)
        metrics = evaluation.metrics or LABEL_METRICS
    else:
        inputs, answers = table.column(data.prompt, "data.prompt"), table.column(data.answer, "data.answer")
        metrics = evaluation.metrics or ("exact_match",)
    return Suite(
        name=evaluation.suite,
        task=task,
        items=items(table, inputs, answers, evaluation.group),
        metrics=metrics,
        primary=evaluation.primary or metrics[0],
        labels=None if labels is None else tuple(labels),
        template=None if labels is not None else data.template,
    )


def items(table: Table, inputs: Sequence[str], answers: Sequence[str], group: str | None) -> tuple[Item, ...]:
    """A row's own `id` where every row has one of its own, else its number."""
    named = [str(record.get("id", "")) for record in table.records]
    own = all(named) and len(set(named)) == len(named)
    groups = table.column(group, "group") if group is not None else [None] * len(inputs)
    return tuple(
        Item(id=named[row] if own else f"{row + 1:06d}", input=inputs[row], answer=answers[row], group=groups[row])
        for row in range(len(inputs))
    )
