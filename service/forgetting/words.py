"""What an audit says in plain words."""

from __future__ import annotations

from collections.abc import Sequence

from service.forgetting.schemas import Drift, FloorResult, TaskResult, Verdict


def sentence(verdict: Verdict, tasks: Sequence[TaskResult], problems: Sequence[str]) -> str:
    """The verdict in plain words, by the worst task."""
    worst = tasks[0]
    if verdict == "INVALID":
        more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
        return f"Before and after cannot be compared: {problems[0]}{more}"
    if worst.difference is None or worst.lower_bound is None:
        return f"It cannot be told what '{worst.suite}' lost: {worst.reason}."
    change = f"'{worst.suite}' went from {worst.before:.3f} to {worst.after:.3f} ({_change(worst, worst.difference)}"
    allowed = f"the policy allows a loss of {_points(worst.margin)}"
    if worst.direction == "lower":
        allowed = f"the policy allows a rise of {worst.margin:.3f}"
    if verdict == "FAIL":
        failed = sum(task.verdict == "FAIL" for task in tasks)
        rest = f" {failed} of {len(tasks)} protected tasks failed." if len(tasks) > 1 else ""
        return f"{change}, adjusted {_p(worst.p_adjusted)}); {allowed}.{rest}"
    if verdict == "PASS":
        kept = f"All {len(tasks)} protected tasks are within their margins. Worst: " if len(tasks) > 1 else ""
        return f"{kept}{change}, at worst {_change(worst, worst.lower_bound)}); {allowed}."
    needed = "" if worst.n_needed is None else f" About {worst.n_needed:,} items would settle it."
    bound = f"at worst {_change(worst, worst.lower_bound)}"
    return f"It cannot be told whether too much was lost: {change}, {bound}); {allowed}.{needed}"


def _change(task: TaskResult, value: float) -> str:
    """A difference as it is read off the scores: in points, or where lower is better as the rise that it is."""
    if task.direction == "higher":
        return _points(value)
    return f"{0.0 - round(value, 3):+.3f} {task.metric}".replace("-", "−", 1)


def _points(value: float) -> str:
    return f"{round(100 * value, 1) + 0.0:.1f} points".replace("-", "−")


def _p(value: float | None) -> str:
    if value is None:
        return "p unknown"
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def floor_note(task: TaskResult, floor: FloorResult) -> str:
    """What the base loses against itself, and whether the tuned model's losses are more than that."""
    own = (
        f"'{task.suite}': the base run twice lost {floor.n10:,} and gained {floor.n01:,} of {task.n:,} items; "
        f"the tuned model lost {task.lost:,}"
    )
    p_value = "" if floor.p_adjusted is None else f", adjusted {_p(floor.p_adjusted)}"
    if floor.called:
        return f"{own}, {_points(floor.above)} above that floor{p_value}."
    text = f"{own}{p_value}: not above that floor, so not called forgetting."
    if task.verdict == "FAIL":
        text += " The score fell all the same, since fewer items were gained; the verdict is about the score."
    return text


def not_reproducible(suite: str, floor: FloorResult) -> str:
    return (
        f"'{suite}': the base scores otherwise in its second run ({_p(floor.p_base)}), so the two runs are not of "
        "one model under one setting. Find out what differs, and run both again."
    )


def drift_warning(drift: Drift) -> str | None:
    """Said where general text became less likely, beyond what the choice of texts explains."""
    low_high = drift.delta_nll.interval
    if low_high is None or low_high[0] <= 0:
        return None
    return (
        f"On general text the tuned model loses {drift.delta_nll.value:.3f} nats a token "
        f"[{low_high[0]:.3f}, {low_high[1]:.3f}]: perplexity × {drift.perplexity_ratio.value:.3f}, over "
        f"{drift.n_tokens:,} tokens. A warning; the verdict does not rest on it."
    )
