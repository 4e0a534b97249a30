"""Reviews: people judge outputs."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Literal

from tunescope._client.calls import Calls, Json


class Reviews(Calls):
    def create_review(self, **body: Any) -> Json:
        """Put outputs before people: `name`, `kind` ("rating" or "pairwise"), `evaluations` (ids), `sample`, `overlap`,
        `instructions`, `reasons`. The same content is the same version."""
        return self._post("reviews", body=body)

    def list_reviews(self, **params: Any) -> Json:
        """Filter by `suite_id`, `status` ("open" or "closed"); page with `limit`, `cursor`."""
        return self._get("reviews", **params)

    def get_review(self, review_id: str) -> Json:
        return self._get("reviews", review_id)

    def next_review_task(self, review_id: str, reviewer: str | None = None) -> Json:
        """The next task for a reviewer (absent: the API key's name), without the models' names; `task` may be None."""
        return self._post("reviews", review_id, "next", body={"reviewer": reviewer})

    def judge(
        self,
        review_id: str,
        task: int,
        answer: Literal["good", "bad", "A", "B", "tie", "skip"],
        *,
        reasons: Sequence[str] = (),
        comment: str | None = None,
        reviewer: str | None = None,
        id: str | None = None,
    ) -> Json:
        """Say what you think of a task; again, to change your mind. What is sent twice under one `id` counts once."""
        said = {"task": task, "answer": answer, "reasons": list(reasons), "comment": comment, "reviewer": reviewer}
        return self._post("reviews", review_id, "judgements", body={"id": id or uuid.uuid4().hex, **said})

    def undo_judgement(self, review_id: str, reviewer: str | None = None, id: str | None = None) -> Json:
        """Withdraw the reviewer's last judgement: its task comes again."""
        return self._post("reviews", review_id, "undo", body={"id": id or uuid.uuid4().hex, "reviewer": reviewer})

    def review_judgements(self, review_id: str, **params: Any) -> Json:
        """Everything that was ever said, in order; page with `limit`, `cursor`."""
        return self._get("reviews", review_id, "judgements", **params)

    def review_result(self, review_id: str, margin: float | None = None, confidence: float | None = None) -> Json:
        """Scores, verdicts, strengths, agreement, and what each reviewer did."""
        return self._get("reviews", review_id, "result", margin=margin, confidence=confidence)

    def review_items(self, review_id: str, **params: Any) -> Json:
        """Items with what was said of them, models by name; `only` is `all`, `disagreed` or `skipped`."""
        return self._get("reviews", review_id, "items", **params)

    def close_review(self, review_id: str) -> Json:
        """End it. A rating leaves evaluations scored by people (`outcome`), which compare like any other."""
        return self._post("reviews", review_id, "close")
