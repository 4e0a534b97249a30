"""Whatever a client sends, the service answers: no route of the OpenAPI description fails on what it describes.

Requests are made up by schemathesis from the description, valid ones and broken ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.transport.serialization import serialize_binary

from tests.conftest import LiveService, running_service

# Those answer 502 and 503 by themselves: they pass on what a model upstream says, or wait for one.
PASSED_ON = {"/v1/chat/completions", "/v1/completions", "/v1/embeddings"}


@schemathesis.serializer("application/x-ndjson", "application/vnd.apache.parquet")
def any_bytes(_context: Any, value: Any) -> Any:
    """A file of rows, as schemathesis makes it up: bytes."""
    return serialize_binary(value)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """One that may be filled with rubbish, and emptied."""
    with running_service(tmp_path_factory.mktemp("fuzzed") / "data") as running:
        yield running


def operations(url: str) -> Iterator[Any]:
    for found in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations():
        operation = found.ok()
        if operation.path not in PASSED_ON:
            yield operation


def fuzz(url: str, examples: int, seed_phases: tuple[Phase, ...] = (Phase.explicit, Phase.generate)) -> int:
    """Send `examples` requests to each route; how many routes there are."""
    faults: list[str] = []
    count = 0
    for operation in operations(url):
        count += 1

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=seed_phases,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def answers(case: Any) -> None:
            response = case.call(timeout=60)
            if response.status_code >= 500:
                faults.append(f"{case.as_curl_command()}\n -> {response.status_code} {response.text[:300]}")

        answers()
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults[:20])
    return count


def test_a_few_requests_to_every_route(service: LiveService) -> None:
    assert fuzz(service.url, examples=2) > 70


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_requests_to_every_route(service: LiveService) -> None:
    assert fuzz(service.url, examples=60) > 70


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_requests_on_postgresql(postgres_url: str, tmp_path: Path) -> None:
    with running_service(tmp_path / "data", database_url=postgres_url) as running:
        assert fuzz(running.url, examples=20) > 70
