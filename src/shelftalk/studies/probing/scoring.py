"""From scores to accuracy, with intervals over facts, and paired differences on the same questions.

Answers to questions about one fact are not independent, so facts (of one seed's world) are resampled, not
questions: Field and Welsh, "Bootstrapping clustered data", JRSS B 2007. Legend: F facts, B resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from shelftalk import seeds
from shelftalk.studies.probing.questions import Question

RESAMPLES = 2000
GROUP = ("model", "way", "wording", "kind")
"""What an accuracy is measured for."""


def answers_frame(
    questions: Sequence[Question],
    scores: Sequence[np.ndarray],
    model: str,
    seed: int,
    way: str,
    wording: str = "seen",
) -> pl.DataFrame:
    """One row per question: model, way, wording, seed, kind, fact, half, number, chance and `right`: 1 where
    the answer alone has the highest score, a share of it where several options have it."""
    return pl.DataFrame(
        {
            "model": [model] * len(questions),
            "way": [way] * len(questions),
            "wording": [wording] * len(questions),
            "seed": [seed] * len(questions),
            "kind": [question.kind for question in questions],
            "fact": [f"{seed}, {question.fact}" for question in questions],
            "half": [question.half for question in questions],
            "number": list(range(len(questions))),
            "chance": [question.chance for question in questions],
            "right": [_right(question, row) for question, row in zip(questions, scores, strict=True)],
        }
    )


def accuracies(answers: pl.DataFrame, seed: int = 0) -> list[dict[str, Any]]:
    """One row per model, way, wording and kind: accuracy with its 95 % interval, chance and the number of
    questions."""
    rows = []
    for keys, part in answers.group_by(GROUP, maintain_order=True):
        low, high = _interval(part, seed)
        facts = {
            "accuracy": part["right"].mean(),
            "low": low,
            "high": high,
            "chance": part["chance"].mean(),
            "questions": len(part),
        }
        rows.append({**dict(zip(GROUP, keys, strict=True)), **facts})
    return rows


def difference(one: pl.DataFrame, other: pl.DataFrame, seed: int = 0) -> dict[str, float]:
    """Accuracy of `one` minus that of `other` on the same questions, with its 95 % interval.

    Raises ValueError unless both hold answers to the same questions, each once.
    """
    keys = ["seed", "number"]
    both = one.join(other.select(*keys, "right"), on=keys, suffix="_other", validate="1:1")
    if not len(both) == len(one) == len(other):
        raise ValueError("these are answers to different questions")
    paired = both.with_columns(right=pl.col("right") - pl.col("right_other"))
    low, high = _interval(paired, seed)
    return {"value": float(np.mean(paired["right"].to_numpy())), "low": low, "high": high}


def _right(question: Question, scores: np.ndarray) -> float:
    best = scores == scores.max()
    return float(best[question.options.index(question.answer)] / best.sum())


def _interval(answers: pl.DataFrame, seed: int) -> tuple[float, float]:
    """The 95 % percentile interval of the mean of `right`, by resampling facts."""
    facts = answers.group_by("fact").agg(pl.col("right").sum(), pl.len()).sort("fact")
    sums, counts = facts["right"].to_numpy(), facts["len"].to_numpy()  # [F]
    draw = seeds.generator(seed, "probe bootstrap")
    weights = draw.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=RESAMPLES)  # [B, F]
    low, high = np.percentile((weights @ sums) / (weights @ counts), [2.5, 97.5])
    return float(low), float(high)
