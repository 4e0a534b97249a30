from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from tests.trainer.conftest import SUMS, TICKETS, bert, built, llama, write_jsonl
from trainer.config import DataConfig, EvaluationConfig
from trainer.errors import DataError
from trainer.material import gather
from trainer.predict import Prediction, classify, predict, share_right, write_predictions
from trainer.suite import Suite, read_suite

TEXTS = [one["text"] for one in TICKETS]


def test_classifying_in_batches_agrees_with_one_at_a_time(tokenizer: PreTrainedTokenizerFast) -> None:
    model = bert().train()
    found = classify(model, tokenizer, TEXTS * 20, 32)
    assert model.training
    assert found.shape == (20 * len(TEXTS), 3)
    assert found.sum(-1).tolist() == pytest.approx([1.0] * len(found), abs=1e-12)
    model.eval()
    for text, probabilities in zip(TEXTS, found, strict=False):
        with torch.inference_mode():
            expected = model(**tokenizer([text], return_tensors="pt")).logits[0].softmax(-1)
        assert probabilities.tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_the_probability_of_every_label_is_told(
    tickets_config: dict[str, Any], tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    [suite] = gather(built(tickets_config)).suites
    assert suite.labels is not None
    told = predict(suite, bert(), tokenizer)
    for one in told:
        assert one.label_scores is not None
        assert list(one.label_scores) == list(suite.labels)
        assert one.probability == max(one.label_scores.values()) == one.label_scores[one.output]
    monkeypatch.setattr("trainer.predict.MOST_SCORES", 3 * len(suite.items) - 1)
    few = predict(suite, bert(), tokenizer)
    assert [one.label_scores for one in few] == [None] * len(told), "too many to tell"
    assert [(one.output, one.probability) for one in few] == [(one.output, one.probability) for one in told]


def test_a_classification_suite_on_the_wire(tickets_config: dict[str, Any]) -> None:
    [suite] = gather(built(tickets_config)).suites
    body = suite.body()
    assert body["task_type"] == "classification"
    assert body["labels"] == ["delay", "lost", "repair"]
    assert body["metrics"] == [
        "accuracy", "f1_macro", "roc_auc", "average_precision", "log_loss", "brier_score", "ece"
    ]  # fmt: skip
    assert body["items"][0] == {"id": "000001", "input": "my card is late", "label": "delay"}


def test_a_generation_suite_on_the_wire(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "sums.jsonl", [{"id": f"s{n}", **one} for n, one in enumerate(SUMS)])
    evaluation = EvaluationConfig(suite="sums", path=str(path), group="kind", primary="exact_match")
    body = read_suite(evaluation, DataConfig(train="-", template="{input}"), "causal_lm", None).body()
    assert body["task_type"] == "generation"
    assert body["template"] == "{input}"
    assert body["items"][0] == {"id": "s0", "input": "0+0=", "references": ["0"], "group": "even"}


def test_ids_that_are_not_unique_are_not_used(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "sums.jsonl", [{"id": "same", **one} for one in SUMS])
    suite = read_suite(EvaluationConfig(suite="sums", path=str(path)), DataConfig(train="-"), "causal_lm", None)
    assert [item.id for item in suite.items[:2]] == ["000001", "000002"]


def test_a_label_unseen_in_training_is_refused(tickets_config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("text,label\nhello,greeting\n")
    tickets_config["data"]["test"] = "test.csv"
    with pytest.raises(DataError, match=r"test\.csv, row 1: label 'greeting' is not in the training data\.$"):
        gather(built(tickets_config))


def test_answers_are_kept_with_their_items(
    sums_config: dict[str, Any], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    [suite] = gather(built(sums_config)).suites
    predictions = predict(suite, llama(), tokenizer, max_new_tokens=3)
    assert [one.id for one in predictions] == [item.id for item in suite.items]
    write_predictions(tmp_path / "p.jsonl", suite, predictions)
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text("utf-8").splitlines()]
    assert lines[0] == {"id": "000001", "input": "0+0=", "answer": "0", "group": None, "output": predictions[0].output}


def test_the_share_answered_right(sums_config: dict[str, Any]) -> None:
    suite: Suite = gather(built(sums_config)).suites[0]
    made = [
        Prediction(id=item.id, output=item.answer if number % 4 else "?") for number, item in enumerate(suite.items)
    ]
    assert share_right(suite, made) == 0.75
