"""Windows: how histories are cut."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shelftalk.ragged import offsets_of
from shelftalk.tasks.windows import windows

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=8)


def cuts(
    lengths: list[int], size: int, rng: np.random.Generator, targets: int = 0
) -> list[list[tuple[int, int]]]:
    """The windows of each history, counted from its first event; histories begin 1000 events apart."""
    begin = 1000 * np.arange(len(lengths))
    cuts_of: list[list[tuple[int, int]]] = [[] for _ in lengths]
    for owner, start, stop, _ in zip(
        *windows(np.stack([begin, begin + lengths], axis=1), size, rng, targets), strict=True
    ):
        cuts_of[owner].append((int(start - begin[owner]), int(stop - begin[owner])))
    return cuts_of


def learned(length: int, size: int, rng: np.random.Generator, targets: int) -> list[int]:
    """The events of one history that bear loss, in the order of the windows."""
    cut = zip(*windows(np.array([[0, length]]), size, rng, targets), strict=True)
    return [event for _, start, stop, first in cut for event in range(start + first, stop)]


@given(LENGTHS, st.integers(2, 20), st.integers(0, 10))
def test_windows_follow_each_other_and_leave_out_lone_items_at_the_ends_alone(lengths, size, seed):
    for length, cut in zip(lengths, cuts(lengths, size, np.random.default_rng(seed)), strict=True):
        assert all(0 < stop - start <= size for start, stop in cut)
        assert all(before[1] == after[0] for before, after in zip(cut, cut[1:], strict=False))
        assert cut[0][0] <= 1 and cut[-1][1] >= length - 1
        assert length > size or cut == [(0, length)]


@given(st.integers(1, 60), st.integers(2, 20), st.integers(0, 12), st.integers(0, 10))
def test_every_event_bears_loss_once_and_only_the_last_targets_of_a_window(length, size, targets, seed):
    targets = min(targets, size)
    cut = cuts([length], size, np.random.default_rng(seed), targets)[0]
    assert all(0 <= start < stop <= length and stop - start <= size for start, stop in cut)
    if targets:
        assert all(stop - start == min(size, stop) for start, stop in cut)
        assert sorted(learned(length, size, np.random.default_rng(seed), targets)) == list(range(length))
        *_, first = windows(np.array([[0, length]]), size, np.random.default_rng(seed), targets)
        assert all(
            stop - start - int(position) <= targets
            for (start, stop), position in zip(cut, first, strict=True)
        )


def test_with_targets_windows_end_everywhere_over_the_epochs():
    draw = np.random.default_rng(0)
    ends = {stop for _ in range(100) for _, stop in cuts([9], 5, draw, 3)[0]}
    assert ends == set(range(1, 10))


def test_over_the_epochs_every_item_is_at_every_distance_from_the_start_of_its_window():
    draw = np.random.default_rng(0)
    windows_seen = [cut for _ in range(200) for cut in cuts([20], 6, draw)[0]]
    assert {11 - start for start, stop in windows_seen if start <= 11 < stop} == set(range(6))


def test_histories_are_cut_independently_of_each_other():
    draw = np.random.default_rng(0)
    pairs = {tuple(cut[0][1] for cut in cuts([20, 20], 6, draw)) for _ in range(400)}
    assert len({first for first, _ in pairs}) * len({second for _, second in pairs}) == len(pairs) > 20


def test_owners_stand_in_the_order_of_their_histories():
    lengths = np.array([3, 30, 1, 12])
    owner, start, stop, _ = windows(
        np.stack([offsets_of(lengths)[:-1], offsets_of(lengths)[1:]], axis=1), 5, np.random.default_rng(0)
    )
    assert owner.tolist() == sorted(owner) and set(owner) == {0, 1, 2, 3}
    assert np.all((start >= offsets_of(lengths)[owner]) & (stop <= offsets_of(lengths)[owner + 1]))


def test_a_history_without_events_has_no_window_and_changes_no_other():
    bounds = np.array([[0, 4], [4, 4], [4, 9], [9, 9]])
    for targets in (0, 1, 3):
        owner, start, stop, _ = windows(bounds, 3, np.random.default_rng(1), targets)
        assert set(owner.tolist()) == {0, 2} and (stop > start).all()
    for targets in (0, 2):
        owner, *_ = windows(np.array([[5, 5]]), 3, np.random.default_rng(1), targets)
        assert not len(owner)


def test_no_history_has_no_window():
    for targets in (0, 2):
        assert all(
            len(part) == 0
            for part in windows(np.zeros((0, 2), np.int64), 5, np.random.default_rng(0), targets)
        )
