"""The application with its direct routes in front: they are answered before FastAPI's middleware.

What FastAPI and Starlette put around every request (telemetry, error pages, limits, exit stacks; each wraps `send` once
more) costs a call through the gateway more than to decide and to route it. A direct route needs none of it while all
goes well. What it raises takes the ordinary way, where the handlers of errors are.
"""

from __future__ import annotations

from fastapi import APIRouter, FastAPI, Request
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from service.direct import DirectRoute, Shortcuts

RAISED = "tunescope.raised"


class Application(FastAPI):
    """FastAPI, with `put_first` for direct routes. Middleware that is added does not see these."""

    _first: Shortcuts | None = None

    def put_first(self, *routers: APIRouter) -> None:
        """Once the application has all its routes."""
        Shortcuts.before(self, *routers)
        first = self.router.routes[0]
        assert isinstance(first, Shortcuts)
        self._first = first
        self.router.routes.insert(0, _Raised())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._first is not None and scope["type"] == "http":
            match, more = self._first.matches(scope)
            if match is Match.FULL:
                scope.update(more, app=self)
                route: DirectRoute = more["direct_route"]
                try:
                    response = await route.answer(Request(scope, receive, send))
                except Exception as error:
                    scope[RAISED] = error
                else:
                    await response(scope, receive, send)
                    return
        await super().__call__(scope, receive, send)


class _Raised(BaseRoute):
    """Raises again what a direct route raised, where the ordinary routes are."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return (Match.FULL if RAISED in scope else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        error: Exception = scope[RAISED]
        raise error
