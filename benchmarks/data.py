"""Preparing interactions: k-core, order, leave-one-out with ranking candidates, and the probes, against the
same with pandas, in one run.

Made-up interactions (see _generated.py), twenty a user, 100,000 items at most. Each side starts from a frame
of its own library in memory, in a process of its own; reading the file is not part of it. pandas has the
usual way for each step: value counts for the core, sort_values, cumcount, for each held-out interaction a
draw of numpy, and for the probes shifts within groups. Only the probes of order, ties, repeats and other
users' future are on both sides; ours computes all. Seconds are those of the clock and of the processor: where
other programs work on the machine, only the latter say what a step costs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks._generated import generate
from benchmarks.harness import Claim, Result, data_hash, highest_memory
from shelftalk.data.coding import event_codes
from shelftalk.data.dataset import make_dataset
from shelftalk.data.k_core import core_of
from shelftalk.data.probes import probe_data
from shelftalk.data.splitting import SplitSettings, split_dataset

CLAIMS = [
    "k-core, order, split and probes take a second or less for a million interactions",
    "pandas takes at least twice as long for the same",
    "Time does not increase faster than n log n (exponent of a line through the logarithms, with the "
    "processor's seconds)",
]
SEED = 0
K, NEGATIVES = 5, 99
ITEMS = 100_000


def main(quick: bool) -> Result:
    """--quick has 10^5 and 10^6 interactions; else up to 10^7. pandas has all of them."""
    sizes = [100_000, 1_000_000] if quick else [100_000, 300_000, 1_000_000, 3_000_000, 10_000_000]
    runs, hashes = [], {}
    for rows in sizes:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "data"
            number = generate(folder, rows, min(ITEMS, max(1000, rows // 50)), SEED)
            hashes[f"{rows}"] = data_hash(folder.glob("*.parquet"))
            for way in ("shelftalk", "pandas"):
                runs.append({"way": way, "rows": rows, "interactions": number, **_process(way, folder)})
                print(runs[-1], flush=True)
    ours, theirs = ([run for run in runs if run["way"] == way] for way in ("shelftalk", "pandas"))
    speed = ours[-1]["interactions"] / ours[-1]["seconds"]
    ratio = theirs[-1]["processor seconds"] / ours[-1]["processor seconds"]
    exponent = _exponent([(run["interactions"], run["processor seconds"]) for run in ours])
    claims = [
        Claim(CLAIMS[0], round(speed), ">= 1,000,000 interactions a second", speed >= 1e6),
        Claim(CLAIMS[1], round(ratio, 2), ">= 2 (seconds of the processor)", ratio >= 2),
        Claim(CLAIMS[2], round(exponent, 2), "<= 1.1", exponent <= 1.1),
    ]
    return Result(SEED, claims, runs, hashes)


def _exponent(points: list[tuple[float, float]]) -> float:
    sizes, seconds = np.log(np.array(points)).T
    return float(np.polyfit(sizes, seconds, 1)[0])


def _process(way: str, folder: Path) -> dict[str, Any]:
    """What a process of its own measures."""
    program = f"from benchmarks.data import _measure; _measure({way!r}, {str(folder)!r})"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _measure(way: str, folder: str) -> None:
    """Prints the seconds of each step, and the highest memory, as JSON."""
    steps = _ours if way == "shelftalk" else _pandas
    start, used = time.perf_counter(), time.process_time()
    facts: dict[str, Any] = {}
    with highest_memory() as highest:
        for name, work in steps(Path(folder)):
            if name == "read":
                work()
                start, used = time.perf_counter(), time.process_time()
                loaded = highest[0]
                continue
            before = time.perf_counter()
            work()
            facts[name] = round(time.perf_counter() - before, 2)
        facts["seconds"] = round(time.perf_counter() - start, 2)
        facts["processor seconds"] = round(time.process_time() - used, 2)
    facts |= {"loaded MB": round(loaded), "highest MB": round(highest[0])}
    print(json.dumps(facts))


def _ours(folder: Path) -> Any:
    held: dict[str, Any] = {}

    def read() -> None:
        held["events"] = pl.read_parquet(folder / "interactions.parquet")
        held["items"] = pl.read_parquet(folder / "items.parquet")

    def core() -> None:
        codes = event_codes(held["events"])
        kept, _ = core_of(codes.user, codes.item, K)
        held["events"], held["codes"] = held["events"].filter(pl.Series(kept)), codes.filter(kept)

    def order() -> None:
        held["data"] = make_dataset(held["items"], held["events"], SEED, codes=held["codes"])

    def split() -> None:
        held["split"] = split_dataset(held["data"], SplitSettings(ranking_negatives=NEGATIVES), SEED)

    def probes() -> None:
        probe_data(held["split"], held["items"]["item_id"].to_list(), SEED)

    return [("read", read), ("k-core", core), ("order", order), ("split", split), ("probes", probes)]


def _pandas(folder: Path) -> Any:
    import pandas as pd

    held: dict[str, Any] = {}

    def read() -> None:
        held["events"] = pd.read_parquet(folder / "interactions.parquet")
        held["items"] = pd.read_parquet(folder / "items.parquet")

    def core() -> None:
        events = held["events"]
        while True:
            enough = (events["user_id"].map(events["user_id"].value_counts()) >= K) & (
                events["item_id"].map(events["item_id"].value_counts()) >= K
            )
            if enough.all():
                break
            events = events[enough]
        held["events"] = events

    def order() -> None:
        held["events"] = held["events"].sort_values(["user_id", "timestamp", "item_id"], ignore_index=True)

    def split() -> None:
        events, rng = held["events"], np.random.default_rng(SEED)
        from_end = events.groupby("user_id", sort=False).cumcount(ascending=False)
        events["part"] = np.select([from_end == 0, from_end == 1], ["test", "validation"], "training")
        events["item"] = events["item_id"].map(
            pd.Series(np.arange(len(held["items"])), index=held["items"]["item_id"])
        )
        events["rating part"] = rng.choice(3, len(events), p=[0.8, 0.1, 0.1])
        number = len(held["items"])
        for of_user in events.groupby("user_id", sort=False)["item"].apply(set):
            for _ in range(2):
                drawn: list[int] = []
                while len(drawn) < NEGATIVES:
                    some = rng.integers(0, number, 2 * NEGATIVES).tolist()
                    drawn = list(dict.fromkeys([*drawn, *(one for one in some if one not in of_user)]))
                held["candidates"] = drawn[:NEGATIVES]

    def probes() -> None:
        events = held["events"]
        previous = events.groupby("user_id", sort=False)[["item", "timestamp"]].shift()
        test = events["part"] == "test"
        step = (events["item"] - previous["item"])[test]
        held["next"] = ((step >= 1) & (step <= 10)).mean(), ((step <= -1) & (step >= -10)).mean()
        held["tied"] = (events["timestamp"] == previous["timestamp"])[test].mean()
        held["repeated"] = events.duplicated(["user_id", "item"]).mean()
        trained = np.sort(events["timestamp"][events["part"] == "training"].to_numpy())
        later = 1 - np.searchsorted(trained, events["timestamp"][test], side="right") / len(trained)
        held["later"] = later.mean()
        held["same"] = (
            events.groupby("user_id", sort=False)["item"].apply(tuple).duplicated(keep=False).mean()
        )

    return [("read", read), ("k-core", core), ("order", order), ("split", split), ("probes", probes)]
