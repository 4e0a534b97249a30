"""Everything out in three formats, and back into another service, bit for bit."""

from __future__ import annotations

import csv
import json
import math
import struct
from array import array
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.client.importers.conftest import Point, points, run_import, runs_of
from tests.conftest import LiveService
from tunescope import Client, cli
from tunescope._exceptions import TunescopeError
from tunescope.exports import Exported, Format, NothingToExport, export
from tunescope.importers._record import ImportProblem

runner = CliRunner()
FORMATS: tuple[Format, ...] = ("parquet", "csv", "json")
PAYLOAD = struct.unpack("<d", struct.pack("<Q", 0x7FF800000000BEEF))[0]
"""A NaN that is not the usual one."""
VALUES = [0.1, -0.0, 5e-324, 1.7976931348623157e308, math.nan, math.inf, -math.inf, PAYLOAD, 1 / 3]
NASTY = {
    "formula": "=HYPERLINK(1)",
    "sign": "-1+2",
    "quote": "'quoted",
    "empty": "",
    "lines": "a\nb\r\nc",
    "comma": 'a,"b"',
    "é": "naïve ✓",
}


def send(
    client: Client, run_id: str, batch: int, key: str, steps: list[int], values: list[float], rank: int = 0
) -> None:
    times = array("d", (1000.123456789 + step for step in steps)).tobytes()
    column = {"key": key, "step": array("q", steps).tobytes(), "time": times, "value": array("d", values).tobytes()}
    body = {"writer": "test", "batch": batch, "rank": rank, "metrics": [column]}
    client.send_batch(run_id, msgspec.msgpack.encode(body))


def fill(client: Client, project: str) -> str:
    """A project with a run of everything, its child, and a run without points; the id of the first."""
    run_id: str = client.create_run(
        project=project,
        name="=cmd()",
        config={"lr": 1e-4, "model": {"layers": [1, 2.5, None], "flag": True}, "big": 2**53 + 1},
        tags=NASTY,
        environment={"host": "h", "packages": {"torch": "2"}},
        group="@seeds",
        notes="+noted\n'twice'",
        data_hash="d1",
        created_at=1000.123456789,
    )["id"]
    send(client, run_id, 1, "=loss", list(range(len(VALUES))), VALUES)
    # Resumed twice at an earlier step: three segments, of which charts show the last.
    send(client, run_id, 2, "=loss", [5, 6, 2, 3], [1.5, 2.5, 3.5, 4.5])
    send(client, run_id, 3, "system/cpu", list(range(10_000)), [step / 7 for step in range(10_000)])
    send(client, run_id, 4, "far", [-(2**63), 2**63 - 1], [1.0, 2.0])
    send(client, run_id, 5, "=loss", [0, 1], [7.0, 8.0], rank=1)
    send(client, run_id, 6, "only/rank 1", [3], [9.0], rank=1)
    for batch, rank, texts in ((7, 0, ["", "=cmd()", "'quoted"]), (8, 1, ["é ✓"]), (9, 0, ['last, "said"'])):
        lines = [[1000.5 + at, "stderr" if at % 2 else "stdout", text] for at, text in enumerate(texts)]
        client.send_batch(
            run_id, msgspec.msgpack.encode({"writer": "test", "batch": batch, "rank": rank, "console": lines})
        )
    client.upload_artifact(run_id, "a/ü b.txt", b"hello", "text")
    client.upload_artifact(run_id, "=b", b"\0\1", "file")
    picture: dict[str, Any] = {"key": "=samples", "step": 2**62, "kind": "image", "content_type": "image/png"}
    for place in range(3):
        about = {"position": place, "of": 3, "caption": "'quoted\n" if place else None, "details": {"width": place}}
        client.upload_media(run_id, b"png" * (place % 2), **picture, **about, time=1000.5 + place)
    said: dict[str, Any] = {
        "key": "t",
        "step": -1,
        "rank": 2,
        "kind": "text",
        "content_type": "text/plain",
        "time": 1.0,
    }
    client.upload_media(run_id, "é".encode(), **said)
    ending = {
        "status": "failed",
        "exit_code": 3,
        "error": "-broke",
        "finished_at": 2000.987654321,
        "points_sent": 10_018,
    }
    client.update_run(run_id, **ending)
    child = client.create_run(project=project, name="child", parent_run_id=run_id, created_at=1001.5)["id"]
    send(client, child, 1, "x", [1], [0.5])
    client.update_run(child, status="finished", finished_at=1002.5)
    empty = client.create_run(project=project, name="empty", notes="", created_at=1000.5)["id"]
    client.update_run(empty, status="finished", finished_at=1000.75)
    return run_id


def everything(client: Client, project: str) -> dict[str, Any]:
    found = {}
    for name, run in runs_of(client, project).items():
        files = {one["path"]: one for one in client.list_artifacts(run["id"])["items"]}
        found[name] = {
            **run,
            "heartbeat_at": None,
            "points_sent": None,
            "points": points(client, run["id"]),
            "console": client.console(run["id"], after=0)["items"],
            "files": {path: (one["kind"], client.download_artifact(run["id"], path)) for path, one in files.items()},
            "media": [
                ({**one, "id": None, "run_id": None}, client.download_media(one["id"]))
                for one in client.list_media(run["id"])["items"]
            ],
        }
    return found


def usual_nan(found: dict[str, Any]) -> dict[str, Any]:
    """With every NaN as the usual one: text has only that."""
    nan = struct.pack("<d", math.nan)

    def usual(one: Point) -> Point:
        return (*one[:2], nan) if math.isnan(struct.unpack("<d", one[2])[0]) else one

    return {
        name: {**run, "points": {key: [usual(one) for one in series] for key, series in run["points"].items()}}
        for name, run in found.items()
    }


@pytest.mark.parametrize("format", FORMATS)
def test_out_and_back_into_another_service(api: Client, other: LiveService, tmp_path: Path, format: Format) -> None:
    project = f"round trip {format}"
    run_id = fill(api, project)
    done = export(api, tmp_path / "out", format, target=project, files=True)
    assert (done.runs, done.points, done.artifacts, done.media, done.left_out) == (3, 10_019, 2, 4, [])
    with Client(other.url) as there:
        found = run_import(there, "tunescope", tmp_path / "out")
        before, after = everything(api, project), everything(there, project)
        assert after == (before if format == "parquet" else usual_nan(before))
        assert there.get_run(run_id)["metrics"] == api.get_run(run_id)["metrics"]
        assert {one[1] for one in there.get_run(run_id)["config"].items() if one[0] == "big"} == {2**53 + 1}
        assert found.left_out == {}
        # A second time, and in another project, where the runs are other runs.
        again = run_import(there, "tunescope", tmp_path / "out")
        assert (again.tally.points, again.tally.new_runs, again.tally.artifacts) == (0, 0, 0)
        assert (found.tally.media, again.tally.media, again.tally.known_media) == (4, 0, 4)
        assert everything(there, project) == after
        run_import(there, "tunescope", tmp_path / "out", f"{project} moved")
        moved = runs_of(there, f"{project} moved")
        assert moved["child"]["parent_run_id"] == moved["=cmd()"]["id"] != run_id


def test_back_into_the_same_service_changes_nothing(api: Client, tmp_path: Path) -> None:
    fill(api, "same service")
    before = everything(api, "same service")
    export(api, tmp_path / "out", "parquet", target="same service", files=True)
    found = run_import(api, "tunescope", tmp_path / "out")
    assert (found.tally.points, found.tally.new_runs, found.tally.artifacts) == (0, 0, 0)
    assert everything(api, "same service") == before


def test_segments_and_order_are_in_the_tables(api: Client, tmp_path: Path) -> None:
    run_id = fill(api, "tables")
    export(api, tmp_path / "p", "parquet", target=run_id)
    table = pq.read_table(tmp_path / "p" / "metrics.parquet")
    rows = [row for row in table.to_pylist() if row["key"] == "=loss" and row["rank"] == 0]
    assert [row["value"] for row in table.to_pylist() if row["rank"] == 1] == [7.0, 8.0, 9.0]
    assert [(row["segment"], row["step"]) for row in rows] == [
        *((0, step) for step in range(9)),
        (1, 5),
        (1, 6),
        (2, 2),
        (2, 3),
    ]
    assert rows[0]["time"] == 1000.123456789
    export(api, tmp_path / "j", "json", target=run_id)
    lines = [json.loads(line) for line in (tmp_path / "j" / "metrics.jsonl").read_text().splitlines()]
    loss = [line["value"] for line in lines if line["key"] == "=loss"][:9]
    assert loss[4:8] == ["NaN", "Infinity", "-Infinity", "NaN"]
    assert [loss[i] for i in (0, 2, 3, 8)] == [VALUES[i] for i in (0, 2, 3, 8)]
    (run,) = [json.loads(line) for line in (tmp_path / "j" / "runs.jsonl").read_text().splitlines()]
    assert run["config"]["model"] == {"layers": [1, 2.5, None], "flag": True}
    assert run["environment"]["packages"] == {"torch": "2"}


@pytest.mark.parametrize("format", ["parquet", "csv"])
def test_an_export_from_before_there_were_ranks(api: Client, tmp_path: Path, format: Format) -> None:
    run_id = api.create_run(project="before ranks")["id"]
    send(api, run_id, 1, "loss", [1, 2], [0.5, 0.25])
    out = tmp_path / "out"
    export(api, out, format, target=run_id)
    if format == "parquet":
        file = out / "metrics.parquet"
        pq.write_table(pq.read_table(file).drop_columns("rank"), file)
    else:
        file = out / "metrics.csv"
        rows = list(csv.reader(file.read_text().splitlines()))
        file.write_text("".join(",".join([*row[:2], *row[3:]]) + "\n" for row in rows))
    manifest = json.loads((out / "export.json").read_text())
    (out / "export.json").write_text(json.dumps({**manifest, "layout": 1}))
    run_import(api, "tunescope", out, f"{format} again")
    (again,) = runs_of(api, f"{format} again").values()
    assert points(api, again["id"]) == points(api, run_id)


def test_no_text_cell_of_a_csv_is_a_formula(api: Client, tmp_path: Path) -> None:
    fill(api, "formulas")
    export(api, tmp_path / "c", "csv", target="formulas")
    cells = 0
    for file in (tmp_path / "c").glob("*.csv"):
        with file.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                for cell in row.values():
                    cells += 1
                    try:
                        float(cell)
                    except ValueError:
                        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r")), cell
    assert cells > 60_000


def test_many_series_are_asked_for_in_parts(api: Client, tmp_path: Path) -> None:
    run_id = api.create_run(project="many series")["id"]
    columns = [{"key": f"m{i:04}", "step": [1, 2], "time": [1.0, 2.0], "value": [i, i / 3]} for i in range(450)]
    api.send_batch(run_id, msgspec.msgpack.encode({"writer": "w", "batch": 1, "metrics": columns}))
    seen: list[int] = []

    def progress(name: str, done: Exported, total: int | None) -> None:
        seen.append(done.points)

    export(api, tmp_path / "out", "parquet", target=run_id, progress=progress)
    assert seen[-1] == 900
    assert 200 in seen
    table = pq.read_table(tmp_path / "out" / "metrics.parquet")
    assert table.num_rows == 900
    assert table.column("key").to_pylist() == sorted(table.column("key").to_pylist())


def test_an_export_that_was_cut_off_is_not_taken_for_whole(api: Client, live_service: str, tmp_path: Path) -> None:
    fill(api, "cut export")

    class CutOff(Client):
        def list_artifacts(self, run_id: str) -> dict[str, Any]:
            raise KeyboardInterrupt

    with CutOff(live_service) as client, pytest.raises(KeyboardInterrupt):
        export(client, tmp_path / "out", "csv", target="cut export")
    with pytest.raises(ImportProblem, match="no complete export"):
        run_import(None, "tunescope", tmp_path / "out")


def test_what_cannot_be_exported(api: Client, tmp_path: Path) -> None:
    with pytest.raises(NothingToExport, match="neither the id of a run nor a project"):
        export(api, tmp_path / "out", "csv", target="nowhere at all")
    fill(api, "queried")
    with pytest.raises(NothingToExport, match="no such runs in project 'queried'"):
        export(api, tmp_path / "out", "csv", target="queried", query="params.lr > 5")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("")
    with pytest.raises(TunescopeError, match="is not empty"):
        export(api, tmp_path / "full", "csv", target="queried")
    assert not (tmp_path / "out").exists()


def invoke(*arguments: str) -> Any:
    return runner.invoke(cli.app, list(arguments), env={"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"})


def test_the_commands(api: Client, live_service: str, other: LiveService, tmp_path: Path) -> None:
    fill(api, "by command")
    out = str(tmp_path / "out")
    query = 'status = failed and tags.formula = "=HYPERLINK(1)"'
    told = invoke("export", "by command", "--query", query, "--format", "json", "-o", out, "--url", live_service)
    assert told.output == f"1 runs, 10,018 points, 5 lines, 0 evaluations, 2 artifacts, 4 media in {out}\n", told.output
    told = invoke("import", "tunescope", out, "--dry-run")
    counted = "1 runs, 10,018 points, 4 params, 7 tags, 5 lines, 0 artifacts, 0 media, 0 evaluations"
    assert told.output.startswith(f"{counted} would be imported\nleft out:\n")
    assert "media of run '=cmd()' (4 times): the export was made without --artifacts" in told.output
    assert "files of run '=cmd()' (2 times): the export was made without --artifacts" in told.output
    told = invoke("import", "tunescope", out, "--url", other.url)
    assert told.output.startswith(
        "1 runs, 10,018 points, 4 params, 7 tags, 5 lines, 0 artifacts, 0 media, 0 evaluations imported\n"
    )
    told = invoke("import", "tunescope", out, "--url", other.url)
    assert "0 points" in told.output
    assert "(1 runs, 10,018 points, 5 lines were there already)" in told.output
    for wrong, sentence in (
        (
            ("import", "nothing", out),
            "from: helm, inspect, lm-eval, mlflow, neptune, tensorboard, trackio, tunescope, wandb.",
        ),
        (("import", "tunescope", str(tmp_path)), "is no complete export"),
        (("export", "nowhere", "-o", str(tmp_path / "x")), "neither the id of a run nor a project"),
    ):
        told = invoke(*wrong, "--url", live_service)
        assert (told.exit_code, sentence in told.output) == (1, True), told.output


@pytest.mark.parametrize("name", ["import", "export"])
def test_help_has_an_example(name: str) -> None:
    assert f"Example: tunescope {name}" in invoke(name, "--help").output
