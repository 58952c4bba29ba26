"""The product's one claim, in small: what masked items teach, next items do not; and wrong samples teach
nothing.

One model per mixture, at equal tokens, in a small world. About a minute and a half.
"""

import numpy as np
import polars as pl
import pytest

from shelftalk.records import Sample, Segment
from shelftalk.studies.probing.option_scores import ask
from shelftalk.studies.probing.scoring import accuracies, answers_frame, difference
from shelftalk.studies.probing.study import QUICK, SERVED, Bench, Mixture
from shelftalk.tasks.masked_items import MaskedItems
from shelftalk.tasks.samples import samples_of

pytestmark = pytest.mark.slow


class ItemsOfOthers(MaskedItems):
    """MIM gone wrong: behind each mark stands an item that was masked in somebody else's window."""

    def epoch(self, numbers, draw):
        records = list(super().epoch(numbers, draw))
        said = [segment for record in records for segment in record.segments if segment.bears_loss]
        others = iter([said[position] for position in draw.permutation(len(said)).tolist()])
        wrong = [Sample(r.task, r.template, r.user, r.items, _exchanged(r.segments, others)) for r in records]
        return samples_of(wrong, self.context.tables)


def _exchanged(segments, others):
    return tuple(next(others) if segment.bears_loss else segment for segment in segments)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Bench.make(QUICK, 0, tmp_path_factory.mktemp("bench"))


def _answers(bench, name, tasks):
    """The answers of a newly trained model to "which one goes before?", in the wording of masked items."""
    backbone, facts = bench.trained(Mixture(name, tasks))
    assert QUICK.tokens <= facts["tokens"] < QUICK.tokens + 100, (
        "every mixture reads the same number of tokens"
    )
    scores = ask(backbone, bench.found.index, bench.found.tasks, bench.questions, "masked_items")
    return answers_frame(bench.questions, scores, name, 0, "masked_items").filter(pl.col("kind") == "before")


@pytest.fixture(scope="module")
def without(bench):
    return _answers(bench, "without", SERVED)


def test_masked_items_teach_what_goes_before(bench, without):
    """Far above chance, and above the same model without them: each interval is clear."""
    with_them = _answers(bench, "with", (*SERVED, "masked_items"))
    (found,) = accuracies(with_them)
    assert found["low"] > found["chance"] + 0.2, found
    assert difference(with_them, without)["low"] > 0.15


def test_the_test_above_goes_red_where_samples_teach_no_co_occurrence(bench, without, monkeypatch):
    right = bench.found.tasks["masked_items"]
    monkeypatch.setitem(bench.found.tasks, "masked_items", ItemsOfOthers(right.settings, right.context))
    broken = _answers(bench, "broken", (*SERVED, "masked_items"))
    (found,) = accuracies(broken)
    assert found["accuracy"] < found["chance"] + 0.2, found
    assert difference(broken, without)["low"] < 0.15


def test_items_of_others_are_masked_items_with_other_answers(bench):
    task = bench.found.tasks["masked_items"]
    users = np.arange(50)
    right, wrong = (
        list(kind(task.settings, task.context).epoch(users, np.random.default_rng(0)))
        for kind in (MaskedItems, ItemsOfOthers)
    )
    blank = [[s if not s.bears_loss else Segment("?") for s in record.segments] for record in right]
    assert blank == [[s if not s.bears_loss else Segment("?") for s in record.segments] for record in wrong]
    assert right != wrong
