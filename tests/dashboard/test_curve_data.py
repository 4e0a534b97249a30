"""Curves that are read again when they grow, and then only what grew."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import streamlit as st

from dashboard import curve_data, data
from tests.dashboard.seed import points
from tunescope import Client


@pytest.fixture(autouse=True)
def service(live_service: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TUNESCOPE_URL", live_service)
    st.cache_data.clear()
    st.cache_resource.clear()
    yield
    st.cache_data.clear()
    st.cache_resource.clear()


@pytest.fixture
def api(live_service: str) -> Iterator[Client]:
    with Client(live_service) as client:
        yield client


def made(api: Client, rate: float, n: int) -> str:
    run = api.create_run(project="dashboard-curves", config={"lr": rate})
    points(api, run["id"], {"loss": (np.arange(n), np.full(n, rate))}, run["created_at"])
    return str(run["id"])


def more(api: Client, run_id: str) -> None:
    """One more point, at step 10."""
    points(api, run_id, {"loss": (np.array([10]), np.array([9.0]))}, 0.0, batch=2)


def test_a_curve_that_grew_takes_the_place_of_what_it_was(api: Client) -> None:
    done, going = made(api, 0.1, 3), made(api, 0.2, 2)
    first = curve_data.curves([done, going], ["loss"], [3, 2])
    assert first.of(["loss"])["value"].tolist() == [0.1] * 3 + [0.2] * 2
    more(api, going)
    # As long as the counts say that nothing grew, nothing is asked.
    assert len(curve_data.curves([done, going], ["loss"], [3, 2]).frame) == 5
    then = curve_data.curves([done, going], ["loss"], [3, 3])
    assert then.frame["run_id"].tolist() == [done] * 3 + [going] * 3
    assert then.frame["x"].tolist() == [0, 1, 2, 0, 1, 10]
    assert [curve["count"] for curve in then.about] == [3, 3]


def test_groups_grow_and_change_their_members(api: Client) -> None:
    ids = [made(api, rate, 2) for rate in (0.1, 0.1, 0.2)]
    first = curve_data.curves(ids, ["loss"], [2, 2, 2], group_by=["params.lr"])
    assert [len(group["run_ids"]) for group in first.groups] == [2, 1]
    more(api, ids[2])
    grown = curve_data.curves(ids, ["loss"], [2, 2, 3], group_by=["params.lr"])
    assert grown.frame["group"].tolist() == [0, 0, 1, 1, 1]
    api.update_run(ids[1], config={"lr": 0.3})
    moved = curve_data.curves(ids, ["loss"], [2, 2, 4], group_by=["params.lr"])
    assert [len(group["run_ids"]) for group in moved.groups] == [1, 1, 1]
    assert sorted(set(moved.frame["group"])) == [0, 1, 2]


def test_nothing_asked_is_nothing_answered() -> None:
    assert curve_data.curves([], [], []).of(["loss"]).empty


def test_importance_that_cannot_be_asked_is_a_sentence(api: Client) -> None:
    assert "direction" in str(data.importance("zeta", "best", project="dashboard-curves"))


def test_the_client_reads_curves_as_json_too(api: Client) -> None:
    run = made(api, 0.5, 3)
    (curve,) = api.curves(run, "loss", x="time")["curves"]
    assert curve["value"] == [0.5, 0.5, 0.5]
    assert curve["x"] == pytest.approx([0.0, 2.9, 5.8], abs=1e-5)
