"""Beam search and scoring against brute force and against a plain search in Python loops, over random nano models."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shelftalk.decoding.beam_search import beam_search
from shelftalk.decoding.item_trie import ItemTrie
from shelftalk.decoding.scoring import score_items
from shelftalk.errors import IllegalMove
from shelftalk.models.backbone import Backbone, Encoded, Prefilled
from shelftalk.models.nano import build_nano
from shelftalk.models.settings import NanoSettings
from shelftalk.records import Segment

SYMBOLS = [f"<{letter}_{number}>" for letter in "abz" for number in range(5)]
TITLES = [
    "The",
    "The Hobbit",
    "The Hobbit: An Unexpected Journey",
    "Dune",
    "Dune Messiah",
    "It",
    "It Follows",
    "Emma",
    "Hobbit, The",
]
FAMILIES = ["decoder-only", "encoder-decoder"]
TOLERANCE = 1e-4  # nats


@cache
def backbone(family: str) -> Backbone:
    """Untrained, but with weights large enough that its answers differ."""
    built = build_nano(TITLES, SYMBOLS, NanoSettings(family=family, vocabulary=300, width=32, layers=2, heads=2), seed=0)
    torch.manual_seed(1)
    with torch.no_grad():
        built.model.get_input_embeddings().weight.normal_(std=0.6)
    built.model.eval()
    return built


def catalogue(kind: str) -> list[list[Segment]]:
    """Names as an index gives them: codes of one length, or titles that begin each other and end in a line break."""
    if kind == "titles":
        return [[Segment(title), Segment("\n")] for title in TITLES]
    draw = np.random.default_rng(3)
    codes = {(int(a), int(b), int(z)) for a, b, z in draw.integers(0, 5, size=(60, 3))}
    return [[Segment(f"<a_{a}><b_{b}><z_{z}>", symbols=True)] for a, b, z in sorted(codes)]


PROMPTS = [
    [Segment("Films:\n")],
    [Segment("Oldest first:\nDune\nEmma\n")],
    [Segment("One:\n"), Segment("<a_1><b_2>", symbols=True)],
]


@cache
def case(family: str, kind: str) -> tuple[ItemTrie, np.ndarray]:
    """The trie, and [R, I] each item's log-probability behind each prompt as a loss, one at a time."""
    model, names = backbone(family), catalogue(kind)
    trie = ItemTrie([model.encode(name).ids.tolist() for name in names])
    scores = [[-label_loss(model, prompt, name) for name in names] for prompt in PROMPTS]
    return trie, np.array(scores)


def label_loss(model: Backbone, prompt: Sequence[Segment], name: Sequence[Segment]) -> float:
    said = [Segment(segment.text, True, segment.symbols) for segment in name]
    with torch.no_grad():
        return float(model.loss(model.collate([model.encode([*prompt, *said])])))


def prefilled(family: str) -> Prefilled:
    return backbone(family).prefill([backbone(family).encode(prompt) for prompt in PROMPTS])


def plain_search(
    family: str, prompt: Sequence[Segment], trie: ItemTrie, hidden: np.ndarray, beams: int
) -> list[tuple[float, int]]:
    """Beam search as one would explain it: (score, item), best first. Names are tuples, the catalogue a dictionary."""
    model = backbone(family)
    names = {tuple(trie.token[trie.path(item)].tolist()): item for item in range(trie.items) if not hidden[item]}
    alive: list[tuple[float, tuple[int, ...]]] = [(0.0, ())] if names else []
    while any(name not in names for _, name in alive):
        grown: list[tuple[float, tuple[int, ...]]] = []
        for score, name in alive:
            if name in names:
                grown.append((score, name))
                continue
            log_probs = what_follows(model, model.encode(prompt), name)
            tokens = sorted({other[len(name)] for other in names if other[: len(name)] == name})
            grown += [(score + float(log_probs[token]), (*name, token)) for token in tokens]
        alive = sorted(grown, key=lambda beam: -beam[0])[:beams]
    return [(score, names[name]) for score, name in alive]


def what_follows(model: Backbone, prompt: Encoded, path: Sequence[int]) -> torch.Tensor:
    """[V] read anew from the text each time, without any tree behind it where the path is empty."""
    fresh = model.prefill([prompt])
    if not path:
        return fresh.log_probs[0]
    return fresh.extend(torch.arange(-1, len(path) - 1)[None], torch.tensor([list(path)]))[0, -1]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["codes", "titles"])
class TestBeamSearch:
    def test_with_beams_for_all_it_is_brute_force(self, family: str, kind: str):
        trie, exact = case(family, kind)
        for beams in (trie.items, trie.items + 7):
            items, scores = beam_search(prefilled(family), trie, np.zeros(exact.shape, bool), beams)
            for row, expected in enumerate(exact):
                found = items[row][items[row] >= 0]
                assert sorted(found.tolist()) == list(range(trie.items))
                assert np.allclose(scores[row, : trie.items], expected[found], rtol=0, atol=TOLERANCE)
                assert np.allclose(np.sort(expected)[::-1], scores[row, : trie.items], rtol=0, atol=TOLERANCE)

    def test_with_few_beams_it_is_a_plain_beam_search(self, family: str, kind: str):
        trie, exact = case(family, kind)
        hidden = np.random.default_rng(0).random(exact.shape) < 0.3
        for beams in (1, 2, 5):
            items, scores = beam_search(prefilled(family), trie, hidden, beams)
            for row, prompt in enumerate(PROMPTS):
                expected = plain_search(family, prompt, trie, hidden[row], beams)
                assert items[row].tolist() == [item for _, item in expected]
                assert np.allclose(scores[row], [score for score, _ in expected], rtol=0, atol=TOLERANCE)
                assert np.allclose(scores[row], exact[row, items[row]], rtol=0, atol=TOLERANCE)

    def test_a_narrow_search_may_miss_what_a_wide_one_finds_but_scores_it_alike(self, family: str, kind: str):
        trie, exact = case(family, kind)
        best = [beam_search(prefilled(family), trie, np.zeros(exact.shape, bool), beams)[1][:, 0] for beams in (1, trie.items)]
        assert (best[0] <= best[1] + TOLERANCE).all() and np.allclose(best[1], exact.max(axis=1), rtol=0, atol=TOLERANCE)

    def test_hidden_items_never_come_back(self, family: str, kind: str):
        trie, exact = case(family, kind)
        hidden = np.zeros(exact.shape, bool)
        for row in range(len(exact)):
            hidden[row, np.argsort(-exact[row])[:4]] = True  # the best ones, so that they would
        items, _ = beam_search(prefilled(family), trie, hidden, 3)
        assert (items >= 0).all() and not np.take_along_axis(hidden, items, axis=1).any()

    def test_fewer_live_items_than_beams_fill_the_rest_with_nothing(self, family: str, kind: str):
        trie, exact = case(family, kind)
        hidden = np.ones(exact.shape, bool)
        hidden[0, [1, 4]] = False
        hidden[2, 0] = False
        items, scores = beam_search(prefilled(family), trie, hidden, 5)
        assert sorted(items[0][items[0] >= 0].tolist()) == [1, 4]
        assert items[2][items[2] >= 0].tolist() == [0] and (items[1] == -1).all()
        assert (np.isfinite(scores) == (items >= 0)).all()

    def test_where_all_is_hidden_nothing_is_found(self, family: str, kind: str):
        trie, exact = case(family, kind)
        items, scores = beam_search(prefilled(family), trie, np.ones(exact.shape, bool), 5)
        assert (items == -1).all() and (scores == -np.inf).all()

    def test_scores_of_given_items_are_brute_force(self, family: str, kind: str):
        trie, exact = case(family, kind)
        draw = np.random.default_rng(0)
        candidates = np.stack([draw.permutation(trie.items)[:6] for _ in PROMPTS])
        candidates[1, 4:] = -1
        candidates[2, 1:] = -1
        scores = score_items(prefilled(family), trie, candidates)
        for row, column in np.ndindex(*candidates.shape):
            item = candidates[row, column]
            expected = exact[row, item] if item >= 0 else -np.inf
            assert scores[row, column] == pytest.approx(expected, abs=TOLERANCE)

    def test_the_whole_catalogue_can_be_scored_at_once(self, family: str, kind: str):
        trie, exact = case(family, kind)
        scores = score_items(prefilled(family), trie, np.tile(np.arange(trie.items), (len(PROMPTS), 1)))
        assert np.allclose(scores, exact, rtol=0, atol=TOLERANCE)


class Fixed(Prefilled):
    """Log-probabilities by token alone: for scores worked out by hand."""

    def __init__(self, log_probs: Sequence[float], requests: int = 1) -> None:
        self.log_probs = torch.tensor([log_probs] * requests)

    def extend(self, parents: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return self.log_probs[:, None].expand(-1, tokens.shape[1], -1)

    def select(self, rows: torch.Tensor) -> Prefilled:
        return Fixed(self.log_probs[0].tolist(), len(rows))


def test_a_single_item_is_found():
    items, scores = beam_search(Fixed([0.0, -1.0, -2.0]), ItemTrie([(1, 2)]), np.zeros((1, 1), bool), 3)
    assert items[0][0] == 0 and scores[0][0] == -3.0 and (items[0][1:] == -1).all()


def test_equal_scores_stand_in_catalogue_order():
    trie = ItemTrie([(4,), (2, 3), (1,), (3, 2), (0, 5)])
    items, scores = beam_search(Fixed([-1.0] * 6), trie, np.zeros((1, 5), bool), 5)
    assert items.tolist() == [[0, 2, 1, 3, 4]] and scores.tolist() == [[-1, -1, -2, -2, -2]]


def test_a_finished_name_waits_for_longer_ones_and_keeps_its_score():
    trie = ItemTrie([(0,), (1, 0), (1, 1, 1)])
    items, scores = beam_search(Fixed([-2.0, -0.5]), trie, np.zeros((1, 3), bool), 2)
    assert items.tolist() == [[2, 0]] and scores.tolist() == [[-1.5, -2.0]]


def test_a_search_that_would_return_a_hidden_item_raises(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ItemTrie, "live", lambda self, hidden: np.ones((len(hidden), len(self)), bool))
    with pytest.raises(IllegalMove):
        beam_search(Fixed([-1.0, -1.0]), ItemTrie([(0,), (1,)]), np.array([[True, False]]), 2)


@given(
    st.lists(st.lists(st.integers(0, 3), max_size=3).map(tuple), min_size=1, max_size=15, unique=True),
    st.lists(st.floats(-5, -0.1), min_size=5, max_size=5),
    st.integers(1, 20),
    st.data(),
)
@settings(max_examples=150, deadline=None)
def test_as_many_distinct_live_items_come_back_as_there_are(names, log_probs, beams, data):
    sequences = [(*name, 4) for name in names]
    hidden = np.array([data.draw(st.lists(st.booleans(), min_size=len(names), max_size=len(names))) for _ in range(2)])
    items, scores = beam_search(Fixed(log_probs, requests=2), ItemTrie(sequences), hidden, beams)
    for row in range(2):
        found = items[row][items[row] >= 0]
        assert len(found) == len(set(found.tolist())) == min(beams, int((~hidden[row]).sum()))
        assert not hidden[row, found].any() and (np.diff(scores[row, : len(found)]) <= 0).all()
        expected = [sum(np.float32(log_probs[token]) for token in sequences[item]) for item in found]
        assert np.allclose(scores[row, : len(found)], expected, atol=1e-5)
