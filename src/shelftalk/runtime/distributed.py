"""Several processes that do one run together, as `torchrun` and `accelerate launch` start them, each with a
device of its own.

All of them run the same program on the same files. What is done once is done by the first while the others
wait; what can be divided is divided by turns (rank, rank + size, ...) and gathered, so that each process ends
up with the whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from shelftalk.errors import ProcessEnded

PATIENCE = timedelta(days=2)
"""How long a process waits for another: the first may be writing
samples, or answering for a large catalogue, for hours."""
T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process, number `rank` of `size`, from 0. Work is divided in all of them or in none."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes files and prints."""
        return self.rank == 0

    def shard(self, items: Sequence[T]) -> Sequence[T]:
        """Every `size`-th of the items, from number `rank` on."""
        return items[self.rank :: self.size]

    def all_gather(self, mine: T) -> list[T]:
        """[size] what each process holds, in their order; every process gets all of it. It must be
        picklable. Raises ProcessEnded where one of them is gone."""
        if self.size == 1:
            return [mine]
        self.join()
        from torch import distributed

        gathered: list[T] = [mine] * self.size
        try:
            distributed.all_gather_object(gathered, mine)
        except RuntimeError as error:
            raise ProcessEnded(
                f"process {self.rank} waits for another that has ended; the message of that one gives the "
                "reason."
            ) from error
        return gathered

    def barrier(self) -> None:
        """Continue when all processes have reached this point."""
        self.all_gather(None)

    @contextmanager
    def main_process_first(self) -> Iterator[None]:
        """The block is run by the first; when it has left it, by the others. Where the first fails the others
        wait until the launcher ends them, so that nothing is tried, or printed, more than once."""
        if not self.is_main:
            self.barrier()
        yield
        if self.is_main:
            self.barrier()

    @contextmanager
    def group(self) -> Iterator[World]:
        """The processes are joined inside the block, and apart after it."""
        self.join()
        yield self
        if self.size > 1:
            from torch import distributed

            distributed.destroy_process_group()

    def join(self) -> None:
        """Take this process's device and join the others, with the
        settings that `accelerate launch` left in the environment."""
        if self.size == 1:
            return
        from accelerate import PartialState
        from torch import cuda, distributed

        if not distributed.is_initialized():
            PartialState(cpu=not cuda.is_available(), timeout=PATIENCE)


SINGLE_PROCESS = World()


def world() -> World:
    """This process by RANK and WORLD_SIZE, which a launcher sets; a single process without one."""
    return World(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
