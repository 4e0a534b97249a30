"""The one place that talks HTTP: a request in, an answer or a Tunescope error out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import msgspec

from tunescope._exceptions import ApiError, ConnectionFailed, TunescopeError
from tunescope._values import to_plain

__all__ = ["Transport", "path"]

JSON = "application/json"
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def path(*parts: str) -> str:
    """A path from its parts, each escaped, so that no part can reach another route."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


class Transport:
    """Keep-alive connections to one service. May be used from several threads."""

    def __init__(self, url: str, api_key: str | None = None, *, timeout: float = 30.0) -> None:
        self.url = url.rstrip("/")
        try:
            host = httpx2.URL(self.url).host
        except httpx2.InvalidURL as error:
            raise TunescopeError(f"'{url}' is not a URL: {error}") from error
        if not host or not self.url.startswith(("http://", "https://")):
            raise TunescopeError(f"'{url}' is not the URL of a service: write http://host:port or https://host.")
        self._http = httpx2.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx2.Timeout(timeout, connect=min(timeout, 5.0)),
            # A little under the five seconds servers commonly keep an idle connection, so that they never close
            # one that is just being used.
            limits=httpx2.Limits(max_connections=16, keepalive_expiry=4.0),
            # A proxy set for the outside world is not the way to this machine.
            trust_env=host not in LOOPBACK,
        )

    def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        content: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> httpx2.Response:
        """Send one request; raise `ConnectionFailed` or `ApiError` for anything that is not a success or a 304."""
        sent = dict(headers or {})
        if json is not None:
            content = msgspec.json.encode(json, enc_hook=to_plain)
            sent["Content-Type"] = JSON
        extra: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
        try:
            response = self._http.request(method, path, params=_query(params), content=content, headers=sent, **extra)
        except httpx2.TimeoutException as error:
            raise ConnectionFailed(f"{self.url} did not answer in time ({method} {path}).") from error
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise ConnectionFailed(f"Cannot reach Tunescope at {self.url}: {error or type(error).__name__}.") from error
        if response.status_code == 304 or response.is_success:
            return response
        raise api_error(response)

    def download(self, path: str, file: Path) -> None:
        """Write an answer of any size into a file, as it comes."""
        try:
            with self._http.stream("GET", path) as response:
                if not response.is_success:
                    response.read()
                    raise api_error(response)
                with file.open("wb") as target:
                    for piece in response.iter_bytes():
                        target.write(piece)
        except httpx2.TimeoutException as error:
            raise ConnectionFailed(f"{self.url} did not answer in time (GET {path}).") from error
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise ConnectionFailed(f"Cannot reach Tunescope at {self.url}: {error or type(error).__name__}.") from error

    def json(self, method: str, path: str, **options: Any) -> Any:
        """Send, and read the answer as JSON."""
        response = self.send(method, path, **options)
        try:
            return msgspec.json.decode(response.content)
        except msgspec.DecodeError as error:
            raise ApiError(
                response.status_code,
                "not_json",
                f"{self.url} did not answer in JSON: is it a Tunescope service?",
                response.text[:200],
            ) from error

    def close(self) -> None:
        self._http.close()


def api_error(response: httpx2.Response) -> ApiError:
    """What a refusal says. An answer in another shape (a proxy's page) is quoted."""
    status = response.status_code
    try:
        error = msgspec.json.decode(response.content)["error"]
        return ApiError(status, str(error["code"]), str(error["message"]), error.get("details"))
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        pass
    if response.is_redirect:
        return ApiError(status, "redirect", f"The service points to {response.headers.get('location')}: use that URL.")
    return ApiError(status, "http_error", f"{response.reason_phrase or 'The request failed'}: {response.text[:200]}")


def _query(params: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Query parameters: absent ones left out, lists repeated, booleans as the service reads them."""
    pairs: list[tuple[str, str]] = []
    for name, value in (params or {}).items():
        values = value if isinstance(value, list | tuple) else [value]
        pairs += [(name, str(v).lower() if isinstance(v, bool) else str(v)) for v in values if v is not None]
    return pairs
