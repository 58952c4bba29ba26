"""MLM, masked language modelling: runs of words and symbols of the history's text are masked, and the model restores them.

T5's span corruption (Raffel et al., JMLR 2020) over the history text, after Cao et al. (NAACL Findings 2024). A unit is a word
or one symbol of a name, so that correlations below the level of whole items are masked too; no tokenizer is consulted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from shelftalk.indexing.item_index import split_symbols
from shelftalk.records import Sample, Segment
from shelftalk.tasks.marks import MARKS, mark
from shelftalk.tasks.task import Task, TaskSettings, windows
from shelftalk.tasks.templates import Template, fill

_WORD = re.compile(r"\s*\S+\n?|\s+")


class MaskedLanguageSettings(TaskSettings):
    """Masked spans of the history text."""

    weight: float = Field(0.1, ge=0)
    """How much of the task's own epoch goes into one epoch of the mixture; 0 switches it off."""
    max_history: int = Field(12, ge=1)
    """Items in a window."""
    share: float = Field(0.15, gt=0, lt=1)
    """Share of the units (words and name symbols) that are masked."""
    mean_span: float = Field(3.0, ge=1)
    """Mean length of a masked run, in units."""


class MaskedLanguage(Task):
    """Windows of the training histories with runs of their text masked."""

    name: ClassVar[str] = "masked_language"
    placeholders: ClassVar[tuple[str, ...]] = ("corrupted", "spans")
    settings_type: ClassVar[type[TaskSettings]] = MaskedLanguageSettings
    settings: MaskedLanguageSettings

    def epoch(self, draw: np.random.Generator) -> Iterator[Sample]:
        for user, items in enumerate(self.context.histories):
            for start, stop in windows(len(items), self.settings.max_history, draw):
                text = self.choose_text(draw)
                units = [unit for segment in text.lines(items[start:stop]) for unit in _units(segment)]
                spans = self._draw_spans(len(units), draw)
                yield self._sample(self.choose(draw), self.context.split.dataset.user_ids[user], items[start:stop], units, spans)

    def _draw_spans(self, units: int, draw: np.random.Generator) -> list[tuple[int, int]]:
        """Separate runs of 0 .. units: masked and kept lengths are each a random composition, as T5 draws them."""
        masked = min(max(1, round(units * self.settings.share)), units - 1) if units > 1 else units
        number = min(MARKS, max(1, round(masked / self.settings.mean_span)), max(1, units - masked))
        kept = _composition(units - masked, number, draw)
        spans, place = [], 0
        for gap, length in zip(kept, _composition(masked, number, draw), strict=True):
            spans.append((place + gap, place + gap + length))
            place += gap + length
        return spans

    def _sample(
        self, template: Template, user: str, items: Sequence[str], units: Sequence[Segment], spans: Sequence[tuple[int, int]]
    ) -> Sample:
        corrupted: list[Segment] = []
        removed: list[Segment] = []
        place = 0
        for number, (start, stop) in enumerate(spans):
            corrupted += [*units[place:start], mark(number)]
            removed.append(mark(number))
            removed += [Segment(unit.text, True, unit.symbols) for unit in units[start:stop]]
            place = stop
        corrupted += units[place:]
        segments = fill(template.source, self.values(corrupted=_joined(corrupted)))
        segments += fill(template.target, self.values(spans=_joined(removed)))
        return Sample(self.name, template.name, user, tuple(items), tuple(segments))


def _units(segment: Segment) -> list[Segment]:
    """Each symbol of a name, each word of a text with the white space before it."""
    parts = split_symbols(segment.text) if segment.symbols else _WORD.findall(segment.text)
    return [Segment(part, symbols=segment.symbols) for part in parts]


def _joined(units: Sequence[Segment]) -> list[Segment]:
    """Neighbours of one kind as one segment."""
    joined: list[Segment] = []
    for unit in units:
        if joined and (joined[-1].symbols, joined[-1].bears_loss) == (unit.symbols, unit.bears_loss):
            joined[-1] = Segment(joined[-1].text + unit.text, unit.bears_loss, unit.symbols)
        else:
            joined.append(unit)
    return joined


def _composition(total: int, parts: int, draw: np.random.Generator) -> list[int]:
    """`total` as a sum of `parts` positive numbers, uniformly; the first may be all there is where total < parts."""
    if total < parts:
        return [1] * total + [0] * (parts - total)
    cuts = np.sort(draw.permutation(total - 1)[: parts - 1] + 1)
    return np.diff(np.concatenate([[0], cuts, [total]])).astype(int).tolist()
