"""An audit as one file to sign and keep: Markdown, or HTML that needs nothing beside itself.

Both are renderings of the same blocks. Everything that came from outside (names, inputs, model outputs) is escaped;
the HTML carries no script.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

from service.forgetting.schemas import AuditOut, ChangedItem, PolicyBody, TaskResult
from service.forgetting.style import CSS

MAX_ITEMS = 500
HTML_HEADERS = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
_LONGEST_CELL = 600


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Bullets:
    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


Block = Heading | Text | Bullets | Table


def markdown(audit: AuditOut, lost: Sequence[ChangedItem]) -> str:
    title = f"# Forgetting audit: {audit.verdict}\n\n**{_md(audit.sentence)}**\n"
    parts = [title, *(_markdown_block(block) for block in _blocks(audit, lost))]
    return (
        "\n".join(parts)
        + "\n\nDecision: ______________  Name: ______________  Date: ______________  Signature: ______________\n"
    )


def html(audit: AuditOut, lost: Sequence[ChangedItem]) -> str:
    body = "\n".join(_html_block(block) for block in _blocks(audit, lost))
    fields = "".join(f"<div>{field}</div>" for field in ("Decision", "Name", "Date", "Signature"))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Forgetting audit {escape(audit.id)}: {audit.verdict}</title>
<style>{CSS}</style>
</head>
<body>
<main>
<header class="{audit.verdict}">
<p class="eyebrow">Forgetting audit</p>
<h1>{audit.verdict}</h1>
<p>{escape(audit.sentence)}</p>
</header>
{body}
<section class="sign">{fields}</section>
</main>
</body>
</html>
"""


def _blocks(audit: AuditOut, lost: Sequence[ChangedItem]) -> Iterator[Block]:
    yield Heading("Protected tasks, worst first")
    yield _task_table(audit.tasks, audit.policy.body.alpha)
    if audit.problems:
        yield Heading("Why it is not valid")
        yield Bullets(audit.problems)
    if audit.advice:
        yield Heading("What usually helps")
        yield Bullets([f"{advice.text} {advice.evidence}" for advice in audit.advice])
    for task in audit.tasks:
        if task.by_group:
            yield Heading(f"{task.suite} by group", 3)
            yield _group_table(task)
    yield from _lost_items(audit, lost)
    if audit.notes:
        yield Heading("Notes")
        yield Bullets(audit.notes)
    yield Heading("Policy")
    yield Text(f"{audit.policy.name}, version {audit.policy.version}, alpha {audit.policy.body.alpha:g}.")
    yield _policy_table(audit.policy.body)
    yield Heading("Record")
    yield Table(("What", "Value"), list(_record(audit)))
    yield Text(
        "PASS: the one-sided lower bound of (after − before) lies above −margin. FAIL: it does not, and the drop is "
        "significant after Holm's adjustment over the tasks. INCONCLUSIVE: neither. INVALID: the answers cannot be "
        "compared. F: share of items right before and wrong after; above chance, less what guessing would flip."
    )


def _task_table(tasks: Sequence[TaskResult], alpha: float) -> Table:
    head = (
        "Task", "Verdict", "n", "Before", "After", f"Difference [{1 - alpha:.0%}]", "Lower bound", "Margin", "Lost",
        "Gained", "p (Holm)", "F", "F above chance", "Unparsed before, after",
    )  # fmt: skip
    return Table(
        head,
        [
            (
                f"{task.suite} ({task.metric})" if task.metric else task.suite,
                task.verdict,
                f"{task.n:,}",
                _number(task.before),
                _number(task.after),
                _difference(task),
                _signed(task.lower_bound),
                _number(task.margin),
                f"{task.lost:,}",
                f"{task.gained:,}",
                "–" if task.p_adjusted is None else f"{task.p_adjusted:.2g}",
                _number(task.F),
                _number(task.F_true),
                f"{task.unparsed_before:,}, {task.unparsed_after:,}",
            )
            for task in tasks
        ],
    )


def _group_table(task: TaskResult) -> Table:
    rows = [
        (one.group, f"{one.n:,}", _number(one.before), _number(one.after), f"{one.lost:,}", f"{one.gained:,}")
        for one in task.by_group
    ]
    return Table(("Group", "n", "Before", "After", "Lost", "Gained"), rows)


def _lost_items(audit: AuditOut, lost: Sequence[ChangedItem]) -> Iterator[Block]:
    """All lost items up to `MAX_ITEMS`, by task and group."""
    total = sum(task.lost for task in audit.tasks)
    yield Heading(f"Lost items ({total:,})")
    if total == 0:
        yield Text("No item was lost.")
    if total > len(lost):
        yield Text(f"The first {len(lost):,}; all of them: GET /api/v1/audits/{audit.id}/items?kind=lost")
    for (suite, group), items in groupby(lost, key=lambda item: (item.suite, item.group)):
        yield Heading(suite if group is None else f"{suite}: {group}", 3)
        rows = [
            (item.id, item.input, _expected(item), _output(item.before_output), _output(item.after_output))
            for item in items
        ]
        yield Table(("Item", "Input", "Expected", "Before", "After"), rows)


def _policy_table(body: PolicyBody) -> Table:
    return Table(
        ("Suite", "Metric", "Margin", "Options", "Least n"),
        [
            (task.suite, task.metric or "primary", f"{task.margin:g}", str(task.options or "–"), f"{task.minimum_n:,}")
            for task in body.protected
        ],
    )


def _record(audit: AuditOut) -> Iterator[tuple[str, str]]:
    yield "Audit", audit.id
    yield "Made at", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(audit.created_at))
    yield "Record SHA-256", audit.hash if audit.intact else f"{audit.hash} (THE STORED RECORD DOES NOT MATCH IT)"
    yield "Policy SHA-256", audit.policy.hash
    for name, value in (
        ("Run", audit.run_id),
        ("Model version before", audit.before_version_id),
        ("Model version after", audit.after_version_id),
    ):
        if value is not None:
            yield name, value
    for side in ("before", "after"):
        for given in audit.inputs["evaluations"][side]:
            yield (
                f"Evaluation {side}",
                f"{given['id']} (suite SHA-256 {given['suite']}, predictions SHA-256 {given['predictions']})",
            )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}".replace("-", "−")


def _difference(task: TaskResult) -> str:
    if task.interval is None:
        return _signed(task.difference)
    return f"{_signed(task.difference)} [{_signed(task.interval[0])}, {_signed(task.interval[1])}]"


def _expected(item: ChangedItem) -> str:
    return item.label if item.label is not None and not item.references else " / ".join(item.references)


def _output(text: str | None) -> str:
    return "(no output)" if text is None else text


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_CELL else f"{text[:_LONGEST_CELL]} …"


def _markdown_block(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"\n{'#' * level} {_md(text)}\n"
        case Text(text):
            return f"{_md(text)}\n"
        case Bullets(items):
            return "\n".join(f"- {_md(item)}" for item in items)
        case Table(head, rows):
            lines = [head, ["---"] * len(head), *([_md(_short(cell)) for cell in row] for row in rows)]
            return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _md(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    escaped = re.sub(r"([\\`*_\[\]|#~])", r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;")
    return " ⏎ ".join(escaped.splitlines())


def _html_block(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{escape(text)}</h{level}>"
        case Text(text):
            return f"<p>{escape(text)}</p>"
        case Bullets(items):
            return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"
        case Table(head, rows):
            top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
            body = "".join(f"<tr>{''.join(_html_cell(cell) for cell in row)}</tr>" for row in rows)
            return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _html_cell(cell: str) -> str:
    if cell in ("PASS", "FAIL", "INCONCLUSIVE", "INVALID"):
        return f'<td><span class="badge {cell}">{cell}</span></td>'
    return f"<td>{escape(_short(cell))}</td>"
