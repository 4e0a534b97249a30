"""Suites, evaluations, comparisons."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Literal

import msgspec

from tunescope import suites
from tunescope._client.calls import API, Calls, Json
from tunescope._exceptions import TunescopeError
from tunescope._transport import path
from tunescope._values import to_plain
from tunescope.suites._records import ITEM, PREDICTION, are_rows

MOST_IN_ONE_BODY = 5_000
LONGEST_QUERY = 50_000
SCORING_SECONDS = 3600.0
JSON_LINES = "application/x-ndjson"


class Evaluation(Calls):
    def create_suite(self, *, items: Any, columns: Mapping[str, str] | None = None, **body: Any) -> Json:
        """Store an evaluation set: `name`, `task_type`, `items`, `metrics` (absent: those usual for the task type), ….
        The same content is the same version.

        `items`: a list of items; or a path (CSV, JSON, JSON lines, Parquet), records, a dictionary of columns, chats or
        a Hugging Face dataset (see `tunescope.suites`), `columns` saying what their fields are called. Any number: they
        are sent as they are read.
        """
        if columns is not None or not are_rows(items, ITEM):
            items = suites.items(items, task_type=body.get("task_type", ""), columns=columns)
        return self._send_rows("suites", "items", items, body)

    def list_suites(self, **params: Any) -> Json:
        return self._get("suites", **params)

    def get_suite(self, suite_id: str) -> Json:
        return self._get("suites", suite_id)

    def suite_items(self, suite_id: str, limit: int | None = None, cursor: str | None = None) -> Json:
        return self._get("suites", suite_id, "items", limit=limit, cursor=cursor)

    def create_evaluation(self, *, predictions: Any, columns: Mapping[str, str] | None = None, **body: Any) -> Json:
        """Score predictions: `suite_id`, `predictions`, and what they belong to (`run_id`, `model_version_id`).

        `predictions`: as `items` of a suite; what they may carry beside an output says `tunescope.suites.predictions`.
        With an `id` of your own (32 hex digits) a call may be repeated after a
        lost answer: nothing is stored twice.
        """
        if columns is not None or not are_rows(predictions, PREDICTION):
            predictions = suites.predictions(predictions, columns=columns)
        return self._send_rows("evaluations", "predictions", predictions, {"id": uuid.uuid4().hex, **body})

    def _send_rows(self, what: str, name: str, rows: Iterable[Any], body: Json) -> Json:
        """Few rows as one JSON body, more as a file of them."""
        some = iter(rows)
        first = list(islice(some, MOST_IN_ONE_BODY + 1))
        if len(first) <= MOST_IN_ONE_BODY:
            return self._post(what, body={**body, name: first})
        params = {key: _query_value(value) for key, value in body.items()}
        if len(str(params)) > LONGEST_QUERY:
            raise TunescopeError("The definition is too long to go with a file: leave `labels` or `template` out.")
        answer: Json = self._transport.json(
            "POST",
            API + path(what, "file"),
            params=params,
            content=_lines(chain(first, some)),
            headers={"Content-Type": JSON_LINES},
            timeout=SCORING_SECONDS,
        )
        return answer

    def list_evaluations(self, **params: Any) -> Json:
        """Filter by `run_id` (one or several), `suite_id`, `suite`, `model_version_id`; page with `limit`, `cursor`."""
        return self._get("evaluations", **params)

    def get_evaluation(self, evaluation_id: str) -> Json:
        return self._get("evaluations", evaluation_id)

    def evaluation_items(self, evaluation_id: str, **params: Any) -> Json:
        """Items with their outputs; filter by `correct`, `tag`, `group`, `true`, `predicted`."""
        return self._get("evaluations", evaluation_id, "items", **params)

    def confusion(self, evaluation_id: str) -> Json:
        return self._get("evaluations", evaluation_id, "confusion")

    def class_scores(self, evaluation_id: str) -> Any:
        """Precision, recall and F1 of each class, each with its interval, the lowest F1 first: `{"items": [...]}`."""
        return self._get("evaluations", evaluation_id, "classes")

    def calibration(self, evaluation_id: str) -> Json:
        """The calibration curve: bins of the answers' probabilities with the share that is right, and the ECE."""
        return self._get("evaluations", evaluation_id, "calibration")

    def slices(self, evaluation_id: str, by: str, metric: str | None = None) -> Any:
        """Scores by `group`, `tag`, `label` or `length`, each with its interval."""
        return self._get("evaluations", evaluation_id, "slices", by=by, metric=metric)

    def compare(
        self,
        baseline: str,
        candidate: str,
        metric: str | None = None,
        margin: float | None = None,
        confidence: float | None = None,
        test: Literal["bootstrap", "randomisation"] | None = None,
    ) -> Json:
        """The verdict card of two evaluations (ids) of one suite: better, worse, equivalent or inconclusive.

        test: of metrics of the whole set, such as BLEU; the paired bootstrap, or approximate randomisation.
        """
        options = {"metric": metric, "margin": margin, "confidence": confidence, "test": test}
        return self._get("comparisons", baseline=baseline, candidate=candidate, **options)

    def compare_several(self, baseline: str, candidates: Sequence[str], **options: Any) -> Json:
        """Evaluations against one baseline: `{"metric", "baseline", "items"}`, a verdict card each.

        Verdicts go by `p_adjusted` (Holm). `options` as in `compare`.
        """
        return self._get("comparisons", "several", baseline=baseline, candidate=list(candidates), **options)

    def compare_configurations(self, baseline: Sequence[str], candidate: Sequence[str], **options: Any) -> Json:
        """Two configurations, each by evaluations of its runs with several seeds: mean, spread and one verdict."""
        return self._get("comparisons", "configurations", baseline=list(baseline), candidate=list(candidate), **options)

    def comparison_items(self, baseline: str, candidate: str, **params: Any) -> Json:
        """The items behind a comparison; `kind` is `lost` or `gained`."""
        return self._get("comparisons", "items", baseline=baseline, candidate=candidate, **params)


def _query_value(value: Any) -> Any:
    return msgspec.json.encode(value, enc_hook=to_plain).decode() if isinstance(value, Mapping) else value


def _lines(rows: Iterator[Any]) -> Iterator[bytes]:
    while some := list(islice(rows, 1000)):
        yield b"".join(msgspec.json.encode(row, enc_hook=to_plain) + b"\n" for row in some)
