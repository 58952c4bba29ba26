"""Recommendation quality measured in the middle of a training, without any effect on the training."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch

MeasureQuality = Callable[[], Mapping[str, float]]
"""Evaluates the model with its current weights: metric -> value, higher is better."""


def measured_quality(model: torch.nn.Module, measure: MeasureQuality | None) -> dict[str, float]:
    """What `measure` returns for the current weights of `model`; nothing where it is None."""
    if measure is None:
        return {}
    with evaluation_mode(model):
        return dict(measure())


@contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Without dropout and gradients; afterwards the model's mode and all random states are as before."""
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
