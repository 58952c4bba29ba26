"""The baseline `fusion` of a run: its models by name, each with its own settings, and then their weights."""

from __future__ import annotations

from typing import Any

from shelftalk import parts
from shelftalk.baselines.fusion import Fusion, FusionSettings, fuse
from shelftalk.data.splitting import Split
from shelftalk.experiment import validated


def fit_fusion(split: Split, settings: FusionSettings, seed: int) -> Fusion:
    """Fit each model, and choose the weights. Raises what the models raise, and as `fuse` does."""
    return fuse(split, [_fitted(name, split, settings, seed) for name in settings.models], settings, seed)


def _fitted(name: str, split: Split, settings: FusionSettings, seed: int) -> Any:
    kind = parts.declared(parts.MODELS, name, "model").settings
    given = validated(kind, settings.settings.get(name, {}), f"baselines.fusion.settings.{name}")
    return parts.load(parts.MODELS, name, "model")(split, given, seed)
