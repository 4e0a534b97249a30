"""Media on their way from `run.log` to the journal's folder."""

from __future__ import annotations

import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tunescope._journal import Medium
from tunescope._values import to_plain
from tunescope.media import LARGEST_ITEM, Frozen, Gallery, take

__all__ = ["Keeper"]

LONGEST_CAPTION = 2_000
# What may wait to be encoded: beyond it, what is logged is lost rather than the machine's memory.
MOST_WAITING = 1 << 30


class _Waiting(NamedTuple):
    key: str
    step: int
    time: float
    position: int
    of: int
    item: Frozen


class Keeper:
    """Takes media without waiting, encodes them one at a time, and stores each in a file.

    Memory is bounded: what would make more than 1 GiB wait is dropped, and that is said.
    """

    def __init__(self, folder: Path, report: Callable[[str, str], None]) -> None:
        """`report(name, what)` says `what` once for each name."""
        self._folder = folder / "files"
        self._report = report
        self._queue: deque[_Waiting] = deque()
        self._bytes = 0
        self._lock = threading.Lock()

    # --- called by the training loop ---

    def take(self, values: Mapping[Any, Any]) -> dict[Any, Any]:
        """The values as they are now, media frozen."""
        taken, galleries = take(values)
        for gallery in galleries:
            with self._lock:
                room = self._bytes == 0 or self._bytes + gallery.size <= MOST_WAITING
                self._bytes += gallery.size if room else 0
            if not room:
                gallery.items.clear()
                gallery.problems.append("media come faster than they can be encoded, and some are lost")
        return taken

    # --- called by the thread that writes ---

    def add(self, key: str, step: int, time: float, gallery: Gallery) -> None:
        """Have a gallery encoded after those that wait."""
        if gallery.problems:
            self._complain(key, gallery.problems[0])
        of = len(gallery.items)
        self._queue.extend(_Waiting(key, step, time, place, of, item) for place, item in enumerate(gallery.items))

    @property
    def waiting(self) -> bool:
        return bool(self._queue)

    def next(self) -> Medium | None:
        """Encode and store the next medium that can be; None if there is none left."""
        while self._queue:
            one = self._queue.popleft()
            try:
                return self._store(one)
            except OSError as error:
                self._complain(one.key, f"its file could not be written ({error.strerror or error})")
            except Exception as error:  # a foreign class may raise anything
                self._complain(one.key, str(error) or type(error).__name__)
            finally:
                with self._lock:
                    self._bytes -= one.item.size
        return None

    def _store(self, one: _Waiting) -> Medium:
        encoded = one.item.encode()
        if len(encoded.content) > LARGEST_ITEM:
            raise ValueError(f"it takes {len(encoded.content) >> 20} MiB, and at most {LARGEST_ITEM >> 20} are kept")
        name = uuid.uuid4().hex
        (self._folder / name).write_bytes(encoded.content)
        caption = None if one.item.caption is None else to_plain(str(one.item.caption))[:LONGEST_CAPTION]
        return Medium(
            key=one.key,
            step=one.step,
            time=one.time,
            kind=one.item.kind,
            position=one.position,
            of=one.of,
            content_type=encoded.content_type,
            stored=name,
            caption=caption,
            details=encoded.details,
        )

    def _complain(self, key: str, problem: str) -> None:
        self._report(f"media {key}", f"'{key}' could not be kept: {problem}")
