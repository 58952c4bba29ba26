"""Several processes, or machines, that make the parts of one result: here the samples of a run.

What each part holds depends on its number alone, and the parts are put together in the order of their
numbers, so that the result is the same to the byte with any number of workers. Every worker opens the run
folder for itself; of many machines all see it under the same path.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa

from shelftalk.errors import SettingsError
from shelftalk.experiment import Experiment
from shelftalk.pipeline.run import Run
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.tasks.mixture import chunk_table
from shelftalk.tasks.task import Task

ENGINES = ("local", "ray")
AHEAD = 2
"""Parts per worker that may be finished and wait for earlier ones."""


@dataclass(frozen=True)
class Workers:
    """How many processes make samples, and what starts them: "local" on this machine, "ray" wherever the Ray
    cluster has them. Raises SettingsError for less than one, and where Ray is not installed."""

    number: int = 1
    engine: str = "local"

    def __post_init__(self) -> None:
        if self.number < 1:
            raise SettingsError(f"{self.number} workers cannot work; give --workers 1 or more.")
        if self.engine not in ENGINES:
            raise SettingsError(
                f'there is no engine "{self.engine}"; choose --engine {" or ".join(ENGINES)}.'
            )
        if self.engine == "ray" and find_spec("ray") is None:
            raise SettingsError(
                '--engine ray needs Ray, which is not installed; run `pip install "shelftalk[ray]"`, or '
                "leave the option out."
            )


ONE = Workers()
Tables = Callable[[int, int], Iterator[pa.Table]]
"""(epoch, number of chunks) -> the tables of its chunks, in their order."""


def trained_tasks(run: Run) -> list[Task]:
    """The tasks whose samples are written, in the order of the experiment."""
    return [task for name, task in run.tasks.items() if run.experiment.tasks[name].weight > 0]


class Maker:
    """One worker: the tasks of a run, opened when the first chunk is wanted."""

    def __init__(self, folder: Path, experiment: Experiment) -> None:
        self._seed = experiment.seed
        self._tasks = trained_tasks(Run(RunFolder(folder), experiment))

    def table(self, epoch: int, number: int) -> pa.Table:
        """The samples of a chunk."""
        return chunk_table(self._tasks, epoch, self._seed, number)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        """As Ray calls it, with rows of epoch and number; returns the tables as bytes."""
        rows = zip(batch["epoch"].tolist(), batch["number"].tolist(), strict=True)
        return {"table": [_as_bytes(self.table(epoch, number)) for epoch, number in rows]}


@contextmanager
def made_by(workers: Workers, run: Run) -> Iterator[Tables]:
    """What makes the tables of an epoch inside the block."""
    if workers.engine == "ray":
        with _ray(workers) as tables:
            yield lambda epoch, chunks: tables(run, epoch, chunks)
    elif workers.number == 1:
        tasks = trained_tasks(run)
        yield lambda epoch, chunks: (
            chunk_table(tasks, epoch, run.experiment.seed, number) for number in range(chunks)
        )
    else:
        arguments = (run.folder.path.absolute(), run.experiment)
        # new interpreters: a fork would copy the locks of threads that are gone
        with ProcessPoolExecutor(workers.number, get_context("spawn"), _open, arguments) as pool:
            yield lambda epoch, chunks: _in_order(pool, AHEAD * workers.number, epoch, chunks)


_maker: list[Maker] = []  # of this process, where it is a worker


def _open(folder: Path, experiment: Experiment) -> None:
    for name in ("RANK", "WORLD_SIZE"):  # a worker is no process of a launcher
        os.environ.pop(name, None)
    _maker[:] = [Maker(folder, experiment)]


def _table(epoch: int, number: int) -> bytes:
    return _as_bytes(_maker[0].table(epoch, number))


def _in_order(pool: ProcessPoolExecutor, most: int, epoch: int, chunks: int) -> Iterator[pa.Table]:
    """Tables in the order of their numbers, of which at most `most` are begun and not yet taken."""
    begun: deque[Future[bytes]] = deque()
    for number in range(chunks):
        begun.append(pool.submit(_table, epoch, number))
        if len(begun) == most:
            yield _as_table(begun.popleft().result())
    while begun:
        yield _as_table(begun.popleft().result())


@contextmanager
def _ray(workers: Workers) -> Iterator[Callable[[Run, int, int], Iterator[pa.Table]]]:
    """Through Ray Data, in the cluster that Ray is connected to, or one of this machine that ends with the
    block."""
    import ray

    begun = not ray.is_initialized()
    if begun:
        address = os.environ.get("RAY_ADDRESS")
        own: dict[str, Any] = {} if address else {"num_cpus": workers.number, "include_dashboard": False}
        ray.init(address=address, log_to_driver=False, configure_logging=False, **own)
    try:
        yield lambda run, epoch, chunks: _ray_tables(workers, run, epoch, chunks)
    finally:
        if begun:
            ray.shutdown()


def _ray_tables(workers: Workers, run: Run, epoch: int, chunks: int) -> Iterator[pa.Table]:
    import ray

    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    rows = [{"epoch": epoch, "number": number} for number in range(chunks)]
    tables = ray.data.from_items(rows, override_num_blocks=chunks).map_batches(
        Maker,
        fn_constructor_args=(run.folder.path.absolute(), run.experiment),
        batch_size=1,
        concurrency=workers.number,
    )
    for row in tables.iter_rows():
        yield _as_table(row["table"])


def _as_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    result: bytes = sink.getvalue().to_pybytes()
    return result


def _as_table(data: bytes) -> pa.Table:
    with pa.ipc.open_stream(data) as reader:
        return reader.read_all()
