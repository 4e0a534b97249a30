"""Audits."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from dashboard.data.connection import FIXED, LIST, Json, client, items


@st.cache_data(ttl=LIST, max_entries=64, show_spinner=False)
def audits(run_id: str | None = None, verdict: str | None = None, limit: int = 100) -> list[Json]:
    """The newest first."""
    return items(client().list_audits(run_id=run_id, verdict=verdict, limit=limit))


@st.cache_data(ttl=FIXED, max_entries=128, show_spinner=False)
def audit(audit_id: str) -> Json:
    return client().get_audit(audit_id)


@st.cache_data(ttl=FIXED, max_entries=128, show_spinner=False)
def audit_items(audit_id: str, kind: Literal["lost", "gained"], suite: str, limit: int = 100) -> Json:
    return client().audit_items(audit_id, kind=kind, suite=suite, limit=limit)


def audit_report(audit_id: str, format: Literal["markdown", "html"]) -> str:
    return client().audit_report(audit_id, format)
