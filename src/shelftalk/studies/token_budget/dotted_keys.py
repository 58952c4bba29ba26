"""Settings by dotted names: "training.learning_rate" as tables within tables, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shelftalk.experiment import laid_over


def nested(table: Mapping[str, Any]) -> dict[str, Any]:
    """Quoted dotted keys as nested tables; a key with a colon names a part of the user's own and is not
    divided."""
    tables: dict[str, Any] = {}
    for key, value in table.items():
        inner = nested(value) if isinstance(value, Mapping) else value
        tables = laid_over(tables, {key: inner} if ":" in key else at_path(key.split("."), inner))
    return tables


def at_path(path: Sequence[str], value: Any) -> dict[str, Any]:
    """`value` at the end of a path of tables."""
    first, *rest = path
    return {first: at_path(rest, value) if rest else value}


def leaves(table: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Path and value of everything in nested tables that is no table."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*above, key))
        else:
            yield (*above, key), value
