"""MLflow's search language: text to clauses, and errors that say where."""

from __future__ import annotations

import pytest

from service.store.mlflow_filters import Clause, Order
from service.tracking.mlflow.errors import InvalidParameterValue
from service.tracking.mlflow.grammar import EXPERIMENTS, RUNS, page_offset, page_token, parse_filter, parse_order


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("", []),
        ("  ", []),
        ("metrics.loss<1e-3", [Clause("metric", "loss", "<", 0.001)]),
        ("metric.`a b/c` >= -2", [Clause("metric", "a b/c", ">=", -2.0)]),
        ('params."x y" = "it\'s"', [Clause("param", "x y", "=", "it's")]),
        ("parameter.a.b.c != 'v'", [Clause("param", "a.b.c", "!=", "v")]),
        ("tags.t Is Not Null", [Clause("tag", "t", "is not null", None)]),
        ("attr.created > 5", [Clause("attribute", "start_time", ">", 5.0)]),
        ("`run name` like '%x'", [Clause("attribute", "run_name", "like", "%x")]),
        ("run_id not in ('a', \"b\")", [Clause("attribute", "run_id", "not in", ("a", "b"))]),
        ("dataset.name In ('a')", [Clause("dataset", "name", "in", ("a",))]),
        (
            "status = 'FINISHED' AND metrics.f1 > .5 and",
            [Clause("attribute", "status", "=", "FINISHED"), Clause("metric", "f1", ">", 0.5)],
        ),
        ("tags.and = 'or'", [Clause("tag", "and", "=", "or")]),
    ],
)
def test_clauses(text: str, clauses: list[Clause]) -> None:
    assert parse_filter(text, RUNS) == clauses


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("metrics.a > 1 or metrics.b > 1", "'or' at position 15, expected 'AND' or the end"),
        ("(metrics.a > 1)", "'(' at position 1, expected a field"),
        ("metrics.a >", "Expected numeric value type for metric. Found "),
        ("metrics.a", "the end at position 10, expected a comparison"),
        ("params.a = 5", "Expected a quoted string value for param (e.g. 'my-value'). Got value 5"),
        ("params.a = 'x", "'x' at position 12"),
        ("tags.a is 5", "'5' at position 11, expected 'NULL'"),
        ("status IN ('a')", "Only ['run_id'] attributes support comparison with a list"),
        ("run_id IN ()", "')' at position 12, expected a quoted string"),
        ("metrics.a LIKE 'x'", "Invalid comparator 'LIKE' not one of"),
        ("metrics.a IS NULL", "IS NULL / IS NOT NULL is only supported for param and tags, not for 'metric' 'a'"),
        ("colour.a = 'x'", "Invalid entity type 'colour'"),
        ("colour = 'x'", "Invalid attribute key 'colour'"),
        ("dataset.colour = 'x'", "Invalid dataset key 'colour'"),
    ],
)
def test_errors_say_where_and_what(text: str, said: str) -> None:
    with pytest.raises(InvalidParameterValue) as refused:
        parse_filter(text, RUNS)
    assert said in refused.value.message


def test_orders() -> None:
    given = ["metrics.`a b` DESC", "created", "tags.t asc", "run_name desc"]
    assert parse_order(given, RUNS) == [
        Order("metric", "a b", True),
        Order("attribute", "start_time", False),
        Order("tag", "t", False),
        Order("attribute", "run_name", True),
    ]


@pytest.mark.parametrize("text", ["", "metrics.a, metrics.b", "metrics.a sideways", "dataset.name", "colour"])
def test_refused_orders(text: str) -> None:
    with pytest.raises(InvalidParameterValue):
        parse_order([text], RUNS)


def test_an_order_names_a_field_once() -> None:
    with pytest.raises(InvalidParameterValue, match="duplicate fields"):
        parse_order(["created", "start_time DESC"], RUNS)


def test_experiments_have_a_language_of_their_own() -> None:
    assert parse_filter("experiment_id = '3'", EXPERIMENTS) == [Clause("attribute", "experiment_id", "=", "3")]
    for text in ("metrics.a > 1", "experiment_id > '3'", "name IN ('a')", "creation_time > 0.5"):
        with pytest.raises(InvalidParameterValue):
            parse_filter(text, EXPERIMENTS)


def test_page_tokens_come_back() -> None:
    assert page_offset(None) == page_offset("") == 0
    assert page_offset(page_token(70)) == 70


@pytest.mark.parametrize("token", ["!!", "YWJj", "e30=", "eyJvZmZzZXQiOiAtMX0=", "eyJvZmZzZXQiOiAieCJ9", "W10="])
def test_other_page_tokens_are_refused(token: str) -> None:
    with pytest.raises(InvalidParameterValue, match="Invalid page token"):
        page_offset(token)
