"""The one error shape: `{"error": {"code", "message", "details"}}`.

An error is a class with a status and a code, kept beside the code that raises it. Its message says what
was wrong, where, and what to do.

    ServiceError
    ├── Invalid        400
    ├── Unauthorized   401
    ├── Forbidden      403
    ├── NotFound       404
    ├── Conflict       409
    ├── TooLarge       413
    └── Unavailable    503

Faces that speak another protocol answer in its shape: `install` takes theirs by path.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError, InterfaceError, InternalError, OperationalError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

# What a full or read-only disk says.
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
# Status, code, message and details to the body of an answer.
Shape = Callable[[int, str, str, dict[str, Any] | None], dict[str, Any]]


class ServiceError(Exception):
    """A refusal a person can act on."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class Invalid(ServiceError):
    status = 400
    code = "invalid"


class Unauthorized(ServiceError):
    status = 401
    code = "unauthorized"


class Forbidden(ServiceError):
    status = 403
    code = "forbidden"


class NotFound(ServiceError):
    status = 404
    code = "not_found"


class Conflict(ServiceError):
    status = 409
    code = "conflict"


class TooLarge(ServiceError):
    status = 413
    code = "too_large"


class Unavailable(ServiceError):
    status = 503
    code = "unavailable"


def error_response(
    request: Request,
    status: int,
    code: str,
    message: str,
    details: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    shapes: Mapping[str, Shape] = request.app.state.error_shapes
    path = request.url.path
    shape = next((shape for prefix, shape in shapes.items() if path.startswith(prefix)), _shape)
    return JSONResponse(shape(status, code, message, details), status_code=status, headers=headers)


def _shape(status: int, code: str, message: str, details: dict[str, Any] | None) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "details": details}}


def _service_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ServiceError)
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
    return error_response(request, error.status, error.code, error.message, error.details, headers)


def _invalid_request(request: Request, error: Exception) -> JSONResponse:
    """Say in one sentence what the first fault is; list all of them in `details`."""
    assert isinstance(error, RequestValidationError)
    faults = [{"where": _place(fault["loc"]), "what": fault["msg"]} for fault in error.errors()]
    first = faults[0] if faults else {"where": "body", "what": "not readable"}
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    message = f"{first['where']}: {first['what']}{more}."
    return error_response(request, 400, "invalid_request", message, {"faults": faults})


def _place(location: tuple[int | str, ...]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return path.lstrip(".") or "request"


def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    route = f"{request.method} {request.url.path}"
    if error.status_code == 404:
        message = f"There is no route {route}; /docs lists them all."
        return error_response(request, 404, "no_such_route", message, {"route": route})
    if error.status_code == 405:
        message = f"{route} is not allowed; /docs says which methods are."
        return error_response(request, 405, "method_not_allowed", message, headers=dict(error.headers or {}))
    headers = dict(error.headers or {})
    return error_response(request, error.status_code, "http_error", str(error.detail), headers=headers)


def _impossible_value(request: Request, error: Exception) -> JSONResponse:
    """A zero byte in text, an integer beyond 64 bits: what JSON and URLs can say and no database can hold."""
    cause = str(getattr(error, "orig", None) or error).splitlines()[0]
    message = f"A value of the request cannot be stored or looked up: {cause}."
    return error_response(request, 400, "impossible_value", message)


def _statement_error(request: Request, error: Exception) -> JSONResponse:
    """A value that SQLAlchemy could not bind: it wraps what went wrong."""
    assert isinstance(error, StatementError)
    if isinstance(error.orig, OverflowError):
        return _impossible_value(request, error)
    raise error


def _storage_away(request: Request, error: Exception) -> JSONResponse:
    """The database does not answer or does not write: away, locked, read-only, its disk full."""
    cause = str(getattr(error, "orig", None) or error).splitlines()[0]
    message = f"The database did not take this: {cause}. Nothing of it is stored; send it again later."
    return error_response(request, 503, "storage_unavailable", message)


def _disk_refuses(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OSError)
    if error.errno not in _DISK:
        raise error
    message = f"The artifact store cannot write: {error.strerror}. Nothing of it is stored; send it again later."
    return error_response(request, 503, "storage_unavailable", message)


def install(app: FastAPI, shapes: Mapping[str, Shape] | None = None) -> None:
    """Answer errors in the one shape, and below the path prefixes of `shapes` in theirs."""
    app.state.error_shapes = shapes or {}
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(DataError, _impossible_value)
    app.add_exception_handler(OverflowError, _impossible_value)
    app.add_exception_handler(StatementError, _statement_error)
    # InternalError: what PostgreSQL says when it may only be read (a standby).
    for away in (OperationalError, InterfaceError, InternalError, PoolTimeout):
        app.add_exception_handler(away, _storage_away)
    app.add_exception_handler(OSError, _disk_refuses)
