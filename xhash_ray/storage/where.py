"""`--where`: which rows of a table a verb looks at.

    split=train             a column equals a value
    split=train,database    one of several
    split!=query            none of them
    id%10=0                 one tenth of the pairs, by a stable hash of the id; !=0 is the other nine

Conditions are data, compared with column values; nothing is evaluated as code.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xhash_ray.core.shards import id_hash
from xhash_ray.errors import BadInput, BadOption, nearest

CONDITION = re.compile(r"^\s*(?P<column>[^!=%]+?)\s*(?:%\s*(?P<modulus>\d+)\s*)?(?P<sign>!?=)(?P<values>.*)$")


@dataclass(frozen=True)
class Where:
    """One condition on rows.

    Attributes:
        column: The column compared; `id` where `modulus` is set.
        values: Accepted (or, negated, refused) values as text.
        negated: Whether the values are refused.
        modulus: N of `id%N`, None otherwise.
    """

    column: str
    values: tuple[str, ...]
    negated: bool = False
    modulus: int | None = None

    def keeps(self, table: pa.Table) -> pa.BooleanArray:
        """Which rows of a table satisfy the condition; missing values satisfy no '=' and every '!='.

        Raises:
            BadInput: when the column is not there, or cannot be compared with the values.
        """
        matches = self.remainder_matches(table) if self.modulus else self.value_matches(table)
        return pc.invert(matches) if self.negated else matches

    def check_column(self, names: Sequence[str]) -> None:
        """Raises BadInput naming the nearest column when there is no such column."""
        if self.column not in names:
            hint = nearest(self.column, names)
            raise BadInput(f"--where {self.column}=...", f"no column '{self.column}'", hint)

    def remainder_matches(self, table: pa.Table) -> pa.BooleanArray:
        """Rows whose id's hash leaves one of the remainders."""
        if table["id"].null_count:
            raise BadInput(f"--where id%{self.modulus}", "a row without an id", "Give every pair an id")
        remainders = id_hash(table["id"].to_pylist()) % np.uint64(self.modulus or 1)
        return pa.array(np.isin(remainders, np.array([int(value) for value in self.values], dtype=np.uint64)))

    def value_matches(self, table: pa.Table) -> pa.BooleanArray:
        """Rows whose column holds one of the values."""
        self.check_column(table.column_names)
        column = table[self.column]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        try:
            values = pa.array(self.values).cast(column.type)
            return pc.fill_null(pc.is_in(column, value_set=values), False).combine_chunks()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            found = f"column is {column.type}: {str(error).splitlines()[0]}"
            raise BadInput(f"--where {self.column}={','.join(self.values)}", found, "Compare a plain column") from None


def parse_where(text: str | None) -> Where | None:
    """Reads a condition; None or an empty text means all rows.

    Raises:
        BadOption: for text that is no condition.
    """
    if not text:
        return None
    match = CONDITION.match(text)
    modulus = match and match["modulus"]
    values = tuple(value.strip() for value in match["values"].split(",")) if match else ()
    is_remainder = modulus is not None and match is not None
    if match is None or (is_remainder and (match["column"] != "id" or not valid_remainders(values, int(modulus or 0)))):
        raise BadOption(f"--where '{text}'", "not a condition", "Write column=value, column!=a,b or id%10=0")
    return Where(match["column"], values, match["sign"] == "!=", int(modulus) if modulus else None)


def opposite(where: Where) -> Where:
    """The condition that keeps exactly the other rows."""
    return replace(where, negated=not where.negated)


def valid_remainders(values: tuple[str, ...], modulus: int) -> bool:
    """Whether every value is a whole number below a positive modulus."""
    return modulus > 0 and all(value.isdigit() and int(value) < modulus for value in values)


def filter_rows(table: pa.Table, where: Where | None) -> pa.Table:
    """The rows of a table that satisfy a condition; all of them without one."""
    return table if where is None else table.filter(where.keeps(table))


def filter_all(table: pa.Table, conditions: Sequence[Where]) -> pa.Table:
    """The rows of a table that satisfy every one of some conditions."""
    for condition in conditions:
        table = filter_rows(table, condition)
    return table


def metadata_keeps(where: Where, ids: list[str], metadata: list[dict[str, object]]) -> np.ndarray:
    """`Where.keeps` for rows that are no table yet: bool [n]."""
    table = pa.table({"id": ids})
    if where.modulus is None:
        values = [None if row.get(where.column) is None else str(row[where.column]) for row in metadata]
        if where.column != "id" and any(where.column in row for row in metadata):
            table = table.append_column(where.column, pa.array(values, pa.string()))
    return np.asarray(where.keeps(table).to_numpy(zero_copy_only=False))
