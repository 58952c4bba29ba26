"""The exams themselves: each broken promise fails the check that is named for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest

from shelftalk.baselines.popularity import Popularity, fit_popularity
from shelftalk.data.splitting import Split
from shelftalk.records import Filter, Ranking, Request
from shelftalk.testing.exams import RankerExam, RaterExam, RecommenderExam, eligible_items

Spoil = Callable[[Split, Sequence[Request], list[Ranking]], list[Ranking]]


@dataclass(frozen=True, eq=False)
class Spoiled:
    """Popularity with its answers spoiled."""

    split: Split
    inner: Popularity
    spoil: Spoil
    name: str = "spoiled"

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranking]:
        return self.spoil(self.split, requests, self.inner.recommend(requests, k))

    def rank(self, requests: Sequence[Request]) -> list[Ranking]:
        return self.spoil(self.split, requests, self.inner.rank(requests))


def repeat_an_item(split: Split, requests: Sequence[Request], answers: list[Ranking]) -> list[Ranking]:
    return [replace(a, items=(*a.items[:-1], *a.items[:1])) for a in answers]


def offer_the_history(split: Split, requests: Sequence[Request], answers: list[Ranking]) -> list[Ranking]:
    return [replace(a, items=(*a.items[:-1], r.history[0])) for r, a in zip(requests, answers, strict=True)]


def raise_the_last_score(split: Split, requests: Sequence[Request], answers: list[Ranking]) -> list[Ranking]:
    return [replace(a, scores=(*a.scores[:-1], 1e9)) for a in answers]


def forget_the_order(split: Split, requests: Sequence[Request], answers: list[Ranking]) -> list[Ranking]:
    return sorted(answers, key=lambda answer: answer.user)


def add_the_batch_size(split: Split, requests: Sequence[Request], answers: list[Ranking]) -> list[Ranking]:
    return [replace(a, scores=tuple(score + len(answers) for score in a.scores)) for a in answers]


def count_what_is_held_out(
    split: Split, requests: Sequence[Request], answers: list[Ranking]
) -> list[Ranking]:
    first = split.dataset.event_item[split.event_part != 0].tolist()[0]
    return [replace(a, scores=tuple(score + first for score in a.scores)) for a in answers]


@pytest.mark.parametrize(
    ("spoil", "check"),
    [
        (repeat_an_item, RecommenderExam.test_answers_hold_k_distinct_items_of_the_catalogue),
        (offer_the_history, RecommenderExam.test_nothing_from_the_history_is_recommended),
        (raise_the_last_score, RecommenderExam.test_scores_are_numbers_that_never_increase),
        (forget_the_order, RecommenderExam.test_answers_keep_the_order_of_the_requests),
        (add_the_batch_size, RecommenderExam.test_an_answer_does_not_depend_on_the_batch_around_it),
        (count_what_is_held_out, RecommenderExam.test_replacing_all_that_is_held_out_changes_no_answer),
        (repeat_an_item, RankerExam.test_answers_hold_exactly_the_candidates),
        (raise_the_last_score, RankerExam.test_candidate_scores_are_numbers_that_never_increase),
        (add_the_batch_size, RankerExam.test_a_ranking_does_not_depend_on_the_batch_around_it),
        (count_what_is_held_out, RankerExam.test_replacing_all_that_is_held_out_changes_no_ranking),
    ],
)
def test_a_broken_promise_fails_its_check(spoil: Spoil, check: Callable):
    base = RankerExam if check.__qualname__.startswith("RankerExam") else RecommenderExam

    class Exam(base):  # made anew for each case, since the exams build once per class
        def build(self, split: Split) -> Spoiled:
            return Spoiled(split, fit_popularity(split), spoil)

    with pytest.raises(AssertionError):
        check(Exam())


@dataclass(frozen=True, eq=False)
class Careless:
    """Popularity that reads its requests wrongly."""

    inner: Popularity
    misread: Callable[[Sequence[Request]], list[Request]]
    afterwards: bool = False
    name: str = "careless"

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranking]:
        answers = self.inner.recommend(self.misread(requests), k)
        return [_kept(r, a) for r, a in zip(requests, answers, strict=True)] if self.afterwards else answers


def _kept(request: Request, answer: Ranking) -> Ranking:
    """The eligible items, filtered only after the search."""
    kept = [
        (item, score)
        for item, score in zip(answer.items, answer.scores, strict=True)
        if item in eligible_items(request)
    ]
    return Ranking(answer.user, tuple(item for item, _ in kept), tuple(score for _, score in kept))


def without_filter(requests: Sequence[Request]) -> list[Request]:
    return [replace(request, filter=None) for request in requests]


def without_exclusion(requests: Sequence[Request]) -> list[Request]:
    return [replace(request, excluded=()) for request in requests]


def with_the_first_filter(requests: Sequence[Request]) -> list[Request]:
    return [replace(request, filter=requests[0].filter) for request in requests]


def with_anything_where_nothing_is_left(requests: Sequence[Request]) -> list[Request]:
    return [request if eligible_items(request) else replace(request, filter=None) for request in requests]


def with_known_labels(requests: Sequence[Request]) -> list[Request]:
    return [
        replace(r, filter=Filter(only=())) if r.filter and "teas" in r.filter.categories else r
        for r in requests
    ]


@pytest.mark.parametrize(
    ("misread", "afterwards", "check"),
    [
        (without_filter, False, RecommenderExam.test_a_filter_is_kept_to_and_costs_no_answers),
        (without_filter, True, RecommenderExam.test_a_filter_is_kept_to_and_costs_no_answers),
        (
            with_the_first_filter,
            False,
            RecommenderExam.test_an_answer_does_not_depend_on_the_filters_around_it,
        ),
        (without_exclusion, False, RecommenderExam.test_excluded_items_do_not_come_back_and_others_stand_in),
        (without_exclusion, True, RecommenderExam.test_excluded_items_do_not_come_back_and_others_stand_in),
        (without_exclusion, False, RecommenderExam.test_a_filter_that_leaves_fewer_than_k_gets_all_of_them),
        (
            with_anything_where_nothing_is_left,
            False,
            RecommenderExam.test_a_request_that_leaves_nothing_gets_an_empty_ranking,
        ),
        (with_known_labels, False, RecommenderExam.test_unknown_items_in_a_request_are_named),
    ],
)
def test_a_recommender_that_misreads_its_requests_fails_its_check(
    misread: Callable, afterwards: bool, check: Callable
):
    class Exam(RecommenderExam):
        def build(self, split: Split) -> Careless:
            return Careless(fit_popularity(split), misread, afterwards)

    try:
        check(Exam())
    except (AssertionError, pytest.fail.Exception):
        return
    pytest.fail(f"{check.__name__} found nothing")


def test_a_rater_that_reads_held_out_ratings_or_leaves_the_scale_fails():
    @dataclass(frozen=True)
    class Constant:
        value: float
        name: str = "constant"

        def rate(self, requests: Sequence[Request]) -> list[float]:
            return [self.value] * len(requests)

    class Leaky(RaterExam):
        def build(self, split: Split) -> Constant:
            return Constant(float(split.dataset.event_rating[split.rating_part != 0].mean()))

    class OffScale(RaterExam):
        def build(self, split: Split) -> Constant:
            return Constant(17.0)

    with pytest.raises(AssertionError):
        Leaky().test_replacing_all_that_is_held_out_changes_no_estimate()
    with pytest.raises(AssertionError):
        OffScale().test_there_is_one_estimate_per_request_on_the_scale_of_the_data()


def test_scores_within_the_tolerance_may_swap_neighbours_and_no_more():
    class Loose(RecommenderExam):
        tolerance = 0.01

    one, swapped = Ranking("u", ("a", "b"), (1.0, 0.995)), Ranking("u", ("b", "a"), (1.0, 0.995))
    Loose().check_same([one], [swapped])
    for exam, other in ((RecommenderExam(), swapped), (Loose(), Ranking("u", ("a", "b"), (1.0, 0.9)))):
        with pytest.raises(AssertionError):
            exam.check_same([one], [other])
