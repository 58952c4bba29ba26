"""MLM, masked language modelling: spans of words and symbols of the history's text are masked, and the model
restores them.

T5's span corruption (Raffel et al., JMLR 2020) over the history text, after Cao et al. (NAACL Findings 2024).
A unit is a word or one symbol of a name, so that correlations below the level of whole items are masked too;
no tokenizer is consulted. A decoder-only model generates the same spans after the text, each after its
sentinel: infilling, as a text read from left to right.

Legend: N samples, M masked units and K kept ones of all samples together.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import ClassVar

import numpy as np
from pydantic import Field

from shelftalk.indexing.item_index import split_symbols
from shelftalk.ragged import Ragged, offsets_of, ragged, sample_mask
from shelftalk.records import Segment
from shelftalk.tasks.samples import Samples
from shelftalk.tasks.sentinels import SENTINELS, sentinel
from shelftalk.tasks.task import Task, TaskSettings
from shelftalk.tasks.windows import windows

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
    """Mean length of a masked span, in units."""


class MaskedLanguage(Task):
    """Windows of the training histories with spans of their text masked."""

    name: ClassVar[str] = "masked_language"
    placeholders: ClassVar[tuple[str, ...]] = ("corrupted", "spans")
    answers: ClassVar[tuple[str, ...]] = ("spans",)
    settings_type: ClassVar[type[TaskSettings]] = MaskedLanguageSettings
    settings: MaskedLanguageSettings

    def epoch(self, numbers: np.ndarray, rng: np.random.Generator) -> Samples:
        owner, start, stop, _ = windows(self.training_bounds(numbers), self.settings.max_history, rng)
        items, layout = self.events(start, stop), self.layout(numbers[owner], rng)
        rows = self.context.variant_row(items.values, np.repeat(layout.names_only, items.lengths), False)
        text = self._units.take(rows).merge_rows(items.offsets)  # a name and its line break at least
        sentinels = np.array(
            self.context.tables.codes(sentinel(position) for position in range(SENTINELS)), np.int64
        )
        corrupted, spans = _masked(
            text, sentinels, *_drawn_spans(text.lengths, self.settings.share, self.settings.mean_span, rng)
        )
        source = self.fill("source", layout, corrupted=corrupted)
        return self.assemble(layout, items, source, self.fill("target", layout, spans=spans))

    @cached_property
    def _units(self) -> Ragged:
        """The lines of `TaskContext.item_variants` cut into units."""
        tables, lines = self.context.tables, self.context.item_variants("line")
        codes, position = np.unique(lines.values, return_inverse=True)
        units = ragged(tables.codes(_units_of(tables.pieces[code >> 1])) for code in codes.tolist())
        return units.take(position).merge_rows(lines.offsets)


def _drawn_spans(
    lengths: np.ndarray, share: float, mean_span: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Separate masked spans in texts of `lengths` [N] units, at least two each: the lengths of the spans and
    of the gaps between them are each a random composition, as in T5. Unlike in T5, a text may begin with a
    span or end with a gap: else the only span of a short text would always be its last units. Returns [M + K]
    whether a unit is masked and [M + K] whether a span begins there."""
    masked = np.clip(np.round(lengths * share).astype(np.int64), 1, lengths - 1)
    kept = lengths - masked
    number = np.clip(
        np.round(masked / mean_span).astype(np.int64), 1, np.minimum(np.minimum(kept, masked), SENTINELS)
    )
    gaps = _composition(kept + 2, number + 1, rng)
    bounds = offsets_of(number + 1)
    # the first and the last gap of a text may be empty, those between two spans may not
    gaps[bounds[:-1]] -= 1
    gaps[bounds[1:] - 1] -= 1
    pieces = 2 * number + 1  # [N] gap, span, gap ... span, gap
    position = np.arange(2 * len(gaps) - len(number)) - np.repeat(offsets_of(pieces)[:-1], pieces)
    is_span = position % 2 == 1
    sizes = np.empty(len(is_span), np.int64)  # units of each gap and span
    sizes[is_span], sizes[~is_span] = _composition(masked, number, rng), gaps
    begins = np.zeros(int(lengths.sum()), bool)
    begins[(np.cumsum(sizes) - sizes)[is_span]] = True
    return np.repeat(is_span, sizes), begins


def _composition(totals: np.ndarray, parts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each of `totals` [N] as a sum of `parts` [N] positive numbers, drawn uniformly; all summands in one
    row: [5, 2], [2, 1] -> [4, 1, 2], for instance."""
    begins = np.zeros(int(totals.sum()), bool)
    first = np.cumsum(totals) - totals
    begins[np.delete(np.arange(len(begins)), first)] = sample_mask(totals - 1, parts - 1, rng)
    begins[first] = True
    return np.diff(np.append(np.flatnonzero(begins), len(begins)))


def _masked(
    text: Ragged, sentinels: np.ndarray, is_masked: np.ndarray, begins: np.ndarray
) -> tuple[Ragged, Ragged]:
    """[N] the text with a sentinel in place of each span, and [N] each sentinel followed by its span, which
    bears loss. The span b c of "a b c d" gives "a <0> d" and "<0> b c"."""
    before = np.concatenate([[0], np.cumsum(begins)])
    # the number of the unit's span in its text; outside of spans, where nothing reads it, that of another
    number = (before[1:] - 1 - np.repeat(before[text.offsets[:-1]], text.lengths)).clip(0)
    sentinel_of = sentinels[number]
    corrupted = Ragged(np.where(is_masked, sentinel_of, text.values), text.offsets)
    pairs = np.stack([sentinel_of, text.values + 1], axis=1)[is_masked].ravel()
    kept = np.stack([begins, is_masked], axis=1)[is_masked].ravel()
    bounds = offsets_of(Ragged(is_masked, text.offsets).filter_values(is_masked).lengths * 2)
    return corrupted.filter_values(~is_masked | begins), Ragged(pairs, bounds).filter_values(kept)


def _units_of(segment: Segment) -> list[Segment]:
    """The symbols of a name, or the words of a text, each with the white space before it."""
    parts = split_symbols(segment.text) if segment.symbols else _WORD.findall(segment.text)
    return [Segment(part, symbols=segment.symbols) for part in parts]
