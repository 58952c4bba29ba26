"""Every answer to every test user of every data set: is it an item, is it new to the user, does it come once?

The code asserts it where a result is made (decoding/top_items.py); here it is counted again from the outside,
with Python sets. The nano model, trained for a short while (benchmarks/_beauty.py) or not at all, since a
model without knowledge errs most: MovieLens, Beauty by titles and by semantic codes, Sports (no
titles) by semantic codes. SmolLM2-135M on 1,000 fixed test users of Beauty. Ten items of ten beams for each;
a full run takes about an hour on two cores.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks._beauty import SCHEMES, drawn_requests, models, needs_beauty, trained
from benchmarks._nano import BUNDLED, bundled_hash, prepared
from benchmarks.harness import Claim, Result, data_hash
from benchmarks.item_knn import BEAUTY, PUBLISHED
from shelftalk.decoding.language_model import LanguageModelRecommender
from shelftalk.experiment import load_experiment
from shelftalk.pipeline.fresh_backbone import new_backbone
from shelftalk.records import Ranking, Request

CLAIMS = [
    "No answer over all test users of all data sets is no item, comes twice or stands in the history (nano; "
    "SmolLM2 on 1,000 users)",
    "Every answer holds as many items as were asked for",
]
SEED, K = 0, 10
SMOLLM2_USERS, QUICK_USERS = 1000, 200
SPORTS = BEAUTY.parent / "sports-untitled"


def main(quick: bool) -> Result:
    """--quick evaluates 200 users of each, the nano model alone."""
    needs_beauty()
    runs = []
    for name, users, model in _models(quick):
        start = time.perf_counter()
        rankings = model.with_settings(beams=K, batch_size=64 if users is None else 16).recommend(
            requests := _requests(model, users), K
        )
        seconds = round(time.perf_counter() - start, 1)
        runs.append(
            {"case": name, "users": len(requests), "seconds": seconds, **_counted(model, requests, rankings)}
        )
        print(runs[-1], flush=True)
    wrong, short = sum(run["wrong"] for run in runs), sum(run["short"] for run in runs)
    data = bundled_hash() | {
        folder.name: data_hash(folder.glob("*.parquet")) for folder in (BEAUTY, SPORTS) if folder.is_dir()
    }
    return Result(
        SEED,
        [Claim(CLAIMS[0], wrong, "0", wrong == 0), Claim(CLAIMS[1], short, "0 short", short == 0)],
        runs,
        data,
    )


def _models(quick: bool) -> Iterator[tuple[str, int | None, LanguageModelRecommender]]:
    """Name, number of users (None for all), model."""
    users = QUICK_USERS if quick else None
    with _untrained({"name": "movielens", "data": {"folder": str(BUNDLED), **PUBLISHED}}) as model:
        yield "nano, MovieLens, atomic, untrained", users, model
    if SPORTS.is_dir():
        with _untrained(
            {
                "name": "sports",
                "data": {"folder": str(SPORTS)},
                "index": {"scheme": "semantic", "text_weight": 0.0},
            }
        ) as model:
            yield "nano, Sports, semantic, untrained", users, model
    for scheme in SCHEMES[::-1]:
        yield f"nano, Beauty, {scheme}", users, trained("nano", scheme, quick).language_model
    for name in () if quick else models()[1:]:
        for scheme in SCHEMES[::-1]:
            yield f"{name}, Beauty, {scheme}", SMOLLM2_USERS, trained(name, scheme, quick).language_model


@contextmanager
def _untrained(settings: dict[str, Any]) -> Iterator[LanguageModelRecommender]:
    with prepared(load_experiment(None, settings)) as run:
        yield LanguageModelRecommender(new_backbone(run), run.index, run.served, run.experiment.decoding)


def _requests(model: LanguageModelRecommender, users: int | None) -> list[Request]:
    split = model.tasks["retrieval"].context.split
    return (
        split.retrieval_requests("test")[0]
        if users is None
        else drawn_requests(split, "test", users, SEED)[0]
    )


def _counted(
    model: LanguageModelRecommender, requests: Sequence[Request], rankings: Sequence[Ranking]
) -> dict[str, int]:
    """Items that are none, come twice or were seen; and answers that are shorter than they could be."""
    catalogue = set(model.index.item_ids)
    wrong = short = 0
    for request, ranking in zip(requests, rankings, strict=True):
        items = ranking.items
        wrong += (
            len(items)
            - len(set(items))
            + sum(item not in catalogue or item in request.history for item in items)
        )
        short += len(items) < min(K, len(catalogue) - len(set(request.history)))
    return {"answers": sum(len(ranking.items) for ranking in rankings), "wrong": wrong, "short": short}
