"""Settings of decoding, in a file that loads without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from shelftalk.settings import Role, Settings

Share = Annotated[float, Field(ge=0, le=1)]
Finish = Literal["replay", "retire"]
_AS_TRAINED = Role(stages=("train", "recommend"), changes_loss=True)
Over = Literal["vocabulary", "trie"]
MEASURED_BEAMS = (10, 20)
"""Numbers of beams whose error a run measures, beside those of its settings."""
MEASURED_LIMIT = 20_000
"""Most tokens that the exact search decodes after a prompt for that, where decoding.exact_limit is 0."""


@dataclass(frozen=True)
class Softmax:
    """What the probability of a name's next token is over: all tokens of the vocabulary, or those that a name
    of the trie goes on with, of logits divided by `temperature`."""

    over: Over = "vocabulary"
    temperature: float = 1.0


OVER_VOCABULARY = Softmax()


class DecodingSettings(Settings):
    """How the language model decodes."""

    role = Role(stages=("recommend",), tunable=True)
    search: Literal["beam", "exact"] = "beam"
    """How retrieval searches the catalogue: by beams, or exactly for the likeliest items,
    whatever it costs."""
    beams: int = Field(40, ge=1)
    """Beams of the retrieval search; at least as many as items are wanted."""
    finish: Finish = "replay"
    """What happens to a beam whose prefix belongs to one item alone: "replay" prunes it as a plain search
    would, token by token; "retire" scores the item's whole name at once, and its beam is free for another."""
    length_penalty: float = Field(0.0, ge=0, le=2)
    """Results of a beam search are ordered by log-probability / (tokens of the name) to this power; 0:
    by log-probability."""
    exact_limit: int = Field(0, ge=0)
    """Tokens that an exact search may decode after one prompt before it ends with an error; 0: no limit."""
    batch_size: int = Field(16, ge=1)
    """Requests decoded at once."""
    softmax: Annotated[Over, _AS_TRAINED] = "vocabulary"
    """What the probability of a name's next token is over, in the retrieval loss of training and in decoding
    alike: all tokens of the vocabulary, or those of the item trie that a name can go on with ("trie").
    Over the trie the tokens after a name's decisive one are certain, and are neither learnt nor decoded."""
    softmax_temperature: Annotated[float, _AS_TRAINED] = Field(1.0, gt=0)
    """Logits are divided by this before a softmax over the trie: below 1 probabilities are sharper."""
    ranking_prompt: Literal["ranking", "retrieval"] = "retrieval"
    """Which prompt candidates are scored after: the ranking task's, which lists them, or the
    retrieval task's."""

    @property
    def of_names(self) -> Softmax:
        """The softmax of names."""
        return Softmax(self.softmax, self.softmax_temperature)

    @model_validator(mode="after")
    def _temperature_is_of_the_trie(self) -> DecodingSettings:
        if self.softmax == "vocabulary" and self.softmax_temperature != 1:
            raise ValueError(
                'a temperature is of a softmax over the trie; set decoding.softmax = "trie" or '
                "decoding.softmax_temperature = 1"
            )
        return self

    @model_validator(mode="after")
    def _exact_needs_sums(self) -> DecodingSettings:
        if self.search == "exact" and self.length_penalty:
            raise ValueError(
                "an exact search is by log-probability alone; set decoding.length_penalty = 0 or "
                'decoding.search = "beam"'
            )
        return self


class PriorSettings(Settings):
    """What the language model is combined with in "aligned+prior", and how."""

    role = Role(stages=("recommend",))
    model: str = "item_knn"
    """The prior of retrieval and ranking: a model that scores every item, "item_knn", "popularity"
    or "package.module:function"."""
    rating_model: str = "bias"
    """The prior of rating: a model that rates, "bias", "global_mean" or "package.module:function"."""
    weights: tuple[Share, ...] = Field((0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0), min_length=1)
    """Shares of the prior to try on validation: 0 the model alone, 1 the prior alone."""
    pool: int = Field(100, ge=20)
    """Best items of the model and of the prior that are scored by both."""
    validation_samples: int = Field(2000, ge=1)
    """Validation requests per task by which a weight is chosen, drawn by seed."""
