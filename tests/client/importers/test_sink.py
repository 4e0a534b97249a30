"""One sink for every importer: cut off anywhere and repeated, everything is there once."""

from __future__ import annotations

import math
import subprocess
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.importers.conftest import point, points
from tunescope import ApiError, Client, ConnectionFailed
from tunescope.importers._record import (
    Column,
    ImportedFile,
    ImportedLine,
    ImportedRun,
    ImportProblem,
    LeftOut,
    PointBuffer,
    Source,
    flatten,
    need,
    number,
)
from tunescope.importers._sink import Sink, run_id

BATCHES, SIZE = 6, 50
VALUES = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308, 0.1]


def value(step: int) -> float:
    return VALUES[step] if step < len(VALUES) else step / 7


def columns(key: str, start: int, end: int) -> Column:
    steps = range(start, end)
    return Column(key, array("q", steps), array("d", (s + 0.25 for s in steps)), array("d", map(value, steps)))


def a_run(identity: str = "one", batches: int = BATCHES, **fields: Any) -> ImportedRun:
    def read() -> Iterator[list[Column]]:
        for number_of_batch in range(batches):
            start = number_of_batch * SIZE
            yield [columns("loss", start, start + SIZE), columns("lr", start, start + SIZE)]
        run.finished_at = 2000.5
        run.config["found"] = "at the end"

    run = ImportedRun(identity=identity, project="sink", created_at=1000.5, name="r", points=read, **fields)
    return run


def write(client: Client | None, *runs: ImportedRun, project: str | None = None) -> tuple[Sink, LeftOut]:
    left_out = LeftOut()
    sink = Sink(client, "test", project, left_out)
    sink.write_all(Source(iter(runs)), lambda name, tally: None)
    return sink, left_out


def expected(batches: int = BATCHES) -> dict[str, list[Any]]:
    every = [point(step, step + 0.25, value(step)) for step in range(batches * SIZE)]
    return {"loss": every, "lr": every}


def test_everything_arrives(api: Client) -> None:
    child = a_run("child", 1, parent="one")
    parent = a_run(
        config={"lr": 0.1, "model": {"layers": [1, 2]}},
        tags={"team": "nlp"},
        environment={"host": "h"},
        notes="said",
        group="g",
        status="failed",
        exit_code=3,
        error="broke",
        data_hash="d",
        files=lambda: [ImportedFile("a/b.txt", b"hello", "text")],
    )
    sink, left_out = write(api, parent, child, project="sink everything")
    run = api.get_run(run_id("test", "sink everything", "one"))
    wanted = {
        "project": "sink everything",
        "name": "r",
        "group": "g",
        "notes": "said",
        "status": "failed",
        "exit_code": 3,
        "error": "broke",
        "data_hash": "d",
        "created_at": 1000.5,
        "finished_at": 2000.5,
        "config": {"lr": 0.1, "model": {"layers": [1, 2]}, "found": "at the end"},
        "tags": {"team": "nlp"},
        "environment": {"host": "h"},
        "points_sent": 2 * BATCHES * SIZE,
        "points_stored": 2 * BATCHES * SIZE,
    }
    assert {name: run[name] for name in wanted} == wanted
    assert points(api, run["id"]) == expected()
    assert api.download_artifact(run["id"], "a/b.txt") == b"hello"
    assert api.get_run(run_id("test", "sink everything", "child"))["parent_run_id"] == run["id"]
    tally = sink.tally
    assert (tally.runs, tally.new_runs, tally.points, tally.params, tally.tags, tally.artifacts) == (2, 2, 700, 4, 1, 1)
    assert not left_out.counts


class CutOff(Client):
    """A connection that ends the program around the `at`-th batch: before it is stored, or after, unanswered."""

    def __init__(self, url: str, at: int, stored: bool) -> None:
        super().__init__(url)
        self._left, self._stored = at, stored

    def send_batch(self, run_id: str, body: bytes) -> dict[str, Any]:
        self._left -= 1
        if self._left == 0 and not self._stored:
            raise KeyboardInterrupt
        answer = super().send_batch(run_id, body)
        if self._left == 0:
            raise KeyboardInterrupt
        return answer


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("at", [1, 3, BATCHES])
def test_cut_off_and_repeated(live_service: str, api: Client, at: int, stored: bool) -> None:
    project = f"cut {at} {stored}"
    own_id = run_id("test", project, "one")
    with CutOff(live_service, at, stored) as client, pytest.raises(KeyboardInterrupt):
        write(client, a_run(), project=project)
    before = sum(len(series) for series in points(api, own_id).values())
    assert before == 2 * SIZE * (at - 1 + stored)
    assert api.get_run(own_id)["status"] == "running"
    sink, _ = write(api, a_run(), project=project)
    assert points(api, own_id) == expected()
    assert (sink.tally.known_points, sink.tally.points) == (before, 2 * BATCHES * SIZE - before)
    assert api.get_run(own_id)["status"] == "finished"
    again, _ = write(api, a_run(), project=project)
    assert (again.tally.points, again.tally.new_runs) == (0, 0)
    assert points(api, own_id) == expected()


def test_a_long_series_goes_in_several_batches(live_service: str, api: Client) -> None:
    length = 300_000
    steps = array("q", range(length))
    values = array("d", (step / 7 for step in range(length)))

    class Watching(Client):
        batches = 0

        def send_batch(self, run_id: str, body: bytes) -> dict[str, Any]:
            self.batches += 1
            return super().send_batch(run_id, body)

    run = a_run("long")
    run.points = lambda: iter([[Column("x", steps, values, values)]])
    with Watching(live_service) as client:
        write(client, run, project="long")
        assert client.batches == 3
    (series,) = api.history(run_id("test", "long", "long"))
    assert (series["steps"], series["values"]) == (list(steps), list(values))


def test_a_lost_answer_is_asked_for_again(live_service: str, api: Client) -> None:
    class Flaky(Client):
        lost = 0

        def send_batch(self, run_id: str, body: bytes) -> dict[str, Any]:
            answer = super().send_batch(run_id, body)
            if self.lost < 2:
                self.lost += 1
                raise ConnectionFailed("the answer was lost")
            return answer

    with Flaky(live_service) as client:
        write(client, a_run(), project="lost answers")
    assert points(api, run_id("test", "lost answers", "one")) == expected()


def test_a_source_that_grew(api: Client) -> None:
    write(api, a_run(batches=2), project="grown")
    sink, _ = write(api, a_run(batches=5), project="grown")
    assert points(api, run_id("test", "grown", "one")) == expected(5)
    assert (sink.tally.known_points, sink.tally.points) == (200, 300)


def test_console_of_a_run_that_went_on(api: Client) -> None:
    """Lines of each rank in their order, each once, however often the source is read."""

    def lines(count: int) -> list[ImportedLine]:
        return [ImportedLine(1000.5 + at, "stdout", f"line {at}", rank=at // 900 % 2) for at in range(count)]

    def stored() -> list[tuple[int, str]]:
        page = api.console(run_id("test", "printed", "one"), after=0, limit=10_000)
        return [(one["rank"], one["text"]) for one in page["items"]]

    write(api, a_run(batches=1, console=lambda: lines(4000)), project="printed")
    sink, _ = write(api, a_run(batches=2, console=lambda: lines(4005)), project="printed")
    assert (sink.tally.known_lines, sink.tally.lines) == (4000, 5)
    expected_lines = [(at // 900 % 2, f"line {at}") for at in range(4005)]
    assert stored() == expected_lines
    assert points(api, run_id("test", "printed", "one")) == expected(2)


def test_a_changed_file_is_stored_again_an_unchanged_one_is_not(api: Client, tmp_path: Path) -> None:
    (tmp_path / "same").write_bytes(b"same")
    for content, stored in ((b"old", 2), (b"new", 1)):
        files = [ImportedFile("same", tmp_path / "same"), ImportedFile("changing", content)]
        sink, _ = write(api, a_run(batches=0, files=lambda files=files: files), project="files")
        assert (sink.tally.artifacts, sink.tally.known_artifacts) == (stored, 2 - stored)
    assert api.download_artifact(run_id("test", "files", "one"), "changing") == b"new"


def test_what_is_refused_is_named_and_the_rest_goes_on(api: Client) -> None:
    bad_path = a_run("files", 1, files=lambda: [ImportedFile("../up", b""), ImportedFile("down", b"")])
    api.create_run(project="elsewhere", id=run_id("test", "refused", "taken"))
    sink, left_out = write(api, a_run("taken"), bad_path, project="refused")
    reasons = dict(left_out.counts)
    assert sum("is taken by a run of project 'elsewhere'" in reason for _, reason in reasons) == 1
    assert sum(name == "file '../up'" for name, _ in reasons) == 1
    assert (sink.tally.runs, sink.tally.artifacts) == (1, 1)


def test_a_wrong_key_ends_the_import(live_service: str) -> None:
    class Refused(Client):
        def create_run(self, **body: Any) -> dict[str, Any]:
            raise ApiError(401, "not_authenticated", "No key.")

    with Refused(live_service) as client, pytest.raises(ApiError):
        write(client, a_run())


def test_without_a_client_it_only_counts() -> None:
    sink, _ = write(None, a_run(files=lambda: [ImportedFile("a", b"")]))
    assert (sink.tally.runs, sink.tally.points, sink.tally.artifacts) == (1, 600, 1)


def test_values_that_are_no_numbers_are_kept_in_a_file(api: Client) -> None:
    run = a_run(batches=0)

    def read() -> Iterator[list[Column]]:
        run.keep("note", 3, 4.5, {"text": "é", "x": math.nan})
        yield []

    run.points = read
    write(api, run, project="values")
    kept = api.download_artifact(run_id("test", "values", "one"), "logged-values.jsonl").decode()
    assert kept == '{"key": "note", "step": 3, "time": 4.5, "value": {"text": "é", "x": "NaN"}}\n'


def test_ids_are_the_same_for_ever() -> None:
    assert run_id("mlflow", "p", "abc") == "203f6bcf0dcf5b1794c8be50d64d4f33"
    assert len({run_id("a", "p", "x"), run_id("b", "p", "x"), run_id("a", "q", "x"), run_id("a", "p", "y")}) == 4


def test_columns_are_drained_when_full() -> None:
    buffer = PointBuffer(limit=3)
    for step in range(3):
        assert not buffer.full
        buffer.add("ab"[step % 2], step, 0.0, 1.0)
    assert buffer.full
    assert [(c.key, list(c.steps)) for c in buffer.drain()] == [("a", [0, 2]), ("b", [1])]
    assert buffer.drain() == []


@pytest.mark.parametrize(
    ("given", "found"), [(True, 1.0), (3, 3.0), ("Infinity", math.inf), ("3", None), (None, None), ([1], None)]
)
def test_numbers(given: Any, found: float | None) -> None:
    assert number(given) == found


def test_a_missing_extra_is_one_sentence() -> None:
    with pytest.raises(ImportProblem, match=r"needs the package not_there: pip install 'tunescope\[importers\]'"):
        need("not_there.inside")


def test_importers_are_light_until_they_read() -> None:
    heavy = ["mlflow", "numpy", "pyarrow", "sqlalchemy", "tensorboard", "trackio", "wandb"]
    code = (
        "import sys, tunescope.transfer; from tunescope import importers; "
        f"[importers.find(kind) for kind in importers.kinds()]; print([m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_flatten() -> None:
    logged = {"a": 1, "b": {"c": 2, "d": {"e": 3}}, "image": {"_type": "image", "path": "p"}}
    assert dict(flatten(logged)) == {"a": 1, "b/c": 2, "b/d/e": 3, "image": {"_type": "image", "path": "p"}}
