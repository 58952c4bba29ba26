"""What exactness costs, and what beams miss: beam search, exact top 20 and the whole catalogue's scores on
the same prompts.

Amazon 2014 Beauty, 12,101 items named by titles or by semantic codes; the nano model and SmolLM2-135M, both
trained on next items (benchmarks/_beauty.py). The costs are those of searching: prompts are read once,
before. How often the true top 10 differs from what beams find, by their number and by how they finish, is
measured on validation users, as is what a length penalty would gain.

The bound of an exact search is the log-probability of a prefix: it closes in as a model learns. SmolLM2 after
60 steps hardly tells one title from another, so its search is given up LIMIT tokens after a prompt;
how many came to an end by then is stated, and what beams miss is counted for those alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks._beauty import SCHEMES, drawn_requests, models, needs_beauty, prefilled, trained
from benchmarks.harness import Claim, Result, data_hash
from benchmarks.item_knn import BEAUTY
from shelftalk.decoding.beam_search import beam_search
from shelftalk.decoding.catalogue_scores import score_catalogue
from shelftalk.decoding.exact_search import ExactTopItems, exact_top
from shelftalk.decoding.settings import Finish
from shelftalk.decoding.top_items import TopItems
from shelftalk.pipeline.run import Run

CLAIMS = [
    "The exact top 20 of the 12,101 items costs at most five times a search with 20 beams, on semantic codes",
    "The exact top 20 is the top 20 of the scores of the whole catalogue, within 1e-4 nats in fp32",
    "Every item that a search returned was valid, none twice, none from the history",
]
SEED = 0
BEAMS = 20
USERS = {"nano": 16, "smollm2": 4}
BATCH = {"nano": 16, "smollm2": 4}
EVALUATED = {"nano": 320, "smollm2": 8}
"""Validation users for the error of beams and the length penalty."""
LIMIT = {"nano": 0, "smollm2": 1500}
"""Tokens after a prompt at which an exact search is given up; 0: never."""
PENALTIES = (0.0, 0.5, 1.0)
WALKED = {("nano", "semantic"): 16, ("nano", "titles"): 1, ("smollm2", "semantic"): 1}
"""Users whose whole catalogue is scored; SmolLM2 on titles would take minutes for one."""


def main(quick: bool) -> Result:
    """--quick trains an eighth as long, the nano model alone, and evaluates a tenth of the users."""
    needs_beauty()
    runs: list[dict[str, Any]] = []
    for name in models()[: 1 if quick else 2]:
        for scheme in SCHEMES:
            run = trained(name, scheme, quick)
            runs.append(
                {
                    "case": f"{name}, {scheme}",
                    "bf16": run.backbone.bf16,
                    **_costs(run, name, 1 if quick else 3),
                }
            )
            print(runs[-1], flush=True)
            if walked := WALKED.get((name, scheme)):
                runs.append({"case": f"{name}, {scheme}", **_walk(run, walked, check=name == "nano")})
                print(runs[-1], flush=True)
            runs += _errors(run, name, EVALUATED[name] // (10 if quick else 1))
            print(*runs[-10:], sep="\n", flush=True)
    return Result(SEED, _claims(runs), runs, {"beauty": data_hash(BEAUTY.glob("*.parquet"))})


def _claims(runs: Sequence[dict[str, Any]]) -> list[Claim]:
    codes = [run for run in runs if "exact / beams" in run and "semantic" in run["case"]]
    slower = max(run["exact / beams"] for run in codes)
    ended = all(run["came to an end"] == run["users"] for run in codes)
    apart = max(run["largest difference"] for run in runs if "largest difference" in run)
    wrong = sum(run["wrong items"] for run in runs if "wrong items" in run)
    return [
        Claim(CLAIMS[0], slower, "<= 5", ended and slower <= 5),
        Claim(CLAIMS[1], apart, "<= 1e-4", apart <= 1e-4),
        Claim(CLAIMS[2], wrong, "0", wrong == 0),
    ]


def _costs(run: Run, name: str, rounds: int) -> dict[str, Any]:
    """Medians of the seconds per user, prompts already read; the two by turns."""
    model = run.language_model
    requests, _ = drawn_requests(run.split, "test", USERS[name], SEED)
    read, exclusions = prefilled(model, requests)
    ways: dict[str, Callable[[], TopItems]] = {
        "beams": lambda: beam_search(read, model.trie, exclusions, BEAMS),
        "beams, retire": lambda: beam_search(read, model.trie, exclusions, BEAMS, finish="retire"),
        "exact": lambda: exact_top(read, model.trie, exclusions, BEAMS, limit=LIMIT[name]),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    decoded, proven = 0.0, 0
    for _ in range(rounds):
        for way, search in ways.items():
            start = time.perf_counter()
            with model.backbone.precision():
                result = search()
            seconds[way].append((time.perf_counter() - start) / len(requests))
            if isinstance(result, ExactTopItems):
                decoded, proven = float(result.tokens_decoded.mean()), int(result.proven.sum())
            print(f"{name}: {way} {seconds[way][-1]:.3f} s a user", flush=True)
    median = {way: statistics.median(values) for way, values in seconds.items()}
    ratio = round(median["exact"] / median["beams"], 2)
    rounded = {way: round(value, 4) for way, value in median.items()}
    facts = {
        "exact / beams": ratio,
        "tokens said for the exact top": round(decoded),
        "came to an end": proven,
    }
    return {"users": len(requests), "seconds": rounded, **facts}


def _walk(run: Run, users: int, check: bool) -> dict[str, Any]:
    """The scores of all items; in fp32 their best 20 against the exact search."""
    model = run.language_model
    was, model.backbone.bf16 = model.backbone.bf16, model.backbone.bf16 and not check
    requests, _ = drawn_requests(run.split, "test", users, SEED)
    read, exclusions = prefilled(model, requests)
    start = time.perf_counter()
    scores = score_catalogue(read, model.trie)
    seconds = (time.perf_counter() - start) / users
    exact = exact_top(read, model.trie, exclusions, BEAMS)
    for row, request in enumerate(requests):
        scores[row, [model.row_of[item] for item in request.history]] = -np.inf
    apart = float(np.abs(-np.sort(-scores, axis=1)[:, :BEAMS] - exact.scores).max())
    kept = {"largest difference": apart} if check else {}
    model.backbone.bf16 = was
    return {"way": "whole catalogue", "users": users, "seconds": round(seconds, 3), "fp32": check, **kept}


def _errors(run: Run, name: str, users: int) -> list[dict[str, Any]]:
    """How often the true top 10 differs by beams, and Recall@10 and NDCG@10 on the same validation users."""
    model = run.language_model
    requests, truths = drawn_requests(run.split, "validation", users, SEED)
    size = BATCH[name]
    batches = [slice(start, start + size) for start in range(0, len(requests), size)]
    ways: list[tuple[int, Finish, float]] = [(beams, "replay", 0.0) for beams in (10, 20, 40)]
    ways += [(beams, "retire", 0.0) for beams in (10, 20)]
    ways += [(20, "replay", penalty) for penalty in PENALTIES[1:]]
    lists: dict[Any, list[np.ndarray]] = {way: [] for way in [*ways, "exact"]}
    wrong = 0
    proven: list[bool] = []
    for batch in batches:
        read, exclusions = prefilled(model, requests[batch])
        exact = exact_top(read, model.trie, exclusions, 10, limit=LIMIT[name])
        proven += exact.proven.tolist()
        lists["exact"] += list(exact.items)
        for beams, finish, penalty in ways:
            items = beam_search(read, model.trie, exclusions, beams, penalty, finish).items
            lists[beams, finish, penalty] += list(items[:, :10])
            wrong += _wrong(items, requests[batch], model.row_of)
    rows = [{"beams": beams, "finish": finish, "length penalty": penalty} for beams, finish, penalty in ways]
    case = f"{name}, {run.index.scheme}"
    ended = np.flatnonzero(proven)
    true = [set(lists["exact"][position].tolist()) for position in ended]
    measured: list[dict[str, Any]] = []
    for row, key in zip([*rows, {"search": "exact"}], lists, strict=True) if len(ended) else ():
        listed = [lists[key][position] for position in ended]
        missing = np.array([len(top - set(items.tolist())) for top, items in zip(true, listed, strict=True)])
        taken = np.array([[model.row_of[truths[position]]] for position in ended])
        hits = np.stack(listed) == taken  # [U, 10]
        gains = (hits / np.log2(np.arange(10) + 2)).sum(axis=1)
        measured.append(
            {
                "users": len(ended),
                **row,
                "true top 10 differs": round(float((missing > 0).mean()), 4),
                "of the true ten missing": round(float(missing.mean() / 10), 4),
                "validation recall@10": round(float(hits.any(axis=1).mean()), 4),
                "validation ndcg@10": round(float(gains.mean()), 4),
            }
        )
    return [{"case": case, **row} for row in measured] + [
        {"case": case, "asked": users, "wrong items": wrong}
    ]


def _wrong(items: np.ndarray, requests: Sequence[Any], row_of: dict[str, int]) -> int:
    """Items that are none, come twice or are in the history, counted here a second time."""
    wrong = 0
    for row, request in zip(items.tolist(), requests, strict=True):
        seen = {row_of[item] for item in request.history}
        wrong += len(row) - len(set(row)) + sum(item in seen or not 0 <= item < len(row_of) for item in row)
    return wrong
