"""A synthetic world of known structure: its users follow facts that no text of its catalogue states.

Four kinds of facts. *Pairs*: two items taken one right after the other, the first always before the second.
*Rules*: after one item, at a fixed distance, comes another. *Shelves*: a user stays with one maker on every
shelf. *Choices*: of two items, each of the two tastes takes another. Makers and tastes have no name anywhere;
titles, brands and departments are drawn independently of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from pydantic import Field

from shelftalk import seeds
from shelftalk.data.dataset import Dataset, make_dataset
from shelftalk.settings import Settings

WORDS = ("Amber", "Bold", "Calm", "Dusky", "Early", "Fine", "Grand", "Hidden", "Icy", "Jolly", "Keen", "Late")
NOUNS = (
    "kettle", "lamp", "boot", "brush", "drum", "rope", "clock", "seed", "bowl", "flute", "glove", "stamp",
)  # fmt: skip
BRANDS = ("Northwind", "Halden", "Ostara", "Quill", "Marrow")
DEPARTMENTS = ("Home", "Garden", "Music", "Travel")
TASTES = 2


class WorldSettings(Settings):
    """Size of the synthetic world."""

    users: int = Field(1000, ge=20)
    """Users whose histories are the data."""
    pairs: int = Field(16, ge=8, multiple_of=8)
    """Pairs of items that are taken together, the first before the second."""
    rules: int = Field(16, ge=8, multiple_of=8)
    """Items that are followed by another, at one of the `distances`."""
    distances: tuple[int, ...] = Field((1, 3), min_length=1)
    """Positions from an item to the one that follows by a rule; pairs of rules take turns."""
    shelves: int = Field(6, ge=4, multiple_of=2)
    """Shelves on which each maker has one item."""
    makers: int = Field(4, ge=2)
    """Makers; a user stays with one."""
    choices: int = Field(12, ge=4, multiple_of=2)
    """Pairs of items of which each of two tastes takes another."""
    pairs_taken: int = Field(2, ge=1)
    """Pairs in one history."""
    rules_taken: int = Field(2, ge=1)
    """Rules in one history."""
    shelves_taken: int = Field(3, ge=2)
    """Shelves in one history, an item of each."""
    choices_taken: int = Field(4, ge=2)
    """Choices in one history, an item of each."""
    noise: float = Field(0.05, ge=0, lt=0.5)
    """Share of the facts in a history that do not hold there."""


@dataclass(frozen=True)
class Rule:
    """`second` comes `distance` positions after `first`."""

    first: str
    second: str
    distance: int


@dataclass(frozen=True)
class ExcludedFacts:
    """Numbers of the facts whose items a history must not contain."""

    pairs: tuple[int, ...] = ()
    rules: tuple[int, ...] = ()
    shelves: tuple[int, ...] = ()
    choices: tuple[int, ...] = ()


@dataclass(frozen=True)
class Facts:
    """What is true of the world: `pairs` (first, second), `rules`, `shelves` [shelf][maker] and `choices`
    [choice][taste] item ids.

    Facts of even number are one half of each kind and those of odd number the other, for trainings that are
    shown one half.
    """

    settings: WorldSettings
    pairs: tuple[tuple[str, ...], ...]
    rules: tuple[Rule, ...]
    shelves: tuple[tuple[str, ...], ...]
    choices: tuple[tuple[str, ...], ...]

    def items_of(self, half: int) -> set[str]:
        """The items of the facts of one half, 0 or 1."""
        rules = tuple((rule.first, rule.second) for rule in self.rules)
        return {
            item
            for kind in (self.pairs, rules, self.shelves, self.choices)
            for fact in kind[half::2]
            for item in fact
        }

    def history(
        self,
        draw: np.random.Generator,
        maker: int,
        taste: int,
        noise: float = 0.0,
        excluded: ExcludedFacts | None = None,
    ) -> list[str]:
        """What one user takes, oldest first: facts in random order, each of them whole, without the
        `excluded` ones."""
        s, excluded = self.settings, excluded or ExcludedFacts()
        pairs = _drawn(draw, len(self.pairs), 2 * s.pairs_taken, excluded.pairs)
        rules = _drawn(draw, len(self.rules), 2 * s.rules_taken, excluded.rules)
        pairs_taken = _partners(draw, pairs, noise)
        rules_taken = _partners(draw, rules, noise)
        shelves = _drawn(draw, len(self.shelves), s.shelves_taken, excluded.shelves)
        choices = _drawn(draw, len(self.choices), s.choices_taken, excluded.choices)
        singles = [self.shelves[shelf][_with_noise(draw, maker, s.makers, noise)] for shelf in shelves]
        singles += [self.choices[choice][_with_noise(draw, taste, TASTES, noise)] for choice in choices]
        singles = [singles[position] for position in draw.permutation(len(singles)).tolist()]
        runs = [[self.pairs[first][0], self.pairs[second][1]] for first, second in pairs_taken]
        for first, second in rules_taken:
            between = [singles.pop() for _ in range(min(self.rules[first].distance - 1, len(singles)))]
            runs.append([self.rules[first].first, *between, self.rules[second].second])
        runs += [[item] for item in singles]
        return [item for position in draw.permutation(len(runs)).tolist() for item in runs[position]]


@dataclass(frozen=True, eq=False)
class World:
    """Facts and the histories of users who follow them."""

    facts: Facts
    dataset: Dataset


def make_world(settings: WorldSettings, seed: int) -> World:
    """Facts, catalogue and histories, drawn by seed alone."""
    draw = seeds.generator(seed, "probe world")
    facts = _facts(settings, draw)
    ids = sorted(facts.items_of(0) | facts.items_of(1))
    taken = []
    for user in range(settings.users):
        maker, taste = int(draw.integers(settings.makers)), int(draw.integers(TASTES))
        items = facts.history(draw, maker, taste, settings.noise)
        taken += [(f"user-{user}", item, position) for position, item in enumerate(items)]
    events = pl.DataFrame(taken, schema=["user_id", "item_id", "position"], orient="row")
    return World(facts, make_dataset(_catalogue(ids, draw), events, seed))


def _facts(settings: WorldSettings, draw: np.random.Generator) -> Facts:
    """Which items belong together: a random division of the catalogue."""
    s = settings
    sizes = [2 * s.pairs, 2 * s.rules, s.shelves * s.makers, TASTES * s.choices]
    ids = [f"item-{number:03d}" for number in draw.permutation(sum(sizes)).tolist()]
    pairs, rules, shelves, choices = (
        ids[end - size : end] for size, end in zip(sizes, np.cumsum(sizes).tolist(), strict=True)
    )
    # neighbours share a distance, so that either half of the rules has every distance
    distances = [s.distances[number // 2 % len(s.distances)] for number in range(s.rules)]
    ruled = [
        Rule(first, second, distance)
        for (first, second), distance in zip(_chunks(rules, 2), distances, strict=True)
    ]
    return Facts(s, _chunks(pairs, 2), tuple(ruled), _chunks(shelves, s.makers), _chunks(choices, TASTES))


def _catalogue(ids: list[str], draw: np.random.Generator) -> pl.DataFrame:
    """Texts drawn at random for each item; titles may recur."""
    return pl.DataFrame(
        {
            "item_id": ids,
            "title": [f"{draw.choice(WORDS)} {draw.choice(NOUNS)}" for _ in ids],
            "brand": [str(draw.choice(BRANDS)) for _ in ids],
            "categories": [str(draw.choice(DEPARTMENTS)) for _ in ids],
        }
    )


def _chunks(ids: list[str], size: int) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(ids[start : start + size]) for start in range(0, len(ids), size))


def _drawn(draw: np.random.Generator, facts: int, number: int, excluded: tuple[int, ...]) -> list[int]:
    """`number` facts in random order, without the `excluded` ones."""
    return [fact for fact in draw.permutation(facts).tolist() if fact not in excluded][:number]


def _partners(draw: np.random.Generator, facts: list[int], noise: float) -> list[tuple[int, int]]:
    """(fact, fact of its partner) for the first half of `facts`; where the fact does not hold, the partner is
    of the second half."""
    half = len(facts) // 2
    return [
        (fact, other if draw.random() < noise else fact)
        for fact, other in zip(facts[:half], facts[half:], strict=True)
    ]


def _with_noise(draw: np.random.Generator, own: int, number: int, noise: float) -> int:
    """`own`, or with probability `noise` any other of 0 .. number - 1."""
    return (own + int(draw.integers(1, number))) % number if draw.random() < noise else own
