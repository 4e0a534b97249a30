"""What `tunescope train` prints: a run's scores with their intervals, what it confuses, and the verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trainer.config import TrainConfig
from trainer.drift import Drift
from trainer.drift import Estimate as Measured
from trainer.estimate import Estimate
from trainer.exam import Scored
from trainer.loop import TrainResult
from tunescope import Client

CONFUSED = 5
COLOURS = {"better": "green", "worse": "red", "equivalent": "cyan", "inconclusive": "yellow"}


def print_result(console: Console, result: TrainResult, client: Client | None) -> None:
    console.print(
        f"[bold]{escape(result.name)}[/]: {result.steps:,} steps in {duration(result.seconds)}, "
        f"mean loss {result.loss:.4f}, "
        f"{count(result.trainable_parameters)} of {count(result.total_parameters)} parameters trained, "
        f"peak memory {result.peak_memory_bytes / 1e6:,.0f} MB"
    )
    if result.stopped_at is not None:
        console.print(f"  the probe stopped it at step {result.stopped_at}: it was forgetting too much", style="yellow")
    if result.probe:
        kept = ", ".join(f"{share:.3f} at step {step}" for step, share in (result.probe[0], result.probe[-1]))
        console.print(f"  general questions answered: {kept}")
    if result.drift is not None:
        print_drift(console, result.drift)
    for scored in result.scored:
        print_scores(console, scored)
        if client is not None and scored.evaluation is not None:
            print_confusions(console, scored.evaluation, client)
    console.print(f"  model in {result.model_folder}", markup=False)


def print_drift(console: Console, drift: Drift) -> None:
    def shown(one: Measured) -> str:
        bounds = "" if one.interval is None else f" [{one.interval[0]:.4f}, {one.interval[1]:.4f}]"
        return f"{one.value:.4f}{bounds}"

    console.print(
        f"  general text, {drift.n_tokens:,} tokens: {shown(drift.delta_nll)} nats a token more than the base, "
        f"perplexity × {shown(drift.perplexity_ratio)}, KL {shown(drift.kl)}",
        markup=False,
    )


def print_scores(console: Console, scored: Scored) -> None:
    if scored.evaluation is None:
        before = "" if scored.share_right_before is None else f" (before: {scored.share_right_before:.4f})"
        console.print(f"  {scored.suite}: {scored.share_right:.4f} of {scored.n:,} right{before}", markup=False)
        return
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column(f"  {escape(scored.suite)}")
    for heading in ("score", "interval", "n", "before"):
        table.add_column(heading, justify="right")
    earlier = {score["name"]: score for score in (scored.evaluation_before or {"scores": []})["scores"]}
    for score in scored.evaluation["scores"]:
        interval = score["interval"]
        table.add_row(
            f"  {score['name']}",
            number(score["value"]),
            f"[{interval[0]:.4f}, {interval[1]:.4f}]" if interval else score["reason"] or "–",
            f"{score['n']:,}",
            number(earlier[score["name"]]["value"]) if score["name"] in earlier else "",
        )
    console.print(table)


def print_confusions(console: Console, evaluation: dict[str, Any], client: Client) -> None:
    """The label pairs most often taken for one another."""
    if evaluation["suite"]["task_type"] != "classification":
        return
    matrix = client.confusion(evaluation["id"])
    labels = matrix["labels"]
    pairs = [
        (row[predicted], labels[true], labels[predicted])
        for true, row in enumerate(matrix["counts"])
        for predicted in range(len(row))
        if predicted != true and row[predicted]
    ]
    worst = sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2]))[:CONFUSED]
    if worst:
        told = "; ".join(f"{true} as {taken} {times}×" for times, true, taken in worst)
        console.print(f"  most confused: {told}", markup=False)


def print_comparisons(console: Console, results: Sequence[TrainResult], client: Client, margin: float) -> None:
    """Each run against the first, suite by suite and metric by metric, on the same items."""
    baseline = results[0]
    first = {scored.suite: scored.evaluation for scored in baseline.scored if scored.evaluation is not None}
    for result in results[1:]:
        for scored in result.scored:
            if scored.evaluation is None or scored.suite not in first:
                continue
            for score in scored.evaluation["scores"]:
                if score["reason"] == "no_label_scores":  # too many of them to be told
                    continue
                card = client.compare(
                    first[scored.suite]["id"], scored.evaluation["id"], metric=score["name"], margin=margin or None
                )
                print_card(console, card, f"{result.name} against {baseline.name}, {scored.suite}")


def print_card(console: Console, card: dict[str, Any], title: str) -> None:
    colour = COLOURS.get(card["verdict"], "white")
    console.print(f"[bold]{escape(title)}[/] · {card['metric']}: [bold {colour}]{card['verdict'].upper()}[/]")
    console.print(f"  {card['sentence']}", markup=False)


def print_check(
    console: Console,
    config: TrainConfig,
    rows: int,
    steps: int,
    step_seconds: float,
    peak_bytes: int,
    trainable: int,
    total: int,
) -> None:
    console.print(
        f"[bold]{escape(config.name or config.project)}[/]: {rows:,} rows, {steps:,} steps of {step_seconds:.2f} s, "
        f"about {duration(steps * step_seconds)} of training; {count(trainable)} of {count(total)} parameters trained; "
        f"peak memory {peak_bytes / 1e6:,.0f} MB"
    )


def print_needed(console: Console, needed: Estimate) -> None:
    parts = ("weights", "gradients", "optimizer", "activations", "logits")
    shares = ", ".join(f"{part} {getattr(needed, part) / 1e9:,.2f}" for part in parts)
    console.print(
        f"  on a GPU about {needed.peak / 1e9:,.2f} GB at most, and 1 GB for CUDA ({shares}; gradients come as "
        "activations and logits go)"
    )


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def count(parameters: int) -> str:
    """12,345,678 as 12.3M."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if parameters >= size:
            return f"{parameters / size:.1f}{letter}"
    return str(parameters)


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
