"""The search language, text to conditions. Pure.

    query      = [ condition ] [ "order by" order { "," order } ]       order = field [ asc | desc ]
    condition  = and { "or" and }        and = not { "and" not }        not = "not" not | "(" condition ")" | test
    test       = field ( = | != | < | <= | > | >= ) value | field [not] (like | ilike) text
               | field [not] in ( value, … ) | field is [not] null
    field      = metrics.KEY[.last|.min|.max|.mean|.best] | params.KEY | tags.KEY
               | status | name | group | id | parent | created | finished

Keys with other characters than letters, digits and ``_ - . /`` go in back-ticks: metrics.`eval loss`.
`metrics.loss` is its last value; `metrics.loss.best` its min, for that is what a loss's name promises.
`created` and `finished` are Unix seconds, or a date in quotes: created > '2026-11-01 08:00' (UTC unless it says so).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from service.errors import Invalid
from service.measure.direction import guess
from service.store.filters import And, Condition, Field, Not, Or, Order, Predicate

ATTRIBUTES = ("id", "name", "status", "group", "created", "finished", "parent")
AGGREGATES = ("last", "min", "max", "mean", "best")
MOST_ORDERS = 8
STATUSES = ("scheduled", "running", "silent", "finished", "failed", "crashed", "killed")
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
      |(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      |(?P<operator><=|>=|!=|==|=|<|>|\(|\)|,)
      |(?P<word>(?:[\w\-/.]|`[^`]*`)+))""",
    re.VERBOSE,
)
_COMPARE = {"=", "==", "!=", "<", "<=", ">", ">="}
_STATUS = Field("attribute", "status")


class BadQuery(Invalid):
    """The query cannot be read: the message points at the place and says what was expected."""

    code = "bad_query"


@dataclass(frozen=True)
class Token:
    kind: str  # number, text, operator, word, end
    text: str
    at: int


def parse(query: str) -> tuple[Condition | None, tuple[Order, ...]]:
    """The condition of `query` (None when absent) and its orders, the first of which counts most.

    Raises:
        BadQuery: with the position, and what would have been right there.
    """
    return _Parser(query).query()


class _Parser:
    def __init__(self, query: str) -> None:
        self.source = query
        self.tokens = _tokens(query)
        self.position = 0

    def query(self) -> tuple[Condition | None, tuple[Order, ...]]:
        condition = None if self.at_word("order") or self.here.kind == "end" else self.either()
        orders: list[Order] = []
        if self.take_word("order"):
            if not self.take_word("by"):
                raise self.expected("'by' after 'order'")
            orders.append(self.order(orders))
            while self.take_operator(","):
                orders.append(self.order(orders))
        if self.here.kind != "end":
            raise self.expected("',' or the end" if orders else "'and', 'or', 'order by' or the end")
        return condition, tuple(orders)

    def order(self, before: list[Order]) -> Order:
        token = self.here
        field = self.field()
        if any(field == one.field for one in before):
            raise self.wrong(token, "a field that does not order yet")
        if len(before) == MOST_ORDERS:
            raise self.wrong(token, f"the end: {MOST_ORDERS} fields order at most")
        descending = self.take_word("desc")
        if not descending:
            self.take_word("asc")
        return Order(field, descending)

    def either(self) -> Condition:
        parts = [self.both()]
        while self.take_word("or"):
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def both(self) -> Condition:
        parts = [self.negated()]
        while self.take_word("and"):
            parts.append(self.negated())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def negated(self) -> Condition:
        if self.take_word("not"):
            return Not(self.negated())
        if self.take_operator("("):
            inner = self.either()
            if not self.take_operator(")"):
                raise self.expected("')'")
            return inner
        return self.test()

    def test(self) -> Condition:
        field = self.field()
        if self.here.kind == "operator" and self.here.text in _COMPARE:
            operator = self.next().text.replace("==", "=")
            return Predicate(field, operator, self.exact(field))
        if self.take_word("is"):
            negated = self.take_word("not")
            if not self.take_word("null"):
                raise self.expected("'null' or 'not null' after 'is'")
            return Predicate(field, "is not null" if negated else "is null", None)
        negated = self.take_word("not")
        for word in ("like", "ilike"):
            if self.take_word(word):
                test = Predicate(field, word, self.value(field, only_text=True))
                return Not(test) if negated else test
        if self.take_word("in"):
            test = Predicate(field, "in", self.values(field))
            return Not(test) if negated else test
        raise self.expected("a comparison: = != < <= > >= like ilike in is")

    def field(self) -> Field:
        if self.here.kind != "word":
            raise self.expected("a field, such as metrics.eval_loss, params.lr, tags.team or status")
        token = self.next()
        head, _, rest = token.text.partition(".")
        if not rest and head.lower() in ATTRIBUTES:
            return Field("attribute", head.lower())
        kind = {"metrics": "metric", "params": "param", "tags": "tag"}.get(head.lower())
        if kind is None or not rest:
            raise BadQuery(
                f"Unknown field '{token.text}' at position {token.at + 1}: "
                f"write metrics.NAME, params.NAME, tags.NAME or one of {', '.join(ATTRIBUTES)}.",
                details={"position": token.at},
            )
        aggregate = "last"
        if kind == "metric":
            stem, dot, tail = rest.rpartition(".")
            if dot and tail in AGGREGATES:
                rest, aggregate = stem, tail
        name = rest.replace("`", "")
        if aggregate == "best":
            aggregate = self.best(name, token)
        return Field(kind, name, aggregate)

    def best(self, name: str, token: Token) -> str:
        direction = guess(name)
        if direction is None:
            raise BadQuery(
                f"'{token.text}' at position {token.at + 1}: the name '{name}' does not say whether a low or a high "
                "value is better. Write .min or .max.",
                details={"position": token.at},
            )
        return direction

    def exact(self, field: Field) -> str | float:
        """A value that the field's is compared with as a whole: of a status, one that there is."""
        token = self.here
        value = self.value(field)
        if field == _STATUS and value not in STATUSES:
            raise self.wrong(token, f"a status: {', '.join(STATUSES)}")
        return value

    def value(self, field: Field, *, only_text: bool = False) -> str | float:
        token = self.here
        if token.kind == "text":
            self.next()
            text = re.sub(r"\\(.)", r"\1", token.text[1:-1])
            if field.is_number:
                if field.kind == "metric":
                    raise self.wrong(token, f"a number, for {field} is one")
                return self.seconds(token, text)
            return text
        if token.kind == "number" and not only_text:
            self.next()
            if field.kind == "attribute" and not field.is_number:
                return token.text
            return float(token.text)
        if token.kind == "word" and not field.is_number:
            self.next()
            return token.text
        raise self.expected("a number" if field.is_number else "a value in quotes")

    def seconds(self, token: Token, text: str) -> float:
        """A date as Unix seconds."""
        try:
            date = datetime.fromisoformat(text)
        except ValueError:
            raise self.wrong(token, "Unix seconds or a date such as '2026-11-01 08:00'") from None
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()

    def values(self, field: Field) -> tuple[str | float, ...]:
        if not self.take_operator("("):
            raise self.expected("'(' after 'in'")
        found = [self.exact(field)]
        while self.take_operator(","):
            found.append(self.exact(field))
        if not self.take_operator(")"):
            raise self.expected("',' or ')'")
        return tuple(found)

    @property
    def here(self) -> Token:
        return self.tokens[self.position]

    def next(self) -> Token:
        token = self.here
        self.position += 1
        return token

    def at_word(self, word: str) -> bool:
        return self.here.kind == "word" and self.here.text.lower() == word

    def take_word(self, word: str) -> bool:
        if self.at_word(word):
            self.position += 1
            return True
        return False

    def take_operator(self, operator: str) -> bool:
        if self.here.kind == "operator" and self.here.text == operator:
            self.position += 1
            return True
        return False

    def expected(self, what: str) -> BadQuery:
        return self.wrong(self.here, what)

    def wrong(self, token: Token, what: str) -> BadQuery:
        found = f"'{token.text}'" if token.kind != "end" else "the end"
        return BadQuery(
            f"Position {token.at + 1}: expected {what}, found {found}.",
            details={"position": token.at, "query": self.source},
        )


def _tokens(query: str) -> list[Token]:
    tokens: list[Token] = []
    position = 0
    end = len(query.rstrip())
    while position < end:
        match = _TOKEN.match(query, position)
        if match is None or match.lastgroup is None:
            place = position + len(query[position:]) - len(query[position:].lstrip())
            raise BadQuery(
                f"Position {place + 1}: cannot read '{query[place : place + 12]}'. Put text values in quotes.",
                details={"position": place, "query": query},
            )
        tokens.append(Token(match.lastgroup, match.group(match.lastgroup), match.start(match.lastgroup)))
        position = match.end()
    return [*tokens, Token("end", "", len(query))]
