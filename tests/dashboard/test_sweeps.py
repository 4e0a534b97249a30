"""Sweeps: what belongs together, how a search went, and the page on a real service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
import streamlit as st

from dashboard import sweep_charts
from dashboard import sweep_readings as sweeping
from tests.dashboard.seed import Seed
from tests.dashboard.test_pages import clear, open_page, text
from tunescope import Client

Json = dict[str, Any]


def a_run(number: int, **changes: Any) -> Json:
    value = changes.pop("value", None)
    return {
        "id": f"r{number}", "name": f"trial {number}", "project": "p", "status": "finished", "group": None,
        "parent_run_id": None, "tags": {}, "config": {"lr": number}, "created_at": 100.0 + number, "duration": 10.0,
        "metrics": {} if value is None else {"eval/loss": {"last": value, "min": value - 1, "max": value}},
    } | changes  # fmt: skip


def test_runs_belong_to_a_sweep_by_parent_then_tag_then_group() -> None:
    runs = [
        a_run(9, parent_run_id="study", group="g", project="elsewhere"),
        a_run(8, parent_run_id="study"),
        a_run(7, tags={"sweep": "rates"}, group="g"),
        a_run(6, tags={"sweep": "rates"}),
        a_run(5, group="g"),
        a_run(4, group="g"),
        a_run(3, group="g", project="other"),
        a_run(2, group="alone"),
        a_run(1),
    ]
    found = sweeping.sweeps(runs)
    assert [(one.param, one.project, [run["id"] for run in one.runs]) for one in found] == [
        ("parent:study", "elsewhere", ["r9", "r8"]),
        ("sweep:rates", "p", ["r7", "r6"]),
        ("group:g", "p", ["r5", "r4"]),
    ]
    assert [sweeping.parse(one.param) for one in found] == [("parent", "study"), ("sweep", "rates"), ("group", "g")]
    assert sweeping.condition("sweep", 'a "b"') == 'tags.`sweep` = "a \\"b\\""'


@pytest.mark.parametrize("param", ["", "group", "group:", "runs:x"])
def test_what_names_no_sweep_is_none(param: str) -> None:
    assert sweeping.parse(param) is None


def test_trials_are_in_the_order_they_began_with_the_best_so_far() -> None:
    values = {1: 3.0, 2: "NaN", 3: 2.0, 4: None, 5: 2.5}
    runs = [a_run(number, value=None if value in ("NaN", None) else value) for number, value in values.items()]
    runs[1]["metrics"] = {"eval/loss": {"last": "NaN", "min": 1.5, "max": 9.0}}
    frame = sweeping.trials(runs[::-1], "eval/loss", "last", "min")
    assert list(frame["run_id"]) == ["r1", "r2", "r3", "r4", "r5"]
    assert list(frame["best"]) == [3.0, 3.0, 2.0, 2.0, 2.0]
    best = sweeping.best_of(frame, "min")
    assert best == 2
    assert sweeping.since_best(frame, best) == 1
    assert sweeping.best_of(frame, "max") == 0
    assert list(sweeping.trials(runs, "eval/loss", "min", "min")["best"]) == [2.0, 1.5, 1.0, 1.0, 1.0]
    nothing = sweeping.trials([a_run(1)], "eval/loss", "last", "min")
    assert sweeping.best_of(nothing, "min") is None


def test_the_search_is_drawn_with_what_failed() -> None:
    frame = pd.DataFrame(
        {
            "trial": [1, 2, 3], "run_id": ["a", "b", "c"], "name": ["a", "b", "c"], "value": [2.0, None, 1.0],
            "best": [2.0, 2.0, 1.0], "status": ["finished", "crashed", "finished"],
        }
    )  # fmt: skip
    drawn = {trace.name: trace for trace in sweep_charts.history(frame, metric="loss", direction="min").data}
    assert list(drawn["best so far"].y) == [2.0, 1.0]
    assert drawn["best"].customdata[0][0] == "c"
    assert list(drawn["no value"].x) == [2]
    assert list(drawn["no value"].y) == [1.0]


@pytest.mark.parametrize(
    ("text", "shown"), [("0.00019249930149821837", "0.0001925"), ("64", "64"), ("1e-05", "1e-05"), ("adamw", "adamw")]
)
def test_settings_have_the_digits_that_count(text: str, shown: str) -> None:
    assert sweeping.setting_text(text) == shown


# --- the page ---


@pytest.fixture
def service(live_service: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TUNESCOPE_URL", live_service)
    clear()
    yield live_service
    clear()


def test_sweeps_are_listed_and_one_is_opened(record: Seed, service: str) -> None:
    app = open_page("sweeps")
    table = app.dataframe[0].value
    row = table[table["Sweep"] == "rates"].iloc[0]
    assert row["Trials"] == 18
    assert row["Held together by"] == "tag sweep"
    app = open_page("sweeps", of="sweep:rates", within=f"{record.project}-sweep", objective="train/loss")
    said = text(app)
    for part in (
        "Best so far",
        "18 finished",
        "What it depends on",
        "Parallel coordinates",
        "1 trial without a finite",
    ):
        assert part in said, part
    assert len(app.get("plotly_chart")) == 2
    trials = app.dataframe[0].value
    with Client(service) as api:
        ordered = api.list_runs(project=f"{record.project}-sweep", query="order by metrics.train/loss asc")["items"]
    assert list(trials["Run"][:17]) == [run["name"] for run in ordered[:17]]
    assert "output_dir" not in trials


def test_children_of_a_run_are_its_sweep(record: Seed, service: str) -> None:
    with Client(service) as api:
        parent = api.create_run(project="sweep-page", name="study")
        for rate in (1, 2):
            api.create_run(project="sweep-page", parent_run_id=parent["id"], config={"lr": rate})
    st.cache_data.clear()
    assert "its trials" in text(open_page("run", id=parent["id"]))
    said = text(open_page("sweeps", of=f"parent:{parent['id']}"))
    assert "study" in said
    assert "No metric" in said
    assert "No run belongs to this sweep" in text(open_page("sweeps", of="parent:nobody"))
