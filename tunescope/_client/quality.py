"""Data sets, and the quality of what is trained and tested on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from tunescope._client.calls import API, Calls, Json
from tunescope._transport import path
from tunescope._values import to_plain

REPORT_SECONDS = 900.0  # a set of a hundred thousand texts takes a minute, once
PIECE = 1 << 18


class Quality(Calls):
    def create_dataset(
        self, name: str, items: Iterable[Mapping[str, Any]], *, source: str | None = None, data_hash: str | None = None
    ) -> Json:
        """Store a data set, sent as it is read: items with `id`, `input`, and `label` or `references`, `group`, `tags`.

        The same rows are the same version. `data_hash`: what runs trained on it have as theirs.
        """
        about = {"name": name, "source": source, "data_hash": data_hash}
        headers = {"Content-Type": "application/x-ndjson"}
        answer: Json = self._transport.json(
            "POST", f"{API}/datasets", params=about, content=_lines(items), headers=headers, timeout=REPORT_SECONDS
        )
        return answer

    def list_datasets(self, **params: Any) -> Json:
        """Filter by `name`, `data_hash`; page with `limit`, `cursor`."""
        return self._get("datasets", **params)

    def get_dataset(self, dataset_id: str) -> Json:
        """A data set, and the runs that were trained on it."""
        return self._get("datasets", dataset_id)

    def dataset_items(self, dataset_id: str, limit: int | None = None, cursor: str | None = None) -> Json:
        return self._get("datasets", dataset_id, "items", limit=limit, cursor=cursor)

    def split_dataset(self, dataset_id: str, **params: Any) -> Json:
        """Which item goes where: `seed`, `stratify`, `folds` or `shares` ("80/20"), `near_duplicates` (kept together
        from this similarity on). `assignment` is the number of each item's part, in their order."""
        return self._report("datasets", dataset_id, "split", **params)

    def dataset_quality(self, dataset_id: str, threshold: float | None = None) -> Json:
        """Balance, lengths, duplicates, near-duplicates, coverage, and what to look at first."""
        return self._report("datasets", dataset_id, "quality", threshold=threshold)

    def suite_quality(self, suite_id: str, threshold: float | None = None) -> Json:
        return self._report("suites", suite_id, "quality", threshold=threshold)

    def dataset_label_noise(self, dataset_id: str) -> Json:
        """Labels that a model which learns from the other items disagrees with, most certain first."""
        return self._report("datasets", dataset_id, "label-noise")

    def suite_label_noise(self, suite_id: str) -> Json:
        """Labels that the models which answered the suite disagree with, most agreed on first."""
        return self._report("suites", suite_id, "label-noise")

    def leakage(self, train: str, test: str, threshold: float | None = None) -> Json:
        """Test items that training has seen, exactly or nearly. `train`, `test`: ids of data sets or suites."""
        return self._report("leakage", train=train, test=test, threshold=threshold)

    def _report(self, *parts: str, **params: Any) -> Json:
        answer: Json = self._transport.json("GET", API + path(*parts), params=params, timeout=REPORT_SECONDS)
        return answer


def _lines(items: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """Items as lines of JSON, in pieces of a fair size."""
    encoder = msgspec.json.Encoder(enc_hook=to_plain)
    piece = bytearray()
    for item in items:
        piece += encoder.encode(item) + b"\n"
        if len(piece) >= PIECE:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)
