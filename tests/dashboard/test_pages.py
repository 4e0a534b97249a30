"""Every page on a real service, through Streamlit's own test harness."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboard import cli
from tests.dashboard.seed import Seed, points, wait_for
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
    """A page by its address, without going through another: its file is called what its address is."""
    app = AppTest.from_file(str(APP), default_timeout=60)
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
    assert "metrics.loss <<\n              ↑" in [block.value for block in app.code]


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
        ("Console", "rank 1 of 2 is ready"),
        ("Console", "UserWarning: &lt;pad&gt; has no &lt;b&gt;id&lt;/b&gt;"),
        ("Environment", "+rank = 64"),
        ("Config", "parameters.trainable"),
        ("Results", "policy dashboard-tests-release"),
        ("Artifacts", "checkpoint/adapter.safetensors"),
        ("Environment", "tunescope train configs/lora-r64.yaml"),
    ],
)
def test_the_views_of_a_run(record: Seed, view: str, part: str) -> None:
    assert part in text(open_page("run", id=record.runs["lora-r64"], view=view))


def test_a_metric_of_several_ranks_is_shown_by_rank(record: Seed) -> None:
    run = record.runs["lora-r64"]
    assert '"rank 1"' not in text(open_page("run", id=run, view="Curves"))
    assert "rank 1" in str(open_page("run", id=run, view="Curves", ranks="true").get("plotly_chart")[0].proto)
    system = open_page("run", id=run, view="System").get("plotly_chart")
    assert ["rank 1" in str(chart.proto) for chart in system] == [True, False, True]
    assert not open_page("run", id=record.runs["full"]).get("toggle")[1:]


def test_a_crashed_run_says_why_and_what_cannot_be_drawn(record: Seed) -> None:
    app = open_page("run", id=record.runs["rate-too-high"])
    assert "Exit code 1. RuntimeError: loss is NaN at step 300" in app.error[0].value
    assert "20 points on this page cannot be drawn" in app.warning[0].value


@pytest.fixture(scope="module")
def overfitted(live_service: str) -> Iterator[str]:
    """A finished run whose held-out loss turned at step 400, in a project of its own."""
    steps = np.arange(0, 1200, 5)
    evaluated = np.arange(100, 1200, 100)
    held_out = 0.6 + np.where(evaluated < 400, (400 - evaluated) / 600, (evaluated - 400) / 1500)
    training = 0.02 + 2 * np.exp(-steps / 250)
    with Client(live_service) as client:
        run = client.create_run(project="alerts-tests", name="too-long", created_at=time.time() - 600)
        points(client, run["id"], {"train/loss": (steps, training), "eval/loss": (evaluated, held_out)}, 0.0)
        client.update_run(run["id"], status="finished", exit_code=0)
        wait_for(lambda: client.list_alerts(run_id=run["id"])["items"] != [])
        yield str(run["id"])


def test_a_run_shows_its_alerts_with_evidence_and_advice(overfitted: str) -> None:
    app = open_page("run", id=overfitted)
    said = text(app)
    assert "eval/loss was lowest at step 400 (0.6)" in said.replace("\\", "")
    assert "Use the checkpoint of the best step" in said
    assert "best step" in said
    (loss,) = app.get("plotly_chart")
    assert '"text":"overfitting"' in loss.proto.spec


def test_what_every_rule_says_is_a_view_of_the_run(overfitted: str) -> None:
    said = text(open_page("run", id=overfitted, view="Diagnoses"))
    for part in ("overfitting", "not measured", "clear", "No GPU utilisation is recorded.", "Kendall&#x27;s tau"):
        assert part in said


def test_runs_and_home_point_at_alerts(overfitted: str) -> None:
    table = open_page("runs", project="alerts-tests").dataframe[0].value
    assert list(table["Alerts"]) == [["overfitting"]]
    said = text(open_page("home"))
    assert "too-long" in said
    assert "eval/loss was lowest at step 400" in said


def test_compare_gives_a_verdict_for_every_shared_suite(record: Seed, api: Client) -> None:
    ids = ",".join(record.runs[name] for name in ("lora-r16", "lora-r64", "full"))
    said = text(open_page("compare", ids=ids, baseline=record.runs["lora-r16"]))
    cards = [part for part in said.split("\n") if 'class="ts-verdict' in part]
    assert len(cards) == 4
    expected = api.compare(record.evaluations["lora-r16", record.general], record.evaluations["full", record.general])
    assert expected["verdict"] == "worse"
    assert expected["sentence"].split(" [")[0] in said
    assert "494 M" in said  # trainable parameters, beside quality


def test_compare_shows_what_was_set_differently_and_counts_the_rest(record: Seed) -> None:
    ids = ",".join(record.runs[name] for name in ("lora-r16", "lora-r64", "full"))
    said = text(open_page("compare", ids=ids, view="Settings"))
    assert "learning_rate" in said
    assert "train.batch_size" not in said
    assert "What differs; 5 settings the same in all runs." in said
    assert "configs/full.yaml" in said  # of the environment
    assert "sha256:4b1f7c29d3e8a100" in said  # of the data


def test_compare_marks_the_best_of_each_metric(record: Seed, api: Client) -> None:
    ids = [record.runs[name] for name in ("lora-r16", "lora-r64", "full")]
    said = text(open_page("compare", ids=",".join(ids), view="Metrics"))
    metrics = {held["key"]: held for held in api.compare_runs(ids)["metrics"]}
    best = ids.index(metrics["eval/accuracy"]["leaders"]["last"][0])
    assert f'class="num best" data-label="{("lora-r16", "lora-r64", "full")[best]}"' in said
    assert "eval/accuracy ↑" in said
    assert "eval/loss ↓" in said


def test_compare_averages_seeds_with_their_spread(record: Seed) -> None:
    app = open_page("compare", ids=",".join(record.sweep), view="Curves", by="seed")
    said = text(app)
    assert said.count('class="ts-legend"') == 6
    assert "3 runs" in said
    assert len(app.get("plotly_chart")) == 2
    one_by_one = text(open_page("compare", ids=",".join(record.sweep), view="Curves"))
    assert 'class="ts-legend"' not in one_by_one
    assert "NaN or infinite" in one_by_one


def test_curves_over_epochs_leave_out_who_has_none(record: Seed) -> None:
    app = open_page("compare", ids=f"{record.sweep[0]},{record.runs['full']}", view="Curves", x="epoch")
    assert "Not drawn: 1 run logged no epoch." in text(app)


def test_compare_says_what_the_metric_depends_on(record: Seed) -> None:
    app = open_page("compare", ids=",".join(record.sweep), view="What matters")
    said = text(app)
    table = said[said.index("Explains") :]
    assert table.index("learning_rate") < table.index("train.seed")
    assert "moved together with peft.r" in said
    assert "may be noise" in said
    assert "train.output_dir" in said  # named as different in every run
    assert len(app.get("plotly_chart")) == 1  # the parallel coordinates


def test_few_runs_cannot_tell_what_matters(record: Seed) -> None:
    ids = ",".join(record.runs[name] for name in ("lora-r16", "full"))
    assert "below 10 noise looks like importance" in text(open_page("compare", ids=ids, view="What matters"))


def test_runs_can_be_grouped_and_a_group_opened(record: Seed) -> None:
    app = open_page("runs", project=f"{record.project}-sweep", group="params.learning_rate")
    table = app.dataframe[0].value
    assert dict(zip(table["Group"], table["Runs"], strict=True)) == {"0.003": 6, "0.0002": 6, "1e-05": 6}
    assert table["Group"].iloc[table["eval/accuracy"].argmax()] == "0.0002"
    assert (table["± eval/accuracy"] > 0).all()


def test_settings_become_columns(record: Seed) -> None:
    app = open_page("runs", project=f"{record.project}-sweep")
    next(select for select in app.multiselect if select.label == "Settings and tags").set_value(
        ["params.peft.r", "tags.stage"]
    ).run()
    table = app.dataframe[0].value
    assert sorted(set(table["peft.r"])) == [8.0, 64.0]
    assert set(table["tag stage"]) == {"sweep"}


def test_a_filter_is_saved_applied_and_forgotten(record: Seed, api: Client) -> None:
    project = f"{record.project}-sweep"
    app = open_page("runs", project=project)
    app.text_input[0].set_value("params.peft.r = 8 order by metrics.eval/accuracy desc").run()
    next(box for box in app.text_input if box.label == "Save what is shown as").set_value("Small adapters")
    next(button for button in app.button if button.label == "Save").click().run()
    (kept,) = api.list_filters(project)["items"]
    assert (kept["name"], kept["query"]) == ("Small adapters", "params.peft.r = 8")
    assert kept["order_by"] == "metrics.eval/accuracy desc"
    fresh = open_page("runs", project=project)
    assert len(fresh.dataframe[0].value) == 18
    next(button for button in fresh.button if button.label == "Small adapters").click().run()
    assert not fresh.exception
    assert len(fresh.dataframe[0].value) == 9
    assert fresh.dataframe[0].value["eval/accuracy"].iloc[0] == fresh.dataframe[0].value["eval/accuracy"].max()
    next(button for button in fresh.button if button.key == "forget-Small adapters").click().run()
    assert api.list_filters(project)["items"] == []


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


def test_a_suites_evaluations_can_be_ranked_by_any_metric(record: Seed, api: Client) -> None:
    app = open_page("evaluations", suite=record.intents, order_by="best first", score="mcc")
    table = app.dataframe[0].value
    assert list(table["Evaluation"]) == ["lora-r64, step 1,200", "full, step 1,200", "lora-r16, step 1,200", "base"]
    assert set(table["Metric"]) == {"mcc"}
    (chart,) = app.get("plotly_chart")
    assert "mcc with its 95 % interval, best first" in text(app)
    assert chart.proto.spec.index("lora-r64") < chart.proto.spec.index("base")


def test_several_evaluations_against_one_baseline_are_corrected_for_their_number(record: Seed, api: Client) -> None:
    names = ("lora-r16", "lora-r64", "full")
    base, *others = (record.evaluations[name, record.general] for name in ("base", *names))
    expected = api.compare_several(base, others)["items"]
    app = open_page("evaluations", ids=",".join([*others, base]), against=base)
    said = text(app)
    assert "Against the baseline by exact_match, 400 items" in said
    for card in expected:
        assert card["sentence"] in said.replace("&#x27;", "'")
    assert said.count("p, Holm") == 1 + 2 * len(expected)  # the table's head and cells, and the cards
    turned = open_page("evaluations", ids=",".join([*others, base]), against=others[2], together="params.method")
    assert "Configurations by exact_match" in text(turned)
    alone = open_page("evaluations", ids=base)
    assert "Tick two or more of one suite" in text(alone)


def test_how_a_metric_of_the_whole_set_is_tested_can_be_chosen(record: Seed, api: Client) -> None:
    base, other = (record.evaluations[name, record.intents] for name in ("base", "full"))
    asked = {"ids": f"{other},{base}", "against": base}
    app = open_page("evaluations", **asked, score="mcc")
    test = next(box for box in app.selectbox if box.label == "Test")
    said = text(test.set_value("randomisation").run())
    card = api.compare(base, other, metric="mcc", test="randomisation")
    assert "randomisation" in card["test"]
    assert card["test"].replace("-", " ") in said
    assert app.query_params["test"] == "randomisation"

    def offered(app: AppTest) -> bool:
        return "Test" in [box.label for box in app.selectbox]

    assert not offered(open_page("evaluations", **asked, score="accuracy"))
    items = [{"id": str(n), "input": "?", "references": ["the blue sky"]} for n in range(6)]
    suite = api.create_suite(name="dashboard-tests-f1", task_type="generation", items=items, metrics=["token_f1"])
    told = [[("blue sky", "sky", "the blue sky")[(n * k) % 3] for n in range(6)] for k in (1, 2)]
    ids = [
        api.create_evaluation(
            suite_id=suite["id"], predictions=[{"id": str(n), "output": one} for n, one in enumerate(outputs)]
        )["id"]
        for outputs in told
    ]
    # Its interval is resampled too, but items have one test.
    assert not offered(open_page("evaluations", ids=",".join(ids), against=ids[0]))


def test_evaluations_of_different_suites_are_refused_with_words(record: Seed) -> None:
    ids = [record.evaluations["full", suite] for suite in (record.intents, record.general)]
    assert "only answers to the same items" in open_page("evaluations", ids=",".join(ids)).warning[0].value


@pytest.fixture(scope="module")
def seeds_judged(record: Seed, live_service: str) -> list[str]:
    """The sweep's runs on a small suite: the rate in the middle is right most often."""
    with Client(live_service) as client:
        items = [{"id": str(n), "input": f"ticket {n}", "label": "yes"} for n in range(60)]
        suite = client.create_suite(
            name="dashboard-tests-seeds", task_type="classification", items=items, metrics=["accuracy"]
        )
        made = []
        for place, run_id in enumerate(record.sweep):
            wrong = (24, 2, 12)[place // 6] + place % 3
            answers = [{"id": str(n), "output": "no" if n < wrong else "yes"} for n in range(60)]
            made.append(client.create_evaluation(suite_id=suite["id"], run_id=run_id, predictions=answers)["id"])
    return made


def test_configurations_are_judged_by_their_seeds(record: Seed, seeds_judged: list[str], api: Client) -> None:
    app = open_page("evaluations", ids=",".join(seeds_judged), together="seed")
    said = text(app)
    found = api.compare_configurations(seeds_judged[:3], seeds_judged[6:9])
    assert found["verdict"] == "better"
    assert found["sentence"] in said
    assert said.count('class="ts-verdict') == 5
    by_rate = text(open_page("evaluations", ids=",".join(seeds_judged), together="params.learning_rate"))
    assert by_rate.count('class="ts-verdict') == 2
    compared = text(open_page("compare", ids=",".join(record.sweep), by="seed"))
    assert found["sentence"] in compared
    each = text(open_page("compare", ids=",".join(record.sweep)))
    assert "17 comparisons; the verdict goes by p after Holm" in each
    assert 'class="ts-verdict' not in each


def test_a_calibration_curve_where_the_model_said_how_sure_it_was(record: Seed, api: Client) -> None:
    evaluation = record.evaluations["lora-r64", record.intents]
    app = open_page("evaluations", id=evaluation, tab="Calibration")
    found = api.calibration(evaluation)
    assert f"{found['ece']:.3g} [" in text(app)
    assert "420 of 420" in text(app)
    assert len(app.get("plotly_chart")) == 1
    without = text(open_page("evaluations", id=record.evaluations["full", record.intents], tab="Calibration"))
    assert "The predictions carry no probability" in without


def test_the_items_of_an_evaluation_go_on_from_page_to_page(record: Seed) -> None:
    app = open_page("evaluations", id=record.evaluations["lora-r64", record.intents])
    assert "intent-lost_card-0<" in text(app)
    next(button for button in app.button if button.label == "Next").click().run()
    assert "intent-lost_card-0<" not in text(app)
    assert "intent-lost_card-5<" in text(app)
    app.segmented_control(key="show").set_value("wrong").run()
    assert not app.exception
    assert "cursor" not in app.query_params  # of other items there is no page to be on
    assert "No item is like that" not in text(app)


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
    app.segmented_control(key="verdict").set_value("PASS").run()
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


def test_an_audit_shows_floor_drift_conditions_and_events(record: Seed) -> None:
    app = open_page("forgetting", id=record.audits["full"])
    said = text(app)
    for part in (
        "Noise floor: the base run twice",
        "Drift on general text",
        "[0.371, 0.455]",
        "Forgetting events",
        "Of these never forgotten",
        f"tunescope audit verify {record.audits['full']}",
        "While it trained",
    ):
        assert part in said, part
    assert any("were made: what is recorded agrees" in one.label for one in app.expander)
    assert said.index("ts-verdict") < said.index("Waivers") < said.index("Protected tasks") < said.index("Lost: ")


def test_a_waiver_is_written_on_the_page_and_taken_back(record: Seed, api: Client) -> None:
    audit = record.audits["full"]
    app = open_page("forgetting", id=audit)
    assert "Ada Lovelace" not in text(app)
    app.button(key="waive-do").click().run()
    assert [error.value for error in app.error] == ["Say who and why."]
    app.text_input[0].set_value("Grace Hopper")
    app.text_area[0].set_value("A demonstration only.")
    app.button(key="waive-do").click().run()
    waiver = api.list_waivers(audit)["items"][0]
    assert (waiver["who"], waiver["state"], waiver["suite"]) == ("Grace Hopper", "valid", None)
    assert 29 < (waiver["until"] - time.time()) / 86_400 < 32
    clear()
    app = open_page("forgetting", id=audit)
    assert "A demonstration only." in text(app)
    assert "fail" in text(app)[text(app).index("ts-verdict") :]
    app.text_input[0].set_value("Grace Hopper")
    app.text_area[0].set_value("It is over.")
    app.button(key="revoke-do").click().run()
    assert {one["state"] for one in api.list_waivers(audit)["items"]} == {"revoked"}


def test_waived_audits_say_so_in_the_list(record: Seed) -> None:
    table = open_page("forgetting").dataframe[0].value
    waived = dict(zip(table["Audit"], table["Waived"], strict=True))
    assert waived["lora-r64"].startswith("until 20")
    assert not isinstance(waived["lora-r16"], str)


def test_stages_are_a_matrix_with_every_convention(record: Seed) -> None:
    keys = {name: f"version:{record.versions[name]}" for name in ("base", "lora-r16", "lora-r64")}
    app = AppTest.from_file(str(APP), default_timeout=60)
    app.query_params["part"] = "Stages"
    app.run()
    app.switch_page("views/forgetting.py")
    app.query_params["part"] = "Stages"
    app.query_params["base"] = keys["base"]
    app.query_params["stages"] = [keys["lora-r16"], keys["lora-r64"]]
    app.query_params["suites"] = [record.intents, record.general]
    app.run()
    assert not app.exception, [error.message for error in app.exception]
    said = text(app)
    for part in ("BWT_gem_paper", "Chaudhry et al. 2018", "needs a model trained on all tasks at once", "DR_REM"):
        assert part in said, part
    (heat,) = app.get("plotly_chart")
    assert "lora-r64" in heat.proto.spec
    app.multiselect[0].set_value([keys["lora-r64"]]).run()
    assert "say which suite each stage was trained for" in app.info[0].value


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


def test_columns_of_runs_are_chosen_notes_too(record: Seed) -> None:
    table = open_page("runs", project=record.project).dataframe[0].value
    assert "Intent classifier for the support bot." in set(table["Notes"])
    assert "Project" not in table
    assert "Curve" in table
    app = open_page("runs", project=record.project, about="Took", curve="none", order="name asc")
    table = app.dataframe[0].value
    assert {"Took"} < set(table.columns)
    assert not {"Status", "Notes", "Tags", "Curve"} & set(table.columns)
    assert list(table["Run"]) == sorted(table["Run"])


def test_every_pair_of_runs_is_judged(record: Seed, api: Client) -> None:
    ids = [record.runs[name] for name in ("lora-r16", "lora-r64", "full")]
    app = open_page("compare", ids=",".join(ids), pairs="true", quality=record.general, cost="Peak memory")
    said = text(app)
    assert f"Every pair on {record.general} by exact_match" in said
    assert "than lora-r64" in said
    one, other = (record.evaluations[name, record.general] for name in ("full", "lora-r64"))
    change = api.compare(other, one)["difference"]
    assert f"−{abs(100 * change):.1f}" in said
    assert f"exact_match on {record.general} against peak memory" in said
    assert len(app.get("plotly_chart")) == 1
    chosen = open_page("compare", ids=",".join(ids))
    assert "Every pair on" not in text(chosen)


def test_versions_of_a_model_show_what_stands_behind_them(record: Seed) -> None:
    models = open_page("models").dataframe[0].value
    row = models[models["Model"] == record.model].iloc[0]
    assert list(row["Aliases"]) == ["base v1", "candidate v3", "champion v2"]
    versions = open_page("models", name=record.model).dataframe[0].value.set_index("Version")
    assert versions.loc["v3", "Made by"] == "lora-r64"
    assert list(versions.loc["v3", "Audit"]) == ["FAIL"]
    assert any(score.startswith(f"{record.intents} 95.") for score in versions.loc["v3", "Scores"])


def test_items_are_found_by_tag(record: Seed) -> None:
    app = open_page("evaluations", id=record.evaluations["lora-r64", record.intents], tag="long")
    said = text(app)
    assert "(case 0)" in said
    assert "(case 1)" not in said


def test_a_run_that_is_on_can_be_held_still(record: Seed, api: Client) -> None:
    run = api.create_run(project="held-still", name="moving", config={})
    assert [toggle.label for toggle in open_page("run", id=run["id"]).toggle] == ["Live"]
    assert open_page("run", id=run["id"], live="false").toggle[0].value is False
    api.update_run(run["id"], status="finished")
    clear()
    assert "Live" not in {toggle.label for toggle in open_page("run", id=run["id"]).toggle}


def test_a_filter_leaves_the_charts_that_are_called_so(record: Seed) -> None:
    app = open_page("run", id=record.runs["lora-r64"], metric="grad")
    assert len(app.get("plotly_chart")) == 1
    assert "No metric is called that" in text(open_page("run", id=record.runs["lora-r64"], metric="nothing"))


PAGES = ["home", "runs", "run", "compare", "sweeps", "evaluations", "forgetting", "experiments", "models"]


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


def test_runs_are_deleted_and_come_back_from_the_bin(api: Client) -> None:
    run = api.create_run(project="bin-page", name="thrown away")
    api.delete_run(run["id"])
    page = open_page("runs", view="bin", project="bin-page")
    assert "kept for 30 days" in text(page)
    assert list(page.dataframe[0].value["Run"]) == ["thrown away"]
    api.restore_run(run["id"])
    clear()
    assert "The bin is empty" in text(open_page("runs", view="bin", project="bin-page"))
    api.delete_project("bin-page")
    clear()
    page = open_page("runs", view="bin", project="bin-page")
    assert "Project **bin-page**, 1 run" in text(page)
    page.button(key="restore-bin-page").click().run()
    assert [one["id"] for one in api.list_runs(project="bin-page")["items"]] == [run["id"]]


def test_a_review_asks_who_one_is_and_names_no_model(record: Seed, api: Client) -> None:
    judged = [record.evaluations[name, record.general] for name in ("base", "full")]
    review = api.create_review(name="tone", kind="pairwise", evaluations=judged, sample={"n": 20}, reasons=["rude"])
    assert "Who are you?" in text(open_page("review", id=review["id"]))
    app = open_page("review", id=review["id"], reviewer="ann")
    said = text(app)
    assert "Output A" in said
    assert "full" not in said
    buttons = {button.label: button for button in app.button}
    assert {"A is better", "Tie", "B is better", "Skip", "Undo", "rude"} <= set(buttons)
    assert buttons["Undo"].disabled
    buttons["Tie"].click().run()
    assert not app.exception
    assert [one["answer"] for one in api.review_judgements(review["id"])["items"]] == ["tie"]
    result = text(open_page("review", id=review["id"], tab="Result"))
    assert f"1 of {review['progress']['wanted']} judgements" in result
    assert "full" in result


def test_an_unknown_review_is_not_here(record: Seed) -> None:
    assert "There is no review &#x27;nope&#x27;" in text(open_page("review", id="nope"))


def test_versions_of_artifacts_on_a_run(api: Client, service: str) -> None:
    """What it made, with who used it; what it used, with who made it."""
    made, used = (api.create_run(project="versions", name=name)["id"] for name in ("maker", "user"))
    api.upload_artifact(made, "model/weights", b"12")
    files = [{"path": "weights", "artifact": "model/weights"}]
    version = api.log_artifact_version(made, name="model_a", kind="model", files=files, aliases=["best"])
    api.use_artifact_version(used, version["id"])
    said = text(open_page("run", id=made, view="Artifacts"))
    assert "Made here" in said
    assert "used by user" in said
    assert "model\\_a** v1" in said
    said = text(open_page("run", id=used, view="Artifacts"))
    assert "Used here" in said
    assert "run that made it" in said
    assert "No artifact" not in said
