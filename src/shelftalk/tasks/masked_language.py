"""MLM, masked language modelling: runs of words and symbols of the history's text are masked, and the model
restores them.

T5's span corruption (Raffel et al., JMLR 2020) over the history text, after Cao et al. (NAACL Findings 2024).
A unit is a word or one symbol of a name, so that correlations below the level of whole items are masked too;
no tokenizer is consulted. A decoder-only model fills in the same runs behind the text, each behind its mark:
infilling, as a text read from left to right.

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
    """Mean length of a masked run, in units."""


class MaskedLanguage(Task):
    """Windows of the training histories with runs of their text masked."""

    name: ClassVar[str] = "masked_language"
    placeholders: ClassVar[tuple[str, ...]] = ("corrupted", "spans")
    answers: ClassVar[tuple[str, ...]] = ("spans",)
    settings_type: ClassVar[type[TaskSettings]] = MaskedLanguageSettings
    settings: MaskedLanguageSettings

    def epoch(self, numbers: np.ndarray, draw: np.random.Generator) -> Samples:
        owner, start, stop, _ = windows(self.training_bounds(numbers), self.settings.max_history, draw)
        items, frame = self.events(start, stop), self.frame(numbers[owner], draw)
        rows = self.context.form_row(items.values, np.repeat(frame.bare, items.lengths), False)
        text = self._units.take(rows).merge_rows(items.offsets)  # a name and its line break at least
        sentinels = np.array(
            self.context.tables.codes(sentinel(position) for position in range(SENTINELS)), np.int64
        )
        corrupted, spans = _masked(
            text, sentinels, *_drawn_spans(text.lengths, self.settings.share, self.settings.mean_span, draw)
        )
        source = self.fill("source", frame, corrupted=corrupted)
        return self.made(frame, items, source, self.fill("target", frame, spans=spans))

    @cached_property
    def _units(self) -> Ragged:
        """The lines of `TaskContext.forms` cut into units."""
        tables, lines = self.context.tables, self.context.forms("line")
        known, position = np.unique(lines.values, return_inverse=True)
        cut = ragged(tables.codes(_cut(tables.pieces[code >> 1])) for code in known.tolist())
        return cut.take(position).merge_rows(lines.offsets)


def _drawn_spans(
    lengths: np.ndarray, share: float, mean_span: float, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Separate runs of texts of `lengths` [N] units, at least two each: masked and kept lengths are each a
    random composition, as T5 draws them. Other than T5's, a text may begin with a masked run or end with a
    kept one: else a single run, all there is in a short text, would always be its last units. Returns [M + K]
    whether a unit is masked and [M + K] whether a run begins there."""
    masked = np.clip(np.round(lengths * share).astype(np.int64), 1, lengths - 1)
    kept = lengths - masked
    number = np.clip(
        np.round(masked / mean_span).astype(np.int64), 1, np.minimum(np.minimum(kept, masked), SENTINELS)
    )
    gaps = _composition(kept + 2, number + 1, draw)
    bounds = offsets_of(number + 1)
    gaps[bounds[:-1]] -= (
        1  # the first and the last gap of a text may be nothing, those between two runs may not
    )
    gaps[bounds[1:] - 1] -= 1
    is_run = (
        np.arange(2 * len(gaps) - len(number)) - np.repeat(offsets_of(2 * number + 1)[:-1], 2 * number + 1)
    ) % 2 == 1
    runs = np.empty(len(is_run), np.int64)  # gap, run, gap ... run, gap of each text
    runs[is_run], runs[~is_run] = _composition(masked, number, draw), gaps
    begins = np.zeros(int(lengths.sum()), bool)
    begins[(np.cumsum(runs) - runs)[is_run]] = True
    return np.repeat(is_run, runs), begins


def _composition(totals: np.ndarray, parts: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Each of `totals` [N] as a sum of `parts` [N] positive numbers, uniformly; all summands in one row."""
    begins = np.zeros(int(totals.sum()), bool)
    first = np.cumsum(totals) - totals
    begins[np.delete(np.arange(len(begins)), first)] = sample_mask(totals - 1, parts - 1, draw)
    begins[first] = True
    return np.diff(np.append(np.flatnonzero(begins), len(begins)))


def _masked(
    text: Ragged, sentinels: np.ndarray, is_masked: np.ndarray, opens: np.ndarray
) -> tuple[Ragged, Ragged]:
    """[N] the text with a mark in place of each run, and [N] each mark and behind it, bearing loss, the
    run."""
    before = np.concatenate([[0], np.cumsum(opens)])
    sign = sentinels[
        (before[1:] - 1 - np.repeat(before[text.offsets[:-1]], text.lengths)).clip(0)
    ]  # of the unit's own or next run
    corrupted = Ragged(np.where(is_masked, sign, text.values), text.offsets).filter_values(~is_masked | opens)
    pairs = np.stack([sign, text.values + 1], axis=1)[is_masked].ravel()
    wanted = np.stack([opens, is_masked], axis=1)[is_masked].ravel()
    bounds = offsets_of(Ragged(is_masked, text.offsets).filter_values(is_masked).lengths * 2)
    return corrupted, Ragged(pairs, bounds).filter_values(wanted)


def _cut(segment: Segment) -> list[Segment]:
    """Each symbol of a name, each word of a text with the white space before it."""
    parts = split_symbols(segment.text) if segment.symbols else _WORD.findall(segment.text)
    return [Segment(part, symbols=segment.symbols) for part in parts]
