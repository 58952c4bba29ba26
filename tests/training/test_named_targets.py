"""What a name's tokens are one of, and which tokens are certain and bear no loss."""

from __future__ import annotations

import numpy as np
import pytest

from shelftalk.decoding.item_trie import build_trie
from shelftalk.models.text_encoder import Encoded, SoftTargets
from shelftalk.records import Sample, Segment
from shelftalk.tasks.samples import Tables, samples_of
from shelftalk.training.named_targets import TrieTargets

BLUE, CAP, HAT, RED, SCARF = range(5)
NAMES = {"scarf": (RED, SCARF), "cap": (BLUE, CAP), "hat": (RED, HAT)}
TRIE = build_trie(list(NAMES.values()))
ROOT, RED_NODE = 0, 2


def sample_of(*items: str, task: str = "retrieval", targets: int = 1, soft: bool = False) -> Encoded:
    """A history of all items but the last `targets`, which bear loss, with what TrieTargets adds."""
    first = len(items) - targets
    texts = tuple(Segment(item, number >= first) for number, item in enumerate(items))
    # the file numbers items in another order than the trie
    samples = samples_of([Sample(task, "one", "u", items, texts)], Tables(["cap", "hat", "scarf"], ["u"]))
    ids = np.array([token for item in items for token in NAMES[item]], np.int32)
    loss = np.arange(len(ids)) >= 2 * first
    teacher = SoftTargets(np.arange(2 * targets)[:, None], np.full((2 * targets, 1), 0.1, np.float32))
    encoded = Encoded(ids, loss, soft=teacher if soft else None)
    row_of = {item: number for number, item in enumerate(NAMES)}
    return targets_of(row_of).add(samples, [encoded])[0]


def targets_of(row_of: dict[str, int]) -> TrieTargets:
    rows = np.arange(TRIE.items)
    return TrieTargets(TRIE.names(rows), TRIE.nodes_before(rows), row_of, "retrieval")


def test_the_example_of_the_class() -> None:
    blue = sample_of("hat", "cap")
    assert blue.bears_loss.tolist() == [False, False, True, False]  # "cap" is certain after "blue"
    assert blue.sets is not None and blue.sets.tolist() == [ROOT]
    assert TRIE.next_tokens()[ROOT].tolist() == [BLUE, RED] and TRIE.next_tokens()[RED_NODE].tolist() == [
        HAT,
        SCARF,
    ]


def test_each_of_several_targets_has_its_sets_and_soft_targets_go_with_their_tokens() -> None:
    both = sample_of("scarf", "cap", "hat", targets=2, soft=True)
    assert both.bears_loss.tolist() == [False, False, True, False, True, True]
    assert both.sets is not None and both.sets.tolist() == [ROOT, ROOT, RED_NODE]
    assert both.soft is not None and both.soft.tokens.ravel().tolist() == [0, 2, 3]


def test_another_tasks_samples_stay_as_they_are() -> None:
    other = sample_of("scarf", "cap", task="rating")
    assert other.sets is None and other.bears_loss.tolist() == [False, False, True, True]


def test_tokens_that_are_no_name_are_refused() -> None:
    samples = samples_of([Sample("retrieval", "one", "", ("hat",), ())], Tables(["hat"], []))
    wrong = Encoded(np.array([RED, CAP], np.int32), np.array([True, True]))
    with pytest.raises(ValueError, match="names of the sample's last items"):
        targets_of({"hat": 2}).add(samples, [wrong])
