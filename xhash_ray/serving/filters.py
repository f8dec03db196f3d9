"""Filters on metadata: text to an Arrow expression, by a grammar of its own; nothing is evaluated as code.

    or_      := and_ ("or" and_)*
    and_     := not_ ("and" not_)*
    not_     := "not" not_ | "(" or_ ")" | "exists" "(" column ")" | column sign value | column "in" "[" value, ... "]"
    sign     := = != < <= > >=
    column   := a name, or any text in backticks
    value    := a number, true, false, or text in single or double quotes

    category = "shoes" and (year >= 2010 or not exists(brand)) and colour in ["red", "blue"]

A comparison with a missing value holds for no row, nor does its negation; `exists` tells them apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset

from xhash_ray.errors import BadInput, nearest

MAX_LENGTH, MAX_DEPTH = 4000, 50
TOKEN = re.compile(
    r"""\s*(?:(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?![\w.])|(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
    r"""|(?P<sign><=|>=|!=|=|<|>)|(?P<mark>[()\[\],])|(?P<quoted>`[^`]+`)|(?P<word>[^\W\d][\w.\-]*))"""
)
WORDS = {"and", "or", "not", "in", "exists", "true", "false"}
COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": lambda column, value: column == value,
    "!=": lambda column, value: column != value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
}


class Token(NamedTuple):
    """A piece of a filter: its kind, its text, and where it begins."""

    kind: str
    text: str
    start: int


def parse_filter(text: str, schema: pa.Schema) -> pc.Expression:
    """The Arrow expression of a filter.

    Args:
        text: See above.
        schema: Of the metadata; columns of text, numbers, booleans and times can be compared.

    Raises:
        BadInput: for text that is no filter, an unknown column, or a value that is not of a column's type.
    """
    if len(text) > MAX_LENGTH:
        raise BadInput("a filter", f"{len(text):,} characters", f"Write at most {MAX_LENGTH:,}")
    return Parser(text, schema).parse()


def rows_passing(table: pa.Table, expression: pc.Expression) -> np.ndarray:
    """Which rows an expression holds for: bool [n]."""
    if not len(table):
        return np.zeros(0, dtype=bool)
    scanned = pyarrow.dataset.dataset(table).scanner(columns={"passes": expression}, use_threads=False).to_table()
    found: np.ndarray = pc.fill_null(scanned["passes"], False).to_numpy(zero_copy_only=False)
    return found


class Parser:
    """Reads one filter, token by token."""

    def __init__(self, text: str, schema: pa.Schema) -> None:
        self.text, self.schema, self.depth = text, schema, 0
        self.tokens, self.next = list(self.tokenised()), 0

    def tokenised(self) -> list[Token]:
        """All tokens, then one of kind "end"."""
        found, place = [], 0
        while self.text[place:].strip():
            match = TOKEN.match(self.text, place)
            if match is None or match.lastgroup is None:
                raise self.wrong(f"'{self.text[place:].strip()[:20]}' at character {place + 1}")
            word = match[match.lastgroup]
            kind = "keyword" if match.lastgroup == "word" and word.lower() in WORDS else match.lastgroup
            found.append(Token(kind, word.lower() if kind == "keyword" else word, match.start(match.lastgroup)))
            place = match.end()
        return [*found, Token("end", "the end", len(self.text))]

    def parse(self) -> pc.Expression:
        """The whole filter."""
        expression = self.either()
        if self.peek().kind != "end":
            raise self.unexpected("and, or, or the end")
        return expression

    def either(self) -> pc.Expression:
        """Alternatives."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.wrong(f"more than {MAX_DEPTH} levels")
        expression = self.both()
        while self.taken("or"):
            expression = expression | self.both()
        self.depth -= 1
        return expression

    def both(self) -> pc.Expression:
        """What must hold together."""
        expression = self.one()
        while self.taken("and"):
            expression = expression & self.one()
        return expression

    def one(self) -> pc.Expression:
        """A comparison, a group, or the contrary of one."""
        contrary = False
        while self.taken("not"):
            contrary = not contrary
        if self.taken("("):
            expression = self.either()
            self.expect(")")
        elif self.taken("exists"):
            self.expect("(")
            expression = pc.field(self.column().name).is_valid()
            self.expect(")")
        else:
            expression = self.comparison()
        return ~expression if contrary else expression

    def comparison(self) -> pc.Expression:
        """column sign value, or column in [values]."""
        column = self.column()
        if self.taken("in"):
            self.expect("[")
            values = [self.value(column)]
            while self.taken(","):
                values.append(self.value(column))
            self.expect("]")
            found = pc.field(column.name).isin(pa.array([each.as_py() for each in values], column.type))
            return pc.if_else(pc.field(column.name).is_valid(), found, pa.scalar(None, pa.bool_()))
        sign = self.take()
        if sign.kind != "sign":
            raise self.unexpected("one of = != < <= > >= in", sign)
        return COMPARE[sign.text](pc.field(column.name), self.value(column))

    def column(self) -> pa.Field:
        """A column that can be compared."""
        token = self.take()
        if token.kind not in {"word", "quoted"}:
            raise self.unexpected("a column", token)
        name = token.text.strip("`")
        if name not in self.schema.names:
            raise BadInput(f"filter on '{name}'", "no such column", nearest(name, self.schema.names))
        field = self.schema.field(name)
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind):
            raise BadInput(f"filter on '{name}'", f"a column of {kind}", "Compare text, numbers, booleans or times")
        return pa.field(name, kind)

    def value(self, column: pa.Field) -> pa.Scalar:
        """A value of a column's type."""
        token = self.take()
        if token.kind not in {"number", "text"} and token.text not in {"true", "false"}:
            raise self.unexpected("a number, true, false or text in quotes", token)
        plain: Any = token.text == "true"
        if token.kind == "number":
            plain = float(token.text) if set(token.text) & set(".eE") else int(token.text)
        elif token.kind == "text":
            plain = re.sub(r"\\(.)", r"\1", token.text[1:-1])
        try:
            return self.typed(plain, column)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, OverflowError):
            found = f"{token.text} for a column of {column.type}"
            raise BadInput(f"filter on '{column.name}'", found, f"Give a {column.type}") from None

    def typed(self, plain: Any, column: pa.Field) -> pa.Scalar:
        """A value as the column's type has it; only times may come as text."""
        text_column = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        if text_column != isinstance(plain, str) and not (isinstance(plain, str) and pa.types.is_temporal(column.type)):
            raise pa.ArrowInvalid("another type")
        if pa.types.is_boolean(column.type) != isinstance(plain, bool):
            raise pa.ArrowInvalid("another type")
        if pa.types.is_integer(column.type) and isinstance(plain, float):
            return pa.scalar(plain, pa.float64())  # year > 2009.5
        return pa.scalar(plain).cast(column.type)

    def peek(self) -> Token:
        """The next token."""
        return self.tokens[self.next]

    def take(self) -> Token:
        """The next token, which is then past."""
        token = self.peek()
        self.next = min(self.next + 1, len(self.tokens) - 1)
        return token

    def taken(self, text: str) -> bool:
        """Takes the next token if it is this keyword or mark."""
        token = self.peek()
        if token.kind in {"keyword", "mark"} and token.text == text:
            self.take()
            return True
        return False

    def expect(self, text: str) -> None:
        """Takes the next token, which must be this one."""
        if not self.taken(text):
            raise self.unexpected(f"'{text}'")

    def unexpected(self, wanted: str, token: Token | None = None) -> BadInput:
        """The error for a token in the wrong place."""
        token = token or self.peek()
        return self.wrong(f"{token.text[:20]} at character {token.start + 1} where {wanted} was expected")

    def wrong(self, found: str) -> BadInput:
        """The error for text that is no filter."""
        return BadInput("a filter", found, 'Write such as: category = "shoes" and (year >= 2010 or not exists(brand))')
