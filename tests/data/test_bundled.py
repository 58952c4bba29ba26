"""The data that comes with the package is as documented, and carries its terms."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from shelftalk.data.sources import DataSettings, read_dataset
from shelftalk.data.sources.locating import BUNDLED
from shelftalk.data.splitting import SplitSettings, split_leave_one_out

FOLDER = BUNDLED / "movielens-small"
SHARED = Path(__file__).parents[3] / "shared" / "data"


def test_the_defaults_read_the_5_core_of_movielens():
    dataset, report = read_dataset(DataSettings(), seed=0)
    assert (len(dataset.user_ids), len(dataset.items), len(dataset.events)) == (671, 3_496, 90_072)
    assert (report.users_read, report.items_read, report.events_read, report.catalogue_read) == (
        671,
        9_066,
        100_004,
        9_125,
    )
    assert (report.items_with_title, report.events_with_rating, report.events_with_position) == (
        1.0,
        1.0,
        0.0,
    )
    assert report.ordered_by == "timestamp" and 0.15 < report.users_tied_at_end < 0.25
    assert dataset.rating_values == [half / 2 for half in range(1, 11)]
    assert dataset.item("1").title == "Toy Story (1995)"


def test_times_of_whole_seconds_keep_the_split_of_versions_without_fractions():
    dataset, _ = read_dataset(DataSettings(k_core=5, catalogue="interacted"), seed=0)
    assert dataset.fingerprint() == "c2ef1cd9d28b71e50af9d0aee568a75d6e34d70d27137820466eb457a41af59e"
    split = split_leave_one_out(dataset, SplitSettings(), seed=0)
    assert split.fingerprint() == "89dcbb0bcbb973e8e6661dfc9fec5fdc6395a5c7e273389cea32aecd2295103e"


def test_the_terms_stand_beside_the_data():
    terms = (FOLDER / "LICENSE.txt").read_text()
    for words in (
        "research",
        "same conditions",
        "No commercial use without permission",
        "No endorsement",
        "Harper",
        "Konstan",
    ):
        assert words in terms
    assert "LICENSE.txt" in (FOLDER / "README.md").read_text()


def test_the_bundled_files_are_those_that_may_be_redistributed():
    if not (SHARED / "movielens-small").exists():
        pytest.skip("the shared data folder is not here")
    for name in ("interactions.parquet", "items.parquet"):
        assert (FOLDER / name).read_bytes() == (SHARED / "movielens-small" / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "counts", "tied"),
    [("beauty", (22_363, 12_101, 198_502), 0.435), ("sports-untitled", (35_598, 18_357, 296_337), 0.451)],
)
def test_the_research_sets_have_their_published_counts(name, counts, tied):
    folder = SHARED / name
    if not folder.exists():
        pytest.skip("the shared data folder is not here")
    dataset, report = read_dataset(DataSettings(folder=str(folder)), seed=0)
    assert (report.users, report.items, report.events) == counts and report.ordered_by == "position"
    next_item_pairs = len(dataset.events) - 3 * report.users
    assert next_item_pairs == {"beauty": 131_413, "sports-untitled": 189_543}[name]
    last_two = pl.col("timestamp").sort().tail(2).n_unique() == 1
    shared_day = dataset.events.group_by("user_id").agg(last_two)["timestamp"].mean()
    assert shared_day == pytest.approx(tied, abs=0.001)
