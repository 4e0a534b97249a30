"""What may be searched for in the registry, in MLflow's search language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service.store.mlflow_filters import Clause, Order
from service.store.registry import PROMPT_TAG
from service.tracking.mlflow.grammar import Grammar, parse_filter, parse_order

_KINDS = {"attribute": "attribute", "tag": "tag", "tags": "tag"}


@dataclass(frozen=True)
class Language:
    """The fields of a filter and those of an order, each under MLflow's name and ours."""

    filters: Grammar
    orders: Grammar
    default_order: tuple[Order, ...] = ()


@dataclass(frozen=True)
class Search:
    clauses: list[Clause]
    orders: Sequence[Order]
    prompts: bool


MODELS = Language(
    Grammar(_KINDS, {"name": "name"}, lists=frozenset({"name"}), nullable=frozenset()),
    Grammar(_KINDS, {"name": "name", "timestamp": "updated_at", "last_updated_timestamp": "updated_at"}),
)
VERSIONS = Language(
    Grammar(
        _KINDS,
        {"name": "name", "version_number": "version", "run_id": "run_id", "source_path": "source"},
        numbers=frozenset({"version"}),
        lists=frozenset({"name", "run_id"}),
        nullable=frozenset(),
        whole=True,
        quoted=True,
    ),
    Grammar(
        _KINDS,
        {
            "name": "name",
            "version_number": "version",
            "creation_timestamp": "created_at",
            "last_updated_timestamp": "updated_at",
        },
    ),
    (Order("attribute", "updated_at", descending=True),),
)


def parse(filter_: str, order_by: Sequence[str], language: Language) -> Search:
    """A search of models, or of prompts when the filter asks for them.

    Models lack the prompt tag: a clause on it that does not ask for prompts says nothing more, and goes.
    """
    clauses = parse_filter(filter_, language.filters)
    prompts = any(_asks_for_prompts(clause) for clause in clauses)
    if not prompts:
        clauses = [clause for clause in clauses if clause.key != PROMPT_TAG]
    orders = parse_order(order_by, language.orders)
    return Search(clauses, orders or language.default_order, prompts)


def _asks_for_prompts(clause: Clause) -> bool:
    value = str(clause.value).lower()
    return clause.key == PROMPT_TAG and (clause.operator, value) in {("=", "true"), ("!=", "false")}
