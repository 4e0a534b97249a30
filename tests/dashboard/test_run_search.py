"""Where a question that cannot be read went wrong."""

from __future__ import annotations

import pytest

from dashboard import run_search
from tunescope import ApiError


@pytest.mark.parametrize(
    ("query", "at", "shown"),
    [
        ("metrics.loss << 3", 14, "metrics.loss << 3\n              ↑"),
        ("a\nb", 2, "a b\n  ↑"),
        ("status =", 99, "status =\n        ↑"),
    ],
)
def test_the_place_is_pointed_at(query: str, at: int, shown: str) -> None:
    assert run_search.pointed(query, at) == shown


@pytest.mark.parametrize(("details", "at"), [({"position": 3}, 3), ({}, None), (None, None), ({"position": "3"}, None)])
def test_an_error_may_name_no_place(details: object, at: int | None) -> None:
    assert run_search.place(ApiError(400, "bad_query", "no", details)) == at
