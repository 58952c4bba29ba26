"""Every table of a report as a file for programs (CSV) and for papers (LaTeX with booktabs).

A CSV file has the unrounded values, and the ends of an interval in two columns of their own. A LaTeX file has
the cells as they are printed, intervals in small type below the values. Names and titles are untrusted: a
cell of text neither becomes a formula in a spreadsheet nor a command in LaTeX.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shelftalk.report import numbers, tables
from shelftalk.report.content import AblationTable, Fact, ReportContent
from shelftalk.report.tables import Cell, Table

LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%",
    "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "\u2212": "$-$", "\u2013": "--", "\u2026": r"\dots{}",
    "\u201c": "``", "\u201d": "''", "\u00b7": r"\textperiodcentered{}",
}  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell of text that begins so is a formula to a spreadsheet."""
SENTENCE = 40
"""Characters from which on a cell is a sentence."""


@dataclass(frozen=True)
class NamedTable:
    """A table with the name of its files, and what it shows in a sentence."""

    name: str
    caption: str
    table: Table


def files_of(named: Iterable[NamedTable]) -> dict[str, str]:
    """File name -> text: NAME.csv and NAME.tex of every table."""
    return {
        f"{one.name}.{ending}": text
        for one in named
        for ending, text in (("csv", as_csv(one.table)), ("tex", as_latex(one.table, one.caption, one.name)))
    }


def named_tables(content: ReportContent) -> list[NamedTable]:
    """Every table of a report, in its order."""
    named: list[NamedTable] = []
    for task in content.tasks:
        title = numbers.title(task.task)
        n = f"{numbers.count(task.n)} {task.unit}"
        named.append(
            NamedTable(task.task, f"{title}: means over {n}, 95 % intervals.", tables.result_table(task))
        )
        if task.differences:
            caption = f"{title}: paired differences on the same {n}."
            named.append(NamedTable(f"{task.task}-differences", caption, tables.difference_table(task)))
        if task.of_lists:
            caption = f"{title}: what the lists are like. {' '.join(tables.list_sentences(task))}"
            named.append(NamedTable(f"{task.task}-lists", caption, tables.list_table(task)))
    if content.costs:
        named.append(
            NamedTable("costs", f"Choices and costs. {content.costs_note}", tables.cost_table(content.costs))
        )
    named += [
        NamedTable(name_of("published", table.task, str(number)), f"{table.dataset}: {table.protocol}",
                   tables.published_table(table))
        for number, table in enumerate(content.published, start=1)
    ]  # fmt: skip
    named += [
        NamedTable(name_of("elsewhere", table.task, str(number)),
                   f"{table.dataset}: on other or unknown terms.", tables.elsewhere_table(table))
        for number, table in enumerate(content.elsewhere, start=1)
    ]  # fmt: skip
    named += [
        NamedTable(name_of("slices", group.task, group.kind), slice_caption(group), tables.slice_table(group))
        for group in tables.slice_groups(content)
    ]
    if content.held_out_templates:
        caption = f"Seen against held-out templates. {content.held_out_templates_note}"
        named.append(NamedTable("templates", caption, tables.template_table(content.held_out_templates)))
    if content.search_error:
        caption = f"Beams against the true top 10. {content.search_error_note}"
        named.append(NamedTable("search", caption, tables.search_error_table(content.search_error)))
    named += [
        NamedTable(ablation_name(one), f"Ablation {one.name}. {one.summary}", tables.ablation_table(one))
        for one in content.ablations
    ]
    if content.stages:
        named.append(NamedTable("stages", "Time by stage.", tables.stage_table(content.stages)))
    return named


def ablation_name(ablation: AblationTable) -> str:
    """By its folder in the run's, of which there is one."""
    return name_of("ablation", ablation.page.rpartition("/")[0])


def slice_caption(group: tables.SliceGroup) -> str:
    """As in "Retrieval: Recall@10 by item popularity"."""
    return f"{numbers.title(group.task)}: {numbers.metric_name(group.metric)} by {group.kind}"


def name_of(*words: str) -> str:
    """A file name of letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-") or "table"


def as_csv(table: Table) -> str:
    """The table with unrounded values; the ends of intervals are columns of their own, NAME low and NAME
    high."""
    by_column = zip(*table.rows, strict=True) if table.rows else ([] for _ in table.columns)
    columns = [
        column
        for name, cells in zip(table.columns, by_column, strict=True)
        for column in _csv_columns(name, list(cells))
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(zip(*columns, strict=True))
    return text.getvalue()


def _csv_columns(name: str, cells: list[Cell]) -> list[list[str]]:
    """Heading and cells of the values, then of the low and the high ends, where some cell has them."""
    ends = [cell.ends or (None, None) for cell in cells]
    bounded = any(cell.ends is not None for cell in cells)
    columns = [[_csv_text(name), *map(_csv_cell, cells)]]
    if not bounded:
        return columns
    if all(cell.value is None for cell in cells):  # the column is an interval, and its text the same again
        columns = []
    lows, highs = ([_csv_number(pair[end]) for pair in ends] for end in (0, 1))
    return [*columns, [_csv_text(f"{name} low"), *lows], [_csv_text(f"{name} high"), *highs]]


def _csv_cell(cell: Cell) -> str:
    if cell.value is not None:
        return _csv_number(cell.value)
    if cell.text == numbers.MISSING:
        return ""
    return _csv_text(cell.text)


def _csv_number(value: Fact) -> str:
    if isinstance(value, float) and not numbers.known(value):
        return ""
    return "" if value is None else _csv_text(value) if isinstance(value, str) else repr(value)


def _csv_text(text: str) -> str:
    line = numbers.printable(text).replace("\n", " ")
    return f"'{line}" if line.startswith(FORMULA) else line


def as_latex(table: Table, caption: str, label: str) -> str:
    """The table as a LaTeX float with booktabs; intervals in small type below the values, the best figures
    bold."""
    rows = [line for row in table.rows for line in _latex_rows(row)]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}; in a pdflatex document also \usepackage[T1]{fontenc}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex(caption)}}}",
            rf"\label{{tab:{label}}}",
            rf"\begin{{tabular}}{{{''.join(_latex_columns(table))}}}",
            r"\toprule",
            " & ".join(map(latex, table.columns)) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _latex_columns(table: Table) -> list[str]:
    """Words to the left, numbers to the right, sentences in a column that breaks its lines."""
    longest = [max((len(row[n].text) for row in table.rows), default=0) for n in range(len(table.columns))]
    return [
        r"p{.4\textwidth}" if width > SENTENCE else "l" if n < table.words else "r"
        for n, width in enumerate(longest)
    ]


def _latex_rows(row: Sequence[Cell]) -> list[str]:
    """A line of values and, where there are notes, a line of them in small type."""
    values = " & ".join(_latex_cell(cell) for cell in row)
    if not any(cell.note for cell in row):
        return [rf"{values} \\"]
    notes = " & ".join(rf"{{\scriptsize {latex(cell.note)}}}" if cell.note else "" for cell in row)
    return [rf"{values} \\[-2pt]", rf"{notes} \\[2pt]"]


def _latex_cell(cell: Cell) -> str:
    return rf"\textbf{{{latex(cell.text)}}}" if cell.best else latex(cell.text)


def latex(text: str) -> str:
    """Text in which nothing is a command."""
    line = numbers.printable(text).replace("\n", " ")
    return "".join(LATEX.get(character, character) for character in line)
