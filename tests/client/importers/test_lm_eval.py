"""Results of lm-evaluation-harness: each document right or wrong as it said, each value as it reported."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.client.importers.conftest import FIXTURES, correct_of, import_results
from tunescope import Client, importers
from tunescope.importers._lm_eval_tasks import Task, question
from tunescope.importers._record import ImportProblem, LeftOut

PLACE = FIXTURES / "lm_eval"
BASE, TUNED = PLACE / "tiny__base", PLACE / "tiny__tuned"
Change = Callable[[Path], None]


def lines(folder: Path, task: str) -> list[dict[str, Any]]:
    (file,) = folder.glob(f"samples_{task}_*.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def evaluation(client: Client, suite: str, name: str) -> dict[str, Any]:
    found = [one for one in client.list_evaluations(suite=suite, limit=1000)["items"] if one["name"] == name]
    return client.get_evaluation(found[0]["id"])


def test_every_value_is_as_reported(api: Client) -> None:
    done = import_results(api, "lm-eval", BASE)
    assert done.stored.differing == []
    assert done.stored.lines == [
        "tiny/base on capitals, 10 items: acc 0.4000 as reported (accuracy here); brier_score 0.7452 as reported",
        "tiny/base (acc_norm) on capitals, 10 items: acc_norm 0.2000 as reported (accuracy here)",
        "tiny/base on german, 4 items: bleu 74.3486 as reported; chrf 85.7936 as reported; ter 33.3333 as reported",
        "tiny/base on last_word, 3 items: acc 0.0000 as reported (accuracy here)",
        "tiny/base on statements, 9 items: acc 0.4444 as reported (accuracy here); f1 0.6154 as reported "
        "(f1_binary here); mcc -0.3162 as reported",
        "tiny/base (strict-match) on sums, 6 items: exact_match 0.3333 as reported (accuracy here)",
        "tiny/base (flexible-extract) on sums, 6 items: exact_match 0.5000 as reported (accuracy here)",
        "tiny/base on texts, 3 items: bits_per_byte 1.8046 as reported",
    ]
    assert {name for name, _ in done.left_out} == {
        "acc 0.4211 of the group 'knowledge'",
        "perplexity 398.6838 on 'last_word'",
        "word_perplexity 456.0092 on 'texts'",
        "byte_perplexity 3.4933 on 'texts'",
    }


@pytest.mark.parametrize("folder", [BASE, TUNED])
@pytest.mark.parametrize(
    ("task", "metric", "named", "filtered"),
    [
        ("capitals", "acc", "", "none"),
        ("capitals", "acc_norm", " (acc_norm)", "none"),
        ("statements", "acc", "", "none"),
        ("sums", "exact_match", " (strict-match)", "strict-match"),
        ("sums", "exact_match", " (flexible-extract)", "flexible-extract"),
    ],
)
def test_documents_are_right_or_wrong_as_the_harness_said(
    api: Client, folder: Path, task: str, metric: str, named: str, filtered: str
) -> None:
    import_results(api, "lm-eval", folder)
    stored = correct_of(api, evaluation(api, task, folder.name.replace("__", "/") + named))
    said = {str(row["doc_id"]): row[metric] == 1 for row in lines(folder, task) if row["filter"] == filtered}
    assert stored == said
    assert set(said.values()) == {True, False} or task == "sums"


def test_what_was_asked_and_how(api: Client) -> None:
    import_results(api, "lm-eval", BASE)
    chosen = evaluation(api, "capitals", "tiny/base")
    item = api.evaluation_items(chosen["id"], limit=1)["items"][0]
    assert item["input"] == "The capital of France is\nA. Paris\nB. Lyon\nC. Marseille"
    assert (item["label"], item["output"], item["parsed"]) == ("A", "Paris", "A")
    settings = chosen["settings"]
    assert settings["model_args"] == {"pretrained": "tiny/base", "skill": 0.3}
    assert (settings["harness_version"], settings["git_hash"], settings["num_fewshot"]) == ("0.4.13", "0123abc", 2)
    assert settings["reported"]["acc"] == 0.4
    assert settings["groups"] == {"knowledge": {"acc": pytest.approx(8 / 19)}}
    written = evaluation(api, "sums", "tiny/base (flexible-extract)")
    assert written["settings"]["filter"] == "flexible-extract"
    assert written["settings"]["generation"] == {"until": ["\n\n"], "do_sample": False, "max_gen_toks": 32}
    item = api.evaluation_items(written["id"], limit=3)["items"][2]
    assert (item["input"], item["label"]) == ("Question: What is 600 plus 650?\nAnswer:", "1250")
    assert item["references"] == ["So it is.\n#### 1,250"]


def test_two_models_are_compared_on_the_same_version(api: Client) -> None:
    import_results(api, "lm-eval", PLACE)
    card = api.compare(evaluation(api, "capitals", "tiny/base")["id"], evaluation(api, "capitals", "tiny/tuned")["id"])
    said = [{row["doc_id"]: row["acc"] for row in lines(folder, "capitals")} for folder in (BASE, TUNED)]
    assert card["gained"] == sum(said[1][name] > said[0][name] for name in said[0])
    assert card["lost"] == sum(said[1][name] < said[0][name] for name in said[0])


def test_a_single_file_is_read(api: Client) -> None:
    (file,) = TUNED.glob("results_*.json")
    assert {result.model for result in importers.find("lm-eval")(str(file), LeftOut()).results or []} == {"tiny/tuned"}


def test_files_of_older_versions_say_the_same(tmp_path: Path) -> None:
    """0.4.0 to 0.4.4: arguments in lists, numbers as numbers, no names of filters, no hashes and counts."""

    def older(row: dict[str, Any]) -> dict[str, Any]:
        def plain(value: Any) -> Any:
            if isinstance(value, list):
                return [plain(one) for one in value]
            if value in ("True", "False"):
                return value == "True"
            return float(value) if re.fullmatch(r"-\d+\.\d+", value) else value

        kept = {name: value for name, value in row.items() if name not in ("filter", "metrics") and "hash" not in name}
        arguments = [list(one.values()) for one in row["arguments"].values()]
        changed = {"arguments": arguments, "resps": plain(row["resps"]), "filtered_resps": plain(row["filtered_resps"])}
        return {**kept, **changed}

    folder = tmp_path / "older"
    shutil.copytree(BASE, folder)
    for file in folder.glob("samples_*"):
        rows = [older(json.loads(line)) for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (file,) = folder.glob("results_*")
    whole = json.loads(file.read_text())
    file.write_text(json.dumps({name: whole[name] for name in whole if name not in ("task_hashes", "n-samples")}))
    found, expected = (importers.find("lm-eval")(str(one), LeftOut()).results for one in (folder, BASE))
    assert found == expected


def edit(folder: Path, name: str, change: Callable[[str], str]) -> None:
    (file,) = folder.glob(name)
    file.write_text(change(file.read_text()))


def copy_in(folder: Path) -> None:
    for file in TUNED.iterdir():
        shutil.copy(file, folder)


def rename(folder: Path, name: str, new: str) -> None:
    (file,) = folder.glob(name)
    file.rename(file.with_name(file.name.replace(*new.split(">"))))


def replaced(name: str, old: str, new: str) -> Change:
    return lambda folder: edit(folder, name, lambda text: text.replace(old, new, 1))


def without_filters(folder: Path) -> None:
    edit(folder, "results_*", lambda text: re.sub(r",(none|strict-match|flexible-extract)", "", text))


WRONG: list[tuple[str, Change]] = [
    (r"no samples_TASK_.*--log_samples", lambda at: [file.unlink() for file in at.glob("samples_*")] and None),
    (r"there is no samples_german_.* for its task 'german'", lambda at: next(at.glob("samples_german*")).unlink()),
    (r"samples_sums_.*\.jsonl, line 3: not JSON .*cut off", lambda at: edit(at, "samples_sums*", lambda t: t[:-6000])),
    (
        r"samples_texts.*: 2 documents \(filter 'none'\), but the results are of 3",
        lambda at: edit(at, "samples_texts*", lambda text: "".join(text.splitlines(keepends=True)[:2])),
    ),
    (
        r"samples_texts.*line 4: document 0 comes twice \(first in .*line 1\)",
        lambda at: edit(at, "samples_texts*", lambda text: text + text.splitlines()[0]),
    ),
    (r"samples_poems_.*: the task 'poems' is not in results_", lambda at: rename(at, "samples_texts*", "texts>poems")),
    (
        r"samples_capitals.*not the samples the results were computed from",
        replaced("samples_capitals*", '"doc_hash": "', '"doc_hash": "f'),
    ),
    (r"samples_german.*line 1: there is no `resps`", replaced("samples_german*", '"resps"', '"answers"')),
    (
        r"samples_german.*line 1: not as lm-evaluation-harness writes it",
        replaced("samples_german*", '"filtered_resps": [', '"filtered_resps": [], "other": ['),
    ),
    (r"has results of two models: results_.* is of 'tiny/base', results_.* of 'tiny/tuned'", copy_in),
    (r"results_.*no `configs`: this is no results file", replaced("results_*", '"configs"', '"settings"')),
    (r"no filter in their names", without_filters),
    (r"results_.*: not JSON", lambda at: edit(at, "results_*", lambda text: text[:500])),
    (r"no results_\*\.json .*There is samples_", lambda at: next(at.glob("results_*")).unlink()),
]


@pytest.mark.parametrize(("message", "change"), WRONG, ids=[message[:40] for message, _ in WRONG])
def test_wrong_input_is_named(tmp_path: Path, message: str, change: Change) -> None:
    folder = tmp_path / "results"
    shutil.copytree(BASE, folder)
    change(folder)
    with pytest.raises(ImportProblem, match=message):
        importers.find("lm-eval")(str(folder), LeftOut())


def test_no_place() -> None:
    with pytest.raises(ImportProblem, match="nowhere: there is no such file or folder"):
        importers.find("lm-eval")("nowhere", LeftOut())


def task(**config: Any) -> Task:
    few = config.pop("num_fewshot", 0)
    return Task("t", "m", config, few, bool(config.pop("template", False)), {}, {})


@pytest.mark.parametrize(
    ("config", "context", "doc", "expected"),
    [
        ({"doc_to_text": "Q: {{q}}\nA:"}, "Be short.\n\nQ: x\nA: y\n\nQ: why?\nA:", {"q": "why?"}, "Q: why?\nA:"),
        ({"doc_to_text": "q"}, "<user>why?</user>", {"q": "why?"}, "why?"),
        ({"doc_to_text": "{{q.strip()}}", "num_fewshot": 1}, "one\n\ntwo", {"q": "two "}, "two"),
        ({"doc_to_text": "{{q.strip()}}", "num_fewshot": 1, "description": "D\n\n"}, "D\n\none\n\ntwo", {}, "two"),
        # A question of two paragraphs after one example: which part is its own cannot be told.
        ({"doc_to_text": "{{q.strip()}}", "num_fewshot": 1}, "one\n\ntwo\n\nthree", {}, "one\n\ntwo\n\nthree"),
        ({"doc_to_text": "{{q.strip()}}", "template": True}, "<user>two</user>", {}, "<user>two</user>"),
        ({"doc_to_text": None}, "two", {}, "two"),
    ],
)
def test_the_question_is_told_from_its_examples(config: Any, context: str, doc: Any, expected: str) -> None:
    assert question(task(**config), context, doc) == expected
