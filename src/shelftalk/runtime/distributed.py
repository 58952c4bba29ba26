"""Several processes that do one run together, as `torchrun` and `accelerate launch` start them, each with a
device of its own.

All of them run the same program on the same files. What is done once is done by the first while the others
wait, and they find it done; what can be divided is divided by turns and put together again, so that each ends
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
"""How long a process waits for another: the first may be writing samples, or answering for a large catalogue,
for hours."""
T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process, number `rank` of `count` from 0. Whoever divides work must do so in every one of them."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes files and speaks."""
        return self.rank == 0

    def shard(self, items: Sequence[T]) -> Sequence[T]:
        """Every `count`-th of them, from number `rank` on."""
        return items[self.rank :: self.size]

    def all_gather(self, mine: T) -> list[T]:
        """[count] what each process holds, in their order; every process gets all of it. It must be
        picklable. Raises ProcessEnded where one of them is gone."""
        if self.size == 1:
            return [mine]
        self.join()
        from torch import distributed

        found: list[T] = [mine] * self.size
        try:
            distributed.all_gather_object(found, mine)
        except RuntimeError as error:
            raise ProcessEnded(
                f"process {self.rank} waits for another that has ended; what that one says tells why."
            ) from error
        return found

    def barrier(self) -> None:
        """Go on when all have come here."""
        self.all_gather(None)

    @contextmanager
    def main_process_first(self) -> Iterator[None]:
        """The block is run by the first; when it has left it, by the others. Where the first fails the others
        wait until the launcher ends them, so that nothing is tried, or told, more than once."""
        if not self.is_main:
            self.barrier()
        yield
        if self.is_main:
            self.barrier()

    @contextmanager
    def group(self) -> Iterator[World]:
        """Joined inside the block, apart behind it."""
        self.join()
        yield self
        if self.size > 1:
            from torch import distributed

            distributed.destroy_process_group()

    def join(self) -> None:
        """Take this process's device and meet the others, with the settings that `accelerate launch` left in
        the environment."""
        if self.size == 1:
            return
        from accelerate import PartialState
        from torch import cuda, distributed

        if not distributed.is_initialized():
            PartialState(cpu=not cuda.is_available(), timeout=PATIENCE)


SINGLE_PROCESS = World()


def world() -> World:
    """What the launcher said in RANK and WORLD_SIZE; alone without one."""
    return World(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
