"""Real sets through the service, beside the reference libraries: GSM8K's answers, CLINC150 with what is out of scope,
E2E NLG with several references an item, two models of BANKING77."""

from __future__ import annotations

import csv
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_recall_fscore_support, roc_auc_score
from starlette.testclient import TestClient
from statsmodels.stats.contingency_tables import mcnemar

from service.app import create_app
from service.settings import Settings

from .files import PARQUET, json_lines, parquet, send
from .wire import Json, evaluate, get, make_suite, predictions, value

ROOT = Path(__file__).parents[3]
DATA = next((data for folder in ROOT.parents if (data := folder / "shared" / "data").is_dir()), ROOT / "none")
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="there is no shared/data beside the project")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """One service for all: what is stored is the same on both databases, and no concern here."""
    with TestClient(create_app(Settings(data_dir=tmp_path_factory.mktemp("data")))) as test_client:
        yield test_client


def test_gsm8k_answers_are_read_as_its_authors_read_them(client: TestClient) -> None:
    content = (DATA / "gsm8k" / "test.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in content.strip().split("\n")]
    # extract_answer of github.com/openai/grade-school-math, grade_school_math/dataset.py
    true = [re.search(r"#### (\-?[0-9\.\,]+)", row["answer"])[1].strip().replace(",", "") for row in rows]  # type: ignore[index]
    items = [
        {"id": str(place), "input": row["question"], "label": answer}
        for place, (row, answer) in enumerate(zip(rows, true, strict=True))
    ]
    outputs = [row["answer"] for row in rows]
    suite = make_suite(client, items, name="gsm8k", metrics=["accuracy"], parser="after_hashes")
    given = [{"id": str(place), "output": output} for place, output in enumerate(outputs)]
    whole = evaluate(client, suite, given)
    assert (whole["n"], whole["n_unparsed"], value(whole, "accuracy")) == (1319, 0, 1.0)
    # Every fifth without the mark, every seventh with another number, every third answer with words around it.
    for place, row in enumerate(given):
        if place % 5 == 0:
            row["output"] = row["output"].replace("####", "The answer is")
        elif place % 7 == 0:
            row["output"] += "0"
        elif place % 3 == 0:
            row["output"] = f"{row['output']}  \n\n"
    read = [re.search(r"#### (\-?[0-9\.\,]+)", row["output"]) for row in given]
    expected = [found and found[1].replace(",", "") == answer for found, answer in zip(read, true, strict=True)]
    damaged = evaluate(client, suite, given)
    assert damaged["n_unparsed"] == read.count(None) == 264
    assert value(damaged, "accuracy") == pytest.approx(sum(map(bool, expected)) / len(expected))
    numbers = make_suite(client, items, name="gsm8k numbers", metrics=["accuracy"], parser="last_number")
    assert value(evaluate(client, numbers, given[::5]), "accuracy") == pytest.approx(264 / 1319)


def test_clinc150_with_what_is_out_of_scope(client: TestClient) -> None:
    splits = json.loads((DATA / "clinc150" / "data_small.json").read_text())
    pairs = [*splits["test"], *splits["oos_test"]]
    true = [label for _, label in pairs]
    labels = sorted(set(true))
    items = [
        {"id": f"i{place}", "input": text, "label": label, "group": "out of scope" if label == "oos" else "in scope"}
        for place, (text, label) in enumerate(pairs)
    ]
    params = {"name": "clinc150", "task_type": "classification", "metrics": ["accuracy", "f1_macro", "f1_weighted"]}
    suite = send(client, "suites", parquet(items), PARQUET, **params, labels=labels).json()
    assert (suite["n_items"], len(labels)) == (5500, 151)
    generator = random.Random(4)
    keep = {"oos": 0.4}
    guess = [label if generator.random() < keep.get(label, 0.9) else generator.choice(labels) for label in true]
    given = predictions(guess)
    generator.shuffle(given)
    evaluation = send(client, "evaluations", json_lines(given), suite_id=suite["id"]).json()
    assert value(evaluation, "accuracy") == pytest.approx(accuracy_score(true, guess), abs=1e-12)
    for average in ("macro", "weighted"):
        assert value(evaluation, f"f1_{average}") == pytest.approx(f1_score(true, guess, average=average), abs=1e-12)
    slices = {one["slice"]: one for one in get(client, f"evaluations/{evaluation['id']}/slices", by="group")["items"]}
    for group, inside in (("in scope", True), ("out of scope", False)):
        rows = [place for place, label in enumerate(true) if (label != "oos") == inside]
        share = accuracy_score([true[place] for place in rows], [guess[place] for place in rows])
        assert (slices[group]["n"], slices[group]["value"]) == (len(rows), pytest.approx(share))
    confusion = get(client, f"evaluations/{evaluation['id']}/confusion")
    precision, recall, f1, support = precision_recall_fscore_support(true, guess, labels=labels)
    for place, one in enumerate(confusion["classes"]):
        assert one["label"] == labels[place]
        assert (one["precision"], one["recall"], one["f1"], one["support"]) == pytest.approx(
            (precision[place], recall[place], f1[place], support[place])
        )
    most = confusion["most_confused"][0]
    pairs_seen = list(zip(true, guess, strict=True))
    rows = [place for place, pair in enumerate(pairs_seen) if pair == (most["true"], most["predicted"])]
    assert (most["n"], most["items"]) == (len(rows), [f"i{place}" for place in rows[:5]])


def test_e2e_nlg_with_several_references_an_item(client: TestClient) -> None:
    references: dict[str, list[str]] = {}
    with (DATA / "e2e_nlg" / "testset_w_refs.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            references.setdefault(row["mr"], []).append(row["ref"])
    inputs = list(references)[:200]
    wanted = [references[one] for one in inputs]
    assert len({len(one) for one in wanted}) > 3
    # The last human answer is the output, the others are the references, where there are others.
    outputs = [one[-1] for one in wanted]
    wanted = [one[:-1] or one for one in wanted]
    items: list[Json] = [
        {"id": f"i{place}", "input": given, "references": refs}
        for place, (given, refs) in enumerate(zip(inputs, wanted, strict=True))
    ]
    metrics = ["bleu", "chrf", "rouge1", "rouge2", "rougeL"]
    params = {"name": "e2e", "task_type": "generation", "metrics": metrics}
    suite = send(client, "suites", json_lines(items), **params).json()
    evaluation = send(client, "evaluations", json_lines(predictions(outputs)[::-1]), suite_id=suite["id"]).json()
    longest = max(map(len, wanted))
    streams = [[refs[place] if place < len(refs) else None for refs in wanted] for place in range(longest)]
    assert value(evaluation, "bleu") == pytest.approx(sacrebleu.corpus_bleu(outputs, streams).score, abs=1e-9)
    assert value(evaluation, "chrf") == pytest.approx(sacrebleu.corpus_chrf(outputs, streams).score, abs=1e-9)
    scorer = RougeScorer(metrics[2:])
    best = [scorer.score_multi(refs, output) for refs, output in zip(wanted, outputs, strict=True)]
    for name in metrics[2:]:
        mean = sum(one[name].fmeasure for one in best) / len(best)
        assert value(evaluation, name) == pytest.approx(mean, abs=1e-12)


@pytest.mark.slow
def test_two_models_of_banking77_are_compared_item_by_item(client: TestClient) -> None:
    """Linear models of words and of words with pairs of words, their probabilities and their paired comparison."""
    texts, labels = {}, {}
    for part in ("train", "test"):
        with (DATA / "banking77" / f"{part}.csv").open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        texts[part], labels[part] = [row["text"] for row in rows], [row["category"] for row in rows]
    names = sorted(set(labels["train"]))
    items = [
        {"id": f"i{place}", "input": text, "label": label}
        for place, (text, label) in enumerate(zip(texts["test"], labels["test"], strict=True))
    ]
    metrics = ["accuracy", "f1_macro", "roc_auc", "log_loss"]
    suite = make_suite(client, items, name="banking77", task_type="classification", metrics=metrics)
    made, right = [], []
    for longest in (1, 2):
        words = TfidfVectorizer(ngram_range=(1, longest), sublinear_tf=True).fit(texts["train"])
        model = SGDClassifier(loss="log_loss", alpha=3e-5, random_state=0)
        model.fit(words.transform(texts["train"]), labels["train"])
        chances = model.predict_proba(words.transform(texts["test"]))
        told = [
            {"id": f"i{place}", "label_scores": dict(zip(model.classes_.tolist(), row, strict=True))}
            for place, row in enumerate(chances.tolist())
        ]
        answer = send(client, "evaluations", json_lines(told), suite_id=suite["id"], name=f"words {longest}")
        made.append(answer.json())
        best = model.classes_[chances.argmax(axis=1)]
        right.append(best == np.array(labels["test"]))
        expected = {
            "accuracy": accuracy_score(labels["test"], best),
            "f1_macro": f1_score(labels["test"], best, average="macro"),
            "roc_auc": roc_auc_score(labels["test"], chances, multi_class="ovr", labels=names),
            "log_loss": log_loss(labels["test"], chances, labels=names),
        }
        assert {one["name"]: one["value"] for one in made[-1]["scores"]} == pytest.approx(expected, rel=1e-12)
        assert all(one["interval"] is not None for one in made[-1]["scores"])
    card = get(client, "comparisons", baseline=made[0]["id"], candidate=made[1]["id"])
    gained, lost = (int(np.count_nonzero(one & ~other)) for one, other in (right[::-1], right))
    assert (card["gained"], card["lost"], card["n"]) == (gained, lost, 3080)
    assert card["p_value"] == pytest.approx(mcnemar([[0, lost], [gained, 0]], exact=True).pvalue)
    doubtful = get(client, f"suites/{suite['id']}/label-noise")
    assert (doubtful["basis"], doubtful["judged"]) == ("label_scores", 3080)
    # Of few labels both models are surer than of others of their kind: some are known to be wrong (Ying & Thomas 2022).
    assert 0 < doubtful["n_candidates"] < 500
