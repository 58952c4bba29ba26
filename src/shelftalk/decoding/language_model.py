"""The aligned language model as a recommender: the three tasks through one door.

Legend: R requests, B beams, I items.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from shelftalk.decoding.beam_search import beam_search
from shelftalk.decoding.item_trie import ItemTrie
from shelftalk.decoding.scoring import score_items
from shelftalk.decoding.settings import DecodingSettings
from shelftalk.errors import UnknownItem
from shelftalk.indexing.item_index import ItemIndex
from shelftalk.models.backbone import Backbone, Encoded
from shelftalk.records import Ranking, Request, Segment
from shelftalk.tasks.task import ServedTask
from shelftalk.tasks.templates import Template


class LanguageModelRecommender:
    """Retrieval by beam search in the item trie, ranking by the likelihood of each candidate, rating as an expected value.

    `tasks`: the served tasks by name, whose renderer made the training samples too. `held_out_wording`: ask in the first
    wording that training held out instead of the first that it saw. `on_batch` is called with (done, all) requests, for progress.
    """

    def __init__(
        self,
        backbone: Backbone,
        index: ItemIndex,
        tasks: dict[str, ServedTask],
        settings: DecodingSettings,
        name: str = "aligned",
        held_out_wording: bool = False,
        on_batch: Callable[[int, int], None] | None = None,
    ) -> None:
        self.name = name
        self.backbone = backbone
        self.index = index
        self.tasks = tasks
        self.settings = settings
        self.held_out_wording = held_out_wording
        self.on_batch = on_batch
        self.row_of = {item: row for row, item in enumerate(index.item_ids)}
        self.trie = ItemTrie([backbone.encode(index.segments(item)).ids.tolist() for item in index.item_ids])
        backbone.model.eval()

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranking]:
        """The k best items of the beam search; what the history holds is hidden from it."""
        found: list[Ranking] = []
        beams = max(k, self.settings.beams)
        for batch in self._batches(requests):
            hidden = self._history_mask(batch)
            prefilled = self.backbone.prefill(self._prompts("retrieval", batch))
            items, scores = beam_search(prefilled, self.trie, hidden, beams)
            found += [self._ranking(*row, k) for row in zip(batch, items, scores, strict=True)]
        return found

    def rank(self, requests: Sequence[Request]) -> list[Ranking]:
        """The candidates by their likelihood behind the prompt of `settings.ranking_prompt`."""
        rows = [[self._row(item) for item in request.candidates] for request in requests]
        scores = self.log_probs(requests, rows, self.settings.ranking_prompt)
        return [self._ranking(r, np.array(row), s, len(row)) for r, row, s in zip(requests, rows, scores, strict=True)]

    def rate(self, requests: Sequence[Request]) -> list[float]:
        """The expected value over the rating texts, their probabilities scaled to sum to one."""
        texts = self.tasks["rating"].context.rating_texts
        trie = ItemTrie([self.backbone.tokens(text, symbols=False) for text in texts.values()])
        values = np.array(list(texts))
        estimates: list[float] = []
        for batch in self._batches(requests):
            prefilled = self.backbone.prefill(self._prompts("rating", batch))
            scores = score_items(prefilled, trie, np.tile(np.arange(len(values)), (len(batch), 1)))
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            estimates += (weights @ values / weights.sum(axis=1)).tolist()
        return estimates

    def in_wording(self, held_out: bool) -> LanguageModelRecommender:
        """The same model asked in a wording that training held out, or in one that it saw."""
        other = copy.copy(self)
        other.held_out_wording = held_out
        return other

    def log_probs(self, requests: Sequence[Request], rows: Sequence[Sequence[int]], task: str = "retrieval") -> list[np.ndarray]:
        """For each request, the log-probability in nats of each of the catalogue rows `rows[r]` as the answer of `task`."""
        scores: list[np.ndarray] = []
        for batch in self._batches(requests):
            wanted = rows[len(scores) : len(scores) + len(batch)]
            prefilled = self.backbone.prefill(self._prompts(task, batch))
            table = np.full((len(batch), max(map(len, wanted))), -1)
            for place, row in enumerate(wanted):
                table[place, : len(row)] = row
            found = score_items(prefilled, self.trie, table)
            scores += [found[place, : len(row)] for place, row in enumerate(wanted)]
        return scores

    def prompt(self, task: str, request: Request) -> list[Segment]:
        """What the model is shown."""
        return self.tasks[task].prompt(request, self._template(task))

    def _template(self, task: str) -> Template:
        served = self.tasks[task]
        return served.held_out[0] if self.held_out_wording else served.seen[0]

    def _prompts(self, task: str, requests: Sequence[Request]) -> list[Encoded]:
        for request in requests:
            for item in (*request.history, *([request.item] if task == "rating" else [])):
                self._row(item)  # raises for a stranger
        return self.backbone.encode_samples(self.tasks[task].prompts(requests, self._template(task)))

    def _batches(self, requests: Sequence[Request]) -> Iterator[Sequence[Request]]:
        size = self.settings.batch_size
        for start in range(0, len(requests), size):
            yield requests[start : start + size]
            if self.on_batch:
                self.on_batch(min(start + size, len(requests)), len(requests))

    def _history_mask(self, requests: Sequence[Request]) -> np.ndarray:
        hidden = np.zeros((len(requests), len(self.index.item_ids)), bool)
        for row, request in enumerate(requests):
            hidden[row, [self._row(item) for item in request.history]] = True
        return hidden

    def _row(self, item: str) -> int:
        if item not in self.row_of:
            raise UnknownItem(f'item "{item}" is not in the catalogue of this model; index and train with it, or leave it out.')
        return self.row_of[item]

    def _ranking(self, request: Request, rows: np.ndarray, scores: np.ndarray, k: int) -> Ranking:
        order = np.lexsort((rows, -scores))
        order = order[rows[order] >= 0][:k]
        items = tuple(self.index.item_ids[row] for row in rows[order].tolist())
        return Ranking(request.user, items, tuple(scores[order].tolist()))
