"""Questions with a known answer: about the facts of a synthetic world, or about what users of real data took.

Options are alike in training popularity, and over the questions of the synthetic world every option is the
answer equally often: a guess that does not use the history is exactly at chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from shelftalk import seeds
from shelftalk.studies.probing.world import TASTES, ExcludedFacts, Facts, World

OPTIONS = 4
"""Items to choose among, where the kind of fact does not fix their number."""


@dataclass(frozen=True)
class Question:
    """One of `options` is missing from `history` (item ids, oldest first) at `position`: which?

    `position` is the number of items before the missing one; len(history) means the next item. `fact` names
    what must be known; answers to questions about one fact are not independent, so intervals resample facts.
    `half` is the fact's half of the world.
    """

    kind: str
    fact: str
    half: int
    history: tuple[str, ...]
    position: int
    options: tuple[str, ...]
    answer: str

    @property
    def chance(self) -> float:
        """Share of right answers by guessing."""
        return 1 / len(self.options)


KINDS = {
    "before": "a pair's second item is shown: which one goes before it? It never follows it",
    "after": "a pair's first item is shown: which one goes after it?",
    "rule": "an item is shown at the rule's distance: which one comes now?",
    "soon": "an item was just taken that leads to another some positions later, never at once: which of two "
    "will the user want?",
    "maker": "a history shows the user's maker on other shelves: which item of this shelf?",
    "taste": "a history shows the user's taste in other choices: which of the two?",
}
"""Kind of knowledge -> the question, for the synthetic world."""


def world_questions(world: World, popularity: dict[str, int], repeats: int, seed: int) -> list[Question]:
    """`repeats` questions about every fact, each with the history of a user who is not in the data.

    `popularity` item id -> training events. Of the fact in question, the history contains only what the
    question shows.
    """
    draw, facts = seeds.generator(seed, "probe questions"), world.facts
    kinds = [_pair_questions, _rule_questions, _later_questions, _maker_questions, _taste_questions]
    return [question for _ in range(repeats) for kind in kinds for question in kind(facts, popularity, draw)]


def _pair_questions(
    facts: Facts, popularity: dict[str, int], draw: np.random.Generator
) -> Iterator[Question]:
    """Both directions of each pair."""
    for half in (0, 1):
        numbers = range(half, len(facts.pairs), 2)
        for missing, kind in enumerate(("before", "after")):
            for block in _blocks({n: facts.pairs[n][missing] for n in numbers}, popularity):
                options = tuple(facts.pairs[n][missing] for n in block)
                for n in block:
                    context = _context(facts, draw, ExcludedFacts(pairs=tuple(block)))
                    shown = (*context, facts.pairs[n][1 - missing])
                    position = len(shown) - 1 + missing
                    answer = facts.pairs[n][missing]
                    yield Question(kind, f"pair {n}", half, shown, position, _shuffled(options, draw), answer)


def _rule_questions(
    facts: Facts, popularity: dict[str, int], draw: np.random.Generator
) -> Iterator[Question]:
    """The second item of each rule, at its distance from the first."""
    for half in (0, 1):
        for block in _blocks(
            {n: facts.rules[n].second for n in range(half, len(facts.rules), 2)}, popularity
        ):
            options = tuple(facts.rules[n].second for n in block)
            for rule in (facts.rules[n] for n in block):
                context = _context(facts, draw, ExcludedFacts(rules=tuple(block)))
                cut = len(context) - rule.distance + 1
                shown = (*context[:cut], rule.first, *context[cut:])
                yield Question(
                    "rule",
                    f"rule {rule.first}",
                    half,
                    shown,
                    len(shown),
                    _shuffled(options, draw),
                    rule.second,
                )


def _later_questions(
    facts: Facts, popularity: dict[str, int], draw: np.random.Generator
) -> Iterator[Question]:
    """The second item of each rule with a distance above 1, right after the first."""
    for half in (0, 1):
        distant = [n for n in range(half, len(facts.rules), 2) if facts.rules[n].distance > 1]
        for block in _blocks({n: facts.rules[n].second for n in distant}, popularity, 2):
            options = tuple(facts.rules[n].second for n in block)
            for rule in (facts.rules[n] for n in block):
                shown = (*_context(facts, draw, ExcludedFacts(rules=tuple(block))), rule.first)
                yield Question(
                    "soon",
                    f"rule {rule.first}",
                    half,
                    shown,
                    len(shown),
                    _shuffled(options, draw),
                    rule.second,
                )


def _maker_questions(
    facts: Facts, popularity: dict[str, int], draw: np.random.Generator
) -> Iterator[Question]:
    """Each shelf, for a user of each maker."""
    for number, shelf in enumerate(facts.shelves):
        excluded = ExcludedFacts(shelves=(number,))
        for maker, answer in enumerate(shelf):
            shown = tuple(facts.history(draw, maker, int(draw.integers(TASTES)), excluded=excluded))
            options = _shuffled(shelf, draw)
            yield Question("maker", f"shelf {number}", number % 2, shown, len(shown), options, answer)


def _taste_questions(
    facts: Facts, popularity: dict[str, int], draw: np.random.Generator
) -> Iterator[Question]:
    """Each choice, for a user of each taste."""
    for number, choice in enumerate(facts.choices):
        excluded = ExcludedFacts(choices=(number,))
        for taste, answer in enumerate(choice):
            maker = int(draw.integers(facts.settings.makers))
            shown = tuple(facts.history(draw, maker, taste, excluded=excluded))
            options = _shuffled(choice, draw)
            yield Question("taste", f"choice {number}", number % 2, shown, len(shown), options, answer)


def _context(facts: Facts, draw: np.random.Generator, excluded: ExcludedFacts) -> list[str]:
    """The history of a new user of any maker and taste, for whom every fact holds."""
    return facts.history(
        draw, int(draw.integers(facts.settings.makers)), int(draw.integers(TASTES)), excluded=excluded
    )


def _blocks(items: dict[int, str], popularity: dict[str, int], size: int = OPTIONS) -> list[list[int]]:
    """Numbers in blocks whose items are neighbours in popularity: the options of each question are a block.

    Example: {0: "a", 1: "b", 2: "c", 3: "d"} of popularity a 5, b 1, c 4, d 2 in size 2 -> [[1, 3], [2, 0]]
    """
    order = sorted(items, key=lambda number: (popularity[items[number]], items[number]))
    return [order[start : start + size] for start in range(0, len(order), size)]


def _shuffled(options: Sequence[str], draw: np.random.Generator) -> tuple[str, ...]:
    return tuple(options[position] for position in draw.permutation(len(options)).tolist())
