"""Requests and answers on MLflow's face: bytes to checked structs and back.

A request is a `msgspec.Struct`. Fields without a default are required; text that must not be empty is `Text`;
whole numbers are `Int64`; unknown fields are ignored. Numbers may come as text, and NaN and infinities do.

    class GetThing(msgspec.Struct):
        name: wire.Text
        max_results: wire.Int64 = 100

    @router.get("/things/get", dependencies=READ)
    def get_thing(given: Annotated[GetThing, wire.message(GetThing)], session: ReadSession) -> Response:
        return wire.answer({"thing": ...})
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar, get_args, get_origin

import msgspec
import orjson
from fastapi import Depends, Request, Response

from service.dependencies import get_settings
from service.errors import TooLarge
from service.tracking.mlflow.errors import InvalidParameterValue

Text = Annotated[str, msgspec.Meta(min_length=1)]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Message = TypeVar("Message", bound=msgspec.Struct)

MISSING = "Missing value for required parameter '{}'."
_HINT = " See the API docs for more information about request parameters."
_AT = re.compile(r" - at `\$\.?([^`]*)`$")
_ABSENT = re.compile(r"Object missing required field `([^`]*)`")


class RunRequest(msgspec.Struct):
    """A request about one run; old clients call the id `run_uuid`."""

    run_id: str = ""
    run_uuid: str = ""

    def __post_init__(self) -> None:
        self.run_id = self.run_id or self.run_uuid
        if not self.run_id:
            raise ValueError("Object missing required field `run_id`")


def message(shape: type[Message]) -> Any:
    """A dependency that reads the request as `shape`."""
    return Depends(reader(shape))


def reader(shape: type[Message]) -> Callable[[Request], Awaitable[Message]]:
    """What reads a request, from its body or (GET) its query, as `shape`."""
    decode = msgspec.json.Decoder(shape, strict=False).decode
    lists = {field.encode_name for field in msgspec.structs.fields(shape) if _is_list(field.type)}

    async def read(request: Request) -> Message:
        if request.method == "GET" and request.query_params:
            query = request.query_params
            given = {key: query.getlist(key) if key in lists else query[key] for key in query}
            return convert(given, shape)
        raw = await body(request)
        if raw and request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise InvalidParameterValue("Bad Request. Content-Type must be one of ['application/json'].")
        try:
            return decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            # What is rare takes the long way: two layers of JSON, nulls, a bare NaN, or a fault to be named.
            return convert(_forgiving(raw), shape)

    return read


async def body(request: Request) -> bytes:
    """The whole body.

    Raises:
        TooLarge: it is larger than the service reads.
    """
    limit = get_settings(request).max_body_bytes
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise TooLarge(f"The body is larger than the limit of {limit:,} bytes (TUNESCOPE_MAX_BODY_BYTES).")
        parts.append(part)
    return b"".join(parts)


def convert(given: Any, shape: type[Message]) -> Message:
    """`given` as `shape`.

    Raises:
        InvalidParameterValue: the first fault, in MLflow's words.
    """
    try:
        return msgspec.convert(given, shape, strict=False)
    except msgspec.ValidationError as error:
        raise _fault(str(error), given) from None


def _forgiving(raw: bytes) -> Any:
    try:
        given = json.loads(raw or b"{}")
        if isinstance(given, str):  # old clients encode twice
            given = json.loads(given)
    except ValueError as error:
        raise InvalidParameterValue(f"The request's body is no JSON: {error}.") from None
    return _without_nulls(given)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _fault(text: str, given: Any) -> InvalidParameterValue:
    """msgspec's error as MLflow would put it: a missing parameter by its full path, a wrong one by its first name."""
    found = _AT.search(text)
    path = found.group(1) if found else ""
    absent = _ABSENT.match(text)
    if absent or " of length >= 1" in text:
        whole = ".".join(part for part in (path, absent.group(1) if absent else "") if part)
        return InvalidParameterValue(MISSING.format(whole) + _HINT)
    name = re.split(r"[.\[]", path)[0]
    if not isinstance(given, dict) or name not in given:
        return InvalidParameterValue(f"The request cannot be read: {text}." + _HINT)
    kind = f" Hint: Value was of type '{type(given[name]).__name__}'."
    return InvalidParameterValue(invalid_value(name, given[name], kind) + _HINT)


def invalid_value(path: str, value: Any, reason: str = "") -> str:
    """MLflow's words for a value that is not allowed."""
    shown = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return f"Invalid value {shown} for parameter '{path}' supplied" + (f": {reason}" if reason else ".")


def answer(fields: dict[str, Any] | None = None, status: int = 200) -> Response:
    """A JSON answer. Members that are None are left out; NaN and infinities have to be in it by name."""
    shown = {key: value for key, value in (fields or {}).items() if value is not None}
    return Response(orjson.dumps(shown), status_code=status, media_type="application/json")


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _is_list(kind: Any) -> bool:
    return get_origin(kind) is list or any(_is_list(inner) for inner in get_args(kind))
