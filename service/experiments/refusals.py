"""Errors on the gateway's face: OpenAI's shape, so that OpenAI's clients raise their own exceptions.

{"error": {"message", "type", "code", "param"}}

GatewayError
├── BadRequest          400  what the caller sent cannot be read
├── ModelNotFound       404  neither an experiment nor an upstream
└── UpstreamError       the model did not answer
    ├── Unreachable        502  no connection, or it broke before the first byte
    ├── TooSlow            504  a time-out
    ├── Saturated          503  as many calls as allowed are under way there
    ├── Overloaded         429 or 5xx of the upstream, passed on
    ├── Misconfigured      502  the upstream refuses the gateway itself, redirects, or its key is missing
    ├── Garbled            502  the answer is not what the protocol says
    └── Refused            4xx of the upstream about this request, passed on with its own words
"""

from __future__ import annotations

from typing import Any, ClassVar


class GatewayError(Exception):
    """Ends a call. `status` and `code` go to the caller and into the record."""

    status: int = 500
    type: ClassVar[str] = "server_error"
    code: str = "gateway_error"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    @property
    def body(self) -> dict[str, Any]:
        return error_body(self.message, self.type, self.code, self.param)

    @property
    def headers(self) -> dict[str, str]:
        return {}


def error_body(message: str, kind: str, code: str, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "code": code, "param": param}}


class BadRequest(GatewayError):
    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class ModelNotFound(GatewayError):
    status = 404
    type = "invalid_request_error"
    code = "model_not_found"


class UpstreamError(GatewayError):
    """`retry`: the same arm may be tried again. `fall_back`: the declared safe model may answer."""

    type = "upstream_error"
    retry: ClassVar[bool] = False
    fall_back: ClassVar[bool] = True


class Unreachable(UpstreamError):
    status = 502
    code = "upstream_unreachable"
    retry = True


class TooSlow(UpstreamError):
    status = 504
    code = "upstream_timeout"


class Saturated(UpstreamError):
    status = 503
    code = "upstream_saturated"

    @property
    def headers(self) -> dict[str, str]:
        return {"retry-after": "1"}


class Overloaded(UpstreamError):
    code = "upstream_overloaded"
    retry = True

    def __init__(self, message: str, status: int, retry_after: str | None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        if status == 429:
            self.code = "upstream_rate_limited"

    @property
    def headers(self) -> dict[str, str]:
        return {"retry-after": self.retry_after} if self.retry_after else {}


class Misconfigured(UpstreamError):
    status = 502
    code = "upstream_misconfigured"


class Garbled(UpstreamError):
    status = 502
    code = "upstream_garbled"
    retry = True


class Refused(UpstreamError):
    code = "upstream_refused"
    fall_back = False

    def __init__(self, message: str, status: int, said: Any) -> None:
        super().__init__(message)
        self.status = status
        self._said = said

    @property
    def body(self) -> dict[str, Any]:
        """The upstream's own words where they have the shape, else ours."""
        error = self._said.get("error") if isinstance(self._said, dict) else None
        if not isinstance(error, dict) or not isinstance(error.get("message"), str):
            return super().body
        parts = {name: error.get(name) for name in ("type", "code", "param")}
        return {"error": {"message": error["message"], **parts, "type": parts["type"] or "invalid_request_error"}}
