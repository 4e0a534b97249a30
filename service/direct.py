"""Routes for what trainers send thousands of times: found by a dictionary, answered by a plain function.

FastAPI looks through its routes in order, twice for those of a router, solves what an endpoint depends on, and checks
what it answers. For one metric that costs more than to store it. A direct route is declared like any other, with its
docs and dependencies, but its endpoint takes the request and gives the answer, and so do its dependencies:

    router = APIRouter(route_class=DirectRoute)

    @router.post("/things/{thing_id}/parts", dependencies=[Depends(require("write"))], response_model=Receipt)
    async def store(request: Request) -> Response: ...

    Shortcuts.before(app, router)  # once the app has all its routes
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send


class DirectRoute(APIRoute):
    """A route whose endpoint and dependencies take the request, and nothing else."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        return self.answer

    async def answer(self, request: Request) -> Response:
        for one in self.dependencies:
            assert one.dependency is not None
            await one.dependency(request)
        response: Response = await self.endpoint(request)
        return response


class Shortcuts(BaseRoute):
    """The direct routes of an application, tried before all others. Paths may hold one parameter."""

    def __init__(self, routes: Iterable[DirectRoute]) -> None:
        self._exact: dict[str, DirectRoute] = {}
        self._with_parameter: list[tuple[str, str, str, DirectRoute]] = []
        for route in routes:
            before, opening, rest = route.path.partition("{")
            name, _, after = rest.partition("}")
            if opening:
                self._with_parameter.append((before, after, name, route))
            else:
                self._exact[route.path] = route

    @classmethod
    def before(cls, app: FastAPI, *routers: APIRouter) -> None:
        found = [route for router in routers for route in router.routes if isinstance(route, DirectRoute)]
        app.router.routes.insert(0, cls(found))

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        # Anything out of the ordinary takes the ordinary way, which knows how to refuse it.
        if scope["type"] != "http" or scope.get("root_path"):
            return Match.NONE, {}
        path: str = scope["path"]
        route, parameters = self._exact.get(path), {}
        if route is None:
            for before, after, name, candidate in self._with_parameter:
                value = path[len(before) : len(path) - len(after)]
                if path.startswith(before) and path.endswith(after) and value and "/" not in value:
                    route, parameters = candidate, {name: value}
                    break
        if route is None or scope["method"] not in route.methods:
            return Match.NONE, {}
        return Match.FULL, {"direct_route": route, "path_params": parameters}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        route: DirectRoute = scope["direct_route"]
        response = await route.answer(Request(scope, receive, send))
        await response(scope, receive, send)
