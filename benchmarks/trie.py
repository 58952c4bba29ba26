"""The item trie of a million titles: made, opened, queried step by step, changed; beside the nested dicts
that most would write.

Titles are made by seed from the words of Amazon 2014 Beauty's where it is at hand (see
benchmarks/item_knn.py), else of the bundled films, which are shorter; their tokens come from a byte-level BPE
made of a sample of them. Every measurement is a process of its own, held to one core and one thread where the
system can do that. Opening cannot be measured with a cold page cache without the rights of an administrator:
the file has been written shortly before, and its pages are in memory.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from benchmarks._nano import BUNDLED
from benchmarks._titles import titles_like
from benchmarks.harness import Claim, Result, data_hash, highest_memory
from benchmarks.item_knn import BEAUTY
from shelftalk.ragged import Ragged

if TYPE_CHECKING:  # torch is loaded only where it is used
    from shelftalk.decoding.exclusions import Exclusions
    from shelftalk.decoding.item_trie import ItemTrie

CLAIMS = [
    "A million titles are tokenised and built into a trie within a minute on one core",
    "The process that does so takes at most 1 GB above what it held with the titles loaded",
    "At 100,000 titles nested dicts, made by a plain loop, take at least five times the memory of the flat "
    "trie",
    "At 100,000 titles the flat trie, from the same lists of tokens, is built no slower than the nested "
    "dicts",
    "The trie of a million titles is opened from disk and asked for its first tokens in under 100 ms",
    "The trie's part of a beam step costs per candidate at most twice as much at a million items as at a "
    "thousand",
    "At a million items the trie's part of a beam step (16 requests, 20 beams) takes at most 1 ms",
    "Adding 100 items to a million and removing 100 takes at most 100 ms together",
    "Ten million names of four codes are built into a trie within a minute on one core, at most 4 GB above "
    "the names",
]
SEED = 0
ITEMS, PLAIN_ITEMS, QUICK = 1_000_000, 100_000, 10
CODED_ITEMS, LEVELS, CODES = 10_000_000, 4, 256
"""--quick measures a tenth of everything."""
VOCABULARY, SAMPLE = 8_000, 20_000
CHANGED = 100
REQUESTS, BEAMS, DEPTHS, SEEN = 16, 20, range(8), 50
CLAIMED_DEPTHS = (3, 4, 5, 6)
OPENED = 7
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "POLARS_MAX_THREADS")} | {
    "TOKENIZERS_PARALLELISM": "false"
}


def main(quick: bool) -> Result:
    """--quick: 100,000 titles, and 10,000 for the nested dicts."""
    items, plain_items = (number // QUICK if quick else number for number in (ITEMS, PLAIN_ITEMS))
    data = BEAUTY if BEAUTY.is_dir() else BUNDLED
    with tempfile.TemporaryDirectory() as folder:
        _printed(_in_a_process(prepare, folder, str(data / "items.parquet"), items + CHANGED))
        built = _printed(_in_a_process(build, folder, items))
        plain = [_printed(_in_a_process(build_plainly, folder, way, plain_items)) for way in WAYS]
        opened = [_in_a_process(open_it, folder)["milliseconds"] for _ in range(OPENED)]
        steps = _in_a_process(step_costs, folder, [10**power for power in range(3, len(str(items)))])
        changed = _printed(_in_a_process(change, folder))
        coded = _printed(_in_a_process(build_of_codes, CODED_ITEMS // QUICK if quick else CODED_ITEMS))
        workers = [
            _printed(_in_a_process(build_with, folder, items, workers, cores=workers)) for workers in (1, 2)
        ]
    opening = {"measured": "open", "items": items, "milliseconds": statistics.median(opened), "all": opened}
    runs = [built, *plain, _printed(opening), *(_printed(row) for row in steps), changed, coded, *workers]
    return Result(
        SEED,
        _claims(built, plain, opening, steps, changed, coded),
        runs,
        {data.name: data_hash(data.glob("*.parquet"))},
    )


def _claims(
    built: dict, plain: Sequence[dict], opening: dict, steps: Sequence[dict], changed: dict, coded: dict
) -> list[Claim]:
    seconds = built["tokenising seconds"] + built["building seconds"]
    ours, theirs = plain[0], plain[1]
    memory, pace = theirs["MB"] / ours["MB"], theirs["seconds"] / ours["seconds"]
    small, large = (_step(steps, size(row["items"] for row in steps)) for size in (min, max))
    smallest, largest, whole = (
        small["nanoseconds a candidate"],
        large["nanoseconds a candidate"],
        large["milliseconds"],
    )
    change = changed["adding milliseconds"] + changed["removing milliseconds"]
    return [
        Claim(CLAIMS[0], round(seconds, 1), "<= 60", seconds <= 60),
        Claim(CLAIMS[1], round(built["above MB"]), "<= 1000", built["above MB"] <= 1000),
        Claim(CLAIMS[2], round(memory, 1), ">= 5", memory >= 5),
        Claim(CLAIMS[3], round(pace, 2), ">= 1", pace >= 1),
        Claim(CLAIMS[4], round(opening["milliseconds"], 1), "< 100", opening["milliseconds"] < 100),
        Claim(CLAIMS[5], round(largest / smallest, 2), "<= 2", largest <= 2 * smallest),
        Claim(CLAIMS[6], round(whole, 3), "<= 1", whole <= 1),
        Claim(CLAIMS[7], round(change, 1), "<= 100", change <= 100),
        Claim(
            CLAIMS[8],
            f"{coded['seconds']} s, {coded['MB']} MB",
            "60 s, 4000 MB",
            coded["seconds"] <= 60 and coded["MB"] <= 4000,
        ),
    ]


def _step(steps: Sequence[dict], items: int) -> dict[str, Any]:
    """The mean over CLAIMED_DEPTHS of one size."""
    return next(row for row in steps if row["items"] == items and row["depth"] == "mean")


def _printed(row: dict[str, Any]) -> dict[str, Any]:
    print(row, flush=True)
    return row


def _in_a_process(measure: Callable[..., Any], *given: Any, cores: int = 1) -> Any:
    """What a measurement returns in a fresh process, held to so many cores where the system can do that."""
    call = f"trie.{measure.__name__}(*{given!r})"
    program = f"import json; from benchmarks import trie; trie.hold_to({cores}); print(json.dumps({call}))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | ONE_THREAD,
    )
    return json.loads(done.stdout.splitlines()[-1])


def hold_to(cores: int) -> None:
    """This process may use the first `cores` cores that it has been given."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


# --- each in a process of its own
# -------------------------------------------------------------------------------------------


def prepare(folder: str, catalogue: str, number: int) -> dict[str, Any]:
    """Write the titles, and a backbone that is nothing but a tokenizer made of some of them."""
    from shelftalk.models.nano import build_nano
    from shelftalk.models.settings import NanoSettings

    real = [title for title in pl.read_parquet(catalogue, glob=False)["title"].to_list() if title]
    titles = titles_like(real, number, SEED)
    size = NanoSettings(vocabulary=VOCABULARY, width=16, layers=1, heads=1)
    build_nano(titles[:SAMPLE], [], size, SEED).save(Path(folder, "model"))
    Path(folder, "titles.txt").write_text("\n".join(titles), encoding="utf-8")
    return {
        "measured": "titles",
        "titles": number,
        "characters": round(statistics.fmean(map(len, titles)), 1),
        "first": titles[:5],
    }


def build(folder: str, items: int) -> dict[str, Any]:
    """From titles to a saved trie, as a run does it; tokens are kept for the others."""
    from shelftalk.decoding.item_trie import build_trie
    from shelftalk.indexing.item_index import ItemIndex
    from shelftalk.models.pretrained import load_backbone

    backbone = load_backbone(Path(folder, "model"))
    with highest_memory() as highest:
        without = highest[0]
    every = tuple(Path(folder, "titles.txt").read_text(encoding="utf-8").split("\n"))
    index = ItemIndex(
        "titles", tuple(f"i{position}" for position in range(items)), every[:items], symbols=False, end="\n"
    )
    gc.collect()
    with highest_memory() as highest:
        before, start, worked = highest[0], time.perf_counter(), time.process_time()
        names = backbone.encode_names([index.segments(item) for item in index.item_ids])
        between, tokenised = highest[0], time.perf_counter()
        trie = build_trie(names)
        end, worked = time.perf_counter(), time.process_time() - worked
    trie.save(Path(folder, "trie"))
    _keep(folder, "names", names)
    more = ItemIndex(
        "titles",
        tuple(f"n{position}" for position in range(len(every) - items)),
        every[items:],
        symbols=False,
        end="\n",
    )
    _keep(folder, "more", backbone.encode_names([more.segments(item) for item in more.item_ids]))
    return {
        "measured": "build",
        "items": items,
        "tokens a title": round(float(names.lengths.mean()), 1),
        "nodes": len(trie),
        "trie MB": round(trie.nbytes / 1e6, 1),
        "tokenising seconds": round(tokenised - start, 2),
        "building seconds": round(end - tokenised, 2),
        "processor seconds of both": round(worked, 2),
        "titles and ids MB": round(before - without, 1),
        "whole process MB": round(highest[0], 1),
        "above MB": round(highest[0] - before, 1),
        "above while tokenising MB": round(between - before, 1),
    }


def _keep(folder: str, name: str, names: Ragged) -> None:
    np.save(Path(folder, f"{name}.values.npy"), names.values)
    np.save(Path(folder, f"{name}.offsets.npy"), names.offsets)


def _kept(folder: str, name: str, number: int = -1) -> Ragged:
    """The first `number` names, or all."""
    values, offsets = (np.load(Path(folder, f"{name}.{part}.npy")) for part in ("values", "offsets"))
    offsets = offsets if number < 0 else offsets[: number + 1]
    return Ragged(values[: offsets[-1]], offsets)


def build_of_codes(number: int) -> dict[str, Any]:
    """Names of LEVELS codes, as a semantic index gives them, drawn by seed, no two alike; the names are there
    before the clock starts."""
    from shelftalk.decoding.item_trie import build_trie

    drawn = np.random.default_rng(SEED).choice(CODES**3, number, replace=False)
    # the last code separates items that share the others
    levels = [drawn // CODES**2, drawn // CODES % CODES, drawn % CODES, np.zeros_like(drawn)]
    tokens = np.stack([CODES * level + codes for level, codes in enumerate(levels)], axis=1).astype(np.int32)
    names = Ragged(tokens.ravel(), np.arange(number + 1, dtype=np.int64) * LEVELS)
    del drawn, levels
    with highest_memory() as highest:
        before, start = highest[0], time.perf_counter()
        trie = build_trie(names)
        seconds = time.perf_counter() - start
    return {
        "measured": "codes",
        "items": trie.items,
        "seconds": round(seconds, 1),
        "MB": round(highest[0] - before),
    }


def build_plainly(folder: str, way: str, items: int) -> dict[str, Any]:
    """One way to build from lists of tokens: seconds, and memory above the lists."""
    import shelftalk.decoding.item_trie  # noqa: F401 - loaded before memory is looked at

    names = _kept(folder, "names", items)
    rows = [names[position].tolist() for position in range(items)]
    gc.collect()
    with highest_memory() as highest:
        before, start = highest[0], time.perf_counter()
        made = WAYS[way](rows)
        seconds = time.perf_counter() - start
        time.sleep(0.02)  # another look at the memory while all is there
    del made
    return {
        "measured": f"{way} trie",
        "items": items,
        "seconds": round(seconds, 3),
        "MB": round(highest[0] - before, 1),
    }


def _flat(rows: list[list[int]]) -> Any:
    from shelftalk.decoding.item_trie import build_trie

    return build_trie(rows)


def _nested(rows: list[list[int]]) -> dict[int, Any]:
    root: dict[int, Any] = {}
    for row in rows:
        node = root
        for token in row:
            node = node.setdefault(token, {})
    return root


class _Recursive:
    """As the entity retrieval code of GENRE (De Cao et al., ICLR 2021) does it: one call per token, each with
    the rest of the name."""

    def __init__(self, rows: list[list[int]]) -> None:
        self.root: dict[int, Any] = {}
        for row in rows:
            self._add(row, self.root)

    def _add(self, row: list[int], node: dict[int, Any]) -> None:
        if row:
            if row[0] not in node:
                node[row[0]] = {}
            self._add(row[1:], node[row[0]])


WAYS: dict[str, Callable[[list[list[int]]], Any]] = {
    "flat": _flat,
    "nested dicts": _nested,
    "recursive nested dicts": _Recursive,
}


def open_it(folder: str) -> dict[str, Any]:
    """Milliseconds to open the trie and query its first tokens."""
    from shelftalk.decoding.item_trie import open_trie

    start = time.perf_counter()
    trie = open_trie(Path(folder, "trie"))
    trie.tokens_to(trie.children(np.array([trie.root]))[1])
    return {"milliseconds": round(1000 * (time.perf_counter() - start), 2)}


def step_costs(folder: str, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """The trie's part of a beam step by catalogue size and depth, and the mean of CLAIMED_DEPTHS; what a
    batch costs before its first step is reported beside the mean."""
    from shelftalk.decoding.exclusions import Exclusions
    from shelftalk.decoding.item_trie import build_trie, open_trie

    rows = []
    for items in sizes:
        names, draw = _kept(folder, "names", items), np.random.default_rng(SEED)
        build_trie(names).save(Path(folder, f"trie{items}"))
        trie = open_trie(Path(folder, f"trie{items}"))
        seen = [draw.integers(0, items, SEEN).tolist() for _ in range(REQUESTS)]
        limits = (trie, seen, draw.random((1, items)) < 0.5, np.zeros(REQUESTS, np.int64))
        of_size = _steps_of(trie, Exclusions(*limits), draw)
        claimed = [row for row in of_size if row["depth"] in CLAIMED_DEPTHS]
        means = [statistics.fmean(row[name] for row in claimed) for name in ("candidates", "milliseconds")]
        before = {"milliseconds before the first step": round(_milliseconds(partial(Exclusions, *limits)), 3)}
        rows += [*of_size, _step_row(items, "mean", REQUESTS * BEAMS, *means) | before]
    return rows


def _steps_of(trie: ItemTrie, exclusions: Exclusions, draw: np.random.Generator) -> list[dict[str, Any]]:
    """Beams are at inner nodes drawn by the items below them; at the root there is one for each request."""
    rows, level = [], np.array([trie.root])
    for depth in DEPTHS:
        inner = level[~trie.is_leaf(level)]
        ((first, last),) = trie.ranges(inner)
        nodes = draw.choice(
            inner, REQUESTS * (BEAMS if depth else 1), p=(last - first) / (last - first).sum()
        )
        request = np.repeat(np.arange(REQUESTS), len(nodes) // REQUESTS)
        candidates = len(trie.children(nodes)[1])
        step = partial(_step_once, trie, exclusions, request, nodes)
        rows.append(_step_row(trie.items, depth, len(nodes), candidates, _milliseconds(step)))
        level = trie.children(inner)[1]
    return rows


def _step_once(trie: ItemTrie, exclusions: Exclusions, request: np.ndarray, nodes: np.ndarray) -> None:
    """Children, which of them the request may be given, and their tokens: what beam search looks up in a
    step."""
    origin, child = trie.children(nodes)
    trie.tokens_to(child[exclusions.allows_below(request[origin], child)])


def _step_row(
    items: int, depth: int | str, beams: int, candidates: float, milliseconds: float
) -> dict[str, Any]:
    each = round(1e6 * milliseconds / candidates)
    columns = {
        "candidates": round(candidates),
        "milliseconds": round(milliseconds, 4),
        "nanoseconds a candidate": each,
    }
    return {"measured": "step", "items": items, "depth": depth, "beams": beams, **columns}


def _milliseconds(work: Callable[[], Any], rounds: int = 9) -> float:
    """The median round, each of about 30 ms or of one call."""
    start = time.perf_counter()
    work()
    calls = max(1, int(0.03 / (time.perf_counter() - start)))
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(calls):
            work()
        seconds.append((time.perf_counter() - start) / calls)
    return 1000 * statistics.median(seconds)


def change(folder: str) -> dict[str, Any]:
    """Milliseconds to add CHANGED items to the opened trie and to take CHANGED out, and what the next batch
    pays."""
    from shelftalk.decoding.exclusions import Exclusions
    from shelftalk.decoding.item_trie import open_trie
    from shelftalk.decoding.live_trie import LiveTrie

    trie = open_trie(Path(folder, "trie"))
    more = _kept(folder, "more")
    names = [more[position].tolist() for position in range(len(more))]
    gone = np.random.default_rng(SEED).choice(trie.items, CHANGED, replace=False).tolist()
    live = LiveTrie(trie)
    extended = live.with_names(names)
    changed = extended.without(gone)
    nobody: list[list[int]] = [[] for _ in range(REQUESTS)]
    return {
        "measured": "change",
        "items": trie.items,
        "adding milliseconds": round(_milliseconds(lambda: live.with_names(names)), 3),
        "removing milliseconds": round(_milliseconds(lambda: extended.without(gone)), 3),
        "hiding what was removed, milliseconds a batch": round(
            _milliseconds(lambda: Exclusions(changed, nobody)), 3
        ),
    }


def build_with(folder: str, items: int, workers: int) -> dict[str, Any]:
    """Seconds to build with so many threads."""
    from shelftalk.decoding.item_trie import build_trie

    names = _kept(folder, "names", items)
    start = time.perf_counter()
    build_trie(names, workers)
    return {
        "measured": "build with workers",
        "workers": workers,
        "items": items,
        "seconds": round(time.perf_counter() - start, 2),
    }
