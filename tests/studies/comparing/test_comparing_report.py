"""The comparison as files and on the command line."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shelftalk.studies.comparing.evaluated_run import evaluated_runs
from shelftalk.studies.comparing.report import as_csv, as_html, as_markdown, printed_tables, write_comparison
from shelftalk.studies.comparing.result import Comparison, compare_runs
from tests.chromium import Chromium, executable
from tests.report.test_render import Page, headings_of


@pytest.fixture(scope="module")
def result(folders) -> Comparison:
    return compare_runs(evaluated_runs([folders[name] for name in ("a0", "a1", "b0", "c0")]))


def test_five_files_are_written(result: Comparison, tmp_path: Path) -> None:
    page = write_comparison(result, tmp_path / "new")
    names = {path.name for path in page.parent.iterdir()}
    assert names == {f"compare.{ending}" for ending in ("html", "md", "csv", "tex", "json")}


def test_the_csv_file_has_a_row_per_model_and_metric_with_every_digit(result: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(result))))
    figures = sum(len(entry.figures) for part in result.parts for entry in part.entries)
    assert len(rows) == figures
    part = result.parts[0]
    label = part.entries[0].label  # two data sets have a "popularity", so each is named with its run
    row = next(row for row in rows if row["model"] == label and row["metric"] == "ndcg@10")
    paired = next(one for one in part.differences if (one.label, one.metric) == (label, "ndcg@10"))
    assert (
        label == "popularity (a0)"
        and paired.paired is not None
        and row["seeds"] == "0 1"
        and row["reference"] == part.reference
    )
    assert float(row["mean"]) == part.entries[0].figures["ndcg@10"].mean
    assert float(row["difference"]) == paired.paired.value and float(row["p_holm"]) == paired.p_holm


def test_the_page_and_the_markdown_have_every_table_and_name_every_run(result: Comparison) -> None:
    html, markdown = as_html(result), as_markdown(result)
    text = " ".join(Page(html).text)
    for words in ("table 1 of", "Choices and costs", "item_knn (shop-0.1)", "How to read it"):
        assert words in text and words in markdown.replace("\\", "")
    assert all(re.search(rf"\b{name}\b", text) for name in ("a0", "a1", "b0", "c0"))


def test_the_page_is_whole_refers_to_nothing_outside_and_has_its_headings_in_order(
    result: Comparison,
) -> None:
    page = Page(as_html(result))
    assert not page.open and {tag for tag, _ in page.elements}.isdisjoint({"script", "link", "img", "iframe"})
    levels = headings_of(as_html(result))
    assert levels[0] == 1 and all(b <= a + 1 for a, b in zip(levels, levels[1:], strict=False))
    identifiers = [one["id"] for _, one in page.elements if "id" in one]
    assert len(identifiers) == len(set(identifiers))


def test_a_terminal_shows_the_compared_metrics_alone(result: Comparison) -> None:
    shown = printed_tables(result)
    first = next(iter(shown.values()))
    assert first.columns == ("model", "seeds", "Recall@10", "NDCG@10")
    assert shown["Choices and costs"].columns[-1] == "memory"


@pytest.mark.skipif(executable() is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser_nothing_fails_leaves_the_page_or_is_wider_than_it(
    result: Comparison, tmp_path: Path, width: int
) -> None:
    page = write_comparison(result, tmp_path)
    browser = Chromium(executable() or "")
    try:
        browser.open(page, width, "dark")
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert browser.value(overflow) <= 0
        assert browser.complaints() == [] and browser.requested() == [page.as_uri()]
    finally:
        browser.close()


def shelftalk(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "shelftalk", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ}, check=False)


def test_the_command_prints_tables_or_json_and_writes_where_it_is_told(folders, tmp_path: Path) -> None:
    runs = [str(folders["a0"]), str(folders["a1"])]
    printed = shelftalk("compare", *runs, "--out", str(tmp_path / "out"))
    assert printed.returncode == 0, printed.stderr
    assert "Retrieval: differences to item_knn" in printed.stdout
    assert printed.stdout.rstrip().endswith(f"Report: {tmp_path / 'out' / 'compare.html'}")
    as_json = shelftalk("compare", *runs, "--reference", "popularity", "--json")
    parts = json.loads(as_json.stdout)["parts"]
    assert [part["reference"] for part in parts] == ["popularity", "popularity", "bias"]
    wrong = shelftalk("compare", *runs, "--reference", "nobody")
    assert wrong.returncode == 2 and "no run has evaluated a model" in wrong.stderr
