"""Sections beside the results of a run: published numbers only under the same protocol, and search error."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from shelftalk.data.splitting import Split, SplitSettings, split_leave_one_out
from shelftalk.decoding.settings import DecodingSettings
from shelftalk.report import extra_sections, tables
from shelftalk.report.content import TERMS, THIS_RUN, ModelRow, SearchErrorRow, TaskResults
from shelftalk.report.ledger import SplitFacts
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.testing.worlds import tiny_world

FIGURES = {"recall@5": 0.05, "ndcg@5": 0.03, "recall@10": 0.09, "ndcg@10": 0.05, "mrr@20": 0.04}
ROWS = tuple(
    ModelRow(name, FIGURES, {"recall@5": (0.04, 0.06)}, baseline=not name.startswith("aligned"))
    for name in ("aligned", "item_knn", "aligned@refit")
)


def task(name: str = "retrieval", rows: tuple[ModelRow, ...] = ROWS) -> TaskResults:
    return TaskResults(name, rows, "recall@10", ("recall@10",), 22_363, "users", "Leave-one-out.")


@pytest.fixture(scope="module")
def split() -> Split:
    return split_leave_one_out(tiny_world(users=25, items=50), SplitSettings(ranking_negatives=20), seed=1)


@pytest.fixture
def beauty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The split passes for Amazon Beauty's."""
    monkeypatch.setattr(
        extra_sections,
        "facts_of",
        lambda split, ties: SplitFacts(22_363, 12_101, 198_502, "leave-one-out", ties="published order"),
    )


def test_ours_come_before_theirs_and_conventions_are_separate(beauty: None, split: Split) -> None:
    (train_only, refit), note = extra_sections.published(split, [task()], leaks=False)
    ours = [[row.model for row in table.rows if row.source == THIS_RUN] for table in (train_only, refit)]
    assert ours == [["aligned", "item_knn"], ["aligned@refit"]]
    assert [row.source == THIS_RUN for row in train_only.rows] == [True] * 2 + [False]
    assert (
        train_only.rows[0].intervals["recall@5"] == (0.04, 0.06)
        and "mrr@20" not in train_only.rows[0].metrics
    )
    assert "training part alone" in train_only.protocol and "trained again" in refit.protocol
    assert "validation practice" in note and "leaking" not in note


def test_figures_on_other_terms_stand_apart_with_their_terms(beauty: None, split: Split) -> None:
    (table,) = extra_sections.elsewhere(split, [task()])
    rows = {row.model: dict(zip(TERMS, row.terms, strict=True)) for row in table.rows}
    assert rows["CoVE"]["tested"] == "last but one" and rows["TIGER"]["seen items"] == "unknown"
    assert dict(zip(TERMS, table.ours, strict=True))["seen items"] == "left out"
    assert THIS_RUN not in {row.source for row in table.rows}
    shown = tables.elsewhere_table(table)
    assert [cell.text for cell in shown.rows[0]][-5:] == ["–", "–", "–", "–", ""]
    (ratings,) = extra_sections.elsewhere(split, [task("rating")])
    assert ratings.metrics == ("rmse", "mae") and [row.model for row in ratings.rows] == ["MF", "MLP", "P5-B"]


@pytest.mark.parametrize(
    ("ordered_by", "wanted", "ties"),
    [
        ("position", "published", "published order"),
        ("position", "shuffled", "shuffled"),
        ("timestamp", "published", "shuffled"),  # a seeded hash orders what is at one time
    ],
)
def test_what_orders_ties_is_read_off_what_orders_events(ordered_by: str, wanted: str, ties: str) -> None:
    assert extra_sections.ties_of(ordered_by, wanted) == ties


def test_models_that_read_a_leaking_index_are_not_compared_with_publications(
    beauty: None, split: Split
) -> None:
    (train_only,), note = extra_sections.published(split, [task()], leaks=True)
    assert [row.model for row in train_only.rows if row.source == THIS_RUN] == ["item_knn"]
    assert note.endswith("Models of this run that read the leaking item index are left out.")


def test_ranking_has_nothing_beside_it_even_on_a_known_data_set(beauty: None, split: Split) -> None:
    assert extra_sections.published(split, [task("ranking")], leaks=False) == (
        (),
        extra_sections.NONE_PUBLISHED,
    )


def test_another_data_set_gets_one_sentence_and_nothing_more(split: Split) -> None:
    assert extra_sections.published(split, [task()], leaks=False) == (
        (),
        "There are no published numbers under this protocol for this data set.",
    )


@pytest.fixture
def measured(tmp_path: Path) -> RunFolder:
    """Two ways to search for four users, of whom one user's true top is not known."""
    folder = RunFolder(tmp_path)
    folder.evaluation("search_error").parent.mkdir()
    columns = {
        "proven": [True, True, True, False],
        "missing": [0, 3, 0, 9],
        "shortfall": [0.0, 1.5, 0.0, 8.0],
        "tokens": [1, 2, 3, 9],
    }
    one = pl.DataFrame({"user": ["a", "b", "c", "d"], "beams": [10] * 4, "finish": ["replay"] * 4, **columns})
    other = one.with_columns(beams=pl.lit(40, pl.Int64), missing=pl.lit(0, pl.Int64), shortfall=pl.lit(0.0))
    pl.concat([one, other]).write_parquet(folder.evaluation("search_error"))
    return folder


def experiment_with(**decoding: Any) -> Any:
    return SimpleNamespace(decoding=DecodingSettings(**decoding))


def test_the_error_of_a_search_counts_only_those_whose_true_top_is_known(measured: RunFolder) -> None:
    rows, note = extra_sections.search_error(measured, experiment_with(beams=10))
    erring = SearchErrorRow(10, "replay", 3, pytest.approx(1 / 3), pytest.approx(0.1), 1.5)
    assert rows == (erring, SearchErrorRow(40, "replay", 3, 0, 0, 0))
    assert note.startswith("4 users") and "For 1 of them it met its limit" in note
    assert (
        '10 beams with finish = "replay", finds another top 10 for 33.3 % of them and misses 10.0 % of the '
        "true items." in note
    )


def test_the_error_of_a_search_is_read_as_this_run_searches(measured: RunFolder) -> None:
    assert extra_sections.search_error(measured, experiment_with(search="exact"))[1].endswith(
        "This run's own answers are exact."
    )
    assert (
        "(before its length penalty), 40 beams"
        in extra_sections.search_error(measured, experiment_with(length_penalty=0.5))[1]
    )
    # measured with other settings
    assert "This run's search" not in extra_sections.search_error(measured, experiment_with(beams=25))[1]


def test_where_no_true_top_is_known_there_is_no_figure(measured: RunFolder) -> None:
    path = measured.evaluation("search_error")
    pl.read_parquet(path).with_columns(proven=False).write_parquet(path)
    rows, note = extra_sections.search_error(measured, experiment_with())
    assert rows == () and "For 4 of them it met its limit before it was done: they are left out." in note
    path.unlink()
    assert extra_sections.search_error(measured, experiment_with()) == ((), "")
