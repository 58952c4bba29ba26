"""A plan as tables and sentences for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from shelftalk.studies.planning.plan import Plan


def rendered(plan: Plan) -> list[Table | str]:
    """What is printed, from top to bottom."""
    facts = {**plan.model, **plan.training, **{f"trie, {name}": value for name, value in plan.trie.items()}}
    return [
        *plan.data,
        *(f"Note: {note}" for note in plan.notes),
        _facts(f"{plan.experiment}: the model and its training", facts),
        _tasks(plan),
        f"{plan.counted} {' '.join(f'Cut {what}: {share:.1%}.' for what, share in plan.cut.items())}",
        _memory(plan),
        _times(plan),
        *plan.assumptions,
        *(f"Refused: {sentence}" for sentence in plan.refused),
    ]


def _facts(title: str, facts: Mapping[str, Any]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in facts.items():
        table.add_row(
            name, f"{value:,}" if isinstance(value, int) else "none" if value is None else str(value)
        )
    return table


def _tasks(plan: Plan) -> Table:
    table = Table(
        title="samples of one epoch; tokens at the median, the 95th percentile and most", title_justify="left"
    )
    table.add_column("task")
    for column in ("samples", "prompt tokens", "target tokens", "histories cut", "beyond context"):
        table.add_column(column, justify="right")
    for name, row in plan.tasks.items():
        lengths = (
            " / ".join(f"{row[f'{what} {at}']:,}" for at in ("p50", "p95", "max"))
            for what in ("prompt", "targets")
        )
        table.add_row(
            name,
            f"{row['samples']:,}",
            *lengths,
            *(f"{row[share]:.1%}" for share in ("histories cut", "beyond context")),
        )
    return table


def _memory(plan: Plan) -> Table:
    table = Table(title="memory at the highest moment, in GB", title_justify="left")
    table.add_column("")
    for title in plan.memory:
        table.add_column(title, justify="right")
    for part in next(iter(plan.memory.values())):
        table.add_row(part, *(f"{parts[part] / 1e9:.2f}" for parts in plan.memory.values()))
    return table


def _times(plan: Plan) -> Table:
    table = Table(title="time and cost of training", title_justify="left")
    for column in ("where", "training"):
        table.add_column(column)
    for column in ("hours", "cost"):
        table.add_column(column, justify="right")
    for row in plan.times:
        table.add_row(
            row["where"],
            row["training"],
            f"{row['hours']:.2f}",
            "" if row["cost"] is None else f"{row['cost']:.2f}",
        )
    return table
