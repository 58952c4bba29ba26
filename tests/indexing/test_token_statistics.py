"""Figures of names in tokens, worked by hand and against the obvious way."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shelftalk.indexing.item_index import ItemIndex, split_symbols
from shelftalk.indexing.token_statistics import token_statistics


def letters(text: str, symbols: bool) -> list[int]:
    """A token per symbol or character."""
    return [hash(symbol) for symbol in split_symbols(text)] if symbols else [ord(letter) for letter in text]


def text_index(names: list[str]) -> ItemIndex:
    return ItemIndex(
        "own", tuple(f"i{row}" for row in range(len(names))), tuple(names), symbols=False, end="\n"
    )


def test_three_names_by_hand():
    figures = token_statistics(text_index(["tea", "ten", "lamp"]), letters)
    assert (figures["tokens_min"], figures["tokens_mean"], figures["tokens_max"]) == (4, 13 / 3, 5)
    assert figures["tokens_until_unique"] == (3 + 3 + 1) / 3
    assert figures["shared_prefixes"] == 2  # t, te
    assert figures["trie_nodes"] == 4 + 2 + 5  # t e a end, n end, l a m p end
    assert figures["symbols"] == figures["collisions"] == 0


def test_a_title_that_is_a_prefix_of_another_differs_by_its_end():
    assert token_statistics(text_index(["tea", "teapot"]), letters)["tokens_until_unique"] == 4


def test_items_of_one_code_are_counted():
    names = ("<a_0><z_0>", "<a_0><z_1>", "<a_1><z_0>")
    figures = token_statistics(ItemIndex("semantic", ("a", "b", "c"), names, symbols=True, end=""), letters)
    assert figures["collisions"] == 2 and figures["collision_share"] == 2 / 3
    assert figures["symbols"] == 4 and figures["tokens_until_unique"] == (2 + 2 + 1) / 3


def test_words_count_as_tokens_though_the_id_identifies_the_item():
    index = ItemIndex("mixed", ("a", "b"), ("<i_0>", "<i_1>"), symbols=True, end="\n", words=("tea", ""))
    figures = token_statistics(index, letters)
    assert (figures["tokens_min"], figures["tokens_max"], figures["tokens_until_unique"]) == (2, 6, 1)


def test_a_single_item_is_known_from_its_first_token():
    figures = token_statistics(text_index(["tea"]), letters)
    assert (figures["tokens_until_unique"], figures["shared_prefixes"], figures["trie_nodes"]) == (1, 0, 4)


@given(st.lists(st.text(alphabet="ab", max_size=6), min_size=1, max_size=12, unique=True))
def test_the_figures_are_those_of_looking_at_every_beginning(names):
    figures = token_statistics(text_index(names), letters)
    lines = [name + "\n" for name in names]
    owners: dict[str, int] = {}
    for name in lines:
        for stop in range(1, len(name) + 1):
            owners[name[:stop]] = owners.get(name[:stop], 0) + 1
    assert figures["trie_nodes"] == len(owners)
    assert figures["shared_prefixes"] == sum(count > 1 for count in owners.values())
    unique = [next(stop for stop in range(1, len(name) + 1) if owners[name[:stop]] == 1) for name in lines]
    assert np.isclose(figures["tokens_until_unique"], np.mean(unique))
