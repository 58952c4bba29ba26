"""What a language model's answers are compared with: an oracle that is given the facts, item_knn, text alone,
popularity.

Legend: Q questions, O options.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from shelftalk.baselines.item_knn import ItemKnnSettings, fit_item_knn
from shelftalk.baselines.popularity import fit_popularity
from shelftalk.baselines.text_and_links import Recipe
from shelftalk.data.splitting import Split
from shelftalk.records import Request
from shelftalk.studies.probing.questions import Question
from shelftalk.studies.probing.scoring import answers_frame
from shelftalk.studies.probing.world import Facts

CatalogueScores = Callable[[Sequence[Request]], np.ndarray]
WHOLE = 1_000_000
"""More items than any history has."""
WAY = "scores"
"""How references answer: they score every item, without a prompt."""


def reference_answers(
    split: Split, questions: Sequence[Question], seed: int, facts: Facts | None = None
) -> pl.DataFrame:
    """The answers of popularity, text alone and item_knn, and of the oracle where the facts are known."""
    knn = fit_item_knn(split, ItemKnnSettings(), seed)
    text_only = replace(knn, recipe=Recipe(text_weight=1.0, decay=1.0, max_history=WHOLE))
    models: dict[str, CatalogueScores] = {
        "popularity": fit_popularity(split).scores,
        "text only": text_only.scores,
        "item_knn": knn.scores,
    }
    scores = {name: _of_options(score, split, questions) for name, score in models.items()}
    if facts is not None:
        scores["oracle"] = [oracle(facts, question) for question in questions]
    return pl.concat(answers_frame(questions, of_model, name, seed, WAY) for name, of_model in scores.items())


def oracle(facts: Facts, question: Question) -> np.ndarray:
    """[O] the number of facts by which the history leads to each option."""
    return np.array([_supporting_facts(facts, question, option) for option in question.options], np.float64)


def _supporting_facts(facts: Facts, question: Question, option: str) -> int:
    """How many facts, applied to the history, lead to the option."""
    history = question.history
    if question.kind == "before":
        return (option, history[question.position]) in facts.pairs
    if question.kind == "after":
        return (history[question.position - 1], option) in facts.pairs
    if question.kind == "soon":
        return sum(r.second == option and history[-1] == r.first for r in facts.rules)
    if question.kind == "rule":
        return sum(r.second == option and history[-r.distance] == r.first for r in facts.rules)
    groups = facts.shelves if question.kind == "maker" else facts.choices
    (column,) = [group.index(option) for group in groups if option in group]
    return sum(group[column] in history for group in groups)


def _of_options(score: CatalogueScores, split: Split, questions: Sequence[Question]) -> list[np.ndarray]:
    """[Q] arrays [O]: the catalogue's scores at the options."""
    scores = score([Request("", question.history) for question in questions])
    row_of = split.dataset.row_of
    return [
        row[[row_of[option] for option in question.options]]
        for row, question in zip(scores, questions, strict=True)
    ]
