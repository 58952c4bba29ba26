"""Several trainings as one line of progress: a total known from the start, of which each training is an equal
share."""

from __future__ import annotations

from shelftalk.runtime.progress import FINISHED, OnProgress

SHARE = 100
"""Units of work of one training and its questions."""
SHARES = {"train": (0, 85), "ask": (85, 15)}
"""Stage -> where its share of a training's units begins, and how many they are; about as measured with the
bundled data."""


class Shares:
    """The progress of `number` trainings, told as that of one stage: all is the same every time, done never
    falls, and all of it is done once, when `finish` is called."""

    def __init__(self, progress: OnProgress, stage: str, number: int, text: str) -> None:
        self._progress, self._stage, self._all = progress, stage, SHARE * number
        self._done = 0
        progress(stage, 0, self._all, text)

    def training(self, number: int, name: str) -> OnProgress:
        """What hears of the stages of training `number`, counted from 0; the ones before it are done."""

        def heard(stage: str, done: int, total: int, text: str) -> None:
            start, units = SHARES.get(stage, (0, 0))
            self._tell(
                SHARE * number + start + units * done // total,
                f"{name}: {stage} {done}/{total} {text}".rstrip(),
            )

        self._tell(SHARE * number, name)
        return heard

    def finish(self) -> None:
        """All of it is done, however much was left out."""
        self._progress(self._stage, self._all, self._all, FINISHED)

    def _tell(self, done: int, text: str) -> None:
        self._done = max(self._done, min(done, self._all - 1))
        self._progress(self._stage, self._done, self._all, text)
