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

from service.forgetting.schemas import AuditOut, ChangedItem, Drift, Estimate, PolicyBody, TaskResult, WaiverOut
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


@dataclass(frozen=True)
class Record:
    """The record to the byte, for `tunescope audit verify` and anyone with a SHA-256."""

    text: str


Block = Heading | Text | Bullets | Table | Record


def markdown(audit: AuditOut, lost: Sequence[ChangedItem], record: str) -> str:
    title = f"# Forgetting audit: {audit.verdict}\n\n**{_md(audit.sentence)}**\n"
    parts = [title, *(_markdown_block(block) for block in _blocks(audit, lost, record))]
    return (
        "\n".join(parts)
        + "\n\nDecision: ______________  Name: ______________  Date: ______________  Signature: ______________\n"
    )


def html(audit: AuditOut, lost: Sequence[ChangedItem], record: str) -> str:
    body = "\n".join(_html_block(block) for block in _blocks(audit, lost, record))
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


def _blocks(audit: AuditOut, lost: Sequence[ChangedItem], record: str) -> Iterator[Block]:
    if audit.waivers:
        yield Heading("Waivers")
        yield Text("A waiver says who answers for the finding. It changes neither verdict nor record.")
        yield _waiver_table(audit.waivers)
    yield Heading("Protected tasks, worst first")
    yield _task_table(audit.tasks, audit.policy.body.alpha)
    if audit.problems:
        yield Heading("Why it is not valid")
        yield Bullets(audit.problems)
    yield from _floors(audit)
    if audit.drift is not None:
        yield Heading("Drift on general text")
        yield from _drift(audit.drift)
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
    yield from _conditions(audit.tasks)
    yield Heading("Policy")
    body = audit.policy.body
    needs_aa = ", a second run of the base required" if body.require_aa else ""
    yield Text(f"{audit.policy.name}, version {audit.policy.version}, alpha {body.alpha:g}{needs_aa}.")
    yield _policy_table(body)
    yield Heading("Record")
    yield Table(("What", "Value"), list(_record(audit)))
    yield Text(
        "PASS: the one-sided lower bound of (after − before), where lower is better of (before − after), lies above "
        "−margin. FAIL: it does not, and the drop is "
        "significant after Holm's adjustment over the tasks. INCONCLUSIVE: neither. INVALID: the answers cannot be "
        "compared. F: share of items right before and wrong after; above chance, less what guessing would flip."
    )
    yield Text(
        "The text below is the record. Its SHA-256 is the one above: `tunescope audit verify` on this file computes it "
        "anew, and with the audit's id, from what the service holds."
    )
    yield Record(record)


def _task_table(tasks: Sequence[TaskResult], alpha: float) -> Table:
    head = (
        "Task", "Verdict", "n", "Before", "After", f"Difference [{1 - alpha:.0%}]", "Lower bound", "Margin", "Lost",
        "Gained", "p (Holm)", "F", "F above chance", "Unparsed before, after",
    )  # fmt: skip
    return Table(
        head,
        [
            (
                _named(task),
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


def _named(task: TaskResult) -> str:
    lower = ", lower is better" if task.direction == "lower" else ""
    return f"{task.suite} ({task.metric}{lower})" if task.metric else task.suite


def _waiver_table(waivers: Sequence[WaiverOut]) -> Table:
    rows = []
    for one in waivers:
        state = one.state
        if one.revoked is not None:
            state_words = f"revoked by {one.revoked.who} on {_day(one.revoked.at)}: {one.revoked.why}"
        else:
            state_words = {"valid": "valid when this was made", "expired": "expired"}[state]
        rows.append((one.who, one.why, _day(one.until), one.suite or "all tasks", state_words, _day(one.created_at)))
    return Table(("Who", "Why", "Until", "Task", "State", "Written"), rows)


def _floors(audit: AuditOut) -> Iterator[Block]:
    rows = [
        (
            task.suite,
            f"{task.floor.n10:,} / {task.floor.n01:,}",
            _number(task.floor.share),
            _number(task.lost / task.n),
            _signed(task.floor.above) + ("" if task.floor.interval is None else _bounds(task.floor.interval)),
            "–" if task.floor.p_adjusted is None else f"{task.floor.p_adjusted:.2g}",
            "forgetting" if task.floor.called else "within the floor",
        )
        for task in audit.tasks
        if task.floor is not None
    ]
    if rows:
        yield Heading("Noise floor: the base run twice")
        head = (
            "Task", "Base lost / gained", "Floor", "F", f"F − floor [{1 - audit.policy.body.alpha:.0%}]", "p (Holm)",
            "Called",
        )  # fmt: skip
        yield Table(head, rows)
        yield Text(
            "What a model loses against itself is not called forgetting. The verdict is about the net change, in which "
            "such flips cancel, and does not rest on the floor."
        )


def _drift(drift: Drift) -> Iterator[Block]:
    def shown(name: str, one: Estimate) -> tuple[str, str, str]:
        return name, f"{one.value:.4f}", "–" if one.interval is None else _bounds(one.interval, "{:.4f}").strip()

    yield Table(
        ("Per token", "Value", f"Interval, {drift.confidence:.0%}"),
        [
            shown("Negative log-likelihood, tuned − base, nats", drift.delta_nll),
            shown("Perplexity, tuned / base", drift.perplexity_ratio),
            shown("KL(base ‖ tuned), nats", drift.kl),
        ],
    )
    yield Text(
        f"{drift.n_tokens:,} tokens of {drift.n_texts:,} texts (SHA-256 {drift.text_hash}); bootstrap over texts. A "
        "warning, not part of the verdict."
    )


def _conditions(tasks: Sequence[TaskResult]) -> Iterator[Block]:
    rows = [
        (task.suite, one.aspect, one.before or "not recorded", one.after or "not recorded", one.state)
        for task in tasks
        for one in task.compared
    ]
    if rows:
        yield Heading("How the answers were made")
        yield Table(("Task", "Aspect", "Before", "After", "Compared"), rows)


def _group_table(task: TaskResult) -> Table:
    rows = [
        (
            one.group,
            f"{one.n:,}",
            _number(one.before),
            _number(one.after),
            "–" if one.interval is None else _bounds(one.interval).strip(),
            f"{one.lost:,}",
            f"{one.gained:,}",
        )
        for one in task.by_group
    ]
    return Table(("Group", "n", "Before", "After", "Change, interval", "Lost", "Gained"), rows)


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
    yield "Made at", _moment(audit.created_at)
    yield "Record SHA-256", audit.hash if audit.intact else f"{audit.hash} (THE STORED RECORD DOES NOT MATCH IT)"
    yield "Policy SHA-256", audit.policy.hash
    yield "Seed", str(audit.inputs["seed"])
    yield "Versions", f"Tunescope {audit.inputs.get('tunescope', '–')}, measures {audit.inputs['measure']}"
    for name, value in (
        ("Run", audit.run_id),
        ("Model version before", audit.before_version_id),
        ("Model version after", audit.after_version_id),
    ):
        if value is not None:
            yield name, value
    for side in ("before", "after", "aa"):
        for given in audit.inputs["evaluations"].get(side, []):
            yield (
                f"Evaluation {side}",
                f"{given['id']} (suite SHA-256 {given['suite']}, predictions SHA-256 {given['predictions']})",
            )


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))


def _bounds(interval: tuple[float, float], form: str = "{:+.3f}") -> str:
    low, high = (form.format(bound).replace("-", "−") for bound in interval)
    return f" [{low}, {high}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}".replace("-", "−")


def _difference(task: TaskResult) -> str:
    if task.interval is None:
        return _signed(task.difference)
    return _signed(task.difference) + _bounds(task.interval)


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
        case Record(text):
            # One line that starts with a brace: nothing in it can end the fence.
            return f"\n```json\n{text}\n```"


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
        case Record(text):
            return f"<details><summary>The record</summary><pre>{escape(text)}</pre></details>"


def _html_cell(cell: str) -> str:
    if cell in ("PASS", "FAIL", "INCONCLUSIVE", "INVALID"):
        return f'<td><span class="badge {cell}">{cell}</span></td>'
    return f"<td>{escape(_short(cell))}</td>"
