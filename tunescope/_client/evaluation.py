"""Suites, evaluations, comparisons."""

from __future__ import annotations

from typing import Any

from tunescope._client.calls import Calls, Json


class Evaluation(Calls):
    def create_suite(self, **body: Any) -> Json:
        """Store an evaluation set: `name`, `task_type`, `items`, `metrics`, …. The same content is the same version."""
        return self._post("suites", body=body)

    def list_suites(self, **params: Any) -> Json:
        return self._get("suites", **params)

    def get_suite(self, suite_id: str) -> Json:
        return self._get("suites", suite_id)

    def suite_items(self, suite_id: str, limit: int | None = None, cursor: str | None = None) -> Json:
        return self._get("suites", suite_id, "items", limit=limit, cursor=cursor)

    def create_evaluation(self, **body: Any) -> Json:
        """Score predictions: `suite_id`, `predictions`, and what they belong to (`run_id`, `model_version_id`)."""
        return self._post("evaluations", body=body)

    def list_evaluations(self, **params: Any) -> Json:
        """Filter by `run_id`, `suite_id`, `suite`, `model_version_id`; page with `limit`, `cursor`."""
        return self._get("evaluations", **params)

    def get_evaluation(self, evaluation_id: str) -> Json:
        return self._get("evaluations", evaluation_id)

    def evaluation_items(self, evaluation_id: str, **params: Any) -> Json:
        """Items with their outputs; filter by `correct`, `tag`, `group`, `true`, `predicted`."""
        return self._get("evaluations", evaluation_id, "items", **params)

    def confusion(self, evaluation_id: str) -> Json:
        return self._get("evaluations", evaluation_id, "confusion")

    def slices(self, evaluation_id: str, by: str) -> Any:
        """Scores by `group`, `tag` or `label`, each with its interval."""
        return self._get("evaluations", evaluation_id, "slices", by=by)

    def compare(
        self,
        baseline: str,
        candidate: str,
        metric: str | None = None,
        margin: float | None = None,
        confidence: float | None = None,
    ) -> Json:
        """The verdict card of two evaluations (ids) of one suite: better, worse, equivalent or inconclusive."""
        return self._get(
            "comparisons", baseline=baseline, candidate=candidate, metric=metric, margin=margin, confidence=confidence
        )

    def comparison_items(self, baseline: str, candidate: str, **params: Any) -> Json:
        """The items behind a comparison; `kind` is `lost` or `gained`."""
        return self._get("comparisons", "items", baseline=baseline, candidate=candidate, **params)
