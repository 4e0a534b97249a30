"""Audits, waivers, sequences of fine-tunes."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from dashboard.data.connection import FIXED, LIST, Json, client, forget, items
from tunescope import ApiError


@st.cache_data(ttl=LIST, max_entries=64, show_spinner=False)
def audits(run_id: str | None = None, verdict: str | None = None, limit: int = 100) -> list[Json]:
    """The newest first."""
    return items(client().list_audits(run_id=run_id, verdict=verdict, limit=limit))


@st.cache_data(ttl=LIST, max_entries=32, show_spinner=False)
def audit_page(verdict: str | None = None, cursor: str | None = None) -> Json:
    """A page of audits, the newest first."""
    return client().list_audits(verdict=verdict, limit=100, cursor=cursor)


# An audit is never changed, but its waivers come, go and expire.
@st.cache_data(ttl=LIST, max_entries=128, show_spinner=False)
def audit(audit_id: str) -> Json:
    return client().get_audit(audit_id)


@st.cache_data(ttl=FIXED, max_entries=128, show_spinner=False)
def audit_items(
    audit_id: str, kind: Literal["lost", "gained"], suite: str, limit: int = 100, cursor: str | None = None
) -> Json:
    return client().audit_items(audit_id, kind=kind, suite=suite, limit=limit, cursor=cursor)


def audit_report(audit_id: str, format: Literal["markdown", "html"]) -> str:
    return client().audit_report(audit_id, format)


def waive(audit_id: str, who: str, why: str, until: float, suite: str | None) -> None:
    client().waive(audit_id, who=who, why=why, until=until, suite=suite)
    forget()


def revoke_waiver(audit_id: str, waiver_id: str, who: str, why: str) -> None:
    client().revoke_waiver(audit_id, waiver_id, who=who, why=why)
    forget()


@st.cache_data(ttl=LIST, max_entries=32, show_spinner=False)
def stages(base: Json | None, stages: list[Json], suites: list[str], tasks: list[str] | None) -> Json | str:
    """The matrix of stages and suites, or the sentence that says why there is none."""
    try:
        return client().stages(stages, suites, base=base, tasks=tasks)
    except ApiError as refused:
        if refused.status not in {400, 404}:
            raise
        return refused.message


@st.cache_data(ttl=LIST, max_entries=32, show_spinner=False)
def forgetting_events(run_id: str, suite: str) -> Json:
    return client().forgetting_events(run_id, suite)
