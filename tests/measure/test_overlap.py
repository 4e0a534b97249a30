"""What two texts share, beside dictionaries of n-grams and rouge_score's quadratic table."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import _lcs_table

from service.measure.overlap import token_overlap

TEXTS = st.lists(st.sampled_from("abcd"), max_size=12).map(" ".join) | st.lists(
    st.sampled_from("abcd"), min_size=62, max_size=68
).map("  ".join)


@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
def test_tokens_in_common_are_counted_as_by_hand(pairs: list[tuple[str, str]]) -> None:
    """Above and below a machine word of tokens, either side the longer one."""
    found = token_overlap([one for one, _ in pairs], [other for _, other in pairs])
    for row, (one, other) in zip(found.tolist(), pairs, strict=True):
        ours, theirs = one.split(), other.split()
        shared = [sum((Counter(grams(ours, order)) & Counter(grams(theirs, order))).values()) for order in (1, 2)]
        assert row == [len(ours), len(theirs), *shared, _lcs_table(theirs, ours)[-1][-1]]


def grams(tokens: list[str], order: int) -> list[tuple[str, ...]]:
    return [tuple(tokens[at : at + order]) for at in range(len(tokens) - order + 1)]
