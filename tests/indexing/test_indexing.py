"""Item indexes: every scheme passes the exam, and what each promises of its own."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from shelftalk import parts
from shelftalk.data.dataset import make_dataset
from shelftalk.data.splitting import Split
from shelftalk.errors import DuplicateName, UnreadableFile
from shelftalk.indexing import atomic, numbers, semantic, titles
from shelftalk.indexing.item_index import IndexSettings, ItemIndex, split_symbols
from shelftalk.records import Segment
from shelftalk.testing.task_exams import IndexExam, world_split
from shelftalk.testing.worlds import tiny_world

SMALL = IndexSettings(levels=2, codes=6, dimensions=8)


class TestTitles(IndexExam):
    def build(self, split: Split) -> ItemIndex:
        return titles.build(split, IndexSettings(scheme="titles"), seed=0)


class TestNumbers(IndexExam):
    def build(self, split: Split) -> ItemIndex:
        return numbers.build(split, IndexSettings(scheme="numbers"), seed=0)


class TestAtomic(IndexExam):
    def build(self, split: Split) -> ItemIndex:
        return atomic.build(split, SMALL, seed=0)


class TestSemantic(IndexExam):
    def build(self, split: Split) -> ItemIndex:
        return semantic.build(split, SMALL, seed=0)


def catalogue(texts: list[str]) -> Split:
    """One item per text, all of them taken by one user, oldest first."""
    items = pl.DataFrame(
        {"item_id": [f"i{n}" for n in range(len(texts))], "title": texts},
        schema={"item_id": str, "title": str},
    )
    events = items.select("item_id", user_id=pl.lit("u"), position=pl.int_range(pl.len(), dtype=pl.Int64))
    data = make_dataset(items, events)
    parts = np.zeros(len(texts), np.uint8)
    parts[-2:] = 1, 2
    return Split(data, parts, np.full(len(texts), 3, np.uint8), {})


CATALOGUES = st.lists(
    st.one_of(
        st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=30),
        st.sampled_from(
            [
                "The Hobbit",
                "The Hobbit [2]",
                "The Hobbit [3]",
                " The  Hobbit ",
                "The",
                "",
                " \t\n",
                "untitled",
                "x" * 10_000,
            ]
        ),
    ),
    min_size=3,
    max_size=25,
)


@given(CATALOGUES)
@settings(max_examples=150, deadline=None)
def test_titles_of_any_catalogue_are_one_to_one_and_never_begin_each_other(texts):
    index = titles.build(catalogue(texts), IndexSettings(), seed=0)
    assert [index.item(index.name(item)) for item in index.item_ids] == list(index.item_ids)
    names = sorted(name + index.end for name in index.names)
    assert not any(after.startswith(name) for name, after in zip(names, names[1:], strict=False))
    assert all(name.isprintable() and 0 < len(name) < 130 for name in index.names)


@given(st.integers(3, 1200), st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_numbers_of_any_catalogue_are_a_permutation_of_one_width(size, seed):
    index = numbers.build(catalogue([""] * size), IndexSettings(), seed)
    assert sorted(map(int, index.names)) == list(range(size))
    assert {len(name) for name in index.names} == {len(str(size - 1))}


@given(CATALOGUES, st.integers(1, 3), st.integers(2, 5))
@settings(max_examples=10, deadline=None)
def test_semantic_codes_of_any_catalogue_are_one_to_one(texts, levels, codes):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)  # fewer distinct texts than codes give no warning
        index = semantic.build(
            catalogue(texts), IndexSettings(levels=levels, codes=codes, dimensions=4), seed=0
        )
    assert [index.item(index.name(item)) for item in index.item_ids] == list(index.item_ids)
    assert {len(split_symbols(name)) for name in index.names} == {levels + 1}


@pytest.mark.parametrize("scheme", parts.INDEXINGS)
def test_a_catalogue_of_one_item_can_be_named(scheme):
    data = make_dataset(
        pl.DataFrame({"item_id": ["i"]}), pl.DataFrame({"item_id": ["i"], "user_id": ["u"], "position": [0]})
    )
    split = Split(data, np.zeros(1, np.uint8), np.full(1, 3, np.uint8), {})
    index = parts.load(parts.INDEXINGS, scheme, "index scheme")(split, IndexSettings(scheme=scheme), 0)
    assert index.item(index.name("i")) == "i" and index.name("i")
    assert index.statistics()["items"] == 1


@pytest.mark.parametrize("scheme", ["atomic", "semantic"])
def test_symbols_without_starting_vectors_have_the_same_names(scheme):
    build = parts.load(parts.INDEXINGS, scheme, "index scheme")
    one, other = (
        build(world_split("tiny"), SMALL.model_copy(update={"start_vectors": v}), 0) for v in (True, False)
    )
    assert one.names == other.names and one.symbol_vectors is not None and other.symbol_vectors is None


def test_items_of_one_title_get_distinct_names_whatever_the_other_names_are():
    names = titles.build(
        catalogue(["The Hobbit", "The Hobbit", "the hobbit", "The Hobbit [2]", " The  Hobbit"]),
        IndexSettings(),
        0,
    ).names
    assert sorted(names) == ["The Hobbit", "The Hobbit [2]", "The Hobbit [3]", "The Hobbit [4]", "the hobbit"]


def test_the_bearer_of_the_plain_title_does_not_depend_on_file_order():
    for seed in range(3):
        items = pl.DataFrame({"item_id": list("abcdef"), "title": ["Same"] * 6})
        events = items.select(
            "item_id", user_id=pl.lit("u"), position=pl.col("item_id").rank("ordinal").cast(pl.Int64)
        )
        names = []
        for rows in (items, items[::-1]):
            data = make_dataset(rows, events, seed)
            split = Split(data, np.zeros(6, np.uint8), np.full(6, 3, np.uint8), {})
            index = titles.build(split, IndexSettings(), seed)
            names.append({item: index.name(item) for item in "abcdef"})
        assert names[0] == names[1]


def test_duplicate_titles_without_telling_apart_are_an_error_that_names_both_and_the_remedy():
    split = catalogue(["The Hobbit", "Dune", "The Hobbit"])
    with pytest.raises(
        DuplicateName, match=r'items "i\d" and "i\d" are both named "The Hobbit".*disambiguate = true'
    ):
        titles.build(split, IndexSettings(disambiguate=False), seed=0)
    assert (
        titles.build(catalogue(["Dune", "Emma", "It"]), IndexSettings(disambiguate=False), seed=0).item(
            "Emma"
        )
        == "i1"
    )


@pytest.mark.parametrize("name", ["untitled", "untitled [2]", "a [2"])
def test_the_cost_of_telling_items_of_one_name_apart_is_in_proportion_to_their_number(name: str):
    def seconds(items: int) -> float:
        start = time.process_time()
        unique = titles._disambiguated([name, f"{name} [3]", *[name] * items])
        assert unique[:4] == [name, f"{name} [3]", f"{name} [2]", f"{name} [4]"]
        assert len(set(unique)) == len(unique)
        return time.process_time() - start

    # quadratic time would be sixteen times as much, and seconds
    assert seconds(10_000) < 8 * seconds(2_500) + 0.1


def test_an_item_without_a_title_is_named_by_brand_and_categories():
    index = titles.build(world_split("untitled"), IndexSettings(), seed=0)
    assert any(name.startswith("Northwind ") for name in index.names)
    assert sorted(titles.build(catalogue(["", "   ", "\n"]), IndexSettings(), 0).names) == [
        "untitled",
        "untitled [2]",
        "untitled [3]",
    ]


def test_a_title_of_ten_thousand_characters_is_cut():
    (first, second, _) = titles.build(
        catalogue(["x" * 10_000, "word " * 2_000, "Emma"]), IndexSettings(), 0
    ).names
    assert {len(first), len(second)} <= {4, 119, 120}


def test_numbers_differ_between_seeds_and_follow_neither_file_nor_catalogue_order():
    split = world_split("tiny")
    one, other = (numbers.build(split, IndexSettings(), seed) for seed in (0, 1))
    assert one.names != other.names and list(one.names) != sorted(one.names)
    rows = np.array([int(one.name(f"i{row}")) for row in range(120)])
    assert abs(np.corrcoef(rows, np.arange(120))[0, 1]) < 0.3


def test_what_is_taken_together_shares_codes():
    index = semantic.build(world_split("tiny"), IndexSettings(levels=1, codes=8, dimensions=16), seed=0)
    first = np.array([split_symbols(index.name(f"i{row}"))[0] for row in range(120)])
    kind = np.arange(120) % 8
    same = (first[:, None] == first) & ~np.eye(120, dtype=bool)
    assert (kind[:, None] == kind)[same].mean() > 0.5  # 1 in 8 by chance


def test_the_last_level_counts_the_items_of_one_code():
    index = semantic.build(world_split("tiny"), IndexSettings(levels=1, codes=4, dimensions=8), seed=0)
    shared: dict[str, list[int]] = {}
    for name in index.names:
        stem, last = split_symbols(name)
        shared.setdefault(stem, []).append(int(last[3:-1]))
    assert len(shared) == 4 and all(numbers == list(range(len(numbers))) for numbers in shared.values())


def test_a_name_has_its_end_and_bears_loss_as_requested():
    index = ItemIndex("titles", ("a", "b"), ("Dune", "Dune Messiah"), symbols=False, end="\n")
    assert index.segments("a", bears_loss=True) == (Segment("Dune", True), Segment("\n", True))
    symbols = ItemIndex("semantic", ("a",), ("<a_1><b_2>",), symbols=True, end="")
    assert symbols.segments("a") == (Segment("<a_1><b_2>", False, symbols=True),)


def test_unknown_items_and_names_are_key_errors():
    index = numbers.build(world_split("tiny"), IndexSettings(), 0)
    with pytest.raises(KeyError):
        index.name("nobody's item")
    with pytest.raises(KeyError):
        index.item("0")


@pytest.mark.parametrize("content", [b"", b"PAR1 truncated", b"item_id,name\na,b\n"])
def test_a_file_that_is_no_item_index_is_reported(tmp_path: Path, content: bytes):
    path = tmp_path / "item_index.parquet"
    path.write_bytes(content)
    with pytest.raises(UnreadableFile, match="not an item index"):
        ItemIndex.load(path)


def test_symbol_vectors_are_kept_beside_the_index_and_go_with_it(tmp_path: Path):
    split = world_split("tiny")
    vectors = semantic.build(split, SMALL, seed=0)
    vectors.save(tmp_path / "item_index.parquet")
    assert vectors.symbol_vectors is not None and len(vectors.symbol_vectors) == len(vectors.vocabulary)
    numbers.build(split, IndexSettings(), seed=0).save(tmp_path / "item_index.parquet")
    assert ItemIndex.load(tmp_path / "item_index.parquet").symbol_vectors is None


def test_another_parquet_file_is_no_item_index(tmp_path: Path):
    tiny_world().items.write_parquet(tmp_path / "items.parquet")
    with pytest.raises(UnreadableFile, match="not an item index"):
        ItemIndex.load(tmp_path / "items.parquet")
