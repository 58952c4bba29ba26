"""What the settings of every comparison of trainings have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator


def _each_once(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed is named twice, and a run repeated with its seed is no second run")
    return seeds


Seeds = Annotated[tuple[int, ...], AfterValidator(_each_once)]
"""Seeds of trainings, each once."""
