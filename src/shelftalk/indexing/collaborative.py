"""Items named by their path in a tree of clusters: recursive spectral clustering of the training
co-occurrence graph.

Collaborative indexing of OpenP5 (Hua et al., "How to index item ids for recommendation foundation models",
SIGIR-AP 2023; Xu et al., SIGIR 2024), with these differences, each for a reason:

- Eigenvectors are those of the sparse adjacency, since a full matrix of a large catalogue does not fit;
  k-means clusters them.
- The adjacency is lightly regularised (Amini et al., Annals of Statistics 2013), so that a graph of many
  components can be divided too.
- A child holds at most four times its even share, so that names stay short.
- An item without a co-occurrence gets an edge to the most similar item by text; OpenP5 gives it a lone last
  token. Items that are similar to none form a child of their own.
- The last symbol is of its own kind, so that no name is a prefix of another.

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
from shelftalk.indexing.item_index import IndexSettings, ItemIndex, with_last_level
from shelftalk.indexing.item_vectors import dense_vectors

DENSE_ITEMS = 400
"""Most items for which all eigenvectors at once are faster than some of them one by one."""
REGULARISER = 0.01
"""In mean degrees. The usual 1 blurs the clusters: on Beauty the next item was in the last one's cluster for
24 % of the users with it and for 31 % with this."""
ROWS_AT_ONCE = 512
"""Rows of the text similarity held in memory at a time."""


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
    """Name each item "<c0_3><c1_45><z_2>": the nodes on the path to its leaf, and its number in the leaf.

    Every node has its own symbol, with_last_level within its level: nodes below different parents have
    nothing in common that a shared symbol could represent. (OpenP5 numbers nodes as well, and starts again at
    its token size.) A name has one symbol per level above its leaf, at least one. The order within a leaf is
    catalogue order, a seeded hash. A node's vector is the mean co-occurrence vector of its items minus that
    of its parent's; last symbols get zeros. `text_vectors` [I, D] of unit length replace TF-IDF.
    """
    graph = similarity.shared_users(split, settings.co_occurrence_events)
    graph.setdiag(0)
    graph.eliminate_zeros()
    graph.sort_indices()
    text = similarity.text_vectors(split.dataset.items) if text_vectors is None else text_vectors
    nodes = list(cluster_tree(with_text_edges(graph, text), settings.clusters, settings.leaf_items, seed))
    stems = [""] * len(split.dataset.item_ids)
    for node in nodes:
        for row in node.rows.tolist():
            stems[row] += node.symbol
    index = ItemIndex(
        "collaborative", tuple(split.dataset.item_ids), with_last_level(stems), symbols=True, end=""
    )
    if not settings.start_vectors:
        return index
    together = similarity.co_occurrence(split, settings.co_occurrence_events)
    vectors = dense_vectors(together, settings.dimensions, seed, "co-occurrence").astype(np.float32)
    start = {
        node.symbol: vectors[node.rows].mean(axis=0) - vectors[node.parent].mean(axis=0) for node in nodes
    }
    zeros = np.zeros(vectors.shape[1], np.float32)
    return replace(index, symbol_vectors=np.stack([start.get(symbol, zeros) for symbol in index.vocabulary]))


def cluster_tree(graph: csr_matrix, clusters: int, leaf_items: int, seed: int) -> Iterator[Node]:
    """The nodes below the root, level by level, for a symmetric graph [I, I] without negative weights or a
    diagonal.

    A node of more than `leaf_items` items is divided into up to `clusters` children, and one more for its
    items without an edge.
    """
    level, depth = [np.arange(graph.shape[0])], 0
    while level:
        below: list[np.ndarray] = []
        for parent in (rows for rows in level if len(rows) > leaf_items):
            for positions in _children(graph[parent][:, parent], clusters, seed):
                yield Node(f"<c{depth}_{len(below)}>", parent[positions], parent)
                below.append(parent[positions])
        level, depth = below, depth + 1


def with_text_edges(graph: csr_matrix, text: csr_matrix | np.ndarray) -> csr_matrix:
    """The graph with an edge of weight 1 from each item that has none to the item with edges that is the most
    similar by text [I, F], the first in the catalogue of equally similar ones; none where no text is similar.
    """
    connected = np.diff(graph.indptr) > 0
    alone, others = np.flatnonzero(~connected), np.flatnonzero(connected)
    if not len(others):
        return graph
    ends: list[tuple[int, int]] = []
    texts = text[others].T
    for start in range(0, len(alone), ROWS_AT_ONCE):
        rows = alone[start : start + ROWS_AT_ONCE]
        cosine = text[rows] @ texts
        cosine = cosine.toarray() if issparse(cosine) else cosine
        best = cosine.argmax(axis=1)
        ends += [
            (row, others[position])
            for row, position, value in zip(rows, best, cosine.max(axis=1), strict=True)
            if value > 0
        ]
    if not ends:
        return graph
    one, other = np.array(ends).T
    edges = coo_matrix((np.ones(len(ends), graph.dtype), (one, other)), graph.shape)
    return csr_matrix(graph + edges + edges.T)


def _children(graph: csr_matrix, clusters: int, seed: int) -> list[np.ndarray]:
    """The positions 0 .. n - 1 of a node's items by child, for its subgraph [n, n]. Each child is smaller
    than the node."""
    connected = np.diff(graph.indptr) > 0
    if not connected.any():  # no edge to divide by: even slices of the catalogue
        return [part for part in np.array_split(np.arange(graph.shape[0]), clusters) if len(part)]
    positions = np.flatnonzero(connected)
    wanted = min(clusters, len(positions))
    vectors = _spectral_vectors(graph[positions][:, positions], wanted, seed)
    distances = k_means(vectors, wanted, seed, "collaborative").transform(vectors)
    labels = _within_capacity(distances, _capacity(len(positions), wanted))
    children = [positions[labels == label] for label in range(wanted)] + [np.flatnonzero(~connected)]
    return [child for child in children if len(child)]


def _spectral_vectors(graph: csr_matrix, dimensions: int, seed: int) -> np.ndarray:
    """[n, dimensions] of unit length: leading eigenvectors of D^-1/2 (A + t/n) D^-1/2, where t is REGULARISER
    times the mean degree and D the degrees of A + t/n (Ng, Jordan, Weiss, NeurIPS 2001, regularised)."""
    degrees = np.asarray(graph.sum(axis=1), np.float64).ravel()
    items, spread = len(degrees), REGULARISER * degrees.mean()
    scale = 1 / np.sqrt(degrees + spread)
    if items <= max(DENSE_ITEMS, 2 * dimensions):
        full = (graph.toarray() + spread / items) * scale[:, None] * scale
        # faster solvers for only some of them fail on equal eigenvalues
        vectors = np.linalg.eigh(full)[1][:, -dimensions:]
    else:

        def times(vector: np.ndarray) -> np.ndarray:
            scaled = scale * vector.ravel()
            result: np.ndarray = scale * (graph @ scaled + spread / items * scaled.sum())
            return result

        start = seeds.generator(seed, "collaborative", items).standard_normal(items)
        operator = LinearOperator((items, items), matvec=times, dtype=np.float64)
        vectors = eigsh(operator, dimensions, which="LA", v0=start, tol=1e-4)[1]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: np.ndarray = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 1e-12)
    return result


def _capacity(items: int, clusters: int) -> int:
    """Most items of a child: four times the even share, at most three quarters of the node, so that the
    recursion ends."""
    return max(-(-items // clusters), min(4 * items // clusters, 3 * items // 4))


def _within_capacity(distances: np.ndarray, capacity: int) -> np.ndarray:
    """[n] labels, assigned greedily by distance: the nearest pairs of `distances` [n, k] first, while the
    cluster has fewer than `capacity` items."""
    items, clusters = distances.shape
    labels, room = [-1] * items, [capacity] * clusters
    for pair in np.argsort(distances, axis=None, kind="stable").tolist():
        item, cluster = divmod(pair, clusters)
        if labels[item] < 0 and room[cluster]:
            labels[item] = cluster
            room[cluster] -= 1
    return np.array(labels)
