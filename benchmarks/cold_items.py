"""Items that no training has seen, recommended by their text alone, by every index scheme.

The tenth of MovieLens' films whose first rating is latest is taken out of everything: catalogue, texts,
tokenizer, training. A nano model is trained on the rest per scheme. Then the films join by their texts, as
while serving, and users who rated one of them are asked about: their history before it, without any of these
films; is the film on the list? Beside it stand the texts alone (item_knn's text part: the cosine of the film
to the history, recent items counting more), the scores of item_knn for the most similar films, and chance.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks._nano import bundled_hash, prepared
from benchmarks.harness import Claim, Result
from shelftalk.baselines.item_knn import fit_item_knn
from shelftalk.data.dataset import Dataset
from shelftalk.data.text_space import TextSpace
from shelftalk.experiment import Experiment, load_experiment
from shelftalk.pipeline import stages
from shelftalk.pipeline.run import Run
from shelftalk.records import Filter, Item, Request
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.serving.answering import AnsweringModel, Asked, answering
from shelftalk.serving.store import StoredItem

CLAIMS = (
    "a new film named by its title is found among the new ones more often than by chance",
    "a new film with an atomic symbol is found among the new ones more often than by chance",
    "a new film with semantic codes is found among the new ones more often than by chance",
    "the best scheme finds new films among the new ones as often as texts alone",
    "a new item is recommendable within a second of the call",
)
SCHEMES = ("titles", "atomic", "semantic")
SHARE = 0.1
"""Of the films, those whose first rating is latest."""
K = 10
SEED = 0
SHORTEST = 3
"""Films in a history at least."""
DECAY = 0.7
"""Of the texts alone: factor per step of age, of the last HISTORY films."""
HISTORY = 5


@dataclass(frozen=True)
class World:
    """The films without the new ones as a data folder, the new films, and the questions about them."""

    folder: Path
    new: tuple[Item, ...]
    requests: tuple[Request, ...]
    truths: tuple[str, ...]


def make_world(dataset: Dataset, folder: Path, users: int) -> World:
    """Take the new films out, and write what is left as a data folder."""
    first = dataset.events.group_by("item_id").agg(pl.col("timestamp").min()).sort("timestamp", "item_id")
    new = first["item_id"][-int(SHARE * len(first)) :].to_list()
    folder.mkdir(parents=True, exist_ok=True)
    is_new = pl.col("item_id").is_in(new)
    dataset.items.filter(~is_new).write_parquet(folder / "items.parquet")
    kept = dataset.events.filter(~is_new).drop("position")
    kept.write_parquet(folder / "interactions.parquet")
    requests, truths = [], []
    for (user,), events in dataset.events.group_by("user_id", maintain_order=True):
        rows = events.sort("position")
        taken = rows["item_id"].to_list()
        position = next((at for at, item in enumerate(taken) if item in set(new)), None)
        if position is None or position < SHORTEST:
            continue
        requests.append(Request(str(user), tuple(taken[:position])))
        truths.append(taken[position])
    drawn = np.sort(np.random.default_rng(SEED).permutation(len(requests))[:users])
    chosen = [(requests[row], truths[row]) for row in drawn]
    items = tuple(dataset.item(item) for item in new)
    return World(folder, items, tuple(one for one, _ in chosen), tuple(item for _, item in chosen))


def trained(world: World, scheme: str, steps: int, out: Path) -> Run:
    """A nano model of the rest."""
    experiment = load_experiment(
        None,
        {
            "name": scheme,
            "seed": SEED,
            "models": ["aligned"],
            "data": {"folder": str(world.folder), "k_core": 1, "item_noun": "film"},
            "index": {"scheme": scheme},
            "training": {"max_steps": steps, "validations": 1},
        },
    )
    folder = RunFolder(out)
    for stage in (stages.claim, stages.prepare, stages.index, stages.write, stages.train):
        stage(folder, experiment)
    return Run(folder, experiment)


def recalls(
    model: AnsweringModel, world: World, positions: Sequence[int], among: Filter | None = None
) -> float:
    """Recall@K of the new film, among all films or those of a filter."""
    hits = 0
    for start in range(0, len(positions), 32):
        some = positions[start : start + 32]
        asked = [Asked(Request("", world.requests[at].history, filter=among), K) for at in some]
        answers = model.answer("recommend", asked)
        hits += sum(world.truths[at] in answer.items for at, answer in zip(some, answers, strict=True))
    return hits / len(positions)


def by_text(dataset: Dataset, world: World, among_new: bool) -> float:
    """Recall@K of the texts alone, over the whole catalogue with the new films in it."""
    texts = TextSpace(dataset.items).vectors
    new = np.array([dataset.row_of[item.id] for item in world.new])
    hits = 0
    for request, truth in zip(world.requests, world.truths, strict=True):
        rows = np.array([dataset.row_of[item] for item in request.history])
        recent = rows[-HISTORY:][::-1]
        weights = DECAY ** np.arange(len(recent))
        scores = np.asarray((texts @ texts[recent].T).todense()) @ weights
        scores[rows] = -1.0
        if among_new:
            scores[np.setdiff1d(np.arange(len(scores)), new)] = -1.0
        best = np.lexsort((np.arange(len(scores)), -scores))[:K]
        hits += dataset.row_of[truth] in best
    return hits / len(world.truths)


def measure(model: AnsweringModel, world: World) -> dict[str, Any]:
    """The new films join, one first and then all: times and recalls."""
    one = StoredItem(world.new[0])
    model.answer("recommend", [Asked(world.requests[0], K)])
    start = time.perf_counter()
    refused = model.refresh([one], time.time())
    (answer,) = model.answer("recommend", [Asked(Request("", (), filter=Filter(only=(one.item.id,))), K)])
    first = time.perf_counter() - start
    assert answer.items == (one.item.id,) and not refused
    start = time.perf_counter()
    refused = model.refresh([StoredItem(item) for item in world.new[1:]], time.time())
    rest = time.perf_counter() - start
    everyone = range(len(world.requests))
    only = Filter(only=tuple(item.id for item in world.new))
    return {
        "first item, seconds": round(first, 3),
        "all others, seconds": round(rest, 3),
        "refused": len(refused),
        "recall@10 among all": round(recalls(model, world, everyone), 4),
        "recall@10 among the new": round(recalls(model, world, everyone, only), 4),
    }


def main(quick: bool) -> Result:
    steps, users = (250, 200) if quick else (1752, 1000)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch, prepared(Experiment()) as run:
        dataset = run.split.dataset
        world = make_world(dataset, Path(scratch) / "data", users)
        for scheme in SCHEMES:
            warm = trained(world, scheme, steps, Path(scratch) / scheme)
            model = answering(
                warm.language_model, warm.split.dataset.items, warm.experiment.index, warm.experiment.seed
            )
            rows.append({"model": scheme, "steps": steps, **measure(model, world)})
        rows.append({"model": "item_knn, by the nearest texts", **measure(_knn(warm), world)})
        rows.append(
            {
                "model": "texts alone",
                "recall@10 among all": round(by_text(dataset, world, False), 4),
                "recall@10 among the new": round(by_text(dataset, world, True), 4),
            }
        )
    return _result(rows, world, len(dataset.items))


def _knn(run: Run) -> AnsweringModel:
    experiment = run.experiment
    return answering(
        fit_item_knn(run.split, experiment.baselines["item_knn"], experiment.seed),  # type: ignore[arg-type]
        run.split.dataset.items,
    )


def _result(rows: list[dict[str, Any]], world: World, films: int) -> Result:
    chance = K / len(world.new)
    rows.append(
        {
            "model": "chance",
            "recall@10 among all": round(K / films, 4),
            "recall@10 among the new": round(chance, 4),
            "questions": len(world.truths),
            "new films": len(world.new),
        }
    )
    value = {row["model"]: row["recall@10 among the new"] for row in rows}
    # two standard errors of a share of that size
    bound = chance + 2 * (chance * (1 - chance) / len(world.truths)) ** 0.5
    claims = [
        Claim(sentence, value[scheme], f"> {bound:.4f}", value[scheme] > bound)
        for sentence, scheme in zip(CLAIMS, SCHEMES, strict=False)
    ]
    best = max(value[scheme] for scheme in SCHEMES)
    claims.append(Claim(CLAIMS[3], best, f">= {value['texts alone']}", best >= value["texts alone"]))
    slowest = max(row["first item, seconds"] for row in rows if "first item, seconds" in row)
    claims.append(Claim(CLAIMS[4], slowest, "<= 1", slowest <= 1))
    return Result(SEED, claims, rows, bundled_hash())
