"""Rows that come one by one as typed columns, so that a long file takes little more than its columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import polars as pl

TYPES: dict[frozenset[type], type[pl.DataType]] = {
    frozenset({str}): pl.String,
    frozenset({int}): pl.Int64,
    frozenset({float}): pl.Float64,
    frozenset({int, float}): pl.Float64,
}
NUMBERS = frozenset({int, float, Decimal})
EXACT_FLOAT = 2**53
"""Integers up to this are floats without loss."""
DIGITS = 38
"""Digits that a decimal column holds."""
ROWS_AT_ONCE = 100_000  # lists of Python values are large; a frame of them is small


class Columns:
    """The columns of a file that is read row by row.

    `add` takes a row's values by name and its number in the file; a name that a row lacks is missing there.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._values: dict[str, list[Any]] = {name: [] for name in names}
        self._numbers: list[int] = []
        self._blocks: list[dict[str, pl.Series]] = []
        self._rows: list[pl.Series] = []

    def add(self, number: int, row: Mapping[str, Any]) -> None:
        """One row."""
        self._numbers.append(number)
        for name, values in self._values.items():
            values.append(row.get(name))
        if len(self._numbers) == ROWS_AT_ONCE:
            self._close_block()

    def finish(self) -> tuple[pl.DataFrame, pl.Series]:
        """The columns, and [n] int64 the row numbers; a column of mixed types is pl.Object."""
        if self._numbers or not self._blocks:
            self._close_block()
        columns = [_joined(name, [block[name] for block in self._blocks]) for name in self._values]
        return pl.DataFrame(columns), pl.concat(self._rows)

    def _close_block(self) -> None:
        self._blocks.append({name: _series(name, values) for name, values in self._values.items()})
        self._rows.append(pl.Series(self._numbers, dtype=pl.Int64))
        self._values, self._numbers = {name: [] for name in self._values}, []


def _joined(name: str, blocks: list[pl.Series]) -> pl.Series:
    """One column of its blocks, in the type that all values together have."""
    types = {block.dtype for block in blocks} - {pl.Null()}
    if pl.Object() not in types and len(types) <= 1:
        kind = next(iter(types), pl.Null())
        return pl.concat([block.cast(kind) for block in blocks])
    return _series(name, [value for block in blocks for value in block.to_list()])


def _series(name: str, values: list[Any]) -> pl.Series:
    """A typed column; pl.Object where types mix, an integer has more than 64 bits, or a value is neither
    text nor number."""
    held = [value for value in values if value is not None]
    kinds = frozenset(map(type, held))
    if not kinds:
        return pl.Series(name, values, pl.Null)
    large = any(isinstance(value, int) and not -(2**63) <= value < 2**63 for value in held)
    lossy = Decimal in kinds or (
        float in kinds and any(type(value) is int and abs(value) > EXACT_FLOAT for value in held)
    )
    if lossy and kinds <= NUMBERS:
        return _decimals(name, values)
    return pl.Series(name, values, dtype=pl.Object if large else TYPES.get(kinds, pl.Object))


def _decimals(name: str, values: list[Any]) -> pl.Series:
    """Numbers that floats would change, as decimals; pl.Object where one has too many digits."""
    exact = [
        None if value is None else Decimal(repr(value) if isinstance(value, float) else value)
        for value in values
    ]
    finite = [value for value in exact if value is not None and value.is_finite()]
    scale = max(0, *(-int(value.as_tuple().exponent) for value in finite))
    before = max(0, *(value.adjusted() + 1 for value in finite))
    if len(finite) < len([value for value in exact if value is not None]) or scale + before > DIGITS:
        return pl.Series(name, values, dtype=pl.Object)
    return pl.Series(name, exact, dtype=pl.Decimal(DIGITS, scale))
