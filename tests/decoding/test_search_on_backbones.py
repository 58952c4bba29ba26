"""The searches over real backbones: each item's score is minus the loss of its name after the prompt, in
both families."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
import torch

from shelftalk.decoding.beam_search import beam_search
from shelftalk.decoding.catalogue_scores import score_catalogue
from shelftalk.decoding.exact_search import exact_top
from shelftalk.decoding.exclusions import Exclusions
from shelftalk.decoding.item_trie import ItemTrie, build_trie
from shelftalk.decoding.scoring import score_items
from shelftalk.models.backbone import Backbone
from shelftalk.models.nano import build_nano
from shelftalk.models.settings import NanoSettings
from shelftalk.models.token_tree import Prefilled
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
KINDS = ["titles", "codes"]
TOLERANCE = 1e-4  # nats
PROMPTS = [
    [Segment("Films:\n")],
    [Segment("Oldest first:\nDune\nEmma\n")],
    [Segment("One:\n"), Segment("<a_1><b_2>", symbols=True)],
]


@cache
def backbone(family: str) -> Backbone:
    """Untrained, but with weights large enough that its answers differ."""
    built = build_nano(
        TITLES, SYMBOLS, NanoSettings(family=family, vocabulary=300, width=32, layers=2, heads=2), seed=0
    )
    torch.manual_seed(1)
    with torch.no_grad():
        built.model.get_input_embeddings().weight.normal_(std=0.6)
    built.model.eval()
    return built


def catalogue(kind: str) -> list[list[Segment]]:
    """Names as an index gives them: codes of one length, or titles that begin each other and end in a
    line break."""
    if kind == "titles":
        return [[Segment(title), Segment("\n")] for title in TITLES]
    draw = np.random.default_rng(3)
    codes = {(int(a), int(b), int(z)) for a, b, z in draw.integers(0, 5, size=(60, 3))}
    return [[Segment(f"<a_{a}><b_{b}><z_{z}>", symbols=True)] for a, b, z in sorted(codes)]


@cache
def case(family: str, kind: str) -> tuple[ItemTrie, np.ndarray]:
    """The trie, and [R, I] each item's log-probability after each prompt as a loss, one at a time."""
    model, names = backbone(family), catalogue(kind)
    scores = [[-label_loss(model, prompt, name) for name in names] for prompt in PROMPTS]
    return build_trie(model.encode_names(names)), np.array(scores)


def label_loss(model: Backbone, prompt: Sequence[Segment], name: Sequence[Segment]) -> float:
    target = [Segment(segment.text, True, segment.symbols) for segment in name]
    with torch.no_grad():
        return float(model.loss(model.collate([model.encode([*prompt, *target])])))


def read(family: str) -> Prefilled:
    return backbone(family).prefill([backbone(family).encode(prompt) for prompt in PROMPTS])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_search_scores_items_by_their_losses(family: str, kind: str):
    trie, exact = case(family, kind)
    excluded = [[0, 3], [], [1]]
    exclusions = Exclusions(trie, excluded)
    prefilled = read(family)
    assert np.allclose(score_catalogue(prefilled, trie, tokens_per_call=7), exact, rtol=0, atol=TOLERANCE)
    everything = np.tile(np.arange(trie.items), (len(PROMPTS), 1))
    assert np.allclose(score_items(prefilled, trie, everything), exact, rtol=0, atol=TOLERANCE)
    left = exact.copy()
    for row, items in enumerate(excluded):
        left[row, items] = -np.inf
    order = np.argsort(-left, axis=1)
    for top in (
        exact_top(prefilled, trie, exclusions, 5, tokens_per_call=3),
        beam_search(prefilled, trie, exclusions, trie.items),
        beam_search(prefilled, trie, exclusions, trie.items, finish="retire"),
    ):
        assert top.items[:, :5].tolist() == order[:, :5].tolist()
        assert np.allclose(
            top.scores[:, :5], np.take_along_axis(left, order[:, :5], 1), rtol=0, atol=TOLERANCE
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_request_is_answered_alike_alone_and_beside_others(family: str):
    trie, _ = case(family, "titles")
    together = beam_search(read(family), trie, Exclusions(trie, [[0], [], [4]]), 3)
    for row, items in enumerate(([0], [], [4])):
        prefilled = backbone(family).prefill([backbone(family).encode(PROMPTS[row])])
        alone = beam_search(prefilled, trie, Exclusions(trie, [items]), 3)
        assert alone.items[0].tolist() == together.items[row].tolist()
        assert np.allclose(alone.scores[0], together.scores[row], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_names_are_encoded_alike_one_by_one_and_all_at_once(family: str):
    model = backbone(family)
    evil = [
        [Segment(text), Segment("\n")]
        for text in ("</s>", "<pad>x", "<a_1>", "naïve 東京", "{title}", "a\x00b")
    ]
    names = [*catalogue("titles"), *catalogue("codes"), *evil]
    tokens = model.encode_names(names)
    assert [tokens[row].tolist() for row in range(len(names))] == [
        model.encode(name).ids.tolist() for name in names
    ]
