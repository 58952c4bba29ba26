"""Id and title as one name: the exam for every kind of id, and the words after it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shelftalk.data.dataset import make_dataset
from shelftalk.data.splitting import Split, SplitSettings, split_leave_one_out
from shelftalk.errors import SettingsError
from shelftalk.indexing import mixed, titles
from shelftalk.indexing.item_index import IndexSettings, ItemIndex
from shelftalk.records import Segment
from shelftalk.testing.task_exams import IndexExam, world_split
from shelftalk.testing.worlds import replace_held_out, tiny_world

SMALL = IndexSettings(scheme="mixed", levels=2, codes=6, dimensions=8, clusters=4, leaf_items=8)


def built(split: Split, ids: str) -> ItemIndex:
    return mixed.build(split, SMALL.model_copy(update={"ids": ids}), seed=0)


class TestMixedAtomic(IndexExam):
    def build(self, split: Split) -> ItemIndex:
        return built(split, "atomic")


class TestMixedSemantic(IndexExam):
    def build(self, split: Split) -> ItemIndex:
        return built(split, "semantic")


class TestMixedCollaborative(IndexExam):
    def build(self, split: Split) -> ItemIndex:
        return built(split, "collaborative")


class TestMixedNumbers(IndexExam):
    def build(self, split: Split) -> ItemIndex:
        return built(split, "numbers")


def test_a_name_consists_of_id_title_and_end():
    index = ItemIndex(
        "mixed", ("a", "b"), ("<i_1>", "<i_0>"), symbols=True, end="\n", words=("Toy Story", "")
    )
    assert index.segments("a", bears_loss=True) == (
        Segment("<i_1>", True, True),
        Segment(" Toy Story", True),
        Segment("\n", True),
    )
    assert index.segments("a", closed=False) == (Segment("<i_1>", False, True), Segment(" Toy Story"))
    assert index.segments("b") == (Segment("<i_0>", False, True), Segment("\n"))
    assert index.free_text("a") == "Toy Story" and index.free_text("b") == ""


def test_only_names_with_words_or_of_titles_include_the_title():
    split = world_split("tiny")
    assert (
        built(split, "semantic").includes_title
        and titles.build(split, IndexSettings(), seed=0).includes_title
    )
    assert not ItemIndex("atomic", ("a",), ("<i_0>",), symbols=True, end="").includes_title


@pytest.mark.parametrize("ids", ["atomic", "semantic", "collaborative", "numbers"])
@pytest.mark.parametrize("world", ["tiny", "untitled", "nasty"])
def test_a_name_is_one_line_and_never_a_prefix_of_another(world, ids):
    index = built(world_split(world), ids)
    names = sorted("".join(segment.text for segment in index.segments(item)) for item in index.item_ids)
    assert all(text.endswith("\n") and text[:-1].isprintable() and len(text) < 100 for text in names)
    assert not any(after.startswith(text) for text, after in zip(names, names[1:], strict=False))


def test_a_symbol_in_a_title_stays_free_text():
    split = world_split("nasty")
    index = built(split, "atomic")
    ((item,),) = split.dataset.items.filter(title="<a_12><b_7><c_0>").select("item_id").iter_rows()
    assert index.segments(item)[1] == Segment(" <a_12><b_7><c_0>") and "<a_12>" not in index.vocabulary


def test_items_of_one_title_keep_it_and_an_untitled_one_has_brand_and_categories():
    nasty = built(world_split("nasty"), "atomic")
    assert nasty.words.count("Same title") >= 2
    assert any(words.startswith("Northwind ") for words in built(world_split("untitled"), "atomic").words)


def test_long_titles_are_cut_to_their_budget():
    index = mixed.build(world_split("nasty"), SMALL.model_copy(update={"title_characters": 12}), seed=0)
    assert max(map(len, index.words)) == 12


def test_words_follow_neither_file_order_nor_what_is_held_out_and_survive_the_file(tmp_path: Path):
    split, data = world_split("tiny"), tiny_world()
    shuffled = make_dataset(data.items.sort("title", "item_id"), data.events[::-1])
    one, other = (
        built(split_leave_one_out(each, SplitSettings(), seed=0), "atomic") for each in (data, shuffled)
    )
    assert one.words == other.words
    index = built(split, "semantic")
    assert index.words == built(replace_held_out(split, seed=1), "semantic").words
    index.save(tmp_path / "item_index.parquet")
    loaded = ItemIndex.load(tmp_path / "item_index.parquet")
    assert loaded.words == index.words and not loaded.leaks and loaded.includes_title


def test_the_facts_have_the_length_of_the_words_and_the_last_level_of_the_id():
    facts = built(world_split("tiny"), "semantic").statistics()
    assert facts["words"].endswith("characters") and "items that differ in the last level only" in facts
    assert "items that differ in the last level only" not in built(world_split("tiny"), "atomic").statistics()


def test_vectors_of_texts_go_to_the_ids_or_are_refused():
    split, vectors = world_split("tiny"), np.eye(120, 16, dtype=np.float32)
    one = mixed.build(split, SMALL, seed=0, text_vectors=vectors)
    assert not np.array_equal(one.symbol_vectors, built(split, "atomic").symbol_vectors)
    with pytest.raises(SettingsError, match='"numbers" read no text vectors'):
        mixed.build(split, SMALL.model_copy(update={"ids": "numbers"}), seed=0, text_vectors=vectors)


def test_ids_that_leak_leak_here_too():
    assert built(world_split("tiny"), "sequential").leaks
