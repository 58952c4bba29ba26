"""`shelftalk batch`: a file of requests in, a file of answers out.

Three steps, each in constant memory: every request is checked against the catalogue and written into a shard;
the shards are answered; their answers become one file. The same command continues after any interruption and
makes the same file to the byte, whatever the number of workers, the engine and the interruptions.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from shelftalk.batch.answering import Work
from shelftalk.batch.engines import answer_here, answer_with_ray
from shelftalk.batch.request_files import COLUMNS, as_json, columns_of, request_of, rows_of, suffix_of
from shelftalk.batch.shards import Job, Shards
from shelftalk.data.item_filter import allowed
from shelftalk.errors import AnotherExperiment, BadValue, SettingsError, ShelftalkError
from shelftalk.publishing.opening import Described, describe_published
from shelftalk.recommender import TaskName, check_items, check_k
from shelftalk.records import Request
from shelftalk.runtime.file_hashes import sha256
from shelftalk.runtime.machine import usable_cores
from shelftalk.runtime.progress import OnProgress, silent
from shelftalk.runtime.run_folder import alone_beside, space_needed

Engine = Literal["local", "ray"]
SHARD = 1024
"""Requests in a shard: what is answered again at most after an interruption, by each worker."""
CHECK, ANSWER = "check", "answer"
EVERY = 10_000
"""Requests between two reports of the check."""


@dataclass(frozen=True)
class Answered:
    """What a batch did."""

    out: Path
    rows: int
    answered: int
    """Requests that were answered now; the others were before an interruption."""
    seconds: float


def answer_file(
    model: Path,
    requests: Path,
    out: Path,
    k: int = 10,
    task: TaskName = "retrieval",
    engine: Engine = "local",
    workers: int | None = None,
    shard_size: int = SHARD,
    keep_bad_rows: bool = False,
    progress: OnProgress = silent,
) -> Answered:
    """Answer every request of a file (see request_files.py) by the model of a published folder.

    `out`: .parquet, .csv, .tsv or .jsonl, one row per request in their order: user_id, and items and scores,
    or for rating the rating. `workers`: processes, by default one for each core, or one where there is a GPU.
    `keep_bad_rows`: a request that cannot be answered becomes a row with an `error`; else the first one ends
    the batch before anything is answered. Raises AnotherExperiment where `out` is there already, or its
    unfinished shards are of another batch; BadValue, with the number of the row; and what the model raises.
    """
    check_k(k)
    if engine not in get_args(Engine) or shard_size < 1 or (workers is not None and workers < 1):
        raise SettingsError(
            f"engine {engine!r}, workers {workers} and shard size {shard_size} do not go together; give "
            'engine "local" or "ray", and numbers of at least 1.'
        )
    described = describe_published(model)
    if task not in described.tasks:
        raise SettingsError(
            f'the model of "{model}" does not answer {task}; ask it {" or ".join(described.tasks)}.'
        )
    form, unread = suffix_of(out), [name for name in columns_of(requests) if name not in COLUMNS]
    if unread:
        progress(CHECK, 0, 0, f"these columns are not read: {', '.join(unread)}")
    job = Job(described.fingerprint, sha256(requests), task, k, shard_size, keep_bad_rows, form)
    shards = Shards(out.with_name(f"{out.name}.parts"), job)
    start = time.perf_counter()
    with space_needed(out.absolute()), alone_beside(out, "another --out"):
        if out.exists() and not shards.folder.exists():
            raise AnotherExperiment(f'"{out}" is there already; remove it, or choose another --out.')
        shards.check()
        shards.folder.mkdir(parents=True, exist_ok=True)
        if shards.rows is None:
            shards.write_requests(_checked(requests, described, job, progress))
        answered = _answer(shards, model, engine, workers, progress)
        shards.merge(out)
        rows = shards.rows or 0
        shards.remove()
    return Answered(out, rows, answered, time.perf_counter() - start)


def _checked(path: Path, described: Described, job: Job, progress: OnProgress) -> Iterator[str]:
    """Every request as a line, or what is wrong with it. Raises BadValue with the number of the row."""
    catalogue = frozenset(described.items["item_id"].to_list())
    for number, row in enumerate(rows_of(path), 1):
        try:
            request = request_of(row)
            _check(request, described, catalogue, job)
            line = as_json(request)
        except ShelftalkError as error:
            if not job.keep_bad_rows:
                raise _with_row(error, number, path) from error
            line = json.dumps({"error": str(error), "user_id": str(row.get("user_id") or "")})
        if number % EVERY == 0:
            progress(CHECK, 0, 0, f"{number:,} requests checked")
        yield line


def _check(request: Request, described: Described, catalogue: frozenset[str], job: Job) -> None:
    task: Any = job.task
    check_items([request], catalogue, task, described.reads_text)
    if request.filter is not None and job.task == "retrieval":
        allowed(described.items, request.filter)


def _with_row(error: ShelftalkError, number: int, path: Path) -> BadValue:
    what, _, remedy = str(error).rstrip(".").rpartition("; ")
    return BadValue(
        f'row {number:,} of "{path}": {what or remedy}; {remedy if what else "correct it"}, or give '
        "--keep-bad-rows, which notes the error in its row."
    )


def _answer(shards: Shards, model: Path, engine: Engine, workers: int | None, progress: OnProgress) -> int:
    """Answer what is pending. Returns how many requests that was."""
    pending, total = shards.pending(), shards.rows or 0
    done = total - sum(map(shards.size, pending))
    answered, start = 0, time.perf_counter()
    progress(ANSWER, done, max(1, total), "opening the model" if pending else "finished")
    if not pending:
        return 0

    def on_shard(number: int) -> None:
        nonlocal answered
        answered += shards.size(number)
        rate = answered / (time.perf_counter() - start)
        progress(ANSWER, done + answered, total, f"{rate:,.0f} requests/s")

    work = Work(str(Path(model).absolute()), str(shards.folder.absolute()), shards.job)
    run = answer_with_ray if engine == "ray" else answer_here
    run(work, pending, workers or default_workers(), on_shard)
    return answered


def default_workers() -> int:
    """One where there is a GPU, else one for each core of this process."""
    import torch

    if torch.cuda.is_available():
        return 1
    return usable_cores()
