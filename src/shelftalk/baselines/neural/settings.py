"""Settings of the trained baselines. A tuple holds the values that are tried on validation, in every
combination; one value each fixes the recipe."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from shelftalk.baselines.validation import VALIDATION_USERS
from shelftalk.settings import Settings

Width = Annotated[int, Field(ge=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


class FittingSettings(Settings):
    """How long a trained baseline is trained, and by whom it is stopped."""

    learning_rate: float = Field(1e-3, gt=0)
    """Step size of Adam; above 0."""
    epochs: int = Field(100, ge=1)
    """Passes over the training part at most; exactly as many where patience is 0."""
    patience: int = Field(5, ge=0)
    """Epochs without a better NDCG@10 on validation after which a training ends with the weights of its best
    epoch; 0 trains all epochs and keeps the last."""
    validation_users: int = Field(VALIDATION_USERS, ge=1)
    """Validation users at most, drawn by seed; with more of them the choice varies less and takes longer."""


class SasRecSettings(FittingSettings):
    """The network and the training of sasrec; 2 blocks and one head do for catalogues of ten thousand."""

    width: tuple[Width, ...] = Field((64,), min_length=1)
    """Numbers of dimensions of an item vector to try; each divisible by the heads."""
    dropout: tuple[Dropout, ...] = Field((0.2,), min_length=1)
    """Shares of activations set to 0 in training to try, each from 0 to below 1."""
    blocks: int = Field(2, ge=1)
    """Layers of self-attention and feed-forward."""
    heads: int = Field(1, ge=1)
    """Attention heads of a block."""
    max_history: int = Field(50, ge=1)
    """Most recent items that are read; longer training histories are cut into windows of so many."""
    batch_size: int = Field(128, ge=1)
    """Windows in a training step."""


class SampledSasRecSettings(SasRecSettings):
    """As those of sasrec, and how many items the right one is compared with."""

    negatives: int = Field(256, ge=1)
    """Items drawn uniformly as wrong answers, anew for every few positions of a step: as many sets of them as
    it has windows."""


class BprMfSettings(FittingSettings):
    """The factors of bpr_mf and their training."""

    learning_rate: float = Field(5e-3, gt=0)
    """Step size of Adam; above 0."""
    width: int = Field(64, ge=1)
    """Dimensions of the vectors of users and items."""
    decay: tuple[Weight, ...] = Field((3e-3, 1e-2), min_length=1)
    """Weights of the squared vectors of a training triple in its loss to try; 0 or more."""
    batch_size: int = Field(1024, ge=1)
    """Training events in a step."""


class SimpleXSettings(FittingSettings):
    """The vectors of simplex and their training."""

    width: int = Field(64, ge=1)
    """Dimensions of the vectors of users and items."""
    history_weight: tuple[Share, ...] = Field((0.8,), min_length=1)
    """Shares of the mean history in a user's vector to try, each from 0 to 1; the user's own has the rest."""
    max_history: int = Field(50, ge=1)
    """Most recent items of the history in the mean."""
    margin: tuple[Share, ...] = Field((0.4, 0.6), min_length=1)
    """Cosines up to which a wrong item costs nothing to try, each from 0 to 1."""
    negative_weight: float = Field(100.0, gt=0)
    """Weight of the mean cost of the wrong items beside the cost of the right one."""
    negatives: int = Field(1000, ge=1)
    """Items drawn uniformly for each training step, as wrong items of all its users who did not take them."""
    batch_size: int = Field(512, ge=1)
    """Training events in a step."""


def tuple_fields(settings: FittingSettings) -> list[str]:
    """The settings that hold the values to try."""
    return [name for name, value in settings if isinstance(value, tuple)]
