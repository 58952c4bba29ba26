"""A comparison of runs as tables, for the terminal, and as files: one page, Markdown, CSV, LaTeX, JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shelftalk.evaluation.comparison import COMPARED
from shelftalk.evaluation.metrics import lower_is_better
from shelftalk.recommender import ALIGNED, ALIGNED_WITH_PRIOR
from shelftalk.report import numbers, plots
from shelftalk.report.content import Difference, ModelRow, TaskResults
from shelftalk.report.markdown import page_of
from shelftalk.report.render import environment, origin
from shelftalk.report.table_files import as_latex, name_of
from shelftalk.report.tables import Cell, Table, cost_table, counted, facts, signed_cell
from shelftalk.runtime.run_folder import write_texts
from shelftalk.studies.comparing.result import Comparison, ModelFigures, PairedRow, PartResult
from shelftalk.studies.comparing.statistics import Figure

NAME = "Comparison of runs"
CSV_COLUMNS = (
    "task", "test_part", "model", "seeds", "metric", "mean", "deviation", "low", "high", "n", "unit",
    "reference", "difference", "difference_low", "difference_high", "covers", "p", "p_holm", "runs",
)  # fmt: skip


def write_comparison(result: Comparison, folder: Path) -> Path:
    """Write compare.html, .md, .csv, .tex and .json into `folder`, each renamed into place; returns the path
    of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    rendered = {
        "compare.json": as_json(result),
        "compare.csv": as_csv(result),
        "compare.tex": as_tex(result),
        "compare.md": as_markdown(result),
        "compare.html": as_html(result),
    }
    write_texts(folder, rendered)
    return folder / "compare.html"


def as_json(result: Comparison) -> str:
    """The record itself, with what it was measured on."""
    parts = [
        {
            **asdict(part),
            "unit": part.unit,
            "differences": [{**asdict(row), "clear": row.clear} for row in part.differences],
        }
        for part in result.parts
    ]
    return json.dumps({**asdict(result), "parts": parts, **origin()}, indent=1, ensure_ascii=False) + "\n"


def as_markdown(result: Comparison) -> str:
    """The tables and the sentences that they need."""
    return page_of(NAME, summary(result), tables(result), result.sentences)


def as_tex(result: Comparison) -> str:
    """Every table as a LaTeX float."""
    return "\n".join(
        as_latex(table, title, name_of("compare", title)) for title, table in tables(result).items()
    )


def as_csv(result: Comparison) -> str:
    """One row per model and metric, unrounded, with the difference to the reference where there is one."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for part in result.parts:
        paired = {(row.label, row.metric): row for row in part.differences}
        for entry in part.entries:
            for metric, value in entry.figures.items():
                writer.writerow(_csv_row(part, entry, metric, value, paired.get((entry.label, metric))))
    return text.getvalue()


def _csv_row(
    part: PartResult, entry: ModelFigures, metric: str, value: Figure, row: PairedRow | None
) -> dict[str, Any]:
    figures = {
        "task": part.task, "test_part": part.number, "model": entry.label,
        "seeds": " ".join(map(str, entry.seeds)), "metric": metric, "mean": value.mean,
        "deviation": value.deviation, "low": value.low, "high": value.high, "n": part.n, "unit": part.unit,
        "runs": " ".join(entry.runs),
    }  # fmt: skip
    if row is None or row.paired is None:
        return figures
    one = row.paired
    return figures | {
        "reference": part.reference, "difference": one.value, "difference_low": one.low,
        "difference_high": one.high, "covers": one.covers, "p": one.p, "p_holm": row.p_holm,
    }  # fmt: skip


def as_html(result: Comparison) -> str:
    """One page without any reference to the outside; names of runs and models are escaped."""
    template = environment().get_template("compare.html.jinja")
    measured_on = origin()
    tasks = [_task(part) for part in result.parts]
    return template.render(
        name=NAME,
        summary=summary(result),
        parts_shown=[
            {
                "anchor": name_of(_title(part)),
                "title": _title(part),
                "note": _note(part),
                "panels": [*plots.metric_panels(task), *_difference_panels(part)],
                "figures": figure_table(part),
                "differences": difference_table(part) if part.differences else None,
                "reference": part.reference,
            }
            for part, task in zip(result.parts, tasks, strict=True)
        ],
        cost_panels=plots.cost_panels(_largest(tasks), result.costs),
        costs=cost_table(result.costs) if result.costs else None,
        runs=run_table(result),
        sentences=result.sentences,
        origin=measured_on,
        machine=facts(measured_on["machine"]),
    )


def summary(result: Comparison) -> str:
    """What was compared, and how many differences are more than chance."""
    seeds = sorted({row["seed"] for row in result.runs})
    rows = [row for part in result.parts for row in part.differences if row.paired is not None]
    clear = sum(row.clear for row in rows)
    labels = {entry.label for part in result.parts for entry in part.entries}
    compared = f"Of {len(rows)} differences {clear} are more than chance." if rows else "Nothing is paired."
    return (
        f"{_number(len(result.runs), 'run')} with {_number(len(seeds), 'seed')} "
        f"({', '.join(map(str, seeds))}), {_number(len(labels), 'model')}. {compared}"
    )


def _number(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def tables(result: Comparison) -> dict[str, Table]:
    """Title -> table: figures and differences of every task and test part, costs, runs."""
    shown: dict[str, Table] = {}
    for part in result.parts:
        shown[_title(part)] = figure_table(part)
        if part.differences:
            shown[f"{_title(part)}: differences to {part.reference}"] = difference_table(part)
    if result.costs:
        shown["Choices and costs"] = cost_table(result.costs)
    return {**shown, "Runs": run_table(result)}


def printed_tables(result: Comparison) -> dict[str, Table]:
    """As `tables`, with the metrics that are compared alone, as a terminal shows them."""
    shown = tables(result)
    narrow = {_title(part): figure_table(part, COMPARED[part.task]) for part in result.parts}
    if result.costs:
        narrow["Choices and costs"] = _without_last(cost_table(result.costs))
    return {title: narrow.get(title, table) for title, table in shown.items()}


def _without_last(table: Table) -> Table:
    return Table(table.columns[:-1], tuple(row[:-1] for row in table.rows), table.words)


def figure_table(part: PartResult, metrics: Sequence[str] | None = None) -> Table:
    """A row per model: mean with the deviation over seeds or the interval over users."""
    names = [name for name in part.entries[0].figures if metrics is None or name in metrics]
    rows = tuple(
        (
            Cell(entry.label),
            Cell(", ".join(map(str, entry.seeds))),
            *(_figure_cell(entry.figures.get(name)) for name in names),
        )
        for entry in part.entries
    )
    return Table(("model", "seeds", *map(numbers.metric_name, names)), rows, words=2)


def _figure_cell(figure: Figure | None) -> Cell:
    if figure is None:
        return Cell(numbers.MISSING)
    ends = None if figure.low is None else (figure.low, figure.high)
    spread = "" if figure.deviation is None else f"± {numbers.figure(figure.deviation)}"
    return Cell(numbers.figure(figure.mean), spread or numbers.interval(ends), value=figure.mean, ends=ends)


def difference_table(part: PartResult) -> Table:
    """A row per comparison with the reference; marked where it is more than chance."""
    return Table(
        ("model", "metric", "seeds", f"− {part.reference}", "p", "adjusted p", "covers"),
        tuple(_difference_row(row) for row in part.differences),
        words=3,
    )


def _difference_row(row: PairedRow) -> tuple[Cell, ...]:
    seeds = ", ".join(map(str, row.seeds)) or numbers.MISSING
    head = (Cell(row.label), Cell(numbers.metric_name(row.metric)), Cell(seeds))
    if row.paired is None:
        return (*head, *[Cell(numbers.MISSING)] * 3, Cell(row.why_not))
    one = row.paired
    cell = signed_cell(one.value, one.low, one.high)
    return (
        *head,
        Cell(cell.text, cell.note, row.clear, cell.value, cell.ends),
        Cell(numbers.p_value(one.p), value=one.p),
        Cell(numbers.p_value(row.p_holm), value=row.p_holm),
        Cell(one.covers),
    )


def run_table(result: Comparison) -> Table:
    """Every run with its seed, and how often its test part was evaluated."""
    rows = tuple(
        (
            Cell(row["run"]),
            Cell(row["experiment"]),
            counted(row["seed"]),
            counted(row["test_evaluations"]),
            Cell(row["version"]),
            Cell(", ".join(row["models"])),
        )
        for row in result.runs
    )
    return Table(("run", "experiment", "seed", "test evaluated", "version", "models"), rows, words=2)


def _title(part: PartResult) -> str:
    title = numbers.title(part.task)
    return title if part.of == 1 else f"{title}, table {part.number} of {part.of} ({_seeds(part)})"


def _seeds(part: PartResult) -> str:
    return f"seed{'' if len(part.seeds) == 1 else 's'} {', '.join(map(str, part.seeds))}"


def _note(part: PartResult) -> str:
    n = f"{numbers.count(part.n)} {part.unit}"
    asked = f"{n}, {_seeds(part)}"
    if part.test_parts > 1:
        asked += f", with {part.test_parts} test parts: the seed decides a part of the test"
    return f"{asked}. Runs: {', '.join(part.runs)}."


def _task(part: PartResult) -> TaskResults:
    """The figures as the plots of reports take them."""
    rows = tuple(
        ModelRow(
            entry.label,
            {metric: figure.mean for metric, figure in entry.figures.items()},
            {metric: _ends(figure) for metric, figure in entry.figures.items()},
            baseline=entry.model not in (ALIGNED, ALIGNED_WITH_PRIOR),
        )
        for entry in part.entries
    )
    metrics = COMPARED[part.task]
    return TaskResults(part.task, rows, metrics[0], metrics, part.n, part.unit, _note(part))


def _largest(tasks: Sequence[TaskResults]) -> list[TaskResults]:
    """Of each task the table with the most models."""
    largest: dict[str, TaskResults] = {}
    for task in tasks:
        if task.task not in largest or len(task.rows) > len(largest[task.task].rows):
            largest[task.task] = task
    return list(largest.values())


def _ends(figure: Figure) -> tuple[float, float] | None:
    """The interval of one run, or the range of several seeds."""
    if figure.low is not None and figure.high is not None:
        return figure.low, figure.high
    return (min(figure.per_seed), max(figure.per_seed)) if len(figure.per_seed) > 1 else None


def _difference_panels(part: PartResult) -> list[plots.Panel]:
    """One panel per compared metric: every paired difference to the reference."""
    panels = []
    for metric in COMPARED[part.task]:
        rows = [
            Difference(
                row.label,
                part.reference,
                metric,
                row.paired.value,
                row.paired.low,
                row.paired.high,
                row.p_holm,
            )
            for row in part.differences
            if row.metric == metric and row.paired is not None
        ]
        if rows:
            lower = " (lower is better)" if lower_is_better(metric) else ""
            heading = (
                f"{numbers.metric_name(metric)} minus that of {numbers.shorten(part.reference, 40)}{lower}"
            )
            panels.append(plots.difference_panel(heading, rows))
    return panels
