"""The item trie: its leaves are exactly the catalogue, however it was built, saved, added to or
taken from."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelftalk.decoding.exclusions import Exclusions
from shelftalk.decoding.item_trie import ItemTrie, Trie, build_trie, open_trie
from shelftalk.decoding.live_trie import LiveTrie
from shelftalk.errors import BadValue, DuplicateName, UnreadableFile
from shelftalk.ragged import ragged

END = 9
NAMES = st.lists(st.lists(st.integers(0, 3), max_size=5).map(tuple), min_size=1, max_size=40, unique=True)
CATALOGUES = NAMES.map(lambda names: [(*name, END) for name in names])
"""Token sequences of many shared prefixes, each closed by an end token."""


def walked(trie: Trie) -> dict[int, tuple[int, ...]]:
    """Item -> the tokens on the path from the root to it, its tail among them."""
    names, stack = {}, [(trie.root, ())]
    while stack:
        node, path = stack.pop()
        at = np.array([node])
        children = trie.children(at)[1]
        tokens = trie.tokens_to(children).tolist()
        assert tokens == sorted(set(tokens)) and trie.is_leaf(at)[0] == (not len(children))
        if not len(children):
            assert int(trie.items_at(at)[0]) not in names
            names[int(trie.items_at(at)[0])] = (*path, *trie.tails(at)[0].tolist())
            assert trie.tail_lengths(at).tolist() == trie.tails(at).lengths.tolist()
        stack += [(child, (*path, token)) for child, token in zip(children.tolist(), tokens, strict=True)]
    return names


def below(trie: Trie, node: int) -> set[int]:
    """The items below a node."""
    children = trie.children(np.array([node]))[1].tolist()
    return (
        set().union(*(below(trie, child) for child in children))
        if children
        else {int(trie.items_at(np.array([node]))[0])}
    )


def nodes_of(trie: Trie) -> list[int]:
    """All nodes that can be reached."""
    stack, nodes = [trie.root], []
    while stack:
        nodes.append(stack.pop())
        stack += trie.children(np.array(nodes[-1:]))[1].tolist()
    return nodes


@given(CATALOGUES, st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_the_leaves_are_exactly_the_catalogue(names, workers):
    trie = build_trie(names, workers)
    assert walked(trie) == dict(enumerate(names))
    assert trie.items == len(names) and trie.depth == max(map(len, names))
    assert [
        tuple(row) for row in map(trie.names(np.arange(len(names))).__getitem__, range(len(names)))
    ] == names


@given(CATALOGUES)
@settings(max_examples=100, deadline=None)
def test_an_inner_node_is_a_prefix_that_several_items_share(names):
    trie = build_trie(names)
    shared = {
        name[:stop]
        for name in names
        for stop in range(1, len(name))
        if sum(n[:stop] == name[:stop] for n in names) > 1
    }
    inner = ~trie.is_leaf(np.arange(1, len(trie)))
    assert inner.sum() == len(shared) and len(trie) == 1 + len(shared) + len(names)


@given(CATALOGUES, st.integers(2, 5))
@settings(max_examples=100, deadline=None)
def test_the_number_of_workers_changes_nothing(names, workers):
    alone, together = build_trie(names), build_trie(ragged(names), workers)
    for field in fields(ItemTrie):
        one, other = getattr(alone, field.name), getattr(together, field.name)
        assert one.dtype == other.dtype and one.tolist() == other.tolist()


@given(CATALOGUES, st.randoms())
@settings(max_examples=50, deadline=None)
def test_the_shape_does_not_depend_on_the_order_of_the_items(names, chance):
    other = list(names)
    chance.shuffle(other)
    one, two = build_trie(names), build_trie(other)
    assert one.token.tolist() == two.token.tolist() and one.parent.tolist() == two.parent.tolist()
    assert [names[item] for item in one.item] == [other[item] for item in two.item] == sorted(names)


@given(CATALOGUES, st.data())
@settings(max_examples=150, deadline=None)
def test_a_trie_that_was_added_to_is_the_trie_of_all_names(names, data):
    built = data.draw(st.integers(1, len(names)))
    halfway = data.draw(st.integers(built, len(names)))
    base = build_trie(names[:built])
    live = LiveTrie(base, names[built:halfway]).with_names(names[halfway:])
    assert walked(live) == dict(enumerate(names)) and walked(base) == dict(enumerate(names[:built]))
    items = np.arange(len(names))
    leaves = live.leaves_of(items)
    assert live.items == len(names) and live.items_at(leaves).tolist() == items.tolist()
    for leaf, name in zip(leaves.tolist(), names, strict=True):
        path, node = live.tails(np.array([leaf]))[0].tolist(), leaf
        while live.parents(np.array([node]))[0] >= 0:
            path, node = (
                [int(live.tokens_to(np.array([node]))[0]), *path],
                int(live.parents(np.array([node]))[0]),
            )
        assert tuple(path) == name


@given(CATALOGUES, st.data())
@settings(max_examples=150, deadline=None)
def test_a_node_is_allowed_while_an_item_below_it_is(names, data):
    built = data.draw(st.integers(1, len(names)))
    numbers = st.sets(st.integers(0, len(names) - 1))
    trie: Trie = LiveTrie(build_trie(names[:built]), names[built:]).without(data.draw(numbers))
    excluded = [data.draw(numbers) for _ in range(3)]
    masks = np.array([[data.draw(st.booleans()) for _ in names] for _ in range(2)])
    mask_index = np.array([data.draw(st.integers(-1, 1)) for _ in range(3)])
    rows = np.array(data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=4)))
    nodes = nodes_of(trie)
    for exclusions, selected in (
        (Exclusions(trie, [sorted(row) for row in excluded], masks, mask_index), np.arange(3)),
        (Exclusions(trie, [sorted(row) for row in excluded], masks, mask_index).select(rows), rows),
    ):
        for request, row in enumerate(selected.tolist()):
            gone = excluded[row] | set(trie.removed.tolist())
            gone |= set(np.flatnonzero(~masks[mask_index[row]]).tolist()) if mask_index[row] >= 0 else set()
            allowed = exclusions.allows_below(np.full(len(nodes), request), np.array(nodes))
            assert allowed.tolist() == [bool(below(trie, node) - gone) for node in nodes]
            assert exclusions.num_allowed()[request] == len(names) - len(gone)
            gone_items = exclusions.excludes(np.full(len(names), request), np.arange(len(names)))
            assert gone_items.tolist() == [item in gone for item in range(len(names))]


@pytest.mark.parametrize("item", [-1, 3])
def test_a_number_that_is_no_items_is_refused(item):
    trie = build_trie([(0, END), (1, END), (2, END)])
    with pytest.raises(BadValue, match="no item of the trie"):
        Exclusions(trie, [[0, item]])
    with pytest.raises(BadValue, match="among 0 to 2"):
        LiveTrie(trie).without([item])


def test_masks_that_no_request_has_or_of_another_shape_are_refused():
    trie, masks, of = build_trie([(0, END), (1, END)]), np.zeros((1, 2), bool), np.array([0])
    assert Exclusions(trie, [[]], masks, of).num_allowed().tolist() == [0]
    for wrong in ((masks, None), (None, of), (masks[:, :1], of), (masks, of[:0]), (masks, of + 1)):
        with pytest.raises(BadValue, match="give both in this shape, or none"):
            Exclusions(trie, [[]], *wrong)


def test_removed_items_come_back():
    trie = LiveTrie(build_trie([(0, END), (1, END)])).without([1])
    assert Exclusions(trie, [[]]).num_allowed().tolist() == [1] and Exclusions(
        trie.with_restored([1]), [[]]
    ).num_allowed().tolist() == [2]


@given(CATALOGUES, st.data())
@settings(max_examples=100, deadline=None)
def test_a_name_that_begins_another_is_refused(names, data):
    longer = data.draw(st.sampled_from(names))
    shorter = longer[: data.draw(st.integers(1, len(longer)))]  # the whole of it: two items of one name
    position = data.draw(st.integers(0, len(names)))
    with pytest.raises(DuplicateName):
        build_trie([*names[:position], shorter, *names[position:]])
    with pytest.raises(DuplicateName):
        LiveTrie(build_trie(names), [shorter])
    with pytest.raises(DuplicateName):
        LiveTrie(build_trie(names), [(*longer, 0)])


def test_an_empty_catalogue_and_an_empty_name_are_refused():
    for names in ([], [()], [(1,), ()]):
        with pytest.raises(ValueError, match="at least one item and no empty name"):
            build_trie(names)


def test_a_saved_trie_is_mapped_and_not_read(tmp_path):
    names = [(0, 1, END), (0, 2, END), (3, END)]
    build_trie(names).save(tmp_path / "trie")
    opened = open_trie(tmp_path / "trie")
    assert walked(opened) == dict(enumerate(names))
    assert all(isinstance(getattr(opened, field.name).base, np.memmap) for field in fields(ItemTrie))


@pytest.mark.parametrize("harm", ["missing", "cut off"])
def test_a_broken_file_is_refused(tmp_path, harm):
    build_trie([(0, END), (1, END)]).save(tmp_path)
    (tmp_path / "token.npy").unlink() if harm == "missing" else (tmp_path / "token.npy").write_bytes(
        b"\x93NUMPY\x01"
    )
    with pytest.raises(UnreadableFile, match="not a whole item trie"):
        open_trie(tmp_path)
