"""Logs of Inspect: each sample right or wrong as its scorer said, in every format."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.client.importers.conftest import FIXTURES, correct_of, import_results
from tunescope import Client, importers
from tunescope.importers._record import ImportedResult, ImportProblem, LeftOut

PLACE = FIXTURES / "inspect"


def log(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((PLACE / f"{name}.json").read_text())
    return found


def read(place: Path) -> list[ImportedResult]:
    found = importers.find("inspect")(str(place), LeftOut()).results
    assert found is not None
    return found


def of_log(client: Client, name: str) -> list[dict[str, Any]]:
    """The stored evaluations of a log, by name."""
    own, task = log(name)["eval"]["eval_id"], log(name)["eval"]["task"]
    found = client.list_evaluations(suite=task, limit=1000)["items"]
    unlinked = (one for one in found if one["settings"].get("eval_id") == own and one["run_id"] is None)
    return sorted(unlinked, key=lambda one: one["name"])


def said(name: str, scorer: str, epoch: int = 1, part: str | None = None) -> dict[str, bool]:
    found = {}
    for sample in log(name)["samples"]:
        value = (sample["scores"] or {}).get(scorer, {}).get("value")
        if sample["epoch"] == epoch:
            found[str(sample["id"])] = (value[part] if part and value else value) == "C"
    return found


def test_every_value_is_as_reported(api: Client) -> None:
    done = import_results(api, "inspect", PLACE)
    assert done.stored.differing == []
    epochs, letters, rivers, several, twice = (done.stored.lines[at] for at in (1, 2, 0, 3, 4))
    rest = "as reported (accuracy here)"
    assert letters == f"mockllm/model on letters, 3 items: choice/accuracy 0.3333 {rest}"
    assert rivers == (
        f"mockllm/model on rivers, 5 items: match/accuracy 0.7500 of 4 items {rest}; "
        "0.6000 of all 5, the others being wrong"
    )
    assert several.startswith(f"mockllm/model on rivers, 5 items: right/accuracy 0.5000 of 4 items {rest}")
    assert twice.startswith(f"mockllm/model (2 epochs) on rivers, 5 items: match/accuracy 0.2500 of 4 items {rest}")
    assert epochs == "mockllm/model (2 epochs) on rivers, 5 items: nothing reported that can be compared"
    assert done.left_out == {
        ("answers to 'rivers'", "these samples ended in an error: no output"): 6,
        ("brevity/mean 0.5625 on 'rivers'", "there is no metric here for a scorer's own numbers"): 1,
        ("f1/mean 0.6250 on 'rivers'", "there is no metric here for a scorer's own numbers"): 1,
        ("polite/mean 1.0000 on 'rivers'", "there is no metric here for a scorer's own numbers"): 1,
        (
            "graded/accuracy 0.5625 on 'rivers'",
            "1 partly right answers count half there, and nothing here",
        ): 1,
    }


def test_samples_are_right_or_wrong_as_the_scorer_said(api: Client) -> None:
    import_results(api, "inspect", PLACE)
    (letters,), (rivers,), (several,) = of_log(api, "letters"), of_log(api, "rivers"), of_log(api, "several")
    assert correct_of(api, letters) == said("letters", "choice")
    assert correct_of(api, rivers) == said("rivers", "match")
    assert correct_of(api, several) == said("several", "several", part="right")
    for epoch, one in enumerate(of_log(api, "epochs"), start=1):
        assert one["name"] == f"mockllm/model (epoch {epoch})"
        assert correct_of(api, one) == said("epochs", "graded", epoch)
    assert [one["settings"].get("partly_right") for one in of_log(api, "epochs")] == [["cairo"], None]


def test_what_was_asked_and_how(api: Client) -> None:
    import_results(api, "inspect", PLACE / "rivers.eval")
    (rivers,) = of_log(api, "rivers")
    items = {item["id"]: item for item in api.evaluation_items(rivers["id"])["items"]}
    assert list(items) == ["vienna", "cairo", "rome", "paris", "london"]
    assert items["cairo"]["input"].endswith("anything else besides it, please. Which river flows through Cairo?")
    assert (items["cairo"]["output"], items["cairo"]["parsed"]) == ("It is the Nile", "Nile")
    assert (items["rome"]["output"], items["rome"]["parsed"]) == ("The Po", "The Po")
    assert items["paris"]["output"] is None
    assert (rivers["n"], rivers["n_missing"]) == (5, 1)
    settings = rivers["settings"]
    assert settings["generation"] == {"temperature": 0.0, "max_tokens": 64}
    assert (settings["harness_version"], settings["git_hash"], settings["errors"]) == ("0.3.285", "0123abc", 1)
    assert settings["reported"]["f1/mean"] == 0.625


def test_formats_say_the_same() -> None:
    assert read(PLACE / "rivers.eval") == read(PLACE / "rivers.json") == read(PLACE / "chunked" / "rivers.eval")
    assert len(read(PLACE)) == 7


def changed(name: str, change: Callable[[dict[str, Any]], None]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        whole = log(name)
        change(whole)
        file = folder / f"{name}.json"
        file.write_text(json.dumps(whole))
        return file

    return make


def damaged(folder: Path, at: int) -> Path:
    file = folder / "rivers.eval"
    content = bytearray((PLACE / "rivers.eval").read_bytes())
    with zipfile.ZipFile(PLACE / "rivers.eval") as archive:
        place = archive.getinfo("samples/cairo_epoch_1.json").header_offset
    content[place + at] ^= 0xFF
    file.write_bytes(content)
    return file


def cut(folder: Path) -> Path:
    file = folder / "rivers.eval"
    file.write_bytes((PLACE / "rivers.eval").read_bytes()[:3000])
    return file


def unfinished(folder: Path) -> Path:
    file = folder / "half.eval"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("_journal/start.json", "{}")
    return file


WRONG: list[tuple[str, Callable[[Path], Path]]] = [
    ("log is of version 3, and 2 is read", changed("rivers", lambda it: it.update(version=3))),
    ("no log of Inspect: there is no `eval`", changed("rivers", lambda it: it.pop("eval"))),
    ("did not finish .status 'error'", changed("rivers", lambda it: it.update(status="error"))),
    ("no samples in it: .*--no-log-samples", changed("rivers", lambda it: it.pop("samples"))),
    ("4 samples, but its results are of 5", changed("rivers", lambda it: it["samples"].pop())),
    ("'cairo' comes twice", changed("rivers", lambda it: it["samples"].append(it["samples"][0]))),
    ("not as Inspect writes it .KeyError", changed("rivers", lambda it: it["samples"][0].pop("input"))),
    ("rivers.eval: no .eval archive .*cut off", cut),
    ("samples/cairo_epoch_1.json: damaged", lambda folder: damaged(folder, 80)),
    ("no header.json in it: the evaluation did not finish", unfinished),
    ("there is no such file", lambda folder: folder / "nothing.eval"),
    ("no logs of Inspect in it", lambda folder: folder),
]


@pytest.mark.parametrize(("message", "make"), WRONG, ids=[message[:30] for message, _ in WRONG])
def test_wrong_input_is_named(tmp_path: Path, message: str, make: Callable[[Path], Path]) -> None:
    place = make(tmp_path)
    with pytest.raises(ImportProblem, match=message) as caught:
        read(place)
    assert str(place) in str(caught.value)


def test_a_folder_goes_on_past_what_is_no_finished_log(tmp_path: Path) -> None:
    changed("rivers", lambda it: it.update(status="cancelled"))(tmp_path)
    shutil.copy(PLACE / "letters.eval", tmp_path)
    (tmp_path / "listing.json").write_text("{}")
    left_out = LeftOut()
    found = importers.find("inspect")(str(tmp_path), left_out).results
    assert [result.suite["name"] for result in found or []] == ["letters"]
    assert dict(left_out.counts) == {
        ("rivers.json", "the evaluation did not finish (status 'cancelled')"): 1,
        ("listing.json", "this is no log of Inspect"): 1,
    }


def test_without_verdicts_the_answers_are_scored_here(api: Client, tmp_path: Path) -> None:
    def only_numbers(whole: dict[str, Any]) -> None:
        whole["eval"]["task"] = "rivers by number"
        whole["results"]["scores"] = [one for one in whole["results"]["scores"] if one["name"] == "brevity"]

    done = import_results(api, "inspect", changed("rivers", only_numbers)(tmp_path))
    assert done.stored.lines == ["mockllm/model on rivers by number, 5 items: nothing reported that can be compared"]
    (found,) = api.list_evaluations(suite="rivers by number")["items"]
    assert {score["name"]: score["value"] for score in found["scores"]}["exact_match"] == 0.4


def test_a_scorer_reduced_in_two_ways_is_one_evaluation(tmp_path: Path) -> None:
    def reduced(whole: dict[str, Any]) -> None:
        (score,) = whole["results"]["scores"]
        best = {"accuracy": {**score["metrics"]["accuracy"], "value": 0.5}}
        whole["results"]["scores"] = [{**score, "reducer": "mean"}, {**score, "reducer": "max", "metrics": best}]

    found = read(changed("twice", reduced)(tmp_path))
    assert [result.name for result in found] == ["mockllm/model (epoch 1)", "mockllm/model (epoch 2)"]
    assert [(one.value, one.metric, one.reason) for one in found[0].reported] == [
        (0.25, "accuracy", ""),
        (0.5, None, "it is the max over epochs"),
    ]


def test_judged_without_a_target_or_a_text(api: Client, tmp_path: Path) -> None:
    """Deeds of an agent: right though nothing was to be said and nothing was."""

    def deeds(whole: dict[str, Any]) -> None:
        whole["eval"]["task"] = "deeds"
        for sample in whole["samples"]:
            sample |= {"target": "", "output": {"model": "m", "choices": [], "completion": ""}}
            sample["scores"]["choice"]["answer"] = None

    done = import_results(api, "inspect", changed("letters", deeds)(tmp_path))
    assert done.stored.lines == ["mockllm/model on deeds, 3 items: choice/accuracy 0.3333 as reported (accuracy here)"]
    assert correct_of(api, api.list_evaluations(suite="deeds")["items"][0]) == said("letters", "choice")
