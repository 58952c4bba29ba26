"""The aligned language model as a recommender: retrieval, ranking and rating.

Legend: R requests, I items, C candidates, V rating texts, H hidden width.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np

from shelftalk.data.item_filter import allowed
from shelftalk.data.text_space import TextSpace
from shelftalk.decoding.beam_search import beam_search
from shelftalk.decoding.exact_search import exact_top
from shelftalk.decoding.exclusions import Exclusions
from shelftalk.decoding.item_trie import Trie, build_trie, trie_of
from shelftalk.decoding.item_vectors import centred_unit_vectors, nearest, symbol_vectors
from shelftalk.decoding.scoring import candidate_table, score_items
from shelftalk.decoding.settings import DecodingSettings
from shelftalk.decoding.top_items import TopItems
from shelftalk.errors import BadValue, SettingsError, UnknownPart
from shelftalk.indexing.item_index import ItemIndex
from shelftalk.models.backbone import Backbone
from shelftalk.models.text_encoder import Encoded
from shelftalk.models.token_tree import Prefilled
from shelftalk.recommender import ALIGNED, candidate_rows, check_items, check_k, explanation
from shelftalk.records import Explanation, Ranking, Request, Segment, Text
from shelftalk.runtime.distributed import SINGLE_PROCESS, World
from shelftalk.tasks.task import ServedTask
from shelftalk.tasks.templates import Template

T = TypeVar("T")
STAND_INS = 2
"""Items in place of an entry of a history in words, for a model that reads names alone: see
benchmarks/free_text.py."""


@dataclass(frozen=True, eq=False)
class Ratings:
    """A distribution over the rating values per request: `values` [V] on the data's own scale,
    `probabilities` [R, V], rows that sum to one."""

    values: np.ndarray
    probabilities: np.ndarray

    @property
    def means(self) -> np.ndarray:
        """[R] the expected rating."""
        result: np.ndarray = self.probabilities @ self.values
        return result

    @property
    def deviations(self) -> np.ndarray:
        """[R] the standard deviation of each distribution."""
        result: np.ndarray = np.sqrt(np.maximum(self.probabilities @ self.values**2 - self.means**2, 0.0))
        return result


class LanguageModelRecommender:
    """Retrieval inside the item trie, ranking by the likelihood of each candidate, rating as a distribution.

    `tasks`: the served tasks by name, which render prompts as they rendered the training samples. `trie`:
    that of the index's names, where it has been built already (`ItemTrie.save`). `held_out_template`: use the
    first template that training held out instead of the first that it saw. `on_batch` is called with (done,
    all) requests, for progress. `processes`: those among which the requests of every call are divided; all of
    them make the same calls, and each gets all results.
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
                f"the trie holds {self.trie.items} items and the index {len(index.item_ids)}; give the trie "
                "of this index."
            )
        backbone.model.eval()

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranking]:
        """The k best items by `settings.search`. Items of the history, excluded items and those that the
        request's filter rejects are excluded inside the search, so k items come back where k are left.

        Raises SettingsError where an exact search meets its limit.
        """
        check_k(k)
        check_items(requests, self.row_of, "retrieval", reads_text=True)
        rankings: dict[int, Ranking] = {}
        with self.backbone.precision():  # around all batches, so that weights are cast once
            for positions, prefilled, exclusions in self.prefilled_batches(requests):
                top = self._search(prefilled, exclusions, k)
                for position, items, scores in zip(positions.tolist(), top.items, top.scores, strict=True):
                    rankings[position] = self._ranking(requests[position], items, scores, k)
        return self._gathered(rankings)

    def prefilled_batches(
        self, requests: Sequence[Request]
    ) -> Iterator[tuple[np.ndarray, Prefilled, Exclusions]]:
        """The retrieval prompts batch by batch, for a search: positions of its requests, their prompts
        prefilled, and the exclusions of each. Of several processes each gets its own share."""
        for positions, prefilled in self._batches("retrieval", requests):
            yield positions, prefilled, self._exclusions([requests[position] for position in positions])

    def rank(self, requests: Sequence[Request]) -> list[Ranking]:
        """The candidates by their likelihood after the prompt of `settings.ranking_prompt`."""
        rows = candidate_rows(requests, self.row_of, reads_text=True)
        scores = self.log_probs(requests, rows, self.settings.ranking_prompt)
        return [
            self._ranking(request, np.array(row), row_scores, len(row))
            for request, row, row_scores in zip(requests, rows, scores, strict=True)
        ]

    def rate(self, requests: Sequence[Request]) -> list[float]:
        """The expected value of each distribution of `ratings`."""
        result: list[float] = self.ratings(requests).means.tolist()
        return result

    def ratings(self, requests: Sequence[Request]) -> Ratings:
        """How likely each rating text is for `request.item`, scaled to sum to one over the rating texts."""
        texts = self._task("rating").context.rating_texts
        check_items(requests, self.row_of, "rating", reads_text=True)
        trie = build_trie([self.backbone.tokens(text, symbols=False) for text in texts.values()])
        values, by_position = np.array(list(texts)), dict[int, np.ndarray]()
        with self.backbone.precision():
            for positions, prefilled in self._batches("rating", requests):
                table = score_items(prefilled, trie, np.tile(np.arange(len(values)), (len(positions), 1)))
                by_position |= zip(positions.tolist(), table, strict=True)
        scores = np.reshape(self._gathered(by_position), (len(requests), len(values)))
        probabilities = np.exp(scores - scores.max(axis=1, keepdims=True))
        return Ratings(values, probabilities / probabilities.sum(axis=1, keepdims=True))

    def similar(self, item: str, k: int) -> Ranking:
        """The k items whose `item_vectors` have the highest cosine to that of the item."""
        check_k(k)
        check_items([Request("", (item,))], self.row_of, "retrieval")
        rows, cosines = nearest(self.item_vectors, self.row_of[item], k)
        items = tuple(self.index.item_ids[row] for row in rows.tolist())
        return Ranking("", items, tuple(cosines.tolist()))

    def why(self, history: Sequence[str], item: str) -> Explanation:
        """By how many nats the item's log-probability falls without each entry of the history."""

        def scores_of(requests: list[Request]) -> list[float]:
            check_items(requests, self.row_of, "rating", reads_text=True)
            rows = [[self.row_of[item]]] * len(requests)
            return [float(score) for (score,) in self.log_probs(requests, rows)]

        return explanation(history, item, scores_of)

    @cached_property
    def item_vectors(self) -> np.ndarray:
        """[I, H] float32 of length 1: what the model itself has of each item.

        Where names are symbols, the mean of their embeddings, without a last level that only numbers
        collisions; where names are free text, the hidden state from which the model answers after a history
        of that item alone. The mean of all items is taken out, since all share a large part of it. Computed
        at first use: a read of one short prompt per item where names are free text, a moment elsewhere.
        """
        if self.index.symbols:
            return centred_unit_vectors(symbol_vectors(self.backbone, self.index))
        return centred_unit_vectors(self.states([Request("", (item,)) for item in self.index.item_ids]))

    def states(self, requests: Sequence[Request]) -> np.ndarray:
        """[R, H] float32: the hidden state from which retrieval is answered, for each request."""
        states: dict[int, np.ndarray] = {}
        with self.backbone.precision():
            for positions, prefilled in self._batches("retrieval", requests):
                rows = prefilled.states.float().cpu().numpy()
                states |= zip(positions.tolist(), rows, strict=True)
        return np.stack(self._gathered(states))

    def with_template(self, held_out: bool) -> LanguageModelRecommender:
        """The same model with prompts of a template that training held out, or of one that it saw."""
        other = copy.copy(self)
        other.held_out_template = held_out
        return other

    def with_settings(self, **changes: object) -> LanguageModelRecommender:
        """The same model with other decoding settings."""
        other = copy.copy(self)
        other.settings = DecodingSettings.model_validate(self.settings.model_dump() | changes)
        return other

    def log_probs(
        self, requests: Sequence[Request], rows: Sequence[Sequence[int]], task: str = "retrieval"
    ) -> list[np.ndarray]:
        """For each request, the log-probability in nats of each of the catalogue rows `rows[r]` after the
        prompt of `task`."""
        scores: dict[int, np.ndarray] = {}
        with self.backbone.precision():
            for positions, prefilled in self._batches(task, requests):
                candidates = [rows[position] for position in positions]
                table = score_items(prefilled, self.trie, candidate_table(candidates), self.settings.of_names)
                for position, row, row_scores in zip(positions.tolist(), candidates, table, strict=True):
                    scores[position] = row_scores[: len(row)]
        return self._gathered(scores)

    def prompt(self, task: str, request: Request) -> list[Segment]:
        """The prompt of a request, as segments of text."""
        (request,) = self.without_words([request], task)
        return self._task(task).prompt(request, self._template(task))

    def without_words(self, requests: Sequence[Request], task: str = "retrieval") -> list[Request]:
        """For a model that has never read words where items stand (`text_share` of the task is 0, and names
        are symbols): the requests with the STAND_INS items most similar by text in place of each `Text`, the
        most similar last, and nothing where no word of it is in the catalogue. For any other model the
        requests as they are."""
        if not self.index.symbols or self._task(task).settings.text_share > 0:
            return list(requests)
        return [
            request
            if not any(isinstance(entry, Text) for entry in request.history)
            else self._with_stand_ins(request)
            for request in requests
        ]

    def _with_stand_ins(self, request: Request) -> Request:
        history, ratings = list[str](), list[float | None]()
        for entry, rating in zip(
            request.history, request.ratings or (None,) * len(request.history), strict=True
        ):
            similar = [entry]
            if isinstance(entry, Text):
                rows, _ = self._text_space.nearest(entry, STAND_INS)
                similar = [self.index.item_ids[row] for row in rows[::-1].tolist()]
            history += similar
            ratings += [rating] * len(similar)
        return replace(request, history=tuple(history), ratings=tuple(ratings) if request.ratings else ())

    @cached_property
    def _text_space(self) -> TextSpace:
        return TextSpace(self._task("retrieval").context.split.dataset.items)

    def _search(self, prefilled: Prefilled, exclusions: Exclusions, k: int) -> TopItems:
        settings = self.settings
        if settings.search == "beam":
            beams = min(max(k, settings.beams), self.trie.items)  # more beams than names have no prefix
            penalty, finish = settings.length_penalty, settings.finish
            return beam_search(prefilled, self.trie, exclusions, beams, penalty, finish, settings.of_names)
        limit, softmax = settings.exact_limit, settings.of_names
        top = exact_top(prefilled, self.trie, exclusions, k, limit=limit, softmax=softmax)
        if not top.proven.all():
            raise SettingsError(
                f"the exact search decoded {settings.exact_limit} tokens after {int((~top.proven).sum())} of "
                f"{len(top.proven)} prompts without coming to an end; raise decoding.exact_limit or set "
                'decoding.search = "beam".'
            )
        return top

    def _exclusions(self, requests: Sequence[Request]) -> Exclusions:
        """The items that each request may not be given; requests of one filter share its mask."""
        excluded = [
            [
                self.row_of[item]
                for item in (*request.history, *request.excluded)
                if not isinstance(item, Text)
            ]
            for request in requests
        ]
        filters = dict.fromkeys(request.filter for request in requests if request.filter is not None)
        if not filters:
            return Exclusions(self.trie, excluded)
        number = {item_filter: index for index, item_filter in enumerate(filters)}
        catalogue = self._task("retrieval").context.split.dataset.items
        masks = np.stack([allowed(catalogue, item_filter) for item_filter in filters])
        mask_index = [-1 if request.filter is None else number[request.filter] for request in requests]
        return Exclusions(self.trie, excluded, masks, np.array(mask_index))

    def _batches(self, task: str, requests: Sequence[Request]) -> Iterator[tuple[np.ndarray, Prefilled]]:
        """Positions of the requests of each batch of this process, and their prompts prefilled: prompts of
        similar length together, so that little is padding."""
        prompts = self._prompts(task, requests)
        order = np.argsort([-len(prompt) for prompt in prompts], kind="stable")
        batch_size = self.settings.batch_size
        starts = self.processes.shard(range(0, len(order), batch_size))
        for number, start in enumerate(starts, 1):
            positions = order[start : start + batch_size]
            yield positions, self.backbone.prefill([prompts[position] for position in positions])
            if self.on_batch:
                # as if all processes had done as many batches: the first, which reports, has no fewer
                done = number * batch_size * self.processes.size
                self.on_batch(min(done, len(requests)), len(requests))

    def _gathered(self, mine: Mapping[int, T]) -> list[T]:
        """The results of all processes in the order of the requests, from this one's by position."""
        results: dict[int, T] = {}
        for shard in self.processes.all_gather(dict(mine)):
            results |= shard
        return [results[position] for position in range(len(results))]

    def _prompts(self, task: str, requests: Sequence[Request]) -> list[Encoded]:
        requests = self.without_words(requests, task)
        prompts = self.backbone.encode_samples(self._task(task).prompts(requests, self._template(task)))
        self._check_lengths(task, requests, prompts)
        return prompts

    def _check_lengths(self, task: str, requests: Sequence[Request], prompts: Sequence[Encoded]) -> None:
        """Raises BadValue where a prompt and the longest name after it are more tokens than the model can
        read. Histories are cut as in training, so that only other items' texts can make a prompt longer
        than there."""
        if self.backbone.positions is None or not prompts:
            return
        longest = max(range(len(prompts)), key=lambda position: len(prompts[position]))
        name = self._longest_name - 1  # a name's last token is not read
        if len(prompts[longest]) + name > self.backbone.positions:
            raise BadValue(
                f'the {task} prompt of user "{requests[longest].user}" has {len(prompts[longest])} tokens '
                f"and the longest name {name}, and this model has positions for {self.backbone.positions}; "
                f"give it a shorter history, or train with a smaller tasks.{task}.max_history."
            )

    @cached_property
    def _longest_name(self) -> int:
        """In tokens."""
        names = self.backbone.encode_names([self.index.segments(item) for item in self.index.item_ids])
        return int(names.lengths.max())

    def _template(self, task: str) -> Template:
        served = self._task(task)
        return served.held_out[0] if self.held_out_template else served.seen[0]

    def _task(self, name: str) -> ServedTask:
        if name not in self.tasks:
            raise UnknownPart(
                f'"{self.name}" was not trained to serve {name}; ask it {" or ".join(self.tasks)}, or train '
                "on data that has that task."
            )
        return self.tasks[name]

    def _ranking(self, request: Request, rows: np.ndarray, scores: np.ndarray, k: int) -> Ranking:
        order = np.lexsort((rows, -scores))
        order = order[rows[order] >= 0][:k]
        items = tuple(self.index.item_ids[row] for row in rows[order].tolist())
        return Ranking(request.user, items, tuple(scores[order].tolist()))
