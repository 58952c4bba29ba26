"""A run of very many users whose answers are made up, with everything that `shelftalk verify` reads.

Data and split are made by the program itself; two models' lists are drawn so that the truth is in some of
them; metrics, intervals, slices and differences are the program's own, computed from these lists. What lists
are like beside accuracy is not measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from shelftalk.certificate.answers import RequestArrays, read_retrieval, request_arrays
from shelftalk.certificate.certify import certify
from shelftalk.data.splitting import Split
from shelftalk.evaluation.comparison import compare_tables, popularity_of
from shelftalk.evaluation.metrics import RETRIEVAL_METRICS
from shelftalk.experiment import Experiment, load_experiment
from shelftalk.pipeline import stages
from shelftalk.runtime.run_folder import RunFolder, beside, write_json

SHARES = {"item_knn": 0.10, "popularity": 0.06}
"""Model -> share of the users whose truth is in its list."""
LISTED, DRAWN = 20, 30
"""Items of a list, and those that it is chosen from, to leave out what the user has taken."""
CHUNK = 100_000


def make(
    folder: Path, users: int, items: int, events: int, seed: int = 0, resamples: int = 2000
) -> RunFolder:
    """A finished and certified run, without a report. `items` must be a prime number: the items of a user
    are every n-th of them, so that they are distinct."""
    data = folder / "data"
    data.mkdir(parents=True)
    _write_data(data, users, items, events, seed)
    experiment = load_experiment(
        None,
        {
            "name": "many-users",
            "seed": seed,
            "models": list(SHARES),
            "data": {"folder": str(data)},
            "split": {"ranking_negatives": 9},
            "evaluation": {"resamples": resamples},
        },
    )
    run = RunFolder(folder / "run")
    stages.claim(run, experiment)
    stages.prepare(run, experiment)
    split = Split.load(run.dataset)
    requests = request_arrays(split)
    for model, share in SHARES.items():
        _answer(run, split, requests, model, share, seed)
    _evaluate(run, experiment, split, requests)
    certify(run, experiment)
    return run


def _write_data(folder: Path, users: int, items: int, events: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    start, step = rng.integers(0, items, users), rng.integers(1, items, users)
    taken = (start[:, None] + np.arange(events) * step[:, None]) % items  # [U, E] distinct within a row
    frame = pl.DataFrame(
        {
            "user_id": pl.Series(np.repeat(np.arange(users), events)).cast(pl.String),
            "item_id": pl.Series(taken.ravel()).cast(pl.String),
            "timestamp": np.tile(np.arange(events), users) * 86_400 + 1_400_000_000,
        }
    )
    frame.write_parquet(folder / "interactions.parquet")
    names = pl.Series(np.arange(items)).cast(pl.String)
    pl.DataFrame({"item_id": names, "title": "Thing " + names}).write_parquet(folder / "items.parquet")


def _answer(
    run: RunFolder, split: Split, requests: RequestArrays, model: str, share: float, seed: int
) -> None:
    """Write the lists of a model, and the manifest of its stage."""
    prepared = run.needed("prepare").fingerprint
    ids, users = split.dataset.items["item_id"], pl.Series(requests.user)
    rng = np.random.default_rng([seed, len(model)])

    def work() -> dict[str, Any]:
        parts = [
            _lists(split, requests, np.arange(at, min(at + CHUNK, len(users))), share, rng)
            for at in range(0, len(users), CHUNK)
        ]
        rows = np.concatenate(parts)  # [R, LISTED]
        scores = -np.log(np.arange(2, LISTED + 2)) - rng.random((len(rows), 1))
        listed = ids.gather(pl.Series(rows.ravel())).reshape((len(rows), LISTED)).arr.to_list()
        frame = pl.DataFrame({"user": users, "items": listed, "scores": pl.Series(scores).arr.to_list()})
        with beside(run.ranking("retrieval", model)) as part:
            frame.write_parquet(part)
        return {"tasks": ["retrieval"], "chosen": []}

    inputs = {"built on": {"prepare": prepared}, "made up": share}
    run.do(f"recommend.{model}", inputs, work, [run.ranking("retrieval", model)])


def _lists(
    split: Split, requests: RequestArrays, rows: np.ndarray, share: float, rng: np.random.Generator
) -> np.ndarray:
    """[N, LISTED] catalogue rows, distinct and not taken before; the truth at a random place in a share."""
    items = len(split.dataset.items)
    start, step = rng.integers(0, items, (len(rows), 1)), rng.integers(1, items, (len(rows), 1))
    drawn = (start + np.arange(DRAWN) * step) % items
    keys = requests.user_number[rows][:, None] * items + drawn
    taken = requests.event_of(keys) < len(requests.taken)  # the truth too: it is put where it belongs
    order = np.argsort(taken, axis=1, kind="stable")
    listed = np.take_along_axis(drawn, order, axis=1)[:, :LISTED]
    hit = rng.random(len(rows)) < share
    place = np.minimum(rng.geometric(0.15, len(rows)), LISTED) - 1
    listed[hit, place[hit]] = requests.truth[rows][hit]
    return listed


def _evaluate(run: RunFolder, experiment: Experiment, split: Split, requests: RequestArrays) -> None:
    """As the stage, from ranks that are read off the files by arrays."""
    built_on = {f"recommend.{model}": run.needed(f"recommend.{model}").fingerprint for model in SHARES}
    names = ("retrieval", "slices", "differences")

    def work() -> dict[str, Any]:
        keys = {
            "user": pl.Series(requests.user),
            "item": split.dataset.items["item_id"].gather(pl.Series(requests.truth.astype(np.int64))),
        }
        frames = {}
        for model in SHARES:
            ranks = read_retrieval(run.ranking("retrieval", model), requests, lambda _: None).ranks
            columns = {name: metric(ranks) for name, metric in RETRIEVAL_METRICS.items()}
            shown = pl.Series(ranks).replace(np.inf, None)
            frames[model] = pl.DataFrame(
                {**keys, "rank": shown, "history_length": requests.history.astype(np.int64), **columns}
            )
        settings = experiment.evaluation
        compared = compare_tables(
            {"retrieval": frames},
            popularity_of(split),
            settings.resamples,
            experiment.seed,
            settings.correction,
            of_lists={},
        )
        for name in names:
            with beside(run.evaluation(name)) as part:
                compared.tables[name].write_parquet(part)
        write_json(run.metrics, compared.metrics)
        return {"test_evaluations": run.count_test_evaluation(", ".join(SHARES))}

    inputs = {
        "recommend": built_on,
        **experiment.evaluation.read_by("evaluate"),
        "seed": experiment.seed,
    }
    run.do("evaluate", inputs, work, [*map(run.evaluation, names), run.metrics])
