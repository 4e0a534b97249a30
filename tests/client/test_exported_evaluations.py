"""Evaluations out and in: suites and predictions are read back, and scored again to the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from tests.client.importers.conftest import run_import
from tests.conftest import LiveService
from tunescope import Client
from tunescope._exceptions import ConnectionFailed
from tunescope.exports import Format, export
from tunescope.importers._tables import EvaluationReader

FORMATS: tuple[Format, ...] = ("parquet", "csv", "json")


def evaluate(client: Client, run_id: str) -> list[dict[str, Any]]:
    """Three evaluations on two suites, the last by a parser and with answers of every kind."""
    items = [{"id": str(i), "input": f"q{i}", "label": "ab"[i % 2]} for i in range(40)]
    suite = client.create_suite(
        name="export", task_type="classification", items=items, metrics=["accuracy", "f1_macro"]
    )
    answers = [{"id": str(i), "output": "ab"[(i + (i % 5 == 0)) % 2]} for i in range(40)]
    about = {"suite_id": suite["id"], "run_id": run_id}
    made = [client.create_evaluation(**about, step=step, predictions=answers[step:]) for step in (7, 8)]
    odd = [
        {"id": "=1", "input": "", "label": "'a", "group": "g", "tags": ["y", "x"]},
        {"id": "2", "input": "-two\n", "label": "é", "references": ["e", "'"]},
        {"id": "3", "input": "three", "label": "é"},
    ]
    labels = {"labels": ["'a", "é"], "parser": "label", "template": "{input}?", "description": "odd"}
    named = client.create_suite(name="=odd", task_type="classification", items=odd, metrics=["accuracy"], **labels)
    said = [
        {"id": "=1", "output": "it is 'a", "probability": 0.1},
        {"id": "2", "output": None},
        {"id": "3", "output": "", "parsed": None},
    ]
    settings = {"shots": 3, "decoding": {"temperature": 0.0}}
    about = {"suite_id": named["id"], "run_id": run_id, "name": "-named", "settings": settings}
    return [*made, client.create_evaluation(**about, predictions=said)]


def judged(client: Client, run_id: str) -> list[Any]:
    """Everything of a run's evaluations but what a service gives them: ids, versions, and when they were made."""
    found = []
    for one in client.list_evaluations(run_id=run_id)["items"]:
        suite = {**client.get_suite(one["suite_id"]), "id": None, "version": None, "created_at": None}
        items = client.evaluation_items(one["id"])["items"]
        about = {**one, "suite": None} | dict.fromkeys(("id", "suite_id", "run_id", "created_at"))
        found.append((about, suite, items, client.suite_items(one["suite_id"])["items"]))
    return found


@pytest.mark.parametrize("format", FORMATS)
def test_evaluations_are_made_again(api: Client, other: LiveService, tmp_path: Path, format: Format) -> None:
    before_it = api.create_run(project="scored", name="without")["id"]
    run_id = api.create_run(project="scored", name=f"scored {format}", parent_run_id=before_it)["id"]
    made = evaluate(api, run_id)
    out = tmp_path / "out"
    done = export(api, out, format, target=run_id)
    assert (done.evaluations, done.scores) == (3, 5)
    with Client(other.url) as there:
        found = run_import(there, "tunescope", out)
        assert (found.tally.evaluations, found.left_out) == (3, {})
        assert judged(there, run_id) == judged(api, run_id)
        again = run_import(there, "tunescope", out)
        assert (again.tally.evaluations, again.tally.known_evaluations) == (0, 3)
        assert judged(there, run_id) == judged(api, run_id)
    if format == "parquet":
        rows = pq.read_table(out / "evaluations.parquet").to_pylist()
        scores = [(one, score) for one in made for score in one["scores"]]
        for row, (one, score) in zip(rows, scores, strict=True):
            assert (row["metric"], row["value"], row["n"]) == (score["name"], score["value"], score["n"])
            assert (row["low"], row["high"]) == tuple(score["interval"] or (None, None))
            assert (row["suite"], row["suite_hash"], row["step"]) == (
                *map(one["suite"].get, ("name", "hash")),
                one["step"],
            )


def test_answers_that_are_no_text_are_made_again(api: Client, other: LiveService, tmp_path: Path) -> None:
    """Every format, one after the other: the last ones find what the first brought over."""
    run_id = api.create_run(project="evidence", name="scored")["id"]
    tags = [{"id": str(i), "input": f"q{i}", "labels": [["a"], [], ["é", "a"]][i % 3]} for i in range(9)]
    kinds: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
        (
            {"name": "evidence tags", "task_type": "multi_label", "items": tags},
            [{"id": str(i), "predicted_labels": [["a"], [], ["é"]][i % 2]} for i in range(8)],
        ),
        (
            {
                "name": "evidence scores",
                "task_type": "classification",
                "items": [{"id": str(i), "input": "?", "label": "ab"[i % 2]} for i in range(9)],
                "metrics": ["log_loss", "roc_auc", "accuracy"],
            },
            [{"id": str(i), "label_scores": {"b": 1 / (i + 1), "a": 1 - 1 / (i + 1)}} for i in range(8)],
        ),
        (
            {
                "name": "evidence texts",
                "task_type": "language_modelling",
                "items": [{"id": str(i), "input": "text"} for i in range(9)],
                "metrics": ["perplexity", "bits_per_byte", "pass_at_k"],
            },
            [{"id": str(i), "nll": i / 3, "n_tokens": 2, "n_bytes": i + 1, "n_samples": 3, "n_correct": 0}
             for i in range(8)],
        ),
    ]  # fmt: skip
    for suite, answers in kinds:
        stored = api.create_suite(**suite)
        api.create_evaluation(suite_id=stored["id"], run_id=run_id, predictions=answers)
    predictions = []
    with Client(other.url) as there:
        for format in FORMATS:
            export(api, tmp_path / format, format, target=run_id)
            found = run_import(there, "tunescope", tmp_path / format)
            new = 3 if format == FORMATS[0] else 0
            assert (found.tally.evaluations, found.tally.known_evaluations) == (new, 3 - new), format
            assert found.left_out == {}
            assert judged(there, run_id) == judged(api, run_id)
            predictions.append(read_predictions(tmp_path / format, format, run_id))
    assert predictions[0] == predictions[1] == predictions[2]
    assert predictions[0][0][1] == {"id": "1", "output": None, "parsed": None, "predicted_labels": []}
    # Of before answers were more than texts.
    own = {
        "predictions": ["evaluation_id", "id", "output", "parsed", "probability"],
        "suite_items": ["suite", "suite_hash", "id", "input", "label", "references", "group", "tags"],
    }
    for name, columns in own.items():
        file = tmp_path / "parquet" / f"{name}.parquet"
        pq.write_table(pq.read_table(file).select(columns), file)
    for old in read_predictions(tmp_path / "parquet", "parquet", run_id):
        assert {*old[0]} == {"id", "output", "parsed"}


def read_predictions(folder: Path, format: Format, run_id: str) -> list[list[dict[str, Any]]]:
    reader = EvaluationReader(folder, format)
    reader.come_to(run_id)
    return [list(one.predictions()) for one in reader.of(run_id)]


def test_an_evaluation_whose_answer_was_lost_is_made_once(api: Client, other: LiveService, tmp_path: Path) -> None:
    run_id = api.create_run(project="lost evaluation")["id"]
    evaluate(api, run_id)
    export(api, tmp_path / "out", "parquet", target=run_id)

    class Flaky(Client):
        lost = 0

        def create_evaluation(self, **body: Any) -> dict[str, Any]:
            made = super().create_evaluation(**body)
            if self.lost < 2:
                self.lost += 1
                raise ConnectionFailed("the answer was lost")
            return made

    with Flaky(other.url) as there:
        run_import(there, "tunescope", tmp_path / "out")
        assert there.lost == 2
        assert judged(there, run_id) == judged(api, run_id)


def test_rows_of_a_run_that_is_refused_are_passed_over(api: Client, other: LiveService, tmp_path: Path) -> None:
    ids = [api.create_run(project="passed over", name=name)["id"] for name in "abc"]
    for run_id in (ids[0], ids[2]):
        evaluate(api, run_id)
        api.send_batch(
            run_id, msgspec.msgpack.encode({"writer": "w", "batch": 1, "console": [[1.0, "stdout", run_id]]})
        )
    export(api, tmp_path / "out", "parquet", target="passed over")
    with Client(other.url) as there:
        there.create_run(project="somewhere else", id=ids[2])  # newest first: it is the first to come
        found = run_import(there, "tunescope", tmp_path / "out")
        assert found.tally.runs == 2
        assert judged(there, ids[0]) == judged(api, ids[0])
        assert [line["text"] for line in there.console(ids[0])["items"]] == [ids[0]]


def test_an_export_from_before_there_were_predictions(api: Client, tmp_path: Path) -> None:
    run_id = api.create_run(project="scores only")["id"]
    evaluate(api, run_id)
    out = tmp_path / "out"
    export(api, out, "parquet", target=run_id)
    for name in ("suites", "suite_items", "predictions", "console"):
        (out / f"{name}.parquet").unlink()
    manifest = json.loads((out / "export.json").read_text())
    (out / "export.json").write_text(json.dumps({**manifest, "layout": 2}))
    found = run_import(None, "tunescope", out)
    assert found.left_out == {("scores of evaluations", "exports of before did not hold the predictions"): 5}
    assert found.tally.evaluations == 0
