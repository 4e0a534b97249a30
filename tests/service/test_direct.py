"""Direct routes in front of the middleware: the same answers, also where something goes wrong."""

from __future__ import annotations

import pytest
from fastapi import APIRouter, Request, Response
from starlette.testclient import TestClient

from service import errors
from service.direct import Application, DirectRoute

router = APIRouter(route_class=DirectRoute)


@router.post("/direct/{how}")
async def direct(request: Request) -> Response:
    how = request.path_params["how"]
    if how == "refused":
        raise errors.Conflict("It is so already.")
    if how == "broken":
        raise RuntimeError("broken")
    return Response(f"{how}: {(await request.body()).decode()}")


@pytest.fixture
def client() -> TestClient:
    app = Application()
    errors.install(app)
    app.include_router(router)
    app.put_first(router)
    return TestClient(app, raise_server_exceptions=False)


def test_a_direct_route_answers(client: TestClient) -> None:
    assert client.post("/direct/well", content=b"said").text == "well: said"


def test_what_it_raises_is_answered_in_the_one_error_shape(client: TestClient) -> None:
    answer = client.post("/direct/refused", content=b"x" * 100_000)
    assert answer.status_code == 409
    assert answer.json() == {"error": {"code": "conflict", "message": "It is so already.", "details": None}}


def test_what_nobody_expected_is_an_internal_error_and_goes_on_to_the_log(client: TestClient) -> None:
    assert client.post("/direct/broken").status_code == 500
    with pytest.raises(RuntimeError, match="broken"):
        TestClient(client.app).post("/direct/broken")


def test_other_methods_and_paths_take_the_ordinary_way(client: TestClient) -> None:
    assert client.get("/direct/well").json()["error"]["code"] == "method_not_allowed"
    assert client.post("/elsewhere").json()["error"]["code"] == "no_such_route"
