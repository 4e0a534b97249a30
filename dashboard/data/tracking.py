"""Runs, their series, console, alerts, files, and the bin."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import streamlit as st

from dashboard import sweep_readings
from dashboard.data.connection import CHART_POINTS, FIXED, LIST, LIVE, Json, client, forget, items
from dashboard.sweep_readings import Sweep
from tunescope import ApiError

# Plain columns: a dictionary-encoded one becomes a categorical, which groups and compares differently.
HISTORY = pa.schema(
    {
        "run_id": pa.string(),
        "key": pa.string(),
        "segment": pa.int32(),
        "step": pa.int64(),
        "time": pa.float64(),
        "value": pa.float64(),
    }
)


# Runs that are looked through for sweeps.
SWEPT = 1000
# More ids than this make an address that proxies refuse.
_AT_ONCE = 100
# No run logs this: its runs come without their metrics.
_NO_METRIC = "-"


@st.cache_data(ttl=LIST, max_entries=4, show_spinner=False)
def projects() -> list[Json]:
    return items(client().list_projects())


@st.cache_data(ttl=LIVE, max_entries=64, show_spinner=False)
def runs(
    project: str | None = None,
    query: str | None = None,
    order_by: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
    metrics: Sequence[str] | None = None,
) -> Json:
    return client().list_runs(
        project=project, query=query, order_by=order_by, limit=limit, cursor=cursor, metrics=metrics
    )


@st.cache_data(ttl=LIVE, max_entries=16, show_spinner=False)
def bin_page(project: str | None = None, cursor: str | None = None) -> Json:
    return client().bin(project=project, cursor=cursor)


def delete_runs(ids: Sequence[str]) -> None:
    client().delete_runs(ids)
    forget()


def restore_runs(ids: Sequence[str]) -> None:
    client().restore_runs(ids)
    forget()


def restore_project(name: str) -> None:
    client().restore_project(name)
    forget()


def purge_bin(ids: Sequence[str] | None) -> None:
    """These runs, or all that is in the bin."""
    client().purge_bin(ids)
    forget()


@st.cache_data(ttl=LIST, max_entries=64, show_spinner=False)
def filters(project: str) -> list[Json]:
    """The saved filters of a project."""
    return items(client().list_filters(project))


def save_filter(project: str, name: str, **body: Any) -> None:
    client().save_filter(project, name, **body)
    filters.clear()


def delete_filter(project: str, name: str) -> None:
    client().delete_filter(project, name)
    filters.clear()


@st.cache_data(ttl=LIVE, max_entries=256, show_spinner=False)
def run(run_id: str) -> Json:
    return client().get_run(run_id)


@st.cache_data(ttl=LIVE, max_entries=16, show_spinner=False)
def runs_of(ids: Sequence[str]) -> list[Json]:
    """These runs in this order, read together and without their environment; refused where one is not there."""
    found = _together(ids)
    return [found[run_id] if run_id in found else client().get_run(run_id) for run_id in ids]


@st.cache_data(ttl=LIST, max_entries=16, show_spinner=False)
def newest_runs(project: str, limit: int) -> list[Json]:
    """The newest runs of a project, without their metrics."""
    return items(client().list_runs(project=project, limit=limit, metrics=[_NO_METRIC]))


@st.cache_data(ttl=LIST, max_entries=64, show_spinner=False)
def any_run(query: str, project: str | None = None) -> bool:
    """Whether there is a run like that."""
    return bool(client().list_runs(project=project, query=query, limit=1, metrics=[_NO_METRIC])["items"])


@st.cache_data(ttl=LIST, max_entries=4, show_spinner=False)
def sweeps() -> tuple[list[Sweep], bool]:
    """What was tried together among the newest runs that belong to something, and whether these are all of them."""
    query = "parent is not null or group is not null or tags.sweep is not null"
    page = client().list_runs(query=query, limit=SWEPT, metrics=[_NO_METRIC])
    return sweep_readings.sweeps(page["items"]), page["next_cursor"] is None


@st.cache_data(ttl=LIST, max_entries=64, show_spinner=False)
def run_names(ids: Sequence[str]) -> dict[str, str]:
    """The names of those of these runs that are there, by id."""
    return {run_id: one["name"] for run_id, one in _together(ids, metrics=[_NO_METRIC]).items()}


def _together(ids: Sequence[str], metrics: Sequence[str] | None = None) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        listed = ", ".join(json.dumps(run_id) for run_id in some)
        answer = client().list_runs(query=f"id in ({listed})", limit=len(some), metrics=metrics)
        found |= {one["id"]: one for one in answer["items"]}
    return found


@st.cache_data(ttl=LIVE, max_entries=256, show_spinner=False)
def run_series(run_id: str) -> list[Json]:
    """The summary of every series of a run, of every rank."""
    return items(client().run_series(run_id))


@st.cache_data(ttl=LIVE, max_entries=64, show_spinner=False)
def console(run_id: str, limit: int, rank: int | None = None) -> list[Json]:
    """The last lines that a run, or one of its processes, printed."""
    return items(client().console(run_id, limit=limit, rank=rank))


def whole_console(run_id: str) -> str:
    """All that a run printed: a line each, with its time, rank and stream."""
    lines: list[str] = []
    cursor, more = 0, True
    while more:
        page = client().console(run_id, cursor, limit=10_000)
        lines += [f"{_instant(line['time'])} {line['rank']} {line['stream']} {line['text']}" for line in page["items"]]
        cursor, more = page["cursor"], page["more"]
    return "".join(f"{line}\n" for line in lines)


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


@st.cache_data(ttl=LIVE, max_entries=64, show_spinner=False)
def alerts(run_ids: Sequence[str] | None = None, limit: int = 200) -> list[Json]:
    """Open alerts, the newest first: of these runs, or of all."""
    if run_ids is not None and not run_ids:
        return []
    return items(client().list_alerts(run_id=run_ids and list(run_ids), open=True, limit=limit))


@st.cache_data(ttl=LIVE, max_entries=64, show_spinner=False)
def diagnoses(run_id: str) -> list[Json]:
    return items(client().diagnoses(run_id))


@st.cache_data(ttl=LIST, max_entries=256, show_spinner=False)
def run_links(run_id: str) -> Json:
    return client().run_links(run_id)


@st.cache_data(ttl=LIST, max_entries=256, show_spinner=False)
def artifact_version(version_id: str) -> Json:
    """A version of an artifact, with the runs that made and used it."""
    return client().get_artifact_version(version_id)


@st.cache_data(ttl=FIXED, max_entries=128, show_spinner=False)
def history(
    run_ids: Sequence[str], keys: Sequence[str], counts: Sequence[int], max_points: int = CHART_POINTS
) -> pd.DataFrame:
    """The series of runs as a frame: run_id, key, segment, step, time, value.

    `counts`, the number of points stored, is part of the cache's key and nothing else: a series is read again
    only when it has grown.
    """
    if not run_ids or not keys:
        return pd.DataFrame(columns=HISTORY.names)
    stream = client().history_arrow(list(run_ids), list(keys), max_points=max_points)
    with pa.ipc.open_stream(io.BytesIO(stream)) as reader:
        frame: pd.DataFrame = reader.read_all().select(HISTORY.names).cast(HISTORY).to_pandas()
    return frame


@st.cache_data(ttl=LIVE, max_entries=64, show_spinner=False)
def compared(run_ids: Sequence[str], metrics: Sequence[str] | None = None) -> Json:
    return client().compare_runs(run_ids, metrics)


@st.cache_data(ttl=LIST, max_entries=64, show_spinner=False)
def importance(
    metric: str, by: str, project: str | None = None, query: str = "", run_ids: Sequence[str] | None = None
) -> Json | str:
    """Which settings a metric depends on, or the sentence that says why that cannot be asked."""
    chosen = None if run_ids is None else list(run_ids)
    try:
        return client().importance(metric, by=by, project=project, query=query, run_ids=chosen)
    except ApiError as refused:
        if refused.status not in {400, 422}:
            raise
        return refused.message


@st.cache_data(ttl=LIST, max_entries=64, show_spinner=False)
def artifacts(run_id: str) -> list[Json]:
    return items(client().list_artifacts(run_id))


@st.cache_data(ttl=FIXED, max_entries=64, show_spinner=False)
def code(run_id: str, path: str, sha256: str) -> str:
    """The text of an artifact. `sha256` only says which of several under one path."""
    return client().download_artifact(run_id, path).decode(errors="replace")


def artifact(run_id: str, path: str) -> bytes:
    return client().download_artifact(run_id, path)


@st.cache_data(ttl=LIST, max_entries=64, show_spinner=False)
def media_keys(run_id: str) -> list[Json]:
    return items(client().media_keys(run_id))


@st.cache_data(ttl=LIST, max_entries=256, show_spinner=False)
def media_steps(run_id: str, key: str) -> list[int]:
    steps: list[int] = client().media_steps(run_id, key)["steps"]
    return steps


@st.cache_data(ttl=LIST, max_entries=256, show_spinner=False)
def media(run_id: str, key: str, steps: Sequence[int]) -> list[Json]:
    """What a key has at these steps, the newest first; small contents of JSON and text with it."""
    return items(client().list_media(run_id, key, step=list(steps), limit=1000, inline=True))


@st.cache_data(ttl=FIXED, max_entries=128, show_spinner=False)
def media_content(media_id: str) -> bytes:
    return client().download_media(media_id)
