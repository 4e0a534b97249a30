from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from transformers import PreTrainedTokenizerFast

from tests.trainer.conftest import write_csv, write_jsonl
from trainer.config import DataConfig
from trainer.data import NO_LOSS, Table, draw, encode_answers, fingerprint, label_set, labels_of, read_table, split
from trainer.errors import DataError

RECORDS = [{"text": "a, b", "label": "x"}, {"text": 'say "hi"\nthere', "label": "y"}, {"text": "Grüße", "label": "x"}]


def test_every_format_gives_the_same_records(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(RECORDS), "utf-8")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(RECORDS), tmp_path / "a.parquet")
    paths = [write_csv(tmp_path / "a.csv", RECORDS), write_jsonl(tmp_path / "a.jsonl", RECORDS)]
    for path in [*paths, tmp_path / "a.json", tmp_path / "a.parquet"]:
        assert [dict(record) for record in read_table(path).records] == RECORDS, path.suffix


def test_a_byte_order_mark_is_not_part_of_the_first_column(tmp_path: Path) -> None:
    path = tmp_path / "excel.csv"
    path.write_bytes(b"\xef\xbb\xbftext,label\nhello,x\n")
    assert read_table(path).column("text", "data.text") == ["hello"]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("none.csv", None, ": there is no such file (looked in "),
        (
            "a.xlsx",
            b"",
            ": cannot tell the format from '.xlsx'; one of .csv, .jsonl, .ndjson, .json, .parquet is read.",
        ),
        ("a.csv", b"", ": the file has no rows."),
        ("a.csv", b"text,label\n", ": the file has no rows."),
        ("a.csv", b"text,label\na\n", ", row 1: has more or fewer cells than the header."),
        ("a.csv", b"text,label\na,b\nc,d,e\n", ", row 2: has more or fewer cells than the header."),
        ("a.csv", b'text,label\n"a,b\n', ", line 2: unexpected end of data."),
        ("a.csv", b"text,label\n\xff,b\n", ": byte 11 is not UTF-8; save the file as UTF-8."),
        ("a.jsonl", b'{"text": 1}\n{"text"\n', ", line 2: not JSON (Expecting ':' delimiter)."),
        ("a.jsonl", b"[1]\n", ", line 1: a record is a JSON object, in braces."),
        ("a.jsonl", b"\n\n", ": the file has no rows."),
        ("a.json", b'{"a": 1}', ": a JSON file of data is a list of objects."),
        ("a.json", b"[", ", line 1: not JSON (Expecting value)."),
        ("a.parquet", b"PAR", ": "),
    ],
)
def test_a_bad_file_is_named_with_its_row(tmp_path: Path, name: str, content: bytes | None, sentence: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_table(path)
    assert str(caught.value).startswith(f"{path}{sentence}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        ({"body": "a"}, "row 1: no column 'text' (data.text); there are 'body'."),
        ({"text": " "}, "row 1: column 'text' is empty."),
        ({"text": None}, "row 1: column 'text' is empty."),
        ({"text": ["a"]}, "row 1: column 'text' is not a text."),
    ],
)
def test_a_bad_cell_is_named(record: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        Table(Path("a.csv"), [record]).column("text", "data.text")
    assert str(caught.value) == f"a.csv, {sentence}"


def test_labels() -> None:
    table = Table(Path("train.csv"), RECORDS)
    assert label_set(table, "label") == ["x", "y"]
    with pytest.raises(DataError, match="holds one label only \\('x'\\)"):
        label_set(Table(Path("train.csv"), RECORDS[:1]), "label")
    test = Table(Path("test.csv"), [*RECORDS, {"text": "?", "label": "z"}, {"text": "?", "label": "w"}])
    with pytest.raises(DataError) as caught:
        labels_of(test, "label", ["x", "y"])
    assert str(caught.value) == "test.csv, row 4: label 'z' is not in the training data (2 such labels)."


def test_drawing_and_splitting_are_seeded_and_lose_nothing() -> None:
    table = Table(Path("a.csv"), [{"n": number} for number in range(100)])
    assert draw(table, 10, seed=1).records == draw(table, 10, seed=1).records != draw(table, 10, seed=2).records
    assert draw(table, 1000, seed=1) is table
    rest, held = split(table, 0.2, seed=1)
    assert (len(rest.records), len(held.records)) == (80, 20)
    assert sorted(record["n"] for record in [*rest.records, *held.records]) == list(range(100))
    with pytest.raises(DataError, match="leaves nothing on one side"):
        split(Table(Path("a.csv"), RECORDS), 0.1, seed=1)


def test_the_fingerprint_is_of_the_records_not_of_the_file(tmp_path: Path) -> None:
    one, other = write_csv(tmp_path / "a.csv", RECORDS), write_jsonl(tmp_path / "b.jsonl", RECORDS)
    assert fingerprint(read_table(one)) == fingerprint(read_table(other))
    assert fingerprint(read_table(one)) != fingerprint(Table(one, RECORDS[::-1]))
    halves = Table(one, RECORDS[:1]), Table(one, RECORDS[1:])
    assert fingerprint(*halves) != fingerprint(read_table(one))


def test_loss_falls_on_the_answer_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    data = DataConfig(train="-", template="Q: {input}\nA:")
    table = Table(Path("a.jsonl"), [{"prompt": "2+{2}?", "answer": "4"}, {"text": "plain"}])
    asked, whole = encode_answers(table, data, tokenizer)
    assert tokenizer.decode(asked["input_ids"]) == "Q: 2+{2}?\nA:4<eos>"
    assert isinstance(asked["labels"], list)
    assert [label for label in asked["labels"] if label != NO_LOSS] == tokenizer("4")["input_ids"] + [1]
    assert len(asked["labels"]) == len(asked["input_ids"])
    assert whole["labels"] == whole["input_ids"] == tokenizer("plain")["input_ids"] + [1]


def test_a_long_prompt_loses_its_beginning_and_a_long_answer_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    data = DataConfig(train="-", template="{input}", max_length=6)
    [example] = encode_answers(Table(Path("a"), [{"prompt": "abcdefgh", "answer": "12"}]), data, tokenizer)
    assert tokenizer.decode(example["input_ids"]) == "fgh12<eos>"
    with pytest.raises(DataError, match=r"row 1: an answer of 7 tokens, over data\.max_length"):
        encode_answers(Table(Path("a"), [{"prompt": "a", "answer": "123456"}]), data, tokenizer)
    with pytest.raises(DataError, match="no columns 'prompt' and 'answer', or 'text'; there are 'question'"):
        encode_answers(Table(Path("a"), [{"question": "a"}]), data, tokenizer)
