"""How work reports its progress: a callback that a terminal, a notebook or a test gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

OnProgress = Callable[[str, int, int, str], None]
"""(stage, done, of how many, text); of how many is 0 for a sentence that stays on the screen."""
FINISHED = "finished"
"""The text of a stage's last report, where all is done."""
OnFitting = Callable[[int, int, str], None]
"""(done, of how many, text)"""


def silent(stage: str, done: int, total: int, text: str) -> None:
    """Progress that is not shown."""


class StageProgress:
    """One stage that is made of `total` pieces of work: its total is reported from the start, and reached
    once, by `finish`."""

    def __init__(self, progress: OnProgress, stage: str, total: int, text: str) -> None:
        self._progress, self._stage, self._total, self._done = progress, stage, max(1, total), 0
        progress(stage, 0, self._total, text)

    def __call__(self, text: str, pieces: int = 1) -> None:
        """So many pieces are done, and what comes next, or was just done, is in the text."""
        self._done = min(self._done + pieces, self._total - 1)
        self._progress(self._stage, self._done, self._total, text)

    def reach(self, done: int, text: str) -> None:
        """So many of the pieces are done."""
        self._done = min(max(done, self._done), self._total - 1)
        self._progress(self._stage, self._done, self._total, text)

    def part_of(self, pieces: int) -> OnFitting:
        """What takes reports of the first `pieces` pieces, whatever their own total is."""
        return lambda done, total, text: self.reach(pieces * done // max(1, total), text)

    def finish(self) -> None:
        """All is done."""
        self._progress(self._stage, self._total, self._total, FINISHED)


def no_fitting(done: int, total: int, text: str) -> None:
    """A fit that nobody watches."""


_on_fitting: ContextVar[OnFitting] = ContextVar("on_fitting", default=no_fitting)


@contextmanager
def fitting_reported_to(report: OnFitting) -> Iterator[None]:
    """Inside, what `report_fitting` is given reaches `report`. A model is fitted by `fit(split, settings,
    seed)`, its user's own too, so progress is not one of its parameters."""
    token = _on_fitting.set(report)
    try:
        yield
    finally:
        _on_fitting.reset(token)


def report_fitting(done: int, total: int, text: str) -> None:
    """A long fit says how far it is."""
    _on_fitting.get()(done, total, text)
