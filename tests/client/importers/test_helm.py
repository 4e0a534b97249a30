"""Runs of HELM: each instance right or wrong as it said, each value as it reported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.client.importers.conftest import FIXTURES, correct_of, import_results
from tunescope import Client, importers
from tunescope.importers._record import ImportedResult, ImportProblem, LeftOut

PLACE = FIXTURES / "helm"


def run_folder(name: str) -> Path:
    return PLACE / f"{name},model=simple_model1"


def content(name: str, file: str) -> Any:
    return json.loads((run_folder(name) / file).read_text())


def said(name: str, metric: str) -> dict[str, bool]:
    found = {}
    for row in content(name, "per_instance_stats.json"):
        values = {one["name"]["name"]: one.get("mean") for one in row["stats"]}
        if "perturbation" not in row and metric in values:
            found[row["instance_id"]] = values[metric] == 1
    return found


def read(place: Path, left_out: LeftOut | None = None) -> list[ImportedResult]:
    found = importers.find("helm")(str(place), left_out or LeftOut()).results
    assert found is not None
    return found


def test_every_value_is_as_reported(api: Client) -> None:
    done = import_results(api, "helm", PLACE)
    assert done.stored.differing == []
    short, classified, chosen = done.stored.lines
    assert short == (
        "simple/model1 on short_answers, 8 items: exact_match 0.7500 as reported (accuracy here); quasi_exact_match "
        "0.8750 as reported (exact_match here); rouge_l 0.8750 as reported (rougeL:stemmer=yes here)"
    )
    assert "quasi_exact_match 0.8750 as reported (accuracy here)" in classified
    assert "classification_macro_f1 0.9000 as reported (f1_macro here)" in classified
    assert "classification_micro_f1 0.9333 as reported (f1_micro here)" in classified
    assert "exact_match 0.7500 as reported (accuracy here)" in chosen
    names = {name for name, _ in done.left_out}
    assert {"perturbed instances of 'short_answers'", "f1_score 0.8750 on 'short_answers'"} <= names
    assert not any("num_prompt_tokens" in name or "inference_runtime" in name for name in names)


@pytest.mark.parametrize(
    ("name", "metric"),
    [("short_answers", "exact_match"), ("simple_classification", "quasi_exact_match"), ("simple_mcqa", "exact_match")],
)
def test_instances_are_right_or_wrong_as_helm_said(api: Client, name: str, metric: str) -> None:
    import_results(api, "helm", PLACE)
    evaluation = api.list_evaluations(suite=name)["items"][0]
    assert correct_of(api, evaluation) == said(name, metric)
    assert set(said(name, metric).values()) == {True, False}


def test_what_was_asked_and_how(api: Client) -> None:
    import_results(api, "helm", PLACE)
    chosen = api.list_evaluations(suite="simple_mcqa")["items"][0]
    item = api.evaluation_items(chosen["id"], limit=1)["items"][0]
    assert (item["input"], item["label"]) == ("Is 70 even or odd?\nA. Even\nB. Odd", "A")
    assert (item["output"], item["parsed"], item["tags"]) == (" A", "A", ["test"])
    settings = chosen["settings"]
    assert (settings["harness"], settings["num_fewshot"], settings["run"]) == (
        "helm", 5, "simple_mcqa:model=simple_model1",
    )  # fmt: skip
    assert settings["generation"]["max_tokens"] == 5
    assert settings["reported"]["num_prompt_tokens"] == 385.0


def copied(name: str, file: str, change: Callable[[Any], Any]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        shutil.copytree(run_folder(name), folder / "run")
        whole = content(name, file)
        whole = change(whole) or whole
        (folder / "run" / file).write_text(json.dumps(whole))
        return folder / "run"

    return make


def without(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        shutil.copytree(run_folder("simple_mcqa"), folder / "run")
        (folder / "run" / name).unlink()
        return folder / "run"

    return make


def cut(folder: Path) -> Path:
    shutil.copytree(run_folder("simple_mcqa"), folder / "run")
    file = folder / "run" / "per_instance_stats.json"
    file.write_bytes(file.read_bytes()[:5000])
    return folder / "run"


WRONG: list[tuple[str, Callable[[Path], Path]]] = [
    ("no per_instance_stats.json of HELM in it", without("per_instance_stats.json")),
    ("no scenario_state.json beside", without("scenario_state.json")),
    ("no run_spec.json beside", without("run_spec.json")),
    ("per_instance_stats.json: not JSON .*cut off", cut),
    (
        "'id60' is in scenario_state.json only: these are not files of one run",
        copied("simple_mcqa", "per_instance_stats.json", lambda rows: [r for r in rows if r["instance_id"] != "id60"]),
    ),
    (
        "'id60' is in per_instance_stats.json only",
        copied("simple_mcqa", "scenario_state.json", lambda it: it["request_states"].pop(0) and None),
    ),
    (
        "not as HELM writes it .KeyError: 'instance'",
        copied("simple_mcqa", "scenario_state.json", lambda it: it["request_states"][0].pop("instance") and None),
    ),
    ("stats.json: a list of objects is expected", copied("simple_mcqa", "stats.json", lambda it: {"a": 1})),
    ("there is no such folder", lambda folder: folder / "nowhere"),
]


@pytest.mark.parametrize(("message", "make"), WRONG, ids=[message[:30] for message, _ in WRONG])
def test_wrong_input_is_named(tmp_path: Path, message: str, make: Callable[[Path], Path]) -> None:
    place = make(tmp_path)
    with pytest.raises(ImportProblem, match=message) as caught:
        read(place)
    assert str(place) in str(caught.value)


def test_a_request_for_each_reference_chooses_the_most_likely(tmp_path: Path) -> None:
    """The form of `multiple_choice_separate_*`, made of the joint one: the scripted model gives no probabilities."""

    def separate(whole: Any) -> None:
        states = []
        for state in whole["request_states"]:
            chosen = state["output_mapping"].get(state["result"]["completions"][0]["text"].strip(), "Odd")
            for index, reference in enumerate(state["instance"]["references"]):
                likely = -1.0 if reference["output"]["text"] == chosen else -2.0
                completion = {"text": "", "logprob": likely, "tokens": []}
                alone = {"reference_index": index, "request_mode": "original", "result": {"completions": [completion]}}
                states.append({**state, "output_mapping": None, **alone})
                states.append({**state, **alone, "request_mode": "calibration"})
        whole["request_states"] = states

    folder = copied("simple_mcqa", "scenario_state.json", separate)(tmp_path)
    spec = content("simple_mcqa", "run_spec.json")
    spec["adapter_spec"]["method"] = "multiple_choice_separate_calibrated"
    (folder / "run_spec.json").write_text(json.dumps(spec))
    (result,) = read(folder)
    labels = {item["id"]: item["label"] for item in result.suite["items"]}
    right = {one["id"]: one["parsed"] == labels[one["id"]] for one in result.predictions}
    assert right == said("simple_mcqa", "exact_match")
    assert {one["output"] for one in result.predictions} == {"Even", "Odd"}


def test_trials_are_evaluations_of_their_own(tmp_path: Path) -> None:
    def twice(name: str) -> Callable[[Any], Any]:
        def change(whole: Any) -> Any:
            rows = whole["request_states"] if isinstance(whole, dict) else whole
            again = [{**row, "train_trial_index": 1} for row in rows]
            return {**whole, "request_states": rows + again} if isinstance(whole, dict) else rows + again

        return change

    folder = copied("simple_mcqa", "scenario_state.json", twice("states"))(tmp_path)
    rows = twice("stats")(content("simple_mcqa", "per_instance_stats.json"))
    (folder / "per_instance_stats.json").write_text(json.dumps(rows))
    assert [result.name for result in read(folder)] == ["simple/model1 (trial 0)", "simple/model1 (trial 1)"]
