"""What is read out of a run's record."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard import readings


def run(config: dict[str, Any] | None = None, /, **metrics: float) -> dict[str, Any]:
    summaries = {
        key.replace("__", "/"): {"last": value, "max": value, "last_step": 300, "count": 9}
        for key, value in metrics.items()
    }
    return {"config": config or {}, "metrics": summaries, "created_at": 0.0, "environment": {}}


def test_progress_by_steps_tells_the_time_left() -> None:
    found = readings.progress(run({"train": {"max_steps": 1200}}, train__loss=1.0), now=60.0)
    assert found == readings.Progress(0.25, 300, 1200, 180.0)


def test_progress_as_logged_goes_before_the_config() -> None:
    found = readings.progress(run({"max_steps": -1}, train__progress=0.5), now=60.0)
    assert found == readings.Progress(0.5, 300, 600, 60.0)


@pytest.mark.parametrize("config", [{}, {"max_steps": -1}, {"max_steps": None}, {"max_steps": 0}])
def test_no_progress_where_the_end_is_unknown(config: dict[str, Any]) -> None:
    assert readings.progress(run(config, loss=1.0), now=1.0) is None


def test_metric_columns_begin_with_what_was_evaluated() -> None:
    keys = readings.metric_keys([run(train__loss=1, eval__loss=1, eval__accuracy=1, system__cpu_percent=1, probe__x=1)])
    assert keys == ["eval/accuracy", "eval/loss", "train/loss", "probe/x", "system/cpu_percent"]
    assert readings.default_metrics(keys) == ["eval/accuracy", "eval/loss", "train/loss"]


def test_charts_are_grouped_by_what_is_measured_with_loss_first() -> None:
    groups = readings.chart_groups(["train/lr", "eval/loss", "train/loss", "system/x", "probe/y", "eval/accuracy"])
    assert list(groups.items()) == [
        ("loss", ["eval/loss", "train/loss"]),
        ("accuracy", ["eval/accuracy"]),
        ("lr", ["train/lr"]),
    ]


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"train__peak_memory_bytes": 5e9}, 5e9),
        ({"train__peak_memory_mib": 2.0, "train__peak_gpu_memory_mib": 4.0}, 4 * 2**20),
        ({"system__gpu0_memory_mib": 3.0, "system__process_memory_mib": 9.0}, 3 * 2**20),
        ({"system__process_memory_mib": 9.0}, 9 * 2**20),
        ({"train__loss": 1.0}, None),
    ],
)
def test_peak_memory_comes_from_the_best_source(metrics: dict[str, float], expected: float | None) -> None:
    assert readings.peak_memory(run(**metrics)) == expected


def test_trainable_parameters_are_found_in_metrics_or_config() -> None:
    assert readings.trainable_parameters(run({"parameters": {"trainable": 7, "total": 9}})) == 7
    assert readings.trainable_parameters(run(train__trainable_parameters=5)) == 5
    assert readings.trainable_parameters(run({"trainable": "all"})) is None


def test_only_what_differs_is_compared() -> None:
    rows = readings.differences([run({"lr": 1, "seed": 0}), run({"lr": 1, "seed": 1, "extra": {"r": 4}})])
    assert rows == [("seed", ["0", "1"]), ("extra.r", ["", "4"])]


def test_system_metrics_have_units() -> None:
    assert readings.system_title("system/gpu0_memory_mib") == "gpu0 memory, MiB"
    assert readings.system_title("system/disk_read_mib_s") == "disk read, MiB/s"
    assert readings.system_title("system/process_threads") == "process threads"
    assert readings.value_text("train/peak_memory_bytes", 9.1e9) == "9.1 GB"
    assert readings.value_text("train/seconds", 75) == "1 min 15 s"
    assert readings.value_text("eval/score", 0.5) == "0.5"


def test_reproducing_says_the_commit_and_quotes_the_command() -> None:
    record = run()
    assert readings.reproduce(record) is None
    record["environment"] = {
        "git": {"commit": "abc", "dirty": True},
        "command": ["python", "train.py", "--name", "two words"],
        "packages": {"torch": "2", "peft": "1"},
        "gpus": [],
    }
    assert readings.reproduce(record) == (
        "git checkout abc  # there were changes beside it\npython train.py --name 'two words'"
    )
    assert ("git.commit", "abc") in readings.environment(record)
    assert not any(name.startswith(("packages", "gpus")) for name, _ in readings.environment(record))
    assert readings.packages(record) == [("peft", "1"), ("torch", "2")]
