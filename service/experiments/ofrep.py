"""The OpenFeature face (OFREP 0.3): any OpenFeature client asks which arm a unit is in.

A flag is an experiment, its value the arm's value (the arm's key, where the plan gives none). Asking for one flag is an
exposure. Asking for all of them is not: clients that fetch all flags beforehand report what they used to
`/api/v1/events`; variant and phase are in the metadata.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from service.direct import DirectRoute
from service.errors import Invalid, NotFound
from service.experiments.admission import ADMITTED, limited_body
from service.experiments.assignment import MOST_UNIT_CHARACTERS, Assignment, LiveExperiment, Reason, assign
from service.experiments.events import Exposed
from service.experiments.traffic import Traffic, get_traffic

PATH = "/ofrep/"
MOST_CONTEXT_BYTES = 2**20
# Of the reasons that OFREP names, those that its clients know.
_REASONS: dict[Reason, str] = {
    "assigned": "SPLIT",
    "forced": "TARGETING_MATCH",
    "not_running": "DISABLED",
    "decided": "STATIC",
    "not_targeted": "STATIC",
    "not_covered": "STATIC",
    "holdout": "STATIC",
}
_CODES = {"TARGETING_KEY_MISSING", "FLAG_NOT_FOUND", "INVALID_CONTEXT", "PARSE_ERROR"}

# What OpenAPI says of a face that reads its bodies by itself.
_CONTEXT = {
    "type": "object",
    "description": "`targetingKey` is the unit; all else are attributes to target by.",
    "properties": {"targetingKey": {"type": "string"}},
}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "object", "properties": {"context": _CONTEXT}},
                "example": {"context": {"targetingKey": "user-17", "plan": "pro"}},
            }
        },
    }
}

_KEY = {"parameters": [{"name": "key", "in": "path", "required": True, "schema": {"type": "string"}}]}

router = APIRouter(tags=["experiments"], route_class=DirectRoute, dependencies=ADMITTED)


class FlagNotFound(NotFound):
    code = "FLAG_NOT_FOUND"


class TargetingKeyMissing(Invalid):
    code = "TARGETING_KEY_MISSING"


class InvalidContext(Invalid):
    code = "INVALID_CONTEXT"


class Unreadable(Invalid):
    code = "PARSE_ERROR"


def error_body(status: int, code: str, message: str, details: dict[str, Any] | None) -> dict[str, Any]:
    """OFREP's error: clients fail on one that lacks `errorDetails`, or names a code they do not know."""
    key = {"key": details["key"]} if details and "key" in details else {}
    return key | {"errorCode": code if code in _CODES else "GENERAL", "errorDetails": message}


@router.post("/ofrep/v1/evaluate/flags/{key}", response_class=Response, openapi_extra=_BODY | _KEY)
async def evaluate_flag(request: Request) -> Response:
    """The arm of one unit in one experiment, for OpenFeature clients; a unit that counts is recorded as exposed."""
    key, traffic = request.path_params["key"], get_traffic(request)
    named = {"key": key}
    experiment = traffic.snapshots.current.experiments.get(key)
    if experiment is None:
        raise FlagNotFound(f"There is no experiment '{key}'; GET /api/v1/experiments lists them.", details=named)
    unit_id, attributes = read_context(await limited_body(request, MOST_CONTEXT_BYTES), named)
    assignment = assign(experiment, unit_id, attributes)
    if assignment.recorded is not None:
        expose(traffic, experiment, unit_id, assignment)
    return Response(orjson.dumps(flag(experiment, assignment)), media_type="application/json")


@router.post("/ofrep/v1/evaluate/flags", response_class=Response, openapi_extra=_BODY)
async def evaluate_flags(request: Request) -> Response:
    """The arms of one unit in all experiments; with If-None-Match, 304 while they are the same. No exposure: report
    the flags that were used to `/api/v1/events`."""
    unit_id, attributes = read_context(await limited_body(request, MOST_CONTEXT_BYTES), {})
    experiments = get_traffic(request).snapshots.current.experiments.values()
    flags = [flag(experiment, assign(experiment, unit_id, attributes)) for experiment in experiments]
    body = orjson.dumps({"flags": flags})
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"etag": etag, "cache-control": "no-cache"}
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if etag in known:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def read_context(raw: bytes, named: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The unit and its attributes. `named` goes into the errors.

    Raises:
        Unreadable, InvalidContext, TargetingKeyMissing
    """
    try:
        body = orjson.loads(raw or b"{}")
    except orjson.JSONDecodeError as error:
        raise Unreadable(f"The body is no JSON: {error}.", details=named) from None
    context = body.get("context", {}) if isinstance(body, dict) else None
    if not isinstance(context, dict):
        raise InvalidContext('Send {"context": {"targetingKey": "…", …}}: an object in an object.', details=named)
    unit_id = context.get("targetingKey")
    if unit_id is None or unit_id == "":
        raise TargetingKeyMissing("The context needs a targetingKey: the unit that is assigned.", details=named)
    if not isinstance(unit_id, str) or len(unit_id) > MOST_UNIT_CHARACTERS or "\x00" in unit_id:
        message = f"A targetingKey is a text of at most {MOST_UNIT_CHARACTERS} characters without NUL."
        raise InvalidContext(message, details=named)
    return unit_id, context | {"unit_id": unit_id}


def flag(experiment: LiveExperiment, assignment: Assignment) -> dict[str, Any]:
    """The arm as OFREP's answer."""
    return {
        "key": experiment.key,
        "value": value_of(experiment, assignment.variant.key),
        "reason": _REASONS[assignment.reason],
        "variant": assignment.variant.key,
        "metadata": {"phase": experiment.phase, "counted": assignment.counted, "assignment": assignment.reason},
    }


def value_of(experiment: LiveExperiment, variant: str) -> Any:
    """The value of an arm. A flag has one type in all arms: where one arm has 0.5, another's 1 is sent as 1.0."""
    values: Mapping[str, Any] = {arm.key: arm.key if arm.value is None else arm.value for arm in experiment.variants}
    value = values[variant]
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in values.values())
    return float(value) if numbers and any(isinstance(one, float) for one in values.values()) else value


def expose(traffic: Traffic, experiment: LiveExperiment, unit_id: str, assignment: Assignment) -> None:
    """Record that the unit met its arm, once for as long as this process remembers it."""
    variant = assignment.recorded or assignment.variant.key
    if traffic.met.first((experiment.id, experiment.phase, unit_id)):
        traffic.recorder.record(Exposed(experiment.id, experiment.phase, unit_id, variant, time.time()))
