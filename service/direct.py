"""Routes for what trainers send thousands of times: found by a dictionary, answered by a plain function.

FastAPI looks through its routes in order, twice for those of a router, solves what an endpoint depends on, and checks
what it answers. For one metric that costs more than to store it. What it and Starlette put around every request
(telemetry, error pages, limits, exit stacks; each wraps `send` once more) costs a call through the gateway more than to
decide and to route it. A direct route is declared like any other, with its docs and dependencies, but its endpoint
takes the request and gives the answer, and so do its dependencies; an `Application` answers it before all that:

    router = APIRouter(route_class=DirectRoute)

    @router.post("/things/{thing_id}/parts", dependencies=[Depends(require("write"))], response_model=Receipt)
    async def store(request: Request) -> Response: ...

    app.include_router(router)
    app.put_first(router)  # once the app has all its routes
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

RAISED = "tunescope.raised"


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


class Application(FastAPI):
    """FastAPI, with direct routes in front. Middleware that is added does not see these.

    What a direct route raises takes the ordinary way, where the handlers of errors are.
    """

    _shortcuts: Shortcuts | None = None

    def put_first(self, *routers: APIRouter) -> None:
        """Answer the direct routes of these routers first. Once the application has all its routes."""
        found = [route for router in routers for route in router.routes if isinstance(route, DirectRoute)]
        self._shortcuts = Shortcuts(found)
        self.router.routes.insert(0, _Raised())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._shortcuts.find(scope) if self._shortcuts is not None else None
        if route is not None:
            scope["app"] = self
            try:
                response = await route.answer(Request(scope, receive, send))
            except Exception as error:
                scope[RAISED] = error
            else:
                await response(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


class Shortcuts:
    """Finds direct routes by their paths, which may hold one parameter."""

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

    def find(self, scope: Scope) -> DirectRoute | None:
        """The route of a request, whose parameters are then in `scope`.

        None for anything out of the ordinary: it takes the ordinary way, which knows how to refuse it.
        """
        if scope["type"] != "http" or scope.get("root_path"):
            return None
        path: str = scope["path"]
        route, parameters = self._exact.get(path), {}
        if route is None:
            for before, after, name, candidate in self._with_parameter:
                value = path[len(before) : len(path) - len(after)]
                if path.startswith(before) and path.endswith(after) and value and "/" not in value:
                    route, parameters = candidate, {name: value}
                    break
        if route is None or scope["method"] not in (route.methods or ()):
            return None
        scope["path_params"] = parameters
        return route


class _Raised(BaseRoute):
    """Raises again what a direct route raised, where the ordinary routes are."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return (Match.FULL if RAISED in scope else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        error: Exception = scope[RAISED]
        raise error
