"""The product's one claim, in small: what masked items teach, next items do not; and wrong samples teach
nothing.

One model per mixture, at equal tokens, in a small world. About a minute and a half.
"""

import numpy as np
import polars as pl
import pytest

from shelftalk.records import Sample, Segment
from shelftalk.studies.probing.option_scores import option_scores
from shelftalk.studies.probing.scoring import accuracies, answers_frame, difference
from shelftalk.studies.probing.study import QUICK, SERVED, Mixture, PreparedWorld
from shelftalk.tasks.masked_items import MaskedItems
from shelftalk.tasks.samples import samples_of

pytestmark = pytest.mark.slow


class ItemsOfOthers(MaskedItems):
    """MIM gone wrong: the target of each sentinel is an item that was masked in another user's window."""

    def epoch(self, numbers, draw):
        records = list(super().epoch(numbers, draw))
        targets = [segment for record in records for segment in record.segments if segment.bears_loss]
        others = iter([targets[position] for position in draw.permutation(len(targets)).tolist()])
        wrong = [Sample(r.task, r.template, r.user, r.items, _exchanged(r.segments, others)) for r in records]
        return samples_of(wrong, self.context.tables)


def _exchanged(segments, others):
    return tuple(next(others) if segment.bears_loss else segment for segment in segments)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return PreparedWorld.make(QUICK, 0, tmp_path_factory.mktemp("prepared"))


def _answers(prepared, name, tasks):
    """The answers of a newly trained model to "which one goes before?", with the prompt of masked items."""
    backbone, facts = prepared.train(Mixture(name, tasks))
    assert QUICK.tokens <= facts["tokens"] < QUICK.tokens + 100, (
        "every mixture reads the same number of tokens"
    )
    scores = option_scores(
        backbone, prepared.run.index, prepared.run.tasks, prepared.questions, "masked_items"
    )
    return answers_frame(prepared.questions, scores, name, 0, "masked_items").filter(
        pl.col("kind") == "before"
    )


@pytest.fixture(scope="module")
def without(prepared):
    return _answers(prepared, "without", SERVED)


def test_masked_items_teach_what_goes_before(prepared, without):
    """Far above chance, and above the same model without them: each interval is clear."""
    with_them = _answers(prepared, "with", (*SERVED, "masked_items"))
    (row,) = accuracies(with_them)
    assert row["low"] > row["chance"] + 0.2, row
    assert difference(with_them, without)["low"] > 0.15


def test_the_test_above_goes_red_where_samples_teach_no_co_occurrence(prepared, without, monkeypatch):
    right = prepared.run.tasks["masked_items"]
    monkeypatch.setitem(prepared.run.tasks, "masked_items", ItemsOfOthers(right.settings, right.context))
    broken = _answers(prepared, "broken", (*SERVED, "masked_items"))
    (row,) = accuracies(broken)
    assert row["accuracy"] < row["chance"] + 0.2, row
    assert difference(broken, without)["low"] < 0.15


def test_items_of_others_are_masked_items_with_other_answers(prepared):
    task = prepared.run.tasks["masked_items"]
    users = np.arange(50)
    right, wrong = (
        list(kind(task.settings, task.context).epoch(users, np.random.default_rng(0)))
        for kind in (MaskedItems, ItemsOfOthers)
    )
    blank = [[s if not s.bears_loss else Segment("?") for s in record.segments] for record in right]
    assert blank == [[s if not s.bears_loss else Segment("?") for s in record.segments] for record in wrong]
    assert right != wrong
