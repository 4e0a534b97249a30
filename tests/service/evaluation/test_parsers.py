"""Named answer parsers, as tables."""

from __future__ import annotations

import pytest

from service.evaluation.parsers import label_list_reader, parser_for

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


TAGS = ["sport", "Politics", "arts, culture", "C++"]


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ('["sport", "politics"]', ["sport", "Politics"]),
        ('```json\n["sport"]\n```', ["sport"]),
        ("Here you are:\n```\nsport\nC++\n```\nAnything else?", ["sport", "C++"]),
        ("['sport', 'C++']", ["sport", "C++"]),
        ("sport, politics, Sport", ["sport", "Politics"]),
        ("Labels: sport; arts, culture", ["sport", "arts, culture"]),
        ("sport | c++.", ["sport", "C++"]),
        ("- sport\n- Politics\n", ["sport", "Politics"]),
        ("1. sport\n2) arts, culture", ["sport", "arts, culture"]),
        ("arts, culture", ["arts, culture"]),
        ("sport", ["sport"]),
        ("[]", []),
        ("None.", []),
        ("", None),
        ("sport, weather", None),
        ("It is about sport.", None),
        ('["sport", 3]', None),
        ('{"sport": true}', None),
        ("5", None),
    ],
)
def test_lists_of_labels(output: str, answer: list[str] | None) -> None:
    assert label_list_reader(TAGS)(output) == answer


def test_a_label_named_none_is_a_label() -> None:
    assert label_list_reader(["none", "some"])("none") == ["none"]
