"""Beam search, exact search and scoring against brute force and against a plain search in Python loops, over
random catalogues."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_model import TableBackbone, TablePrefilled

from shelftalk.decoding import scoring
from shelftalk.decoding.beam_search import beam_search
from shelftalk.decoding.catalogue_scores import score_catalogue
from shelftalk.decoding.exact_search import exact_top
from shelftalk.decoding.exclusions import Exclusions
from shelftalk.decoding.item_trie import Trie, build_trie
from shelftalk.decoding.live_trie import LiveTrie
from shelftalk.decoding.scoring import score_items
from shelftalk.decoding.settings import OVER_VOCABULARY, Softmax
from shelftalk.decoding.top_items import TopItems, top_items
from shelftalk.errors import IllegalMove

END = 11
EXACT = 1e-9  # nats; the table model is float64
NAMES = st.lists(st.lists(st.integers(0, 3), max_size=6).map(tuple), min_size=1, max_size=40, unique=True)
CATALOGUES = NAMES.map(lambda names: [(*name, END) for name in names])
"""Many shared prefixes, many names that begin others, single items; each closed by an end token."""


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[tuple[int, ...]], Trie, TablePrefilled, list[set[int]], Exclusions]:
    """Names, their trie (some of them added to it later, or not), prompts with what probabilities are over,
    what each may not be given, and that as Exclusions."""
    names = draw(CATALOGUES)
    built = draw(st.integers(1, len(names)))
    trie: Trie = (
        LiveTrie(build_trie(names[:built]), names[built:]) if draw(st.booleans()) else build_trie(names)
    )
    requests = draw(st.integers(1, 4))
    backbone = TableBackbone(draw(st.integers(0, 1000)), draw(st.sampled_from([0.5, 2.0, 6.0])))
    numbers = st.sets(st.integers(0, len(names) - 1))
    excluded = [draw(numbers) for _ in range(requests)]
    masks = np.array([[draw(st.booleans()) for _ in names] for _ in range(2)])
    mask_index = np.array([draw(st.integers(-1, 1)) for _ in range(requests)])
    gone = [
        one | (set(np.flatnonzero(~masks[of]).tolist()) if of >= 0 else set())
        for one, of in zip(excluded, mask_index, strict=True)
    ]
    exclusions = Exclusions(trie, [sorted(row) for row in excluded], masks, mask_index)
    prefilled = backbone.prefill([[request] for request in range(requests)])
    prefilled.names = names
    prefilled.softmax = draw(st.sampled_from([OVER_VOCABULARY, Softmax("trie", 1.0), Softmax("trie", 0.5)]))
    return names, trie, prefilled, gone, exclusions


def plain_search(
    prefilled: TablePrefilled, request: int, names: Sequence[tuple[int, ...]], excluded: set[int], beams: int
) -> dict[int, float]:
    """Beam search without a trie: all live names' prefixes, one token at a time, whole names staying
    in the beam."""
    live = [name for number, name in enumerate(names) if number not in excluded]
    beam: dict[tuple[int, ...], float] = {(): 0.0} if live else {}
    for depth in range(1, max(map(len, names)) + 1):
        candidates: dict[tuple[int, ...], float] = {}
        for prefix in {name[:depth] for name in live}:
            if len(prefix) == depth and prefix[:-1] in beam:
                added = prefilled.token_score(request, prefix[:-1], prefix[-1])
                candidates[prefix] = beam[prefix[:-1]] + added
        candidates |= {
            prefix: score for prefix, score in beam.items() if prefix in live and len(prefix) < depth
        }
        beam = dict(sorted(candidates.items(), key=lambda pair: -pair[1])[:beams])
    return {list(names).index(name): score for name, score in beam.items()}


def scores_of(top: TopItems, request: int) -> dict[int, float]:
    """Item -> score, best first."""
    row = top.items[request]
    return dict(zip(row[row >= 0].tolist(), top.scores[request][row >= 0].tolist(), strict=True))


@given(worlds(), st.integers(1, 12))
@settings(max_examples=300, deadline=None)
def test_jumping_forward_finds_what_the_plain_search_finds(world, beams):
    names, trie, prefilled, gone, exclusions = world
    top = beam_search(prefilled, trie, exclusions, beams, softmax=prefilled.softmax)
    for request, excluded in enumerate(gone):
        assert scores_of(top, request) == pytest.approx(
            plain_search(prefilled, request, names, excluded, beams), abs=EXACT
        )


@given(worlds(), st.sampled_from(["replay", "retire"]))
@settings(max_examples=150, deadline=None)
def test_with_a_place_for_every_item_the_beam_is_the_whole_catalogue(world, finish):
    names, trie, prefilled, gone, exclusions = world
    top = beam_search(prefilled, trie, exclusions, len(names), finish=finish, softmax=prefilled.softmax)
    for request, excluded in enumerate(gone):
        exact = {i: prefilled.name_score(request, name) for i, name in enumerate(names) if i not in excluded}
        assert scores_of(top, request) == pytest.approx(exact, abs=EXACT)
        assert list(scores_of(top, request).values()) == sorted(
            scores_of(top, request).values(), reverse=True
        )


@given(worlds(), st.integers(1, 8))
@settings(max_examples=150, deadline=None)
def test_as_many_items_come_back_as_there_are(world, beams):
    names, trie, prefilled, gone, exclusions = world
    for finish in ("replay", "retire"):
        top = beam_search(prefilled, trie, exclusions, beams, finish=finish, softmax=prefilled.softmax)
        for request, excluded in enumerate(gone):
            items = scores_of(top, request)
            assert len(items) == min(beams, len(names) - len(excluded)) and not set(items) & excluded
            for item, score in items.items():
                assert score == pytest.approx(prefilled.name_score(request, names[item]), abs=EXACT)


@given(worlds(), st.integers(1, 12), st.integers(1, 6))
@settings(max_examples=300, deadline=None)
def test_the_exact_top_is_that_of_brute_force(world, k, width):
    names, trie, prefilled, gone, exclusions = world
    top = exact_top(prefilled, trie, exclusions, k, width, softmax=prefilled.softmax)
    assert top.proven.all()
    for request, excluded in enumerate(gone):
        exact = {i: prefilled.name_score(request, name) for i, name in enumerate(names) if i not in excluded}
        best = dict(sorted(exact.items(), key=lambda pair: -pair[1])[:k])
        assert scores_of(top, request) == pytest.approx(best, abs=EXACT)


@given(worlds(), st.integers(1, 5), st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_a_search_that_met_its_limit_says_so(world, k, limit):
    names, trie, prefilled, gone, exclusions = world
    top = exact_top(prefilled, trie, exclusions, k, 2, limit, softmax=prefilled.softmax)
    for request, excluded in enumerate(gone):
        exact = {i: prefilled.name_score(request, name) for i, name in enumerate(names) if i not in excluded}
        best = dict(sorted(exact.items(), key=lambda pair: -pair[1])[:k])
        if top.proven[request]:
            assert scores_of(top, request) == pytest.approx(best, abs=EXACT)
        assert set(scores_of(top, request)) <= set(exact)


@given(worlds(), st.integers(1, 9))
@settings(max_examples=100, deadline=None)
def test_the_walk_over_the_catalogue_scores_every_item(world, at_once):
    names, trie, prefilled, gone, _ = world
    scores = score_catalogue(prefilled, trie, at_once, prefilled.softmax)
    for request in range(len(gone)):
        exact = [prefilled.name_score(request, name) for name in names]
        assert scores[request].tolist() == pytest.approx(exact, abs=EXACT)


@given(worlds(), st.data())
@settings(max_examples=150, deadline=None)
def test_candidates_are_scored_as_if_each_were_alone(world, data):
    names, trie, prefilled, gone, _ = world
    width = data.draw(st.integers(1, 8))
    numbers = st.lists(st.integers(-1, len(names) - 1), min_size=width, max_size=width)
    candidates = np.array([data.draw(numbers) for _ in gone])
    with pytest.MonkeyPatch.context() as few:
        few.setattr(scoring, "CANDIDATES_AT_ONCE", data.draw(st.integers(1, 8)))
        scores = score_items(prefilled, trie, candidates, prefilled.softmax)
    for request, row in enumerate(candidates.tolist()):
        exact = [prefilled.name_score(request, names[item]) if item >= 0 else -np.inf for item in row]
        assert scores[request].tolist() == pytest.approx(exact, abs=EXACT)


def test_over_the_trie_the_items_probabilities_sum_to_one_and_tails_are_not_decoded():
    names = [(token, *[token % 4] * 12, END) for token in range(8)]  # the first token decides
    prefilled, trie = TableBackbone(0).prefill([[1], [2]]), build_trie(names)
    scores = score_catalogue(prefilled, trie, softmax=Softmax("trie"))
    assert np.exp(scores).sum(axis=1) == pytest.approx([1, 1])
    assert exact_top(prefilled, trie, Exclusions(trie, [[], []]), 8, softmax=Softmax("trie")).proven.all()
    assert prefilled.calls == 0


def test_long_tails_are_scored_in_one_call():
    names = [(token, *[token % 4] * 12, END) for token in range(8)]  # the first token decides
    backbone = TableBackbone(0)
    prefilled = backbone.prefill([[1], [2]])
    trie = build_trie(names)
    beam_search(prefilled, trie, Exclusions(trie, [[], []]), 4)
    assert prefilled.calls == 1


@pytest.mark.parametrize("length", [50, 200])
def test_what_is_kept_after_a_prompt_does_not_grow_with_the_length_of_names(length):
    # two tokens decide
    names = [(token, other, *[token % 4] * length, END) for token in range(8) for other in range(8)]
    trie = build_trie(names)
    searches = [
        lambda prefilled: beam_search(prefilled, trie, Exclusions(trie, [[], []]), 8),
        lambda prefilled: beam_search(prefilled, trie, Exclusions(trie, [[], []]), 8, finish="retire"),
        lambda prefilled: exact_top(prefilled, trie, Exclusions(trie, [[], []]), 60),
    ]
    for search in searches:
        prefilled = TableBackbone(0).prefill([[1], [2]])
        search(prefilled)
        assert prefilled.most_nodes <= 8 + max(64, length + 2)  # the inner nodes, and one call


def test_names_that_differ_after_a_thousand_tokens_are_scored():
    names = [(*[1] * 1100, END), (*[1] * 1100, 2, END)]
    prefilled, trie = TableBackbone(0, 0.1).prefill([[0]]), build_trie(names)
    exact = [prefilled.name_score(0, name) for name in names]
    assert score_catalogue(prefilled, trie)[0].tolist() == pytest.approx(exact)
    assert score_items(prefilled, trie, np.array([[0, 1]]))[0].tolist() == pytest.approx(exact)


def test_a_prefix_of_one_item_is_replayed_and_pruned_as_in_the_plain_search():
    """The first token decides items 0 and 1; items 2 and 3 share theirs. With two beams, item 0 leaves when
    its tail turns out bad."""
    names = [(0, 0, 0, END), (1, 1, 1, END), (2, 2, END), (2, 3, END)]
    changed, better = 0, 0.0
    for seed in range(200):
        prefilled = TableBackbone(seed, 4.0).prefill([[0]])
        trie = build_trie(names)
        replayed = scores_of(beam_search(prefilled, trie, Exclusions(trie, [[]]), 2), 0)
        assert replayed == pytest.approx(plain_search(prefilled, 0, names, set(), 2), abs=EXACT)
        retired = scores_of(beam_search(prefilled, trie, Exclusions(trie, [[]]), 2, finish="retire"), 0)
        changed += set(replayed) != set(retired)
        better += sum(retired.values()) - sum(replayed.values())
    assert changed > 10 and better > 0  # the two modes do differ, and the wider one finds more


def test_length_penalty_puts_longer_names_in_front_of_equals():
    names = [(0, END), (1, 1, 1, 1, END)]
    trie = build_trie(names)
    prefilled = TableBackbone(3).prefill([[0]])
    plain = scores_of(beam_search(prefilled, trie, Exclusions(trie, [[]]), 2), 0)
    mean = scores_of(beam_search(prefilled, trie, Exclusions(trie, [[]]), 2, length_penalty=1.0), 0)
    assert mean == pytest.approx({item: score / len(names[item]) for item, score in plain.items()})


def test_nothing_is_read_for_no_items():
    trie = build_trie([(token, other, END) for token in range(4) for other in range(4)])
    prefilled = TableBackbone(0).prefill([[0]])
    top = exact_top(prefilled, trie, Exclusions(trie, [[]]), 0)
    assert top.items.shape == (1, 0) and prefilled.calls == 0


def test_where_nothing_is_left_nothing_comes_back():
    trie = build_trie([(0, END)])
    exclusions = Exclusions(trie, [[0]])
    assert scores_of(beam_search(TableBackbone(0).prefill([[0]]), trie, exclusions, 3), 0) == {}
    assert scores_of(exact_top(TableBackbone(0).prefill([[0]]), trie, exclusions, 3), 0) == {}


@pytest.mark.parametrize(
    ("items", "scores"),
    [([1, 1], [0.0, -1.0]), ([0, 1], [0.0, -1.0]), ([1, 2], [0.0, -np.inf]), ([1, -1], [0.0, -1.0])],
)
def test_a_result_that_is_excluded_twice_or_impossible_raises(items, scores):
    trie = build_trie([(0, END), (1, END), (2, END)])
    exclusions = Exclusions(trie, [[0]])
    valid = top_items(exclusions, np.array([0, 0]), np.array([1, 2]), np.array([-1.0, -2.0]), 2)
    assert valid.items.tolist() == [[1, 2]]
    with pytest.raises(IllegalMove):
        top_items(exclusions, np.array([0, 0]), np.array(items), np.array(scores), 2)
