"""What keeps a set of any size off the memory while it is taken in: rows on disk, and ids as digests."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

DIGEST_BYTES = 16
Digests = NDArray[np.bytes_]
Places = NDArray[np.int64]


class RowFile:
    """Rows of bytes, written once and read back in any order. In memory: where each of them ends, 8 bytes a row."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._ends = array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, rows: Iterable[bytes]) -> None:
        end = self._ends[-1]
        for row in rows:
            self._file.write(row)
            end += len(row)
            self._ends.append(end)

    def read(self, places: Iterable[int], absent: bytes = b"") -> Iterator[bytes]:
        """The rows with these numbers, in the order asked for; `absent` for a negative one."""
        self._file.flush()
        descriptor = self._file.fileno()
        for place in places:
            start = self._ends[place]
            yield absent if place < 0 else os.pread(descriptor, self._ends[place + 1] - start, start)


class Ids:
    """The ids of a set, in its order, and where each of them is.

    An id is kept as 16 bytes of BLAKE2b: a million ids take 40 MB whatever their length. Two ids of one digest would
    be taken for the same; among a million that has a chance of 10^-27.
    """

    def __init__(self, digests: Sequence[Digests]) -> None:
        self._digests = np.concatenate(digests) if digests else np.zeros(0, f"S{DIGEST_BYTES}")
        self._order = np.argsort(self._digests, kind="stable")
        self._sorted = self._digests[self._order]

    def __len__(self) -> int:
        return len(self._digests)

    def first_repeated(self) -> tuple[int, int] | None:
        """The places of the first id that came before, and of where it did: (earlier, later)."""
        same = np.flatnonzero(self._sorted[1:] == self._sorted[:-1])
        if not len(same):
            return None
        later = self._order[same + 1]
        at = int(np.argmin(later))
        return int(self._order[same[at]]), int(later[at])

    def places(self, ids: Sequence[str]) -> Places:
        """Where each of these ids is; -1: nowhere."""
        wanted = digests(ids)
        if not len(self):
            return np.full(len(wanted), -1)
        near = np.minimum(np.searchsorted(self._sorted, wanted), len(self) - 1)
        return np.where(self._sorted[near] == wanted, self._order[near], -1)


def digests(ids: Iterable[str]) -> Digests:
    whole = b"".join(hashlib.blake2b(one.encode(), digest_size=DIGEST_BYTES).digest() for one in ids)
    return np.frombuffer(whole, f"S{DIGEST_BYTES}")
