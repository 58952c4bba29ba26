"""What every task shares: the context it reads, its wordings, windows of training histories, and one renderer.

A task turns a split and an item index into samples. It never sees a tokenizer, and what it renders for training is, to the
segment, what it renders when the model is asked.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from shelftalk import seeds
from shelftalk.data.splitting import Split
from shelftalk.errors import SettingsError, TemplateError
from shelftalk.records import Request, Sample, Segment
from shelftalk.tasks.item_text import ItemText
from shelftalk.tasks.templates import Template, Words, load_templates


class TaskSettings(BaseModel):
    """What every task can be told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: float = Field(1.0, ge=0)
    """How much of the task's own epoch goes into one epoch of the mixture: 1 all of it, 0.5 half, 2 twice, 0 switches it off."""
    max_history: int = Field(40, ge=1)
    """Most recent items shown in a prompt; older ones are dropped."""
    text_share: float = Field(1.0, ge=0, le=1)
    """Share of the training samples that show items' texts beside their names; the others show names alone, which costs far
    fewer tokens. The finished model is shown texts where the share is at least one half."""
    templates: str | None = None
    """A TOML file of your own wordings in place of the built-in ones."""


@dataclass(frozen=True)
class TaskContext:
    """What samples are made of."""

    split: Split
    text: ItemText
    words: Words = field(default_factory=Words)
    seed: int = 0

    @cached_property
    def histories(self) -> list[tuple[str, ...]]:
        """[U] training item ids of each user, oldest first."""
        ids, item = self.split.dataset.item_ids, self.split.dataset.event_item
        return [tuple(ids[row] for row in item[first:stop].tolist()) for first, stop in self.split.training_bounds.tolist()]

    @cached_property
    def rating_texts(self) -> dict[float, str]:
        """The training part's rating values, ascending -> text, " 4.5": a leading space, one number of decimals for all, so that
        no text begins another. Raises SettingsError for values too close to tell."""
        visible = self.split.visible_rating
        values = np.unique(visible[~np.isnan(visible)]).tolist()
        decimals = max((len(f"{value:g}".partition(".")[2]) for value in values), default=0)
        if len({len(f"{value:.0f}") for value in values}) > 1:
            decimals = max(decimals, 1)  # " 1" would begin " 10"; " 1.0" does not begin " 10.0"
        texts = {value: f" {value:.{decimals}f}" for value in values}
        if len(set(texts.values())) < len(texts):
            raise SettingsError(f"the data has ratings that differ by less than {10.0**-decimals:g}; round them.")
        return texts

    def rating_text(self, value: float) -> str:
        """The text of the scale's nearest value: a held-out rating may be one that training never saw."""
        return self.rating_texts[min(self.rating_texts, key=lambda known: abs(known - value))]

    @cached_property
    def histories_ratings(self) -> list[tuple[float | None, ...]]:
        """[U] the visible ratings along `histories`, None where there is none to show."""
        visible = self.split.visible_rating
        rows = (visible[first:stop].tolist() for first, stop in self.split.training_bounds.tolist())
        return [tuple(None if value != value else value for value in row) for row in rows]


class Task(ABC):
    """One kind of sample. Subclasses say which placeholders their wordings have and how one sample is rendered."""

    name: ClassVar[str]
    settings_type: ClassVar[type[TaskSettings]]
    placeholders: ClassVar[tuple[str, ...]]
    optional: ClassVar[tuple[str, ...]] = ()
    """Placeholders that a wording may leave out."""
    needs_ratings: ClassVar[bool] = False
    """Left out, and said so, where the data has no ratings."""

    def __init__(self, settings: TaskSettings, context: TaskContext) -> None:
        self.settings = settings
        self.context = context
        self.asked_text = context.text if settings.text_share >= 0.5 else context.text.bare
        """How items stand in the prompts of the finished model."""
        self.templates = load_templates(self.name, self.placeholders, settings.templates, self.optional)
        self.seen = [template for template in self.templates if not template.held_out]
        self.held_out = [template for template in self.templates if template.held_out]

    @abstractmethod
    def epoch(self, draw: np.random.Generator) -> Iterator[Sample]:
        """The task's own epoch, once through the training part; `draw` is all the chance there is."""

    def samples(self, epoch: int) -> list[Sample]:
        """Samples of one epoch of the mixture: the task's own epoch taken `weight` times.

        Depends on (data, settings, seed, epoch) alone. A fractional weight keeps that share, drawn by chance.
        """
        whole, rest = divmod(self.settings.weight, 1)
        rounds = [list(self.epoch(self._draw(epoch, turn))) for turn in range(int(whole) + (rest > 0))]
        if rest > 0:
            last = rounds[-1]
            kept = np.sort(self._draw(epoch, "share").permutation(len(last))[: round(len(last) * rest)])
            rounds[-1] = [last[number] for number in kept]
        return [sample for samples in rounds for sample in samples]

    def values(self, **more: str | list[Segment]) -> dict[str, str | list[Segment]]:
        """What the wordings' placeholders stand for: the shop's words and what the sample adds."""
        return {**self.context.words.values(), **more}

    def choose(self, draw: np.random.Generator) -> Template:
        """A wording seen in training."""
        return self.seen[int(draw.integers(len(self.seen)))]

    def choose_text(self, draw: np.random.Generator) -> ItemText:
        """How items stand in one training sample: with their texts, or names alone."""
        return self.context.text if draw.random() < self.settings.text_share else self.context.text.bare

    def _draw(self, *names: str | int) -> np.random.Generator:
        return seeds.generator(self.context.seed, "samples", self.name, *names)


class ServedTask(Task):
    """A task that is also asked of the finished model.

    Raises TemplateError for a wording whose target does not begin with the answer: the model would be asked without the
    words that stood before it in training.
    """

    def __init__(self, settings: TaskSettings, context: TaskContext) -> None:
        super().__init__(settings, context)
        for template in self.templates:
            if not template.target.startswith("{"):
                raise TemplateError(
                    f'the target of template "{template.name}" of the {self.name} task has words before the answer; '
                    "move them to the end of its source."
                )

    @abstractmethod
    def prompt(self, request: Request, template: Template) -> list[Segment]:
        """The text before the answer, the same to the segment as in training."""

    @abstractmethod
    def validation(self) -> Iterator[Sample]:
        """The validation part as samples whose answer alone bears loss, in the first seen wording."""


def windows(length: int, size: int, draw: np.random.Generator, targets: int = 0) -> Iterator[tuple[int, int]]:
    """Cut 0 .. length into windows of at most `size`, the first cut drawn by chance, so that over the epochs every item is
    seen at every distance from the start of its window. Windows of a single item are left out, except where it is all.

    Where only the last `targets` items of a window bear loss, the windows overlap and their ends stand `targets` apart, the last
    one drawn by chance: each item bears loss about once, and none twice.
    """
    if targets:
        for stop in range(length - int(draw.integers(min(targets, length))), 0, -targets):
            yield max(0, stop - size), stop
        return
    offset = int(draw.integers(size)) if length > size else 0
    cuts = sorted({0, *range(offset, length, size), length})
    for start, stop in zip(cuts, cuts[1:], strict=False):
        if stop - start > 1 or length == 1:
            yield start, stop
