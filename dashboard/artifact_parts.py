"""Versions of artifacts on a run's page: what it made, what it used, and the runs on the other side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from dashboard import components, data, formats, navigate

Json = dict[str, Any]
MOST_ASKED = 20  # versions whose users are asked for


def versions(title: str, found: Sequence[Json], *, made_here: bool) -> None:
    """A line for each version; nothing without any."""
    if not found:
        return
    components.section(title)
    for place, version in enumerate(found):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"**{_escaped(version['name'])}** v{version['version']}", width="content")
            for alias in version["aliases"]:
                st.badge(alias, color="violet", icon=":material/sell:")
            what = f"{version['kind']}, {formats.plural(version['n_files'], 'file')}, {formats.size(version['size'])}"
            st.caption(f"{what}, {formats.ago(version['created_at'])}", width="content")
            if not made_here:
                navigate.link("run", "run that made it", "account_tree", id=version["run_id"])
            elif place < MOST_ASKED:
                _users(version)


def _users(version: Json) -> None:
    for run in data.artifact_version(version["id"])["used_by"]:
        navigate.link("run", f"used by {run['name']}", "arrow_forward", id=run["id"])


def _escaped(name: str) -> str:
    """A name as it is: it may hold signs that mean something in Markdown."""
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]<>()#+-.!|~$:" else sign for sign in name)
