"""Items named by their place in a tree of clusters: recursive spectral clustering of the training
co-occurrence graph.

Collaborative indexing of OpenP5 (Hua et al., "How to index item ids for recommendation foundation models",
SIGIR-AP 2023; Xu et al., SIGIR 2024), with these differences, each for a reason:

- Eigenvectors come from the sparse adjacency, since a full matrix of a large catalogue does not fit, with k-means behind them.
- The adjacency is lightly regularised (Amini et al., Annals of Statistics 2013), so that a graph in many pieces can be divided
  too.
- A child holds at most four times its even share, so that names stay short.
- An item without a co-occurrence is tied to the item most alike by text; OpenP5 gives it a lone last token. Where its text is
  like none, it stands in a child of its own kind.
- The last symbol is of a kind of its own, so that no name begins another.

Legend: I items, n items of a node, k children, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix, issparse
from scipy.sparse.linalg import LinearOperator, eigsh

from shelftalk import seeds
from shelftalk.data import similarity
from shelftalk.data.splitting import Split
from shelftalk.indexing.clustering import k_means
from shelftalk.indexing.item_index import IndexSettings, ItemIndex, numbered
from shelftalk.indexing.item_vectors import dense_vectors

DENSE_ITEMS = 400
"""Up to here all eigenvectors at once are quicker than some of them one by one."""
REGULARISER = 0.01
"""In mean degrees. The usual 1 blurs the clusters: on Beauty the next item was in the last one's cluster for
24 % of the users with it and for 31 % with this."""
ROWS_AT_ONCE = 512
"""Rows of the text likeness held in memory at a time."""


@dataclass(frozen=True, eq=False)
class Node:
    """One node of the tree below the root: its symbol, its items and those of its parent, as ascending
    catalogue rows."""

    symbol: str
    rows: np.ndarray
    parent: np.ndarray


def build(
    split: Split, settings: IndexSettings, seed: int, text_vectors: np.ndarray | None = None
) -> ItemIndex:
    """Name each item "<c0_3><c1_45><z_2>": the nodes on the way to its leaf, and which of the leaf's items it
    is.

    Every node has a symbol of its own, numbered within its level: nodes below different parents have nothing
    in common that a shared symbol could stand for. (OpenP5 numbers nodes as well, and begins again at its
    token size.) Names have as many symbols as the tree is deep there, one at least. The order within a leaf
    is catalogue order, a seeded hash. A node's vector is the mean co-occurrence vector of its items less that
    of its parent's; last symbols get zeros. `text_vectors` [I, D] of unit length stand in for TF-IDF.
    """
    graph = similarity.shared_users(split, settings.co_occurrence_events)
    graph.setdiag(0)
    graph.eliminate_zeros()
    graph.sort_indices()
    text = similarity.text_vectors(split.dataset.items) if text_vectors is None else text_vectors
    nodes = list(cluster_tree(tied_by_text(graph, text), settings.clusters, settings.leaf_items, seed))
    stems = [""] * len(split.dataset.item_ids)
    for node in nodes:
        for row in node.rows.tolist():
            stems[row] += node.symbol
    index = ItemIndex("collaborative", tuple(split.dataset.item_ids), numbered(stems), symbols=True, end="")
    if not settings.start_vectors:
        return index
    together = similarity.co_occurrence(split, settings.co_occurrence_events)
    vectors = dense_vectors(together, settings.dimensions, seed, "co-occurrence").astype(np.float32)
    meaning = {
        node.symbol: vectors[node.rows].mean(axis=0) - vectors[node.parent].mean(axis=0) for node in nodes
    }
    nothing = np.zeros(vectors.shape[1], np.float32)
    return replace(
        index, symbol_vectors=np.stack([meaning.get(symbol, nothing) for symbol in index.vocabulary])
    )


def cluster_tree(graph: csr_matrix, clusters: int, leaf_items: int, seed: int) -> Iterator[Node]:
    """The nodes below the root, level by level, for a symmetric graph [I, I] without negative weights or a
    diagonal.

    A node of more than `leaf_items` items is divided into up to `clusters` children, and one more for its
    items that are tied to none of the others.
    """
    level, depth = [np.arange(graph.shape[0])], 0
    while level:
        below: list[np.ndarray] = []
        for parent in (rows for rows in level if len(rows) > leaf_items):
            for positions in _children(graph[parent][:, parent], clusters, seed):
                yield Node(f"<c{depth}_{len(below)}>", parent[positions], parent)
                below.append(parent[positions])
        level, depth = below, depth + 1


def tied_by_text(graph: csr_matrix, text: csr_matrix | np.ndarray) -> csr_matrix:
    """The graph with an edge of weight 1 from each item that has none to the item most alike by text [I, F]
    among those that have; an item like none of them stays alone. Of equally alike ones it is the first of the
    catalogue."""
    tied = np.diff(graph.indptr) > 0
    alone, others = np.flatnonzero(~tied), np.flatnonzero(tied)
    if not len(others):
        return graph
    ends: list[tuple[int, int]] = []
    texts = text[others].T
    for start in range(0, len(alone), ROWS_AT_ONCE):
        rows = alone[start : start + ROWS_AT_ONCE]
        alike = text[rows] @ texts
        alike = alike.toarray() if issparse(alike) else alike
        best = alike.argmax(axis=1)
        ends += [
            (row, others[position])
            for row, position, value in zip(rows, best, alike.max(axis=1), strict=True)
            if value > 0
        ]
    if not ends:
        return graph
    one, other = np.array(ends).T
    edges = coo_matrix((np.ones(len(ends), graph.dtype), (one, other)), graph.shape)
    return csr_matrix(graph + edges + edges.T)


def _children(graph: csr_matrix, clusters: int, seed: int) -> list[np.ndarray]:
    """Places 0 .. n - 1 of a node's items by child, for its part of the graph [n, n]. Each child is smaller
    than the node."""
    tied = np.diff(graph.indptr) > 0
    if not tied.any():  # nothing to go by: even runs of the catalogue
        return [run for run in np.array_split(np.arange(graph.shape[0]), clusters) if len(run)]
    positions = np.flatnonzero(tied)
    wanted = min(clusters, len(positions))
    vectors = _spectral_vectors(graph[positions][:, positions], wanted, seed)
    distances = k_means(vectors, wanted, seed, "collaborative").transform(vectors)
    labels = _within_capacity(distances, _capacity(len(positions), wanted))
    found = [positions[labels == label] for label in range(wanted)] + [np.flatnonzero(~tied)]
    return [child for child in found if len(child)]


def _spectral_vectors(graph: csr_matrix, dimensions: int, seed: int) -> np.ndarray:
    """[n, dimensions] of unit length: leading eigenvectors of D^-1/2 (A + t/n) D^-1/2, where t is REGULARISER
    times the mean degree and D the degrees of A + t/n (Ng, Jordan, Weiss, NeurIPS 2001, regularised)."""
    degrees = np.asarray(graph.sum(axis=1), np.float64).ravel()
    items, spread = len(degrees), REGULARISER * degrees.mean()
    scale = 1 / np.sqrt(degrees + spread)
    if items <= max(DENSE_ITEMS, 2 * dimensions):
        full = (graph.toarray() + spread / items) * scale[:, None] * scale
        vectors = np.linalg.eigh(full)[1][
            :, -dimensions:
        ]  # the quicker ways to some of them fail on equal eigenvalues
    else:

        def times(vector: np.ndarray) -> np.ndarray:
            scaled = scale * vector.ravel()
            return scale * (graph @ scaled + spread / items * scaled.sum())

        start = seeds.generator(seed, "collaborative", items).standard_normal(items)
        operator = LinearOperator((items, items), matvec=times, dtype=np.float64)
        vectors = eigsh(operator, dimensions, which="LA", v0=start, tol=1e-4)[1]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 1e-12)


def _capacity(items: int, clusters: int) -> int:
    """Most items of a child: four times the even share, at most three quarters of the node, so that every
    division gets on."""
    return max(-(-items // clusters), min(4 * items // clusters, 3 * items // 4))


def _within_capacity(distances: np.ndarray, capacity: int) -> np.ndarray:
    """[n] labels: the nearest pairs of `distances` [n, k] first, as long as the cluster has room."""
    items, clusters = distances.shape
    labels, left = [-1] * items, [capacity] * clusters
    for pair in np.argsort(distances, axis=None, kind="stable").tolist():
        item, cluster = divmod(pair, clusters)
        if labels[item] < 0 and left[cluster]:
            labels[item] = cluster
            left[cluster] -= 1
    return np.array(labels)
