"""The Media view of a run, on a real service, and its figures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from PIL import Image as Picture

import tunescope
from dashboard import media_charts
from dashboard.media_parts import table_frame
from tests.dashboard.seed import Seed
from tests.dashboard.test_pages import api, open_page, service, text  # noqa: F401  (fixtures)
from tunescope import Client

EVIL = "<script>alert(1)</script> ![x](http://evil/x.png)"


@pytest.fixture(scope="module")
def run(live_service: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run with every kind of medium, three steps of most."""
    run = tunescope.init(
        project="media-tests", url=live_service, dir=tmp_path_factory.mktemp("j"), system_interval=None, quiet=True
    )
    draw = np.random.default_rng(0)
    for step in (0, 10, 20):
        run.log({"pictures": [Picture.new("RGB", (8, 8), color) for color in ("red", "blue")]}, step=step)
        run.log({"weights": tunescope.Histogram(draw.normal(step, 1, 500))}, step=step)
        answers = [tunescope.Text(f"answer {n} of {step} {EVIL}", caption=EVIL) for n in range(2)]
        run.log({"answers": answers}, step=step)
        run.log({"table": tunescope.Table(["a", EVIL], [[step, EVIL], [None, "x"]])}, step=step)
        truth = draw.integers(0, 2, 50)
        run.log({"eval/matrix": tunescope.ConfusionMatrix(truth, truth, ["no", "yes"])}, step=step)
        run.log({"eval/curve": tunescope.PRCurve([0, 1, 1, 0], [0.1, 0.4, 0.8, 0.2])}, step=step)
    run.log({"figure": go.Figure(go.Bar(y=[1, 2])), "sound": tunescope.Audio([0.0] * 800, 8000)}, step=5)
    drawing = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    run.log({"vector": tunescope.Image(drawing)}, step=5)
    run.finish()
    return run.id


def test_every_kind_is_shown_at_the_newest_step(run: str) -> None:
    app = open_page("run", id=run, view="Media")
    said = text(app)
    assert "step 20, 2 items" in said
    assert "step 5" in said  # what was logged last before the chosen step
    assert [code.value for code in app.code] == [f"answer {n} of 20 {EVIL}" for n in range(2)]
    assert len(app.get("image")) == 2
    assert len(app.get("audio")) == 1
    # Matrix, curve, the user's figure; the histogram over steps and at the step.
    assert len(app.get("plotly_chart")) == 5
    assert "Average precision 1" in said
    assert "50 items, 100.0 % right" in said


def test_a_step_in_the_url_is_the_step_that_is_shown(run: str) -> None:
    app = open_page("run", id=run, view="Media", at="12")
    assert [code.value for code in app.code] == [f"answer {n} of 10 {EVIL}" for n in range(2)]
    assert list(app.dataframe[0].value["a"].dropna()) == [10.0]
    app.select_slider[0].set_value(0).run()
    assert not app.exception
    assert [code.value for code in app.code] == [f"answer {n} of 0 {EVIL}" for n in range(2)]
    assert app.query_params["at"] in ("0", ["0"])


def test_nothing_of_a_user_becomes_markup(run: str) -> None:
    app = open_page("run", id=run, view="Media")
    for element in app.get("html"):
        assert "<script" not in element.proto.body
        assert "<svg" not in element.proto.body
    assert not [element for element in (*app.markdown, *app.caption) if "![x]" in str(element.value)]


def test_a_run_without_media_has_no_such_view(record: Seed) -> None:
    app = open_page("run", id=record.runs["lora-r64"])
    assert "Media" not in [tab.label for tab in app.tabs]


def test_what_is_not_what_it_says_it_is(api: Client) -> None:  # noqa: F811
    run_id = api.create_run(project="media-tests")["id"]
    kinds = ("table", "histogram", "confusion_matrix", "pr_curve", "plot")
    for kind in kinds:
        for place, content in enumerate((b"[]", b"{", b'{"rows": 3, "columns": 4, "counts": [1], "edges": "no"}')):
            about = {"key": f"{kind} {place}", "step": 1, "kind": kind, "content_type": "application/json"}
            api.upload_media(run_id, content, **about)  # type: ignore[arg-type]
    api.upload_media(run_id, b"no picture", key="image", step=1, kind="image", content_type="image/png")
    seen = 0
    for page in (1, 2):
        app = open_page("run", id=run_id, view="Media")
        if page == 2:
            app.number_input[0].set_value(2).run()
        assert not app.exception, [error.message for error in app.exception]
        seen += text(app).count("cannot be shown")
    assert seen >= 14


def test_many_keys_are_paged_and_filtered(api: Client) -> None:  # noqa: F811
    run_id = api.create_run(project="media-tests")["id"]
    for number in range(15):
        about = {"key": f"layer.{number}", "step": 1, "kind": "text", "content_type": "text/plain"}
        api.upload_media(run_id, f"text {number}".encode(), **about)  # type: ignore[arg-type]
    app = open_page("run", id=run_id, view="Media")
    assert len(app.code) == 12
    app.number_input[0].set_value(2).run()
    assert len(app.code) == 3
    app.text_input[0].set_value("LAYER.14").run()
    assert [code.value for code in app.code] == ["text 14"]
    app.text_input[0].set_value("nothing").run()
    assert "No key holds this text." in text(app)


def test_histograms_on_one_grid_keep_their_mass() -> None:
    narrow = {"edges": [0.0, 1.0, 2.0], "counts": [3, 1]}
    wide = {"edges": [-4.0, 0.0, 4.0], "counts": [2, 2]}
    frame = media_charts.over_steps([1, 5], [narrow, wide])
    assert list(frame.columns) == [1, 5]
    assert frame[1].sum() == pytest.approx(1)
    assert frame[5].sum() == pytest.approx(1, abs=0.003)  # the outermost thousandth at each end
    assert frame[1][frame.index < 0].sum() == 0
    assert frame[1][frame.index < 1].sum() == pytest.approx(0.75, abs=0.06)


def test_a_pr_curve_has_the_numbers_of_its_counts() -> None:
    curve = {"thresholds": [0.9, 0.5, 0.1], "tp": [1, 1, 2], "fp": [0, 1, 2], "positives": 2, "n": 4}
    frame = media_charts.pr_frame(curve)
    assert frame["precision"].tolist() == [1.0, 0.5, 0.5]
    assert frame["recall"].tolist() == [0.5, 0.5, 1.0]
    figure = media_charts.pr_curve(frame, 0.5)
    assert list(figure.data[0].x) == [0.5, 0.5, 1.0]


def test_tables_with_mixed_and_repeated_columns() -> None:
    rows = [[1, "a", True, {"k": [1]}, 1], ["NaN", None, False, "b", "two"], [None, "c", None, None, None]]
    frame = table_frame({"columns": ["n", "t", "b", "m", "n"], "rows": rows})
    assert list(frame.columns) == ["n", "t", "b", "m", "n (5)"]
    assert frame["n"].dtype == float
    assert pd.isna(frame["n"][1])
    assert frame["m"].tolist()[:2] == ["{'k': [1]}", "b"]
    assert frame["n (5)"].tolist()[:2] == ["1", "two"]
    assert table_frame({"columns": [], "rows": []}).empty
