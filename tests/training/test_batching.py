"""Steps: each sample once an epoch, in an order that depends on nothing but the seed."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelftalk.models.backbone import FEW_SHAPES, LENGTH_STEP, rounded_up
from shelftalk.models.text_encoder import Encoded
from shelftalk.training.batching import Steps, length_batches


def samples(lengths: list[int], first: int = 0) -> list[Encoded]:
    """Samples of these lengths; the first token tells them apart, the last one bears loss."""
    return [
        Encoded(np.full(length, first + n, np.int32), np.arange(length) == length - 1)
        for n, length in enumerate(lengths)
    ]


PADDED: Any = SimpleNamespace(padding=FEW_SHAPES)
"""All of a backbone that steps need where no tensors are asked for."""
LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=60)


@given(LENGTHS, st.integers(64, 2000))
def test_every_sample_stands_in_one_batch_and_no_batch_is_larger_than_allowed(
    lengths: list[int], batch_tokens: int
) -> None:
    batches = length_batches(samples(lengths), batch_tokens)
    assert sorted(position for batch in batches for position in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = rounded_up(max(lengths[position] for position in batch), LENGTH_STEP) * len(batch)
        assert padded <= batch_tokens or len(batch) == 1


@given(LENGTHS, st.integers(0, 2**31))
def test_an_epoch_holds_each_of_its_samples_once_before_the_next_begins(
    lengths: list[int], seed: int
) -> None:
    epochs = [samples(lengths), samples(lengths, first=1000)]
    steps = Steps(PADDED, epochs, 512, seed)
    seen = [
        [int(sample.ids[0]) for step in part for sample in steps.samples(step)] for part in _epochs(steps)
    ]
    assert [Counter(part) for part in seen] == [
        Counter(range(len(lengths))),
        Counter(range(1000, 1000 + len(lengths))),
    ]


def _epochs(steps: Steps) -> list[range]:
    return [range(start, end) for start, end in zip([0, *steps.epoch_ends], steps.epoch_ends, strict=False)]


def test_the_order_is_the_seeds_and_differs_from_epoch_to_epoch() -> None:
    lengths = list(range(1, 200))
    orders = {
        name: [int(sample.ids[0]) for step in range(len(steps)) for sample in steps.samples(step)]
        for name, steps in {
            "first": Steps(PADDED, [samples(lengths)] * 2, 512, 0),
            "again": Steps(PADDED, [samples(lengths)] * 2, 512, 0),
            "other": Steps(PADDED, [samples(lengths)] * 2, 512, 1),
        }.items()
    }
    assert orders["first"] == orders["again"] != orders["other"]
    assert orders["first"][:199] != orders["first"][199:]


def test_steps_count_what_they_read() -> None:
    steps = Steps(PADDED, [samples([3, 5, 40])], 128, 0)
    counts = steps.counts()
    assert sum(count.tokens for count in counts) == 48
    assert sum(count.targets for count in counts) == 3
    assert all(count.padded >= count.tokens and count.padded % FEW_SHAPES.length == 0 for count in counts)


@pytest.mark.parametrize("tokens", [64, 4096])
def test_samples_of_like_length_share_a_batch(tokens: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 500, 300).tolist()
    longest = [
        max(lengths[position] for position in batch) for batch in length_batches(samples(lengths), tokens)
    ]
    assert longest == sorted(longest, reverse=True)
