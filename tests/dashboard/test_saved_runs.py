"""Queries put together: the condition grows, the order stays at the end."""

from __future__ import annotations

import pytest

from dashboard import saved_runs


@pytest.mark.parametrize(
    ("query", "whole"),
    [
        (None, "status = failed"),
        ("", "status = failed"),
        ("a = 1 or b = 2", "(a = 1 or b = 2) and status = failed"),
        ("a = 1 ORDER BY metrics.x desc", "(a = 1) and status = failed order by metrics.x desc"),
        ("order by created", "status = failed order by created"),
    ],
)
def test_a_query_is_narrowed(query: str | None, whole: str) -> None:
    assert saved_runs.narrowed(query, "status = failed") == whole


def test_fields_are_called_by_what_they_are() -> None:
    names = [saved_runs.field_name(field) for field in ("params.train.lr", "tags.team", "group")]
    assert names == ["train.lr", "tag team", "group"]
