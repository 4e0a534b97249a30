"""Metrics beside the libraries that define them, in one process: the same numbers, and how long they take.

    python benchmarks/metrics.py          # some minutes
    python benchmarks/metrics.py --quick

Times are CPU times of one thread. Before a time counts, the numbers must be the library's.
"""

from __future__ import annotations

import csv
import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", SACREBLEU_SEED="12345")

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import sacrebleu.tokenizers.tokenizer_13a as tokenizer_13a
import sacrebleu.tokenizers.tokenizer_re as tokenizer_re
import typer
from report import OURS, REPOSITORY, Figures, Report, Row, machine_facts, show, write
from rich.console import Console
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest, estimate_ci
from sklearn import metrics as sk

from service.measure.classification import count_scores
from service.measure.comparison import compare, paired_bootstrap
from service.measure.metrics import METRICS
from service.measure.resampling import item_draws

PARSED = f"{OURS}, references parsed"
ROUGES = ["rouge1", "rouge2", "rougeL"]
E2E = ("testset_w_refs.csv", "devset.csv")
Pairs = list[tuple[str, str]]


class NumbersDiffer(RuntimeError):
    """A value is not the reference library's: there is nothing to time."""


def same(what: str, ours: Any, theirs: Any, tolerance: float = 1e-10) -> None:
    if not np.allclose(ours, theirs, rtol=tolerance, atol=tolerance):
        raise NumbersDiffer(f"{what}: {ours} here, {theirs} there")


def timed(figures: Figures, system: str, work: Callable[[], Any], unit: float = 1.0) -> Any:
    begun = time.process_time()
    result = work()
    figures.samples.setdefault(system, []).append((time.process_time() - begun) * unit)
    return result


def counts(n: int, rounds: int) -> Figures:
    figures = Figures(
        Row("counts", f"{n:,} label pairs, every count-based metric", "ms", times_of=(50, "scikit-learn"))
    )
    generator = np.random.default_rng(0)
    true = generator.integers(0, 10, n)
    predicted = np.where(generator.random(n) < 0.7, true, generator.integers(0, 10, n))

    def theirs() -> list[float]:
        matrix = sk.confusion_matrix(true, predicted)
        return [sk.f1_score(true, predicted, average="macro"), sk.matthews_corrcoef(true, predicted), matrix[0, 0]]

    for _ in range(rounds):
        scores = timed(figures, OURS, lambda: count_scores(true, predicted), 1000)
        expected = timed(figures, "scikit-learn", theirs, 1000)
        same("F1 and MCC", [scores["f1_macro"], scores["mcc"]], expected[:2])
    return figures


def rouge(pairs: Pairs, rounds: int) -> Figures:
    title = f"ROUGE-1, -2 and -L, {len(pairs):,} pairs"
    figures = Figures(Row("rouge", title, "s", times_of=(10, "rouge_score")))
    outputs, references = [one for one, _ in pairs], [[other] for _, other in pairs]
    scorer = RougeScorer(ROUGES)
    metric: Any = METRICS["rouge1"]

    def ours() -> list[Any]:
        read, wanted = metric.parse_outputs(outputs), metric.parse(references)
        return [METRICS[name].statistics(read, wanted)[:, 2] for name in ROUGES]

    for _ in range(rounds):
        scores = timed(figures, OURS, ours)
        expected = timed(figures, "rouge_score", lambda: [scorer.score(other, one) for one, other in pairs])
        theirs = [[one[name].fmeasure for one in expected] for name in ROUGES]
        if not np.array_equal(scores, theirs):
            raise NumbersDiffer("ROUGE: some bit differs from rouge_score's")
    return figures


def corpus(name: str, make: Callable[[], Any], pairs: Pairs, rounds: int) -> Figures:
    title = f"{name}, {len(pairs):,} pairs"
    figures = Figures(Row(name, title, "s", times_of=(1, "sacrebleu")))
    outputs, references = [one for one, _ in pairs], [[other] for _, other in pairs]
    metric: Any = METRICS[name]
    for _ in range(rounds):
        forget_tokens()
        value = timed(figures, OURS, lambda: metric.aggregate(metric.statistics(outputs, references))[0])
        parsed = metric.parse(references)
        forget_tokens()
        timed(figures, PARSED, partial(metric.statistics, outputs, parsed))
        forget_tokens()
        expected = timed(figures, "sacrebleu", lambda: make().corpus_score(outputs, [[one for (one,) in references]]))
        same(name, value, expected.score)
    return figures


def forget_tokens() -> None:
    """sacrebleu keeps the last 65,536 sentences tokenised, which would favour whoever comes second."""
    for tokenizer in (tokenizer_13a.Tokenizer13a, tokenizer_re.TokenizerRegexp):
        tokenizer.__call__.cache_clear()


def bootstrap(pairs: Pairs, rounds: int) -> Figures:
    title = f"paired bootstrap of BLEU, 1,000 × {len(pairs):,} sentences × 2 systems"
    figures = Figures(Row("bootstrap", title, "ms", at_most=50))
    references = [other for _, other in pairs]
    baseline = [one for one, _ in pairs]
    candidate = [other if place % 10 == 0 else one for place, (one, other) in enumerate(pairs)]
    metric: Any = METRICS["bleu"]
    before, after = (metric.statistics(one, [[text] for text in references]) for one in (baseline, candidate))
    systems = [("baseline", baseline), ("candidate", candidate)]
    begun = time.process_time()
    _, results = PairedTest(systems, {"BLEU": BLEU()}, [references], test_type="bs")()
    figures.samples["sacrebleu"] = [(time.process_time() - begun) * 1000] * rounds
    theirs = results["BLEU"][1]
    p_value = compare(metric, before, after, seed=12345).p_value
    resampled = np.concatenate([metric.aggregate(after, weights) for weights in item_draws(len(pairs), 12345)])
    # sacrebleu adds in single precision.
    same("p, mean and interval", [p_value, *estimate_ci(resampled)], [theirs.p_value, theirs.mean, theirs.ci], 1e-6)
    for _ in range(rounds + 1):
        timed(figures, OURS, lambda: paired_bootstrap(metric, before, after, seed=12345), 1000)
    figures.samples[OURS] = figures.samples[OURS][1:]  # the first one touches the memory
    return figures


def read_pairs(folder: Path, n: int) -> tuple[Pairs, str]:
    """n pairs of texts about one thing: E2E's references of one meaning, else sentences made up."""
    if all((folder / name).is_file() for name in E2E):
        by_meaning: dict[str, list[str]] = {}
        for name in E2E:
            with (folder / name).open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    by_meaning.setdefault(row["mr"], []).append(row["ref"])
        found = [(one, texts[at - 1]) for texts in by_meaning.values() for at, one in enumerate(texts)]
        return list(islice(cycle(found), n)), f"E2E NLG, {len(found):,} pairs, repeated"
    generator = np.random.default_rng(0)
    words = np.array([f"word{place}" for place in range(2000)])
    made = [" ".join(generator.choice(words[:300], generator.integers(8, 35))) for _ in range(2000)]
    return list(islice(cycle(zip(made, changed(made, generator), strict=True)), n)), "made up"


def changed(texts: Sequence[str], generator: np.random.Generator) -> list[str]:
    return [" ".join(word for word in text.split() if generator.random() < 0.8) + " end" for text in texts]


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Smaller sets, one round.")] = False,
    data: Annotated[Path, typer.Option(help="Folder of E2E NLG's CSV files.")] = REPOSITORY / "data/e2e_nlg",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the JSON and Markdown files; default: results/, for whole runs only.")
    ] = None,
) -> None:
    """Measure metrics beside scikit-learn, rouge_score and sacrebleu."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    rounds, many, few = (1, 5_000, 2_000) if quick else (3, 100_000, 10_000)
    facts = machine_facts("tunescope", "numpy", "scikit-learn", "rouge-score", "sacrebleu")
    begun = time.monotonic()
    pairs, source = read_pairs(data, many)
    with console.status("measuring"):
        figures = [
            counts(1_000_000, 3 * rounds),
            rouge(pairs[:few], rounds),
            corpus("bleu", BLEU, pairs, rounds),
            corpus("chrf", CHRF, pairs, rounds),
            bootstrap(pairs[:3000], 3 * rounds),
        ]
    facts |= {"load_after": round(os.getloadavg()[0], 2), "seconds": time.monotonic() - begun}
    notes = [
        f"Texts: {source}. CPU time of one thread.",
        "scikit-learn computes F1, the confusion matrix and MCC; Tunescope every metric that reads labels.",
        "ROUGE has rouge_score's bits; BLEU, chrF, p and the interval of the bootstrap are sacrebleu's.",
    ]
    systems = [OURS, PARSED, "scikit-learn", "rouge_score", "sacrebleu"]
    report = Report("metrics", systems, figures, {"rounds": rounds, "pairs": many}, notes, facts)
    show(report, console)
    results = out or (None if quick else REPOSITORY / "benchmarks/results")
    for path in write(report, results) if results else ():
        console.print(f"  wrote {path}", style="dim")


if __name__ == "__main__":
    typer.run(main)
