"""Exams: what every recommender must pass. Inherit one, override `build`, and pytest runs the rest.

    class TestMyRecommender(RecommenderExam):
        def build(self, split):
            return fit_my_recommender(split)

`build` gets a split of the tiny world and returns a finished recommender. One that chooses settings on
validation fixes them here: the choice may depend on what is held out, the answers under given settings may
not. A neural one sets `tolerance`, by how much the same score may differ between batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Generic, TypeVar, cast

import numpy as np
import pytest

from shelftalk.data.splitting import Split, SplitSettings, split_leave_one_out
from shelftalk.errors import SettingsError, UnknownItem, UnknownLabel
from shelftalk.recommender import Explainer, FindsSimilar, Ranker, Rater, Recommender
from shelftalk.records import Filter, Ranking, Request
from shelftalk.testing.worlds import replace_held_out, tiny_world

T = TypeVar("T")
UNKNOWN_USER = "a user not in the data"
FILTERS = (
    Filter(categories=("tea", "lamps")),
    Filter(brands=("Ostara",)),
    Filter(min_price=5.0, max_price=60.0),
    Filter(categories=("boots", "paints", "drums"), brands=("Northwind",), max_price=80.0),
)
"""Filters of the tiny world that pass 30, 30, 66 and 10 of its items."""


@cache
def exam_split() -> Split:
    """The tiny world, split as usual."""
    return split_leave_one_out(tiny_world(), SplitSettings(), seed=0)


@cache
def _build(exam: Any, held_out_replaced: bool) -> object:
    """Each exam builds twice, not once per test."""
    split = exam_split()
    return exam().build(replace_held_out(split, seed=1) if held_out_replaced else split)


class _Exam(Generic[T]):
    """What the exams share: a recommender built on the tiny world, and built again with everything
    held out replaced."""

    tolerance: float = 0.0
    """Largest difference between two scores that still count as the same; 0 requires identical answers."""

    def build(self, split: Split) -> T:
        """Override: fit on the split and return the finished recommender."""
        raise NotImplementedError("an exam needs a build(split) that returns the recommender to test")

    @property
    def built(self) -> T:
        exam: Any = type(self)
        return cast(T, _build(exam, False))

    @property
    def built_with_held_out_replaced(self) -> T:
        exam: Any = type(self)
        return cast(T, _build(exam, True))

    def check_same(self, first: Sequence[Ranking], second: Sequence[Ranking]) -> None:
        """Equal users and scores in order; equal items too, but for neighbours closer than the tolerance."""
        assert [ranking.user for ranking in first] == [ranking.user for ranking in second]
        for one, other in zip(first, second, strict=True):
            assert len(one.items) == len(other.items), one.user
            assert np.allclose(one.scores, other.scores, rtol=0, atol=self.tolerance), one.user
            score = dict(zip(other.items, other.scores, strict=True))
            last = min(other.scores, default=0.0)
            moved = [
                abs(value - score.get(item, last)) for item, value in zip(one.items, one.scores, strict=True)
            ]
            assert max(moved, default=0.0) <= self.tolerance, one.user
            assert self.tolerance or one.items == other.items, one.user


def eligible_items(request: Request) -> set[str]:
    """The items of the tiny world that pass the request's filter, without its history and excluded items;
    item by item, in plain Python."""
    data, given = exam_split().dataset, request.filter or Filter()
    eligible = set(data.item_ids).difference(request.history, request.excluded)
    if given.only is not None:
        eligible &= set(given.only)
    items = [data.item(item) for item in eligible]
    low = -np.inf if given.min_price is None else given.min_price
    high = np.inf if given.max_price is None else given.max_price
    any_price = given.min_price is None and given.max_price is None
    return {
        item.id
        for item in items
        if (not given.categories or item.categories in given.categories)
        and (not given.brands or item.brand in given.brands)
        and (any_price or (item.price is not None and low <= item.price <= high))
    }


class RecommenderExam(_Exam[Recommender]):
    """Retrieval: promises of `Recommender.recommend`."""

    def requests(self) -> list[Request]:
        """Twenty of the test requests; override for a slow recommender."""
        return exam_split().retrieval_requests("test")[0][:20]

    def test_it_has_a_name(self) -> None:
        assert isinstance(self.built.name, str) and self.built.name

    def test_answers_hold_k_distinct_items_of_the_catalogue(self) -> None:
        catalogue = set(exam_split().dataset.item_ids)
        for ranking in self.built.recommend(self.requests(), 10):
            assert len(ranking.items) == len(set(ranking.items)) == 10
            assert catalogue.issuperset(ranking.items)

    def test_nothing_from_the_history_is_recommended(self) -> None:
        requests = self.requests()
        for request, ranking in zip(requests, self.built.recommend(requests, 20), strict=True):
            assert not set(request.history).intersection(ranking.items)

    def test_scores_are_numbers_that_never_increase(self) -> None:
        for ranking in self.built.recommend(self.requests(), 20):
            assert np.isfinite(ranking.scores).all()
            assert (np.diff(ranking.scores) <= 0).all()

    def test_the_same_requests_get_the_same_answers(self) -> None:
        assert self.built.recommend(self.requests(), 10) == self.built.recommend(self.requests(), 10)

    def test_answers_keep_the_order_of_the_requests(self) -> None:
        requests = self.requests()[::-1]
        assert [ranking.user for ranking in self.built.recommend(requests, 5)] == [
            request.user for request in requests
        ]

    def test_an_answer_does_not_depend_on_the_batch_around_it(self) -> None:
        requests = self.requests()
        one_by_one = [self.built.recommend([request], 10)[0] for request in requests[:7]]
        self.check_same(self.built.recommend(requests, 10)[:7], one_by_one)
        self.check_same(self.built.recommend(requests[::-1], 10)[::-1][:7], one_by_one)

    def test_no_requests_get_no_answers(self) -> None:
        assert self.built.recommend([], 10) == []

    def test_an_unknown_user_is_answered_from_the_history(self) -> None:
        request = replace(self.requests()[0], user=UNKNOWN_USER)
        (ranking,) = self.built.recommend([request], 10)
        assert ranking.user == UNKNOWN_USER and len(set(ranking.items).difference(request.history)) == 10

    def test_an_empty_history_is_answered(self) -> None:
        (ranking,) = self.built.recommend([Request(UNKNOWN_USER, ())], 10)
        assert len(set(ranking.items)) == 10

    def test_k_beyond_what_is_left_returns_what_is_left(self) -> None:
        catalogue = exam_split().dataset.item_ids
        nearly_all = Request(UNKNOWN_USER, tuple(catalogue[:-3]))
        (ranking,) = self.built.recommend([nearly_all], 10)
        assert sorted(ranking.items) == sorted(catalogue[-3:])
        assert self.built.recommend([Request(UNKNOWN_USER, tuple(catalogue))], 10)[0].items == ()

    def test_a_short_list_is_the_head_of_a_long_one(self) -> None:
        requests = self.requests()
        heads = [
            Ranking(long.user, long.items[:1], long.scores[:1]) for long in self.built.recommend(requests, 10)
        ]
        self.check_same(self.built.recommend(requests, 1), heads)

    def test_replacing_all_that_is_held_out_changes_no_answer(self) -> None:
        requests = self.requests()
        self.check_same(
            self.built.recommend(requests, 20), self.built_with_held_out_replaced.recommend(requests, 20)
        )

    def test_a_filter_is_kept_to_and_costs_no_answers(self) -> None:
        """Requests of different filters, and of none, in one batch."""
        filters = [*FILTERS, None]
        requests = [replace(r, filter=filters[n % len(filters)]) for n, r in enumerate(self.requests()[:10])]
        for request, ranking in zip(requests, self.built.recommend(requests, 10), strict=True):
            assert eligible_items(request).issuperset(ranking.items)
            assert len(ranking.items) == len(set(ranking.items)) == min(10, len(eligible_items(request)))
            assert np.isfinite(ranking.scores).all() and (np.diff(ranking.scores) <= 0).all()

    def test_an_answer_does_not_depend_on_the_filters_around_it(self) -> None:
        requests = [replace(r, filter=wanted) for r, wanted in zip(self.requests(), FILTERS, strict=False)]
        one_by_one = [self.built.recommend([request], 5)[0] for request in requests]
        self.check_same(self.built.recommend([*requests, *self.requests()], 5)[: len(requests)], one_by_one)

    def test_excluded_items_do_not_come_back_and_others_stand_in(self) -> None:
        requests = self.requests()[:5]
        excluding = [
            replace(r, excluded=first.items)
            for r, first in zip(requests, self.built.recommend(requests, 5), strict=True)
        ]
        for request, ranking in zip(excluding, self.built.recommend(excluding, 10), strict=True):
            assert eligible_items(request).issuperset(ranking.items) and len(set(ranking.items)) == 10

    def test_a_filter_that_leaves_fewer_than_k_gets_all_of_them(self) -> None:
        for left in (9, 3, 1):
            (ranking,) = self.built.recommend([self.request_leaving(left)], 10)
            assert (
                sorted(ranking.items) == sorted(eligible_items(self.request_leaving(left)))
                and len(ranking.items) == left
            )
            assert np.isfinite(ranking.scores).all()

    def test_a_request_that_leaves_nothing_gets_an_empty_ranking(self) -> None:
        first, second = self.requests()[:2]
        contradiction = Filter(categories=("tea",), brands=("Halden",))  # every tea is of Northwind
        all_excluded = replace(first, filter=Filter(only=second.history), excluded=second.history)
        only_seen = replace(first, filter=Filter(only=first.history))
        empty = [self.request_leaving(0), only_seen, replace(first, filter=contradiction), all_excluded]
        assert self.built.recommend(empty, 10) == [Ranking(first.user, (), ())] * 4
        full, none, also_full = self.built.recommend([first, only_seen, second], 10)
        assert none == Ranking(first.user, (), ()) and len(full.items) == len(also_full.items) == 10

    def test_unknown_items_in_a_request_are_named(self) -> None:
        first = self.requests()[0]
        unknown = (
            replace(first, history=("nowhere",), ratings=()),
            replace(first, excluded=("nowhere",)),
            replace(first, filter=Filter(only=("nowhere",))),
        )
        for wrong in unknown:
            with pytest.raises(UnknownItem, match='"nowhere"'):
                self.built.recommend([first, wrong], 5)
        with pytest.raises(UnknownLabel, match='"teas".*did you mean "tea"'):
            self.built.recommend([replace(first, filter=Filter(categories=("teas",)))], 5)

    def test_what_is_no_number_of_items_is_refused(self) -> None:
        for k in (-1, 2.0, "10", None, True):
            with pytest.raises(SettingsError, match=f"k={k!r}"):
                self.built.recommend(self.requests()[:1], cast(int, k))

    def test_a_number_of_items_may_be_numpys(self) -> None:
        assert self.built.recommend(self.requests()[:1], cast(int, np.int64(3))) == self.built.recommend(
            self.requests()[:1], 3
        )

    def request_leaving(self, count: int) -> Request:
        """The first request with a filter and exclusions that leave `count` items; the filter passes
        its history too."""
        first = self.requests()[0]
        free = [item for item in exam_split().dataset.item_ids if item not in first.history]
        return replace(
            first, filter=Filter(only=(*free[: count + 2], *first.history)), excluded=tuple(free[:2])
        )


class RankerExam(_Exam[Ranker]):
    """Ranking: promises of `Ranker.rank`."""

    def requests(self) -> list[Request]:
        """Twenty of the test requests; override for a slow ranker."""
        return exam_split().ranking_requests("test")[0][:20]

    def test_answers_hold_exactly_the_candidates(self) -> None:
        requests = self.requests()
        for request, ranking in zip(requests, self.built.rank(requests), strict=True):
            assert ranking.user == request.user
            assert sorted(ranking.items) == sorted(request.candidates)

    def test_candidate_scores_are_numbers_that_never_increase(self) -> None:
        for ranking in self.built.rank(self.requests()):
            assert np.isfinite(ranking.scores).all()
            assert (np.diff(ranking.scores) <= 0).all()

    def test_the_same_candidates_get_the_same_ranking(self) -> None:
        assert self.built.rank(self.requests()) == self.built.rank(self.requests())

    def test_a_ranking_does_not_depend_on_the_batch_around_it(self) -> None:
        requests = self.requests()
        one_by_one = [self.built.rank([request])[0] for request in requests[:7]]
        self.check_same(self.built.rank(requests)[:7], one_by_one)
        self.check_same(self.built.rank(requests[::-1])[::-1][:7], one_by_one)

    def test_few_candidates_are_ranked_too(self) -> None:
        request = self.requests()[0]
        for count in (1, 2):
            (ranking,) = self.built.rank([replace(request, candidates=request.candidates[:count])])
            assert sorted(ranking.items) == sorted(request.candidates[:count])

    def test_an_unknown_user_and_an_empty_history_are_ranked(self) -> None:
        request = self.requests()[0]
        for changed in (
            replace(request, user=UNKNOWN_USER),
            Request(UNKNOWN_USER, (), candidates=request.candidates),
        ):
            (ranking,) = self.built.rank([changed])
            assert sorted(ranking.items) == sorted(request.candidates)

    def test_a_candidate_that_is_given_twice_comes_back_twice(self) -> None:
        request = self.requests()[0]
        twice = replace(request, candidates=(*request.candidates[:4], *request.candidates[:2]))
        (ranking,) = self.built.rank([twice])
        assert sorted(ranking.items) == sorted(twice.candidates)

    def test_no_candidates_get_an_empty_ranking(self) -> None:
        first, second = self.requests()[:2]
        bare = replace(first, candidates=())
        assert self.built.rank([bare]) == [Ranking(first.user, (), ())]
        none, full = self.built.rank([bare, second])
        assert none.items == () and sorted(full.items) == sorted(second.candidates)

    def test_unknown_items_among_candidates_and_history_are_named(self) -> None:
        first = self.requests()[0]
        unknown = (
            replace(first, candidates=(*first.candidates, "nowhere")),
            replace(first, history=("nowhere",), ratings=()),
        )
        for wrong in unknown:
            with pytest.raises(UnknownItem, match='"nowhere"'):
                self.built.rank([first, wrong])

    def test_no_requests_get_no_rankings(self) -> None:
        assert self.built.rank([]) == []

    def test_candidates_are_ranked_whatever_may_come_back(self) -> None:
        request = self.requests()[0]
        bound = replace(request, filter=Filter(only=()), excluded=request.candidates[:3])
        self.check_same(self.built.rank([bound]), self.built.rank([request]))

    def test_replacing_all_that_is_held_out_changes_no_ranking(self) -> None:
        requests = self.requests()
        self.check_same(self.built.rank(requests), self.built_with_held_out_replaced.rank(requests))


class RaterExam(_Exam[Rater]):
    """Rating prediction: promises of `Rater.rate`."""

    def requests(self) -> list[Request]:
        """Twenty of the test requests; override for a slow rater."""
        return exam_split().rating_requests("test")[0][:20]

    def check_close(self, first: Sequence[float], second: Sequence[float]) -> None:
        assert len(first) == len(second)
        assert np.allclose(first, second, rtol=0, atol=self.tolerance)

    def test_there_is_one_estimate_per_request_on_the_scale_of_the_data(self) -> None:
        values = exam_split().dataset.rating_values
        estimates = self.built.rate(self.requests())
        assert len(estimates) == len(self.requests())
        assert all(
            isinstance(estimate, float) and values[0] <= estimate <= values[-1] for estimate in estimates
        )

    def test_the_same_requests_get_the_same_estimates(self) -> None:
        assert self.built.rate(self.requests()) == self.built.rate(self.requests())

    def test_an_estimate_does_not_depend_on_the_batch_around_it(self) -> None:
        requests = self.requests()
        one_by_one = [self.built.rate([request])[0] for request in requests]
        self.check_close(self.built.rate(requests), one_by_one)
        self.check_close(self.built.rate(requests[::-1])[::-1], one_by_one)

    def test_unknown_items_to_rate_and_in_the_history_are_named(self) -> None:
        first = self.requests()[0]
        for wrong in (replace(first, item="nowhere"), replace(first, history=("nowhere",), ratings=())):
            with pytest.raises(UnknownItem, match='"nowhere"'):
                self.built.rate([first, wrong])

    def test_nan_means_an_unknown_rating_as_none_does(self) -> None:
        request = max(self.requests(), key=lambda request: len(request.history))
        known = tuple(exam_split().dataset.rating_values[-1] for _ in request.history)
        unknown = [
            replace(request, user=UNKNOWN_USER, ratings=(gap, *known[1:])) for gap in (float("nan"), None)
        ]
        with_nan, with_none = (self.built.rate([changed]) for changed in unknown)
        assert with_nan == with_none and np.isfinite(with_nan).all()

    def test_no_requests_get_no_estimates(self) -> None:
        assert self.built.rate([]) == []

    def test_an_unknown_user_is_rated_with_and_without_ratings_shown(self) -> None:
        values = exam_split().dataset.rating_values
        request = max(self.requests(), key=lambda request: len(request.history))
        bare = Request(UNKNOWN_USER, request.history, item=request.item)
        for changed in (
            replace(request, user=UNKNOWN_USER),
            bare,
            Request(UNKNOWN_USER, (), item=request.item),
        ):
            (estimate,) = self.built.rate([changed])
            assert values[0] <= estimate <= values[-1]

    def test_replacing_all_that_is_held_out_changes_no_estimate(self) -> None:
        self.check_close(
            self.built.rate(self.requests()), self.built_with_held_out_replaced.rate(self.requests())
        )


class FindsSimilarExam(_Exam[FindsSimilar]):
    """Similar items: promises of `FindsSimilar.similar`."""

    @property
    def item(self) -> str:
        """One whose neighbours are asked for."""
        return exam_split().dataset.item_ids[7]

    def test_neighbours_are_k_other_items_nearest_first(self) -> None:
        ranking = self.built.similar(self.item, 10)
        assert ranking.user == "" and len(ranking.items) == len(set(ranking.items)) == 10
        assert set(ranking.items) <= set(exam_split().dataset.item_ids) - {self.item}
        assert np.isfinite(ranking.scores).all() and list(ranking.scores) == sorted(ranking.scores)[::-1]

    def test_a_short_list_of_neighbours_is_the_head_of_a_long_one(self) -> None:
        short, long = self.built.similar(self.item, 3), self.built.similar(self.item, 10)
        assert short.items == long.items[:3] and self.built.similar(self.item, 0).items == ()

    def test_there_are_never_more_neighbours_than_other_items(self) -> None:
        items = exam_split().dataset.item_ids
        assert set(self.built.similar(self.item, len(items) + 5).items) == {*items} - {self.item}

    def test_neighbours_of_an_unknown_item_and_a_wrong_k_are_refused(self) -> None:
        with pytest.raises(UnknownItem, match="no such item"):
            self.built.similar("no such item", 3)
        with pytest.raises(SettingsError):
            self.built.similar(self.item, -1)


class ExplainerExam(_Exam[Explainer]):
    """Why: promises of `Explainer.why`."""

    def score(self, history: Sequence[str], item: str) -> float:
        """Override where the model's `recommend` gives other scores than `why` does."""
        recommender = cast(Recommender, self.built)
        (ranking,) = recommender.recommend([Request("", tuple(history))], len(exam_split().dataset.item_ids))
        return dict(zip(ranking.items, ranking.scores, strict=True))[item]

    def case(self) -> tuple[tuple[str, ...], str]:
        """A history of four items, and the item that is recommended first after it."""
        history = tuple(exam_split().dataset.item_ids[20:24])
        (ranking,) = cast(Recommender, self.built).recommend([Request("", history)], 1)
        return history, ranking.items[0]

    def test_every_fall_is_that_of_the_score_without_the_entry(self) -> None:
        history, item = self.case()
        answer = self.built.why(history, item)
        tolerance = max(self.tolerance, 1e-6)
        assert answer.item == item and answer.score == pytest.approx(self.score(history, item), abs=tolerance)
        assert tuple(one.entry for one in answer.contributions) == history
        for position, one in enumerate(answer.contributions):
            without = self.score(history[:position] + history[position + 1 :], item)
            assert one.fall == pytest.approx(answer.score - without, abs=tolerance), position

    def test_an_empty_history_has_no_contribution(self) -> None:
        item = exam_split().dataset.item_ids[3]
        answer = self.built.why((), item)
        assert answer.contributions == () and np.isfinite(answer.score)

    def test_an_item_that_is_unknown_cannot_be_explained(self) -> None:
        history, item = self.case()
        for given, asked in (((*history, "no such item"), item), (history, "no such item")):
            with pytest.raises(UnknownItem, match="no such item"):
                self.built.why(given, asked)
