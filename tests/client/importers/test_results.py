"""Results of any harness on their way in: each stored once, linked, compared with what was reported; the command."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tests.client.importers.conftest import FIXTURES, import_results
from tunescope import ApiError, Client, ConnectionFailed, importers
from tunescope.importers._record import ImportedResult, ImportProblem, LeftOut, Reported
from tunescope.importers._result_sink import Results, evaluation_id
from tunescope.importers._results import judged, listed_choices, verdict, without_secrets
from tunescope.transfer import import_runs

BASE = FIXTURES / "lm_eval" / "tiny__base"
LETTERS = FIXTURES / "inspect" / "letters.eval"
command = typer.Typer()
command.command("import")(import_runs)


def invoke(url: str, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(command, [*arguments, "--url", url])
    return done.exit_code, done.output


def a_result(suite: str, **fields: Any) -> ImportedResult:
    made = ImportedResult(
        model="m",
        name="m",
        suite={
            "name": suite,
            "task_type": "generation",
            "metrics": ["accuracy"],
            "items": [{"id": str(n), "input": f"{n}?", "label": "yes"} for n in range(4)],
        },
        predictions=[{"id": str(n), "output": "yes", "parsed": "yes" if n else "no"} for n in range(4)],
        settings={"harness": "test"},
        reported=[Reported("right", 0.75, "accuracy")],
        group=("g",),
    )
    return replace(made, **fields)


def write(client: Client | None, *results: ImportedResult, **links: str) -> tuple[Results, LeftOut]:
    left_out = LeftOut()
    sink = Results(client, left_out, **links)
    sink.write_all(results, lambda name, done: None)
    return sink, left_out


def everything(client: Client) -> tuple[int, int]:
    """How many evaluations and suites there are."""
    evaluations = client.list_evaluations(limit=1000)["items"]
    return len(evaluations), len(client.list_suites(limit=1000)["items"])


def test_twice_stores_nothing_twice(live_service: str, api: Client) -> None:
    code, output = invoke(live_service, "lm-eval", str(BASE))
    assert code == 0, output
    before = everything(api)
    code, output = invoke(live_service, "lm-eval", str(BASE))
    assert code == 0
    assert "0 evaluations of 6 tasks imported (8 more were there already)" in output
    assert "acc 0.4000 as reported" in output
    assert everything(api) == before


def test_a_moved_folder_holds_the_same_results(api: Client, tmp_path: Path) -> None:
    import_results(api, "lm-eval", BASE)
    shutil.copytree(BASE, tmp_path / "moved")
    assert import_results(api, "lm-eval", tmp_path / "moved").stored.evaluations == 0


def test_wrong_input_stores_nothing(live_service: str, api: Client, tmp_path: Path) -> None:
    """The last task of the folder is cut off: the first ones are not stored either."""
    shutil.copytree(BASE, tmp_path / "cut")
    (file,) = (tmp_path / "cut").glob("samples_texts*")
    file.write_text(file.read_text()[:-100])
    (other,) = (tmp_path / "cut").glob("results_*")
    other.write_text(other.read_text().replace('"capitals"', '"towns"'))
    for name in (tmp_path / "cut").glob("samples_capitals*"):
        name.rename(name.with_name(name.name.replace("capitals", "towns")))
    before = everything(api)
    code, output = invoke(live_service, "lm-eval", str(tmp_path / "cut"))
    assert code == 1
    assert "samples_texts" in output
    assert "line 3: not JSON" in output
    assert everything(api) == before


def test_results_belong_to_a_run_and_a_model_version(live_service: str, api: Client) -> None:
    run = api.create_run(project="results of harnesses", name="tuned")
    version = api.register_model("results-model", run_id=run["id"])
    links = ["--run", run["id"], "--version", version["id"]]
    code, output = invoke(live_service, "inspect", str(LETTERS), *links)
    assert code == 0, output
    (found,) = api.list_evaluations(run_id=run["id"])["items"]
    assert (found["suite"]["name"], found["model_version_id"]) == ("letters", version["id"])
    assert "1 more were there already" in invoke(live_service, "inspect", str(LETTERS), *links)[1]
    assert len(api.list_evaluations(run_id=run["id"])["items"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", str(LETTERS), "--run", "f" * 32], "run_not_found"),
        (["inspect", str(LETTERS), "--version", "f" * 32], "not_found"),
        (["inspect", str(LETTERS), "--project", "p"], "--project is for runs"),
        (["lm-eval", str(BASE.parent), "--run", "f" * 32], "results of 2 models, but a run or model version is one"),
        (["lm_evaluation", "x"], "Nothing can be imported from 'lm_evaluation', but from: helm, inspect, lm-eval,"),
    ],
)
def test_what_does_not_fit_is_refused(live_service: str, api: Client, arguments: list[str], message: str) -> None:
    before = everything(api)
    code, output = invoke(live_service, *arguments)
    assert code == 1
    assert message in output
    assert everything(api) == before


def test_runs_take_no_link(live_service: str, tmp_path: Path) -> None:
    (tmp_path / "events.out.tfevents.1.host").touch()
    code, output = invoke(live_service, "tensorboard", str(tmp_path), "--run", "f" * 32)
    assert (code, output) == (1, "--run and --version are for evaluations, and tensorboard has runs.\n")


def test_a_dry_run_reads_and_sends_nothing(api: Client) -> None:
    before = everything(api)
    code, output = invoke("http://127.0.0.1:9", "helm", str(FIXTURES / "helm"), "--dry-run")
    assert code == 0
    assert "exact_match 0.7500 reported" in output
    assert "3 evaluations of 3 tasks would be imported" in output
    assert everything(api) == before


def test_a_difference_is_said(api: Client) -> None:
    wrong = a_result("different", reported=[Reported("right", 0.8, "accuracy"), Reported("half", 0.375, "accuracy")])
    sink, _ = write(api, wrong)
    assert sink.stored.differing == sink.stored.lines
    assert "right 0.8000 reported, but accuracy 0.7500 here" in sink.stored.lines[0]
    sink, _ = write(api, replace(wrong, reported=[Reported("half", 0.375, "accuracy", factor=2.0)]))
    assert sink.stored.differing == []


def test_what_is_refused_is_named_and_the_rest_goes_on(api: Client) -> None:
    bad = a_result("refused")
    bad.predictions.append({"id": "unknown", "output": "x"})
    sink, left_out = write(api, bad, a_result("accepted"))
    assert sink.stored.evaluations == 1
    ((name, reason),) = left_out.counts
    assert name == "'m' on 'refused'"
    assert "Item 'unknown' is not in the suite" in reason


def test_settings_that_are_too_long_are_named(api: Client) -> None:
    sink, left_out = write(api, a_result("long", settings={"harness": "test", "metadata": {"text": "x" * 50_000}}))
    assert sink.stored.evaluations == 1
    assert dict(left_out.counts) == {("setting 'metadata' of 'm'", "it is 50,011 bytes long"): 1}
    assert api.list_evaluations(suite="long")["items"][0]["settings"] == {"harness": "test"}


class CutOff(Client):
    """A connection that breaks after the `at`-th evaluation was stored, before its answer arrives."""

    left = 2

    def create_evaluation(self, **body: Any) -> dict[str, Any]:
        answer = super().create_evaluation(**body)
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        return answer


def test_cut_off_and_repeated(live_service: str, api: Client) -> None:
    results = [a_result("cut off", name=f"m{n}", group=(str(n),)) for n in range(4)]
    with CutOff(live_service) as client, pytest.raises(KeyboardInterrupt):
        write(client, *results)
    sink, _ = write(api, *results)
    assert (sink.stored.known, sink.stored.evaluations) == (2, 2)
    assert len(api.list_evaluations(suite="cut off")["items"]) == 4


def test_a_lost_answer_is_asked_for_again(live_service: str, api: Client) -> None:
    class Flaky(Client):
        lost = 0

        def create_evaluation(self, **body: Any) -> dict[str, Any]:
            answer = super().create_evaluation(**body)
            if self.lost < 2:
                self.lost += 1
                raise ConnectionFailed("the answer was lost")
            return answer

    with Flaky(live_service) as client:
        write(client, a_result("lost"))
    assert len(api.list_evaluations(suite="lost")["items"]) == 1


def test_a_wrong_key_ends_the_import(live_service: str) -> None:
    class Refused(Client):
        def create_suite(self, **body: Any) -> dict[str, Any]:
            raise ApiError(401, "not_authenticated", "No key.")

    with Refused(live_service) as client, pytest.raises(ApiError):
        write(client, a_result("never stored"))


def test_ids_follow_from_what_was_imported() -> None:
    result = a_result("ids")
    assert evaluation_id(result, {}) == evaluation_id(a_result("ids"), {})
    others = [
        evaluation_id(result, {"run_id": "a"}),
        evaluation_id(replace(result, name="n"), {}),
        evaluation_id(replace(result, settings={}), {}),
        evaluation_id(replace(result, predictions=result.predictions[1:]), {}),
        evaluation_id(a_result("other"), {}),
    ]
    assert len({evaluation_id(result, {}), *others}) == 6


def test_several_models_are_no_one_run() -> None:
    with pytest.raises(ImportProblem, match="2 models, but a run or model version is one: m, n"):
        write(None, a_result("a"), a_result("b", model="n"), run_id="f" * 32)


def test_results_of_each_harness_are_found() -> None:
    assert {"helm", "inspect", "lm-eval"} <= set(importers.kinds())


@pytest.mark.parametrize(
    ("answer", "right", "expected"),
    [("a", True, "a"), ("b", True, "a"), (None, True, "a"), ("b", False, "b"), ("a", False, None), (None, False, None)],
)
def test_judged(answer: str | None, right: bool, expected: str | None) -> None:
    assert judged("a", answer, right) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(1, True), (0.0, False), (True, True), (0.5, None), ("1", None), (None, None), ([1], None)]
)
def test_verdict(value: Any, expected: bool | None) -> None:
    assert verdict(value) is expected


def test_choices_are_listed() -> None:
    assert listed_choices("Which?\n", ["x", "y"]) == "Which?\nA. x\nB. y"
    assert listed_choices("", ["x"] * 27).splitlines()[26] == "27. x"


def test_secrets_stay_where_they_are() -> None:
    given = {"api_key": "sk-1234567890abcdef1234", "base_url": "https://a:b@host/", "max_tokens": 5, "empty": None}
    assert without_secrets({"model_args": given, "text": "pretrained=x,api_key=abcdefgh"}) == {
        "model_args": {"api_key": "***", "base_url": "https://***@host/", "max_tokens": 5},
        "text": "pretrained=x,api_key=***",
    }
