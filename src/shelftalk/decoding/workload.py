"""How much work a language model has before it, planned before the first request, so that
progress has a total.

Example: a plan of 10 retrieval requests of 3 units each and 4 ranking requests of 1 unit has 34 units. After
8 of the retrieval requests 24 of 34 are done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shelftalk.recommender import TaskName
from shelftalk.records import Request

if TYPE_CHECKING:  # a plan needs no tensor
    from shelftalk.decoding.language_model import LanguageModelRecommender

SAMPLED = 20
"""About how many prompts of a task, and how many names, its cost is estimated from."""


@dataclass(frozen=True)
class PlannedCall:
    """One call of the model: what it is for, as shown beside the progress, how many requests it answers, and
    the units of work that each of them costs."""

    purpose: str
    requests: int
    cost: int = 1

    @property
    def units(self) -> int:
        return self.requests * self.cost


@dataclass
class WorkloadProgress:
    """How much of its planned calls a model has done. It is handed to the model as `on_batch`."""

    report: Callable[[int, int, str], None]
    """Called with the units of work done, their total, and the purpose of the current call; the total is the
    same every time, the units done never fall."""
    _calls: list[PlannedCall] = field(default_factory=list)
    _current: int = 0

    def plan(self, calls: Sequence[PlannedCall]) -> None:
        """Set the calls that are to come, in their order; those without a request are left out."""
        self._calls, self._current = [call for call in calls if call.requests], 0
        if self._calls:
            self.report(0, self._total, self._calls[0].purpose)

    def __call__(self, done: int, total: int) -> None:
        """`done` of the `total` requests of the current call are answered."""
        if self._current == len(self._calls):  # a call that was not planned
            return
        call, before = self._calls[self._current], sum(call.units for call in self._calls[: self._current])
        self.report(before + call.units * done // total, self._total, call.purpose)
        self._current += done == total

    @property
    def _total(self) -> int:
        return sum(call.units for call in self._calls)


def request_costs(
    model: LanguageModelRecommender, requests_by_task: Mapping[TaskName, Sequence[Request]]
) -> dict[TaskName, int]:
    """Task -> units of work of one request, at least 1: the tokens read for it, relative to the cheapest
    task. Estimated from a few prompts of each task."""
    tokens = {
        task: _tokens_per_request(model, task, requests)
        for task, requests in requests_by_task.items()
        if requests
    }
    return {task: max(1, round(number / min(tokens.values()))) for task, number in tokens.items()}


def _tokens_per_request(
    model: LanguageModelRecommender, task: TaskName, requests: Sequence[Request]
) -> float:
    """The mean number of tokens read for a request: its prompt, and the names decoded after it."""
    served = model.tasks[model.settings.ranking_prompt if task == "ranking" else task]
    sample = requests[:: -(-len(requests) // SAMPLED)]
    prompts = model.backbone.encode_samples(served.prompts(sample, served.seen[0]))
    items = model.index.item_ids[:: -(-len(model.index.item_ids) // SAMPLED)]
    lengths = model.backbone.encode_names([model.index.segments(item) for item in items]).lengths
    decoded_per_name = float(lengths.mean()) - 1  # the prompt's last state gives a name's first token
    names = {
        "retrieval": model.settings.beams,
        "ranking": max(len(request.candidates) for request in sample),
        "rating": 0,
    }
    return sum(map(len, prompts)) / len(sample) + names[task] * decoded_per_name
