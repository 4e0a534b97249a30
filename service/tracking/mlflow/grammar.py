"""MLflow's search language, text to clauses. Pure.

    filter     = [ clause { AND clause } [ AND ] ]
    clause     = identifier ( = | != | < | <= | > | >= | LIKE | ILIKE ) value
               | identifier [ NOT ] IN ( text, … ) | identifier IS [ NOT ] NULL
    identifier = [ kind "." ] key            key = bare | `back-ticked` | "double-quoted"
    order      = identifier [ ASC | DESC ]

There is no OR and there are no parentheses. What kinds and attributes exist differs between runs, experiments and the
rest: a `Grammar` says it.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from service.store.mlflow_filters import Clause, Order
from service.tracking.mlflow.errors import InvalidParameterValue

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.`]))
      |(?P<name>(?:\w[\w\-/]*|`[^`]*`|"[^"]*"(?=\.))(?:\.(?:`[^`]*`|"[^"]*"|[\w\-/]+))*)
      |(?P<text>'(?:''|\\'|[^'])*'|"[^"]*")
      |(?P<operator>[<>=!~]+|[(),]))""",
    re.VERBOSE,
)
_ORDERING = ("=", "!=", "<", "<=", ">", ">=")
_TEXT = ("=", "!=", "like", "ilike")
_LISTS = ("in", "not in")
_NULLS = ("is null", "is not null")


@dataclass(frozen=True)
class Grammar:
    """What may be asked of one sort of thing.

    `kinds`: each written kind and what it means (`attribute`, `metric`, `param`, `tag`, `dataset`). `attributes`: each
    written attribute and its own name. `numbers`: attributes that are numbers. `lists`: attributes that take IN;
    `listed`: kinds that do.
    `only_lists`: of these, the ones that are compared with = and != besides and nothing else. `nullable`: kinds that
    take IS NULL. `whole`: number attributes refuse fractions. `quoted`: they may be written as text.
    """

    kinds: Mapping[str, str]
    attributes: Mapping[str, str]
    numbers: frozenset[str] = frozenset()
    lists: frozenset[str] = frozenset()
    listed: frozenset[str] = frozenset({"dataset"})
    only_lists: frozenset[str] = frozenset()
    nullable: frozenset[str] = frozenset({"tag"})
    orderable: frozenset[str] = frozenset({"attribute"})
    datasets: frozenset[str] = field(default=frozenset({"name", "digest", "context"}))
    whole: bool = False
    quoted: bool = False

    def operators(self, kind: str, key: str) -> tuple[str, ...]:
        """The comparisons that a field takes."""
        if kind == "metric" or (kind == "attribute" and key in self.numbers):
            return _ORDERING
        if kind == "attribute":
            if key in self.only_lists:
                return ("=", "!=", *_LISTS)
            return (*_TEXT, *_LISTS) if key in self.lists else _TEXT
        if kind in self.listed:
            return (*_TEXT, *_LISTS)
        return (*_TEXT, *_NULLS) if kind in self.nullable else _TEXT


_TAGS = {"tag": "tag", "tags": "tag"}
RUNS = Grammar(
    kinds={
        **dict.fromkeys(("attribute", "attributes", "attr", "run"), "attribute"),
        **dict.fromkeys(("metric", "metrics"), "metric"),
        **dict.fromkeys(("param", "params", "parameter", "parameters"), "param"),
        **dict.fromkeys(("dataset", "datasets"), "dataset"),
        **_TAGS,
    },
    attributes={
        **{
            name: name for name in ("run_id", "run_name", "user_id", "status", "artifact_uri", "start_time", "end_time")
        },
        **dict.fromkeys(("run name", "Run name", "Run Name"), "run_name"),
        **dict.fromkeys(("created", "Created"), "start_time"),
    },
    numbers=frozenset({"start_time", "end_time"}),
    lists=frozenset({"run_id"}),
    nullable=frozenset({"tag", "param"}),
    orderable=frozenset({"attribute", "metric", "param", "tag"}),
)
EXPERIMENTS = Grammar(
    kinds={"attribute": "attribute", **_TAGS},
    attributes={name: name for name in ("name", "experiment_id", "creation_time", "last_update_time")},
    numbers=frozenset({"creation_time", "last_update_time"}),
    lists=frozenset({"experiment_id"}),
    only_lists=frozenset({"experiment_id"}),
    whole=True,
)


@dataclass(frozen=True)
class Token:
    kind: str  # number, text, name, operator, end
    text: str
    at: int

    @property
    def word(self) -> str:
        return self.text.lower() if self.kind == "name" else ""


def parse_filter(text: str, grammar: Grammar) -> list[Clause]:
    """The clauses of a filter, all of which must hold.

    Raises:
        InvalidParameterValue: with the place and what was expected there.
    """
    reader = _Reader(text, grammar)
    clauses: list[Clause] = []
    while reader.here.kind != "end":
        if reader.take("and"):
            continue
        if clauses and reader.before.word != "and":
            raise reader.expected("'AND' or the end")
        clauses.append(reader.clause())
    return clauses


def parse_order(given: Sequence[str], grammar: Grammar) -> list[Order]:
    """The order of each element: one field, ascending unless it says DESC."""
    orders: list[Order] = []
    for text in given:
        reader = _Reader(text, grammar)
        kind, key = reader.field()
        if kind not in grammar.orderable:
            raise InvalidParameterValue(f"Invalid order_by clause '{text}': {kind}s have no order.")
        descending = reader.take("desc")
        if not descending:
            reader.take("asc")
        if reader.here.kind != "end":
            raise InvalidParameterValue(f"Invalid order_by clause '{text}'. Could not be parsed.")
        if any((kind, key) == (order.kind, order.key) for order in orders):
            raise InvalidParameterValue(f"`order_by` contains duplicate fields: {list(given)}")
        orders.append(Order(kind, key, descending))
    return orders


class _Reader:
    def __init__(self, text: str, grammar: Grammar) -> None:
        self.grammar = grammar
        self.tokens = _tokens(text)
        self.position = 0

    @property
    def here(self) -> Token:
        return self.tokens[self.position]

    @property
    def before(self) -> Token:
        return self.tokens[self.position - 1]

    def next(self) -> Token:
        token = self.here
        self.position += 1
        return token

    def take(self, text: str) -> bool:
        found = self.here.kind in {"name", "operator"} and self.here.text.lower() == text
        self.position += found
        return found

    def clause(self) -> Clause:
        kind, key = self.field()
        at = self.here
        operator = self.operator()
        allowed = self.grammar.operators(kind, key)
        if operator not in allowed:
            if operator in _LISTS and kind == "attribute":
                raise InvalidParameterValue(
                    f"Only {sorted(self.grammar.lists)} attributes support comparison with a list of quoted strings."
                )
            if operator in _NULLS and self.grammar.nullable:
                raise InvalidParameterValue(
                    f"IS NULL / IS NOT NULL is only supported for {' and '.join(sorted(self.grammar.nullable))}s, "
                    f"not for '{kind}' '{key}'"
                )
            shown = [name.upper() for name in allowed]
            raise InvalidParameterValue(
                f"Invalid comparator '{operator.upper()}' not one of {shown} (position {at.at + 1})"
            )
        if operator in _NULLS:
            return Clause(kind, key, operator, None)
        return Clause(kind, key, operator, self.texts() if operator in _LISTS else self.value(kind, key))

    def field(self) -> tuple[str, str]:
        token = self.here
        if token.kind != "name" and not (token.kind == "text" and token.text.startswith('"')):
            raise self.expected("a field, such as metrics.loss, params.lr, tags.team or status")
        self.next()
        head, dot, rest = (token.text, "", "") if token.text[0] in '"`' else token.text.partition(".")
        if not dot:
            kind, key = "attribute", head
        elif head in self.grammar.kinds:
            kind, key = self.grammar.kinds[head], rest
        else:
            valid = list(dict.fromkeys(self.grammar.kinds.values()))
            raise InvalidParameterValue(f"Invalid entity type '{head}'. Valid values are {valid}")
        key = key[1:-1] if key[:1] in {'"', "`"} and key[-1:] == key[:1] else key
        if kind == "attribute":
            if key not in self.grammar.attributes:
                valid = sorted(self.grammar.attributes)
                raise InvalidParameterValue(f"Invalid attribute key '{key}' specified. Valid keys are {valid}")
            key = self.grammar.attributes[key]
        elif kind == "dataset" and key not in self.grammar.datasets:
            valid = sorted(self.grammar.datasets)
            raise InvalidParameterValue(f"Invalid dataset key '{key}' specified. Valid keys are {valid}")
        return kind, key

    def operator(self) -> str:
        token = self.here
        if token.kind == "operator" and token.text[0] not in "(),":
            return self.next().text
        if self.take("is"):
            negated = self.take("not")
            if not self.take("null"):
                raise self.expected("'NULL' or 'NOT NULL' after 'IS'")
            return "is not null" if negated else "is null"
        if self.take("not"):
            if not self.take("in"):
                raise self.expected("'IN' after 'NOT'")
            return "not in"
        if token.word in {"like", "ilike", "in"}:
            return self.next().word
        raise self.expected("a comparison: = != < <= > >= LIKE ILIKE IN IS")

    def value(self, kind: str, key: str) -> str | float:
        token = self.next()
        if kind == "metric" or (kind == "attribute" and key in self.grammar.numbers):
            what = "metric" if kind == "metric" else f"numeric attribute: {key}"
            if token.kind == "text" and self.grammar.quoted and token.text[1:-1].isdigit():
                return float(token.text[1:-1])
            if token.kind != "number":
                raise InvalidParameterValue(f"Expected numeric value type for {what}. Found {token.text}")
            if kind == "attribute" and self.grammar.whole and not token.text.lstrip("-").isdigit():
                raise InvalidParameterValue(f"Invalid value for numeric attribute '{key}': '{token.text}'")
            return float(token.text)
        if token.kind != "text":
            raise InvalidParameterValue(
                f"Expected a quoted string value for {kind} (e.g. 'my-value'). Got value {token.text}"
            )
        return token.text[1:-1]

    def texts(self) -> tuple[str, ...]:
        found: list[str] = []
        while self.take("," if found else "("):
            if self.here.kind != "text":
                raise self.expected("a quoted string: a list is a non-empty list of string values")
            found.append(self.next().text[1:-1])
        if not found or not self.take(")"):
            raise self.expected("a list of quoted strings in parentheses")
        return tuple(found)

    def expected(self, what: str) -> InvalidParameterValue:
        found = f"'{self.here.text}'" if self.here.kind != "end" else "the end"
        return InvalidParameterValue(
            f"Invalid clause(s) in filter string: {found} at position {self.here.at + 1}, expected {what}."
        )


def _tokens(text: str) -> list[Token]:
    tokens: list[Token] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            place = position + len(text[position:]) - len(text[position:].lstrip())
            raise InvalidParameterValue(
                f"Invalid clause(s) in filter string: '{text[place : place + 12]}' at position {place + 1}."
            )
        tokens.append(Token(match.lastgroup, match.group(match.lastgroup), match.start(match.lastgroup)))
        position = match.end()
    return [*tokens, Token("end", "", len(text))]


def page_offset(token: str | None) -> int:
    """How many rows came before the page that `token` (absent: the first) names."""
    if not token:
        return 0
    try:
        decoded = base64.b64decode(token)
    except (binascii.Error, ValueError):
        raise InvalidParameterValue("Invalid page token, could not base64-decode") from None
    try:
        offset = json.loads(decoded)["offset"]
    except (ValueError, KeyError, TypeError):
        offset = None
    if not isinstance(offset, int) or isinstance(offset, bool) or not 0 < offset < 2**63:
        raise InvalidParameterValue(f"Invalid page token, decoded value={decoded!r}")
    return offset


def page_token(offset: int) -> str:
    return base64.b64encode(json.dumps({"offset": offset}).encode()).decode()
