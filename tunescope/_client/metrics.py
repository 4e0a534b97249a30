"""Points out: summaries, histories, curves; and what a run printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from tunescope._client.calls import API, ARROW, SPECIAL, Calls, Json, listed


class Metrics(Calls):
    def run_series(self, run_id: str) -> Json:
        """The summary of every series of a run, of every rank: `key`, `rank`, `count`, `last`, ….

        What `get_run` shows as `metrics` are those of rank 0.
        """
        return self._get("runs", run_id, "series")

    def console(self, run_id: str, after: int | None = None, **params: Any) -> Json:
        """What a run printed: `{"items": [{time, stream, rank, text}], "cursor", "more"}`.

        The last lines (`limit`); or those that follow a cursor, from the beginning with 0. `rank` names a process.
        """
        return self._get("runs", run_id, "console", after=after, **params)

    def history(
        self,
        run_ids: str | Sequence[str],
        keys: str | Sequence[str] | None = None,
        max_points: int | None = None,
        rank: int | Literal["all"] = 0,
    ) -> list[Json]:
        """Series of runs: `{run_id, key, rank, count, sampled, steps, times, values}` each, values as floats.

        Without `keys`, every metric of the runs. `max_points` thins each series to that many buckets, spikes kept;
        without it every point is returned. `rank`: of which process of a run, or of all.
        """
        series: list[Json] = self.history_since(run_ids, keys, max_points=max_points, rank=rank)["series"]
        return series

    def history_since(
        self,
        run_ids: str | Sequence[str],
        keys: str | Sequence[str] | None = None,
        after: str | None = None,
        max_points: int | None = None,
        rank: int | Literal["all"] = 0,
    ) -> Json:
        """`{"series", "cursor"}`: pass `cursor` back as `after` to read only what came since."""
        answer = self._get(
            "metrics", run_id=listed(run_ids), key=keys and listed(keys), max_points=max_points, after=after, rank=rank
        )
        for series in answer["series"]:
            series["values"] = [SPECIAL.get(v, v) if isinstance(v, str) else v for v in series["values"]]
        return answer

    def history_arrow(
        self,
        run_ids: str | Sequence[str],
        keys: str | Sequence[str] | None = None,
        max_points: int | None = None,
        *,
        whole: bool = False,
        rank: int | Literal["all"] = 0,
    ) -> bytes:
        """The same as an Arrow IPC stream: run_id, key, rank, segment, step, time, value. Needs no parsing to read.

        `whole`: also the points that a resumed run replaced, in the order they were logged.
        """
        params: Json = {"run_id": listed(run_ids), "key": keys and listed(keys), "max_points": max_points}
        params |= {"whole": whole or None, "rank": rank}
        return self._bytes(f"{API}/metrics", params=params, headers={"Accept": ARROW})
