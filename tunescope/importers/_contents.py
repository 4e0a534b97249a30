"""What an imported run has besides points and lines: files, media, evaluations. Each is stored unless it is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from tunescope._client import Client, Json
from tunescope._client.sent import sha256_of
from tunescope._exceptions import ApiError
from tunescope.importers._record import ImportedEvaluation, ImportedFile, ImportedMedium, ImportedRun, LeftOut

__all__ = ["Contents", "Tally", "files_of"]

T = TypeVar("T")


@dataclass(slots=True)
class Tally:
    """What was brought over, and what was there before."""

    runs: int = 0
    new_runs: int = 0
    points: int = 0
    known_points: int = 0
    lines: int = 0
    known_lines: int = 0
    params: int = 0
    tags: int = 0
    artifacts: int = 0
    known_artifacts: int = 0
    media: int = 0
    known_media: int = 0
    evaluations: int = 0
    known_evaluations: int = 0
    logged_models: int = 0
    known_logged_models: int = 0
    models: int = 0
    prompts: int = 0
    versions: int = 0
    known_versions: int = 0


class Contents:
    """Stores what a run has. What is refused is left out by name; the rest goes on."""

    def __init__(
        self, client: Client, again: Callable[[Callable[[Client], Any]], Any], tally: Tally, left_out: LeftOut
    ) -> None:
        """`again` asks the service, more than once if need be."""
        self._client = client
        self._again = again
        self._tally = tally
        self._left_out = left_out
        self._suites: dict[tuple[str, str], str] = {}

    def store(self, run: ImportedRun, own_id: str, new: bool) -> None:
        """`new`: the service has nothing of the run yet."""
        self._store_files(run, own_id, new)
        self._store_media(run, own_id, new)
        self._store_evaluations(run, own_id, new)

    def _try(self, what: str, ask: Callable[[Client], Any]) -> int:
        """1 if the service took it."""
        try:
            self._again(ask)
        except ApiError as error:
            if error.status in {401, 403}:
                raise
            self._left_out.add(what, error.message.rstrip("."))
            return 0
        return 1

    def _store_files(self, run: ImportedRun, own_id: str, new: bool) -> None:
        known: dict[str, str] = {}
        if not new:
            listed = self._again(lambda client: client.list_artifacts(own_id))["items"]
            known = {one["path"]: one["sha256"] for one in listed}
        for file in files_of(run):
            if file.path in known and known[file.path] == sha256_of(file.content):
                self._tally.known_artifacts += 1
            else:
                self._tally.artifacts += self._try(f"file '{file.path}'", _upload(own_id, file))

    def _store_media(self, run: ImportedRun, own_id: str, new: bool) -> None:
        known = set() if new else {_place(one) for one in self._pages(lambda c, at: c.list_media(own_id, **at))}
        for medium in run.media():
            if _place({**medium.about, "sha256": sha256_of(medium.content)}) in known:
                self._tally.known_media += 1
                continue
            what = f"{medium.about['kind']} '{medium.about['key']}'"
            self._tally.media += self._try(what, _upload_medium(own_id, medium))

    def _store_evaluations(self, run: ImportedRun, own_id: str, new: bool) -> None:
        known: set[tuple[Any, ...]] | None = set() if new else None
        for one in run.evaluations():
            if known is None:
                stored = self._pages(lambda c, at: c.list_evaluations(run_id=own_id, **at))
                known = {_judged(e["suite"]["name"], e["suite"]["hash"], e["prediction_hash"], e) for e in stored}
            if _judged(one.suite_name, one.suite_hash, one.prediction_hash, one.about) in known:
                self._tally.known_evaluations += 1
                continue
            self._tally.evaluations += self._try(f"evaluation on '{one.suite_name}'", self._scored(own_id, one))

    def _scored(self, own_id: str, one: ImportedEvaluation) -> Callable[[Client], Any]:
        """Have the service score predictions. It is asked a second time only if it did not hear the first."""
        asked = False

        def ask(client: Client) -> Any:
            nonlocal asked
            suite = one.suite_name, one.suite_hash
            if suite not in self._suites:
                self._suites[suite] = client.create_suite(**one.suite())["id"]
            if asked:
                for held in client.list_evaluations(run_id=own_id, limit=10)["items"]:
                    if _judged(*suite, held["prediction_hash"], held) == _judged(
                        *suite, one.prediction_hash, one.about
                    ):
                        return held
            asked = True
            predictions = one.predictions()
            return client.create_evaluation(
                suite_id=self._suites[suite], run_id=own_id, predictions=predictions, **one.about
            )

        return ask

    def _pages(self, ask: Callable[[Client, dict[str, Any]], Json]) -> Iterator[Json]:
        at: dict[str, Any] = {"limit": 1000, "cursor": None}
        while True:
            page = self._page(ask, at)
            yield from page["items"]
            at["cursor"] = page["next_cursor"]
            if at["cursor"] is None:
                return

    def _page(self, ask: Callable[[Client, dict[str, Any]], Json], at: dict[str, Any]) -> Json:
        page: Json = self._again(lambda client: ask(client, at))
        return page


def files_of(run: ImportedRun) -> Iterator[ImportedFile]:
    """Its files, the one of logged values among them."""
    yield from run.files()
    if run.log is not None and run.log.counts:
        yield run.log.as_file()


def _upload(own_id: str, file: ImportedFile) -> Callable[[Client], Any]:
    return lambda client: client.upload_artifact(own_id, file.path, file.content, file.kind)


def _upload_medium(own_id: str, medium: ImportedMedium) -> Callable[[Client], Any]:
    return lambda client: client.upload_media(own_id, medium.content, **medium.about)


def _place(medium: Json) -> tuple[Any, ...]:
    """What tells one medium of a run from another."""
    return tuple(medium[name] for name in ("key", "step", "rank", "position", "sha256"))


def _judged(suite: str, suite_hash: str, prediction_hash: str, about: Json) -> tuple[Any, ...]:
    """What tells one evaluation of a run from another."""
    return suite, suite_hash, prediction_hash, about["name"], about["step"]
