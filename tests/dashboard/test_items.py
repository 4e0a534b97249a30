"""Items and intervals as HTML: the difference is marked, and nothing of an item's text becomes markup."""

from __future__ import annotations

import re

import pytest

from dashboard import components, items, verdicts


def test_only_the_words_the_reference_lacks_are_marked() -> None:
    assert items.marked("the cat sat", "the dog sat") == 'the <del class="ts-diff">dog</del> sat'
    assert items.marked("lost_card", "card_arrival") == '<del class="ts-diff">card_arrival</del>'
    assert items.marked("same", "same") == "same"
    assert items.marked(None, "anything") == "anything"


def test_a_long_answer_without_a_word_in_common_is_left_alone() -> None:
    answer = "one two three four five six seven eight nine"
    assert items.marked("42", answer) == answer


def test_no_output_says_so() -> None:
    assert "no output" in items.marked("42", None)


@pytest.mark.parametrize("reference", [None, "a b", "<b>x</b>"])
def test_outputs_never_become_markup(reference: str | None) -> None:
    shown = items.marked(reference, "<script>alert(1)</script> b")
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


def test_tables_escape_their_cells() -> None:
    shown = components.table_html(["<i>head</i>"], [["<b>cell</b>"]])
    assert "<b>" not in shown
    assert "<i>" not in shown
    assert "&lt;b&gt;cell" in shown


def test_a_wide_table_names_its_cells_for_the_phone() -> None:
    head: list[str | components.Cell] = ["Item", "Input", "Output", components.number_head("n"), "Group"]
    shown = components.table_html(head, [["1", "2", "3", "4", "5"]])
    assert "ts-stack" in shown
    assert 'data-label="n"' in shown
    assert "ts-stack" not in components.table_html(["A", "B"], [["1", "2"]])


def test_the_reference_of_an_item_is_its_label_or_its_references() -> None:
    assert items.expected({"label": "a", "references": ["b"]}) == "a"
    assert items.expected({"label": None, "references": ["b", "c"]}) == "b ⏐ c"
    assert items.expected({"label": None, "references": []}) is None


def places(markup: str, kind: str) -> list[float]:
    return [float(left) for left in re.findall(rf'class="{kind}[^"]*" style="left:([\d.]+)%', markup)]


def test_an_interval_above_zero_is_drawn_right_of_zero() -> None:
    drawn = verdicts.interval_bar(2.0, (1.0, 3.0), str)
    (zero,), (low,), (point,) = places(drawn, "zero"), places(drawn, "range"), places(drawn, "point")
    assert zero < low < point
    # The domain is 0 … 3 with 12 % of room at either end.
    assert point == pytest.approx((2 + 0.36) / 3.72 * 100, abs=0.01)


def test_the_margin_is_shaded_around_zero() -> None:
    drawn = verdicts.interval_bar(0.0, (-1.0, 1.0), str, margin=0.5)
    (left,), (zero,) = places(drawn, "allowed"), places(drawn, "zero")
    assert left < zero
    assert "allowed" not in verdicts.interval_bar(0.0, (-1.0, 1.0), str)


def test_a_missing_bound_runs_to_the_edge() -> None:
    drawn = verdicts.mini_interval(0.5, (0.25, None), (0.0, 1.0)).markup
    assert 'class="range" style="left:25.00%;width:75.00%"' in drawn
    assert verdicts.mini_interval(None, None, (0.0, 1.0)).markup == "–"


@pytest.mark.parametrize("state", list(components.MARKS))
def test_every_state_has_icon_word_and_colour(state: str) -> None:
    chip = components.chip(state)
    color, icon, word = components.mark(state)
    assert f"ts-{color}" in chip
    assert icon in chip
    assert word in chip
