"""Filters: what each keeps, worked by hand, and that what it takes away is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelftalk.data.dataset import TIME
from shelftalk.data.filters import FilterSettings, filter_events
from shelftalk.data.sources import DataSettings, read_dataset
from shelftalk.errors import DataError, MissingColumn, NothingLeft
from tests.end_to_end.tiny import call

DAY = 86_400
EVENTS = pl.DataFrame(
    [("u", "a", 0, 5.0), ("u", "b", DAY, None), ("u", "c", 2 * DAY, 2.0), ("v", "a", 2 * DAY, 4.0)],
    schema=["user_id", "item_id", "timestamp", "rating"],
    orient="row",
).with_columns(nanosecond=pl.lit(0, pl.Int64))


def kept(events: pl.DataFrame = EVENTS, seed: int = 0, **wanted: Any) -> tuple[list[tuple[str, str]], Any]:
    left, steps = filter_events(events, FilterSettings(**wanted), TIME, seed)
    return left.select("user_id", "item_id").rows(), steps


def test_nothing_is_filtered_unless_it_is_asked_for() -> None:
    assert kept() == (EVENTS.select("user_id", "item_id").rows(), [])


def test_a_window_holds_its_first_moment_and_not_its_last() -> None:
    rows, (step,) = kept(since="1970-01-02", until="1970-01-03T00:00:00Z")
    assert rows == [("u", "b")] and (step.events, step.users, step.items) == (3, 1, 2)
    assert step.sentence() == (
        'Filter: data.filters.since = "1970-01-02" and data.filters.until = "1970-01-03T00:00:00Z" takes 3 '
        "interactions away, and with them the last of 1 users and 2 items."
    )
    assert kept(until="1970-01-02")[0] == [("u", "a")]
    assert kept(since="1970-01-01T23:00:00-01:00")[0] == EVENTS.select("user_id", "item_id").rows()[1:]


def test_an_unrated_interaction_passes_a_lowest_rating() -> None:
    rows, (step,) = kept(min_rating=4)
    assert rows == [("u", "a"), ("u", "b"), ("v", "a")] and step.rule == "data.filters.min_rating = 4"


@pytest.mark.parametrize(
    ("keep", "items"), [("latest", {"b", "c"}), ("earliest", {"a", "b"}), ("random", None)]
)
def test_a_cap_keeps_the_interactions_that_it_names(keep: str, items: set[str] | None) -> None:
    rows, (step,) = kept(max_per_user=2, keep=keep)
    of_u = {item for user, item in rows if user == "u"}
    assert len(of_u) == 2 and (items is None or of_u == items) and ("v", "a") in rows and step.events == 1


def test_a_random_cap_depends_on_the_seed_and_not_on_the_order_of_rows() -> None:
    many = pl.DataFrame({"user_id": ["u"] * 50, "item_id": [f"i{n}" for n in range(50)]})
    chosen = {tuple(sorted(kept(many, seed, max_per_user=5, keep="random")[0])) for seed in range(5)}
    assert len(chosen) == 5
    again = filter_events(many.reverse(), FilterSettings(max_per_user=5, keep="random"), (), 0)[0]
    assert tuple(sorted(again.select("user_id", "item_id").rows())) == tuple(
        sorted(kept(many, 0, max_per_user=5, keep="random")[0])
    )


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("uvw"), st.sampled_from("abcdef"), st.integers(0, 3)),
        min_size=1,
        unique_by=lambda row: row[:2],
    ),
    st.integers(1, 4),
)
def test_a_cap_leaves_each_user_the_lesser_of_the_cap_and_what_they_have(
    rows: list[tuple[str, str, int]], cap: int
) -> None:
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").with_columns(
        nanosecond=pl.lit(0, pl.Int64)
    )
    left = [user for user, _ in kept(events, max_per_user=cap)[0]]
    had = [user for user, _, _ in rows]
    assert {user: left.count(user) for user in had} == {user: min(cap, had.count(user)) for user in had}


def test_of_users_with_one_history_the_first_by_id_stays() -> None:
    rows = [(user, item, n) for user in "yxz" for n, item in enumerate("abc" if user != "z" else "acb")]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").with_columns(
        nanosecond=pl.lit(0, pl.Int64)
    )
    left, (step,) = kept(events, same_history="first", same_history_from=3)
    assert {user for user, _ in left} == {"x", "z"} and step.users == 1  # z has another order
    assert kept(events, same_history="first", same_history_from=4)[1][0].events == 0


def test_what_a_filter_cannot_read_or_that_leaves_nothing_is_refused() -> None:
    bare = EVENTS.select("user_id", "item_id")
    with pytest.raises(MissingColumn, match="4 of 4 interactions have no timestamp"):
        kept(bare, since="2000-01-01")
    with pytest.raises(MissingColumn, match="no interaction has a rating"):
        kept(bare, min_rating=3)
    with pytest.raises(NothingLeft, match="min_rating = 6 leaves nothing of 4"):
        kept(EVENTS.with_columns(rating=pl.lit(1.0)), min_rating=6)
    with pytest.raises(ValueError, match='"yesterday" is not an ISO 8601 date or time; write one such as'):
        FilterSettings(since="yesterday")
    with pytest.raises(ValueError, match="since is not before data.filters.until"):
        FilterSettings(since="2001-01-01", until="2000-01-01")


def save(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    rows = ["user_id,item_id,timestamp,rating"]
    rows += [f"u{user},i{(user * 3 + n) % 30},{n * DAY},{1 + n % 5}" for user in range(12) for n in range(9)]
    rows += ["u0,i0,0,1", "u0,i0,1,5"]
    (folder / "interactions.csv").write_text("\n".join(rows) + "\n")
    (folder / "items.csv").write_text("item_id,title\n" + "".join(f"i{n},Item {n}\n" for n in range(30)))
    return folder


def test_the_highest_rated_of_repeats_is_kept_where_it_is_asked_for(tmp_path: Path) -> None:
    folder = save(tmp_path / "data")
    for repeats, rating in (("first", 1.0), ("last", 5.0), ("highest", 5.0)):
        data, _ = read_dataset(DataSettings(folder=str(folder), repeats=repeats), seed=0)
        event = data.events.filter((pl.col("user_id") == "u0") & (pl.col("item_id") == "i0"))
        assert event["rating"].to_list() == [rating]


def test_what_filters_took_away_is_in_the_terminal_the_report_and_json(tmp_path: Path) -> None:
    folder = save(tmp_path / "data")
    tables = {
        "data": {"folder": str(folder), "k_core": 2},
        "data.filters": {"min_rating": 2, "max_per_user": 5},
        "split": {"ranking_negatives": 5},
        "evaluation": {"resamples": 100},
    }
    text = 'name = "filtered"\nmodels = ["popularity"]\n'
    for table, values in tables.items():
        text += f"[{table}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
    (tmp_path / "filtered.toml").write_text(text)
    out = tmp_path / "run"
    printed = call("run", tmp_path / "filtered.toml", "--out", out).stdout
    expected = "Filter: data.filters.min_rating = 2 takes 24 interactions away"
    assert expected in printed and "filtered: " in printed
    held = json.loads(call("prepare", tmp_path / "filtered.toml", "--out", out, "--json").stdout)["data"]
    assert [step["rule"] for step in held["filters"]] == [
        "data.filters.min_rating = 2", 'data.filters.max_per_user = 5 ("latest")',
    ]  # fmt: skip
    assert any(sentence.startswith(expected) for sentence in held["sentences"])
    page = (out / "report.html").read_text()
    assert "data.filters.min_rating = 2" in page and "24 interactions, 0 users, 0 items away" in page


def test_a_filter_that_leaves_too_little_names_itself(tmp_path: Path) -> None:
    given = DataSettings.model_validate(
        {"folder": str(save(tmp_path / "data")), "filters": {"since": "2100-01-01"}}
    )
    with pytest.raises(DataError, match='data.filters.since = "2100-01-01" leaves nothing of 108'):
        read_dataset(given, seed=0)
