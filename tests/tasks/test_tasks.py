"""The six tasks about users: each passes the exam, under its usual settings and others, and makes samples of
small worlds."""

from __future__ import annotations

import polars as pl
import pytest

from shelftalk.data.dataset import make_dataset
from shelftalk.data.splitting import Split, SplitSettings, split_leave_one_out
from shelftalk.records import Request, Sample
from shelftalk.tasks import task as task_module
from shelftalk.tasks.item_text import TextSettings
from shelftalk.tasks.masked_items import MaskedItems, MaskedItemsSettings
from shelftalk.tasks.masked_language import MaskedLanguage, MaskedLanguageSettings
from shelftalk.tasks.pairwise_preference import PairwisePreference, PairwisePreferenceSettings
from shelftalk.tasks.ranking import RankingSettings, RankingTask
from shelftalk.tasks.rating import RatingSettings, RatingTask
from shelftalk.tasks.retrieval import RetrievalSettings, RetrievalTask
from shelftalk.tasks.task import TaskContext
from shelftalk.testing.task_exams import (
    ServedTaskExam,
    TaskExam,
    exam_context,
    training_histories,
    world_split,
)
from tests.tasks.answers import FULL, answer, visible_ratings

# --- exams
# -----------------------------------------------------------------------------------------------------------


class TestRetrieval(ServedTaskExam):
    def build(self, context: TaskContext) -> RetrievalTask:
        return RetrievalTask(RetrievalSettings(**FULL, max_history=5), context)

    def request_of(self, sample: Sample, split: Split) -> Request:
        return Request(sample.user, sample.items[:-1])


class TestRetrievalOfLastItems(TestRetrieval):
    def build(self, context: TaskContext) -> RetrievalTask:
        return RetrievalTask(RetrievalSettings(**FULL, max_history=5, targets=1), context)


class TestRanking(ServedTaskExam):
    draws_negatives = True

    def build(self, context: TaskContext) -> RankingTask:
        return RankingTask(RankingSettings(**FULL, max_history=5, max_negatives=9), context)

    def requests(self, split: Split) -> list[Request]:
        return split.ranking_requests("validation")[0]

    def request_of(self, sample: Sample, split: Split) -> Request:
        taken = training_histories(split)[sample.user]
        position = taken.index(answer(sample, split))
        shown = len(taken[max(0, position - 5) : position])
        return Request(sample.user, tuple(taken[:position]), candidates=sample.items[shown:])


class TestRankingOfHardNegatives(TestRanking):
    def build(self, context: TaskContext) -> RankingTask:
        kinds = ("popular", "category", "neighbour")
        return RankingTask(RankingSettings(**FULL, max_history=5, max_negatives=9, negatives=kinds), context)


class TestRating(ServedTaskExam):
    def build(self, context: TaskContext) -> RatingTask:
        return RatingTask(RatingSettings(**FULL, max_history=5), context)

    def requests(self, split: Split) -> list[Request]:
        return split.rating_requests("validation")[0]

    def request_of(self, sample: Sample, split: Split) -> Request:
        known = visible_ratings(split)
        ratings = tuple(known.get((sample.user, item)) for item in sample.items[:-1])
        return Request(sample.user, sample.items[:-1], ratings, item=sample.items[-1])


class TestRatingOfHistoriesWithoutRatings(TestRating):
    def build(self, context: TaskContext) -> RatingTask:
        return RatingTask(RatingSettings(**FULL, max_history=5, show_ratings=False), context)


class TestMaskedItems(TaskExam):
    def build(self, context: TaskContext) -> MaskedItems:
        return MaskedItems(MaskedItemsSettings(**FULL, max_history=6), context)


class TestOneMaskedItem(TaskExam):
    def build(self, context: TaskContext) -> MaskedItems:
        return MaskedItems(MaskedItemsSettings(**FULL, max_history=6, max_masked=1), context)


class TestMaskedLanguage(TaskExam):
    def build(self, context: TaskContext) -> MaskedLanguage:
        return MaskedLanguage(MaskedLanguageSettings(**FULL, max_history=6), context)


class TestPairwisePreference(TaskExam):
    draws_negatives = True

    def build(self, context: TaskContext) -> PairwisePreference:
        return PairwisePreference(PairwisePreferenceSettings(**FULL, max_history=4, questions=2), context)


class TestPairwisePreferenceOfHardNegatives(TestPairwisePreference):
    def build(self, context: TaskContext) -> PairwisePreference:
        kinds = ("popular", "category", "neighbour")
        return PairwisePreference(
            PairwisePreferenceSettings(**FULL, max_history=4, questions=2, negatives=kinds), context
        )


# --- the same where users are named
# ----------------------------------------------------------------------------------


class TestRetrievalNamingUsers(TestRetrieval):
    text = TextSettings(user_ids=True)


class TestRankingNamingUsers(TestRanking):
    text = TextSettings(user_ids=True)


class TestRatingNamingUsers(TestRating):
    text = TextSettings(user_ids=True)


class TestMaskedItemsNamingUsers(TestMaskedItems):
    text = TextSettings(user_ids=True)


class TestPairwisePreferenceNamingUsers(TestPairwisePreference):
    text = TextSettings(user_ids=True)


# --- the same, few users at a time
# -----------------------------------------------------------------------------------


@pytest.fixture
def few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_module, "CHUNK", 7)


@pytest.mark.usefixtures("few_at_a_time")
class TestRetrievalInChunks(TestRetrieval):
    pass


@pytest.mark.usefixtures("few_at_a_time")
class TestRankingInChunks(TestRanking):
    pass


@pytest.mark.usefixtures("few_at_a_time")
class TestRatingInChunks(TestRating):
    pass


@pytest.mark.usefixtures("few_at_a_time")
class TestMaskedItemsInChunks(TestMaskedItems):
    pass


@pytest.mark.usefixtures("few_at_a_time")
class TestMaskedLanguageInChunks(TestMaskedLanguage):
    pass


@pytest.mark.usefixtures("few_at_a_time")
class TestPairwisePreferenceInChunks(TestPairwisePreference):
    pass


# --- small and hostile worlds
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("events", [3, 4])
def test_users_of_one_or_two_training_events_make_samples_of_every_task(events):
    rows = [(f"u{u}", f"i{(u + n) % 9}", n, float(1 + (u + n) % 5)) for u in range(30) for n in range(events)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "position", "rating"], orient="row")
    data = make_dataset(pl.DataFrame({"item_id": [f"i{n}" for n in range(9)]}), frame)
    split = split_leave_one_out(data, SplitSettings(ranking_negatives=3), seed=0)
    context = exam_context(split)
    for task in (
        RetrievalTask(RetrievalSettings(**FULL), context),
        RankingTask(RankingSettings(**FULL), context),
        RatingTask(RatingSettings(**FULL), context),
        MaskedItems(MaskedItemsSettings(**FULL), context),
        MaskedLanguage(MaskedLanguageSettings(**FULL), context),
        PairwisePreference(PairwisePreferenceSettings(**FULL), context),
    ):
        samples = task.samples(0)
        assert all(any(s.bears_loss for s in sample.segments) for sample in samples)
        # a single item has no context to be inferred from: alone it is not masked
        assert bool(samples) == (task.name != "masked_items" or events > 3)


def test_braces_in_titles_are_left_alone():
    split = world_split("nasty")
    row = split.dataset.items.filter(pl.col("title").str.starts_with("{history}"))["item_id"][0]
    task = RetrievalTask(RetrievalSettings(**FULL), exam_context(split))
    text = "".join(segment.text for segment in task.prompt(Request("", (row,)), task.seen[0]))
    assert "{history} {{item}} {0} {} %s ${title} {{ items | first }}" in text
