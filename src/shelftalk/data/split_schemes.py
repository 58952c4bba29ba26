"""The schemes of a split: which events train, and which are held out.

Each returns the part of every event [E] uint8. In every scheme the training events of a user come before all
others of theirs; a user may have none, and only training events may be learned from. Of what is not training
an event is a target (VALIDATION, TEST) or CONTEXT, which only histories of requests show.

Legend: E events, U users.
"""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np

from shelftalk import seeds
from shelftalk.data.dataset import Dataset
from shelftalk.data.protocol import CONTEXT, TEST, TRAIN, VALIDATION, Cut, Protocol, SplitSettings, moment
from shelftalk.errors import SettingsError, TooFewEvents

WITHOUT = "leave split.scheme out"


def divide(
    dataset: Dataset, settings: SplitSettings, protocol: Protocol, seed: int
) -> tuple[np.ndarray, Protocol]:
    """[E] uint8 parts of the events of a dataset that is in its final order, and the protocol with what the
    data decided. Raises SettingsError where times are needed and missing, or leave a window empty, and
    TooFewEvents where there are too few users to hold some out."""
    if protocol.scheme == "by_user":
        return whole_users(dataset, settings.user_validation, settings.user_test, seed), protocol
    if protocol.scheme == "global_time":
        return by_time(dataset, settings, protocol)
    return last_events(dataset, protocol.last), protocol


def last_events(dataset: Dataset, number: int) -> np.ndarray:
    """The last `number` events of each user are the test, the `number` before them validation. Users without
    an event before these are training data alone."""
    parts = np.full(len(dataset), TRAIN, np.uint8)
    ends = dataset.bounds[1:][np.diff(dataset.bounds) > 2 * number]
    for age in range(1, number + 1):
        parts[ends - age] = TEST
        parts[ends - number - age] = VALIDATION
    return parts


def whole_users(dataset: Dataset, validation: float, test: float, seed: int) -> np.ndarray:
    """Of users drawn by seed nothing trains: the last event is the target, the earlier ones are CONTEXT. Only
    users with two events can be held out; the shares are of all users."""
    lengths = np.diff(dataset.bounds)
    able = np.flatnonzero(lengths >= 2)
    drawn = seeds.generator(seed, "users held out").permutation(able)
    numbers = [round(share * len(lengths)) for share in (test, validation)]
    if min(numbers) < 1 or sum(numbers) > len(able) or sum(numbers) >= len(lengths):
        remedies = ["give interactions of more users"]
        if len(able) >= 2 and len(lengths) >= 3:
            remedies.append("set other shares in split.user_test and split.user_validation")
        if (lengths >= 3).any():
            remedies.append('set split.scheme = "leave_one_out"')
        raise TooFewEvents(
            f"of {len(lengths):,} users, {len(able):,} with two interactions, {numbers[0]:,} cannot be held "
            f"out for the test and {numbers[1]:,} for validation, at least one each; "
            f"{', or '.join(remedies)}."
        )
    parts = np.full(len(dataset), TRAIN, np.uint8)
    for part, users in (
        (TEST, drawn[: numbers[0]]),
        (VALIDATION, drawn[numbers[0] : sum(numbers)]),
    ):
        held_out = np.repeat(np.isin(np.arange(len(lengths)), users), lengths)  # [E]
        parts[held_out] = CONTEXT
        parts[dataset.bounds[users + 1] - 1] = part
    return parts


def by_time(dataset: Dataset, settings: SplitSettings, protocol: Protocol) -> tuple[np.ndarray, Protocol]:
    """Two times divide the events of all users alike, and of each user the last event in a window is its
    target ("Last"), unless the user has none before it. Events of the gap, and in a window those that are no
    target, are CONTEXT.

    Global temporal splitting with the Last target: Gusak et al., "Time to Split: Exploring Data Splitting
    Strategies for Offline Evaluation of Sequential Recommenders", RecSys 2025, arXiv 2507.16289.
    """
    check_times(dataset, 'split.scheme = "global_time" divides by time', WITHOUT)
    second = dataset.event_second
    cuts = (_second_of(settings.validation_from, second), _second_of(settings.test_from, second))
    protocol = Protocol(protocol.scheme, protocol.ties, 1, cuts, settings.gap_days)
    parts = np.where(second < protocol.training_ends("validation"), TRAIN, CONTEXT).astype(np.uint8)
    ends = (cuts[1], int(second.max()) + 1)
    for part, start, end in zip((VALIDATION, TEST), cuts, ends, strict=True):
        inside = np.flatnonzero((second >= start) & (second < end))
        user = np.searchsorted(dataset.bounds, inside, side="right") - 1
        last = np.append(user[1:] != user[:-1], True)[: len(user)]
        targets = inside[last & (inside > dataset.bounds[user])]
        parts[targets] = part
    _check_windows(parts, cuts, settings.gap_days)
    return parts, protocol


def check_times(dataset: Dataset, wanted: str, otherwise: str) -> None:
    """Raises SettingsError unless every event has a time and times agree with the order of the events.

    `wanted`: what needs them, as a main clause; `otherwise`: what to do without.
    """
    missing = dataset.columns.timestamp.null_count()
    if missing:
        raise SettingsError(
            f"{wanted}, and {missing:,} of {len(dataset):,} interactions have no time; name the "
            "column that holds it in data.interactions_columns.timestamp if the files are your own, or "
            f"{otherwise}."
        )
    back = int((dataset.seconds_since_previous < 0).sum())
    if back:
        raise SettingsError(
            f"{wanted}, and {back:,} interactions have a later position and an earlier time than the one "
            f'before them; set data.order = "timestamp", or {otherwise}.'
        )


def _second_of(cut: Cut, second: np.ndarray) -> int:
    """The Unix second at which a window begins; events of that second are in it, however many they are."""
    if isinstance(cut, date):
        return int(datetime(cut.year, cut.month, cut.day, tzinfo=UTC).timestamp())
    return int(np.partition(second, int(cut * len(second)))[int(cut * len(second))])


def _check_windows(parts: np.ndarray, cuts: tuple[int, int], gap_days: float) -> None:
    """Raises SettingsError where nothing trains or a window has no target."""
    counts = {
        name: int((parts == part).sum())
        for name, part in (("training", TRAIN), ("validation", VALIDATION), ("the test", TEST))
    }
    empty = [name for name, count in counts.items() if not count]
    if empty:
        validation, test = map(moment, cuts)
        gap = ", or a smaller split.gap_days" if gap_days else ""
        raise SettingsError(
            f"with validation from {validation} and the test from {test} there is nothing for "
            f"{' and '.join(empty)} (a target needs an earlier interaction of its user); set other times or "
            f"shares in split.validation_from and split.test_from{gap}."
        )
