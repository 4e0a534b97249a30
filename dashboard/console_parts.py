"""What a run prints: its last lines, as they come."""

from __future__ import annotations

import html
from typing import Any

import streamlit as st

from dashboard import components, data, formats

Json = dict[str, Any]
LINES = 1000


def console(run: Json) -> None:
    ranks = sorted({line["rank"] for line in data.console(run["id"], LINES)})
    if not ranks:
        components.empty(
            "Nothing printed", "The client keeps what a run prints:", "tunescope.init(console=True)",
            icon="terminal", code="python",
        )  # fmt: skip
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        rank = st.selectbox("Rank", [None, *ranks], format_func=lambda one: "all" if one is None else str(one),
                            key="console-rank", width=110) if len(ranks) > 1 else None  # fmt: skip
        wanted = st.text_input("Filter", key="lines", bind="query-params", placeholder="Filter these lines", width=320,
                               icon=":material/search:", label_visibility="collapsed")  # fmt: skip
        errors = st.toggle("Only stderr", key="stderr", bind="query-params")
        st.download_button(
            "Download all", lambda: data.whole_console(run["id"]), f"{run['name']}.log", "text/plain",
            icon=":material/download:", type="tertiary", on_click="ignore",
        )  # fmt: skip
    lines = [
        line
        for line in data.console(run["id"], LINES, rank)
        if (not errors or line["stream"] == "stderr") and wanted.lower() in line["text"].lower()
    ]
    st.html(shown(lines, run["created_at"], with_rank=len(ranks) > 1 and rank is None))
    st.caption(f"The last {formats.plural(len(lines), 'line')}, the newest at the bottom. Lines of stderr are marked.")


def shown(lines: list[Json], began: float, *, with_rank: bool) -> str:
    """Lines as HTML, in a box that stays at its end; times are since the run began."""
    rows = []
    for line in lines:
        rank = f'<span class="ts-rank">{line["rank"]}</span>' if with_rank else ""
        kind = " ts-stderr" if line["stream"] == "stderr" else ""
        rows.append(
            f'<div class="ts-line{kind}"><time>{formats.duration(max(0.0, line["time"] - began))}</time>{rank}'
            f"<code>{html.escape(line['text'])}</code></div>"
        )
    return f'<div class="ts-console"><div>{"".join(rows)}</div></div>'
