"""The result of a search: trials, finalists with several seeds, the winner, and the sentences a reader needs
before believing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shelftalk.report import numbers
from shelftalk.studies.tuning.search import FAILED, PRUNED, Trial
from shelftalk.studies.tuning.space import Parameter, Space, formatted, value_at

AS_IT_IS = "as it is"
"""Name of the experiment without any change."""


@dataclass(frozen=True)
class Finalist:
    """A trial that was trained again, once with each seed of the finals; `searched` is its value in the
    search."""

    name: str
    values: dict[str, Any]
    searched: float | None
    per_seed: list[float]
    mean: float
    deviation: float | None
    """Standard deviation over the seeds; None with one seed."""


@dataclass(frozen=True)
class TunedSetting:
    """One setting of the space: what was declared, its value in the experiment as it is and in the winner."""

    name: str
    declared: str
    logarithmic: bool
    choices: bool
    before: Any
    chosen: Any


@dataclass(frozen=True)
class Tuning:
    """Everything that a search reports."""

    name: str
    metric: str
    lower_is_better: bool
    tokens: int
    seeds: list[int]
    users: int
    settings: list[TunedSetting]
    trials: list[Trial]
    finalists: list[Finalist]
    chosen: str
    sentences: list[str]
    notes: list[str] = field(default_factory=list)
    """Values of the data that are not what they look like, or were not kept as they are."""

    @property
    def read_beside(self) -> list[str]:
        """The sentences, and the notes as such."""
        return [*self.sentences, *(f"Note: {note}" for note in self.notes)]

    @property
    def winner(self) -> Finalist:
        """The finalist with the best mean."""
        return next(finalist for finalist in self.finalists if finalist.name == self.chosen)


def finalist_of(name: str, trial: Trial | None, per_seed: Sequence[float]) -> Finalist:
    """The finalist with mean and standard deviation of [S] values, one per seed."""
    deviation = float(np.std(per_seed, ddof=1)) if len(per_seed) > 1 else None
    known = (trial.values, trial.value) if trial else ({}, None)
    return Finalist(name, *known, list(per_seed), float(np.mean(per_seed)), deviation)


def ranked(finalists: Sequence[Finalist], lower_is_better: bool) -> list[Finalist]:
    """The best mean first; equal means stay in the order given, which begins with the unchanged
    experiment."""
    return sorted(finalists, key=lambda finalist: finalist.mean if lower_is_better else -finalist.mean)


def result_of(
    space: Space,
    trials: Sequence[Trial],
    finalists: Sequence[Finalist],
    left_out: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Tuning:
    """The record of a finished search; `left_out` are sentences about trials that failed in the finals,
    `notes` those on the data."""
    settings = space.settings
    order = ranked(finalists, settings.lower_is_better)
    winner = order[0]
    return Tuning(
        name=settings.name,
        metric=settings.metric,
        lower_is_better=settings.lower_is_better,
        tokens=settings.tokens,
        seeds=list(settings.seeds),
        users=settings.users,
        settings=[_tuned(space, winner, parameter) for parameter in space.parameters],
        trials=list(trials),
        finalists=order,
        chosen=winner.name,
        notes=list(notes),
        sentences=[
            *_about_the_choice(order, trials, settings.lower_is_better),
            *left_out,
            *_about_the_search(space, trials),
        ],
    )


def _tuned(space: Space, winner: Finalist, parameter: Parameter) -> TunedSetting:
    before = value_at(space.base, parameter.path)
    return TunedSetting(
        parameter.name,
        parameter.described(),
        parameter.logarithmic,
        choices=parameter.range is None,
        before=before,
        chosen=winner.values.get(parameter.name, before),
    )


def _about_the_choice(order: Sequence[Finalist], trials: Sequence[Trial], lower_is_better: bool) -> list[str]:
    winner, *others = order
    sentences = []
    if winner.name == AS_IT_IS:
        sentences.append(
            "No finalist has a better mean than the experiment as it is, so best.toml is that experiment."
        )
    for other in others[:1]:
        low = max(min(winner.per_seed), min(other.per_seed))
        high = min(max(winner.per_seed), max(other.per_seed))
        apart = (
            "their seeds overlap, so the order of the two may be chance"
            if low <= high
            else "their seeds do not overlap"
        )
        sentences.append(
            f"After “{winner.name}” ({_spread(winner)}) comes “{other.name}” ({_spread(other)}): {apart}."
        )
    searched = [finalist for finalist in order if finalist.searched is not None]
    if searched:
        sign = 1 if lower_is_better else -1
        first = min(searched, key=lambda finalist: sign * (finalist.searched or 0.0))
        with_value = sum(trial.value is not None for trial in trials)
        sentences.append(
            f"The winner's curse: the best of {with_value} values is partly luck, so its value in the search "
            f"tends to be too good (“{first.name}”: {numbers.figure(first.searched)} in the search, "
            f"{numbers.figure(first.mean)} with fresh seeds). Only means over the seeds of the finals are "
            "compared, and even the best of them was chosen on these very users: how good the winner is, the "
            "test part shows, evaluated once by a `shelftalk run` of best.toml."
        )
    return sentences


def _spread(finalist: Finalist) -> str:
    ends = f"{numbers.figure(min(finalist.per_seed))} to {numbers.figure(max(finalist.per_seed))}"
    return f"mean {numbers.figure(finalist.mean)}, seeds {ends}"


def _about_the_search(space: Space, trials: Sequence[Trial]) -> list[str]:
    settings = space.settings
    states = [trial.state for trial in trials]
    sentences = [
        f"Every training reads {numbers.count(settings.tokens)} tokens. A longer one may want other "
        "settings, the learning rate first of all; best.toml keeps the experiment's own number of epochs.",
        "The test part was not used: trials are pruned by validation loss, and evaluated on requests of the "
        "validation part.",
    ]
    if PRUNED in states:
        sentences.append(
            f"{states.count(PRUNED)} of {len(trials)} trials were ended early, worse than the median of the "
            "finished ones."
        )
    if FAILED in states:
        reason = next(trial.reason for trial in trials if trial.state == FAILED)
        sentences.append(f"{states.count(FAILED)} of {len(trials)} trials failed; the first: {reason}")
    if outside := [p.name for p in space.parameters if not _inside(p, value_at(space.base, p.path))]:
        sentences.append(f"The experiment as it is lies outside the declared space: {', '.join(outside)}.")
    return sentences


def _inside(parameter: Parameter, value: Any) -> bool:
    if parameter.range is None:
        return any(formatted(choice) == formatted(value) for choice in parameter.choices)
    return bool(parameter.range.low <= value <= parameter.range.high)
