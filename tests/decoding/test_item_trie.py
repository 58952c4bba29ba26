"""The item trie: its leaves are exactly the catalogue, however it was built, saved, added to or taken from."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelftalk.decoding.hiding import Hidden
from shelftalk.decoding.item_trie import ItemTrie, Trie, build_trie, open_trie
from shelftalk.decoding.live_trie import LiveTrie
from shelftalk.errors import BadValue, DuplicateName, UnreadableFile
from shelftalk.tasks.ragged import ragged

END = 9
NAMES = st.lists(st.lists(st.integers(0, 3), max_size=5).map(tuple), min_size=1, max_size=40, unique=True)
CATALOGUES = NAMES.map(lambda names: [(*name, END) for name in names])
"""Token sequences of many shared prefixes, each closed by an end token."""


def walked(trie: Trie) -> dict[int, tuple[int, ...]]:
    """Item -> the tokens met on the way to it from the root, its tail among them."""
    found, ahead = {}, [(trie.root, ())]
    while ahead:
        node, path = ahead.pop()
        at = np.array([node])
        children = trie.children(at)[1]
        tokens = trie.tokens_to(children).tolist()
        assert tokens == sorted(set(tokens)) and trie.is_leaf(at)[0] == (not len(children))
        if not len(children):
            assert int(trie.items_at(at)[0]) not in found
            found[int(trie.items_at(at)[0])] = (*path, *trie.tails(at)[0].tolist())
        ahead += [(child, (*path, token)) for child, token in zip(children.tolist(), tokens, strict=True)]
    return found


def below(trie: Trie, node: int) -> set[int]:
    """The items below a node."""
    children = trie.children(np.array([node]))[1].tolist()
    return set().union(*(below(trie, child) for child in children)) if children else {int(trie.items_at(np.array([node]))[0])}


def nodes_of(trie: Trie) -> list[int]:
    """All nodes that can be reached."""
    ahead, found = [trie.root], []
    while ahead:
        found.append(ahead.pop())
        ahead += trie.children(np.array(found[-1:]))[1].tolist()
    return found


@given(CATALOGUES, st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_the_leaves_are_exactly_the_catalogue(names, workers):
    trie = build_trie(names, workers)
    assert walked(trie) == dict(enumerate(names))
    assert trie.items == len(names) and trie.depth == max(map(len, names))
    assert [tuple(row) for row in map(trie.names(np.arange(len(names))).__getitem__, range(len(names)))] == names


@given(CATALOGUES)
@settings(max_examples=100, deadline=None)
def test_an_inner_node_is_a_prefix_that_several_items_share(names):
    trie = build_trie(names)
    shared = {name[:stop] for name in names for stop in range(1, len(name)) if sum(n[:stop] == name[:stop] for n in names) > 1}
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
            path, node = [int(live.tokens_to(np.array([node]))[0]), *path], int(live.parents(np.array([node]))[0])
        assert tuple(path) == name


@given(CATALOGUES, st.data())
@settings(max_examples=150, deadline=None)
def test_a_node_is_open_while_an_item_below_it_is(names, data):
    built = data.draw(st.integers(1, len(names)))
    numbers = st.sets(st.integers(0, len(names) - 1))
    trie: Trie = LiveTrie(build_trie(names[:built]), names[built:]).without(data.draw(numbers))
    excluded = [data.draw(numbers) for _ in range(3)]
    masks = np.array([[data.draw(st.booleans()) for _ in names] for _ in range(2)])
    mask_of = np.array([data.draw(st.integers(-1, 1)) for _ in range(3)])
    rows = np.array(data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=4)))
    nodes = nodes_of(trie)
    for hidden, chosen in (
        (Hidden(trie, [sorted(row) for row in excluded], masks, mask_of), np.arange(3)),
        (Hidden(trie, [sorted(row) for row in excluded], masks, mask_of).select(rows), rows),
    ):
        for request, row in enumerate(chosen.tolist()):
            gone = excluded[row] | set(trie.removed.tolist())
            gone |= set(np.flatnonzero(~masks[mask_of[row]]).tolist()) if mask_of[row] >= 0 else set()
            opened = hidden.open(np.full(len(nodes), request), np.array(nodes))
            assert opened.tolist() == [bool(below(trie, node) - gone) for node in nodes]
            assert hidden.left()[request] == len(names) - len(gone)
            assert hidden.of(np.full(len(names), request), np.arange(len(names))).tolist() == [item in gone for item in range(len(names))]


@pytest.mark.parametrize("item", [-1, 3])
def test_a_number_that_is_no_items_hides_nothing_but_is_told(item):
    trie = build_trie([(0, END), (1, END), (2, END)])
    with pytest.raises(BadValue, match="no item of the trie"):
        Hidden(trie, [[0, item]])
    with pytest.raises(BadValue, match="among 0 to 2"):
        LiveTrie(trie).without([item])


def test_masks_that_nobody_has_or_of_another_shape_are_told():
    trie, masks, of = build_trie([(0, END), (1, END)]), np.zeros((1, 2), bool), np.array([0])
    assert Hidden(trie, [[]], masks, of).left().tolist() == [0]
    for wrong in ((masks, None), (None, of), (masks[:, :1], of), (masks, of[:0]), (masks, of + 1)):
        with pytest.raises(BadValue, match="give both in this shape, or none"):
            Hidden(trie, [[]], *wrong)


def test_removed_items_come_back():
    trie = LiveTrie(build_trie([(0, END), (1, END)])).without([1])
    assert Hidden(trie, [[]]).left().tolist() == [1] and Hidden(trie.again([1]), [[]]).left().tolist() == [2]


@given(CATALOGUES, st.data())
@settings(max_examples=100, deadline=None)
def test_a_name_that_begins_another_is_refused(names, data):
    longer = data.draw(st.sampled_from(names))
    shorter = longer[: data.draw(st.integers(1, len(longer)))]  # the whole of it: two items of one name
    place = data.draw(st.integers(0, len(names)))
    with pytest.raises(DuplicateName):
        build_trie([*names[:place], shorter, *names[place:]])
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
def test_a_broken_file_is_told(tmp_path, harm):
    build_trie([(0, END), (1, END)]).save(tmp_path)
    (tmp_path / "token.npy").unlink() if harm == "missing" else (tmp_path / "token.npy").write_bytes(b"\x93NUMPY\x01")
    with pytest.raises(UnreadableFile, match="not a whole item trie"):
        open_trie(tmp_path)
