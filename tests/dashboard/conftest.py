"""One seeded service for all tests of the dashboard."""

from __future__ import annotations

import pytest

from tests.dashboard.seed import Seed, seed


@pytest.fixture(scope="session")
def record(live_service: str) -> Seed:
    """A whole record in the live service, in a project of its own."""
    return seed(live_service, "dashboard-tests")
