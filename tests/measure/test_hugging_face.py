"""The metrics as `evaluate.Metric`: offline, with the values of evaluate's own documentation, and without its traps."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import pytest

from service.measure.hugging_face import CLASSES, UnknownMetricError, load
from service.measure.metrics import METRICS
from service.measure.validation import (
    EmptySetError,
    LengthMismatchError,
    MissingReferenceError,
    NotALabelError,
    NotTextError,
    TransposedReferencesError,
)

CATS = "The relationship between cats and dogs is not exactly friendly."
BOOKSHOP = "a good bookshop is just a genteel black hole that knows how to read."
BINARY = [0.5, 0.2, 0.99, 0.3, 0.1, 0.7]
MATCHING = (
    ["does this sentence match??", "what about this sentence?"],
    [["does this sentence match", "does this sentence match!?!"], ["wHaT aBoUt ThIs SeNtEnCe?"] * 2],
)
# (metric, predictions, references, value, digits) from the documentation of evaluate's metrics.
DOCUMENTED: list[tuple[str, Any, Any, float, float]] = [
    ("accuracy", [0, 1, 1, 2, 1, 0], [0, 1, 2, 0, 1, 2], 0.5, 1e-12),
    ("f1_binary", [0, 0, 1, 1, 0], [0, 1, 0, 1, 0], 0.5, 1e-12),
    ("f1_macro", [0, 2, 1, 0, 0, 1], [0, 1, 2, 0, 1, 2], 0.26666666666666666, 1e-12),
    ("f1_micro", [0, 2, 1, 0, 0, 1], [0, 1, 2, 0, 1, 2], 0.3333333333333333, 1e-12),
    ("precision_binary", [0, 0, 1, 1, 0], [0, 1, 0, 1, 0], 0.5, 1e-12),
    ("precision_macro", [0, 2, 1, 0, 0, 1], [0, 1, 2, 0, 1, 2], 0.2222222222222222, 1e-12),
    ("recall_binary", [0, 1, 0, 1, 1], [0, 0, 1, 1, 1], 0.6666666666666666, 1e-12),
    ("mcc", [1, 2, 2, 0, 3, 3], [1, 3, 2, 0, 3, 2], 0.54, 5e-3),
    ("roc_auc", [[1 - score, score] for score in BINARY], [1, 0, 1, 1, 0, 0], 0.78, 5e-3),
    (
        "roc_auc",
        [[0.3, 0.5, 0.2], [0.7, 0.2, 0.1], [0.005, 0.99, 0.005], [0.2, 0.3, 0.5], [0.1, 0.1, 0.8], [0.1, 0.7, 0.2]],
        [1, 0, 1, 2, 2, 0],
        0.85,
        5e-3,
    ),
    (
        "bleu",
        ["hello there general kenobi", "on our way to ankh morpork"],
        [["hello there general kenobi", "hello there !"], ["goodbye ankh morpork", "ankh morpork"]],
        39.8,
        0.05,
    ),
    ("chrf", [CATS, BOOKSHOP], [[CATS.replace("cats and dogs", "dogs and cats")],
                                ["A good bookshop is just a genteel Black Hole that knows how to read."]],
     84.64214891738334, 1e-9),
    ("chrf++", [CATS, BOOKSHOP], [[CATS.replace("cats and dogs", "dogs and cats")],
                                  ["A good bookshop is just a genteel Black Hole that knows how to read."]],
     82.87263732906315, 1e-9),
    ("ter:case_sensitive=yes", *MATCHING, 62.5, 1e-9),
    ("ter:normalized=yes,case_sensitive=yes", *MATCHING, 57.14285714285714, 1e-9),
    ("ter:no_punct=yes", *MATCHING, 0.0, 1e-9),
    ("rougeL", ["hello there", "general kenobi"], ["hello there", "general kenobi"], 1.0, 1e-12),
    ("exact_match", ["1976"], [["1976"]], 1.0, 1e-12),
    ("token_f1", ["New York City"], [["new york"]], 0.8, 1e-12),
    ("pass_at_k", [["passed", "failed"]], [["passed"]], 0.5, 1e-12),
    ("pass_at_k:k=2", [["passed", "failed"]], [["passed"]], 1.0, 1e-12),
]  # fmt: skip


@pytest.mark.parametrize(("name", "predictions", "references", "value", "digits"), DOCUMENTED)
def test_values_are_those_of_evaluates_documentation(
    name: str, predictions: Any, references: Any, value: float, digits: float
) -> None:
    result = load(name).compute(predictions=predictions, references=references)
    assert result == {name.partition(":")[0]: pytest.approx(value, abs=digits)}


def test_every_metric_of_the_registry_is_a_subclass() -> None:
    assert set(CLASSES) == set(METRICS)
    for name, kind in CLASSES.items():
        metric = load(name)
        assert isinstance(metric, evaluate.Metric)
        assert type(metric) is kind
        assert metric.signature == METRICS[name].signature()
        assert metric.features
        assert pickle.loads(pickle.dumps(metric)).metric is metric.metric


def test_batches_and_single_items_add_up_and_are_forgotten() -> None:
    metric = load("accuracy")
    metric.add_batch(predictions=np.array([0, 1]), references=np.array([0, 0]))
    metric.add(prediction=1, reference=1)
    metric.add(prediction=None, reference=1)
    assert len(metric) == 4
    assert metric.compute() == {"accuracy": 0.5}
    with pytest.raises(EmptySetError):
        metric.compute()


def test_it_combines_with_others() -> None:
    both = evaluate.combine([load("accuracy"), load("f1_macro")])
    result = both.compute(predictions=[0, 1, 1, 2, 1, 0], references=[0, 1, 2, 0, 1, 2])
    assert result == {"accuracy": 0.5, "f1_macro": pytest.approx(0.43333333333333335)}


def test_the_vocabulary_names_the_columns_of_scores() -> None:
    scores = [[0.1, 0.9], [0.8, 0.2]]
    metric = load("log_loss")
    one = metric.compute(predictions=scores, references=["spam", "ham"], labels=["ham", "spam"])
    other = metric.compute(predictions=scores, references=["spam", "ham"], labels=["spam", "ham"])
    assert (one["log_loss"] or 0) < 0.2 < 1.5 < (other["log_loss"] or 0)


def test_what_has_no_value_is_none() -> None:
    assert load("cohen_kappa").compute(predictions=["a"], references=["a"]) == {"cohen_kappa": None}


@pytest.mark.parametrize(
    ("name", "predictions", "references", "error"),
    [
        ("accuracy", [0.6, 1], [0, 1], NotALabelError),
        ("accuracy", np.array([0.6, 1.0]), [0, 1], NotALabelError),
        ("accuracy", ["1", "0"], [1, 0], NotALabelError),
        ("accuracy", [0, 1, 1], [0, 1], LengthMismatchError),
        ("bleu", ["a", "b", "c"], [["a"], ["b"]], LengthMismatchError),
        ("rouge1", ["a", "b"], ["a", "b", "c"], LengthMismatchError),
        ("chrf", ["a", "b", "c"], [["a", "b", "c"], ["d", "e", "f"]], TransposedReferencesError),
        ("bleu", ["a", "b"], [["a"], []], MissingReferenceError),
        ("bleu", ["a", "b"], [["a"], "b"], NotTextError),
        ("accuracy", [0, 1], None, NotTextError),
        ("bleu", "abc", ["abc"], NotTextError),
    ],
)
def test_the_traps_of_other_tools_are_refused(
    name: str, predictions: Any, references: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        load(name).compute(predictions=predictions, references=references)


def test_what_it_does_not_take_is_refused() -> None:
    with pytest.raises(UnknownMetricError, match="no metric 'blue'"):
        load("blue")
    with pytest.raises(UnknownMetricError, match="k=0"):
        load("top_k_accuracy:k=0")
    with pytest.raises(ValueError, match="num_process"):
        load("accuracy", num_process=2, process_id=0)
    with pytest.raises(ValueError, match="not sample_weight"):
        load("accuracy").compute(predictions=[1], references=[1], sample_weight=[1.0])


def test_it_works_without_a_network_and_writes_nothing(tmp_path: Path) -> None:
    code = (
        "import json, socket\n"
        "def refuse(*args, **kwargs): raise OSError('no network')\n"
        "socket.socket.connect = refuse\n"
        "from service.measure.hugging_face import load\n"
        "print(json.dumps([load('accuracy').compute(predictions=[0, 1], references=[0, 0]),\n"
        "  load('rouge1').compute(predictions=['a b'], references=['a b'])]))"
    )
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(home / "hf")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path, check=True
    )
    assert json.loads(done.stdout) == [{"accuracy": 0.5}, {"rouge1": 1.0}]
    assert [path for path in home.rglob("*") if path.is_file()] == []
