"""How much a language model is going to be asked: known before the first request is answered, so that
progress can be believed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from shelftalk.records import Request

if TYPE_CHECKING:  # a plan needs no tensor
    from shelftalk.decoding.language_model import LanguageModelRecommender

Task = Literal["retrieval", "ranking", "rating"]
LOOKED_AT = 20
"""About how many prompts of a task, and names, its cost is estimated by."""


@dataclass(frozen=True)
class Ask:
    """One call of the model: `about` says what for, and each of its `requests` costs so many units of
    work."""

    about: str
    requests: int
    cost: int = 1

    @property
    def units(self) -> int:
        return self.requests * self.cost


@dataclass
class Asking:
    """How far a model has come with all that it is asked. Handed to it as `on_batch`, it adds up the calls
    that were announced."""

    tell: Callable[[int, int, str], None]
    """Called with (done, all) units of work and what the model is asked just now; all is the same every time,
    done never falls."""
    _asks: list[Ask] = field(default_factory=list)
    _turn: int = 0

    def expect(self, asks: Sequence[Ask]) -> None:
        """Announce the calls that are to come, in their order."""
        self._asks, self._turn = [ask for ask in asks if ask.requests], 0
        if self._asks:
            self.tell(0, self._total, self._asks[0].about)

    def __call__(self, done: int, total: int) -> None:
        """`done` of the `total` requests of the call at hand are answered."""
        if self._turn == len(self._asks):  # nobody announced this call
            return
        ask, before = self._asks[self._turn], sum(ask.units for ask in self._asks[: self._turn])
        self.tell(before + ask.units * done // total, self._total, ask.about)
        self._turn += done == total

    @property
    def _total(self) -> int:
        return sum(ask.units for ask in self._asks)


def costs(model: LanguageModelRecommender, asked: Mapping[Task, Sequence[Request]]) -> dict[Task, int]:
    """Task -> units of work of one request, at least 1: in tokens read, a few prompts stand for all; the
    cheapest task costs about 1."""
    tokens = {task: _tokens(model, task, requests) for task, requests in asked.items() if requests}
    return {task: max(1, round(number / min(tokens.values()))) for task, number in tokens.items()}


def _tokens(model: LanguageModelRecommender, task: Task, requests: Sequence[Request]) -> float:
    """Tokens that are read for a request, before and after the end of its prompt."""
    served = model.tasks[model.settings.ranking_prompt if task == "ranking" else task]
    some = requests[:: -(-len(requests) // LOOKED_AT)]
    prompts = model.backbone.encode_samples(served.prompts(some, served.seen[0]))
    names = model.index.item_ids[:: -(-len(model.index.item_ids) // LOOKED_AT)]
    lengths = model.backbone.encode_names([model.index.segments(item) for item in names]).lengths
    after = float(lengths.mean()) - 1  # the first token of a name is read off the prompt
    lines = {
        "retrieval": model.settings.beams,
        "ranking": max(len(request.candidates) for request in some),
        "rating": 0,
    }
    return sum(map(len, prompts)) / len(some) + lines[task] * after
