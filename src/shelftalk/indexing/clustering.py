"""k-means as the index schemes use it. Legend: n vectors, D dimensions, k clusters."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from shelftalk import seeds


def k_means(vectors: np.ndarray, clusters: int, seed: int, *names: str | int) -> KMeans:
    """A fitted k-means over `vectors` [n, D], seeded by `seed` and `names`, with at most n clusters."""
    state = seeds.number(seed, "k-means", *names) % 2**31
    with warnings.catch_warnings():
        # no warning of fewer distinct vectors than clusters: catalogues have equal items, and a level below
        # distinguishes them
        warnings.simplefilter("ignore", ConvergenceWarning)
        return KMeans(min(clusters, len(vectors)), n_init=3, random_state=state).fit(vectors)
