"""Questions of which the answer is known: about the facts of a synthetic world, or about what users of real
data took.

Options are alike in training popularity, and over the questions of the synthetic world every option is the
answer equally often: whoever does not look at the history is at chance to the digit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from shelftalk import seeds
from shelftalk.studies.probing.world import TASTES, Facts, Left, World

OPTIONS = 4
"""Items to choose among where a fact does not say how many there are."""


@dataclass(frozen=True)
class Question:
    """One of `options` is missing from `history` (item ids, oldest first) at `place`: which?

    `place` is the number of items before the missing one; len(history) asks for what comes next. `fact` names
    what must be known; questions about one fact stand or fall together, so intervals resample facts. `half`
    is the fact's half of the world.
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
    "soon": "an item was just taken that leads to another some places later, never at once: which of two will the user want?",
    "maker": "a history shows the user's maker on other shelves: which item of this shelf?",
    "taste": "a history shows the user's taste in other choices: which of the two?",
}
"""Kind of knowledge -> what is asked, for the synthetic world."""


def world_questions(world: World, popularity: dict[str, int], repeats: int, seed: int) -> list[Question]:
    """`repeats` questions about every fact, each with the history of a user who is not in the data.

    `popularity` item id -> training events. The history touches the fact asked about only as far as the
    question shows it.
    """
    draw, facts = seeds.generator(seed, "probe questions"), world.facts
    asked = [_pairs, _rules, _soon, _makers, _tastes]
    return [question for _ in range(repeats) for ask in asked for question in ask(facts, popularity, draw)]


def _pairs(facts: Facts, popularity: dict[str, int], draw: np.random.Generator) -> Iterator[Question]:
    """Both directions of each pair."""
    for half in (0, 1):
        numbers = range(half, len(facts.pairs), 2)
        for asked, kind in enumerate(("before", "after")):
            for block in _blocks({n: facts.pairs[n][asked] for n in numbers}, popularity):
                options = tuple(facts.pairs[n][asked] for n in block)
                for n in block:
                    shown = (*_context(facts, draw, Left(pairs=tuple(block))), facts.pairs[n][1 - asked])
                    position = len(shown) - 1 + asked
                    yield Question(
                        kind,
                        f"pair {n}",
                        half,
                        shown,
                        position,
                        _shuffled(options, draw),
                        facts.pairs[n][asked],
                    )


def _rules(facts: Facts, popularity: dict[str, int], draw: np.random.Generator) -> Iterator[Question]:
    """What comes, when its place has come."""
    for half in (0, 1):
        for block in _blocks({n: facts.rules[n].then for n in range(half, len(facts.rules), 2)}, popularity):
            options = tuple(facts.rules[n].then for n in block)
            for rule in (facts.rules[n] for n in block):
                context = _context(facts, draw, Left(rules=tuple(block)))
                cut = len(context) - rule.distance + 1
                shown = (*context[:cut], rule.first, *context[cut:])
                yield Question(
                    "rule", f"rule {rule.first}", half, shown, len(shown), _shuffled(options, draw), rule.then
                )


def _soon(facts: Facts, popularity: dict[str, int], draw: np.random.Generator) -> Iterator[Question]:
    """What comes by a rule, when its place is still some items away."""
    for half in (0, 1):
        distant = [n for n in range(half, len(facts.rules), 2) if facts.rules[n].distance > 1]
        for block in _blocks({n: facts.rules[n].then for n in distant}, popularity, 2):
            options = tuple(facts.rules[n].then for n in block)
            for rule in (facts.rules[n] for n in block):
                shown = (*_context(facts, draw, Left(rules=tuple(block))), rule.first)
                yield Question(
                    "soon", f"rule {rule.first}", half, shown, len(shown), _shuffled(options, draw), rule.then
                )


def _makers(facts: Facts, popularity: dict[str, int], draw: np.random.Generator) -> Iterator[Question]:
    """Each shelf, for a user of each maker."""
    for number, shelf in enumerate(facts.shelves):
        for maker, answer in enumerate(shelf):
            shown = tuple(
                facts.history(draw, maker, int(draw.integers(TASTES)), left=Left(shelves=(number,)))
            )
            yield Question(
                "maker", f"shelf {number}", number % 2, shown, len(shown), _shuffled(shelf, draw), answer
            )


def _tastes(facts: Facts, popularity: dict[str, int], draw: np.random.Generator) -> Iterator[Question]:
    """Each choice, for a user of each taste."""
    for number, choice in enumerate(facts.choices):
        for taste, answer in enumerate(choice):
            shown = tuple(
                facts.history(
                    draw, int(draw.integers(facts.settings.makers)), taste, left=Left(choices=(number,))
                )
            )
            yield Question(
                "taste", f"choice {number}", number % 2, shown, len(shown), _shuffled(choice, draw), answer
            )


def _context(facts: Facts, draw: np.random.Generator, left: Left) -> list[str]:
    """The history of a new user of any maker and taste, for whom every fact holds."""
    return facts.history(
        draw, int(draw.integers(facts.settings.makers)), int(draw.integers(TASTES)), left=left
    )


def _blocks(items: dict[int, str], popularity: dict[str, int], size: int = OPTIONS) -> list[list[int]]:
    """Numbers in blocks whose items are neighbours in popularity; each is asked about with its block as
    options."""
    order = sorted(items, key=lambda number: (popularity[items[number]], items[number]))
    return [order[start : start + size] for start in range(0, len(order), size)]


def _shuffled(options: Sequence[str], draw: np.random.Generator) -> tuple[str, ...]:
    return tuple(options[position] for position in draw.permutation(len(options)).tolist())
