"""Media from `run.log` to the service and back: every kind, frozen when logged, exactly once, never raised."""

from __future__ import annotations

import io
import json
import logging
import os
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import torch
from PIL import Image as Picture

import tunescope
from tests.client.conftest import Script
from tests.conftest import LiveService
from tunescope import Client
from tunescope._sync import sync
from tunescope.media import LARGEST_GALLERY, Media

Json = dict[str, Any]
GRADIENT = np.linspace(0, 1, 4 * 6 * 3).reshape(4, 6, 3)


@pytest.fixture
def run(live_service: str) -> Iterator[tunescope.Run]:
    run = tunescope.init(project="media", url=live_service, system_interval=None, quiet=True)
    yield run
    run.finish()


def stored(api: Client, run: tunescope.Run, key: str) -> list[tuple[Json, bytes]]:
    """Finish the run; what the service then has under a key, with its bytes."""
    run.finish()
    return [(one, api.download_media(one["id"])) for one in api.list_media(run.id, key)["items"]]


def only(api: Client, run: tunescope.Run, key: str) -> tuple[Json, bytes]:
    (one,) = stored(api, run, key)
    return one


def pixels(content: bytes) -> Any:
    return np.asarray(Picture.open(io.BytesIO(content)))


def test_numbers_and_media_in_one_call(run: tunescope.Run, api: Client) -> None:
    picture = tunescope.Image(GRADIENT, caption="a cat")
    run.log({"loss": 0.3, "samples": picture, "nested": {"text": tunescope.Text("<b>hello</b>")}}, step=5)
    about, content = only(api, run, "samples")
    assert (about["step"], about["kind"], about["caption"], about["position"]) == (5, "image", "a cat", 0)
    assert about["details"] == {"width": 6, "height": 4}
    assert (pixels(content) == np.rint(GRADIENT * 255)).all()
    assert only(api, run, "nested/text")[1] == b"<b>hello</b>"
    assert api.history(run.id, "loss")[0]["steps"] == [5]
    assert api.get_run(run.id)["points_stored"] == 1


WHOLE = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
RED = Picture.new("RGB", (3, 2), "red")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (WHOLE, WHOLE),
        (WHOLE[:, :, 0], WHOLE[:, :, 0]),
        (WHOLE[:, :, :1], WHOLE[:, :, 0]),
        (WHOLE[:, :, :2], WHOLE[:, :, :2]),
        (WHOLE.astype(np.int64), WHOLE),
        (np.asfortranarray(WHOLE)[::-1], WHOLE[::-1]),
        (WHOLE[:, :, 0] > 5, 255 * (WHOLE[:, :, 0] > 5)),
        (np.array([[0.0, np.nan], [1.05, -0.05]]), np.array([[0, 0], [255, 0]])),
        (np.array([[0.25]], np.float16), np.array([[64]])),
        (torch.from_numpy(WHOLE).permute(2, 0, 1), WHOLE),
        (torch.from_numpy(WHOLE[:, :, 0]), WHOLE[:, :, 0]),
        (torch.tensor([[True, False]]), np.array([[255, 0]])),
        (torch.tensor([[0.5, float("nan")]], dtype=torch.bfloat16, requires_grad=True), np.array([[128, 0]])),
        (RED, np.asarray(RED)),
        (RED.convert("CMYK"), np.asarray(RED)),
    ],
)
def test_pictures_of_every_origin(run: tunescope.Run, api: Client, source: Any, expected: Any) -> None:
    run.log({"x": source if isinstance(source, Picture.Image) else tunescope.Image(source)})
    assert (pixels(only(api, run, "x")[1]) == expected).all()


def test_encoded_files_are_kept_byte_by_byte(run: tunescope.Run, api: Client, tmp_path: Path) -> None:
    files = {}
    for name in ("PNG", "JPEG", "GIF", "WEBP"):
        RED.save(tmp_path / name, name)
        files[name] = (tmp_path / name).read_bytes()
    files["SVG"] = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>'
    (tmp_path / "SVG").write_bytes(files["SVG"])
    for name, content in files.items():
        run.log({name: tunescope.Image(tmp_path / name), f"{name} bytes": tunescope.Image(content)})
    for name, content in files.items():
        about, found = only(api, run, name)
        assert (found, about["content_type"].partition("/")[2].partition("+")[0].upper()) == (content, name)
        assert only(api, run, f"{name} bytes")[1] == content


def test_what_is_logged_does_not_change_afterwards(run: tunescope.Run, api: Client) -> None:
    array, tensor, picture = np.zeros((2, 2), np.uint8), torch.zeros(2, 2), Picture.new("L", (2, 2))
    figure, rows = go.Figure(go.Bar(y=[1, 2])), [{"a": 1}]
    samples = np.zeros(8)
    run.log({"array": tunescope.Image(array), "tensor": tunescope.Image(tensor), "picture": picture})
    run.log({"figure": figure, "table": tunescope.Table(rows=rows), "sound": tunescope.Audio(samples, 8000)})
    array += 255
    tensor += 1
    picture.paste(255, (0, 0, 2, 2))
    figure.data[0].y = [9, 9]
    rows.append({"a": 2})
    samples += 1
    for key in ("array", "tensor", "picture"):
        assert pixels(only(api, run, key)[1]).max() == 0, key
    assert only(api, run, "table")[0]["details"] == {"rows": 1, "columns": 1}
    assert b"9" not in only(api, run, "figure")[1].partition(b'"layout"')[0]
    with wave.open(io.BytesIO(only(api, run, "sound")[1])) as sound:
        assert sound.readframes(8) == bytes(16)


@pytest.mark.parametrize(
    ("source", "channels", "expected"),
    [
        (np.array([0.0, 1.0, -1.0, 1.2, np.nan]), 1, [0, 32767, -32767, 32767, 0]),
        ([0.0, 1.0, -1.0, 1.2, float("nan")], 1, [0, 32767, -32767, 32767, 0]),
        (np.array([[1, 2], [3, 4]], np.int16), 2, [1, 2, 3, 4]),
        (torch.tensor([[0.0, 1.0], [1.0, 0.0]]), 2, [0, 32767, 32767, 0]),
    ],
)
def test_sounds(run: tunescope.Run, api: Client, source: Any, channels: int, expected: list[int]) -> None:
    run.log({"x": tunescope.Audio(source, rate=8000)})
    about, content = only(api, run, "x")
    with wave.open(io.BytesIO(content)) as sound:
        assert (sound.getnchannels(), sound.getframerate(), sound.getsampwidth()) == (channels, 8000, 2)
        assert np.frombuffer(sound.readframes(99), "<i2").tolist() == expected
    assert about["details"]["seconds"] == len(expected) / channels / 8000


@pytest.mark.parametrize(
    ("table", "columns", "rows"),
    [
        (tunescope.Table(["a", "b"], [[1, "x"], (2.5, None)]), ["a", "b"], [[1, "x"], [2.5, None]]),
        (tunescope.Table(rows=[{"a": 1}, {"b": np.float32(2)}]), ["a", "b"], [[1, None], [None, 2.0]]),
        (tunescope.Table(["b"], [{"a": 1, "b": 2}]), ["b"], [[2]]),
        (tunescope.Table(["a"]), ["a"], []),
        (tunescope.Table(["p"], [[Path("/x")], [float("nan")]]), ["p"], [["/x"], ["NaN"]]),
        (pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), ["a", "b"], [[1, "x"], [2, "y"]]),
        (pd.DataFrame({"a": [1, None], "b": ["x", None]}), ["a", "b"], [[1.0, "x"], [None, None]]),
        (pd.DataFrame({"t": [pd.Timestamp(0), pd.NaT]}), ["t"], [["1970-01-01 00:00:00"], [None]]),
        (tunescope.Table(["b"], pd.DataFrame({"a": [1], "b": [2]})), ["b"], [[2]]),
    ],
)
def test_tables(run: tunescope.Run, api: Client, table: Any, columns: list[str], rows: list[list[Any]]) -> None:
    run.log({"t": table})
    assert json.loads(only(api, run, "t")[1]) == {"columns": columns, "rows": rows}


def test_plotly_figures_stay_data(run: tunescope.Run, api: Client) -> None:
    run.log({"plot": go.Figure(go.Scatter(x=[1, 2], y=np.array([3.0, 4.0])))})
    about, content = only(api, run, "plot")
    assert (about["kind"], about["content_type"]) == ("plot", "application/json")
    assert go.Figure(json.loads(content)).data[0].x == (1, 2)


def test_matplotlib_figures_are_drawn(run: tunescope.Run, api: Client) -> None:
    figures = pytest.importorskip("matplotlib.figure", reason="Matplotlib is not installed")
    figure = figures.Figure(figsize=(2, 1))
    axes = figure.subplots()
    axes.plot([1, 2, 3])
    run.log({"figure": figure, "axes": axes, "svg": tunescope.Plot(figure, format="svg")})
    assert pixels(only(api, run, "figure")[1]).std() > 1
    assert only(api, run, "axes")[0]["kind"] == "plot"
    about, content = only(api, run, "svg")
    assert (about["content_type"], b"<svg" in content) == ("image/svg+xml", True)


def test_a_list_is_a_gallery(run: tunescope.Run, api: Client) -> None:
    run.log({"g": [tunescope.Image(np.full((1, 1), i, np.uint8), caption=str(i)) for i in range(3)]}, step=1)
    run.log({"g": (RED, tunescope.Text("and a text"))}, step=2)
    found = stored(api, run, "g")
    assert [(one["step"], one["position"], one["kind"]) for one, _ in found] == [
        (2, 0, "image"), (2, 1, "text"), (1, 0, "image"), (1, 1, "image"), (1, 2, "image"),
    ]  # fmt: skip
    assert [pixels(content)[0, 0] for one, content in found if one["step"] == 1] == [0, 1, 2]
    assert [one["caption"] for one, _ in found if one["step"] == 1] == ["0", "1", "2"]


class Exploding(Media):
    kind = "image"

    def freeze(self) -> Any:
        raise RuntimeError("out of paint")


def test_what_cannot_be_kept_is_reported_once_by_name(
    run: tunescope.Run, api: Client, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "page.html").write_text("<script>alert(1)</script>")
    bad: dict[str, tuple[Any, str]] = {
        "missing": (tunescope.Image("/no/such.png"), "FileNotFoundError"),
        "html": (tunescope.Image(tmp_path / "page.html"), "no PNG, JPEG, GIF, WebP or SVG"),
        "scale": (tunescope.Image(GRADIENT * 255), "0 to 1, these are 0 to 255"),
        "gpu scale": (tunescope.Image(torch.full((2, 2), -1.0)), "0 to 1, these are -1 to -1"),
        "negative": (tunescope.Image(np.array([[-1]])), "0 to 255"),
        "shape": (tunescope.Image(np.zeros((3, 64, 64))), "shape (3, 64, 64) is no image"),
        "empty": (tunescope.Image(torch.zeros(3, 0, 4)), "is no image"),
        "object": (tunescope.Image(object()), "not object"),
        "rate": (tunescope.Audio([0.1]), "need their rate"),
        "loud": (tunescope.Audio([100.0], 8000), "-1 to 1"),
        "silence": (tunescope.Audio([], 8000), "no samples"),
        "ragged": (tunescope.Table(["a"], [[1, 2]]), "row 0 has 2 cells"),
        "columns": (tunescope.Table(rows=[[1]]), "names of its columns"),
        "nothing": (tunescope.Histogram([]), "no values"),
        "words": (tunescope.Histogram(["a"]), "ValueError"),
        "bins": (tunescope.Histogram([1], bins=0), "bins"),
        "pairs": (tunescope.ConfusionMatrix([1], [1, 2]), "not pairs"),
        "label": (tunescope.ConfusionMatrix(["a"], ["c"], ["a", "b"]), "'c' is none of the labels"),
        "no positive": (tunescope.PRCurve([0], [0.5]), "recall means nothing"),
        "nan": (tunescope.PRCurve([1], [float("nan")]), "NaN"),
        "figure": (tunescope.Plot("figure.png"), "not str"),
        "explodes": (Exploding(), "out of paint"),
        "large": (tunescope.Text("x" * (65 << 20)), "at most 64"),
    }
    with caplog.at_level(logging.WARNING, "tunescope"):
        for _ in range(2):
            run.log({"loss": 1.0, **{name: value for name, (value, _) in bad.items()}})
        run.log({"many": [tunescope.Text(str(i)) for i in range(LARGEST_GALLERY + 5)]}, step=7)
        run.log({"mixed": [tunescope.Text("a"), 3]})
        report = run.finish()
    assert (report.sent, report.left) == (2, 0)
    lines = caplog.text.splitlines()
    for name, (_, problem) in bad.items():
        (line,) = [line for line in lines if f"'{name}' could not be kept: " in line]
        assert problem in line
    assert "'mixed' is not one number (list)" in caplog.text
    assert f"a step keeps {LARGEST_GALLERY} items a key, {LARGEST_GALLERY + 5} were given" in caplog.text
    keys = api.media_keys(run.id)["items"]
    assert [(one["key"], one["n"]) for one in keys] == [("many", LARGEST_GALLERY)]


def test_odd_names_and_captions(run: tunescope.Run, api: Client) -> None:
    run.log({"größe 😀/&?=%20#": tunescope.Text("\ud800\0é", caption="a&b=c\0\ud800" + "漢" * 3000)}, step=-(2**40))
    about, content = only(api, run, "größe 😀/&?=%20#")
    assert content.decode() == "?\ufffdé"
    assert about["caption"] == ("a&b=c\ufffd?" + "漢" * 3000)[:2000]
    assert about["step"] == -(2**40)


def test_offline_then_sync_stores_each_once(api: Client, tmp_path: Path) -> None:
    run = tunescope.init("media", mode="offline", dir=tmp_path, system_interval=None, git_diff=False, quiet=True)
    for step in range(3):
        run.log({"x": [tunescope.Text(f"{step}.{place}") for place in range(2)], "loss": step}, step=step)
    folder = run.finish().journal
    assert folder is not None
    assert len(list((folder / "files").iterdir())) == 6
    (one,) = sync(tmp_path, api)
    assert (one.outcome, one.points) == ("sent", 3)
    found = api.list_media(run.id, "x", inline=True)["items"]
    assert [item["content"] for item in found] == ["2.0", "2.1", "1.0", "1.1", "0.0", "0.1"]
    assert list((folder / "files").iterdir()) == []
    list(sync(tmp_path, api))
    assert [item["id"] for item in api.list_media(run.id)["items"]] == [item["id"] for item in found]


def test_a_sender_killed_after_the_answer_sends_again_without_harm(api: Client, tmp_path: Path) -> None:
    run = tunescope.init("media", mode="offline", dir=tmp_path, system_interval=None, git_diff=False, quiet=True)
    run.log({"x": tunescope.Text("one")}, step=1)
    run.log({"x": tunescope.Text("two")}, step=2)
    folder = run.finish().journal
    assert folder is not None

    class Killed(Client):
        def upload_media(self, *args: Any, **about: Any) -> Json:
            super().upload_media(*args, **about)
            raise KeyboardInterrupt

    for _ in range(2):
        with Killed(api.url) as client, pytest.raises(KeyboardInterrupt):
            list(sync(tmp_path, client))
    list(sync(tmp_path, api))
    found = api.list_media(run.id, inline=True)["items"]
    assert [(item["step"], item["content"]) for item in found] == [(2, "two"), (1, "one")]


def test_a_killed_process_loses_nothing_that_was_written(api: Client, script: Script, journals: Path) -> None:
    process = script("""
        import time, tunescope
        run = tunescope.init(project="media", mode="offline", system_interval=None)
        run.log({"x": [tunescope.Text(str(place)) for place in range(20)]}, step=3)
        time.sleep(1.5)
        print(run.id, flush=True)
        time.sleep(60)
    """)
    assert process.stdout is not None
    run_id = process.stdout.readline().strip()
    process.kill()
    process.wait()
    list(sync(journals, api))
    assert [item["content"] for item in api.list_media(run_id, inline=True)["items"]] == [str(n) for n in range(20)]
    assert api.get_run(run_id)["status"] == "crashed"


def test_forked_children_log_media(live_service: str, api: Client) -> None:
    run = tunescope.init(project="media", url=live_service, system_interval=None, quiet=True)
    run.log({"parent": tunescope.Text("parent")}, step=0)
    child = os.fork()
    if child == 0:
        try:
            run.log({"child": tunescope.Text("child")}, step=1)
            run.finish()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    run.finish()
    assert [(item["key"], item["content"]) for item in api.list_media(run.id, inline=True)["items"]] == [
        ("child", "child"),
        ("parent", "parent"),
    ]


@pytest.mark.slow
def test_the_service_comes_back(live: LiveService, tmp_path: Path) -> None:
    run = tunescope.init(url=live.url, dir=tmp_path / "j", system_interval=None, quiet=True)
    live.kill()
    run.log({"x": tunescope.Image(GRADIENT)}, step=1)
    live.start()
    run.finish(timeout=60)
    with Client(live.url) as client:
        assert [item["step"] for item in client.list_media(run.id)["items"]] == [1]


def test_a_disabled_run_takes_media() -> None:
    run = tunescope.init(mode="disabled")
    run.log({"x": tunescope.Image(GRADIENT), "y": Exploding()})
    run.finish()
