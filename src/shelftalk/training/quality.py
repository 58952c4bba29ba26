"""Asking a model in the middle of its training, so that the training does not notice."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch

Quality = Callable[[], Mapping[str, float]]
"""Asks the model as it stands; metric -> value, of which more is better."""


def quality_of(model: torch.nn.Module, quality: Quality | None) -> dict[str, float]:
    """What `quality` measures of `model` now; nothing where there is none."""
    if quality is None:
        return {}
    with no_op(model):
        return dict(quality())


@contextmanager
def no_op(model: torch.nn.Module) -> Iterator[None]:
    """Without dropout and gradients; then mode and random states are what they were, whoever drew from
    them."""
    training, python, arrays = model.training, random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    model.eval()
    try:
        with torch.random.fork_rng(devices), torch.no_grad():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)
        model.train(training)
