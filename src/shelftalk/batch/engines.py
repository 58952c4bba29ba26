"""Who answers the shards: this process, several of this machine, or a Ray cluster."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from typing import Any

from shelftalk.batch.answering import Answerer, Work
from shelftalk.errors import ProcessEnded, SettingsError

OnShard = Callable[[int], None]
"""Called with the number of a shard when its answers are there."""
_answerer: list[Answerer] = []
"""In a worker of this machine: its model."""


def answer_here(work: Work, pending: Sequence[int], workers: int, on_shard: OnShard) -> None:
    """By `workers` processes of this machine, or in this one for 1. Raises as the model does."""
    if workers == 1:
        _answer_in_this_process(work, pending, on_shard)
        return
    context = multiprocessing.get_context("spawn")  # neither torch nor polars survives a fork
    with ProcessPoolExecutor(min(workers, len(pending)), context, _begin, (work,)) as pool:
        waiting = {pool.submit(_answer, number) for number in pending}
        try:
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for one in done:
                    on_shard(one.result())
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if type(error).__name__ == "BrokenProcessPool":
                raise ProcessEnded(
                    "a worker ended by itself, perhaps for want of memory; give the same command with fewer "
                    "--workers, which continues."
                ) from error
            raise


def answer_with_ray(work: Work, pending: Sequence[int], workers: int, on_shard: OnShard) -> None:
    """By `workers` actors of Ray Data, on the cluster that is connected, or one of this machine. Every node
    must see the folders of the model and of the shards. Raises SettingsError where Ray is not installed."""
    try:
        import ray
        import ray.data
    except ImportError:
        raise SettingsError(
            'Ray is not installed; run pip install "shelftalk[ray]", or leave --engine out.'
        ) from None
    started = not ray.is_initialized()
    if started:
        address = os.environ.get("RAY_ADDRESS")
        local: dict[str, Any] = {} if address else {"num_cpus": workers, "include_dashboard": False}
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        numbers = ray.data.from_items(
            [{"shard": number} for number in pending], override_num_blocks=len(pending)
        )
        answered = numbers.map_batches(
            _RayAnswerer,
            fn_constructor_args=(work,),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(pending))),
            num_cpus=1,
        )
        for row in answered.iter_rows():
            on_shard(int(row["shard"]))
    finally:
        if started:
            ray.shutdown()


class _RayAnswerer:
    """What `map_batches` calls: a batch is one shard."""

    def __init__(self, work: Work) -> None:
        self.answerer = Answerer(work)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        for number in batch["shard"].tolist():
            self.answerer(number)
        return batch


def _answer_in_this_process(work: Work, pending: Sequence[int], on_shard: OnShard) -> None:
    import torch

    threads = torch.get_num_threads()
    try:
        answerer = Answerer(work)
        for number in pending:
            on_shard(answerer(number))
    finally:
        torch.set_num_threads(threads)


def _begin(work: Work) -> None:
    """In a worker: end with the process that started it, which may be killed, and open the model."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_it() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_it, daemon=True).start()
    _answerer.append(Answerer(work))


def _answer(number: int) -> int:
    return _answerer[0](number)
