"""Which way a metric is better, told from its name. Pure."""

from __future__ import annotations

import re
from typing import Literal

Direction = Literal["min", "max"]

_LOWER = frozenset(
    "loss losses error errors err perplexity ppl nll wer cer ter mae mse rmse mape bpb bpc bpw ece mce brier regret kl "
    "divergence latency ttft time seconds duration memory cost price toxicity hallucination forgetting".split()
)
_HIGHER = frozenset(
    "accuracy acc f1 precision recall auc auroc auprc map mrr ndcg bleu sacrebleu chrf rouge meteor bertscore comet em "
    "match exact reward rewards score success win wins pass mcc matthews pearson spearman r2 iou dice specificity "
    "sensitivity satisfaction throughput mfu".split()
)
_TIMES = frozenset(("second", "seconds", "sec", "s", "minute", "hour", "day"))


def guess(name: str) -> Direction | None:
    """'min' or 'max' when a word of the name says so, the last such word winning; None when none does.

    `eval/loss` → min, `rougeL` → max, `tokens_per_second` → max, `learning_rate` → None.
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower()
    words = re.findall(r"[a-z]+\d*", spaced)
    if "per" in words[1:]:
        at = words.index("per", 1)
        if words[at + 1 : at + 2] and words[at + 1] in _TIMES:
            return "max"
        words = words[:at]
    for word in reversed(words):
        for form in (word, word.rstrip("0123456789")):
            if form in _LOWER:
                return "min"
            if form in _HIGHER:
                return "max"
    return None
