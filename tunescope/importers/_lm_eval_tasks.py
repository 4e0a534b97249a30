"""Tasks of lm-evaluation-harness and their samples: what is the same whatever the task asks for."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from tunescope.importers._record import ImportedResult, ImportProblem, LeftOut, Reported
from tunescope.importers._results import verdict

__all__ = ["TEXT_METRICS", "Filtered", "Sample", "Task", "each", "literal", "question", "requests"]

T = TypeVar("T")
Json = dict[str, Any]
TEXT_METRICS = ("bleu", "chrf", "chrf++", "ter", "rouge1", "rouge2", "rougeL", "rougeLsum")
# Shares of words and the like: that every item of a small set has 0 or 1 does not make them right or wrong.
NO_VERDICTS = frozenset({*TEXT_METRICS, "f1", "mcc", "brier_score", "likelihood", "perplexity"})
FIELD = re.compile(r"\{\{\s*(\w+)\s*\}\}")


class Sample(NamedTuple):
    """A line of a samples file and its place: `samples_x.jsonl, line 7`."""

    place: str
    row: Json


@dataclass(frozen=True, slots=True)
class Task:
    """A task of a results file. `reported`: by filter, then by metric."""

    name: str
    model: str
    config: Json
    num_fewshot: int
    has_template: bool
    settings: Json
    reported: dict[str, dict[str, float]]

    def result(self, suite: Json, predictions: list[Json], reported: list[Reported], **how: str) -> ImportedResult:
        """`how`: the filter and metric that tell this evaluation from others of the task."""
        named = f"{self.model} ({', '.join(how.values())})" if how else self.model
        told = {one.name: one.value for one in reported}
        return ImportedResult(
            model=self.model,
            name=named[:250],
            suite={"name": self.name, **suite},
            predictions=predictions,
            settings={**self.settings, **how, "reported": told},
            reported=reported,
            group=(self.name, named, str(self.settings.get("date"))),
        )


@dataclass(frozen=True, slots=True)
class Filtered:
    """The samples of one filter of a task. `reported`: what the harness said of them, by metric. `how`: the filter,
    where the task has several."""

    task: Task
    samples: list[Sample]
    reported: dict[str, float]
    how: dict[str, str]
    left_out: LeftOut

    @property
    def ids(self) -> list[str]:
        return [str(sample.row["doc_id"]) for sample in self.samples]

    def verdicts(self) -> dict[str, list[bool]]:
        """By metric, right or wrong for each item, of the metrics that say so of every one."""
        found: dict[str, list[bool]] = {}
        for metric in self.reported:
            said = [verdict(sample.row.get(metric)) for sample in self.samples]
            if metric not in NO_VERDICTS and None not in said:
                found[metric] = [bool(one) for one in said]
        return found

    def told(
        self,
        names: Sequence[str],
        here: Mapping[str, str],
        reasons: Mapping[str, str],
        factor: Mapping[str, float] | None = None,
    ) -> list[Reported]:
        """What was reported under these names: by the metric `here` (times `factor`), or why there is none."""
        return [
            Reported(
                name,
                self.reported[name],
                here.get(name),
                "" if name in here else reasons.get(name, "there is no such metric here"),
                (factor or {}).get(name, 1.0),
            )
            for name in names
        ]


def each(samples: Sequence[Sample], read: Callable[[Json], T]) -> list[T]:
    found = []
    for sample in samples:
        try:
            found.append(read(sample.row))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ImportProblem(
                f"{sample.place}: not as lm-evaluation-harness writes it ({type(error).__name__}: {error})."
            ) from error
    return found


def requests(row: Json) -> list[tuple[Any, ...]]:
    """What the model was asked: (context, continuation or generation settings), or (text,)."""
    arguments = row["arguments"]
    if isinstance(arguments, Mapping):
        return [tuple(one.values()) for one in arguments.values()]
    return [tuple(one) for one in arguments]


def question(task: Task, context: str, doc: Any) -> str:
    """The document's own part of the prompt, without description and examples; all of it where they cannot be told
    apart."""
    template = task.config.get("doc_to_text")
    rendered = _rendered(template, doc) if isinstance(template, str) and isinstance(doc, Mapping) else None
    if rendered and rendered.strip() in context:
        return rendered.strip()
    if task.has_template:
        return context
    own = context.removeprefix(task.config.get("description") or "")
    parts = own.split(task.config.get("fewshot_delimiter") or "\n\n")
    return parts[-1].strip() if len(parts) == task.num_fewshot + 1 else context


def _rendered(template: str, doc: Mapping[str, Any]) -> str | None:
    """A template that names fields and does nothing else, filled in."""
    if template in doc:
        return str(doc[template])
    if "{%" in template or any(name not in doc for name in FIELD.findall(template)):
        return None
    text = FIELD.sub(lambda found: str(doc[found.group(1)]), template)
    return text if "{{" not in FIELD.sub("", template) else None


def literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
