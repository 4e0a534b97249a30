"""What a run logged besides numbers, at a step: pictures, sounds, texts, tables, plots, distributions."""

from __future__ import annotations

import base64
import bisect
import html
import json
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import pandas as pd
import plotly.io
import streamlit as st

from dashboard import charts, components, data, formats, media_charts
from dashboard.alert_parts import escaped

Json = dict[str, Any]
KEYS_A_PAGE = 12
ITEMS_SHOWN = 24
LABELS_SHOWN = 20
COLUMNS_OF_A_HEAT_MAP = 60
# Wider than half a page: what is read, not looked at.
WIDE = {"table", "text", "histogram"}
SMALL_PICTURE = 120
SVG = "image/svg+xml"
# What a content that is not what it says it is may raise when it is drawn.
UNREADABLE = (KeyError, TypeError, ValueError, IndexError, AttributeError, OSError)


def media(run: Json) -> None:
    keys = data.media_keys(run["id"])
    shown = _chosen(keys)
    if not shown:
        st.caption("No key holds this text.")
        return
    steps = {key["key"]: data.media_steps(run["id"], key["key"]) for key in shown}
    chosen = _step(sorted({step for of_key in steps.values() for step in of_key}))
    narrow = [key for key in shown if not WIDE & set(key["kinds"])]
    if narrow:
        grid = st.grid(2 if len(narrow) > 1 else 1, min_column_width=340)
        for key in narrow:
            with grid:
                card(run, key["key"], steps[key["key"]], chosen)
    for key in shown:
        if key not in narrow:
            card(run, key["key"], steps[key["key"]], chosen)


def _chosen(keys: list[Json]) -> list[Json]:
    """The keys of the page that is looked at."""
    if len(keys) <= KEYS_A_PAGE:
        return keys
    with st.container(horizontal=True, vertical_alignment="bottom"):
        wanted = st.text_input("Filter", key="media", bind="query-params", placeholder="gradients/", width=320,
                               icon=":material/search:", label_visibility="collapsed")  # fmt: skip
        found = [key for key in keys if not wanted or wanted.lower() in key["key"].lower()]
        pages = -(-len(found) // KEYS_A_PAGE)
        page = 1
        if pages > 1:
            page = int(st.number_input(f"Page of {pages}", 1, pages, key="media-page", width=120))
    return found[(page - 1) * KEYS_A_PAGE : page * KEYS_A_PAGE]


def _step(steps: list[int]) -> int:
    """The step that is looked at: the newest, until a person picks one. It stands in the URL."""
    newest = steps[-1]
    if len(steps) == 1:
        return newest
    asked = st.query_params.get("at", "")
    value = newest
    if asked.lstrip("-").isdigit():
        value = steps[max(bisect.bisect_right(steps, int(asked)) - 1, 0)]
    chosen = int(st.select_slider("Step", steps, value=value, format_func=lambda step: f"{step:,}"))
    if chosen != value:
        if chosen == newest:
            del st.query_params["at"]
        else:
            st.query_params["at"] = str(chosen)
    return chosen


def card(run: Json, key: str, steps: list[int], chosen: int) -> None:
    """What a key had at a step, or last had before it; what it had first, if that is later."""
    step = steps[max(bisect.bisect_right(steps, chosen) - 1, 0)]
    items = data.media(run["id"], key, [step])
    kinds = [(kind, list(group)) for kind, group in groupby(items, key=lambda item: item["kind"])]
    for kind, group in kinds:
        name = key if len(kinds) == 1 else f"{key} · {kind.replace('_', ' ')}"
        with st.container(key=f"media-{key}-{kind}-{group[0]['position']}", gap="xsmall"):
            try:
                DRAW[kind](run, name, group, steps)
            except UNREADABLE as error:
                _unreadable(group[0], error)


def _head(name: str, items: Sequence[Json]) -> None:
    step, n = items[0]["step"], len(items)
    said = f"step {step:,}" + (f", {formats.plural(n, 'item')}" if n > 1 else "")
    st.html(f'<b>{html.escape(name)}</b> <span class="ts-dim">{html.escape(said)}</span>')


def _caption(item: Json, *more: str) -> None:
    rank = f"rank {item['rank']}" if item["rank"] else ""
    parts = [part for part in (item["caption"], rank, *more) if part]
    if parts:
        st.html(f'<span class="ts-dim">{html.escape(" · ".join(parts))}</span>')


def _shown(name: str, items: Sequence[Json]) -> Sequence[Json]:
    """Not all of a large gallery, unless they are asked for."""
    if len(items) <= ITEMS_SHOWN or st.toggle(f"All {len(items)}", key=f"all-{name}"):
        return items
    return items[:ITEMS_SHOWN]


def _unreadable(item: Json, error: Exception) -> None:
    with st.container(border=True):
        _head(item["key"], [item])
        st.caption(f"This {item['kind'].replace('_', ' ')} cannot be shown: {escaped(str(error)[:200])}")
        st.download_button("Get file", lambda: data.media_content(item["id"]), f"{item['id']}.bin",
                           key=f"get-{item['id']}", icon=":material/download:", on_click="ignore")  # fmt: skip


def _content(item: Json) -> Any:
    """The JSON or the text of a medium, which came with the list if it is small."""
    if item["content"] is not None:
        return item["content"]
    content = data.media_content(item["id"])
    return content.decode() if item["content_type"] == "text/plain" else json.loads(content)


# --- a kind each ---


def images(run: Json, name: str, items: Sequence[Json], steps: list[int]) -> None:
    with st.container(border=True):
        _head(name, items)
        shown = _shown(name, items)
        grid = st.grid(min(len(shown), 4), min_column_width=110)
        for item in shown:
            with grid, st.container(gap=None):
                picture(item)
                _caption(item)


def picture(item: Json) -> None:
    content = data.media_content(item["id"])
    if item["content_type"] == SVG:
        # As the source of an image a browser draws SVG and runs nothing of it.
        source = base64.b64encode(content).decode()
        alt = html.escape(item["caption"] or item["key"], quote=True)
        st.html(f'<img src="data:{SVG};base64,{source}" alt="{alt}" style="max-width: 100%; background: white">')
        return
    small = item["details"].get("width", SMALL_PICTURE) < SMALL_PICTURE
    st.image(content, width=SMALL_PICTURE if small else "stretch")


def sounds(run: Json, name: str, items: Sequence[Json], steps: list[int]) -> None:
    with st.container(border=True):
        _head(name, items)
        for item in _shown(name, items):
            st.audio(data.media_content(item["id"]), format=item["content_type"])
            seconds = item["details"].get("seconds")
            _caption(item, formats.duration(seconds) if seconds else "")


def texts(run: Json, name: str, items: Sequence[Json], steps: list[int]) -> None:
    with st.container(border=True):
        _head(name, items)
        for item in _shown(name, items):
            _caption(item)
            st.code(_content(item), language=None, wrap_lines=True)


def tables(run: Json, name: str, items: Sequence[Json], steps: list[int]) -> None:
    for item in items:
        with st.container(border=True):
            _head(name, [item])
            frame = table_frame(_content(item))
            st.dataframe(frame, hide_index=True, placeholder=formats.NONE, key=f"table-{item['id']}",
                         height="content" if len(frame) <= 10 else 380)  # fmt: skip
            _caption(item, f"{formats.plural(len(frame), 'row')}")


def table_frame(content: Json) -> pd.DataFrame:
    """Cells of a column that mixes kinds become text; JSON's names for NaN and infinities become numbers again."""
    names = [str(name) for name in content["columns"]]
    columns: list[pd.Series] = []
    for place in range(len(names)):
        cells = [row[place] for row in content["rows"]]
        kinds = {_kind(cell) for cell in cells if cell is not None}
        if kinds == {float}:
            columns.append(pd.Series([None if cell is None else float(cell) for cell in cells], dtype=float))
        elif len(kinds) <= 1 and kinds <= {bool, str}:
            columns.append(pd.Series(cells, dtype=object))
        else:
            columns.append(pd.Series([None if cell is None else str(cell) for cell in cells], dtype=object))
    frame = pd.concat(columns, axis=1) if columns else pd.DataFrame()
    # A table of results may well have two columns of one name; a data frame on a page may not.
    frame.columns = pd.Index([name if names.index(name) == place else f"{name} ({place + 1})"
                              for place, name in enumerate(names)])  # fmt: skip
    return frame


def _kind(cell: Any) -> type:
    if isinstance(cell, bool):
        return bool
    if isinstance(cell, int | float) or cell in ("NaN", "Infinity", "-Infinity"):
        return float
    return str if isinstance(cell, str) else object


def plots(run: Json, name: str, items: Sequence[Json], steps: list[int]) -> None:
    with st.container(border=True):
        _head(name, items)
        for item in _shown(name, items):
            if item["content_type"].startswith("image/"):
                picture(item)
            else:
                figure = plotly.io.from_json(data.media_content(item["id"]).decode(), skip_invalid=True)
                st.plotly_chart(figure, key=f"plot-{item['id']}", config={"displaylogo": False})
            _caption(item)


def histograms(run: Json, name: str, items: Sequence[Json], steps: list[int]) -> None:
    left, right = st.columns([3, 2], gap="small")
    if len(steps) > 1:
        with left:
            histograms_over_steps(run, name, items[0], steps)
    with right if len(steps) > 1 else left:
        histogram(name, items[0])


def histogram(name: str, item: Json) -> None:
    held = _content(item)
    apart = [f"{held[kind]:,} {word}" for kind, word in (("nan", "NaN"), ("infinite", "infinite")) if held[kind]]
    frame = media_charts.histogram_frame(held)
    note = f"{item['details'].get('n', 0):,} values" + (f", of them {' and '.join(apart)}" if apart else "")
    components.chart(media_charts.histogram(frame), frame, title=f"{escaped(name)} · step {item['step']:,}",
                     key=f"histogram-{name}", note=note)  # fmt: skip


def histograms_over_steps(run: Json, name: str, item: Json, steps: list[int]) -> None:
    n = len(steps)
    kept = steps
    if n > COLUMNS_OF_A_HEAT_MAP:
        kept = [steps[place * (n - 1) // (COLUMNS_OF_A_HEAT_MAP - 1)] for place in range(COLUMNS_OF_A_HEAT_MAP)]
    found = [one for one in data.media(run["id"], item["key"], kept)[::-1] if _is_drawn(one, item)]
    if not found:
        return
    over = media_charts.over_steps([one["step"] for one in found], [_content(one) for one in found])
    some = None if len(kept) == n else f"{len(kept)} of {formats.plural(n, 'step')}, evenly."
    components.chart(media_charts.heat_map(over, item["step"]), over.reset_index(), title=f"{escaped(name)} over steps",
                     key=f"heat-{name}", note=some)  # fmt: skip


def _is_drawn(one: Json, like: Json) -> bool:
    """The heat map follows one histogram of a gallery, the first, where it has finite values."""
    same = (one["kind"], one["position"], one["rank"]) == ("histogram", like["position"], like["rank"])
    return same and bool(_content(one)["counts"])


def confusions(run: Json, name: str, items: Sequence[Json], steps: list[int]) -> None:
    for item in items:
        held = _content(item)
        labels, counts = [str(label) for label in held["labels"]], held["counts"]
        keep = charts.most_confused(labels, counts, LABELS_SHOWN)
        figure = charts.confusion([labels[i] for i in keep], [[counts[i][j] for j in keep] for i in keep])
        frame = pd.DataFrame(counts, index=pd.Index(labels, name="true"), columns=labels).reset_index()
        accuracy = item["details"].get("accuracy")
        note = f"Rows are the truth. {item['details'].get('n', 0):,} items" + (
            f", {formats.percent(accuracy)} right." if accuracy is not None else "."
        )
        if len(keep) < len(labels):
            note += f" The {len(keep)} labels with the most errors of {len(labels)}."
        components.chart(figure, frame, title=f"{escaped(name)} · step {item['step']:,}",
                         key=f"confusion-{name}-{item['position']}", note=note)  # fmt: skip


def pr_curves(run: Json, name: str, items: Sequence[Json], steps: list[int]) -> None:
    for item in items:
        held = _content(item)
        frame = media_charts.pr_frame(held)
        average, share = item["details"].get("average_precision"), held["positives"] / held["n"]
        note = f"Average precision {formats.number(average)}; guessing has {formats.number(share)}. " + (
            f"{held['positives']:,} of {held['n']:,} items are positive."
        )
        components.chart(media_charts.pr_curve(frame, share), frame, title=f"{escaped(name)} · step {item['step']:,}",
                         key=f"pr-{name}-{item['position']}", note=note)  # fmt: skip


DRAW: dict[str, Callable[[Json, str, Sequence[Json], list[int]], None]] = {
    "image": images,
    "audio": sounds,
    "text": texts,
    "table": tables,
    "plot": plots,
    "histogram": histograms,
    "confusion_matrix": confusions,
    "pr_curve": pr_curves,
}
