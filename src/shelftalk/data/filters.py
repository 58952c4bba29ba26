"""Filters of interactions, before the k-core: a window of time, a lowest rating, one user for each history,
and a cap on the interactions of a user. Each says what it took away.

Legend: E events.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import polars as pl
from pydantic import Field, field_validator, model_validator

from shelftalk import seeds
from shelftalk.errors import MissingColumn, NothingLeft
from shelftalk.settings import Role, Settings

Kept = Literal["latest", "earliest", "random"]


class FilterSettings(Settings):
    """Which interactions count, before the k-core. By default all of them."""

    role = Role(stages=("prepare",))
    since: str | None = None
    """The first time that counts, as an ISO 8601 date or time in UTC, such as "2014-01-01"."""
    until: str | None = None
    """The first time that no longer counts, likewise."""
    min_rating: float | None = None
    """Interactions that are rated lower are left out, as usual for implicit feedback; unrated ones stay."""
    max_per_user: int | None = Field(None, ge=1)
    """Most interactions that a user keeps, so that no guest account or script decides memory and counts."""
    keep: Kept = "latest"
    """Which ones a user above `max_per_user` keeps: "latest", "earliest" or "random" (by seed)."""
    same_history: Literal["keep", "first"] = "keep"
    """Users with the same items in the same order, `same_history_from` or more of them: "keep" all, or the
    "first" by id alone."""
    same_history_from: int = Field(5, ge=2)
    """Interactions from which on equal histories are no coincidence."""

    @field_validator("since", "until")
    @classmethod
    def _is_time(cls, written: str | None) -> str | None:
        if written is not None:
            _second(written)
        return written

    @model_validator(mode="after")
    def _in_order(self) -> FilterSettings:
        if self.since and self.until and _second(self.since) >= _second(self.until):
            raise ValueError("data.filters.since is not before data.filters.until; exchange them")
        return self


@dataclass(frozen=True, slots=True)
class FilterStep:
    """What one filter took away: events, and users and items that have none left. `rule` is the filter as a
    clause."""

    rule: str
    events: int
    users: int
    items: int

    def sentence(self) -> str:
        """As the terminal and the report show it."""
        return (
            f"Filter: {self.rule} takes {self.events:,} interactions away, and with them the last of "
            f"{self.users:,} users and {self.items:,} items."
        )


def filter_events(
    events: pl.DataFrame, settings: FilterSettings, order: tuple[str, ...], seed: int
) -> tuple[pl.DataFrame, list[FilterStep]]:
    """The events that count, in the order given, and what each filter took away. `order`: the columns that
    order a user's events, as `order_of` says.

    Raises MissingColumn where a filter reads a column that is not there, and NothingLeft where one removes
    everything.
    """
    steps: list[FilterStep] = []
    for rule, mask in (
        (_window_rule(settings), _in_window),
        (f"data.filters.min_rating = {settings.min_rating:g}" if settings.min_rating is not None else "",
         _rated_enough),
        (f'data.filters.same_history = "first" (from {settings.same_history_from} interactions on)'
         if settings.same_history == "first" else "", _first_of_copies),
        (f'data.filters.max_per_user = {settings.max_per_user} ("{settings.keep}")'
         if settings.max_per_user is not None else "", _below_cap),
    ):  # fmt: skip
        if rule:
            kept = events.filter(mask(events, settings, order, seed))
            if not len(kept):
                raise NothingLeft(f"{rule} leaves nothing of {len(events):,} interactions; loosen it.")
            lost = [events[name].n_unique() - kept[name].n_unique() for name in ("user_id", "item_id")]
            steps.append(FilterStep(rule, len(events) - len(kept), *lost))
            events = kept
    return events, steps


def _window_rule(settings: FilterSettings) -> str:
    bounds = {"since": settings.since, "until": settings.until}
    return " and ".join(f'data.filters.{name} = "{value}"' for name, value in bounds.items() if value)


def _in_window(
    events: pl.DataFrame, settings: FilterSettings, order: tuple[str, ...], seed: int
) -> pl.Series:
    """[E] whether an event is in the window. Raises MissingColumn where one has no time."""
    if "timestamp" not in events or events["timestamp"].null_count():
        count = events["timestamp"].null_count() if "timestamp" in events else len(events)
        raise MissingColumn(
            f"{count:,} of {len(events):,} interactions have no timestamp, and data.filters.since and until "
            "need one; leave them out, or fill the column in."
        )
    second, inside = events["timestamp"], pl.repeat(True, len(events), dtype=pl.Boolean, eager=True)
    if settings.since:
        inside &= second >= _second(settings.since)
    if settings.until:
        inside &= second < _second(settings.until)
    return inside


def _rated_enough(
    events: pl.DataFrame, settings: FilterSettings, order: tuple[str, ...], seed: int
) -> pl.Series:
    """[E] whether an event is rated high enough, or not at all. Raises MissingColumn without any rating."""
    if "rating" not in events or events["rating"].null_count() == len(events):
        raise MissingColumn(
            "no interaction has a rating, and data.filters.min_rating needs one; leave it out, or name the "
            "column in data.interactions_columns.rating if the files are your own."
        )
    return (events["rating"] >= settings.min_rating).fill_null(True)


def _first_of_copies(
    events: pl.DataFrame, settings: FilterSettings, order: tuple[str, ...], seed: int
) -> pl.Series:
    """[E] whether the event's user is the first by id of those with the same items in the same order."""
    histories = (
        _in_order(events, order, seed)
        .group_by("user_id", maintain_order=True)
        .agg(items=pl.col("item_id").str.join("\x1f"), length=pl.len())
        .sort("user_id")
    )
    long = histories["length"] >= settings.same_history_from
    copies = histories.filter(long & ~histories["items"].is_first_distinct())["user_id"]
    return ~events["user_id"].is_in(copies.implode())


def _below_cap(
    events: pl.DataFrame, settings: FilterSettings, order: tuple[str, ...], seed: int
) -> pl.Series:
    """[E] whether an event is among those that its user keeps."""
    by: tuple[str, ...] = () if settings.keep == "random" else order
    numbered = _in_order(events.with_row_index("row"), by, seed)
    position = pl.int_range(pl.len()).over("user_id")
    from_end = pl.len().over("user_id") - 1 - position
    rank = position if settings.keep == "earliest" else from_end
    return numbered.with_columns(kept=rank < settings.max_per_user).sort("row")["kept"]


def _in_order(events: pl.DataFrame, order: tuple[str, ...], seed: int) -> pl.DataFrame:
    """The events of each user in their order, equal ones by a seeded hash of user and item."""
    pairs = [f"{user}\x1f{item}" for user, item in zip(events["user_id"], events["item_id"], strict=True)]
    tie = pl.Series("tie", seeds.hash_order(pairs, seed, "ties in time"))
    return events.with_columns(tie).sort("user_id", *order, "tie", "item_id").drop("tie")


def _second(written: str) -> int:
    """Unix seconds of an ISO 8601 date or time; without a zone in UTC."""
    try:
        moment = datetime.fromisoformat(written)
    except ValueError as error:
        raise ValueError(
            f'"{written}" is not an ISO 8601 date or time; write one such as "2014-07-23"'
        ) from error
    return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp())
