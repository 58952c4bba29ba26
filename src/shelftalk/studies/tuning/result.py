"""What a search found: trials, finalists with several seeds, the winner, and the sentences a reader needs
before believing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shelftalk.report import numbers
from shelftalk.studies.tuning.search import FAILED, PRUNED, Trial
from shelftalk.studies.tuning.space import Parameter, Space, told, value_at

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
class Tuned:
    """One setting of the space: what was declared, its value in the experiment as it is and in the winner."""

    name: str
    declared: str
    logarithmic: bool
    choices: bool
    before: Any
    chosen: Any


@dataclass(frozen=True)
class Tuning:
    """Everything that a report of a search says."""

    name: str
    metric: str
    lower_is_better: bool
    tokens: int
    seeds: list[int]
    users: int
    settings: list[Tuned]
    trials: list[Trial]
    finalists: list[Finalist]
    chosen: str
    sentences: list[str]

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
    """The best mean first; among equals the one that changes least stands first, as given."""
    return sorted(finalists, key=lambda finalist: finalist.mean if lower_is_better else -finalist.mean)


def result_of(
    space: Space, trials: Sequence[Trial], finalists: Sequence[Finalist], left_out: Sequence[str] = ()
) -> Tuning:
    """The record of a finished search; `left_out` are sentences about trials that did not come through the
    finals."""
    settings = space.settings
    order = ranked(finalists, settings.lower_is_better)
    tuned = [_tuned(space, order[0], position) for position in range(len(space.parameters))]
    sentences = [
        *_about_the_choice(order, trials, settings.lower_is_better),
        *left_out,
        *_about_the_search(space, trials),
    ]
    fixed = (
        settings.name,
        settings.metric,
        settings.lower_is_better,
        settings.tokens,
        list(settings.seeds),
        settings.users,
    )
    return Tuning(*fixed, tuned, list(trials), order, order[0].name, sentences)


def _tuned(space: Space, winner: Finalist, position: int) -> Tuned:
    parameter = space.parameters[position]
    before = value_at(space.base, parameter.path)
    declared = (parameter.said(), parameter.logarithmic, parameter.range is None)
    return Tuned(parameter.name, *declared, before, winner.values.get(parameter.name, before))


def _about_the_choice(order: Sequence[Finalist], trials: Sequence[Trial], lower_is_better: bool) -> list[str]:
    winner, *others = order
    said = []
    if winner.name == AS_IT_IS:
        said.append(
            "No finalist has a better mean than the experiment as it is, so best.toml is that experiment."
        )
    for other in others[:1]:
        low, high = (
            max(min(winner.per_seed), min(other.per_seed)),
            min(max(winner.per_seed), max(other.per_seed)),
        )
        apart = (
            "their seeds overlap, so the order of the two may be chance"
            if low <= high
            else "their seeds do not overlap"
        )
        said.append(
            f"Behind “{winner.name}” ({_spread(winner)}) comes “{other.name}” ({_spread(other)}): {apart}."
        )
    measured = [finalist for finalist in order if finalist.searched is not None]
    if measured:
        sign = 1 if lower_is_better else -1
        first = min(measured, key=lambda finalist: sign * (finalist.searched or 0.0))
        with_value = sum(trial.value is not None for trial in trials)
        said.append(
            f"The winner's curse: the best of {with_value} values is partly luck, so what the search says of it tends to flatter it "
            f"(“{first.name}”: {numbers.figure(first.searched)} in the search, {numbers.figure(first.mean)} with fresh seeds). "
            "Only means over the seeds of the finals are compared, and even the best of them was chosen on these very users: "
            "what the winner is worth, the test part says, asked once by a `shelftalk run` of best.toml."
        )
    return said


def _spread(finalist: Finalist) -> str:
    ends = f"{numbers.figure(min(finalist.per_seed))} to {numbers.figure(max(finalist.per_seed))}"
    return f"mean {numbers.figure(finalist.mean)}, seeds {ends}"


def _about_the_search(space: Space, trials: Sequence[Trial]) -> list[str]:
    settings = space.settings
    states = [trial.state for trial in trials]
    said = [
        f"Every training reads {numbers.count(settings.tokens)} tokens. A longer one may want other settings, the learning rate first of "
        "all; best.toml keeps the experiment's own number of epochs.",
        "Nothing was asked of the test part: trials are pruned by validation loss, and judged on requests of the validation part.",
    ]
    if PRUNED in states:
        said.append(
            f"{states.count(PRUNED)} of {len(trials)} trials were ended early, behind the median of the finished ones."
        )
    if FAILED in states:
        reason = next(trial.reason for trial in trials if trial.state == FAILED)
        said.append(f"{states.count(FAILED)} of {len(trials)} trials failed; the first: {reason}")
    if outside := [p.name for p in space.parameters if not _inside(p, value_at(space.base, p.path))]:
        said.append(f"The experiment as it is lies outside the declared space: {', '.join(outside)}.")
    return said


def _inside(parameter: Parameter, value: Any) -> bool:
    if parameter.range is None:
        return any(told(choice) == told(value) for choice in parameter.choices)
    return bool(parameter.range.low <= value <= parameter.range.high)
