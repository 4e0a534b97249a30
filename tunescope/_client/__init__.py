"""`Client`: every route of the service as a thin method. Answers are the JSON of the service, as dictionaries.

A file here has the routes of one feature.
"""

from __future__ import annotations

from typing import Self

from tunescope import _settings
from tunescope._client.artifacts import Artifacts
from tunescope._client.calls import Json
from tunescope._client.deleting import Deleting
from tunescope._client.evaluation import Evaluation
from tunescope._client.experiments import Experiments
from tunescope._client.files import Files
from tunescope._client.forgetting import Forgetting
from tunescope._client.metrics import Metrics
from tunescope._client.models import Models
from tunescope._client.quality import Quality
from tunescope._client.review import Reviews
from tunescope._client.runs import Runs
from tunescope._client.sent import Sent
from tunescope._transport import Transport

__all__ = ["Client", "Json"]


class Client(Runs, Metrics, Files, Artifacts, Deleting, Models, Evaluation, Reviews, Quality, Forgetting, Experiments):
    """A connection to a Tunescope service.

    `url` and `api_key` default to `TUNESCOPE_URL` and `TUNESCOPE_API_KEY`. Every method raises `ConnectionFailed`
    when the service does not answer and `ApiError` when it refuses. A client may be used from several threads.
    Lists answer `{"items": [...], "next_cursor": str | None}`: pass `next_cursor` back as `cursor` for more.
    """

    def __init__(self, url: str | None = None, api_key: str | None = None, *, timeout: float = 30.0) -> None:
        self._transport = Transport(url or _settings.url(), api_key or _settings.api_key(), timeout=timeout)
        self._sent = Sent()

    @property
    def url(self) -> str:
        return self._transport.url

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def health(self) -> Json:
        """Is the service up? Raises `ConnectionFailed` if not."""
        answer: Json = self._transport.json("GET", "/healthz")
        return answer
