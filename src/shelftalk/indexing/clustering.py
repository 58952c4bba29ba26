"""k-means as the index schemes use it. Legend: n vectors, D dimensions, k clusters."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from shelftalk import seeds


def k_means(vectors: np.ndarray, clusters: int, seed: int, *names: str | int) -> KMeans:
    """A finished k-means over `vectors` [n, D], drawn from the seed and the names; at most one cluster per
    vector."""
    state = seeds.number(seed, "k-means", *names) % 2**31
    with warnings.catch_warnings():
        # fewer different vectors than clusters is nothing to warn of: catalogues repeat themselves, and a
        # level below tells apart
        warnings.simplefilter("ignore", ConvergenceWarning)
        return KMeans(min(clusters, len(vectors)), n_init=3, random_state=state).fit(vectors)
