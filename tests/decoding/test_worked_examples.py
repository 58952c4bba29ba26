"""The examples of the docstrings: three names of a token per word, and what each search makes of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from table_model import TableBackbone, TablePrefilled

from shelftalk.decoding.beam_search import beam_search
from shelftalk.decoding.catalogue_scores import score_catalogue
from shelftalk.decoding.decoded_tree import PROMPT, DecodedTree, advance, first_that_fit, spans_to_score
from shelftalk.decoding.exact_search import exact_top
from shelftalk.decoding.exclusions import Exclusions
from shelftalk.decoding.item_trie import ItemTrie, build_trie
from shelftalk.decoding.live_trie import LiveTrie
from shelftalk.decoding.logits_processor import TrieLogitsProcessor
from shelftalk.decoding.settings import OVER_VOCABULARY
from shelftalk.decoding.top_items import kth_score_per_row, top_items, top_k_per_row
from shelftalk.decoding.trie_building import build_levels
from shelftalk.models.token_tree import TokenTree, new_cache
from shelftalk.ragged import Ragged, concatenated_ranges, ragged, rank_within_row

BLUE, CAP, HAT, RED, SCARF = range(5)
NAMES = [(RED, SCARF), (BLUE, CAP), (RED, HAT)]
LOG_PROBS = {(): {RED: -1.0, BLUE: -0.9}, (RED,): {SCARF: -0.2, HAT: -0.5}, (BLUE,): {CAP: -2.0}}


class ExampleBackbone(TableBackbone):
    """What may follow each beginning of a name, after whatever prompt."""

    def after(self, text: tuple[int, ...]) -> np.ndarray:
        return np.array([LOG_PROBS[text[1:]].get(token, -np.inf) for token in range(5)])


@pytest.fixture
def prefilled() -> TablePrefilled:
    return ExampleBackbone(0).prefill([[0]])


@pytest.fixture
def trie() -> ItemTrie:
    return build_trie(NAMES)


def rows(values: Ragged) -> list[list[float]]:
    return [values[row].tolist() for row in range(len(values))]


def test_the_trie_of_three_names(trie: ItemTrie) -> None:
    assert trie.token.tolist() == [-1, BLUE, RED, HAT, SCARF] and trie.parent.tolist() == [-1, 0, 0, 2, 2]
    assert trie.first_child.tolist() == [1, 3, 3, 5, 5, 5]
    assert list(zip(trie.first_rank.tolist(), trie.last_rank.tolist(), strict=True)) == [
        (0, 3), (0, 1), (1, 3), (1, 2), (2, 3)
    ]  # fmt: skip
    assert trie.items_at(np.array([1, 3, 4])).tolist() == [1, 2, 0]
    assert rows(trie.tails(np.array([1, 3, 4]))) == [[CAP], [], []]


def test_the_levels_of_three_names() -> None:
    names = ragged(NAMES)
    (first, second), item = build_levels(names.values, names.offsets, workers=1)
    assert item.tolist() == [1, 2, 0]
    assert (
        first.token.tolist() == [BLUE, RED]
        and first.start.tolist() == [0, 1]
        and first.stop.tolist() == [1, 3]
    )
    assert second.token.tolist() == [HAT, SCARF] and second.parent.tolist() == [1, 1]
    assert second.start.tolist() == [1, 2] and second.stop.tolist() == [2, 3]


def test_a_fourth_name_is_added_beside_the_old_nodes(trie: ItemTrie) -> None:
    live = LiveTrie(trie, [(RED, CAP)])
    assert live.root == 5 and live.children(np.array([5]))[1].tolist() == [1, 6]
    assert live.children(np.array([6]))[1].tolist() == [7, 3, 4]
    assert live.items_at(np.array([7])).tolist() == [3] and live.tail_lengths(np.array([1, 7])).tolist() == [
        1,
        0,
    ]


def test_exclusions_are_counted_below_a_node() -> None:
    trie = build_trie([(0, 0), (0, 1), (1, 0)])
    exclusions = Exclusions(trie, [[1]], np.array([[False, True, True]]), np.array([0]))
    assert exclusions.allows_below(np.array([0, 0]), np.array([1, trie.root])).tolist() == [False, True]


def test_one_step_keeps_inner_nodes_and_scores_the_tails_of_leaves(
    prefilled: TablePrefilled, trie: ItemTrie
) -> None:
    tree, row, red, blue = DecodedTree(prefilled, trie, OVER_VOCABULARY), np.zeros(2, np.int64), 2, 1
    step = advance(tree, row, np.array([red, blue]), np.full(2, PROMPT), max_tokens=64)
    assert (step.inner.tolist(), step.inner_tree_nodes.tolist(), step.leaves.tolist()) == ([0], [0], [1])
    assert rows(step.tail_log_probs) == [[-2.0]] and tree.num_nodes == 1
    after_red = tree.log_probs(step.inner_states, np.array([0, 0]), trie.children(np.array([red]))[1])
    assert after_red.tolist() == [-0.5, -0.2]  # hat, scarf


@pytest.mark.parametrize("finish", ["replay", "retire"])
def test_two_beams_end_at_the_two_best_names(prefilled: TablePrefilled, trie: ItemTrie, finish) -> None:
    top = beam_search(prefilled, trie, Exclusions(trie, [[]]), 2, finish=finish)
    assert top.items.tolist() == [[0, 2]] and top.scores[0].tolist() == pytest.approx([-1.2, -1.5])
    assert prefilled.calls == 1  # "red" and "blue" at once; whole names are not decoded


def test_the_best_name_is_proven_by_two_tokens(prefilled: TablePrefilled, trie: ItemTrie) -> None:
    top = exact_top(prefilled, trie, Exclusions(trie, [[]]), 1, tokens_per_call=1)
    assert top.items.tolist() == [[0]] and top.scores[0].tolist() == pytest.approx([-1.2])
    assert top.proven.all() and top.tokens_decoded.tolist() == [2]


def test_one_walk_scores_the_three_names(prefilled: TablePrefilled, trie: ItemTrie) -> None:
    assert score_catalogue(prefilled, trie)[0].tolist() == pytest.approx([-1.2, -2.9, -1.5])


def test_what_generate_may_be_given_next(trie: ItemTrie) -> None:
    processor, end = TrieLogitsProcessor(trie, end=9, prompt_length=0), 9
    assert processor.allowed(np.zeros((1, 0), np.int64))[0].tolist() == [BLUE, RED]
    assert rows(processor.allowed(np.array([[RED], [BLUE]]))) == [[HAT, SCARF], [CAP]]
    assert rows(processor.allowed(np.array([[BLUE, CAP], [BLUE, HAT]]))) == [[end], [end]]


def test_a_node_attends_to_its_ancestors() -> None:
    tree = TokenTree.empty(1, torch.device("cpu"), new_cache(), prompt_length=1)
    mask = tree.extend(torch.tensor([[-1, 0, 0]]))[0].int().tolist()
    assert mask == [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 1]]
    assert tree.parent.tolist() == [[0, 0, 1, 1]] and tree.depth.tolist() == [[0, 1, 2, 2]]
    tree.crop(1)
    assert tree.parent.tolist() == [[0, 0]] and tree.depth.tolist() == [[0, 1]]


def test_the_helpers_do_what_their_examples_do(trie: ItemTrie) -> None:
    assert rank_within_row(np.array([0, 0, 0, 2, 2])).tolist() == [0, 1, 2, 0, 1]
    assert concatenated_ranges(np.array([5, 0]), np.array([3, 2])).tolist() == [5, 6, 7, 0, 1]
    row, score = np.array([1, 0, 1, 1]), np.array([-3.0, -9.0, -1.0, -2.0])
    best = top_k_per_row(row, score, np.arange(4), 2)
    assert best.tolist() == [1, 2, 3]
    assert kth_score_per_row(row[best], score[best], 2, 3).tolist() == [-np.inf, -2.0, -np.inf]
    assert first_that_fit(np.array([0, 0, 0, 1]), np.array([2, 3, 1, 9]), 5).tolist() == [0, 1, 3]
    assert rows(spans_to_score(np.array([7, 8]), ragged([[1, 2, 3], []]))) == [[7, 1, 2], [8]]
    ten = build_trie([(token,) for token in range(10)])
    top = top_items(
        Exclusions(ten, [[], []]),
        np.array([0, 0, 1, 0]),
        np.array([5, 9, 3, 7]),
        np.array([-2.0, -3.0, -4.0, -1.0]),
        2,
    )
    assert top.items.tolist() == [[7, 5], [3, -1]] and top.scores.tolist() == [[-1.0, -2.0], [-4.0, -np.inf]]
