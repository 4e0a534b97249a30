"""Rows on disk and ids as digests, beside a list and a dictionary."""

from __future__ import annotations

import tempfile

from hypothesis import given
from hypothesis import strategies as st

from service.store.spool import Ids, RowFile, digests

IDS = st.lists(st.text(alphabet="ab\x00é", max_size=3), max_size=12)


@given(chunks=st.lists(IDS, max_size=4), wanted=IDS)
def test_ids_are_found_where_they_are(chunks: list[list[str]], wanted: list[str]) -> None:
    every = [one for chunk in chunks for one in chunk]
    ids = Ids([digests(chunk) for chunk in chunks])
    assert len(ids) == len(every)
    expected = [every.index(one) if one in every else -1 for one in wanted]
    assert ids.places(wanted).tolist() == expected
    seen: dict[str, int] = {}
    repeated = None
    for place, one in enumerate(every):
        if one in seen:
            repeated = (seen[one], place)
            break
        seen[one] = place
    assert ids.first_repeated() == repeated


@given(chunks=st.lists(st.lists(st.binary(max_size=9), max_size=6), max_size=4), data=st.data())
def test_rows_come_back_in_any_order(chunks: list[list[bytes]], data: st.DataObject) -> None:
    every = [row for chunk in chunks for row in chunk]
    with RowFile(tempfile.TemporaryFile()) as rows:
        for chunk in chunks:
            rows.add(chunk)
        assert len(rows) == len(every)
        places = data.draw(st.lists(st.integers(-1, len(every) - 1), max_size=10))
        expected = [b"absent" if place < 0 else every[place] for place in places]
        assert list(rows.read(places, b"absent")) == expected
