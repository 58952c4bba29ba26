"""ItemTrie: its leaves are exactly the catalogue, and what it calls live is what brute force calls live."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelftalk.decoding.item_trie import ItemTrie
from shelftalk.errors import DuplicateName

END = 9
NAMES = st.lists(st.lists(st.integers(0, 3), max_size=5).map(tuple), min_size=1, max_size=40, unique=True)
CATALOGUES = NAMES.map(lambda names: [(*name, END) for name in names])
"""Token sequences of many shared prefixes, each closed by an end token."""


def spelled(trie: ItemTrie, node: int) -> tuple[int, ...]:
    """The tokens from the root to a node."""
    tokens: list[int] = []
    while node > 0:
        tokens.append(int(trie.token[node]))
        node = int(trie.parent[node])
    return tuple(tokens[::-1])


@given(CATALOGUES)
@settings(max_examples=150, deadline=None)
def test_the_leaves_are_exactly_the_catalogue(sequences):
    trie = ItemTrie(sequences)
    leaves = {int(trie.leaf_item[node]): spelled(trie, node) for node in range(len(trie)) if trie.leaf_item[node] >= 0}
    assert leaves == dict(enumerate(sequences))
    assert trie.items == len(sequences) and trie.depth == max(map(len, sequences))


@given(CATALOGUES)
@settings(max_examples=150, deadline=None)
def test_walking_from_the_root_reaches_each_item_and_nothing_else(sequences):
    trie = ItemTrie(sequences)
    found, ahead = [], [0]
    while ahead:
        node = ahead.pop()
        children = trie.children(node).tolist()
        assert (trie.leaf_item[node] >= 0) == (not children)  # no dead end, and nothing below an item
        assert trie.token[children].tolist() == sorted(set(trie.token[children].tolist()))
        assert all(trie.parent[child] == node for child in children)
        found += [] if children else [spelled(trie, node)]
        ahead += children
    assert sorted(found) == sorted(sequences)
    assert len(trie) == 1 + len({sequence[:stop] for sequence in sequences for stop in range(1, len(sequence) + 1)})


@given(CATALOGUES)
@settings(max_examples=100, deadline=None)
def test_the_path_of_an_item_spells_its_name(sequences):
    trie = ItemTrie(sequences)
    for item, sequence in enumerate(sequences):
        path = trie.path(item)
        assert tuple(trie.token[path].tolist()) == sequence and trie.leaf_item[path[-1]] == item
        assert path == sorted(path) and trie.parent[path].tolist() == [0, *path[:-1]]


@given(CATALOGUES, st.data())
@settings(max_examples=150, deadline=None)
def test_a_node_is_live_while_an_item_below_it_is(sequences, data):
    trie = ItemTrie(sequences)
    rows = data.draw(st.lists(st.lists(st.booleans(), min_size=trie.items, max_size=trie.items), min_size=1, max_size=3))
    hidden = np.array(rows)
    live = trie.live(hidden)
    for row in range(len(hidden)):
        left = {s[:stop] for item, s in enumerate(sequences) if not hidden[row, item] for stop in range(len(s) + 1)}
        assert live[row].tolist() == [spelled(trie, node) in left for node in range(len(trie))]


@given(CATALOGUES, st.randoms())
@settings(max_examples=50, deadline=None)
def test_the_shape_does_not_depend_on_the_order_of_the_items(sequences, chance):
    other = list(sequences)
    chance.shuffle(other)
    one, two = ItemTrie(sequences), ItemTrie(other)
    assert one.token.tolist() == two.token.tolist() and one.parent.tolist() == two.parent.tolist()
    assert [sequences[i] for i in one.leaf_item if i >= 0] == [other[i] for i in two.leaf_item if i >= 0]


@given(CATALOGUES, st.data())
@settings(max_examples=100, deadline=None)
def test_a_name_that_begins_another_is_refused(sequences, data):
    longer = data.draw(st.sampled_from(sequences))
    shorter = longer[: data.draw(st.integers(1, len(longer)))]  # the whole of it: two items of one name
    place = data.draw(st.integers(0, len(sequences)))
    with pytest.raises(DuplicateName):
        ItemTrie([*sequences[:place], shorter, *sequences[place:]])


def test_an_empty_catalogue_and_an_empty_name_are_refused():
    for sequences in ([], [()], [(1,), ()]):
        with pytest.raises(ValueError, match="at least one item and no empty name"):
            ItemTrie(sequences)
