"""transition_graph: what was taken right after the last few items of the history, and what is similar to them
by text. Nothing is trained.

    similarity(i, j) = w text(i, j) + (1 - w) edge(i, j)
    score(j)         = sum over the last n history items i, age 0 the latest: decay^age similarity(i, j)

edge(i, j) is the number of users who took j right after i in training, over sqrt(all edges from i x all edges
to j). item_knn with a direction: where there is no order every two items of a user are linked, and it is
item_knn. First-order transitions: Rendle, Freudenthaler, Schmidt-Thieme, "Factorizing personalized Markov
chains for next-basket recommendation", WWW 2010; beside text, in the spirit of TGH.

Legend: I items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field
from scipy.sparse import csr_matrix

from shelftalk.baselines.scored_catalogue import scored_catalogue
from shelftalk.baselines.text_and_links import (
    Factor,
    Length,
    TextAndLinks,
    TextAndLinksSettings,
    choose_recipe,
)
from shelftalk.data.similarity import co_occurrence, text_vectors, transition_counts
from shelftalk.data.splitting import Split


class TransitionGraphSettings(TextAndLinksSettings):
    """What transition_graph tries on validation; one value each fixes the recipe."""

    decay: tuple[Factor, ...] = Field((0.3, 0.5, 0.7), min_length=1)
    """Factors per step of age to try, each above 0 and up to 1."""
    max_history: tuple[Length, ...] = Field((1, 3, 5, 10), min_length=1)
    """Numbers of most recent history items to try."""


@dataclass(frozen=True, eq=False)
class TransitionGraph(TextAndLinks):
    """Text and transitions; `links` [i, j] leads from an item to the next one."""

    name: str = "transition_graph"


def fit_transition_graph(split: Split, settings: TransitionGraphSettings, seed: int) -> TransitionGraph:
    """Count the transitions of the training part and choose the recipe on validation (see
    `choose_recipe`)."""
    catalogue, text = scored_catalogue(split), text_vectors(split.dataset.items)
    links = transitions(split) if split.dataset.ordered else co_occurrence(split)
    recipe, choice = choose_recipe(split, catalogue, text, links, settings, seed, "transition_graph")
    return TransitionGraph(catalogue, text, links, recipe, choice, split.dataset.ordered)


def transitions(split: Split) -> csr_matrix:
    """[I, I] float32: edge(i, j) as above; 0 from and to an item without a neighbour in training."""
    counts = transition_counts(split)
    out_of, into = (np.maximum(np.asarray(counts.sum(axis=axis)).ravel(), 1) for axis in (1, 0))
    counts.data /= np.sqrt(np.repeat(out_of, np.diff(counts.indptr)) * into[counts.indices])
    return counts.astype(np.float32)
