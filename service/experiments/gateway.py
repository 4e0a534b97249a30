"""The OpenAI-compatible face: a caller changes its base URL and asks for the model `exp:<key>`.

No validation models and no SQL on the way to the model: the snapshot is in memory, and a key that was good a
moment ago is good now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from service.dependencies import get_settings
from service.direct import DirectRoute
from service.errors import ServiceError, Unauthorized
from service.experiments.admission import ADMITTED, limited_body
from service.experiments.assignment import MOST_UNIT_CHARACTERS, LiveExperiment, assign
from service.experiments.endpoints import CHAT, COMPLETIONS, EMBEDDINGS, Endpoint
from service.experiments.refusals import BadRequest, GatewayError, ModelNotFound, error_body
from service.experiments.relay import Call, Relay
from service.experiments.snapshot import Snapshot
from service.experiments.traffic import get_traffic
from service.store.tables import new_id

PATH = "/v1/"
PREFIX = "exp:"


class OpenAIRoute(DirectRoute):
    """Every error of these routes in OpenAI's shape."""

    async def answer(self, request: Request) -> Response:
        try:
            return await super().answer(request)
        except GatewayError as error:
            return JSONResponse(error.body, error.status, headers=error.headers)
        except ServiceError as error:
            kind = "authentication_error" if isinstance(error, Unauthorized) else "invalid_request_error"
            return JSONResponse(error_body(error.message, kind, error.code), error.status)


def openai_error(status: int, code: str, message: str, details: dict[str, Any] | None) -> dict[str, Any]:
    """What the routes never get to see, such as a path that is not there, in OpenAI's shape too."""
    return error_body(message, "server_error" if status >= 500 else "invalid_request_error", code)


router = APIRouter(tags=["gateway"], route_class=OpenAIRoute, dependencies=ADMITTED)


@router.post("/v1/chat/completions", response_class=Response)
async def chat_completions(request: Request) -> Response:
    """OpenAI's chat completions, streamed or whole, by the arm that the caller's unit is in."""
    return await _relay(CHAT, request)


@router.post("/v1/completions", response_class=Response)
async def completions(request: Request) -> Response:
    """OpenAI's completions of a text, streamed or whole, by the arm that the caller's unit is in."""
    return await _relay(COMPLETIONS, request)


@router.post("/v1/embeddings", response_class=Response)
async def embeddings(request: Request) -> Response:
    """OpenAI's embeddings, by the arm that the caller's unit is in; never by the fallback, whose vectors are others."""
    return await _relay(EMBEDDINGS, request)


async def _relay(endpoint: Endpoint, request: Request) -> Response:
    traffic = get_traffic(request)
    body = read_body(endpoint, await limited_body(request, get_settings(request).max_prompt_bytes))
    call = route(endpoint, body, request.headers, traffic.snapshots.current)
    return Relay(call, traffic.upstreams, traffic.recorder)


@router.get("/v1/models", response_class=Response)
async def models(request: Request) -> Response:
    """Experiments as `exp:<key>`, and the upstreams by name."""
    snapshot = get_traffic(request).snapshots.current
    names = [(f"{PREFIX}{key}", 0.0) for key in snapshot.experiments]
    names += [(upstream.name, upstream.created_at) for upstream in snapshot.upstreams.values()]
    data = [{"id": name, "object": "model", "created": int(at), "owned_by": "tunescope"} for name, at in names]
    return Response(orjson.dumps({"object": "list", "data": data}), media_type="application/json")


def read_body(endpoint: Endpoint, raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is no JSON: {error}.") from None
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.")
    if not isinstance(body.get("model"), str):
        raise BadRequest("'model' must be 'exp:<experiment>' or the name of an upstream.", param="model")
    if not isinstance(body.get(endpoint.asks), endpoint.kinds):
        kinds = "a list" if endpoint.kinds == (list,) else "a text or a list"
        raise BadRequest(f"'{endpoint.asks}' must be {kinds}.", param=endpoint.asks)
    return body


def route(endpoint: Endpoint, body: dict[str, Any], headers: Mapping[str, str], snapshot: Snapshot) -> Call:
    """Who answers this body.

    Raises:
        ModelNotFound, BadRequest
    """
    model, stream = body["model"], endpoint.streams and body.get("stream") is True
    options = body.get("stream_options") if isinstance(body.get("stream_options"), dict) else {}
    strip_usage = stream and not (options or {}).get("include_usage")
    if strip_usage:
        body = body | {"stream_options": {**(options or {}), "include_usage": True}}
    request_id, unit_id = new_id(), unit_of(body, headers)
    if not model.startswith(PREFIX):
        upstream = snapshot.upstreams.get(model)
        if upstream is None:
            raise _unknown(model)
        return Call(endpoint, request_id, body, stream, strip_usage, upstream, unit_id=unit_id)
    experiment = snapshot.experiments.get(model.removeprefix(PREFIX))
    if experiment is None:
        raise _unknown(model)
    assignment = assign(experiment, unit_id, attributes_of(body, unit_id))
    upstream = snapshot.upstreams.get(assignment.variant.upstream or "")
    if upstream is None:
        raise _no_upstream(experiment, assignment.variant.key)
    fallback = snapshot.upstreams.get(experiment.fallback_upstream or "") if endpoint.may_fall_back else None
    return Call(endpoint, request_id, body, stream, strip_usage, upstream, fallback, experiment, assignment, unit_id)


def unit_of(body: Mapping[str, Any], headers: Mapping[str, str]) -> str | None:
    """The `X-Unit-Id` header, else `user`, else `metadata.session_id`."""
    metadata = body.get("metadata")
    session = metadata.get("session_id") if isinstance(metadata, dict) else None
    for unit in (headers.get("x-unit-id"), body.get("user"), session):
        if isinstance(unit, str) and unit:
            if len(unit) > MOST_UNIT_CHARACTERS or "\x00" in unit:
                raise BadRequest(f"A unit id has at most {MOST_UNIT_CHARACTERS} characters and no NUL.", param="user")
            return unit
    return None


def attributes_of(body: Mapping[str, Any], unit_id: str | None) -> dict[str, Any]:
    metadata = body.get("metadata")
    return {**(metadata if isinstance(metadata, dict) else {}), "unit_id": unit_id}


def _unknown(model: str) -> ModelNotFound:
    return ModelNotFound(f"There is no model '{model}': see GET /v1/models.", param="model")


def _no_upstream(experiment: LiveExperiment, variant: str) -> BadRequest:
    return BadRequest(
        f"The variant '{variant}' of '{experiment.key}' names no upstream, so the gateway cannot answer for it. Ask "
        "OFREP or tunescope.Assigner which variant a unit gets, or make an experiment whose variants name upstreams.",
        param="model",
    )
