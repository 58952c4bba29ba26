"""Popularity: the same for everyone, by training counts alone."""

from __future__ import annotations

import pytest

from shelftalk.baselines.popularity import Popularity, fit_popularity
from shelftalk.data.splitting import Split
from shelftalk.errors import UnknownItem
from shelftalk.records import Filter, Request
from shelftalk.testing.exams import RankerExam, RecommenderExam, exam_split


class TestPopularityRecommends(RecommenderExam):
    def build(self, split: Split) -> Popularity:
        return fit_popularity(split)


class TestPopularityRanks(RankerExam):
    def build(self, split: Split) -> Popularity:
        return fit_popularity(split)


def test_scores_are_training_counts_and_ties_are_in_catalogue_order():
    split = exam_split()
    catalogue = split.dataset.item_ids
    (ranking,) = fit_popularity(split).recommend([Request("u", ())], len(catalogue))
    by_count = sorted(range(len(catalogue)), key=lambda row: (-split.popularity[row], row))
    assert list(ranking.items) == [catalogue[row] for row in by_count]
    assert list(ranking.scores) == sorted(split.popularity.tolist(), reverse=True)


def test_equally_popular_candidates_share_their_score():
    split = exam_split()
    twice = [item for item, count in zip(split.dataset.item_ids, split.popularity, strict=True) if count == 2]
    (ranking,) = fit_popularity(split).rank([Request("u", (), candidates=tuple(twice))])
    assert len(twice) > 1 and set(ranking.scores) == {2.0}


def test_a_filter_leaves_scores_and_order_as_they_are():
    model, tea = fit_popularity(exam_split()), Filter(categories=("Tea",))
    (everything,) = model.recommend([Request("u", ())], 120)
    (filtered,) = model.recommend([Request("u", (), filter=tea, excluded=everything.items[:30])], 120)
    passing = {item for item in everything.items[30:] if exam_split().dataset.item(item).categories == "tea"}
    kept = [pair for pair in zip(everything.items, everything.scores, strict=True) if pair[0] in passing]
    assert list(zip(filtered.items, filtered.scores, strict=True)) == kept and kept


@pytest.mark.parametrize("request_", [Request("u", ("nowhere",)), Request("u", (), candidates=("nowhere",))])
def test_an_item_outside_the_catalogue_is_named(request_: Request):
    model = fit_popularity(exam_split())
    with pytest.raises(UnknownItem, match='"nowhere" in the request of user "u"'):
        model.rank([request_]) if request_.candidates else model.recommend([request_], 5)
