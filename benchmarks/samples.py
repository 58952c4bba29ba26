"""Writing training samples: whole columns at once against an object per sample with `str.format`, on one
core, both to Parquet.

On Amazon 2014 Beauty where it is at hand (see benchmarks/item_knn.py), else on the bundled films. Every kind
of sample but rating, which Beauty has no ratings for, is switched on with its whole epoch; both sides write
the same kinds over the same histories, index and item texts, and their numbers of samples are stated. Memory
is that of a fresh process, over the data once and over its users four times.
"""

from __future__ import annotations

import math
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks._nano import BUNDLED, prepared
from benchmarks.harness import Claim, Result, data_hash, highest_memory
from benchmarks.item_knn import BEAUTY
from shelftalk.data.dataset import make_dataset
from shelftalk.data.similarity import nearest_by_text
from shelftalk.data.splitting import Split, SplitSettings, split_leave_one_out
from shelftalk.experiment import Experiment, load_experiment
from shelftalk.pipeline.run import Run
from shelftalk.tasks.mixture import write_epoch
from shelftalk.tasks.task import TaskContext

CLAIMS = [
    "All kinds of samples but rating, mixed, are written to Parquet at 50,000 a second or more on one core",
    "That is at least five times as fast as an object per sample with str.format",
    "Four times the users take at most a tenth more memory for writing (highest memory above that of the "
    "loaded data)",
]
SEED = 0
KINDS = (
    "retrieval",
    "ranking",
    "masked_items",
    "masked_language",
    "pairwise_preference",
    "name_to_text",
    "text_to_name",
    "alike_item",
)
TIMES = 4


def main(quick: bool) -> Result:
    """--quick measures the bundled films, three rounds; else Beauty, five rounds."""
    data, rounds = (BUNDLED, 3) if quick or not BEAUTY.is_dir() else (BEAUTY, 5)
    if data == BUNDLED and not quick:
        print(
            "Beauty is not on this machine (name its folder in SHELFTALK_BEAUTY); the bundled films are "
            "measured instead."
        )
    with prepared(_experiment(data)) as run, tempfile.TemporaryDirectory() as scratch:
        runs = _alternating(run, Path(scratch), rounds)
    # the films' users are one chunk
    memory = [] if data == BUNDLED else [_memory_of_a_process(data, times) for times in (1, TIMES)]
    ours, theirs = (
        statistics.median(run["samples a second"] for run in runs if run["way"] == way)
        for way in ("columns", "objects")
    )
    claims = [
        Claim(CLAIMS[0], round(ours), ">= 50,000", ours >= 50_000),
        Claim(CLAIMS[1], round(ours / theirs, 1), ">= 5", ours / theirs >= 5),
    ]
    if memory:
        growth = memory[1]["writing MB"] / memory[0]["writing MB"]
        claims.append(Claim(CLAIMS[2], round(growth, 2), "<= 1.1", growth <= 1.1))
    return Result(SEED, claims, [*runs, *memory], {data.name: data_hash(data.glob("*.parquet"))})


def _experiment(data: Path) -> Experiment:
    on = {name: {"weight": 1.0} for name in KINDS}
    named = {} if data == BUNDLED else {"data": {"folder": str(data)}}
    return load_experiment(
        None, {"name": data.name, "seed": SEED, "tasks": {**on, "rating": {"weight": 0.0}}, **named}
    )


def _alternating(run: Run, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Both ways in turn; each has had one epoch to fill its caches."""
    tasks, plain = [run.tasks[name] for name in KINDS], Plain(run)
    write_epoch(tasks, 0, SEED, folder / "columns.parquet")
    runs = []
    for epoch in range(1, rounds + 1):
        start = time.perf_counter()
        number = sum(write_epoch(tasks, epoch, SEED, folder / "columns.parquet").values())
        runs.append(_run("columns", epoch, number, time.perf_counter() - start))
        start = time.perf_counter()
        samples = list(plain.samples(random.Random(epoch)))
        pl.DataFrame([vars(sample) for sample in samples]).write_parquet(folder / "objects.parquet")
        runs.append(_run("objects", epoch, len(samples), time.perf_counter() - start))
        print(*runs[-2:], sep="\n", flush=True)
    return runs


def _run(way: str, epoch: int, samples: int, seconds: float) -> dict[str, Any]:
    return {
        "way": way,
        "epoch": epoch,
        "samples": samples,
        "seconds": round(seconds, 3),
        "samples a second": round(samples / seconds),
    }


def _memory_of_a_process(data: Path, times: int) -> dict[str, Any]:
    """Megabytes that writing an epoch takes above the loaded data and the tasks' tables, in a process of its
    own."""
    program = f"from benchmarks.samples import _measure_memory; _measure_memory({str(data)!r}, {times})"
    output = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    before, highest = round(float(output[0]), 1), round(float(output[1]), 1)
    return {
        "way": "columns",
        "users": int(output[2]),
        "loaded MB": before,
        "highest MB": highest,
        "writing MB": round(highest - before, 1),
    }


def _measure_memory(data: str, times: int) -> None:
    """Prints memory in MB before writing, its highest while writing, and the number of users."""
    with prepared(_experiment(Path(data))) as run, tempfile.TemporaryDirectory() as scratch:
        context = (
            run.context
            if times == 1
            else TaskContext(_multiplied(run, times), run.context.text, run.context.nouns, SEED)
        )
        tasks = [type(run.tasks[name])(run.tasks[name].settings, context) for name in KINDS]
        for task in tasks:  # what is made once and kept is no matter of the number of users
            task.epoch(np.arange(1), np.random.default_rng(0))
        with highest_memory() as highest:
            before = highest[0]
            write_epoch(tasks, 0, SEED, Path(scratch) / "epoch.parquet")
        print(before, highest[0], len(context.split.dataset.user_ids))


def _multiplied(run: Run, times: int) -> Split:
    """The same catalogue with every user `times` over."""
    data = run.split.dataset
    copies = [
        data.events.with_columns(user_id=pl.col("user_id") + f" copy {number}") for number in range(times)
    ]
    return split_leave_one_out(make_dataset(data.items, pl.concat(copies), SEED), SplitSettings(), SEED)


# --- the obvious way ----------------------------------------------------------------------------------------


@dataclass
class PlainSample:
    """A sample as most would write it."""

    task: str
    user: str
    items: list[str]
    source: str
    target: str


class Plain:
    """One object per sample, its text by str.format; the same kinds, windows, numbers and item texts, made in
    the obvious way."""

    def __init__(self, run: Run) -> None:
        split, text = run.split, run.context.text
        data = split.dataset
        self.items = data.item_ids
        self.lines = {item: "".join(segment.text for segment in text.line(item)) for item in self.items}
        self.names = {item: run.index.name(item) for item in self.items}
        self.texts = {item: text.details(item) for item in self.items}
        bounds = split.training_bounds.tolist()
        self.histories = {
            user: [self.items[row] for row in data.event_item[first:stop].tolist()]
            for user, (first, stop) in zip(data.user_ids, bounds, strict=True)
        }
        self.words = run.context.nouns.placeholders()
        self.templates = {name: run.tasks[name].seen for name in KINDS}
        self.share = {name: run.tasks[name].settings.text_share for name in KINDS}
        near = nearest_by_text(data.items, 5).tolist()
        self.near = {
            item: [self.items[row] for row in rows if row >= 0]
            for item, rows in zip(self.items, near, strict=True)
        }

    def samples(self, chance: random.Random) -> Iterator[PlainSample]:
        for user, items in self.histories.items():
            history = self._history(chance, "retrieval", items[:-1])
            yield self._made(chance, "retrieval", user, items, history=history, item=self.names[items[-1]])
            for position in chance.sample(range(len(items)), min(4, len(items))):
                yield self._ranking(chance, user, items, position, set(items))
            if len(items) > 1:
                yield self._masked_items(chance, user, items)
            yield self._masked_language(chance, user, items)
            yield self._preference(chance, user, items, set(items))
        for item in self.items:
            if self.texts[item]:
                name, text = self.names[item] + "\n", self.texts[item] + "\n"
                yield self._made(chance, "name_to_text", "", [item], item=name, text=text)
                yield self._made(chance, "text_to_name", "", [item], item=name, text=text)
            if self.near[item]:
                yield self._alike(chance, item)

    def _made(
        self, chance: random.Random, task: str, user: str, items: list[str], **values: str
    ) -> PlainSample:
        template = chance.choice(self.templates[task])
        source = (template.source + template.question).format(**self.words, **values)
        return PlainSample(task, user, items, source, template.target.format(**self.words, **values))

    def _history(self, chance: random.Random, task: str, items: list[str]) -> str:
        if chance.random() < self.share[task]:
            return "".join(self.lines[item] for item in items)
        return "".join(self.names[item] + "\n" for item in items)

    def _others(self, chance: random.Random, number: int, taken: set[str]) -> list[str]:
        others: list[str] = []
        while len(others) < number:
            item = chance.choice(self.items)
            if item not in taken and item not in others:
                others.append(item)
        return others

    def _ranking(
        self, chance: random.Random, user: str, items: list[str], position: int, taken: set[str]
    ) -> PlainSample:
        candidates = [
            items[position],
            *self._others(chance, int(math.exp(chance.uniform(0, math.log(100)))), taken),
        ]
        chance.shuffle(candidates)
        shown = items[max(0, position - 20) : position]
        history, listed = (
            self._history(chance, "ranking", shown),
            "".join(self.names[item] + " " for item in candidates),
        )
        return self._made(
            chance,
            "ranking",
            user,
            shown + candidates,
            history=history,
            candidates=listed,
            item=self.names[items[position]],
        )

    def _masked_items(self, chance: random.Random, user: str, items: list[str]) -> PlainSample:
        items = items[:20]
        masked_positions = sorted(chance.sample(range(len(items)), max(1, round(len(items) * 0.2))))
        lines = [self._history(chance, "masked_items", [item]) for item in items]
        masked = "".join(
            f"<extra_id_{number}>{lines[position]}" for number, position in enumerate(masked_positions)
        )
        for number, position in enumerate(masked_positions):
            lines[position] = f"<extra_id_{number}>\n"
        return self._made(chance, "masked_items", user, items, masked_history="".join(lines), masked=masked)

    def _masked_language(self, chance: random.Random, user: str, items: list[str]) -> PlainSample:
        words = re.findall(r"\s*\S+\n?", "".join(self.lines[item] for item in items[:12]))
        corrupted, spans, position = "", "", 0
        runs = max(1, round(len(words) * 0.15 / 3))
        for number, start in enumerate(sorted(chance.sample(range(len(words)), min(runs, len(words))))):
            stop = max(position, start) + chance.randint(1, 5)
            corrupted += "".join(words[position:start]) + f"<extra_id_{number}>"
            spans += f"<extra_id_{number}>" + "".join(words[max(position, start) : stop])
            position = stop
        return self._made(
            chance,
            "masked_language",
            user,
            items[:12],
            corrupted=corrupted + "".join(words[position:]),
            spans=spans,
        )

    def _preference(self, chance: random.Random, user: str, items: list[str], taken: set[str]) -> PlainSample:
        questions = min(4, max(1, len(items) // 2))
        history, *rest = self._history(chance, "pairwise_preference", items[:-questions]), *items[-questions:]
        template = chance.choice(self.templates["pairwise_preference"])
        shown, text = list(items[:-questions]), ""
        for positive, negative in zip(rest, self._others(chance, questions, taken), strict=True):
            first, second = chance.sample([positive, negative], 2)
            options = {
                "first": self.lines[first],
                "second": self.lines[second],
                "preferred": self.lines[positive],
            }
            text += (template.question + template.target).format(**self.words, **options)
            shown += [first, second]
        return PlainSample(
            "pairwise_preference", user, shown, template.source.format(**self.words, history=history), text
        )

    def _alike(self, chance: random.Random, item: str) -> PlainSample:
        alike = chance.choice(self.near[item])
        options = [alike, *self._others(chance, 3, {item, *self.near[item]})]
        chance.shuffle(options)
        lines = {name: self.names[name] + "\n" for name in (item, *options)}
        listed = "".join(lines[option] for option in options)
        return self._made(
            chance, "alike_item", "", [item, *options], item=lines[item], options=listed, alike=lines[alike]
        )
