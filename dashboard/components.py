"""The parts pages are made of: headers, badges, facts, tables, charts with their data, empty states."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, NamedTuple

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard import data, formats, navigate
from tunescope import ApiError, ConnectionFailed

Json = dict[str, Any]
Color = Literal["red", "orange", "blue", "green", "violet", "gray"]
SMOOTHING = (
    "Time-weighted exponential moving average, as at W&B: curves of any density are smoothed alike. "
    "What was measured stays behind it."
)
# Columns from which on a table becomes cards on a phone.
STACKED_FROM = 4


class Mark(NamedTuple):
    """How a state or verdict looks everywhere: colour, icon and word together."""

    color: Color
    icon: str
    word: str


MARKS: dict[str, Mark] = {
    # runs
    "running": Mark("blue", "play_circle", "running"),
    "silent": Mark("orange", "sensors_off", "silent"),
    "finished": Mark("green", "check_circle", "finished"),
    "failed": Mark("red", "cancel", "failed"),
    "crashed": Mark("red", "bolt", "crashed"),
    "killed": Mark("gray", "block", "killed"),
    "scheduled": Mark("gray", "schedule", "scheduled"),
    # alerts
    "loss_not_finite": Mark("red", "error", "NaN loss"),
    "loss_diverging": Mark("red", "trending_up", "diverging"),
    "loss_oscillating": Mark("orange", "airwave", "oscillating"),
    "no_progress": Mark("orange", "trending_flat", "no progress"),
    "overfitting": Mark("orange", "call_split", "overfitting"),
    "gradients_exploding": Mark("red", "flare", "gradients"),
    "throughput_falling": Mark("orange", "speed", "slower"),
    "gpu_idle": Mark("orange", "hotel", "GPU idle"),
    "out_of_memory": Mark("red", "memory_alt", "memory"),
    # comparisons
    "better": Mark("green", "trending_up", "better"),
    "worse": Mark("red", "trending_down", "worse"),
    "equivalent": Mark("blue", "drag_handle", "equivalent"),
    "inconclusive": Mark("orange", "help", "inconclusive"),
    # audits
    "PASS": Mark("green", "verified", "pass"),
    "FAIL": Mark("red", "gpp_bad", "fail"),
    "INCONCLUSIVE": Mark("orange", "help", "inconclusive"),
    "INVALID": Mark("gray", "block", "invalid"),
    # reviews
    "open": Mark("blue", "rate_review", "open"),
    "closed": Mark("green", "check_circle", "closed"),
    "good": Mark("green", "thumb_up", "good"),
    "bad": Mark("red", "thumb_down", "bad"),
    "preferred": Mark("green", "star", "preferred"),
    "tie": Mark("gray", "drag_handle", "tie"),
    "skip": Mark("gray", "skip_next", "skipped"),
    "valid": Mark("green", "approval", "valid"),
    "expired": Mark("orange", "event_busy", "expired"),
    "revoked": Mark("gray", "undo", "revoked"),
    # experiments
    "broken": Mark("red", "error", "broken"),
    "too_little_data": Mark("gray", "hourglass_top", "too little data"),
    "not_worse": Mark("green", "check_circle", "not worse"),
    "no_difference": Mark("blue", "drag_handle", "no difference"),
    "draft": Mark("gray", "edit_note", "draft"),
    "paused": Mark("orange", "pause_circle", "paused"),
    "stopped": Mark("gray", "stop_circle", "stopped"),
    "decided": Mark("violet", "gavel", "decided"),
}


def mark(state: str) -> Mark:
    return MARKS.get(state, Mark("gray", "circle", state.replace("_", " ")))


def badge(state: str) -> None:
    color, icon, word = mark(state)
    st.badge(word, icon=f":material/{icon}:", color=color)


def chip(state: str) -> str:
    """The same as HTML."""
    color, icon, word = mark(state)
    return f'<span class="ts-chip ts-{color}"><span class="ts-icon">{icon}</span>{html.escape(word)}</span>'


def state_column(label: str, states: Sequence[str], width: int | None = None) -> Any:
    """A table column of badges; its cells are lists of one state."""
    options = list(dict.fromkeys(states)) or ["running"]
    glyphs = {"green": "✓", "red": "✕", "orange": "!", "blue": "●", "violet": "◆", "gray": "○"}
    return st.column_config.MultiselectColumn(
        label,
        width=width,
        options=options,
        color=[mark(option).color for option in options],
        format_func=lambda option: f"{glyphs[mark(option).color]} {mark(option).word}",
    )


# --- tables ---


def link_table(
    frame: pd.DataFrame,
    *,
    key: str,
    column: str,
    page: navigate.PageName,
    targets: Sequence[Mapping[str, str]],
    columns: Mapping[str, Any] | None = None,
    select: bool = False,
    height: int | Literal["auto", "content"] = "content",
) -> list[int]:
    """A table whose `column` leads to `page` with the row's `targets` in the URL. Answers the selected rows."""
    opening = st.column_config.ButtonColumn(
        column,
        type="tertiary",
        alignment="left",
        key=f"{key}-open",
        on_click=navigate.clicked_row,
        args=(f"{key}-open", page, targets),
        pinned=True,
    )
    options: dict[str, Any] = {
        "hide_index": True,
        "column_config": {column: opening, **(columns or {})},
        "placeholder": "–",
        "height": height,
        "key": key,
        "row_height": 34,
    }
    rows: list[int] = []
    with st.container(key=f"table-{key}"):
        if select:
            event = st.dataframe(frame, on_select="rerun", selection_mode="multi-row", **options)
            rows = list(event["selection"]["rows"])
        else:
            st.dataframe(frame, **options)
    navigate.follow_from_fragment()
    return rows


# --- text ---


def header(title: str, sentence: str) -> None:
    st.title(title, anchor=False)
    st.caption(sentence)


def titled(title: str, state: str, sentence: str) -> None:
    """The header of one thing that has a state."""
    with st.container(gap=None):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.title(title, anchor=False, width="content")
            badge(state)
        st.caption(sentence)


def section(title: str, sentence: str | None = None, *, width: Literal["stretch", "content"] = "stretch") -> None:
    said = f'<p class="ts-dim">{html.escape(sentence)}</p>' if sentence else ""
    st.html(f'<div class="ts-section"><h3>{html.escape(title)}</h3>{said}</div>', width=width)


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Label over value, side by side."""
    cells = "".join(
        f"<div><span>{html.escape(label)}</span><b>{html.escape(value)}</b></div>" for label, value in pairs
    )
    return f'<div class="ts-facts">{cells}</div>'


def tags(values: Mapping[str, str]) -> str:
    return "".join(f'<span class="ts-tag">{html.escape(k)}: {html.escape(v)}</span>' for k, v in values.items())


class Cell(NamedTuple):
    """A table cell of ready HTML and its class."""

    markup: str
    kind: str = ""


def text_cell(value: object, kind: str = "") -> Cell:
    return Cell(html.escape(str(value)), kind)


def table(head: Sequence[str | Cell], rows: Sequence[Sequence[str | Cell]]) -> None:
    """A table to be read: text wraps, numbers (class `num`) line up."""
    st.html(table_html(head, rows))


def table_html(head: Sequence[str | Cell], rows: Sequence[Sequence[str | Cell]]) -> str:
    """A wide table turns into a card a row on a phone, where each cell carries its column's name."""
    tops = [_cell(name) for name in head]
    top = "".join(f'<th class="{name.kind}">{name.markup}</th>' for name in tops)
    names = [html.escape(re.sub("<[^>]*>", "", name.markup), quote=True) for name in tops]
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="{cell.kind}" data-label="{name}"><div>{cell.markup}</div></td>'
            for name, cell in zip(names, map(_cell, row), strict=True)
        )
        + "</tr>"
        for row in rows
    )
    kind = "ts-table ts-stack" if len(head) > STACKED_FROM else "ts-table"
    content = f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="ts-scroll"><table class="{kind}">{content}</table></div>'


def _cell(value: str | Cell) -> Cell:
    return value if isinstance(value, Cell) else text_cell(value)


def number_head(label: str) -> Cell:
    return Cell(html.escape(label), "num")


def numeric(value: str, kind: str = "") -> Cell:
    return Cell(html.escape(value), f"num {kind}".strip())


@contextmanager
def pager(param: str, following: str | None, said: str) -> Iterator[None]:
    """The line under one page of a long list: what it shows, what the caller puts there, back to the first page and on
    to the next. The place stands in the URL as `param`."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="right"):
        st.caption(said, width="content")
        yield
        if param in st.query_params and st.button("First page", icon=":material/first_page:", key=f"first-{param}"):
            del st.query_params[param]
            st.rerun()
        if following is not None and st.button(
            "Next", icon=":material/chevron_right:", icon_position="right", key=f"next-{param}"
        ):
            st.query_params[param] = following
            st.rerun()


def pick(
    label: str,
    options: Sequence[str],
    names: Mapping[str, str],
    param: str,
    *,
    help: str | None = None,
    width: int = 340,
) -> str:
    """A choice between things that have an id and a name. The id is what stands in the URL."""
    asked = st.query_params.get(param)
    index = options.index(asked) if asked in options else 0
    chosen = st.selectbox(label, options, index=index, format_func=lambda one: names[one], width=width, help=help)
    if chosen != options[index]:
        st.query_params[param] = chosen
    return chosen


# --- charts ---


def data_table(
    title: str,
    head: Sequence[str | Cell],
    rows: Sequence[Sequence[str | Cell]],
    frame: pd.DataFrame,
    *,
    key: str,
    sentence: str | None = None,
) -> None:
    """A section that is a table, with its data as CSV."""
    with st.container(gap="xsmall"):
        with st.container(
            horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute", key=f"head-{key}"
        ):
            section(title, sentence, width="content")
            csv_popover(frame, key, key)
        table(head, rows)


def csv_popover(frame: pd.DataFrame, name: str, key: str) -> None:
    """The data behind a chart."""
    with st.popover("CSV", icon=":material/download:", type="tertiary", key=f"csv-{key}"):
        st.caption(f"{formats.plural(len(frame), 'row')}: {', '.join(map(str, frame.columns))}")
        st.download_button(
            "Download",
            data=lambda: frame.to_csv(index=False),
            file_name=f"{name}.csv",
            mime="text/csv",
            key=f"csv-get-{key}",
            on_click="ignore",
        )


def chart(
    figure: go.Figure,
    frame: pd.DataFrame,
    *,
    title: str,
    key: str,
    note: str | None = None,
    leads: tuple[navigate.PageName, Callable[[Json], Mapping[str, str]]] | None = None,
) -> None:
    """A figure in its frame with its data as CSV. With `leads`, a click on a point goes to that page, with the
    parameters made of the point."""
    with st.container(border=True, key=f"chart-{key}", gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.markdown(f"**{title}**", width="content")
            csv_popover(frame, key.replace("/", "-"), key)
        options: dict[str, Any] = {"key": f"plot-{key}", "config": {"displayModeBar": False}, "alt": title}
        if leads is not None:
            options |= {"on_select": partial(navigate.clicked_point, f"plot-{key}", *leads), "selection_mode": "points"}
        st.plotly_chart(figure, **options)
        if note:
            st.caption(note)


# --- when there is nothing to show ---


def empty(title: str, sentence: str, command: str | None = None, *, icon: str = "inbox", code: str = "bash") -> None:
    """Nothing here yet, and the one command that changes that."""
    with st.container(border=True):
        st.html(
            f'<div class="ts-empty"><span class="ts-icon">{icon}</span><b>{html.escape(title)}</b>'
            f"{html.escape(sentence)}</div>"
        )
        if command:
            with st.container(horizontal=True, horizontal_alignment="center"):
                st.code(command, language=code, width="content")


@contextmanager
def guard() -> Iterator[None]:
    """Turns what the service cannot do into a page a person can act on."""
    try:
        yield
    except ConnectionFailed:
        service_away()
    except ApiError as refused:
        service_refused(refused)


def service_away() -> None:
    header(
        "The service is away", f"The dashboard asks {data.client().url} for everything it shows, and nobody answers."
    )
    empty(
        "Start the service, or point the dashboard at it",
        "This page comes back by itself as soon as the service answers.",
        "tunescope serve\n# elsewhere: tunescope dashboard --url http://host:port",
        icon="cloud_off",
    )
    _wait_for_service()


@st.fragment(run_every=3.0)
def _wait_for_service() -> None:
    try:
        data.client().health()
    except (ConnectionFailed, ApiError):
        return
    st.rerun()


def service_refused(refused: ApiError) -> None:
    if refused.status in {401, 403}:
        empty(
            "The service wants a key",
            f"{refused.message} Give the dashboard a key that may read.",
            "TUNESCOPE_API_KEY=… tunescope dashboard",
            icon="lock",
        )
    elif refused.status == 404:
        empty("Not here", refused.message, icon="search_off")
    else:
        empty("The service could not answer", f"{refused.message} ({refused.code})", icon="error")
