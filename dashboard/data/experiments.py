"""A/B tests."""

from __future__ import annotations

from typing import Any, Literal

import streamlit as st

from dashboard.data.connection import LIST, LIVE, Json, client, forget, items


@st.cache_data(ttl=LIST, max_entries=4, show_spinner=False)
def experiments() -> list[Json]:
    return items(client().list_experiments())


@st.cache_data(ttl=LIVE, max_entries=64, show_spinner=False)
def experiment(key: str) -> Json:
    return client().get_experiment(key)


@st.cache_data(ttl=LIVE, max_entries=64, show_spinner=False)
def readout(key: str, phase: int | None = None) -> Json:
    return client().readout(key, phase)


@st.cache_data(ttl=LIVE, max_entries=64, show_spinner=False)
def experiment_changes(key: str) -> list[Json]:
    return items(client().experiment_changes(key))


def change_experiment(key: str, action: Literal["start", "pause", "stop"]) -> None:
    verbs = {
        "start": client().start_experiment,
        "pause": client().pause_experiment,
        "stop": client().stop_experiment,
    }
    verbs[action](key)
    forget()


@st.cache_data(ttl=LIST, max_entries=64, show_spinner=False)
def plan_experiment(**question: Any) -> Json:
    return client().plan_experiment(**question)


def decide_experiment(key: str, winner: str, reason: str, rollout: Json | None) -> None:
    client().decide_experiment(key, winner, reason, rollout)
    forget()


def advance_rollout(key: str) -> None:
    client().advance_rollout(key)
    forget()


def halt_rollout(key: str, reason: str) -> None:
    client().halt_rollout(key, reason)
    forget()
