"""Aligned curves, through the client: kept while they are looked at, and read again only as far as they grew."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import pandas as pd
import pyarrow as pa
import streamlit as st

from dashboard import data

Json = dict[str, Any]
Rank = int | Literal["all"]

# Curves of one chart together: what a browser draws at once, without WebGL, which takes seconds where there is no GPU.
ENTRIES = 20_000


class Curves(NamedTuple):
    """Aligned curves. `frame`: run_id, key, rank, x, value, min, max; of groups: group, key, x, mean, sd, n, min, max.

    `about` is one entry a curve; `groups` and `missing` as the service gives them.
    """

    frame: pd.DataFrame
    about: list[Json]
    groups: list[Json]
    missing: list[Json]

    def of(self, keys: Sequence[str]) -> pd.DataFrame:
        return self.frame[self.frame["key"].isin(keys)]

    @property
    def not_finite(self) -> int:
        """How many points cannot be drawn: NaN or infinite."""
        return sum(curve.get("not_finite", 0) for curve in self.about)


class _CurveReader:
    """One question about curves, and the answer so far: only what grew is read again."""

    def __init__(self, question: Json) -> None:
        self._question = question
        self._lock = threading.Lock()
        self._cursor: str | None = None
        self._held: dict[tuple[Any, ...], tuple[Json, pd.DataFrame]] = {}
        self._groups: list[Json] = []

    def read(self) -> Curves:
        with self._lock:
            frame, told = _table(data.client().curves_arrow(**self._question, after=self._cursor))
            grouped = bool(self._question["group_by"])
            about = "group_curves" if grouped else "curves"
            place_of = ["group", "key"] if grouped else ["run_id", "key", "rank"]
            if told["groups"] != self._groups:
                # A config or tag has changed, and with it who belongs together: the answer is whole again.
                self._held, self._groups = {}, told["groups"]
            parts = dict(iter(frame.groupby(place_of, sort=False)))
            for one in told[about]:
                place = tuple(one[name] for name in place_of)
                self._held[place] = one, parts.get(place, frame.iloc[:0])
            self._cursor = told["cursor"]
            frames = [part for _, part in self._held.values() if len(part)]
            whole = pd.concat(frames, ignore_index=True) if frames else frame
            return Curves(whole, [one for one, _ in self._held.values()], told["groups"], told["missing"])


def _table(stream: bytes) -> tuple[pd.DataFrame, Json]:
    """The columns of an answer in plain types, and what else it says."""
    with pa.ipc.open_stream(io.BytesIO(stream)) as reader:
        table = reader.read_all()
    plain = [field.with_type(pa.string()) if pa.types.is_dictionary(field.type) else field for field in table.schema]
    frame: pd.DataFrame = table.cast(pa.schema(plain)).to_pandas()
    return frame, json.loads(table.schema.metadata[b"about"])


@st.cache_resource(ttl=data.FIXED, max_entries=64, show_spinner=False)
def _curve_reader(
    run_ids: Sequence[str],
    keys: Sequence[str],
    x: str,
    smoothing: float,
    group_by: Sequence[str],
    rank: Rank,
    max_points: int,
) -> _CurveReader:
    return _CurveReader(
        {"run_ids": list(run_ids), "keys": list(keys), "x": x, "smoothing": smoothing, "group_by": list(group_by),
         "rank": rank, "max_points": max_points}
    )  # fmt: skip


@st.cache_data(ttl=data.FIXED, max_entries=64, show_spinner=False)
def curves(
    run_ids: Sequence[str],
    keys: Sequence[str],
    counts: Sequence[int],
    *,
    x: str = "step",
    smoothing: float = 0.0,
    group_by: Sequence[str] = (),
    rank: Rank = 0,
) -> Curves:
    """Curves on one axis (step, time in seconds, epoch), smoothed by the service; of one rank, or a curve for each.

    `counts`, the number of points stored, says when to ask again; what is asked for then is what came since.
    """
    if not run_ids or not keys:
        return Curves(pd.DataFrame(columns=["run_id", "key", "rank", "x", "value", "min", "max"]), [], [], [])
    pixels = max(100, min(data.CHART_POINTS, ENTRIES // len(run_ids)))
    return _curve_reader(run_ids, keys, x, smoothing, group_by, rank, pixels).read()
