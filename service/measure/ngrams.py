"""Texts as sets of their characters' n-grams: a unit that every script has."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from service.measure.metric import IntArray

if TYPE_CHECKING:
    from scipy import sparse

_PACKED = 1 << 62


def normalise(text: str) -> str:
    """The text as it is compared: case, width of characters and white space make no difference."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def matrix(texts: Sequence[str], size: int) -> sparse.csr_array:
    """Texts by n-grams: 1 where a text has one. The columns are in no order that means anything."""
    from scipy import sparse

    text, gram, n_grams = numbers(texts, size)
    starts = np.searchsorted(text, np.arange(len(texts) + 1))
    ones = np.ones(len(text), dtype=np.int32)
    return sparse.csr_array((ones, gram.astype(np.int32), starts), shape=(len(texts), max(1, n_grams)))


def numbers(texts: Sequence[str], size: int) -> tuple[IntArray, IntArray, int]:
    """(text, gram) of every distinct n-gram of every text, ascending, and how many n-grams there are.

    The characters are packed into one integer, from an alphabet of those that occur; where that does not fit into 62
    bits (Chinese), what is packed so far is numbered anew in between. No hash, so no two n-grams are taken for one.
    """
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    characters = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    alphabet, letters = np.unique(characters, return_inverse=True)
    # A shorter text is one n-gram, filled up with a letter that no text has.
    counts = np.where(lengths > 0, np.maximum(1, lengths - size + 1), 0)
    starts = np.concatenate([[0], np.cumsum(lengths)])[:-1]
    text = np.repeat(np.arange(len(texts)), counts)
    place = starts[text] + np.arange(len(text)) - np.repeat(np.cumsum(counts) - counts, counts)
    ends = (starts + lengths)[text]
    base = len(alphabet) + 1
    packed, values = np.zeros(len(text), dtype=np.int64), 1
    for offset in range(size):
        if values * base >= _PACKED:
            known, packed = np.unique(packed, return_inverse=True)
            values = len(known)
        at = place + offset
        letter = np.where(at < ends, letters[np.minimum(at, len(letters) - 1)], base - 1) if len(at) else at
        packed = packed * base + letter
        values *= base
    known, gram = np.unique(packed, return_inverse=True)
    both = distinct(text * max(1, len(known)) + gram)
    return both // max(1, len(known)), both % max(1, len(known)), len(known)


def distinct(values: IntArray) -> IntArray:
    """The values that occur, ascending. By sorting: for millions, an eighth of the time of NumPy's hash table."""
    ordered = np.sort(values)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered
