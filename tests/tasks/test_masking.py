"""MIM and MLM: what is masked can be restored, and as much is masked as was set."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelftalk.indexing.item_index import split_symbols
from shelftalk.ragged import offsets_of
from shelftalk.records import Sample, Segment
from shelftalk.tasks.masked_items import MaskedItems, MaskedItemsSettings
from shelftalk.tasks.masked_language import MaskedLanguage, MaskedLanguageSettings, _drawn_spans
from shelftalk.tasks.sentinels import SENTINELS, all_sentinels, sentinel
from shelftalk.testing.task_exams import (
    exam_context,
    exam_index,
    training_histories,
    without_loss,
    world_split,
)
from tests.tasks.answers import FULL, answer


def halves(sample: Sample) -> tuple[list[Segment], list[Segment]]:
    """What is read, from the first item on, and what is generated, from the first sentinel on; the template
    between them apart."""
    cut = next(position for position, s in enumerate(sample.segments) if s.bears_loss) - 1
    assert sample.segments[cut] == sentinel(0)
    read = [part for segment in sample.segments[1 : cut - 1] for part in singly(segment)]
    return read, list(sample.segments[cut:])


def singly(segment: Segment) -> list[Segment]:
    """Names whole, as they are; a span with a sentinel, symbol by symbol."""
    parts = split_symbols(segment.text) if segment.symbols else []
    return (
        [Segment(part, symbols=True) for part in parts]
        if set(parts).intersection(all_sentinels())
        else [segment]
    )


def spans_of(answer: list[Segment]) -> dict[str, list[Segment]]:
    """Sentinel -> the segments after it."""
    spans: dict[str, list[Segment]] = {}
    for segment in answer:
        if segment.symbols and segment.text in all_sentinels():
            spans[segment.text] = []
        else:
            spans[list(spans)[-1]].append(segment)
    return spans


def test_unmasking_the_items_gives_back_the_history():
    split = world_split("nasty")
    task = MaskedItems(MaskedItemsSettings(**FULL, max_history=6, share=0.4), exam_context(split))
    for sample in task.samples(0):
        read, answer = halves(sample)
        after = spans_of(answer)
        restored: list[Segment] = []
        for position, segment in enumerate(read):
            if segment.text in after and segment.symbols:
                restored += after[segment.text]
            # a line break after a sentinel is not of the history
            elif not (position and read[position - 1].symbols and read[position - 1].text in after):
                restored.append(segment)
        assert without_loss(restored) == task.context.text.lines(sample.items)
        assert list(after) == all_sentinels()[: len(after)]


def test_the_share_of_masked_items_is_kept_and_at_least_one():
    split = world_split("tiny")
    for share in (0.01, 0.3, 0.9):
        for sample in MaskedItems(
            MaskedItemsSettings(**FULL, max_history=7, share=share), exam_context(split)
        ).samples(0):
            masked = len(spans_of(halves(sample)[1]))
            # at least one item is left as context
            assert masked == min(max(1, round(len(sample.items) * share)), len(sample.items) - 1)


def test_one_item_alone_is_masked_where_that_is_set_whatever_the_share():
    split = world_split("tiny")
    every = MaskedItems(MaskedItemsSettings(**FULL, max_history=8, share=0.5), exam_context(split)).samples(0)
    single = MaskedItems(
        MaskedItemsSettings(**FULL, max_history=8, share=0.5, max_masked=1), exam_context(split)
    ).samples(0)
    assert {len(spans_of(halves(sample)[1])) for sample in every} == {1, 2, 3, 4}
    for sample in single:
        assert (
            list(spans_of(halves(sample)[1])) == ["<extra_id_0>"] and sample.text.count("<extra_id_0>") == 2
        )
        name = exam_index(split).name(answer(sample, split))
        assert sum(segment.text == name for segment in sample.segments) == 1  # it is in the answer alone


def test_an_item_alone_in_its_history_is_not_masked():
    split = world_split("tiny")
    shortest = min(map(len, training_histories(split).values()))
    task = MaskedItems(MaskedItemsSettings(**FULL, max_history=2), exam_context(split))
    assert shortest > 1 and {len(sample.items) for sample in task.samples(0)} == {2}


def test_masked_items_are_drawn_from_every_position():
    split = world_split("tiny")
    task = MaskedItems(MaskedItemsSettings(**FULL, max_history=6, share=0.2), exam_context(split))
    positions: Counter[int] = Counter()
    for epoch in range(30):
        for sample in task.samples(epoch):
            if len(sample.items) == 6:
                positions[sample.items.index(answer(sample, split))] += 1
    assert set(positions) == set(range(6)) and max(positions.values()) < 1.5 * min(positions.values())


def test_putting_the_masked_spans_back_gives_the_text():
    split = world_split("nasty")
    task = MaskedLanguage(MaskedLanguageSettings(**FULL, max_history=6, share=0.3), exam_context(split))
    for sample in task.samples(0):
        read, answer = halves(sample)
        spans, restored = spans_of(answer), ""
        for segment in read:
            # a title may hold the text of a sentinel
            span = spans.get(segment.text) if segment.symbols else None
            restored += segment.text if span is None else "".join(part.text for part in span)
        assert restored == "".join(segment.text for segment in task.context.text.lines(sample.items))
        assert [s.text for s in read if s.symbols and s.text in spans] == list(spans) and all(spans.values())


def test_the_share_and_the_length_of_masked_spans_are_about_right():
    split = world_split("tiny")
    for share, mean in ((0.15, 3.0), (0.3, 1.5)):
        task = MaskedLanguage(
            MaskedLanguageSettings(**FULL, max_history=12, share=share, mean_span=mean), exam_context(split)
        )
        total, masked, number = 0, 0, 0
        for epoch in range(3):
            for sample in task.samples(epoch):
                total += sum(map(units, task.context.text.lines(sample.items)))
                spans = spans_of(halves(sample)[1])
                masked += sum(units(segment) for span in spans.values() for segment in span)
                number += len(spans)
        assert masked / total == pytest.approx(share, rel=0.1)
        assert masked / number == pytest.approx(mean, rel=0.15)


def units(segment: Segment) -> int:
    """Words of a text, a line break belonging to the word before it; symbols of a name."""
    if segment.symbols:
        return len(split_symbols(segment.text))
    return len(segment.text.split()) or 1


def drawn_spans(lengths: list[int], share: float, mean: float, seed: int) -> list[list[tuple[int, int]]]:
    """The masked spans of each text, from : to."""
    is_masked, begins = _drawn_spans(np.array(lengths), share, mean, np.random.default_rng(seed))
    assert len(is_masked) == len(begins) == sum(lengths)
    found = []
    for first, stop in zip(offsets_of(lengths), offsets_of(lengths)[1:], strict=False):
        starts = [*np.flatnonzero(is_masked[first:stop] & begins[first:stop]).tolist(), stop - first]
        ends = [
            start + int(is_masked[first + start : first + until].sum())
            for start, until in zip(starts, starts[1:], strict=False)
        ]
        assert (
            sum(end - start for start, end in zip(starts, ends, strict=False)) == is_masked[first:stop].sum()
        )
        assert all(
            is_masked[first + start : first + end].all() for start, end in zip(starts, ends, strict=False)
        )
        found.append(list(zip(starts, ends, strict=False)))
    return found


@given(
    st.lists(st.integers(2, 400), min_size=1, max_size=5),
    st.floats(0.01, 0.99),
    st.floats(1, 8),
    st.integers(0, 5),
)
@settings(max_examples=200, deadline=None)
def test_masked_spans_are_separate_and_inside_the_text(lengths, share, mean, seed):
    for length, spans in zip(lengths, drawn_spans(lengths, share, mean, seed), strict=True):
        assert 1 <= len(spans) <= SENTINELS
        assert all(start < stop for start, stop in spans) and spans[0][0] >= 0 and spans[-1][1] <= length
        assert all(before[1] < after[0] for before, after in zip(spans, spans[1:], strict=False))
        assert sum(stop - start for start, stop in spans) == min(max(1, round(length * share)), length - 1)


def test_a_single_span_is_at_every_position_of_its_text_equally_often():
    positions = Counter(start for ((start, _),) in drawn_spans([10] * 8000, 0.3, 3, 0))
    assert set(positions) == set(range(8)) and all(
        number == pytest.approx(1000, rel=0.15) for number in positions.values()
    )


def test_units_at_every_position_of_a_text_are_masked():
    masked = Counter(
        unit
        for spans in drawn_spans([12] * 8000, 0.5, 2, 0)
        for start, stop in spans
        for unit in range(start, stop)
    )
    assert set(masked) == set(range(12)) and max(masked.values()) < 2 * min(masked.values())


def test_both_words_and_single_symbols_of_names_are_masked():
    task = MaskedLanguage(MaskedLanguageSettings(**FULL), exam_context(world_split("tiny")))
    answer = [s for sample in task.samples(0) for s in sample.segments if s.bears_loss]
    assert any(s.symbols and len(split_symbols(s.text)) == 1 for s in answer) and any(
        not s.symbols for s in answer
    )


def test_there_are_a_hundred_sentinels_and_no_more():
    assert [sentinel(0).text, sentinel(99).text] == ["<extra_id_0>", "<extra_id_99>"]
    assert len(all_sentinels()) == SENTINELS == 100
    for number in (-1, 100):
        with pytest.raises(ValueError, match="sentinels 0 to 99"):
            sentinel(number)
