"""Suites and predictions of any size come as files of rows: the same record as from JSON, refused by row and item."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from service.store import parquet as stored
from service.store.blobs import BlobStore

from .files import ENCODE, JSON_LINES, PARQUET, json_lines, parquet, send
from .wire import Json, all_items, evaluate, get, label_items, make_suite, predictions, suite_body, text_items, value

LABELS = ["spam", "ham", "eggs"]
MAIL: Json = {"name": "mail", "task_type": "classification", "metrics": ["accuracy", "f1_macro"]}


def mail_items(n: int) -> list[Json]:
    items = label_items([LABELS[place % 3] for place in range(n)])
    for place, item in enumerate(items):
        item |= {"group": f"g{place % 4}", "tags": ["long", "rude"][: place % 3]}
    return items


def answers(n: int, every: int = 5) -> list[Json]:
    return predictions([LABELS[(place + (place % every == 0)) % 3] for place in range(n)])


@pytest.mark.parametrize("kind", [JSON_LINES, PARQUET])
def test_a_file_is_the_same_suite_and_the_same_evaluation_as_json(client: TestClient, kind: str) -> None:
    items, given = mail_items(25), [*answers(20), {"id": "i21", "output": "?"}]
    given[3] |= {"probability": 0.25}
    suite = make_suite(client, items, **MAIL)
    of_json = evaluate(client, suite, given)
    again = send(client, "suites", ENCODE[kind](items), kind, **MAIL)
    assert (again.status_code, again.json()) == (200, suite)
    random.Random(7).shuffle(given)
    of_file = send(client, "evaluations", ENCODE[kind](given), kind, suite_id=suite["id"], settings='{"k": 5}')
    assert of_file.status_code == 201, of_file.text
    body = of_file.json()
    assert body["settings"] == {"k": 5}
    for key in ("scores", "n", "n_missing", "n_unparsed", "prediction_hash"):
        assert body[key] == of_json[key], key
    assert all_items(client, f"evaluations/{body['id']}/items", limit=10) == all_items(
        client, f"evaluations/{of_json['id']}/items", limit=10
    )


def test_hashes_are_those_of_sets_stored_before_there_were_files(client: TestClient) -> None:
    """Pinned: the same content must stay the same version, and the same answers the same hash."""
    suite = make_suite(client, mail_items(4), **MAIL)
    assert suite["hash"] == SUITE_HASH
    assert evaluate(client, suite, answers(3))["prediction_hash"] == PREDICTION_HASH


SUITE_HASH = "ff94db613ab93c7830741575d27a18789fdf9c30cd8a47c0ae8374fd9112a6a6"
PREDICTION_HASH = "d8deacb03af08508650e93a379d891945b2208d3206e3a5cc7553dfaf89571a4"


def test_a_definition_travels_with_its_file(client: TestClient) -> None:
    params = {**MAIL, "primary_metric": "f1_macro", "template": "Is this «{input}» é?", "labels": LABELS}
    params |= {"description": "mail", "parser": json.dumps({"regex": "a"})}
    suite = send(client, "suites", json_lines(mail_items(3)), **params).json()
    wanted = {key: params[key] for key in ("metrics", "primary_metric", "template", "labels", "description")}
    assert suite["definition"] == {**wanted, "parser": {"regex": "a"}}
    named = send(client, "suites", json_lines(mail_items(3)), **{**params, "parser": "label"}).json()
    assert named["definition"]["parser"] == "label"


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> int:
    """Sets are taken in, scored and read in pieces of seven rows."""
    monkeypatch.setattr(stored, "ROWS", 7)
    return 7


@pytest.mark.parametrize("order", ["suite's", "another"])
def test_pieces_make_the_same_record_as_the_whole(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    """Scores, intervals, items, slices, confusion and comparison do not depend on how large a piece is."""
    items, n = mail_items(100), 100
    given, other = answers(95), answers(100, every=3)
    if order == "another":
        random.Random(1).shuffle(given)
    found = []
    for rows in (10_000, 7):
        monkeypatch.setattr(stored, "ROWS", rows)
        suite = send(client, "suites", json_lines(items), **{**MAIL, "name": f"mail {rows}"}).json()
        one, two = (
            send(client, "evaluations", json_lines(some), suite_id=suite["id"]).json() for some in (given, other)
        )
        card = get(client, "comparisons", baseline=one["id"], candidate=two["id"], metric="f1_macro")
        found.append(
            {
                "hashes": (suite["hash"], one["prediction_hash"]),
                "scores": (one["scores"], two["scores"]),
                "items": all_items(client, f"suites/{suite['id']}/items", limit=30),
                "wrong": all_items(client, f"evaluations/{one['id']}/items", limit=3, correct=False),
                "rude": all_items(client, f"evaluations/{one['id']}/items", limit=30, tag="rude", true="ham"),
                "confusion": get(client, f"evaluations/{one['id']}/confusion"),
                "slices": [
                    get(client, f"evaluations/{one['id']}/slices", by=by, metric="f1_macro")
                    for by in ("group", "tag", "label", "length")
                ],
                "verdict": [card[key] for key in ("difference", "interval", "p_value", "gained", "lost")],
                "lost": all_items(
                    client, "comparisons/items", limit=4, baseline=one["id"], candidate=two["id"], kind="lost"
                ),
            }
        )
    assert found[0] == found[1]
    assert len(found[0]["items"]) == n


def test_columns_of_text_metrics_are_scored_in_pieces(client: TestClient, small_pieces: int) -> None:
    suite = send(
        client, "suites", json_lines(text_items([[f"the cat sat on mat {place}"] for place in range(20)])),
        **{"name": "texts", "task_type": "generation", "metrics": ["bleu", "exact_match", "rougeL"]},
    ).json()  # fmt: skip
    outputs = ["the cat sat on mat 3", *["a cat sat on the mat"] * 18]
    one = send(client, "evaluations", json_lines(predictions(outputs)), suite_id=suite["id"]).json()
    whole = evaluate(client, suite, outputs)
    assert one["scores"] == whole["scores"]
    assert one["n_missing"] == 1
    assert value(one, "bleu") > 0


@pytest.mark.parametrize("kind", [JSON_LINES, PARQUET])
@pytest.mark.parametrize(
    ("rows", "code", "words", "details"),
    [
        ([*mail_items(9), {"id": "i3", "input": "?", "label": "ham"}], "suite_invalid",
         "Row 10: item 'i3' comes twice (first in row 4)", {"item": "i3", "row": 10}),
        ([*mail_items(9), {"id": "x", "input": "?"}], "suite_invalid",
         "Row 10: item 'x' has no label, which the metric '", {"item": "x", "row": 10}),
        ([*mail_items(9), {"id": "x", "input": "?", "label": "egg"}], "suite_invalid",
         "Row 10: item 'x' has the label 'egg', which is not among", {"item": "x", "row": 10}),
        ([{"id": "x", "input": None, "label": "ham"}], "row_invalid",
         "Row 1 (item 'x'): input: Input should be a valid string", {"row": 1, "item": "x", "field": "input"}),
        ([{"id": "x", "input": "?", "label": 3}], "row_invalid",
         "Row 1 (item 'x'): label: Input should be a valid string", {"row": 1, "item": "x", "field": "label"}),
        ([{"id": "x", "text": "?", "label": "ham"}], "row_invalid", "Row 1 (item 'x'): input: Field required",
         {"row": 1, "item": "x", "field": "input"}),
        ([{"id": "x", "input": "?", "label": "ham", "gold": "a"}], "row_invalid", "Row 1 (item 'x'): gold: ",
         {"row": 1, "item": "x", "field": "gold"}),
    ],
)  # fmt: skip
def test_a_row_that_is_wrong_is_named_with_its_item(
    client: TestClient, small_pieces: int, kind: str, rows: list[Json], code: str, words: str, details: Json
) -> None:
    answer = send(client, "suites", ENCODE[kind](rows), kind, **MAIL, labels=LABELS)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code), answer.text
    assert answer.json()["error"]["message"].startswith(words)
    assert answer.json()["error"]["details"] == details
    assert get(client, "suites")["items"] == []


@pytest.mark.parametrize("kind", [JSON_LINES, PARQUET])
@pytest.mark.parametrize(
    ("more", "code", "words", "details"),
    [
        ([{"id": "i3", "output": "ham"}], "prediction_invalid", "Row 10: item 'i3' is predicted twice",
         {"item": "i3", "row": 10}),
        ([{"id": "i99", "output": "ham"}], "prediction_invalid", "Row 10: item 'i99' is not in the suite 'mail'",
         {"item": "i99", "row": 10}),
        ([{"id": "i20", "output": "ham", "probability": 1.5}], "row_invalid", "Row 10 (item 'i20'): probability: ",
         {"row": 10, "item": "i20", "field": "probability"}),
    ],
)  # fmt: skip
def test_a_prediction_that_is_wrong_is_named_with_its_row(
    client: TestClient, small_pieces: int, kind: str, more: list[Json], code: str, words: str, details: Json
) -> None:
    suite = make_suite(client, mail_items(30), **MAIL)
    answer = send(client, "evaluations", ENCODE[kind]([*answers(9), *more]), kind, suite_id=suite["id"])
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code), answer.text
    assert answer.json()["error"]["message"].startswith(words)
    assert answer.json()["error"]["details"] == details
    assert get(client, "evaluations")["items"] == []


def test_a_label_outside_the_declared_ones_is_named(client: TestClient) -> None:
    suite = make_suite(client, mail_items(9), **MAIL, labels=LABELS)
    rows = [*answers(3), {"id": "i5", "output": "Ham!", "parsed": "Ham"}]
    answer = send(client, "evaluations", json_lines(rows), suite_id=suite["id"])
    words = "Row 4: item 'i5' is predicted 'Ham', which is not among the suite's labels."
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, words)


def test_a_text_that_a_metric_cannot_read_is_named_with_its_row(client: TestClient, small_pieces: int) -> None:
    items = [*text_items([["Kyoto"]] * 8), {"id": "tokyo", "input": "?", "references": ["Tokyo", "東京"]}]
    params: Json = {"name": "cities", "task_type": "generation", "metrics": ["rouge1"]}
    answer = send(client, "suites", json_lines(items), **params)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "cannot_score")
    assert error["message"].startswith("Row 9: The metric 'rouge1' cannot score item 'tokyo': ROUGE reads ASCII")
    assert "a reference of item 'tokyo'" in error["message"]
    assert error["message"].endswith("Use chrf for this script.")
    assert error["details"] == {"item": "tokyo", "row": 9, "reason": "unreadable_text"}
    assert send(client, "suites", json_lines(items), **{**params, "metrics": ["chrf"]}).status_code == 201


@pytest.mark.parametrize("way", ["json", "file"])
def test_transposed_references_are_refused(client: TestClient, way: str) -> None:
    """Three sets of references for 200 items, given as three items of 200 references."""
    items = text_items([[f"answer {place}" for place in range(200)] for _ in range(3)])
    if way == "json":
        answer = client.post("/api/v1/suites", json=suite_body(items))
    else:
        answer = send(client, "suites", json_lines(items), name="t", task_type="generation", metrics=["exact_match"])
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "references_transposed")
    assert "Each of the 3 items has 200 references" in error["message"]


@pytest.mark.parametrize(
    ("content", "kind", "code", "words"),
    [
        (b"", JSON_LINES, "suite_invalid", "The suite is empty"),
        (b"\n \n", JSON_LINES, "suite_invalid", "The suite is empty"),
        (parquet([]), PARQUET, "suite_invalid", "The suite is empty"),
        (b'{"id": "a", "input": "?", "label": "x"}\n{"id": ', JSON_LINES, "file_unreadable", "Row 2 is not JSON"),
        (b"[1]\n", JSON_LINES, "row_invalid", "Row 1: the row: Input should be a valid dictionary"),
        (b"a,b\n1,2\n", PARQUET, "file_unreadable", "The file cannot be read as Parquet from row 1 on"),
        (parquet(mail_items(50))[:-20], PARQUET, "file_unreadable", "The file cannot be read as Parquet"),
        (b"a,b\n", "text/csv", "unknown_file_type", "'text/csv' is no type of file"),
        (b'{"id": "a", "input": "\\ud800", "label": "x"}', JSON_LINES, "file_unreadable", "Row 1 is not JSON"),
        (b'{"id": "a", "input": "\xff", "label": "x"}', JSON_LINES, "file_unreadable", "Row 1 is not JSON"),
    ],
)
def test_files_that_cannot_be_read(client: TestClient, content: bytes, kind: str, code: str, words: str) -> None:
    answer = send(client, "suites", content, kind, **MAIL)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code), answer.text
    assert answer.json()["error"]["message"].startswith(words)
    assert get(client, "suites")["items"] == []


def test_a_damaged_page_is_a_damaged_file(client: TestClient) -> None:
    whole = bytearray(parquet([{"id": f"i{place}", "input": "x" * 50, "label": "ham"} for place in range(5000)]))
    whole[2000:4000] = bytes(2000)
    answer = send(client, "suites", bytes(whole), PARQUET, **MAIL)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "file_unreadable"), answer.text


def test_blank_lines_do_not_shift_the_numbers(client: TestClient) -> None:
    content = b'{"id": "a", "input": "?", "label": "x"}\n\n{"id": "b", "input": 1, "label": "x"}\n'
    answer = send(client, "suites", content, **MAIL)
    assert answer.json()["error"]["details"]["row"] == 3


def test_other_parquet_types_of_text_are_text(client: TestClient) -> None:
    table = pa.table(
        {
            "id": pa.array([f"i{place}" for place in range(6)], pa.large_string()),
            "input": pa.array(["a"] * 6).dictionary_encode(),
            "label": pa.array(["spam", "ham"] * 3).dictionary_encode(),
            "tags": pa.array([["x"]] * 6, pa.large_list(pa.string())),
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=2)
    suite = send(client, "suites", buffer.getvalue(), PARQUET, **MAIL).json()
    assert suite["n_items"] == 6
    assert get(client, f"suites/{suite['id']}/items")["items"][1]["label"] == "ham"


def test_a_file_over_the_limit(client: TestClient) -> None:
    client.app.state.settings.max_evaluation_file_bytes = 100  # type: ignore[attr-defined]
    answer = send(client, "suites", json_lines(mail_items(9)), **MAIL)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    assert "TUNESCOPE_MAX_EVALUATION_FILE_BYTES" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("params", "where"),
    [
        ({"parser": '{"regex": '}, "query.parser"),
        ({"parser": "guess"}, "query.parser"),
        ({"task_type": "telepathy"}, "query.task_type"),
        ({"items": "x"}, "query.items"),
    ],
)
def test_a_definition_that_is_wrong(client: TestClient, params: Json, where: str) -> None:
    answer = send(client, "suites", json_lines(mail_items(3)), **{**MAIL, **params})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request"), answer.text
    assert where in answer.text


def test_an_evaluation_sent_again_is_the_one_that_is_stored(client: TestClient) -> None:
    suite = make_suite(client, mail_items(9), **MAIL)
    params = {"suite_id": suite["id"], "id": "0" * 31 + "a"}
    first = send(client, "evaluations", json_lines(answers(9)), **params)
    again = send(client, "evaluations", json_lines(answers(9)), **params)
    by_json = client.post("/api/v1/evaluations", json={**params, "predictions": answers(9)})
    assert (first.status_code, again.status_code, by_json.status_code) == (201, 200, 200)
    assert again.json() == by_json.json() == first.json()
    other = send(client, "evaluations", json_lines(answers(8)), **params)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "evaluation_exists")
    assert len(get(client, "evaluations")["items"]) == 1


def test_too_many_slices_and_classes_are_said(client: TestClient) -> None:
    items = [{"id": f"i{n}", "input": "?", "label": f"l{n}", "group": f"g{n}"} for n in range(2100)]
    suite = send(client, "suites", json_lines(items), **MAIL).json()
    evaluation = evaluate(client, suite, ["l1"] * 2100)
    for path, code in (("slices?by=group", "too_many_slices"), ("confusion", "too_many_labels")):
        answer = client.get(f"/api/v1/evaluations/{evaluation['id']}/{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


def test_rows_are_taken_from_any_place(tmp_path: Path) -> None:
    blobs = BlobStore(str(tmp_path))
    table = pa.table({"x": np.arange(100), "y": [str(n) for n in range(100)]})
    with stored.Writer(blobs, table.schema) as writer:
        for start in range(0, 100, 9):
            writer.write(table.slice(start, 9))
        sha256 = writer.store()
    rows = np.array([99, 0, 50, 50, 8, 9])
    with stored.stored(blobs, sha256) as reader:
        assert len(reader) == 100
        assert reader.take(rows, ["y", "x"]).to_pylist() == table.select(["y", "x"]).take(rows).to_pylist()
        assert reader.take(rows[:0]).schema.names == ["x", "y"]
        assert pa.concat_tables(reader.pieces(["x"])).equals(table.select(["x"]))


def _write_and_fail(blobs: BlobStore) -> None:
    table: Any = pa.table({"x": [1]})
    with stored.Writer(blobs, table.schema) as writer:
        writer.write(table)
        raise ZeroDivisionError


def test_a_table_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        _write_and_fail(BlobStore(str(tmp_path / "blobs"), tmp_path / "scratch"))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
