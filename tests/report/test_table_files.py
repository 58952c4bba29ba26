"""Tables as files: CSV keeps every digit, LaTeX compiles whatever a name holds, and neither runs anything."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from shelftalk.report.content import ReportContent
from shelftalk.report.render import render_html, write_report
from shelftalk.report.table_files import NamedTable, as_csv, as_latex, files_of, latex, named_tables
from shelftalk.report.tables import Cell, Table
from tests.report.test_render import evil_content


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def table_of(content: ReportContent, name: str) -> Table:
    return next(one.table for one in named_tables(content) if one.name == name)


def test_a_csv_file_holds_unrounded_values_and_the_ends_of_intervals(content: ReportContent) -> None:
    row = replace(
        content.tasks[0].rows[0], metrics={"recall@10": 1 / 3}, intervals={"recall@10": (0.1 + 0.2, 2 / 3)}
    )
    written = rows_of(
        as_csv(table_of(replace(content, tasks=(replace(content.tasks[0], rows=(row,)),)), "retrieval"))
    )
    assert written == [
        {
            "model": "aligned+prior",
            "Recall@10": repr(1 / 3),
            "Recall@10 low": repr(0.1 + 0.2),
            "Recall@10 high": repr(2 / 3),
        }
    ]


def test_an_interval_of_its_own_column_becomes_two_columns(content: ReportContent) -> None:
    first = rows_of(as_csv(table_of(content, "retrieval-differences")))[0]
    assert first == {
        "first and second": "aligned+prior beats item_knn",
        "metric": "Recall@10",
        "first \u2212 second": "0.0119",
        "95 % interval low": "0.0015",
        "95 % interval high": "0.0224",
        "p": "0.026",
        "adjusted p": "0.039",
        "could have shown": "0.0149",
    }


def test_what_was_not_measured_is_an_empty_cell() -> None:
    table = Table(
        ("model", "x"), ((Cell("a"), Cell("\u2013")), (Cell("b"), Cell("\u2013", value=float("nan"))))
    )
    assert as_csv(table) == "model,x\na,\nb,\n"
    assert as_csv(Table(("model", "x"), ())) == "model,x\n"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_a_name_is_no_formula_in_a_spreadsheet(start: str) -> None:
    (row,) = rows_of(as_csv(Table(("model",), ((Cell(f"{start}cmd|' /C calc'!A0"),),))))
    assert row["model"].startswith("'") or row["model"][0] not in "=+-@\t"


def test_a_negative_number_stays_a_number() -> None:
    assert as_csv(Table(("m", "x"), ((Cell("a"), Cell("\u2212.5000", value=-0.5)),))) == "m,x\na,-0.5\n"


def test_a_latex_file_is_a_float_with_booktabs_the_best_bold_and_intervals_below() -> None:
    table = Table(
        ("model", "Recall@10"),
        ((Cell("item_knn"), Cell(".1222", "[.0984, .1461]", best=True)), (Cell("x"), Cell("\u2212.5"))),
    )
    assert as_latex(table, "95 % of 671 users", "retrieval").splitlines()[1:] == [
        r"\begin{table}",
        r"\centering",
        r"\caption{95 \% of 671 users}",
        r"\label{tab:retrieval}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"model & Recall@10 \\",
        r"\midrule",
        r"item\_knn & \textbf{.1222} \\[-2pt]",
        r" & {\scriptsize [.0984, .1461]} \\[2pt]",
        r"x & $-$.5 \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


def test_every_character_that_means_something_to_latex_is_escaped() -> None:
    assert latex(r"\input{x} $ & # % _ ~ ^ < > |") == (
        r"\textbackslash{}input\{x\} \$ \& \# \% \_ \textasciitilde{} \textasciicircum{} "
        r"\textless{} \textgreater{} \textbar{}"
    )


def test_every_line_of_a_hostile_latex_table_has_the_columns_of_its_head(content: ReportContent) -> None:
    for one in named_tables(evil_content(content)):
        lines = as_latex(one.table, one.caption, one.name).splitlines()
        body = lines[lines.index(r"\toprule") + 1 : lines.index(r"\bottomrule")]
        unescaped = {len(re.findall(r"(?<!\\)&", line)) for line in body if line != r"\midrule"}
        assert unescaped == {len(one.table.columns) - 1}
        for line in lines:
            assert len(re.findall(r"(?<!\\)\{", line)) == len(re.findall(r"(?<!\\)\}", line))


def test_every_table_of_the_page_links_to_files_that_are_written(
    content: ReportContent, tmp_path: Path
) -> None:
    html = write_report(content, tmp_path).read_text("utf-8")
    linked = set(re.findall(r'href="(tables/[^"]+)"', html))
    written = {path.relative_to(tmp_path).as_posix() for path in (tmp_path / "tables").iterdir()}
    assert linked <= written and len(linked) > 20
    shown_as_plots_alone = {"tables/stages.csv", "tables/stages.tex"}
    assert written - linked == shown_as_plots_alone


def test_names_of_files_are_plain_and_none_comes_twice(content: ReportContent) -> None:
    for shown in (content, evil_content(content)):
        names = [one.name for one in named_tables(shown)]
        assert len(names) == len(set(names)) and all(re.fullmatch(r"[a-z0-9-]+", name) for name in names)


def test_tables_of_an_earlier_report_do_not_stay(content: ReportContent, tmp_path: Path) -> None:
    write_report(content, tmp_path)
    write_report(replace(content, tasks=content.tasks[:1], slices=()), tmp_path)
    assert (
        not (tmp_path / "tables" / "rating.csv").exists() and (tmp_path / "tables" / "retrieval.csv").exists()
    )


def test_both_files_of_a_table_have_its_name() -> None:
    files = files_of([NamedTable("one", "A caption.", Table(("m",), ((Cell("a"),),)))])
    assert list(files) == ["one.csv", "one.tex"] and "A caption." in files["one.tex"]


def test_a_page_of_many_models_shows_the_first_comparisons_and_the_others_on_demand(
    content: ReportContent,
) -> None:
    task = content.tasks[0]
    many = tuple(
        replace(task.differences[0], second=f"baseline-{n}", metric=metric)
        for metric in ("recall@10", "ndcg@10")
        for n in range(20)
    )
    html = render_html(replace(content, tasks=(replace(task, differences=many),)))
    assert "The other 26 comparisons" in html and "15 more comparisons below" in html
    whole = rows_of(
        as_csv(table_of(replace(content, tasks=(replace(task, differences=many),)), "retrieval-differences"))
    )
    assert len(whole) == 40
