from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from tests.service.tracking.mlflow_face import Face


@pytest.fixture
def face(client: TestClient) -> Face:
    return Face(client)
