"""What is read out of a run's record."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard import readings
from service.tracking import grouping


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
    assert readings.chart_groups(["train/epoch", "epoch"]) == {}  # an axis, not a result


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


def made(config: dict[str, Any], group: str | None = None, **tags: str) -> dict[str, Any]:
    return {"config": config, "tags": tags, "group": group, "metrics": {}}


def test_runs_can_be_averaged_over_what_splits_them_but_not_all() -> None:
    runs = [made({"lr": lr, "seed": i, "same": 1}, "ab"[i % 2], team="x") for i, lr in enumerate((1, 1, 2))]
    assert readings.groupings(runs) == {"seed": "seeds of a configuration", "group": "group", "params.lr": "lr"}
    assert readings.varying(runs) == ["lr", "seed"]


def test_groups_and_the_search_that_finds_them() -> None:
    runs = [made({"model": {"name": 'a "b"'}, "fp16": True}, team="nlp"), made({"fp16": True}), made({"fp16": False})]
    assert [(g.label, g.condition, len(g.runs)) for g in readings.grouped(runs, "params.fp16")] == [
        ("true", 'params.`fp16` = "true"', 2),
        ("false", 'params.`fp16` = "false"', 1),
    ]
    assert [g.condition for g in readings.grouped(runs, "params.model.name")] == [
        "params.`model.name` is null",
        'params.`model.name` = "a \\"b\\""',
    ]
    assert [g.condition for g in readings.grouped(runs, "tags.team")] == ["tags.`team` is null", 'tags.`team` = "nlp"']
    assert [g.condition for g in readings.grouped(runs, "group")] == ["group is null"]


def test_a_configuration_is_the_config_but_for_seeds_and_places() -> None:
    runs = [
        made({"lr": lr, "train": {"seed": seed, "output_dir": f"runs/{seed}"}})
        for lr, seed in ((1, 0), (2, 0), (1, 1), (2, 1), (2, 2))
    ]
    assert [(label, len(held)) for label, held in readings.configurations(runs, "seed")] == [("lr 1", 2), ("lr 2", 3)]
    assert [len(held) for _, held in readings.configurations(runs[::2], "params.lr")] == [2, 1]
    alike = [one | {"name": "only"} for one in runs[1:4:2]]
    assert readings.configurations(alike, "seed") == [("only", alike)]
    assert readings.PLACES == grouping.PLACES


def test_gpu_hours_count_the_gpus_that_were_watched() -> None:
    watched = {"system/gpu0_percent": 1.0, "system/gpu0_memory_mib": 1.0, "system/gpu1_percent": 1.0}
    assert readings.gpu_hours(run(**watched) | {"duration": 1800.0}) == pytest.approx(1.0)
    assert readings.gpu_hours(run() | {"duration": 1800.0}) is None


def test_the_mean_of_a_group_is_over_its_finite_values() -> None:
    runs = [run(x=value) for value in (1.0, 3.0)] + [run()]
    runs[2]["metrics"]["x"] = {"last": "NaN"}
    assert readings.mean_and_sd(runs, "x") == pytest.approx((2.0, 2**0.5))
    assert readings.mean_and_sd(runs[:1], "x") == (1.0, None)
    assert readings.mean_and_sd(runs, "y") == (None, None)


def test_settings_are_numbers_where_all_of_them_are() -> None:
    runs = [made({"lr": 1e-4, "r": "auto"}), made({"lr": "2e-4", "r": 8}), made({"r": 8})]
    assert readings.setting_columns(runs, ["lr", "r"]) == {"lr": [1e-4, 2e-4, None], "r": ["auto", "8", "8"]}


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


@pytest.mark.parametrize(
    ("name", "keys", "section"),
    [
        ("loss", ["train/loss", "eval/loss"], "Training"),
        ("reward", ["train/reward"], "Training"),
        ("grad_norm", ["train/grad_norm"], "Gradients"),
        ("layers/3/grad_std", ["layers/3/grad_std"], "Gradients"),
        ("tokens_per_second", ["tokens_per_second"], "More"),
    ],
)
def test_charts_stand_under_what_they_are_about(name: str, keys: list[str], section: str) -> None:
    assert readings.section_of(name, keys) == section
