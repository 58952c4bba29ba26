"""Similarity: texts of the catalogue and co-occurrence of the training part, whatever the order of the
files."""

from __future__ import annotations

import tracemalloc

import numpy as np
import polars as pl
import pytest

from shelftalk.data import similarity
from shelftalk.data.dataset import make_dataset
from shelftalk.data.similarity import COUNTED_EVENTS, co_occurrence, not_counted, shared_users, text_vectors
from shelftalk.data.splitting import Split, SplitSettings, split_leave_one_out
from shelftalk.testing.worlds import nasty_world, replace_held_out, tiny_world

SPLIT = split_leave_one_out(tiny_world(), SplitSettings(), seed=0)


def catalogue(*rows: tuple[str, str, str]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["title", "brand", "categories"], orient="row")


def test_text_vectors_have_length_one_and_share_what_texts_share():
    vectors = text_vectors(
        catalogue(("Red lamp", "Acme", ""), ("Red lamp", "Acme", ""), ("Green boots", "", ""))
    )
    cosine = (vectors @ vectors.T).toarray()
    assert cosine == pytest.approx(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]]))


def test_title_brand_and_categories_all_count():
    vectors = text_vectors(catalogue(("kettle", "", ""), ("", "kettle", ""), ("", "", "kettle")))
    assert (vectors @ vectors.T).toarray() == pytest.approx(np.ones((3, 3)))


def test_word_pairs_count_beside_words():
    vectors = text_vectors(catalogue(("tea pot", "", ""), ("pot tea", "", "")))
    assert vectors.shape == (2, 4)  # tea, pot, "tea pot", "pot tea"


def test_an_item_without_a_word_gets_a_row_of_zeros():
    vectors = text_vectors(catalogue(("", "", ""), ("?!", "", ""), ("Lamp", "", "")))
    assert vectors[:2].nnz == 0 and vectors[2].nnz == 1


@pytest.mark.parametrize("text", ["", "?!"])
def test_a_catalogue_without_a_word_gets_no_features(text: str):
    assert text_vectors(catalogue((text, "", ""), (text, "", ""))).shape == (2, 0)


def test_nasty_texts_are_only_text():
    vectors = text_vectors(nasty_world().items)
    lengths = np.sqrt(vectors.multiply(vectors).sum(axis=1))
    assert np.all(np.isclose(lengths, 1, atol=1e-5) | (lengths == 0))


def test_co_occurrence_is_the_cosine_of_the_users_of_two_items():
    # each user's last two events are held out, so training is: u1 a b, u2 a b, u3 a c
    taken = {"u1": "abxy", "u2": "abxy", "u3": "acxy"}
    rows = [(user, item, position) for user, items in taken.items() for position, item in enumerate(items)]
    events = pl.DataFrame(rows, ["user_id", "item_id", "position"], orient="row")
    world = make_dataset(pl.DataFrame({"item_id": list("abcdxyz")}), events)
    split = split_leave_one_out(world, SplitSettings(ranking_negatives=1), seed=0)
    together, row = co_occurrence(split).toarray(), split.dataset.row_of
    assert together[row["a"], row["b"]] == pytest.approx(2 / np.sqrt(3 * 2))
    assert together[row["a"], row["c"]] == pytest.approx(1 / np.sqrt(3 * 1))
    assert together[row["b"], row["c"]] == 0
    assert not together[[row["x"], row["y"], row["d"]]].any()
    assert not together.diagonal().any()
    assert np.array_equal(together, together.T)


def test_replacing_what_is_held_out_changes_no_byte_of_the_co_occurrence():
    first, second = co_occurrence(SPLIT), co_occurrence(replace_held_out(SPLIT, seed=5))
    for part in ("data", "indices", "indptr"):
        assert getattr(first, part).tobytes() == getattr(second, part).tobytes()


def test_neither_matrix_depends_on_the_order_of_the_files():
    data = tiny_world()
    shuffled = make_dataset(data.items.reverse(), data.events.sample(fraction=1, shuffle=True, seed=1))
    other = split_leave_one_out(shuffled, SplitSettings(), seed=0)
    pairs = [
        (co_occurrence(SPLIT), co_occurrence(other)),
        (text_vectors(data.items), text_vectors(shuffled.items)),
    ]
    for first, second in pairs:
        assert (
            first.data.tobytes() == second.data.tobytes()
            and first.indices.tobytes() == second.indices.tobytes()
        )


def guest_account(items: int, users: int = 30) -> Split:
    """One user of all items, whose last two are held out, beside others of five."""
    events = [("guest", f"i{position}", position) for position in range(items)]
    events += [
        (f"u{user}", f"i{(7 * user + position) % items}", position)
        for user in range(users)
        for position in range(5)
    ]
    rows = pl.DataFrame(events, schema=["user_id", "item_id", "timestamp"], orient="row")
    catalogue = [f"i{position}" for position in range(items)] + [
        f"untaken{position}" for position in range(99)
    ]
    data = make_dataset(pl.DataFrame({"item_id": catalogue}), rows)
    return split_leave_one_out(data, SplitSettings(), seed=0)


def test_the_cells_of_one_long_history_are_bounded():
    split = guest_account(400)
    assert all(shared_users(guest_account(items), events=50).nnz <= 50 * 50 + 30 * 9 for items in (200, 400))
    assert co_occurrence(split).nnz > 390 * 390  # the default is above this history


def test_of_a_long_history_the_most_recent_events_count():
    split = guest_account(40, users=0)
    counted = shared_users(split, events=10).diagonal()
    assert {split.dataset.item_ids[row] for row in np.flatnonzero(counted)} == {
        f"i{position}" for position in range(28, 38)
    }


def test_histories_that_are_not_too_long_count_whole():
    split = guest_account(60)
    whole, least = shared_users(split, events=10**9), shared_users(split, events=58)
    assert (whole != least).nnz == 0 and whole.nnz >= 58 * 58
    assert not not_counted(split, 58, "x")
    largest_of_movielens_small = 2_698
    assert largest_of_movielens_small < COUNTED_EVENTS


def test_what_is_not_counted_is_reported_with_the_setting_that_counts_it():
    split = guest_account(60)
    (sentence,) = not_counted(split, 10, "index.co_occurrence_events")
    assert "1 of 31 users" in sentence and 'user "guest" has 58' in sentence
    events = int(sentence.partition("index.co_occurrence_events = ")[2].partition(",")[0])
    assert not not_counted(split, events, "index.co_occurrence_events")
    assert (shared_users(split, events) != shared_users(split, 10**9)).nnz == 0


def test_items_that_share_a_word_with_all_others_are_not_compared_with_all_of_them(monkeypatch):
    """The work is counted: similarities at most, those of the items of each word."""
    monkeypatch.setattr("shelftalk.data.similarity.COMMON_WORD", 100)
    asked: list[int] = []
    count = similarity._cells
    monkeypatch.setattr(
        similarity, "_cells", lambda *matrices: asked.append(int(count(*matrices).sum())) or count(*matrices)
    )
    for number in (1_000, 2_000, 4_000):
        titles = [f"missing title {position // 3}" for position in range(number)]
        similarity.nearest_by_text(catalogue(*((title, "", "") for title in titles)), 2)
    assert asked[1] <= 2.1 * asked[0] and asked[2] <= 2.1 * asked[1] and asked[0] >= 3 * 1_000


def test_the_rarer_words_still_find_the_nearest_where_a_word_is_common(monkeypatch):
    monkeypatch.setattr("shelftalk.data.similarity.COMMON_WORD", 5)
    rows = [(f"the {word}", "", "") for word in ("lamp", "lamp", "boots", "boots", "tea", "drum")]
    assert similarity.nearest_by_text(catalogue(*rows), 2).tolist() == [
        [1, -1], [0, -1], [3, -1], [2, -1], [-1, -1], [-1, -1]
    ]  # fmt: skip


def test_a_catalogue_of_20000_items_with_one_title_fits_into_little_memory():
    titles = pl.DataFrame(
        {"title": ["missing"] * 20_500, "brand": [""] * 20_500, "categories": [""] * 20_500}
    )
    tracemalloc.start()
    nearest = similarity.nearest_by_text(titles, 5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (nearest == -1).all() and peak < 100e6


def test_words_of_the_published_catalogues_are_not_common_ones():
    assert similarity.COMMON_WORD >= 18_357  # items of Sports, all of which have that word
