"""Evaluations in an export: scores, and what they can be made from again, the suites and the predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from tunescope._client import Client, Json
from tunescope.exports._tables import Table

__all__ = ["EvaluationTables", "pages"]

PAGE = 100
ITEMS_A_REQUEST = 1000


class EvaluationTables:
    """Writes the evaluations of one run after the other. A suite is written with the first that was made on it."""

    def __init__(self, client: Client, tables: Mapping[str, Table]) -> None:
        self._client = client
        self._tables = tables
        self._suites: set[str] = set()

    def write(self, run_id: str) -> tuple[int, int]:
        """The evaluations of a run, the oldest first; how many there were, and how many scores."""
        listed = pages(lambda at: self._client.list_evaluations(run_id=run_id, limit=PAGE, cursor=at))
        found = [evaluation for page in listed for evaluation in page][::-1]
        scores = 0
        for evaluation in found:
            rows = list(_scores(evaluation))
            self._tables["evaluations"].write(rows)
            self._write_suite(evaluation["suite_id"])
            self._write_predictions(evaluation["id"])
            scores += len(rows)
        return len(found), scores

    def _write_suite(self, suite_id: str) -> None:
        if suite_id in self._suites:
            return
        self._suites.add(suite_id)
        suite = self._client.get_suite(suite_id)
        self._tables["suites"].write([suite])
        own = {"suite": suite["name"], "suite_hash": suite["hash"]}
        for page in pages(lambda at: self._client.suite_items(suite_id, limit=ITEMS_A_REQUEST, cursor=at)):
            self._tables["suite_items"].write([{**item, **own} for item in page])

    def _write_predictions(self, evaluation_id: str) -> None:
        for page in pages(lambda at: self._client.evaluation_items(evaluation_id, limit=ITEMS_A_REQUEST, cursor=at)):
            self._tables["predictions"].write([{**item, "evaluation_id": evaluation_id} for item in page])


def pages(ask: Callable[[str | None], Json]) -> Iterator[list[Json]]:
    """The items of every page of a list; `ask` takes a cursor."""
    cursor: str | None = None
    while True:
        page = ask(cursor)
        yield page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return


def _scores(evaluation: Json) -> Iterator[Json]:
    suite = evaluation["suite"]
    shared = {
        "evaluation_id": evaluation["id"],
        **{name: evaluation[name] for name in ("run_id", "model_version_id", "suite_id", "name", "step")},
        **{name: evaluation[name] for name in ("created_at", "prediction_hash", "settings")},
        "suite": suite["name"],
        "suite_version": suite["version"],
        "suite_hash": suite["hash"],
        "task_type": suite["task_type"],
        "items": evaluation["n"],
        "items_missing": evaluation["n_missing"],
        "items_unparsed": evaluation["n_unparsed"],
    }
    for score in evaluation["scores"]:
        low, high = score["interval"] or (None, None)
        own = {name: score[name] for name in ("value", "confidence", "n", "n_missing", "method", "seed", "signature")}
        yield {**shared, "metric": score["name"], "low": low, "high": high, "reason": score["reason"], **own}
