"""Named answer parsers, as tables."""

from __future__ import annotations

import pytest

from service.evaluation.parsers import parser_for

LABELS = ["spam", "not spam", "C++", "Ham"]


@pytest.mark.parametrize(
    ("name", "output", "answer"),
    [
        (None, " as it is ", " as it is "),
        ("strip", "  Paris\n", "Paris"),
        ("strip", " \n", None),
        ("first_line", "\n\n Paris \nbecause", "Paris"),
        ("first_line", "", None),
        ("last_number", "3 + 4 makes 7, so 1,250.50 in all.", "1250.50"),
        ("last_number", "minus -3", "-3"),
        ("last_number", "none", None),
        ("after_hashes", "2+2\n#### 1,234\n", "1234"),
        ("after_hashes", "#### 3\nno, #### 5", "5"),
        ("after_hashes", "1234", None),
        ("after_hashes", "####", None),
        ("choice_letter", "(B) because A is wrong", "B"),
        ("choice_letter", "A good question. The answer is C.", "C"),
        ("choice_letter", "D", "D"),
        ("choice_letter", "B. Rome", "B"),
        ("choice_letter", "A good question.", None),
        ("choice_letter", "Both", None),
    ],
)
def test_what_is_read(name: str | None, output: str, answer: str | None) -> None:
    assert parser_for(name, None)(output) == answer


@pytest.mark.parametrize(
    ("name", "output", "answer"),
    [
        (None, " spam\n", "spam"),
        (None, "Spam", None),
        (None, "", None),
        ("first_line", "spam\nsurely", "spam"),
        ("first_line", "eggs", None),
        ("label", "This is SPAM.", "spam"),
        ("label", "It is not spam", "not spam"),
        ("label", "spam or not spam", None),
        ("label", "I write C++ code", "C++"),
        ("label", "spammer", None),
        ("label", "nothing", None),
        ("label", "ham", "Ham"),
    ],
)
def test_only_declared_labels_are_answers(name: str | None, output: str, answer: str | None) -> None:
    assert parser_for(name, LABELS)(output) == answer
