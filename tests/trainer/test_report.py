"""What `tunescope train` prints: every name as it is, whatever it looks like to a terminal's printer."""

from __future__ import annotations

import re
from io import StringIO
from typing import Any

from rich.console import Console

from trainer import report
from trainer.exam import Scored
from trainer.loop import TrainResult
from trainer.progress import ProgressBar
from tunescope import Client

from .conftest import built

NAME = "[/red] [bold] :cat:"


def console() -> Console:
    return Console(file=StringIO(), width=400, highlight=False, emoji=False, soft_wrap=True)


def printed(to: Console) -> str:
    file: Any = to.file
    return str(file.getvalue())


def result(scored: list[Scored], name: str = NAME) -> TrainResult:
    return TrainResult(
        name=name, run_id=None, model_folder=f"out/{NAME}/model", steps=3, loss=0.5, seconds=1.0, peak_memory_bytes=10,
        trainable_parameters=5, total_parameters=10, scored=scored, probe=[(0, 1.0), (3, 0.5)], stopped_at=3,
    )  # fmt: skip


def test_a_run_without_a_service() -> None:
    to = console()
    report.print_result(to, result([Scored(suite=NAME, n=4, share_right=0.5, share_right_before=0.25)]), None)
    said = printed(to)
    for part in (f"{NAME}: 3 steps", f"  {NAME}: 0.5000 of 4 right (before: 0.2500)", f"model in out/{NAME}/model"):
        assert part in said


def test_scores_confusions_and_verdicts_of_a_service(live_service: str) -> None:
    labels = ["[/a]", "[bold]"]
    with Client(live_service) as client:
        items = [{"id": str(n), "input": "q", "label": labels[n % 2]} for n in range(60)]
        suite = client.create_suite(name=NAME, task_type="classification", items=items, metrics=["accuracy"])
        results = []
        for run, wrong in (("first", 30), (NAME, 2)):
            answers = [{"id": str(n), "output": labels[(n + (n < wrong)) % 2]} for n in range(60)]
            made = client.create_evaluation(suite_id=suite["id"], name=f"{NAME} {run}", predictions=answers)
            scored = Scored(suite=NAME, n=60, share_right=0.5, evaluation=made, evaluation_before=made)
            results.append(result([scored], run))
        to = console()
        report.print_result(to, results[1], client)
        report.print_comparisons(to, results, client, 0.0)
    said = printed(to)
    assert re.search(rf"\n  {re.escape(NAME)} +score +interval", said)
    assert "most confused: [/a] as [bold] 1×; [bold] as [/a] 1×" in said
    assert f"{NAME} against first, {NAME} · accuracy: BETTER" in said
    assert f"{NAME} {NAME} is better than {NAME} first on {NAME} by " in said


def test_what_a_check_and_a_bar_say(sums_config: dict[str, Any]) -> None:
    to = console()
    report.print_check(to, built(sums_config, name=NAME), 10, 2, 0.5, 1000, 5, 10)
    with ProgressBar(to, NAME) as bar:
        bar.say(NAME)
    assert f"{NAME}: 10 rows" in printed(to)
