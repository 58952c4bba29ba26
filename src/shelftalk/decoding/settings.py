"""Settings of decoding, in a file that loads without torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]


class DecodingSettings(BaseModel):
    """How the language model is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    beams: int = Field(40, ge=1)
    """Beams of the retrieval search; at least as many as items are wanted."""
    batch_size: int = Field(16, ge=1)
    """Requests decoded at once."""
    ranking_prompt: Literal["ranking", "retrieval"] = "retrieval"
    """Which prompt candidates are scored behind: the ranking task's, which lists them, or the retrieval task's."""


class PriorSettings(BaseModel):
    """How the prior is combined."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: tuple[Share, ...] = Field((0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0), min_length=1)
    """Shares of the prior to try on validation: 0 the model alone, 1 the prior alone."""
    pool: int = Field(100, ge=20)
    """Best items of either side that are scored by both."""
    validation_samples: int = Field(2000, ge=1)
    """Validation requests per task by which a weight is chosen, drawn by seed."""
