"""How work reports its progress: a callback that a terminal, a notebook or a test gives."""

from __future__ import annotations

from collections.abc import Callable

OnProgress = Callable[[str, int, int, str], None]
"""(stage, done, of how many, text); of how many is 0 for a sentence that stays on the screen."""
FINISHED = "finished"
"""The text of a stage's last report, where all is done."""


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

    def finish(self) -> None:
        """All is done."""
        self._progress(self._stage, self._total, self._total, FINISHED)
