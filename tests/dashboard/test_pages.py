"""Every page on a real service, through Streamlit's own test harness."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboard import cli
from tests.dashboard.seed import Seed
from tunescope import Client

APP = Path(__file__).parents[2] / "dashboard" / "app.py"


@pytest.fixture(autouse=True)
def service(live_service: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The dashboard reads from the live service, and nothing it read is there for the next test."""
    monkeypatch.setenv("TUNESCOPE_URL", live_service)
    clear()
    yield live_service
    clear()


@pytest.fixture
def api(live_service: str) -> Iterator[Client]:
    with Client(live_service) as client:
        yield client


def clear() -> None:
    st.cache_data.clear()
    st.cache_resource.clear()


def open_page(name: str, /, **params: str) -> AppTest:
    app = AppTest.from_file(str(APP), default_timeout=60)
    for key, value in params.items():
        app.query_params[key] = value
    app.run()
    if name != "home":
        app.switch_page(f"views/{name}.py")
        for key, value in params.items():
            app.query_params[key] = value
        app.run()
    assert not app.exception, [error.message for error in app.exception]
    return app


def text(app: AppTest) -> str:
    """Everything a page says."""
    parts = [str(element.value) for element in (*app.title, *app.caption, *app.markdown, *app.code)]
    parts += [str(element.proto.body) for element in app.get("html")]
    parts += [str(element.proto.label) for element in app.get("page_link")]
    return "\n".join(parts)


def test_home_names_what_needs_attention(record: Seed) -> None:
    said = text(open_page("home"))
    assert "rate-too-high" in said
    assert "RuntimeError: loss is NaN at step 300" in said
    assert "Support bot: LoRA r=64 against r=16" in said


def test_runs_can_be_searched_and_filtered(record: Seed) -> None:
    app = open_page("runs", project=record.project)
    assert set(app.dataframe[0].value["Run"]) == set(record.runs)
    app.text_input[0].set_value("metrics.eval/accuracy > 0.91 and params.method = lora").run()
    assert set(app.dataframe[0].value["Run"]) == {"lora-r64"}
    app.text_input[0].set_value("").run()
    app.segmented_control[0].set_value("crashed").run()
    assert set(app.dataframe[0].value["Run"]) == {"rate-too-high"}


def test_a_wrong_query_says_where(record: Seed) -> None:
    app = open_page("runs")
    app.text_input[0].set_value("metrics.loss <<").run()
    assert not app.exception
    assert len(app.error) == 1
    assert len(app.dataframe) == 0


def test_a_query_with_an_order_can_still_be_filtered_by_status(record: Seed) -> None:
    app = open_page("runs", project=record.project)
    app.text_input[0].set_value("params.method = lora order by metrics.eval/accuracy desc").run()
    app.segmented_control[0].set_value("finished").run()
    assert list(app.dataframe[0].value["Run"]) == ["lora-r64", "lora-r16"]


def test_a_run_shows_facts_curves_and_what_came_of_it(record: Seed) -> None:
    said = text(open_page("run", id=record.runs["lora-r64"]))
    for part in ("58 min 00 s", "9.9 GB", "8.65 M", "4b1f7c29d3", "audit: ", f"{record.model} v3"):
        assert part in said
    charts = open_page("run", id=record.runs["lora-r64"]).get("plotly_chart")
    assert len(charts) == 5  # loss, accuracy, grad_norm, learning_rate, the probe


@pytest.mark.parametrize(
    ("view", "part"),
    [
        ("System", "gpu0 memory, MiB"),
        ("Config", "parameters.trainable"),
        ("Results", "policy dashboard-tests-release"),
        ("Artifacts", "checkpoint/adapter.safetensors"),
        ("Environment", "tunescope train configs/lora-r64.yaml"),
    ],
)
def test_the_views_of_a_run(record: Seed, view: str, part: str) -> None:
    assert part in text(open_page("run", id=record.runs["lora-r64"], view=view))


def test_a_crashed_run_says_why_and_what_cannot_be_drawn(record: Seed) -> None:
    app = open_page("run", id=record.runs["rate-too-high"])
    assert "Exit code 1. RuntimeError: loss is NaN at step 300" in app.error[0].value
    assert "20 points on this page cannot be drawn" in app.warning[0].value


def test_compare_gives_a_verdict_for_every_shared_suite(record: Seed, api: Client) -> None:
    ids = ",".join(record.runs[name] for name in ("lora-r16", "lora-r64", "full"))
    said = text(open_page("compare", ids=ids, baseline=record.runs["lora-r16"]))
    cards = [part for part in said.split("\n") if 'class="ts-verdict' in part]
    assert len(cards) == 4
    expected = api.compare(record.evaluations["lora-r16", record.general], record.evaluations["full", record.general])
    assert expected["verdict"] == "worse"
    assert expected["sentence"].split(" [")[0] in said
    assert "494 M" in said  # trainable parameters, beside quality
    assert "learning_rate" in said  # what was set differently
    assert "train.batch_size" not in said  # and nothing else


def test_another_baseline_turns_the_verdicts_round(record: Seed) -> None:
    ids = ",".join(record.runs[name] for name in ("lora-r16", "full"))
    app = open_page("compare", ids=ids, baseline=record.runs["full"])
    assert app.selectbox[0].value == record.runs["full"]
    assert "lora-r16 is better than full" in text(app)


def test_evaluations_of_a_suite_are_listed_and_drawn(record: Seed) -> None:
    app = open_page("evaluations", suite=record.intents)
    assert list(app.dataframe[0].value["Evaluation"]) == [
        "full, step 1,200", "lora-r64, step 1,200", "lora-r16, step 1,200", "base",
    ]  # fmt: skip
    assert len(app.get("plotly_chart")) == 1


def test_an_evaluation_shows_scores_signatures_and_items(record: Seed, api: Client) -> None:
    evaluation = record.evaluations["lora-r64", record.intents]
    said = text(open_page("evaluations", id=evaluation))
    score = api.get_evaluation(evaluation)["scores"][0]
    assert f"{score['value'] * 100:.1f} %" in said
    assert score["signature"] in said
    assert "intent-card_arrival-0" in said


def test_items_of_one_cell_of_the_confusion_matrix(record: Seed, api: Client) -> None:
    evaluation = record.evaluations["lora-r64", record.intents]
    said = text(open_page("evaluations", id=evaluation, true="lost_card", predicted="card_arrival"))
    found = api.evaluation_items(evaluation, true="lost_card", predicted="card_arrival")["items"]
    assert found
    assert all(item["id"] in said for item in found[:25])
    assert "intent-card_arrival-0" not in said


def test_confusion_slices_and_flips(record: Seed) -> None:
    evaluation = record.evaluations["full", record.intents]
    confusion = open_page("evaluations", id=evaluation, tab="Confusion")
    assert len(confusion.get("plotly_chart")) == 1
    assert list(confusion.dataframe[0].value.columns) == ["True", "Predicted", "Items"]
    assert len(open_page("evaluations", id=evaluation, tab="Slices").get("plotly_chart")) == 1
    base = record.evaluations["base", record.intents]
    flips = open_page("evaluations", id=evaluation, tab="Flips", versus=base)
    assert flips.selectbox[0].value == base
    assert "full is better than base" in text(flips)


def test_audits_are_listed_with_the_plane(record: Seed) -> None:
    app = open_page("forgetting")
    assert {"lora-r16", "lora-r64", "full"} <= set(app.dataframe[0].value["Audit"])
    assert len(app.get("plotly_chart")) == 1
    app.segmented_control[0].set_value("PASS").run()
    assert "full" not in set(app.dataframe[0].value["Audit"])


def test_a_suite_nobody_was_scored_on_does_not_hide_the_plane(record: Seed, api: Client) -> None:
    items = [{"id": "1", "input": "?", "label": "yes"}]
    api.create_suite(name="dashboard-tests-unused", task_type="classification", items=items, metrics=["accuracy"])
    assert len(open_page("forgetting").get("plotly_chart")) == 1


def test_a_failed_audit_says_so_first_and_shows_what_was_lost(record: Seed, api: Client) -> None:
    audit = api.get_audit(record.audits["full"])
    assert audit["verdict"] == "FAIL"
    app = open_page("forgetting", id=audit["id"])
    said = text(app)
    task = audit["tasks"][0]
    assert f"Lost: {task['lost']:,} items" in said
    assert "What usually helps" in said
    assert said.index("ts-verdict") < said.index("Protected tasks")
    lost = api.audit_items(audit["id"], kind="lost", suite=task["suite"])["items"]
    assert lost[0]["input"] in said
    assert len(app.get("download_button")) >= 4  # the report twice, tables and charts as CSV


def test_an_experiment_shows_split_effects_arms_and_time(record: Seed, api: Client) -> None:
    readout = api.readout(record.experiment)
    app = open_page("experiments", key=record.experiment)
    said = text(app)
    assert readout["verdict"]["sentence"].split(" [")[0].split("'")[0] in said
    assert "split as planned" in said
    for part in ("Satisfaction", "Rated", "Latency, p95", "Cost of 1,000 requests", "Change log"):
        assert part in said
    assert len(app.get("plotly_chart")) == 1
    assert {button.label for button in app.button} >= {"Pause", "Stop"}


def test_starting_an_experiment_asks_first(record: Seed, api: Client) -> None:
    before = api.get_experiment(record.draft)["status"]
    app = open_page("experiments", key=record.draft)
    assert "too little data" in text(app)
    next(button for button in app.button if button.label == "Start").click().run()
    assert "Yes, start" in {button.label for button in app.button}
    assert api.get_experiment(record.draft)["status"] == before


def test_a_model_version_links_up(record: Seed) -> None:
    said = text(open_page("models", name=record.model, version="3"))
    for part in (f"{record.model} v3", "data 4b1f7c29d3", "lora-r64", "Support bot: LoRA r=64 against r=16"):
        assert part in said
    assert "audit: fail" in said


@pytest.mark.parametrize(
    ("page", "params"),
    [("run", {"id": "nothing"}), ("evaluations", {"id": "nothing"}), ("experiments", {"key": "nothing"})],
)
def test_what_is_not_there_says_so(page: str, params: dict[str, str], record: Seed) -> None:
    assert "Not here" in text(open_page(page, **params))


PAGES = ["home", "runs", "run", "compare", "evaluations", "forgetting", "experiments", "models"]


@pytest.mark.parametrize("page", PAGES)
def test_without_the_service_every_page_says_how_to_start_it(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESCOPE_URL", "http://127.0.0.1:9")
    clear()
    said = text(open_page(page, id="x", ids="x,y") if page in {"run", "compare"} else open_page(page))
    assert "The service is away" in said
    assert "tunescope serve" in said


def test_the_launcher_passes_address_and_port() -> None:
    command = cli.command(8600, "0.0.0.0", open_browser=False)
    assert command[1:4] == ["-m", "streamlit", "run"]
    assert Path(command[4]) == APP
    assert {"--server.port=8600", "--server.address=0.0.0.0", "--server.headless=true"} <= set(command)
