"""Protocol: how events are divided, as settings, as a record of what was done, and as the sentence that
stands beside every figure of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from shelftalk.settings import Role, Settings

TRAIN, VALIDATION, TEST = 0, 1, 2
CONTEXT = 3
"""Of an event: it trains nothing and is no target; histories of requests alone show it."""
NONE = 3
"""Of a rating: there is none, or it was drawn for training and its event is not a training event."""
Part = Literal["validation", "test"]
PARTS: tuple[Part, ...] = ("validation", "test")
PART_NUMBER: dict[str, int] = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
Scheme = Literal["leave_one_out", "leave_last_n", "by_user", "random", "global_time"]
Ties = Literal["published", "shuffled"]
LEAST_EVENTS = 3
"""Fewest events of a user of whom two are held out: one each to train, to validate and to test."""
NAMES: dict[Scheme, str] = {
    "leave_one_out": "leave-one-out",
    "leave_last_n": "leave-last-n",
    "by_user": "by-user",
    "random": "random",
    "global_time": "global-time",
}
LAST_TWO = "Each user's last interaction is the test, the last but one validation."
RANDOM_SPLIT = (
    "The split is random: of each user an interaction drawn by seed is the test, another one validation. "
    "Figures measure how well what a history lacks is found, not what comes next in time."
)
BY_USER = (
    "Users are held out whole: of users drawn by seed no interaction is training data, and the last one is "
    "predicted from all that the user took before it."
)
SHUFFLED_TIES = (
    'Interactions of a user at one time are in an order drawn by seed (split.ties = "shuffled"), not in the '
    "published one."
)
ONLY_FOR: dict[str, Scheme] = {
    "last": "leave_last_n",
    "user_validation": "by_user",
    "user_test": "by_user",
    "validation_from": "global_time",
    "test_from": "global_time",
    "gap_days": "global_time",
}
"""Setting -> the only scheme that reads it."""
Cut = Annotated[float, Field(gt=0, lt=1)] | date
"""Where a window of a split by time begins: the share of all events before it, or its first day (UTC)."""


class SplitSettings(Settings):
    """How events and ratings are divided."""

    role = Role(stages=("prepare",))
    scheme: Scheme | None = None
    """What is held out: a user's last two events ("leave_one_out"), the last few ("leave_last_n"), users as a
    whole ("by_user"), what comes after two times that are the same for everybody ("global_time"), or two
    events of a user drawn by seed, whatever order there is ("random"). By default leave_one_out where the
    interactions have an order and random where they have none."""
    ties: Ties = "published"
    """The order of a user's events at one time: that of the data ("published"), or one drawn by seed
    ("shuffled"), so that the time alone decides. Where only times order the data, both are the same."""
    last: int = Field(2, ge=1)
    """leave_last_n: events of each user held out for the test, and as many before them for validation; each
    is a request of its own."""
    user_validation: float = Field(0.1, gt=0, lt=0.5)
    """by_user: share of the users held out for validation."""
    user_test: float = Field(0.1, gt=0, lt=0.5)
    """by_user: share of the users held out for the test."""
    validation_from: Cut = 0.8
    """global_time: where the validation window begins, as the share of all events before it (above 0, below
    1) or as its first day ("2014-01-31", UTC)."""
    test_from: Cut = 0.9
    """global_time: where the test window begins, likewise; the validation window ends there."""
    gap_days: float = Field(0.0, ge=0, allow_inf_nan=False)
    """global_time: days before the validation window (and, in a refit, before the test window) whose events
    train nothing; histories show them."""
    ranking_negatives: int = Field(99, ge=1)
    """Candidates that the user never took, beside the one taken, drawn once per held-out event, uniformly."""
    rating_validation: float = Field(0.1, gt=0, lt=0.5)
    """Share of all ratings held out for validation; global_time divides ratings by its two times instead."""
    rating_test: float = Field(0.1, gt=0, lt=0.5)
    """Share of all ratings held out for the test, likewise."""

    @model_validator(mode="after")
    def _settings_of_the_scheme(self) -> SplitSettings:
        defaults = type(self).model_fields
        for name, scheme in ONLY_FOR.items():
            if self.scheme != scheme and getattr(self, name) != defaults[name].default:
                raise ValueError(
                    f'split.{name} is read by split.scheme = "{scheme}" alone; set that scheme, or leave '
                    f"split.{name} out"
                )
        if self.scheme == "random" and self.ties == "shuffled":
            raise ValueError(
                'split.scheme = "random" removes the order of all events, so there are no ties to shuffle; '
                "leave split.ties out"
            )
        return self


@dataclass(frozen=True)
class Protocol:
    """How the events of a split were divided. `last`: events of a user in each held-out part. `cuts`: Unix
    seconds at which the validation and the test window begin, where the split is by time, and `gap_days` the
    days before a window that train nothing."""

    scheme: Scheme = "leave_one_out"
    ties: Ties = "published"
    last: int = 1
    cuts: tuple[int, int] | None = None
    gap_days: float = 0.0

    @property
    def name(self) -> str:
        """As in "test part of a random split"."""
        shuffled = " with shuffled ties" if self.ties == "shuffled" else ""
        return f"{NAMES[self.scheme]} split{shuffled}"

    @property
    def is_usual(self) -> bool:
        """Whether it is what publications mean where they say nothing else."""
        return (self.scheme, self.ties) == ("leave_one_out", "published")

    @property
    def by_time(self) -> bool:
        """Whether nothing that trains is later than anything held out, of whichever user."""
        return self.scheme == "global_time"

    @property
    def held_out(self) -> str:
        """Which events are held out, in a sentence or two."""
        if self.cuts is not None:
            validation, test = map(moment, self.cuts)
            gap = f", the last {self.gap_days:g} days of that left out" if self.gap_days else ""
            return (
                f"The split is by time, for all users alike: validation begins at {validation} and the test "
                f"at {test}, and models learn from what came before validation{gap}. Of each user with "
                "interactions in a window the last one is predicted from all that the user took before it, "
                "what no model learned from included."
            )
        if self.scheme == "leave_last_n":
            return (
                f"The last {self.last} interactions of each user are the test and the {self.last} before "
                "them validation; each is predicted from all that the user took before it."
            )
        return {"random": RANDOM_SPLIT, "by_user": BY_USER}.get(self.scheme, LAST_TWO)

    @property
    def sentence(self) -> str:
        """What stands beside a figure: `held_out`, and the order of ties unless it is the published one."""
        return f"{self.held_out} {SHUFFLED_TIES}" if self.ties == "shuffled" else self.held_out

    @property
    def note(self) -> str:
        """The sentence of an unusual protocol, for places that are silent about the usual one; else ""."""
        return "" if self.is_usual else self.sentence

    def training_ends(self, part: Part) -> int | None:
        """Unix seconds from which on nothing trains that is to be measured on `part`; None unless the split
        is by time."""
        if self.cuts is None:
            return None
        return self.cuts[PARTS.index(part)] - round(self.gap_days * 86_400)

    def as_metrics(self) -> dict[str, Any]:
        """The section "split" of metrics.json; empty for the usual protocol."""
        if self.is_usual:
            return {}
        return {"split": {"scheme": self.scheme, "ties": self.ties, "name": self.name, "note": self.note}}


def moment(second: int) -> str:
    """A Unix second as a person reads it, UTC; the number itself outside the calendar's years."""
    try:
        shown = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
    except OverflowError:
        return f"{second} Unix seconds"
    return f"{shown:%Y-%m-%d}" if second % 86_400 == 0 else f"{shown:%Y-%m-%d %H:%M:%S}"
