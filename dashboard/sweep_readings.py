"""What a sweep is and how it went, read out of its runs. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from dashboard import formats, readings

Json = dict[str, Any]
Direction = Literal["min", "max"]
Kind = Literal["parent", "group", "sweep"]
# What makes runs the trials of one sweep, as a person reads it.
KINDS: dict[Kind, str] = {"parent": "parent run", "group": "group", "sweep": "tag sweep"}
# A state of a trial that will not change any more, without a result.
FAILED = frozenset({"failed", "crashed", "killed"})


class Sweep(NamedTuple):
    """Runs that were tried together: what holds them together, and the runs, the newest first."""

    kind: Kind
    key: str
    project: str
    runs: list[Json]

    @property
    def param(self) -> str:
        """What stands in the URL: `group:ranks`."""
        return f"{self.kind}:{self.key}"


def sweeps(runs: Sequence[Json]) -> list[Sweep]:
    """The sweeps among some runs, the newest first. A run counts by its parent, else by its tag `sweep`,
    else by its group; a single run is no sweep."""
    found: dict[tuple[Kind, str, str], list[Json]] = {}
    for run in runs:
        held = belonging(run)
        if held is not None:
            kind, key = held
            # Children count as one sweep, whatever project they are in.
            found.setdefault((kind, key, "" if kind == "parent" else run["project"]), []).append(run)
    whole = [Sweep(kind, key, held[0]["project"], held) for (kind, key, _), held in found.items() if len(held) > 1]
    return sorted(whole, key=lambda sweep: -max(run["created_at"] for run in sweep.runs))


def belonging(run: Json) -> tuple[Kind, str] | None:
    """What a run belongs to."""
    if run["parent_run_id"]:
        return "parent", run["parent_run_id"]
    if run["tags"].get("sweep"):
        return "sweep", run["tags"]["sweep"]
    return ("group", run["group"]) if run["group"] else None


def parse(param: str) -> tuple[Kind, str] | None:
    """`group:ranks` from the URL; None where it is no such thing."""
    name, _, key = param.partition(":")
    kind = next((kind for kind in KINDS if kind == name), None)
    return (kind, key) if kind is not None and key else None


def condition(kind: Kind, key: str) -> str:
    """The trials, in the search language."""
    return readings.condition("tags.sweep" if kind == "sweep" else kind, key)


# --- trials ---


def value_of(run: Json, metric: str, by: str) -> float | None:
    """A trial's finite value: `last`, `min` or `max`."""
    value = run["metrics"].get(metric, {}).get(by)
    return float(value) if isinstance(value, int | float) else None


def trials(runs: Sequence[Json], metric: str, by: str, direction: Direction) -> pd.DataFrame:
    """A row a trial in the order they began: trial (from 1), run_id, name, status, began, seconds, value, best.

    `best` is the best value of the trials up to this one; NaN where there is none.
    """
    ordered = sorted(runs, key=lambda run: (run["created_at"], run["id"]))
    frame = pd.DataFrame(
        {
            "trial": range(1, len(ordered) + 1),
            "run_id": [run["id"] for run in ordered],
            "name": [run["name"] for run in ordered],
            "status": [run["status"] for run in ordered],
            "began": [run["created_at"] for run in ordered],
            "seconds": [run["duration"] for run in ordered],
            "value": pd.Series([value_of(run, metric, by) for run in ordered], dtype=float),
        }
    )
    so_far = frame["value"].cummin() if direction == "min" else frame["value"].cummax()
    return frame.assign(best=so_far.ffill())


def best_of(frame: pd.DataFrame, direction: Direction) -> int | None:
    """The place of the best trial; of equals the first."""
    if not frame["value"].notna().any():
        return None
    values = frame["value"].to_numpy()
    return int(np.nanargmin(values) if direction == "min" else np.nanargmax(values))


def tried(runs: Sequence[Json]) -> list[str]:
    """The settings that are not the same in all trials, places of outputs aside."""
    return [key for key in readings.varying(runs) if key.rpartition(".")[2] not in readings.PLACES]


def since_best(frame: pd.DataFrame, best: int) -> int:
    """How many trials with a value came after the best."""
    return int(frame["value"].iloc[best + 1 :].notna().sum())


def spent(runs: Sequence[Json]) -> list[tuple[str, str]]:
    """What the trials took together."""
    seconds = sum(run["duration"] or 0.0 for run in runs)
    pairs = [("Run time together", formats.duration(seconds))]
    hours = [one for run in runs if (one := readings.gpu_hours(run)) is not None]
    return [*pairs, ("GPU hours", formats.number(sum(hours), 3))] if hours else pairs


def states(runs: Sequence[Json]) -> str:
    """16 finished, 1 running, 1 crashed."""
    counts = Counter(run["status"] for run in runs)
    return ", ".join(f"{count} {status}" for status, count in counts.most_common())


def setting_text(text: str | None) -> str:
    """A setting as a person reads it: numbers to the digits that count."""
    if text is None:
        return formats.NONE
    try:
        value = float(text)
    except ValueError:
        return text
    return text if value.is_integer() and "e" not in text.lower() else formats.number(value)
