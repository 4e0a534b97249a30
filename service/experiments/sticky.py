"""Units that keep their arm: who came in by an earlier phase, in memory, nine bytes each.

Of a unit only a 64-bit digest is held, so that a million units take 9 MB and a lookup takes microseconds; that a new
unit is taken for one of a million has a chance of 1 in 10^13. A process holds at most `MOST_UNITS` of an experiment:
later ones are assigned by the weights of the day, and are marked as seen in two arms if that moves them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

MOST_UNITS = 5_000_000
# Exposures of a phase that has ended may still be on their way for so long.
LATE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class StickyArms:
    """Unit -> index of its arm. `phases` have been read for good, `begun` once at least."""

    digests: npt.NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    arms: npt.NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    phases: frozenset[int] = frozenset()
    begun: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.digests)

    def arm_of(self, unit_id: str) -> int | None:
        """The index of the arm that a unit came in by; None of one that is not known."""
        if not len(self.digests):
            return None
        digest = np.uint64(_digest(unit_id))
        place = int(np.searchsorted(self.digests, digest))
        if place < len(self.digests) and self.digests[place] == digest:
            return int(self.arms[place])
        return None

    def with_units(self, units: Sequence[tuple[str, int]], phase: int, *, whole: bool) -> StickyArms:
        """These units besides, the earlier ones first. `whole`: nobody is still to come by this phase."""
        phases, begun = self.phases | {phase} if whole else self.phases, self.begun | {phase}
        room = MOST_UNITS - len(self)
        if not units or room <= 0:
            return StickyArms(self.digests, self.arms, phases, begun)
        fresh = np.fromiter((_digest(unit) for unit, _ in units[:room]), np.uint64, len(units[:room]))
        arms = np.fromiter((arm for _, arm in units[:room]), np.uint8, len(fresh))
        digests, places = np.unique(np.concatenate([self.digests, fresh]), return_index=True)
        return StickyArms(digests, np.concatenate([self.arms, arms])[places], phases, begun)


def _digest(unit_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(unit_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
