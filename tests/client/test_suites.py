"""Evaluation sets from files and objects, through the client and the command, against a live service."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import tunescope
from tunescope import suite_commands, suites
from tunescope._client import evaluation

runner = CliRunner()
Json = dict[str, Any]
ROWS: list[Json] = [
    {"id": "a", "input": 'say "hi", twice', "label": "greeting", "group": "g1"},
    {"id": "b", "input": "line one\nline two", "label": "other"},
]


def csv(rows: list[Json], path: Path) -> Path:
    import csv as library

    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = library.DictWriter(file, names, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    return path


def as_json(rows: list[Json], path: Path) -> Path:
    path.write_text(json.dumps(rows))
    return path


def as_columns(rows: list[Json], path: Path) -> Path:
    names = dict.fromkeys(name for row in rows for name in row)
    path.write_text(json.dumps({name: [row.get(name) for row in rows] for name in names}))
    return path


def as_lines(rows: list[Json], path: Path) -> Path:
    path.write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    return path


def as_parquet(rows: list[Json], path: Path) -> Path:
    names = dict.fromkeys(name for row in rows for name in row)
    pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), path)
    return path


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.csv", csv),
        ("a.tsv", csv),
        ("a.json", as_json),
        ("b.json", as_columns),
        ("a.jsonl", as_lines),
        ("a.parquet", as_parquet),
    ],
)
def test_every_format_gives_the_same_items(
    tmp_path: Path, name: str, write: Callable[[list[Json], Path], Path]
) -> None:
    assert list(suites.items(write(ROWS, tmp_path / name), task_type="classification")) == ROWS


CHAT = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Capital of "}, {"type": "text", "text": "France?"}]},
        {"role": "assistant", "content": "Paris"},
    ]
}


@pytest.mark.parametrize(
    ("record", "task_type", "expected"),
    [
        (CHAT, "generation",
         {"id": "1", "input": "system: Be brief.\n\nuser: Capital of France?", "references": ["Paris"]}),
        ({"messages": [{"role": "user", "content": "Hi?"}], "label": "greeting"}, "classification",
         {"id": "1", "input": "Hi?", "label": "greeting"}),
        ({"input": "2 + 2", "output": "4"}, "generation", {"id": "1", "input": "2 + 2", "references": ["4"]}),
        ({"input": "2 + 2", "output": "4"}, "classification", {"id": "1", "input": "2 + 2", "label": "4"}),
        ({"id": 7, "input": "x", "label": 3}, "classification", {"id": "7", "input": "x", "label": "3"}),
        ({"input": "x", "reference": "y", "note": "left out"}, "generation",
         {"id": "1", "input": "x", "references": ["y"]}),
        ({"input": "x", "references": '["y", "z"]', "tags": ["t"]}, "generation",
         {"id": "1", "input": "x", "references": ["y", "z"], "tags": ["t"]}),
    ],
)  # fmt: skip
def test_what_a_record_becomes(record: Json, task_type: str, expected: Json) -> None:
    assert list(suites.items([record], task_type=task_type)) == [expected]


def test_fields_may_be_called_otherwise() -> None:
    found = suites.items([{"text": "x", "category": "y", "label": "not this"}], task_type="classification",
                         columns={"text": "input", "category": "label"})  # fmt: skip
    assert list(found) == [{"id": "1", "input": "x", "label": "y"}]
    (one,) = suites.predictions([{"id": "1", "generated": "yes", "p": "0.5"}],
                                columns={"generated": "output", "p": "probability"})  # fmt: skip
    assert one == {"id": "1", "output": "yes", "probability": 0.5}
    assert list(suites.predictions([{"id": "1"}, {"output": "a", "parsed": "b"}])) == [
        {"id": "1", "output": None},
        {"id": "2", "output": "a", "parsed": "b"},
    ]


def test_a_dataset_is_read_with_its_label_names() -> None:
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["ham", "spam"])})
    dataset = Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    found = list(suites.items(dataset, task_type="classification", columns={"text": "input"}))
    assert found == [{"id": "1", "input": "a", "label": "spam"}, {"id": "2", "input": "b", "label": "ham"}]
    with pytest.raises(suites.UnreadableFile, match="choose one of test"):
        list(suites.items(DatasetDict({"test": dataset}), task_type="classification"))


GOOD: Json = {"id": "ok", "input": "x", "label": "y"}


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"id": "bad", "text": "x"}, "row 2 (item 'bad'): there is no `input`. It has: id, text."),
        ({"id": "bad", "input": "x", "label": 0.6}, "row 2 (item 'bad'): `label` is 0.6: a number with a point"),
        ({"id": "bad", "input": "x", "label": True}, "row 2 (item 'bad'): `label` is True (bool), not text"),
        ({"id": "bad", "input": ["x"]}, "row 2 (item 'bad'): `input` is ['x'] (list), not text"),
        ({"id": "bad", "input": "x", "references": "[1"}, "row 2 (item 'bad'): `references` looks like a JSON list"),
        ({"id": "bad", "messages": []}, "row 2 (item 'bad'): `messages` is empty"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "row 2: message 1 has a part that is"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "row 2: `messages` has an answer but no question"),
        ({"messages": "x"}, "row 2: `messages` is a list"),
        ({"messages": [{"content": "x"}]}, "row 2: message 1 is not {role, content}"),
        ("x", "row 2: a record with named fields is expected, not str"),
    ],
)
def test_the_row_at_fault_is_named(record: Any, words: str) -> None:
    with pytest.raises(suites.RowError) as refused:
        list(suites.items([GOOD, record], task_type="classification"))
    assert str(refused.value).startswith(words)
    assert refused.value.row == 2


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"input": ["a", "b", "c"], "label": ["x", "y"]}, "different lengths: input 3, label 2. Row 3 is not whole."),
        ({"input": ["a", "b", "c"], "references": [["x", "y", "z"], ["u", "v", "w"]]}, "`references` is transposed"),
        ({"input": "abc", "label": ["x"]}, "'input' is str"),
    ],
)
def test_columns_that_do_not_fit(columns: Json, words: str) -> None:
    with pytest.raises(suites.UnreadableFile) as refused:
        list(suites.items(columns, task_type="generation"))
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"id,input\n1,x\n2\n", "a.csv, row 2 (line 3): 1 fields, but the first line names 2 columns"),
        ("a.csv", b"id,id\n1,x\n", "names a column twice"),
        ("a.csv", b'id,input\n1,"x\n', "unexpected end of data"),
        ("a.csv", b"id,input\n1,\xff\n", "can't decode"),
        ("a.jsonl", b'{"id": "a", "input": "x"}\n{"id"\n', "a.jsonl, line 2: not JSON"),
        ("a.json", b"[1", "not JSON"),
        ("a.json", b"3", "a list of records or a dictionary of columns"),
        ("a.parquet", b"PAR1", "not readable as Parquet"),
        ("a.xlsx", b"", "the ending says what a file is"),
        ("none.csv", None, "there is no such file"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(suites.UnreadableFile) as refused:
        list(suites.items(tmp_path / name, task_type="generation"))
    assert words in str(refused.value)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = as_parquet(ROWS, tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(suites.UnreadableFile, match="pip install pyarrow"):
        list(suites.items(path, task_type="generation"))


def test_many_rows_go_as_a_file_and_few_as_json(api: tunescope.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "MOST_IN_ONE_BODY", 50)
    body: Json = {"name": "client-many", "task_type": "classification", "metrics": ["accuracy"], "labels": ["x", "y"]}
    rows = [{"id": f"i{n}", "input": "?", "label": "xy"[n % 2]} for n in range(120)]
    suite = api.create_suite(items=(row for row in rows), parser={"regex": "é"}, **body)
    assert (suite["n_items"], suite["definition"]["parser"]) == (120, {"regex": "é"})
    monkeypatch.undo()
    assert api.create_suite(items=rows, parser={"regex": "é"}, **body) == suite
    monkeypatch.setattr(evaluation, "MOST_IN_ONE_BODY", 50)
    answers = [{"id": f"i{n}", "output": "x"} for n in range(120)]
    one = api.create_evaluation(suite_id=suite["id"], predictions=answers, settings={"shots": 5}, id="ab" * 16)
    assert (one["id"], one["scores"][0]["value"], one["settings"]) == ("ab" * 16, 0.5, {"shots": 5})
    assert api.create_evaluation(suite_id=suite["id"], predictions=answers, settings={"shots": 5}, id="ab" * 16) == one
    with pytest.raises(tunescope.TunescopeError, match="too long to go with a file"):
        api.create_suite(items=rows, **{**body, "template": "x" * 60_000})


def invoke(api: tunescope.Client, *arguments: str) -> Any:
    environment = {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1", "TUNESCOPE_URL": api.url}
    return runner.invoke(suite_commands.app, list(arguments), env=environment)


def test_from_a_file_to_a_score(api: tunescope.Client, tmp_path: Path) -> None:
    rows = [{"text": f"ticket {n}", "category": "ab"[n % 2]} for n in range(20)]
    file = csv(rows, tmp_path / "test.csv")
    made = invoke(api, "create", "cli-tickets", str(file), "--task", "classification", "--metrics",
                  "accuracy,f1_macro", "--map", "text=input,category=label", "--labels", "a,b")  # fmt: skip
    assert made.exit_code == 0, made.output
    assert "cli-tickets version 1: 20 items" in made.output
    answers = as_lines([{"id": str(n + 1), "answer": "a"} for n in range(19)], tmp_path / "answers.jsonl")
    scored = invoke(api, "evaluate", "cli-tickets", str(answers), "--map", "answer=output", "--name", "always a")
    assert scored.exit_code == 0, scored.output
    assert "always a on cli-tickets v1, 20 items: accuracy 0.500 [" in scored.output
    assert "1 items without an answer" in scored.output
    shown = invoke(api, "show", "cli-tickets", "--limit", "2").output
    assert "ticket 1" in shown
    assert "always a on cli-tickets v1" in shown
    assert "cli-tickets" in invoke(api, "list").output
    # Chat templates look like markup to a terminal's printer.
    chats = csv([{"input": "[INST] hi [/INST]", "label": "[/a]"}], tmp_path / "chats.csv")
    template = ("--template", "[INST] {input} [/INST]", "--metrics", "accuracy")
    assert invoke(api, "create", "[/chats]", str(chats), "--task", "classification", *template).exit_code == 0
    shown = invoke(api, "show", "[/chats]").output
    assert all(text in shown for text in ("[/chats] version 1", "[INST] hi [/INST]", "[INST] {input} [/INST]", "[/a]"))
    named = invoke(api, "evaluate", "[/chats]", str(answers), "--name", "[/x] :cat:", "--map", "answer=output")
    assert (named.exit_code, "no item '2'" in named.output or "'2'" in named.output) == (1, True)
    one = as_lines([{"id": "1", "output": "[/a]"}], tmp_path / "one.jsonl")
    assert "[/x] :cat: on [/chats] v1" in invoke(api, "evaluate", "[/chats]", str(one), "--name", "[/x] :cat:").output
    wrong = invoke(api, "evaluate", "cli-tickets", str(answers))
    assert wrong.exit_code == 0, "a row without an output is a missing answer"
    assert "20 items without an answer" in wrong.output
    for arguments, words in (
        (("evaluate", "nothing", str(answers)), "There is no suite 'nothing'"),
        (("create", "x", str(file), "--task", "classification", "--metrics", "accuracy"), "row 1: there is no `input`"),
        (("create", "x", str(file), "--task", "generation", "--metrics", "bleu", "--map", "text"), "column=field"),
    ):
        refused = invoke(api, *arguments)
        assert refused.exit_code == 1
        assert words in refused.output


ANSWERS: list[Json] = [
    {"id": "a", "label_scores": {"yes": 0.1, "nö": 0.9}, "nll": 0.1 + 0.2, "n_tokens": 7, "n_bytes": 30},
    {"id": "b", "predicted_labels": [], "n_samples": 4, "n_correct": 0, "output": "text"},
    {"id": "c", "predicted_labels": ["one", "two"], "label_scores": {"yes": -3.0, "nö": 1e-300}},
]


def as_csv_with_json(rows: list[Json], path: Path) -> Path:
    return csv([{k: json.dumps(v) if isinstance(v, list | dict) else v for k, v in row.items()} for row in rows], path)


@pytest.mark.parametrize(
    ("write", "name"),
    [(as_csv_with_json, "a.csv"), (as_json, "a.json"), (as_columns, "b.json"), (as_lines, "a.jsonl"),
     (as_parquet, "a.parquet")],
)  # fmt: skip
def test_what_answers_carry_is_read_from_every_format(
    tmp_path: Path, write: Callable[[list[Json], Path], Path], name: str
) -> None:
    assert list(suites.predictions(write(ANSWERS, tmp_path / name))) == [{"output": None, **row} for row in ANSWERS]


def test_scores_come_as_a_pipeline_gives_them_and_as_maps_of_parquet(tmp_path: Path) -> None:
    pipeline = [{"label": "yes", "score": 0.25}, {"label": "no", "score": 0.75}]
    assert next(suites.predictions([{"id": "a", "label_scores": pipeline}]))["label_scores"] == {
        "yes": 0.25,
        "no": 0.75,
    }
    maps = pa.table({"id": ["a"], "label_scores": pa.array([[("x", 0.5)]], pa.map_(pa.string(), pa.float64()))})
    pq.write_table(maps, tmp_path / "map.parquet")
    assert next(suites.predictions(tmp_path / "map.parquet"))["label_scores"] == {"x": 0.5}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"label_scores": "yes"}, "row 1.*`label_scores` is text and not JSON"),
        ({"label_scores": [0.1, 0.9]}, "`label_scores` is .*: {label: number} is expected"),
        ({"label_scores": {"a": "much"}}, "`label_scores` of 'a' is 'much', not a number"),
        ({"label_scores": [("a", 1), ("a", 2)]}, "`label_scores` has a label twice"),
        ({"predicted_labels": [0.5]}, "not a label or an answer"),
        ({"nll": "low"}, "`nll` is 'low', not a number"),
        ({"n_tokens": "2.5"}, "`n_tokens` is '2.5', not a whole number"),
    ],
)
def test_what_answers_cannot_carry(row: Json, words: str) -> None:
    with pytest.raises(suites.RowError, match=words):
        list(suites.predictions([{"id": "a", **row}]))


def test_sets_of_labels_of_a_dataset_are_named() -> None:
    datasets = pytest.importorskip("datasets")
    labels = datasets.List(datasets.ClassLabel(names=["joy", "fear"]))
    features = datasets.Features({"text": datasets.Value("string"), "labels": labels})
    emotions = datasets.Dataset.from_dict({"text": ["a", "b"], "labels": [[1, 0], []]}, features=features)
    found = list(suites.items(emotions, task_type="multi_label", columns={"text": "input"}))
    assert [item["labels"] for item in found] == [["fear", "joy"], []]


def test_tags_and_texts_from_files_to_scores(api: tunescope.Client, tmp_path: Path) -> None:
    tags = as_lines([{"id": "1", "input": "a", "labels": ["x", "y"]}, {"id": "2", "input": "b", "labels": []}],
                    tmp_path / "tags.jsonl")  # fmt: skip
    made = invoke(api, "create", "cli-tags", str(tags), "--task", "multi_label")
    assert made.exit_code == 0, made.output
    said = csv(
        [{"id": 1, "predicted_labels": '["x", "y"]'}, {"id": 2, "predicted_labels": "[]"}], tmp_path / "said.csv"
    )
    scored = invoke(api, "evaluate", "cli-tags", str(said), "--name", "tagger")
    assert "tagger on cli-tags v1, 2 items: multilabel_f1_micro 1.000" in scored.output, scored.output
    assert "hamming_loss 0.000" in scored.output
    assert "x, y" in invoke(api, "show", "cli-tags").output
    texts = csv([{"text": "twelve bytes"}, {"text": "four"}], tmp_path / "texts.csv")
    made = invoke(api, "create", "cli-texts", str(texts), "--task", "language_modelling", "--map", "text=input")
    assert made.exit_code == 0, made.output
    seen = csv([{"nll": 8.0, "n_tokens": 3}, {"nll": 2.0, "n_tokens": 2}], tmp_path / "seen.csv")
    scored = invoke(api, "evaluate", "cli-texts", str(seen))
    assert "perplexity 7.389" in scored.output, scored.output
    assert f"bits_per_byte {10 / 0.6931471805599453 / 16:.3f}" in scored.output
    refused = invoke(api, "evaluate", "cli-texts", str(said))
    assert refused.exit_code == 1
    assert "has no `nll`, which the metric 'perplexity' reads" in refused.output


@pytest.mark.parametrize("name", ["create", "list", "show", "evaluate"])
def test_help_has_an_example(name: str) -> None:
    assert f"Example: tunescope suites {name}" in runner.invoke(suite_commands.app, [name, "--help"]).output
