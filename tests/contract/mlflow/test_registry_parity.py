"""A real MLflow server answers the registry's calls as this service does."""

from __future__ import annotations

import json
import urllib.parse
from typing import Any

import pytest

from tests.contract.mlflow.conftest import Rest
from tests.contract.mlflow.registry_cases import CALLS, LAST, MODEL, MODELS, REFUSED, VERSION, VERSIONS, answers, find

pytestmark = pytest.mark.slow


def test_calls_are_answered_by_mlflow_as_written_down(real_mlflow: str) -> None:
    rest = Rest(real_mlflow)

    def ask(verb: str, path: str, fields: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if verb == "GET":
            query = f"?{urllib.parse.urlencode(fields, doseq=True)}" if fields else ""
            status, answer, _ = rest.call("GET", path + query)
        else:
            body = json.dumps(fields).encode()
            status, answer, _ = rest.call(verb, path, body, {"content-type": "application/json"})
        return status, dict(json.loads(answer or b"{}"))

    assert answers(ask, CALLS) == [expected for *_, expected in CALLS]
    assert {str(fields): find(ask, MODEL, fields) for fields, _ in MODELS} == {str(f): names for f, names in MODELS}
    assert {str(fields): find(ask, VERSION, fields) for fields, _ in VERSIONS} == {str(f): v for f, v in VERSIONS}
    assert [fields for what, fields in REFUSED if find(ask, what, fields) != "400"] == []
    assert answers(ask, LAST) == [expected for *_, expected in LAST]
