"""A history in words, for a model that has never read words where items stand (names alone, a symbol each).

Every item of a validation history is told as a customer would tell of one that the shop does not have: its
title, brand and categories, while it cannot itself be what stands in for them. The model reads the ids (which
bound what can be expected), the words where a name would be (as every model did before), or the items most
similar by text, 1 to 5 for each; beside them the most similar items, recommended as they are. The number was
chosen here, on the validation part; the test part is not read.

The bundled experiment, trained now, unless SHELFTALK_BENCHMARK_RUN names a finished run.
"""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import shelftalk
from benchmarks._lists import quality
from benchmarks._nano import bundled_hash
from benchmarks._served import RUN
from benchmarks.harness import REPOSITORY, Claim, Result
from shelftalk.data.similarity import item_texts
from shelftalk.data.text_space import TextSpace
from shelftalk.decoding.language_model import STAND_INS, LanguageModelRecommender
from shelftalk.experiment import load_experiment
from shelftalk.pipeline.run import Run, open_run
from shelftalk.records import Ranking, Request, Text

NUMBERS = (1, 2, 3, 5)
USERS, QUICK_USERS = 2_000, 100
LENGTH = 10
IDS, WORDS, THEMSELVES = "the ids", "the words", "the most similar items, recommended as they are"
CLAIMS = [
    f"A model of names alone has a higher NDCG@10 with {STAND_INS} similar items in place of words than with "
    "the words",
    "and than the most similar items, recommended as they are",
]
Read = Callable[[str], tuple[str, ...]]
"""What is read in place of an entry in words."""


def main(quick: bool) -> Result:
    """--quick: 100 users."""
    given = os.environ.get(RUN)
    bundled = REPOSITORY / "experiments" / "movielens-small.toml"
    with tempfile.TemporaryDirectory() as scratch:
        run = open_run(given) if given else shelftalk.run(load_experiment(bundled), out=Path(scratch) / "run")
        rows = _by_what_is_read(run, QUICK_USERS if quick else USERS)
    of = {row["read"]: row["ndcg@10"] for row in rows}
    ours = of[f"{STAND_INS} similar"]
    claims = [
        Claim(claim, f"{ours:.4f} to {of[other]:.4f}", "higher", ours > of[other])
        for claim, other in zip(CLAIMS, (WORDS, THEMSELVES), strict=True)
    ]
    return Result(run.experiment.seed, claims, rows, bundled_hash())


def _by_what_is_read(run: Run, users: int) -> list[dict[str, Any]]:
    requests, truths = (part[:users] for part in run.split.retrieval_requests("validation"))
    model, items = run.language_model, run.split.dataset.items
    texts = dict(zip(model.index.item_ids, map(Text, item_texts(items)), strict=True))
    similar = _similar(TextSpace(items), model, texts)
    in_words = [
        Request("", tuple(texts[item] for item in request.history), excluded=request.history)
        for request in requests
    ]
    sides: dict[str, Read] = {WORDS: lambda text: (Text(text),)}
    sides |= {f"{number} similar": _first_of(similar, number) for number in NUMBERS}
    answers = {IDS: model.recommend(requests, LENGTH)}
    answers |= {side: _reading(model, read).recommend(in_words, LENGTH) for side, read in sides.items()}
    answers[THEMSELVES] = [_most_similar(request, similar) for request in in_words]
    return [
        {
            "read": side,
            "requests": len(requests),
            **quality([ranking.items for ranking in lists], truths, LENGTH),
        }
        for side, lists in answers.items()
    ]


def _similar(
    space: TextSpace, model: LanguageModelRecommender, texts: Mapping[str, Text]
) -> dict[str, tuple[str, ...]]:
    """Text -> the items most similar to it, most similar first, without the one whose text it is."""
    found = {}
    for row, item in enumerate(model.index.item_ids):
        rows = [other for other in space.nearest(texts[item])[0].tolist() if other != row]
        found[str(texts[item])] = tuple(model.index.item_ids[other] for other in rows)
    return found


def _first_of(similar: Mapping[str, tuple[str, ...]], number: int) -> Read:
    """The most similar items, the most similar last."""
    return lambda text: similar[text][:number][::-1]


def _reading(model: LanguageModelRecommender, read: Read) -> LanguageModelRecommender:
    """The model that reads this in place of words."""
    other = copy.copy(model)

    def without_words(requests: Sequence[Request], task: str = "retrieval") -> list[Request]:
        return [
            replace(request, history=tuple(one for entry in request.history for one in read(str(entry))))
            for request in requests
        ]

    other.without_words = without_words  # type: ignore[method-assign]
    return other


def _most_similar(request: Request, similar: Mapping[str, tuple[str, ...]]) -> Ranking:
    """The items similar to the latest entry, then to the one before it, and so on."""
    found = dict.fromkeys(one for entry in reversed(request.history) for one in similar[str(entry)][:LENGTH])
    items = [item for item in found if item not in request.excluded][:LENGTH]
    return Ranking(request.user, tuple(items), tuple(float(-place) for place in range(len(items))))
