"""`tunescope data`: check a training file, split it."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from tunescope import Client, _records
from tunescope.data_commands import app

BANKING = Path("/work/shared/data/banking77")
WORDS = ["card", "loan", "pin", "rate", "branch", "limit", "transfer", "cheque", "salary", "refund", "phone", "rent"]


def data_command(url: str, *arguments: str | Path, code: int = 0) -> str:
    given = [str(argument) for argument in (*arguments, "--url", url)]
    result = CliRunner().invoke(app, given, env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert result.exit_code == code, result.output
    return result.output


def records(n: int, seed: int = 0) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    return [
        {
            "text": " ".join(chance.choices(WORDS, k=8)) + f", {place}",
            "label": "ab"[place % 2],
            "user": f"u{place // 3}",
        }
        for place in range(n)
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        path.write_text(json.dumps(rows) if path.suffix == ".json" else lines, "utf-8")
    return path


def test_check_against_a_test_file(live_service: str, api: Client, tmp_path: Path) -> None:
    train, test = records(300), records(120, seed=1)
    test[5]["text"] = train[7]["text"]
    test[6]["text"] = train[8]["text"] + "!"
    paths = write(tmp_path / "my-train.csv", train), write(tmp_path / "my-test.csv", test)
    report = tmp_path / "report.json"
    said = data_command(live_service, "check", paths[0], "--test", paths[1], "--report", report)
    assert "my-train v1: 300 items, 2 labels" in said
    assert "1 of 120 test items (0.8 %) are in the training set" in said
    assert "1 more test items (0.8 %) are nearly in it" in said
    assert "000008" in said
    found = json.loads(report.read_text())
    assert found["leakage"]["leaked"] == ["000006", "000007"]
    assert found["quality"]["n_items"] == 300
    (stored,) = api.list_datasets(name="my-train")["items"]
    assert stored["id"] == found["dataset"]["id"]
    assert stored["data_hash"] == _records.fingerprint(_records.read_records(paths[0]))
    assert api.dataset_items(stored["id"], limit=1)["items"][0]["input"] == train[0]["text"]
    # What is stored already is not stored again, and a build can fail on what is found.
    assert "my-train v1" in data_command(live_service, "check", paths[0], "--test", paths[1], "--strict", code=1)


def test_check_against_a_suite_and_as_a_page(live_service: str, api: Client, tmp_path: Path) -> None:
    train = records(150)
    train[0]["text"] = "<b>bold</b> claims " + train[0]["text"]
    items = [{"id": str(place), "input": row["text"], "label": row["label"]} for place, row in enumerate(train[:110])]
    api.create_suite(name="leaky", task_type="classification", metrics=["accuracy"], items=items)
    page = tmp_path / "page.html"
    path = write(tmp_path / "leaky-train.jsonl", train)
    said = data_command(live_service, "check", path, "--suite", "leaky", "--report", page)
    assert "110 of 110 test items (100.0 %) are in the training set" in said
    content = page.read_text("utf-8")
    assert "110 of 110 test items" in content
    assert "&lt;b&gt;bold&lt;/b&gt; claims" in content
    assert "<b>bold" not in content
    missing = data_command(live_service, "check", path, "--suite", "nowhere", code=1)
    assert "There is no suite 'nowhere'. There are: " in missing


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_lists_of_labels_are_read(live_service: str, api: Client, tmp_path: Path, ending: str) -> None:
    rows = [{"text": row["text"], "labels": [["a"], ["b", "a"], []][place % 3]} for place, row in enumerate(records(6))]
    if ending == "csv":
        rows = [{**row, "labels": json.dumps(row["labels"])} for row in rows]
    said = data_command(live_service, "check", write(tmp_path / f"{ending}.{ending}", rows))
    assert f"{ending} v1: 6 items, 2 labels" in said
    (stored,) = api.list_datasets(name=ending)["items"]
    assert [one["labels"] for one in api.dataset_items(stored["id"])["items"]] == [["a"], ["a", "b"], []] * 2


def test_names_are_printed_as_they_are(live_service: str, tmp_path: Path) -> None:
    """What looks like a printer's markup, or like an emoji, is a text."""
    rows = [{"text": f"{row['text']} [bold] [/x] :cat:", "label": "[/x] :cat:"} for row in records(120)]
    rows[1] = {"text": rows[0]["text"] + "!", "label": "[b]"}
    path = write(tmp_path / "named.jsonl", rows)
    page = tmp_path / "[b].json"
    said = data_command(live_service, "check", path, "--name", "[/x] :cat:", "--report", page)
    assert "[/x] :cat: v1: 120 items, 2 labels" in said
    for part in ("[bold] [/x] :cat:", "('[b]')", f"Written to {page}"):
        assert part in said
    assert "[b].jsonl" not in data_command(live_service, "split", path, "--out", tmp_path / "[out]")


def test_doubtful_labels_of_lists(live_service: str, tmp_path: Path) -> None:
    """A label that is written like markup is a label."""
    own = [["[/x]"], ["[/x]", "rest"], ["rest"], []]
    rows = [
        {"text": f"{place} {' and '.join(f'about {label[-2:]}' for label in own[place % 4])}", "labels": own[place % 4]}
        for place in range(200)
    ]
    rows[6]["labels"] = ["[/x]", "rest"]
    page = tmp_path / "page.html"
    said = data_command(live_service, "check", write(tmp_path / "lists.jsonl", rows), "--report", page)
    assert "have doubtful labels: a model that learns from the others would change them" in said
    assert "without [/x] (" in said
    assert "without [/x] (" in page.read_text("utf-8")


def test_a_clean_file_has_nothing_to_look_at(live_service: str, tmp_path: Path) -> None:
    path = write(tmp_path / "clean.parquet", [{"question": row["text"], "answer": row["user"]} for row in records(150)])
    assert "Nothing to look at" in data_command(live_service, "check", path, "--strict")


def test_chats_are_read(live_service: str, api: Client, tmp_path: Path) -> None:
    chat = {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}
    data_command(live_service, "check", write(tmp_path / "chats.jsonl", [chat, {**chat, "x": 1}]))
    (stored,) = api.list_datasets(name="chats")["items"]
    assert api.dataset_items(stored["id"])["items"][0] | {"tags": []} == {
        "id": "000001", "input": "2 + 2?", "label": None, "labels": None, "references": ["4"], "group": None,
        "tags": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ([{"a": "x"}], [], "which column is the text? Say --text-column; there are 'a'."),
        ([{"a": "x"}], ["--text-column", "b"], "no column 'b' (--text-column); there are 'a'."),
        ([{"text": "x"}], ["--label-column", "b"], "no column 'b' (--label-column)"),
        ([{"text": "x"}, {"text": None}], [], "row 2: column 'text' is empty."),
        ([{"text": "x"}, {"text": {"y": 1}}], [], "row 2: column 'text' is not a text."),
        ([{"messages": [{"content": "x"}]}], [], "row 1: a chat is a list of at least two messages"),
        ([{"text": "x"}], ["--report", "a.pdf"], "a report is written as .html or .json"),
        ([{"text": "x"}], ["--suite", "a", "--test", "b.csv"], "Say --test or --suite, not both"),
    ],
)
def test_what_cannot_be_checked_is_said(
    live_service: str, tmp_path: Path, rows: list[dict[str, Any]], options: list[str], words: str
) -> None:
    said = data_command(live_service, "check", write(tmp_path / "bad.jsonl", rows), *options, code=1)
    assert words in said.replace("\n", " ")


def test_a_missing_file_and_a_service_that_is_away(live_service: str, tmp_path: Path) -> None:
    assert "there is no such file" in data_command(live_service, "check", tmp_path / "none.csv", code=1)
    path = write(tmp_path / "a.csv", records(3))
    assert "Cannot reach Tunescope" in data_command("http://127.0.0.1:9", "check", path, code=1)


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".json", ".parquet"])
def test_a_split_has_every_row_once_in_the_format_of_the_file(live_service: str, tmp_path: Path, ending: str) -> None:
    rows = records(300)
    out = tmp_path / "parts"
    path = write(tmp_path / f"split-{ending[1:]}{ending}", rows)
    said = data_command(live_service, "split", path, "--out", out, "--stratify", "label", "--group", "user")
    parts = {name: _records.read_records(out / f"{name}{ending}") for name in ("train", "validation", "test")}
    assert {name: len(part) for name, part in parts.items()} == {"train": 210, "validation": 45, "test": 45}
    assert f"train{ending}  210 rows (70.0 %)" in said
    by_text = {row["text"]: row for part in parts.values() for row in part}
    assert [by_text[row["text"]] for row in rows] == rows
    users = [{row["user"] for row in part} for part in parts.values()]
    assert sum(map(len, users)) == len(set.union(*users))
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["seed"], manifest["stratify"], manifest["group"]) == (0, "label", "user")
    assert [part["data_hash"] for part in manifest["parts"]] == [_records.fingerprint(part) for part in parts.values()]
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    data_command(live_service, "split", path, "--out", out, "--stratify", "label", "--group", "user")
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def test_folds_and_what_cannot_be_split(live_service: str, tmp_path: Path) -> None:
    path = write(tmp_path / "folds.csv", records(50))
    assert data_command(live_service, "split", path, "--out", tmp_path / "f", "--kfold", "5").count("10 rows") == 5
    lonely = write(tmp_path / "lonely.csv", [*records(20), {"text": "alone", "label": "once", "user": "x"}])
    said = data_command(live_service, "split", lonely, "--out", tmp_path / "l", "--stratify", "label", code=1)
    assert "the label 'once' has 1 item, too few to be in each of 3 parts (item '000021')" in said.replace("\n", " ")
    assert not (tmp_path / "l").exists()


@pytest.mark.slow
@pytest.mark.skipif(not BANKING.exists(), reason="BANKING77 is not here")
def test_banking77(live_service: str, tmp_path: Path) -> None:
    said = data_command(live_service, "check", BANKING / "train.csv", "--test", BANKING / "test.csv", "--name", "b77")
    assert "b77 v1: 10,003 items, 77 labels" in said
    assert "7 of 3,080 test items (0.2 %) are in the training set" in said
    assert "96 more test items (3.1 %) are nearly in it" in said
    out = tmp_path / "parts"
    data_command(live_service, "split", BANKING / "train.csv", "--out", out, "--stratify", "category", "--name", "b77")
    parts = [_records.read_records(out / f"{name}.csv") for name in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [8003, 1000, 1000]
    assert [len({row["category"] for row in part}) for part in parts] == [77, 77, 77]
