"""Errors on MLflow's face: its shape and its codes, so that its clients raise their own exceptions.

{"error_code", "message"}

    MlflowError
    ├── InvalidParameterValue   400  what was sent cannot be
    ├── ResourceAlreadyExists   400  (MLflow's own choice of status)
    ├── ResourceDoesNotExist    404
    └── InvalidState            409  the thing is not in a state that allows it (MLflow's own server says 500)

Clients retry 408, 429, 500, 502, 503 and 504 for four minutes, whatever the method: a refusal that would be the
same again must not carry one of these.
"""

from __future__ import annotations

import re
from typing import Any

from service.errors import ServiceError

PREFIXES = ("/api/2.0/", "/api/3.0/", "/ajax-api/", "/get-artifact", "/v1/traces")


class MlflowError(ServiceError):
    """A refusal in MLflow's words; `code` is its error code."""


class InvalidParameterValue(MlflowError):
    status = 400
    code = "INVALID_PARAMETER_VALUE"


class ResourceAlreadyExists(MlflowError):
    status = 400
    code = "RESOURCE_ALREADY_EXISTS"


class ResourceDoesNotExist(MlflowError):
    status = 404
    code = "RESOURCE_DOES_NOT_EXIST"


class InvalidState(MlflowError):
    status = 409
    code = "INVALID_STATE"


# Errors raised by what the face shares with the rest of the service: only their status says what MLflow calls them.
_BY_STATUS = {
    400: "INVALID_PARAMETER_VALUE",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    405: "BAD_REQUEST",
    409: "RESOURCE_CONFLICT",
    413: "BAD_REQUEST",
    429: "REQUEST_LIMIT_EXCEEDED",
    501: "NOT_IMPLEMENTED",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


# Parts of the protocol that are not spoken: what a path names, and what clients' users call it.
_NOT_SPOKEN = (
    (re.compile(r"/(traces|unified-traces)\b"), "traces (mlflow.trace, mlflow.genai.evaluate, search_traces)"),
    (re.compile(r"/mlflow/datasets\b"), "evaluation data sets (mlflow.genai.datasets)"),
    (re.compile(r"/mlflow/scorers\b"), "registered scorers"),
    (re.compile(r"/mlflow/webhooks\b"), "MLflow's webhooks (this service has its own: /api/v1/webhooks)"),
    (re.compile(r"/mlflow/gateway\b"), "MLflow's gateway (this service has its own: /v1/chat/completions)"),
)
_SPOKEN = "runs, experiments, metrics, artifacts, the model registry, prompts and logged models"


def body(status: int, code: str, message: str, details: dict[str, Any] | None) -> dict[str, Any]:
    """The answer to a request on one of `PREFIXES` that failed, whoever refused it."""
    if code == "no_such_route":
        # By this code clients fall back to an older route of the same purpose.
        code = "ENDPOINT_NOT_FOUND"
        route = (details or {}).get("route", "")
        family = next((name for path, name in _NOT_SPOKEN if path.search(route)), None)
        what = f"does not keep {family}" if family else "does not know this call"
        message = f"Tunescope {what}: {route}. Of MLflow's protocol it speaks {_SPOKEN}."
    elif not code.isupper():
        code = _BY_STATUS.get(status, "INTERNAL_ERROR")
    return {"error_code": code, "message": message}
