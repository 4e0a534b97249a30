"""Text metrics against sacrebleu, rouge_score and the SQuAD script's numbers."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from itertools import zip_longest
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.significance import PairedTest, estimate_ci

from service.measure.comparison import compare
from service.measure.metrics import METRICS
from service.measure.resampling import item_draws
from service.measure.validation import LengthMismatchError, MeasureError, UnreadableTextError

from .cases import Case, parametrised

PIECES = st.sampled_from(
    [
        "the ",
        "cat ",
        "cats ",
        "sat. ",
        "on ",
        "mat, ",
        "3.5 ",
        "-",
        "'s ",
        "&amp; ",
        "\n",
        "東京 ",
        "é",
        "Ü ",
        "İ",
        "😀 ",
    ]
)
TEXTS = st.lists(PIECES, max_size=18).map("".join)
READABLE = TEXTS.map(lambda text: "a " + text)
SETS = st.lists(st.tuples(TEXTS, st.lists(READABLE, min_size=1, max_size=3)), min_size=1, max_size=8)
ROUGES = ["rouge1", "rouge2", "rougeL", "rougeLsum"]


def streams(references: list[list[str]]) -> list[list[str | None]]:
    """sacrebleu's orientation: one list for each place in the lists of references."""
    return [list(stream) for stream in zip_longest(*references)]


def split(items: list[tuple[str, list[str]]]) -> tuple[list[str], list[list[str]]]:
    return [output for output, _ in items], [references for _, references in items]


@settings(max_examples=80)
@given(items=SETS)
def test_bleu_is_sacrebleus_for_the_corpus_and_for_each_item(items: list[tuple[str, list[str]]]) -> None:
    outputs, references = split(items)
    metric = METRICS["bleu"]
    statistics = metric.statistics(outputs, references)
    expected = BLEU(force=True).corpus_score(outputs, streams(references)).score
    assert metric.aggregate(statistics)[0] == pytest.approx(expected, rel=1e-12, abs=1e-12)
    sentence = BLEU(effective_order=True)
    item_scores = metric.item_scores(statistics)
    assert item_scores is not None
    assert [100 * score for score in item_scores] == pytest.approx(
        [sentence.sentence_score(*item).score for item in items], rel=1e-12, abs=1e-12
    )


@settings(max_examples=80)
@given(items=SETS)
def test_chrf_is_sacrebleus_for_the_corpus_and_for_each_item(items: list[tuple[str, list[str]]]) -> None:
    outputs, references = split(items)
    metric = METRICS["chrf"]
    statistics = metric.statistics(outputs, references)
    expected = CHRF().corpus_score(outputs, streams(references)).score
    assert metric.aggregate(statistics)[0] == pytest.approx(expected, rel=1e-12, abs=1e-12)
    item_scores = metric.item_scores(statistics)
    assert item_scores is not None
    assert [100 * score for score in item_scores] == pytest.approx(
        [CHRF().sentence_score(*item).score for item in items], rel=1e-12, abs=1e-12
    )


@pytest.mark.parametrize("name", ROUGES)
@settings(max_examples=80)
@given(items=SETS)
def test_rouge_has_the_same_bits_as_rouge_score(name: str, items: list[tuple[str, list[str]]]) -> None:
    outputs, references = split(items)
    scorer = RougeScorer([name])
    expected = [scorer.score_multi(several, output)[name] for output, several in items]
    metric = METRICS[name]
    statistics = metric.statistics(outputs, references)
    assert statistics.tolist() == [[one.precision, one.recall, one.fmeasure] for one in expected]
    assert metric.aggregate(statistics)[0] == pytest.approx(np.mean([one.fmeasure for one in expected]), rel=1e-15)


@pytest.mark.parametrize("name", ["bleu", "chrf", "rougeL", "token_f1", "exact_match"])
def test_a_weighted_resample_scores_as_its_items_written_out(name: str) -> None:
    metric = METRICS[name]
    outputs = ["the cat sat on the mat", "a dog", "no idea at all today", ""]
    references = [["the cat sat on a mat"], ["the dog", "dogs"], ["none at all today really"], ["something"]]
    statistics = metric.statistics(outputs, references)
    weights = np.array([[2, 0, 1, 1], [1, 3, 0, 0]])
    scores = metric.aggregate(statistics, weights.astype(np.float64))
    for row, score in zip(weights, scores, strict=True):
        chosen = np.repeat(np.arange(4), row)
        written_out = metric.statistics([outputs[i] for i in chosen], [references[i] for i in chosen])
        assert score == pytest.approx(metric.aggregate(written_out)[0], rel=1e-12)


SACREBLEU: dict[str, Any] = {
    "chrf++": CHRF(word_order=2),
    "chrf:word_order=3,lowercase=yes": CHRF(word_order=3, lowercase=True),
    "ter": TER(),
    "ter:normalized=yes,asian_support=yes": TER(normalized=True, asian_support=True),
    "ter:no_punct=yes,case_sensitive=yes": TER(no_punct=True, case_sensitive=True),
    "bleu:tokenize=intl": BLEU(tokenize="intl", force=True),
    "bleu:tokenize=char,lowercase=yes": BLEU(tokenize="char", lowercase=True, force=True),
    "bleu:tokenize=none": BLEU(tokenize="none", force=True),
    "bleu:tokenize=zh": BLEU(tokenize="zh", force=True),
}


@pytest.mark.parametrize("name", SACREBLEU)
@settings(max_examples=20)
@given(items=SETS)
def test_every_option_is_sacrebleus(name: str, items: list[tuple[str, list[str]]]) -> None:
    outputs, references = split(items)
    metric, scorer = METRICS[name], SACREBLEU[name]
    statistics = metric.statistics(outputs, references)
    expected = scorer.corpus_score(outputs, streams(references)).score
    assert metric.aggregate(statistics)[0] == pytest.approx(expected, rel=1e-12, abs=1e-12)
    if name.startswith("ter"):
        item_scores = metric.item_scores(statistics)
        assert item_scores is not None
        assert [100 * score for score in item_scores] == pytest.approx(
            [scorer.sentence_score(*item).score for item in items], rel=1e-12
        )


@pytest.mark.parametrize("name", ["bleu", "chrf", "chrf++", "ter", *ROUGES])
@settings(max_examples=15)
@given(
    items=st.lists(
        st.tuples(st.text(max_size=60), st.lists(st.text(max_size=60).map("a ".__add__), min_size=1, max_size=3)),
        min_size=1,
        max_size=4,
    )
)
def test_any_text_in_any_script_is_scored_as_the_reference_scores_it(
    name: str, items: list[tuple[str, list[str]]]
) -> None:
    outputs, references = split(items)
    metric = METRICS[name]
    got = metric.aggregate(metric.statistics(outputs, references))[0]
    if name in ROUGES:
        expected = np.mean([RougeScorer([name]).score_multi(several, text)[name].fmeasure for text, several in items])
    else:
        scorers = {"bleu": BLEU(force=True), "chrf": CHRF(), "chrf++": CHRF(word_order=2), "ter": TER()}
        expected = scorers[name].corpus_score(outputs, streams(references)).score
    assert got == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("name", ROUGES)
@settings(max_examples=40)
@given(words=st.lists(st.sampled_from("running runs ran testing tested test's flies fly\n sky skies was".split(" "))))
def test_rouge_stems_as_rouge_score_does(name: str, words: list[str]) -> None:
    output, reference = " ".join(words[::2]), "a " + " ".join(words[1::2])
    expected = RougeScorer([name], use_stemmer=True).score(reference, output)[name]
    row = METRICS[f"{name}:stemmer=yes"].statistics([output], [[reference]])[0]
    assert row.tolist() == [expected.precision, expected.recall, expected.fmeasure]


@pytest.mark.parametrize("name", ["bleu", "chrf", "ter", *ROUGES])
def test_references_are_read_once_for_several_systems(name: str) -> None:
    metric: Any = METRICS[name]
    references = [["the cat sat", "a cat sits"], ["no dog"]]
    parsed = metric.parse(references)
    for outputs in (["the cat sat", None], ["a dog", "no dog at all"]):
        np.testing.assert_array_equal(metric.statistics(outputs, parsed), metric.statistics(outputs, references))
    with pytest.raises(LengthMismatchError, match="1 outputs but 2"):
        metric.statistics(["one"], parsed)
    other: Any = METRICS["chrf" if name != "chrf" else "bleu"]
    with pytest.raises(MeasureError, match="parsed for another metric"):
        other.statistics(["one", "two"], parsed)


@pytest.mark.parametrize("name", ["bleu", "chrf", *ROUGES, "exact_match", "token_f1"])
def test_a_missing_output_scores_zero(name: str) -> None:
    metric = METRICS[name]
    assert metric.aggregate(metric.statistics([None], [["the answer"]]))[0] == 0.0


def test_a_missing_answer_is_wrong_even_when_the_reference_normalises_to_nothing() -> None:
    assert METRICS["exact_match"].statistics([None, "..."], [["the"], ["the"]]).tolist() == [[0.0], [1.0]]


@pytest.mark.parametrize("name", ROUGES)
def test_rouge_refuses_a_reference_it_cannot_read(name: str) -> None:
    with pytest.raises(UnreadableTextError, match="item 1") as refused:
        METRICS[name].statistics(["ok", "東京は日本の首都です"], [["ok"], ["東京は日本の首都です"]])
    assert refused.value.index == 1
    chrf = METRICS["chrf"]
    assert chrf.aggregate(chrf.statistics(["東京は日本"], [["東京は日本"]]))[0] == 100.0


@pytest.mark.parametrize("name", METRICS)
def test_a_signature_names_the_metric_and_the_library_behind_the_number(name: str) -> None:
    parts = METRICS[name].signature().split("|")
    keys = [part.split(":")[0] for part in parts[1:]]
    assert parts[0].replace("chrf2", "chrf") == name
    assert len(keys) == len(set(keys))
    assert "measure" in keys
    assert ("version" in keys) == (name in {"bleu", "chrf", "chrf++", "ter"})
    if name in ROUGES:
        assert f"matches:rouge_score-{version('rouge_score')}" in parts


def test_the_bleu_signature_agrees_with_sacrebleus() -> None:
    scorer = BLEU()
    scorer.corpus_score(["a b", "c"], [["a b", "c"], ["b", None]])
    theirs = str(scorer.get_signature()).split("|")
    assert set(theirs) <= set(METRICS["bleu"].signature().split("|"))


@pytest.mark.parametrize(
    ("name", "scorer"),
    [
        ("chrf", CHRF()),
        ("chrf++", CHRF(word_order=2)),
        ("chrf:lowercase=yes", CHRF(lowercase=True)),
        ("ter", TER()),
        ("ter:no_punct=yes", TER(no_punct=True)),
        ("bleu:tokenize=intl", BLEU(tokenize="intl")),
    ],
)
def test_signatures_agree_with_sacrebleus(name: str, scorer: Any) -> None:
    scorer.corpus_score(["a b", "c"], [["a b", "c"], ["b", None]])
    assert set(str(scorer.get_signature()).split("|")) <= set(METRICS[name].signature().split("|"))


@parametrised("metrics", lambda case: case["metric"] in ("sacrebleu_corpus_ter", "sacrebleu_corpus_chrf"))
def test_published_chrf_and_ter(case: Case) -> None:
    kind = case["metric"].removeprefix("sacrebleu_corpus_")
    given_options = {key: option for key, option in case["params"].items() if key not in ("char_order", "beta")}
    if given_options.pop("eps_smoothing", False) or case["params"].get("beta", 2) != 2:
        pytest.skip("beta 2 and no epsilon are fixed here, as in sacrebleu's default")
    options = ",".join(
        f"{key}={('no', 'yes')[option] if isinstance(option, bool) else option}"
        for key, option in given_options.items()
    )
    metric = METRICS[f"{kind}:{options}" if options else kind]
    references = [list(item) for item in zip(*case["input"]["reference_streams"], strict=True)]
    statistics = metric.statistics(case["input"]["predictions"], references)
    assert metric.aggregate(statistics)[0] == pytest.approx(case["expected"]["score"], abs=case["tolerance"])


@parametrised("metrics", lambda case: case["metric"] == "sacrebleu_corpus_bleu" and set(case["params"]) <= {"tokenize"})
def test_published_corpus_bleu(case: Case) -> None:
    references = [list(item) for item in zip(*case["input"]["reference_streams"], strict=True)]
    metric = METRICS[f"bleu:tokenize={case['params'].get('tokenize', '13a')}"]
    statistics = metric.statistics(case["input"]["predictions"], references)
    assert metric.aggregate(statistics)[0] == pytest.approx(case["expected"]["score"], abs=case["tolerance"])
    sums = statistics.sum(axis=0)
    if "counts" in case["expected"]:
        assert sums[2:6].tolist() == case["expected"]["counts"]
        assert sums[6:].tolist() == case["expected"]["totals"]
        assert sums[:2].tolist() == [case["expected"]["sys_len"], case["expected"]["ref_len"]]


def _smoothed_by_default(case: Case) -> bool:
    return bool(case["metric"] == "sacrebleu_sentence_bleu" and case["params"].get("smooth_method", "exp") == "exp")


@parametrised("metrics", _smoothed_by_default)
def test_published_sentence_bleu(case: Case) -> None:
    metric = METRICS[f"bleu:tokenize={case['params'].get('tokenize', '13a')}"]
    scores = metric.item_scores(metric.statistics([case["input"]["prediction"]], [case["input"]["references"]]))
    assert scores is not None
    assert 100 * scores[0] == pytest.approx(case["expected"]["score"], abs=case["tolerance"])


@parametrised("metrics", lambda case: case["metric"].startswith("rouge"))
def test_published_rouge(case: Case) -> None:
    stemmer = ":stemmer=yes" if case["params"].get("use_stemmer") else ""
    metric = METRICS[case["params"]["rouge_type"] + stemmer]
    row = metric.statistics([case["input"]["prediction"]], [[case["input"]["target"]]])[0]
    expected = [case["expected"][key] for key in ("precision", "recall", "fmeasure")]
    assert row.tolist() == pytest.approx(expected, abs=case["tolerance"])


@parametrised("metrics", lambda case: case["metric"] == "squad_em_f1")
def test_published_squad_scores(case: Case) -> None:
    for name, key in (("exact_match", "em"), ("token_f1", "f1")):
        row = METRICS[name].statistics([case["input"]["prediction"]], [case["input"]["answers"]])[0]
        assert row[0] == pytest.approx(case["expected"][key], abs=case["tolerance"])


def test_paired_bootstrap_of_bleu_is_sacrebleus_for_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "SACREBLEU_SEED", "12345")
    generator = np.random.default_rng(3)
    words = np.array("the a cat dog sat ran on under mat tree today".split())
    references = [" ".join(generator.choice(words, 12)) for _ in range(80)]

    def system(keep: float) -> list[str]:
        return [
            " ".join(word if generator.random() < keep else generator.choice(words) for word in text.split())
            for text in references
        ]

    baseline, candidate = system(0.70), system(0.76)
    metric = METRICS["bleu"]
    items: list[Any] = [[text] for text in references]
    ours = compare(metric, metric.statistics(baseline, items), metric.statistics(candidate, items), seed=12345)
    systems = [("baseline", baseline), ("candidate", candidate)]
    _, scores = PairedTest(systems, {"BLEU": BLEU()}, [references], test_type="bs")()
    theirs = scores["BLEU"]
    assert ours.p_value == theirs[1].p_value
    statistics = metric.statistics(candidate, items)
    resampled = np.concatenate([metric.aggregate(statistics, weights) for weights in item_draws(80, 12345)])
    assert estimate_ci(resampled) == pytest.approx((theirs[1].mean, theirs[1].ci), rel=1e-6)
    assert (ours.baseline_value, ours.candidate_value) == pytest.approx((theirs[0].score, theirs[1].score))
    assert ours.test == "paired bootstrap (sacrebleu)"


@pytest.mark.parametrize("name", ["bleu", "chrf++", "ter", "rougeLsum:stemmer=yes", "token_f1"])
def test_an_instance_shared_between_threads_gives_each_its_own_numbers(name: str) -> None:
    """sacrebleu's scorers keep references and tokens on themselves: one shared by threads returned a wrong value."""
    metric = METRICS[name]
    sets = [([f"the cat {n} sat on mats"] * 30, [[f"a cat {n} sits on mats today"]] * 30) for n in range(8)]
    alone = [metric.statistics(*one).tolist() for one in sets]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda one: metric.statistics(*one).tolist(), sets * 5))
    assert together == alone * 5


def test_the_score_of_a_set_is_the_mean_in_every_process() -> None:
    """rouge_score's aggregator reports a median of resamples drawn from the global random state."""
    metric = METRICS["rouge1"]
    statistics = metric.statistics(["a b", "a", "c d"], [["a b"], ["a b"], ["e"]])
    assert metric.aggregate(statistics)[0] == (1 + 2 / 3 + 0) / 3


@pytest.mark.parametrize("name", ["rouge1", "rougeL", "rougeLsum", "bleu", "chrf"])
def test_long_and_many_texts_are_scored_as_short_and_few(name: str) -> None:
    """Beyond a machine word of tokens, a block of pairs, and the keys that fit 63 bits."""
    generator = np.random.default_rng(6)
    words = [f"w{place}" for place in range(9000)] + ["東京", "é\0ß", "Σ"]
    lengths = [*generator.integers(0, 40, 2100), 63, 64, 65, 200, 700]
    texts = [" ".join(["a", *generator.choice(words[: 50 if n < 300 else None], n)]) for n in lengths]
    outputs, references = texts, [[text] for text in texts[1:] + texts[:1]]
    metric = METRICS[name]
    statistics = metric.statistics(outputs, references)
    for place in [0, 1, 2047, 2048, 2099, 2100, 2101, 2102, 2103, 2104]:
        alone = metric.statistics([outputs[place]], [references[place]])
        np.testing.assert_array_equal(statistics[place], alone[0])
        if name.startswith("rouge"):
            one = RougeScorer([name]).score(references[place][0], outputs[place])[name]
            assert statistics[place].tolist() == [one.precision, one.recall, one.fmeasure]
    if name in ("bleu", "chrf"):
        scorer = {"bleu": BLEU(force=True), "chrf": CHRF()}[name]
        expected = scorer.corpus_score(outputs, streams(references)).score
        assert metric.aggregate(statistics)[0] == pytest.approx(expected, rel=1e-12)
