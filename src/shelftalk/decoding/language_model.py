"""The aligned language model as a recommender: the three tasks through one door.

Legend: R requests, I items, C candidates, V rating texts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from shelftalk.data.item_filter import allowed
from shelftalk.decoding.beam_search import beam_search
from shelftalk.decoding.exact_search import exact_top
from shelftalk.decoding.exclusions import Exclusions
from shelftalk.decoding.item_trie import Trie, build_trie, trie_of
from shelftalk.decoding.scoring import candidate_table, score_items
from shelftalk.decoding.settings import DecodingSettings
from shelftalk.decoding.top_items import TopItems
from shelftalk.errors import BadValue, SettingsError, UnknownPart
from shelftalk.indexing.item_index import ItemIndex
from shelftalk.models.backbone import Backbone
from shelftalk.models.text_encoder import Encoded
from shelftalk.models.token_tree import Prefilled
from shelftalk.recommender import ALIGNED, candidate_rows, check_items, check_k
from shelftalk.records import Ranking, Request, Segment
from shelftalk.runtime.distributed import SINGLE_PROCESS, World
from shelftalk.tasks.task import ServedTask
from shelftalk.tasks.templates import Template

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Ratings:
    """A distribution over the rating values per request: `values` [V] on the data's own scale, `chances` [R,
    V] that sum to one."""

    values: np.ndarray
    probabilities: np.ndarray

    @property
    def means(self) -> np.ndarray:
        """[R] the expected rating."""
        return self.probabilities @ self.values

    @property
    def deviations(self) -> np.ndarray:
        """[R] the standard deviation of each distribution."""
        return np.sqrt(np.maximum(self.probabilities @ self.values**2 - self.means**2, 0.0))


class LanguageModelRecommender:
    """Retrieval inside the item trie, ranking by the likelihood of each candidate, rating as a distribution.

    `tasks`: the served tasks by name, whose renderer made the training samples too. `trie`: that of the
    index's names, where it has been built already (`ItemTrie.save`). `held_out_template`: ask in the first
    wording that training held out instead of the first that it saw. `on_batch` is called with (done, all)
    requests, for progress. `processes`: those among which the requests of every call are divided; all of them
    make the same calls, and each gets all answers.
    """

    def __init__(
        self,
        backbone: Backbone,
        index: ItemIndex,
        tasks: dict[str, ServedTask],
        settings: DecodingSettings,
        name: str = ALIGNED,
        held_out_template: bool = False,
        on_batch: Callable[[int, int], None] | None = None,
        trie: Trie | None = None,
        processes: World = SINGLE_PROCESS,
    ) -> None:
        self.name = name
        self.backbone = backbone
        self.index = index
        self.tasks = tasks
        self.settings = settings
        self.held_out_template = held_out_template
        self.on_batch = on_batch
        self.processes = processes
        self.row_of = {item: row for row, item in enumerate(index.item_ids)}
        self.trie: Trie = trie if trie is not None else trie_of(backbone, index)
        if self.trie.items != len(index.item_ids):
            raise SettingsError(
                f"the trie holds {self.trie.items} items and the index {len(index.item_ids)}; give the trie of this index."
            )
        backbone.model.eval()

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranking]:
        """The k best items by `settings.search`. What the history holds, what the request excludes and what
        its filter does not let pass is closed inside the trie, so k items come back where k are left.

        Raises SettingsError where an exact search meets its limit.
        """
        check_k(k)
        check_items(requests, self.row_of, "retrieval")
        rankings: dict[int, Ranking] = {}
        with self.backbone.precision():  # once around all of it: weights are cast once, not at every call
            for positions, prefilled, exclusions in self.read(requests):
                found = self._search(prefilled, exclusions, k)
                for position, items, scores in zip(
                    positions.tolist(), found.items, found.scores, strict=True
                ):
                    rankings[position] = self._ranking(requests[position], items, scores, k)
        return self._whole(rankings)

    def read(self, requests: Sequence[Request]) -> Iterator[tuple[np.ndarray, Prefilled, Exclusions]]:
        """The retrieval prompts batch by batch, for a search: places of its requests, their prompts, and what
        each may not be given. Of several processes each reads its own share."""
        for positions, prefilled in self._batches("retrieval", requests):
            yield positions, prefilled, self._exclusions([requests[position] for position in positions])

    def rank(self, requests: Sequence[Request]) -> list[Ranking]:
        """The candidates by their likelihood behind the prompt of `settings.ranking_prompt`."""
        rows = candidate_rows(requests, self.row_of)
        scores = self.log_probs(requests, rows, self.settings.ranking_prompt)
        return [
            self._ranking(r, np.array(row), s, len(row))
            for r, row, s in zip(requests, rows, scores, strict=True)
        ]

    def rate(self, requests: Sequence[Request]) -> list[float]:
        """The expected value of each distribution of `ratings`."""
        return self.ratings(requests).means.tolist()

    def ratings(self, requests: Sequence[Request]) -> Ratings:
        """How likely each rating text is for `request.item`, scaled to sum to one over the rating texts."""
        texts = self._task("rating").context.rating_texts
        check_items(requests, self.row_of, "rating")
        trie = build_trie([self.backbone.tokens(text, symbols=False) for text in texts.values()])
        values, found = np.array(list(texts)), dict[int, np.ndarray]()
        with self.backbone.precision():
            for positions, prefilled in self._batches("rating", requests):
                table = score_items(prefilled, trie, np.tile(np.arange(len(values)), (len(positions), 1)))
                found |= zip(positions.tolist(), table, strict=True)
        scores = np.reshape(self._whole(found), (len(requests), len(values)))
        probabilities = np.exp(scores - scores.max(axis=1, keepdims=True))
        return Ratings(values, probabilities / probabilities.sum(axis=1, keepdims=True))

    def with_template(self, held_out: bool) -> LanguageModelRecommender:
        """The same model asked in a wording that training held out, or in one that it saw."""
        other = copy.copy(self)
        other.held_out_template = held_out
        return other

    def searching(self, **changes: object) -> LanguageModelRecommender:
        """The same model with other decoding settings."""
        other = copy.copy(self)
        other.settings = DecodingSettings.model_validate(self.settings.model_dump() | changes)
        return other

    def log_probs(
        self, requests: Sequence[Request], rows: Sequence[Sequence[int]], task: str = "retrieval"
    ) -> list[np.ndarray]:
        """For each request, the log-probability in nats of each of the catalogue rows `rows[r]` as the answer
        of `task`."""
        scores: dict[int, np.ndarray] = {}
        with self.backbone.precision():
            for positions, prefilled in self._batches(task, requests):
                wanted = [rows[position] for position in positions]
                table = score_items(prefilled, self.trie, candidate_table(wanted))
                for position, row, found in zip(positions.tolist(), wanted, table, strict=True):
                    scores[position] = found[: len(row)]
        return self._whole(scores)

    def prompt(self, task: str, request: Request) -> list[Segment]:
        """What the model is shown."""
        return self._task(task).prompt(request, self._template(task))

    def _search(self, prefilled: Prefilled, exclusions: Exclusions, k: int) -> TopItems:
        settings = self.settings
        if settings.search == "beam":
            beams = min(
                max(k, settings.beams), self.trie.items
            )  # there is nothing for more of them to follow
            return beam_search(
                prefilled, self.trie, exclusions, beams, settings.length_penalty, settings.finish
            )
        found = exact_top(prefilled, self.trie, exclusions, k, limit=settings.exact_limit)
        if not found.proven.all():
            raise SettingsError(
                f"the exact search read {settings.exact_limit} tokens behind {int((~found.proven).sum())} of {len(found.proven)} prompts "
                'without coming to an end; raise decoding.exact_limit or set decoding.search = "beam".'
            )
        return found

    def _exclusions(self, requests: Sequence[Request]) -> Exclusions:
        """What each request may not be given; requests of one filter share its mask."""
        excluded = [
            [self.row_of[item] for item in (*request.history, *request.excluded)] for request in requests
        ]
        filters = {request.filter: 0 for request in requests if request.filter is not None}
        if not filters:
            return Exclusions(self.trie, excluded)
        number = {wanted: position for position, wanted in enumerate(filters)}
        catalogue = self._task("retrieval").context.split.dataset.items
        masks = np.stack([allowed(catalogue, wanted) for wanted in filters])
        return Exclusions(
            self.trie,
            excluded,
            masks,
            np.array([-1 if r.filter is None else number[r.filter] for r in requests]),
        )

    def _batches(self, task: str, requests: Sequence[Request]) -> Iterator[tuple[np.ndarray, Prefilled]]:
        """Places of the requests of each batch of this process, and their prompts read: prompts of like
        length together, so that little is padding."""
        prompts = self._prompts(task, requests)
        order = np.argsort([-len(prompt) for prompt in prompts], kind="stable")
        together = (
            self.settings.batch_size * self.processes.size
        )  # the others are taken to be as far: the first has no fewer batches
        for turn, start in enumerate(self.processes.shard(range(0, len(order), self.settings.batch_size)), 1):
            positions = order[start : start + self.settings.batch_size]
            yield positions, self.backbone.prefill([prompts[position] for position in positions])
            if self.on_batch:
                self.on_batch(min(turn * together, len(requests)), len(requests))

    def _whole(self, mine: Mapping[int, T]) -> list[T]:
        """The answers in the order of the requests, the other processes' among them."""
        found = {
            position: answer
            for part in self.processes.all_gather(dict(mine))
            for position, answer in part.items()
        }
        return [found[position] for position in range(len(found))]

    def _prompts(self, task: str, requests: Sequence[Request]) -> list[Encoded]:
        prompts = self.backbone.encode_samples(self._task(task).prompts(requests, self._template(task)))
        self._check_room(task, requests, prompts)
        return prompts

    def _check_room(self, task: str, requests: Sequence[Request], prompts: Sequence[Encoded]) -> None:
        """Raises BadValue where a prompt and the longest name behind it are more than the model can read.
        Histories are cut to what the task shows, so that only other items' texts can make a prompt longer
        than those of the training."""
        if self.backbone.positions is None or not prompts:
            return
        longest = max(range(len(prompts)), key=lambda position: len(prompts[position]))
        name = self._longest_name - 1  # nothing is read behind a name's last token
        if len(prompts[longest]) + name > self.backbone.positions:
            raise BadValue(
                f'the {task} prompt of user "{requests[longest].user}" has {len(prompts[longest])} tokens and the longest name {name}, and '
                f"this model has positions for {self.backbone.positions}; give it a shorter history, or train with a smaller "
                f"tasks.{task}.max_history."
            )

    @cached_property
    def _longest_name(self) -> int:
        """Tokens."""
        return int(
            self.backbone.encode_names(
                [self.index.segments(item) for item in self.index.item_ids]
            ).lengths.max()
        )

    def _template(self, task: str) -> Template:
        served = self._task(task)
        return served.held_out[0] if self.held_out_template else served.seen[0]

    def _task(self, name: str) -> ServedTask:
        if name not in self.tasks:
            raise UnknownPart(
                f'"{self.name}" was not trained to serve {name}; it serves {", ".join(self.tasks)}.'
            )
        return self.tasks[name]

    def _ranking(self, request: Request, rows: np.ndarray, scores: np.ndarray, k: int) -> Ranking:
        order = np.lexsort((rows, -scores))
        order = order[rows[order] >= 0][:k]
        items = tuple(self.index.item_ids[row] for row in rows[order].tolist())
        return Ranking(request.user, items, tuple(scores[order].tolist()))
