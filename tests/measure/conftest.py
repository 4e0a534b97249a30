"""Property tests draw the same examples every time, and a loaded machine does not fail them."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("measure", deadline=None, derandomize=True)
settings.load_profile("measure")
