"""How work reports its progress: a callback that a terminal, a notebook or a test gives."""

from __future__ import annotations

from collections.abc import Callable

OnProgress = Callable[[str, int, int, str], None]
"""(stage, done, of how many, text); of how many is 0 for a sentence that stays on the screen."""
FINISHED = "finished"
"""The text of a stage's last report, where all is done."""


def silent(stage: str, done: int, total: int, text: str) -> None:
    """Progress that is not shown."""
