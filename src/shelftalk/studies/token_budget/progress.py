"""Several trainings as one line of progress: a total known from the start, of which each training is an equal
share."""

from __future__ import annotations

from shelftalk.runtime.progress import FINISHED, OnProgress

UNITS = 100
"""Units of work of one training and its evaluation."""
STAGE_UNITS = {"train": (0, 85), "evaluate": (85, 15)}
"""Stage -> the unit of a training at which it begins, and how many it takes; about as measured with the
bundled data."""


class StudyProgress:
    """The progress of `trainings` trainings, reported as that of one stage: the total is the same every time,
    what is done never falls, and reaches the total once, when `finish` is called.

    Example: of 3 trainings, the second one halfway through its "train" stage is (100 + 85 // 2) of 300.
    """

    def __init__(self, progress: OnProgress, stage: str, trainings: int, text: str) -> None:
        self._progress, self._stage, self._total = progress, stage, UNITS * trainings
        self._done = 0
        progress(stage, 0, self._total, text)

    def training(self, number: int, name: str) -> OnProgress:
        """The progress of the stages of training `number`, counted from 0; those before it are done."""

        def on_progress(stage: str, done: int, total: int, text: str) -> None:
            start, units = STAGE_UNITS.get(stage, (0, 0))
            self._report(
                UNITS * number + start + units * done // total,
                f"{name}: {stage} {done}/{total} {text}".rstrip(),
            )

        self._report(UNITS * number, name)
        return on_progress

    def finish(self) -> None:
        """All of it is done, however much was left out."""
        self._progress(self._stage, self._total, self._total, FINISHED)

    def _report(self, done: int, text: str) -> None:
        self._done = max(self._done, min(done, self._total - 1))
        self._progress(self._stage, self._done, self._total, text)
