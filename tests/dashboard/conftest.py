"""One seeded service for all tests of the dashboard."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
from streamlit.components.v2 import manifest_scanner

from tests.conftest import running_service
from tests.dashboard.seed import Seed, seed


@pytest.fixture(scope="session", autouse=True)
def one_scan() -> Iterator[None]:
    """Each AppTest looks through every installed package for components, which takes longer than most pages: once is
    enough."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            manifest_scanner, "scan_component_manifests", functools.cache(manifest_scanner.scan_component_manifests)
        )
        yield


@pytest.fixture(scope="session")
def live_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service of these tests alone: pages list what is there, newest first."""
    with running_service(tmp_path_factory.mktemp("live-dashboard") / "data") as service:
        yield service.url


@pytest.fixture(scope="session")
def record(live_service: str) -> Seed:
    """A whole record in the live service, in a project of its own."""
    return seed(live_service, "dashboard-tests")
