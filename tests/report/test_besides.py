"""What stands beside the results of a run: published numbers where they belong, and no others."""

from __future__ import annotations

import pytest

from shelftalk.data.splitting import Split, SplitSettings, split_leave_one_out
from shelftalk.report import besides
from shelftalk.report.content import THIS_RUN, ModelRow, TaskResults
from shelftalk.report.ledger import SplitFacts
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
    monkeypatch.setattr(besides, "facts_of", lambda split: SplitFacts(22_363, 12_101, 198_502, "leave-one-out"))


def test_ours_stand_before_theirs_and_conventions_apart(beauty: None, split: Split) -> None:
    (train_only, refit), note = besides.published(split, [task()], leaks=False)
    ours = [[row.model for row in table.rows if row.source == THIS_RUN] for table in (train_only, refit)]
    assert ours == [["aligned", "item_knn"], ["aligned@refit"]]
    assert [row.source == THIS_RUN for row in train_only.rows] == [True] * 2 + [False] * 13
    assert train_only.rows[0].intervals["recall@5"] == (0.04, 0.06) and "mrr@20" not in train_only.rows[0].metrics
    assert "training part alone" in train_only.protocol and "trained again" in refit.protocol
    assert "validation practice" in note and "leaking" not in note


def test_models_that_read_a_leaking_index_are_not_held_against_publications(beauty: None, split: Split) -> None:
    (train_only,), note = besides.published(split, [task()], leaks=True)
    assert [row.model for row in train_only.rows if row.source == THIS_RUN] == ["item_knn"]
    assert note.endswith("Models of this run that read the leaking item index are left out.")


def test_ranking_has_nothing_beside_it_even_on_a_known_data_set(beauty: None, split: Split) -> None:
    assert besides.published(split, [task("ranking")], leaks=False) == ((), besides.NONE_PUBLISHED)


def test_another_data_set_gets_one_sentence_and_nothing_more(split: Split) -> None:
    assert besides.published(split, [task()], leaks=False) == ((), "There are no published numbers under this protocol for this data set.")
