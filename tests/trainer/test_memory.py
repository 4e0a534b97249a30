from __future__ import annotations

import numpy as np

from trainer.memory import MemoryPeak


def test_the_peak_is_what_was_held_at_once_not_what_is_left() -> None:
    with MemoryPeak() as quiet:
        pass
    with MemoryPeak() as peak:
        held = np.ones(50_000_000)
        # Long enough for a sample, however slow the machine: the thread says when it has taken one.
        before = peak.samples
        while peak.samples <= before + 1:
            held += 0
        del held
    with MemoryPeak() as after:
        pass
    assert 0.9 < (peak.bytes - quiet.bytes) / 400e6 < 1.3
    assert after.bytes < peak.bytes - 300e6
