"""Does the knowledge go in? The synthetic world of `shelftalk probe`: every mixture, every kind of question,
in every way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from benchmarks.harness import Claim, Result
from shelftalk.app.console import Progress
from shelftalk.studies.probing.questions import KINDS
from shelftalk.studies.probing.report import as_record, markdown
from shelftalk.studies.probing.scoring import accuracies, difference
from shelftalk.studies.probing.study import ProbeResult, ProbeSettings, mixtures, study

CLAIMS = [
    "With masked items on, 'before' is answered in their wording far above chance and above the same model "
    "without them",
    "With masked language on, 'before' is answered in its wording far above chance and above the same model "
    "without it",
    "With preferences on, 'soon' is answered in their wording far above chance and above the same model "
    "without them",
    "Masked items are knowledge, not form alone: 'before' stands above a model whose masked items did not "
    "show the facts asked about",
    "Preferences are knowledge, not form alone: 'soon' stands above a model whose preferences did not show "
    "the facts asked about",
    "Behind the retrieval prompt, that every model knows, masked items raise 'before'",
    "Behind the retrieval prompt, that every model knows, 'soon' is far above chance with preferences on, "
    "and above without them",
    "Every mixture read the same number of training tokens, within 1 %",
    "Popularity is at chance on every kind of question, and the oracle knows every answer",
]
SEEDS = (0, 1, 2)
FAR = 0.2
"""By so much the low end of an accuracy's interval is above chance where it is called far above."""


def main(quick: bool) -> Result:
    """--quick: one seed, without the mixture of all tasks."""
    seeds = SEEDS[:1] if quick else SEEDS
    wanted = [mixture for mixture in mixtures() if not (quick and mixture.name == "+ all")]
    with Progress() as progress:
        probed = study(ProbeSettings(), wanted, seeds, progress)
    return result(probed)


def result(probed: ProbeResult) -> Result:
    """The result file's content, from the answers alone."""
    record = as_record(probed, KINDS)
    print(markdown(record), flush=True)
    runs = [*record["trainings"], *record["accuracy"], *record["differences"]]
    return Result(SEEDS[0], _claims(probed.answers, probed.trainings), [_rounded(run) for run in runs])


def _rounded(run: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in run.items()}


def _claims(answers: pl.DataFrame, trainings: Sequence[dict[str, Any]]) -> list[Claim]:
    tokens = [training["tokens"] for training in trainings]
    apart = max(tokens) / min(tokens) - 1
    lowest = accuracies(answers.filter(pl.col("model").is_in(["popularity", "oracle"])))
    off = max(abs(row["accuracy"] - (1.0 if row["model"] == "oracle" else row["chance"])) for row in lowest)
    return [
        _taught(CLAIMS[0], answers, "masked_items", "before", by="masked_items"),
        _taught(CLAIMS[1], answers, "masked_language", "before", by="masked_language"),
        _taught(CLAIMS[2], answers, "pairwise_preference", "soon", by="pairwise_preference"),
        _above_control(CLAIMS[3], answers, "masked_items", "before"),
        _above_control(CLAIMS[4], answers, "pairwise_preference", "soon"),
        _raised(CLAIMS[5], answers, "masked_items", "before"),
        _taught(CLAIMS[6], answers, "pairwise_preference", "soon", by="retrieval"),
        Claim(CLAIMS[7], round(apart, 4), "<= 0.01", apart <= 0.01),
        Claim(CLAIMS[8], round(off, 3), "<= 0.02 off", off <= 0.02),
    ]


def _of(answers: pl.DataFrame, model: str, way: str, kind: str) -> pl.DataFrame:
    seen = answers.filter(pl.col("wording") == "seen")
    return seen.filter((pl.col("model") == model) & (pl.col("way") == way) & (pl.col("kind") == kind))


def _taught(claim: str, answers: pl.DataFrame, task: str, kind: str, by: str) -> Claim:
    """In the way `by`: far above chance, and above the served tasks alone, both intervals clear."""
    mine, without = (_of(answers, model, by, kind) for model in (f"+ {task}", "served only"))
    (row,), gain = accuracies(mine), difference(mine, without)
    measured = f"{row['accuracy']:.2f} [{row['low']:.2f}, {row['high']:.2f}], {_signed(gain)} against without"
    holds = row["low"] > row["chance"] + FAR and gain["low"] > 0
    return Claim(
        claim,
        measured,
        f"low end > {row['chance'] + FAR:.2f} (chance {row['chance']:.2f}), difference's > 0",
        holds,
    )


def _above_control(claim: str, answers: pl.DataFrame, task: str, kind: str) -> Claim:
    """With the task's own templates, about the facts of the half that the control's samples did not show."""
    unseen = answers.filter(pl.col("half") == 1)
    gain = difference(*(_of(unseen, model, task, kind) for model in (f"+ {task}", f"+ {task}, other half")))
    return Claim(claim, _signed(gain), "low end > 0", gain["low"] > 0)


def _raised(claim: str, answers: pl.DataFrame, task: str, kind: str) -> Claim:
    gain = difference(*(_of(answers, model, "retrieval", kind) for model in (f"+ {task}", "served only")))
    return Claim(claim, _signed(gain), "low end > 0", gain["low"] > 0)


def _signed(gain: dict[str, float]) -> str:
    return f"{gain['value']:+.2f} [{gain['low']:+.2f}, {gain['high']:+.2f}]"
