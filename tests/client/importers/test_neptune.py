"""Exports of neptune-exporter, point by point.

It is not on the package index, and exports from a service that is gone: these files are written here, to the schema
and the layout that its README and its `model.py` state.
"""

from __future__ import annotations

import hashlib
import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.client.importers.conftest import (
    assert_second_import_changes_nothing,
    bits,
    points,
    run_import,
    runs_of,
)
from tunescope import Client
from tunescope.importers._record import ImportProblem

MOMENT = pa.timestamp("ms", tz="UTC")
SCHEMA = pa.schema(
    {
        "project_id": pa.string(),
        "run_id": pa.string(),
        "attribute_path": pa.string(),
        "attribute_type": pa.string(),
        "step": pa.decimal128(18, 6),
        "timestamp": MOMENT,
        "int_value": pa.int64(),
        "float_value": pa.float64(),
        "string_value": pa.string(),
        "bool_value": pa.bool_(),
        "datetime_value": MOMENT,
        "string_set_value": pa.list_(pa.string()),
        "file_value": pa.struct({"path": pa.string()}),
        "histogram_value": pa.struct(
            {"type": pa.string(), "edges": pa.list_(pa.float64()), "values": pa.list_(pa.float64())}
        ),
    }
)
PROJECT = "team/in tents"
BEGAN = 1_700_000_000.25
VALUES = [0.1, -0.0, 5e-324, 1.7976931348623157e308, math.nan, math.inf, -math.inf]
PNG = b"\x89PNG\r\n\x1a\n and so on"
Row = dict[str, Any]


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def folder_name(name: str) -> str:
    """How the exporter makes a name safe."""
    plain = "".join(c if c.isalnum() or c in "_-" else "_" for c in name)
    return f"{plain}-{hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}"


def field(path: str, kind: str, value: Any) -> Row:
    return {"attribute_path": path, "attribute_type": kind, f"{kind}_value": value}


def step(path: str, kind: str, step: float | str | None, value: Any, at: float | None = None) -> Row:
    columns = {"float_series": "float", "string_series": "string", "histogram_series": "histogram"}
    return {
        "attribute_path": path,
        "attribute_type": kind,
        "step": None if step is None else Decimal(str(step)),
        "timestamp": None if at is None else moment(at),
        f"{columns.get(kind, 'file')}_value": value,
    }


def write(data: Path, run_id: str, *parts: list[Row], project: str = PROJECT, prefix: str | None = None) -> list[Path]:
    files = []
    for number, rows in enumerate(parts):
        whole = [{"project_id": project, "run_id": run_id, **row} for row in rows]
        start = f"{folder_name(run_id)}_" if prefix is None else prefix
        file = data / folder_name(project) / f"{start}part_{number}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(whole, SCHEMA), file, compression="snappy")
        files.append(file)
    return files


def experiment(run_id: str, short: str, name: str) -> list[Row]:
    """What Neptune 3 says of every run."""
    return [
        field("sys/id", "string", short),
        field("sys/custom_run_id", "string", run_id),
        field("sys/name", "string", name),
        field("sys/creation_time", "datetime", moment(BEGAN)),
    ]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two runs of Neptune 3, one forked from the other, and one of Neptune 2."""
    data, files = tmp_path / "exports" / "data", tmp_path / "exports" / "files"
    stored = files / "stored"
    stored.mkdir(parents=True)
    (stored / "model.bin").write_bytes(b"weights")
    (stored / "0.png").write_bytes(PNG)
    (stored / "1.csv").write_bytes(b"a,b")
    counts = {"type": "COUNTING", "edges": [0.0, 1.0, 3.0], "values": [2.0, 5.0]}
    write(
        data,
        "careful-bear",
        [
            *experiment("careful-bear", "IN-1", "lora"),
            field("sys/owner", "string", "ada"),
            field("sys/description", "string", "as noted"),
            field("sys/tags", "string_set", ["small", "nlp"]),
            field("sys/size", "float", 12.0),
            field("config/lr", "float", 1e-4),
            field("config/layers", "int", 2**62),
            field("config/flag", "bool", False),
            field("config/when", "datetime", moment(BEGAN + 1)),
            field("config/names", "string_set", ["b", "a"]),
            field("config/limit", "float", math.inf),
            field("config/none", "string", None),
            field("plain", "string", "é"),
            field("plain/under", "string", "taken"),
        ],
        [step("train/loss", "float_series", s, value, BEGAN + s + 0.125) for s, value in enumerate(VALUES)],
        [
            *(step("train/loss", "float_series", len(VALUES) + s, s / 7, BEGAN + 100 + s) for s in range(500)),
            step("eval/f1", "float_series", 3, 0.5),
            step("eval/f1", "float_series", 4, None, BEGAN + 4),
            step("monitoring/1234/stdout", "string_series", 0, "first\nsecond", BEGAN + 1),
            step("monitoring/1234/stderr", "string_series", 0, "warned", BEGAN + 2),
            step("monitoring/1234/stdout", "string_series", 1, "", BEGAN + 3),
            step("samples", "string_series", 2, "a completion", BEGAN + 5),
            step("weights", "histogram_series", 2, counts, BEGAN + 6),
            step("weights", "histogram_series", 3, {**counts, "type": "DENSITY"}, BEGAN + 7),
            {**step("files/model", "file", None, {"path": "stored/model.bin"})},
            {**step("files/gone", "file", None, {"path": "stored/gone.bin"})},
            {**step("files/outside", "file", None, {"path": "../../outside"})},
            step("pictures", "file_series", 0, {"path": "stored/0.png"}, BEGAN + 8),
            step("pictures", "file_series", 1, {"path": "stored/1.csv"}, BEGAN + 9),
        ],
    )
    (tmp_path / "outside").write_bytes(b"not of the export")
    fractions = [step("loss", "float_series", s, s, BEGAN + 10) for s in (0.25, 0.5, 1)]
    fork = [field("sys/forking/parent", "string", "careful-bear"), field("sys/failed", "bool", True)]
    write(data, "careful-bear-2", [*experiment("careful-bear-2", "IN-2", "lora"), *fork, *fractions])
    return tmp_path / "exports"


def test_every_point(api: Client, place: Path) -> None:
    found = run_import(api, "neptune", place, "neptune points")
    run = runs_of(api, "neptune points")["careful-bear"]
    stored = points(api, run["id"])
    first = [(s, BEGAN + s + 0.125, bits(value)) for s, value in enumerate(VALUES)]
    rest = [(len(VALUES) + s, BEGAN + 100 + s, bits(s / 7)) for s in range(500)]
    assert stored == {"train/loss": first + rest, "eval/f1": [(3, BEGAN, bits(0.5))]}
    assert found.left_out.pop(("points of 'eval/f1'", "the step or the value is missing")) == 1
    assert found.left_out == {
        ("steps of run 'careful-bear-2'", "fractions: all of them are multiplied by 100"): 1,
        ("file 'files/gone'", "it is not in the folder 'files' of the export"): 1,
        ("file 'files/outside'", "it is not in the folder 'files' of the export"): 1,
    }


def test_everything_else(api: Client, place: Path) -> None:
    run_import(api, "neptune", place)
    runs = runs_of(api, PROJECT)
    run, fork = runs["careful-bear"], runs["careful-bear-2"]
    wanted = {
        "created_at": BEGAN,
        "finished_at": BEGAN + 100 + 499,
        "status": "finished",
        "group": "lora",
        "notes": "as noted",
        "tags": {"nlp": "true", "small": "true"},
        "parent_run_id": None,
    }
    assert {name: run[name] for name in wanted} == wanted
    assert run["config"] == {
        "config": {
            "lr": 1e-4,
            "layers": 2**62,
            "flag": False,
            "when": "2023-11-14T22:13:21.250000+00:00",
            "names": ["a", "b"],
            "limit": "Infinity",
        },
        "plain": "é",
        "plain/under": "taken",
    }
    assert run["environment"]["imported"] == {"from": "neptune", "run_id": "careful-bear", "project": PROJECT}
    assert (run["environment"]["user"], run["environment"]["neptune"]) == ("ada", {"id": "IN-1", "size": 12.0})
    # A fork hangs on its parent. Its steps have fractions, which ours have not: all are multiplied alike.
    assert (fork["parent_run_id"], fork["status"]) == (run["id"], "failed")
    assert [(s, value) for s, _, value in points(api, fork["id"])["loss"]] == [
        (25, bits(0.25)),
        (50, bits(0.5)),
        (100, bits(1.0)),
    ]
    assert fork["environment"]["imported"]["steps_times"] == "100"


def test_console_files_and_media(api: Client, place: Path) -> None:
    run_import(api, "neptune", place, "neptune files")
    run = runs_of(api, "neptune files")["careful-bear"]["id"]
    printed = [(line["time"], line["stream"], line["text"]) for line in api.console(run)["items"]]
    assert printed == [
        (BEGAN + 1, "stdout", "first"),
        (BEGAN + 1, "stdout", "second"),
        (BEGAN + 2, "stderr", "warned"),
        (BEGAN + 3, "stdout", ""),
    ]
    files = {one["path"]: api.download_artifact(run, one["path"]) for one in api.list_artifacts(run)["items"]}
    density = json.loads(files.pop("logged-values.jsonl"))
    assert (density["key"], density["step"], density["value"]["type"]) == ("weights", 3, "DENSITY")
    assert files == {"files/model": b"weights", "pictures/1.csv": b"a,b"}
    media = {one["key"]: one for one in api.list_media(run, inline=True)["items"]}
    assert {key: (one["kind"], one["step"], one["time"]) for key, one in media.items()} == {
        "samples": ("text", 2, BEGAN + 5),
        "weights": ("histogram", 2, BEGAN + 6),
        "pictures": ("image", 0, BEGAN + 8),
    }
    assert media["samples"]["content"] == "a completion"
    assert media["weights"]["content"] == {"edges": [0.0, 1.0, 3.0], "counts": [2, 5], "nan": 0, "infinite": 0}
    assert api.download_media(media["pictures"]["id"]) == PNG


@pytest.mark.parametrize("below", ["", "data", f"data/{folder_name(PROJECT)}"])
def test_importing_twice_changes_nothing(api: Client, place: Path, below: str) -> None:
    project = f"neptune twice {len(below)}"
    first = run_import(api, "neptune", place / below, project)
    assert (first.tally.runs, first.tally.artifacts, first.tally.media, first.tally.lines) == (2, 3, 3, 4)
    assert_second_import_changes_nothing(api, "neptune", place / below, project)
    again = run_import(api, "neptune", place, project).tally
    assert (again.known_points, again.known_artifacts, again.known_media, again.known_lines) == (511, 3, 3, 4)


def test_neptune_2_names_runs_by_their_names(api: Client, tmp_path: Path) -> None:
    system = [
        field("sys/id", "string", "IN-7"),
        field("sys/name", "string", "warm"),
        field("sys/group_tags", "string_set", ["b", "a"]),
    ]
    write(
        tmp_path,
        "IN-7",
        [*system, step("loss", "float_series", 1, 2.0, BEGAN + 1), step("loss", "float_series", 2, 3.0, BEGAN + 2)],
    )
    listed = tmp_path / "files" / "list"
    (listed / "deep").mkdir(parents=True)
    (listed / "files_list.json").write_text("[]")
    (listed / "deep" / "code.py").write_text("pass")
    rows = [
        step("data", "artifact", None, {"path": "list/files_list.json"}),
        step("code", "file_set", None, {"path": "list/deep"}),
    ]
    write(tmp_path, "IN-8", rows)
    run_import(api, "neptune", tmp_path, "neptune two")
    runs = runs_of(api, "neptune two")
    assert (runs["warm"]["group"], runs["warm"]["created_at"], runs["warm"]["finished_at"]) == (
        "a, b",
        BEGAN + 1,
        BEGAN + 2,
    )
    assert {one["path"] for one in api.list_artifacts(runs["IN-8"]["id"])["items"]} == {
        "data/files_list.json",
        "code/code.py",
    }


def test_early_versions_kept_several_runs_in_the_parts_of_a_project(api: Client, tmp_path: Path) -> None:
    for number, runs in enumerate((("a", "b"), ("b", "c"))):
        rows = [
            {"project_id": "early", "run_id": run, **step("loss", "float_series", number, number, BEGAN)}
            for run in runs
        ]
        (tmp_path / "early").mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), tmp_path / "early" / f"part_{number}.parquet")
    run_import(api, "neptune", tmp_path, "neptune early")
    found = {name: len(points(api, run["id"])["loss"]) for name, run in runs_of(api, "neptune early").items()}
    assert found == {"a": 1, "b": 2, "c": 1}


def test_a_run_whose_export_was_cut_off_is_named(tmp_path: Path) -> None:
    rows = [step("loss", "float_series", 1, 1.0, BEGAN)]
    write(tmp_path, "whole", rows)
    write(tmp_path, "half", rows, rows)[0].unlink()
    (unfinished,) = write(tmp_path, "unfinished", rows)
    unfinished.rename(f"{unfinished}.tmp")
    found = run_import(None, "neptune", tmp_path)
    assert found.tally.runs == 1
    assert sorted(reason for _, reason in found.left_out) == [
        "the export of this run was cut off",
        "the export of this run was cut off: parts of it are missing",
    ]


def test_many_texts_of_one_series(api: Client, tmp_path: Path) -> None:
    """A thousand are shown; the rest is kept."""
    write(tmp_path, "chatty", [step("said", "string_series", s, f"text {s}", BEGAN + s) for s in range(1003)])
    tally = run_import(None, "neptune", tmp_path).tally
    assert (tally.media, tally.artifacts) == (1000, 1)


def test_what_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(ImportProblem, match="no Parquet files of neptune-exporter"):
        run_import(None, "neptune", tmp_path)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "x_part_0.parquet")
    with pytest.raises(ImportProblem, match="has other columns"):
        run_import(None, "neptune", tmp_path)
    (tmp_path / "x_part_0.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ImportProblem, match="cannot be read"):
        run_import(None, "neptune", tmp_path)
