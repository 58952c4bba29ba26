"""Names from a tree of clusters: the exam, any graph, and what the clusters mean."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from shelftalk.data.dataset import make_dataset
from shelftalk.data.similarity import co_occurrence
from shelftalk.data.splitting import Split
from shelftalk.indexing import collaborative
from shelftalk.indexing.collaborative import cluster_tree, with_text_edges
from shelftalk.indexing.item_index import IndexSettings, ItemIndex, split_symbols
from shelftalk.testing.task_exams import IndexExam, world_split

SMALL = IndexSettings(scheme="collaborative", clusters=4, leaf_items=8, dimensions=8)


class TestCollaborative(IndexExam):
    def build(self, split: Split) -> ItemIndex:
        return collaborative.build(split, SMALL, seed=0)


def split_of(titles: list[str], taken: list[list[int]]) -> Split:
    """One user per list of item numbers, all of them training events."""
    rows = [{"item_id": f"i{row}", "title": title} for row, title in enumerate(titles)]
    events = [
        (f"u{user}", f"i{item}", position)
        for user, items in enumerate(taken)
        for position, item in enumerate(items)
    ]
    schema = {"user_id": pl.String, "item_id": pl.String, "position": pl.Int64}
    data = make_dataset(pl.DataFrame(rows), pl.DataFrame(events, schema=schema, orient="row"))
    return Split(data, np.zeros(len(events), np.uint8), np.full(len(events), 3, np.uint8), {})


def paths(graph: np.ndarray, clusters: int, leaf_items: int) -> list[list[str]]:
    paths_of_rows: list[list[str]] = [[] for _ in graph]
    for node in cluster_tree(csr_matrix(graph), clusters, leaf_items, seed=0):
        for row in node.rows.tolist():
            paths_of_rows[row].append(node.symbol)
    return paths_of_rows


@st.composite
def graphs(draw):
    """Symmetric weights without a diagonal: empty, full and everything between, some items alone."""
    size = draw(st.integers(1, 40))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights = generator.random((size, size)) * (
        generator.random((size, size)) < draw(st.sampled_from([0, 0.02, 0.1, 0.5, 1]))
    )
    return np.triu(weights, 1) + np.triu(weights, 1).T


@given(graphs(), st.integers(2, 9), st.integers(1, 12))
@settings(max_examples=120, deadline=None)
def test_the_tree_of_any_graph_ends_in_small_leaves_and_every_path_is_a_way_down(graph, clusters, leaf_items):
    paths_of_rows = paths(graph, clusters, leaf_items)
    members: dict[tuple[str, ...], int] = {}
    for path in paths_of_rows:
        for stop in range(len(path) + 1):
            members[tuple(path[:stop])] = members.get(tuple(path[:stop]), 0) + 1
    children: dict[tuple[str, ...], set[str]] = {}
    for path in members:
        if path:
            children.setdefault(path[:-1], set()).add(path[-1])
    assert all((path in children) == (count > leaf_items) for path, count in members.items())
    assert all(len(below) <= clusters + 1 for below in children.values())
    nodes = [path for path in members if path]
    assert len({path[-1] for path in nodes}) == len(nodes)  # every node has its own symbol


@given(
    st.lists(st.sampled_from(["red tea", "green tea", "oak lamp", "", " \n"]), min_size=1, max_size=25),
    st.data(),
    st.integers(2, 6),
    st.integers(1, 8),
)
@settings(max_examples=40, deadline=None)
def test_names_of_any_co_occurrence_are_one_to_one_and_never_begin_each_other(
    titles, data, clusters, leaf_items
):
    taken = data.draw(
        st.lists(
            st.lists(st.integers(0, len(titles) - 1), min_size=1, max_size=6, unique=True),
            min_size=1,
            max_size=6,
        )
    )
    chosen = IndexSettings(clusters=clusters, leaf_items=leaf_items, dimensions=4)
    index = collaborative.build(split_of(titles, taken), chosen, seed=0)
    assert [index.item(index.name(item)) for item in index.item_ids] == list(index.item_ids)
    names = sorted(tuple(split_symbols(name)) for name in index.names)
    assert not any(after[: len(name)] == name for name, after in zip(names, names[1:], strict=False))
    assert index.symbol_vectors is not None and len(index.symbol_vectors) == len(index.vocabulary)
    assert np.isfinite(index.symbol_vectors).all()


@pytest.mark.parametrize("size", [1, 2, 19])
def test_a_catalogue_smaller_than_a_leaf_has_names_of_the_last_symbol_alone(size):
    split = split_of(["tea"] * size, [list(range(size))])
    names = collaborative.build(split, IndexSettings(), seed=0).names
    assert sorted(names) == sorted(f"<z_{number}>" for number in range(size))


def test_items_taken_together_are_in_one_cluster():
    split = world_split("tiny")
    index = collaborative.build(split, IndexSettings(clusters=8, leaf_items=30, dimensions=8), seed=0)
    first = np.array([split_symbols(index.name(f"i{row}"))[0] for row in range(120)])
    same = (first[:, None] == first) & ~np.eye(120, dtype=bool)
    kind = np.arange(120) % 8
    assert (kind[:, None] == kind)[same].mean() > 0.4  # 1 in 8 by chance


def test_four_groups_that_share_no_user_are_four_clusters():
    graph = np.kron(np.eye(4), np.ones((10, 10))) - np.eye(40)
    symbols = np.array([path[0] for path in paths(graph, clusters=4, leaf_items=10)]).reshape(4, 10)
    assert all(len(set(row)) == 1 for row in symbols) and len(set(symbols[:, 0])) == 4


def test_a_large_node_is_divided_as_a_small_one_is(monkeypatch):
    """Above DENSE_ITEMS another way of finding eigenvectors is taken; it finds the same ones."""
    draw = np.random.default_rng(3)
    group = np.repeat(np.arange(4), 15)
    weights = draw.random((60, 60)) * np.where(group[:, None] == group, 1, 0.05)
    graph = np.triu(weights, 1) + np.triu(weights, 1).T
    one = paths(graph, 4, 15)
    monkeypatch.setattr(collaborative, "DENSE_ITEMS", 0)
    assert paths(graph, 4, 15) == one


@pytest.mark.parametrize("dense_items", [0, 1000])
def test_a_graph_in_many_pieces_is_divided_too(monkeypatch, dense_items):
    monkeypatch.setattr(collaborative, "DENSE_ITEMS", dense_items)
    paths_of_rows = paths(np.kron(np.eye(240), np.ones((2, 2)) - np.eye(2)), clusters=20, leaf_items=30)
    assert (
        max(paths_of_rows.count(path) for path in paths_of_rows) <= 30 and max(map(len, paths_of_rows)) <= 4
    )


def test_an_item_never_taken_is_clustered_with_the_most_similar_by_text():
    titles = [
        "red tea",
        "green tea",
        "black tea",
        "oak lamp",
        "elm lamp",
        "ash lamp",
        "white tea",
        "pine lamp",
        "violin",
    ]
    split = split_of(titles, [[0, 1, 2], [0, 1], [1, 2], [3, 4, 5], [3, 4], [4, 5]])
    index = collaborative.build(split, IndexSettings(clusters=2, leaf_items=5, dimensions=4), seed=0)
    position = {item: split_symbols(index.name(item))[:-1] for item in index.item_ids}
    assert position["i6"] == position["i1"] and position["i7"] == position["i4"]
    # similar to nothing that was taken: a child of its own
    assert position["i8"] not in (position["i0"], position["i3"])


def test_no_item_that_was_taken_with_another_gets_an_edge_from_its_text():
    split = world_split("tiny")
    graph = co_occurrence(split)
    tied = np.diff(graph.indptr) > 0
    changed = np.argwhere((with_text_edges(graph, csr_matrix(np.ones((120, 1)))) != graph).toarray())
    assert len(changed) == 2 * (~tied).sum() > 0 and all(tied[row] != tied[column] for row, column in changed)


def test_a_node_begins_at_what_sets_its_items_apart_from_its_parents():
    index = collaborative.build(world_split("tiny"), SMALL, seed=0)
    assert index.symbol_vectors is not None
    vector_of = dict(zip(index.vocabulary, index.symbol_vectors, strict=True))
    assert not any(vector.any() for symbol, vector in vector_of.items() if symbol.startswith("<z_"))
    assert all(vector.any() for symbol, vector in vector_of.items() if symbol.startswith("<c"))
    without = collaborative.build(
        world_split("tiny"), SMALL.model_copy(update={"start_vectors": False}), seed=0
    )
    assert without.symbol_vectors is None and without.names == index.names
