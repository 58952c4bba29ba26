"""A language model whose catalogue changes while it answers: items join, change, are hidden, and leave, with
no training.

It belongs to one thread: `refresh` and every question are called from the same one, so that no lock is needed
and no question sees a catalogue that is half changed. Rows of the catalogue are numbered once: an item that
gets another name, or is removed and comes back, gets a new row; its old one is excluded from every search.

Legend: I items of the trained catalogue.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property

import numpy as np

from shelftalk.data.splitting import Split
from shelftalk.decoding.item_trie import ItemTrie, Trie, build_trie
from shelftalk.decoding.item_vectors import centred_unit_vectors, symbol_vectors
from shelftalk.decoding.language_model import LanguageModelRecommender
from shelftalk.decoding.live_trie import LiveTrie
from shelftalk.errors import DuplicateName, SettingsError
from shelftalk.indexing.item_index import LAST_LEVEL, IndexSettings, ItemIndex, split_symbols
from shelftalk.ragged import Ragged, ragged, vstack
from shelftalk.records import Item, Ranking, Request, Segment
from shelftalk.serving.live_catalogue import LiveCatalogue, LiveDataset, text_of
from shelftalk.serving.new_names import NewNames
from shelftalk.serving.new_symbols import Calibration, Mixture, SymbolRows
from shelftalk.tasks.item_text import ItemText
from shelftalk.tasks.task import TaskContext
from shelftalk.tasks.templates import Template

REBUILT_AFTER = 4000
"""Names added to a trie before it is built anew with all of them: each costs time at every change."""
CALIBRATED = 300
"""Trained items, drawn by seed, by which embeddings of new symbols are given their length."""
FORMS = ("name", "line", "before_rating", "candidate")
"""The methods of ItemText that prompts use."""


@dataclass(frozen=True, eq=False)
class LiveContext(TaskContext):
    """The context of prompts over a LiveDataset: an item is rendered when it is first shown, and again after
    it has changed."""

    scale: Mapping[float, str] = field(default_factory=dict)
    codes: dict[tuple[str, int, int], list[int]] = field(default_factory=dict)
    """(form, variant, row) -> piece codes."""

    @property
    def rating_texts(self) -> dict[float, str]:
        """Those of the training."""
        return dict(self.scale)

    def rendered_items(self, form: str, names_only: bool, bears_loss: bool = False) -> Ragged:
        return RenderedWhenTaken(self, form, int(names_only) + 2 * int(bears_loss))

    def item_variants(self, form: str) -> Ragged:
        return RenderedWhenTaken(self, form, None)

    def row_codes(self, form: str, variant: int, row: int) -> list[int]:
        """The piece codes of one row; variant: 1 for names only, plus 2 where it bears loss."""
        known = self.codes.get((form, variant, row))
        if known is None:
            text = self.text.names_only if variant % 2 else self.text
            item = self.split.dataset.item_ids[row]
            render = getattr(text, form)
            known = self.tables.codes(render(item, True) if variant >= 2 else render(item))
            self.codes[form, variant, row] = known
        return known

    def forget(self, row: int) -> None:
        """Render the row again when it is next shown."""
        for form in FORMS:
            for variant in range(4):
                self.codes.pop((form, variant, row), None)


class RenderedWhenTaken(Ragged):
    """The rows of `TaskContext.item_variants`, or of one variant, each made when it is first taken."""

    def __init__(self, context: LiveContext, form: str, variant: int | None) -> None:
        super().__init__(np.zeros(0, np.int64), np.zeros(1, np.int64))
        vars(self).update(context=context, form=form, variant=variant)

    def take(self, rows: np.ndarray) -> Ragged:
        """As Ragged.take."""
        context: LiveContext = vars(self)["context"]
        form, variant = vars(self)["form"], vars(self)["variant"]
        items = len(context.split.dataset.items)
        pairs = ((variant, row) if variant is not None else divmod(row, items) for row in rows.tolist())
        return ragged([context.row_codes(form, which, row) for which, row in pairs])


class LiveIndex(ItemIndex):
    """An index whose names are changed and added in memory; `commit` ends some changes."""

    def __init__(self, index: ItemIndex) -> None:
        super().__init__(**{field.name: getattr(index, field.name) for field in fields(index)})
        lists = {"name_list": list(index.names), "word_list": list(index.words)}
        vars(self).update(lists, _name_of=dict(index._name_of), _words_of=dict(index._words_of))

    def put(self, item_id: str, name: str, words: str) -> None:
        """Name an item anew, in the next row."""
        vars(self)["name_list"].append(name)
        self._name_of[item_id] = name
        if self.words:
            vars(self)["word_list"].append(words)
            self._words_of[item_id] = words

    def retire(self, item_id: str) -> None:
        """Take an item's name away."""
        self._name_of.pop(item_id)
        self._words_of.pop(item_id, None)

    def commit(self, item_ids: Sequence[str]) -> None:
        """Bring the tuples to what the rows are."""
        object.__setattr__(self, "item_ids", tuple(item_ids))
        object.__setattr__(self, "names", tuple(vars(self)["name_list"]))
        object.__setattr__(self, "words", tuple(vars(self)["word_list"]))


class LiveLanguageModel(LiveCatalogue):
    """`recommender` with a catalogue that changes, which it becomes the only user of: it adds rows to the
    embeddings, so that the recommender must not be asked any more. `model` answers as of the last
    `refresh`. `settings` and `seed`: those of the index, by which the semantic scheme names new items."""

    def __init__(
        self, recommender: LanguageModelRecommender, settings: IndexSettings | None = None, seed: int = 0
    ) -> None:
        context = next(iter(recommender.tasks.values())).context
        items = context.split.dataset.items
        super().__init__(items)
        self.new_names = NewNames(recommender.index, items, settings, seed)
        self._index = LiveIndex(recommender.index)
        self._text = ItemText(self.dataset, self._index, context.text.settings)
        templates = {name: task.templates for name, task in recommender.tasks.items()}
        self._context = _live_context(context, self.dataset, self._text, templates)
        self._symbols = SymbolRows(recommender.backbone)
        self._base = _built(recommender.trie)
        self._trie = LiveTrie(self._base)
        self._added: list[list[int]] = []  # the tokens of each name that is not in the base
        self._longest = self._base.depth
        self._states = np.zeros((0, 0), np.float32)
        self.model = copy.copy(recommender)
        self.model.index, self.model.row_of = self._index, self.dataset.row_of
        self.model.tasks = {
            name: type(task)(task.settings, self._context) for name, task in recommender.tasks.items()
        }
        self._publish()

    def similar(self, item_id: str, k: int) -> Ranking:
        """The k visible items whose vectors (LanguageModelRecommender.item_vectors) are nearest to the
        item's."""
        vectors = centred_unit_vectors(self._vectors())
        cosines = vectors @ vectors[self.dataset.row_of[item_id]]
        left_out = self.hidden_rows | {self.dataset.row_of[item_id]}
        cosines[list(left_out)] = -np.inf
        order = np.lexsort((np.arange(len(cosines)), -cosines))[:k]
        order = order[np.isfinite(cosines[order])]
        items = tuple(self.dataset.item_ids[row] for row in order.tolist())
        return Ranking("", items, tuple(cosines[order].tolist()))

    def _vectors(self) -> np.ndarray:
        """[rows, H] before centring. Where names are free text, each is computed once, when it is first
        needed, by a read of one short prompt."""
        if self._index.symbols:
            return symbol_vectors(self.model.backbone, self._index)
        ids = self.dataset.item_ids
        missing = [row for row in range(len(self._states), len(ids)) if row not in self.retired]
        states = np.zeros((len(ids) - len(self._states), self._states.shape[1]), np.float32)
        if missing:
            read = self.model.states([Request("", (ids[row],)) for row in missing])
            states = np.zeros((len(states), read.shape[1]), np.float32)
            states[np.array(missing) - len(self._states)] = read
        self._states = np.concatenate([self._states.reshape(-1, states.shape[1]), states])
        return self._states

    # --- one item ----------------------------------------------------------------------------------------

    def _is_named_by_text(self, row: int) -> bool:
        return self._index.includes_title or row >= self.trained_items

    def _retire(self, item_id: str) -> None:
        if item_id in self.dataset.row_of:
            self._index.retire(item_id)
        super()._retire(item_id)

    def _forget(self, row: int, item_id: str) -> None:
        """Render the row anew when it is next shown."""
        self._context.forget(row)
        for text in (self._text, self._text.names_only):
            text._details.pop(item_id, None)

    def _join(self, item: Item) -> str:
        """Name the item and add it."""
        try:
            name, tokens = self._new_name(item)
        except SettingsError as error:
            return str(error)
        self.new_names.names.add(name)
        self._added.append(tokens)
        self._longest = max(self._longest, len(tokens))
        self._index.put(item.id, name, self.new_names.words(item))
        return super()._join(item)

    def _new_name(self, item: Item) -> tuple[str, list[int]]:
        """The best free name and its tokens. Two names may differ and yet have the same tokens, where a
        tokenizer drops what it does not know: then the next one is taken."""
        words = self.new_names.words(item)
        for name in self.new_names.candidates(item):
            if self._index.symbols:
                self._put_symbols(name, item)
            parts = (Segment(name, symbols=self._index.symbols), *([Segment(f" {words}")] if words else []))
            end = [Segment(self._index.end)] if self._index.end else []
            tokens: list[int] = self.model.backbone.encode_names([[*parts, *end]])[0].tolist()
            if self._is_free(tokens):
                return name, tokens
        raise AssertionError("candidates ends with an error")

    def _is_free(self, tokens: list[int]) -> bool:
        """Whether no name has these tokens, or begins so."""
        if self._index.symbols and not self._index.words:
            return True  # other symbols are other tokens
        try:
            LiveTrie(self._base, [tokens])
        except DuplicateName:
            return False
        return not any(_begins(tokens, other) for other in self._added)

    def _put_symbols(self, name: str, item: Item) -> None:
        """Give the symbols of a name that the model does not know an embedding."""
        for symbol in split_symbols(name):
            if symbol.startswith(LAST_LEVEL) and not self.model.backbone.text_encoder.has_symbols([symbol]):
                known = self._symbols.ids(self.new_names.last_symbols)  # they only number, so any is alike
                self._symbols.put(symbol, (known, np.full(len(known), 1 / len(known), np.float32)))
            elif self.new_names.kind == "atomic":
                self._symbols.put(symbol, self._mixture(item), self._calibration)

    @cached_property
    def _trained_symbols(self) -> np.ndarray:
        """[I] their token ids."""
        return self._symbols.ids(self._index.names[: self.trained_items])

    @cached_property
    def _calibration(self) -> Calibration:
        """Of trained items drawn by seed that are similar to others by text."""
        drawn = np.random.default_rng(0).permutation(self.trained_items)[:CALIBRATED]
        similar = self.new_names.texts.nearest_others(drawn)
        mixed = [
            (int(self._trained_symbols[row]), self._mixture_of(*others))
            for row, others in zip(drawn.tolist(), similar, strict=True)
        ]
        return Calibration(self._trained_symbols, mixed)

    def _mixture(self, item: Item) -> Mixture:
        """What a new symbol's embedding is made of: the symbols of the most similar items by text, weighted
        by their cosines; of an item that is similar to none all symbols alike."""
        return self._mixture_of(*self.new_names.texts.nearest(text_of(item)))

    def _mixture_of(self, rows: np.ndarray, cosines: np.ndarray) -> Mixture:
        if not len(rows):
            rows, cosines = np.arange(self.trained_items), np.ones(self.trained_items)
        return self._trained_symbols[rows], (cosines / cosines.sum()).astype(np.float32)

    def _publish(self) -> None:
        """Give the model an index and a trie of what there is now."""
        self._index.commit(self.dataset.item_ids)
        if len(self._added) > REBUILT_AFTER:
            old = self._base.names(np.arange(self._base.items))
            self._base, self._added = build_trie(vstack([old, ragged(self._added)])), []
        if self._trie.base is not self._base or len(self._trie.added) != len(self._added):
            self._trie = LiveTrie(self._base, self._added)
        self._trie = self.model.trie = self._trie.with_removed(self.hidden_rows)
        vars(self.model)["_longest_name"] = self._longest
        vars(self.model).pop("item_vectors", None)


def _begins(tokens: Sequence[int], other: Sequence[int]) -> bool:
    """Whether one is the other's beginning."""
    length = min(len(tokens), len(other))
    return tokens[:length] == other[:length]


def _live_context(
    context: TaskContext, dataset: LiveDataset, text: ItemText, templates: Mapping[str, Sequence[Template]]
) -> LiveContext:
    nothing = np.zeros(0, np.uint8)
    return LiveContext(
        Split(dataset, nothing, nothing, {}),
        text,
        context.nouns,
        context.seed,
        templates,
        scale=dict(context.rating_texts),
    )


def _built(trie: Trie) -> ItemTrie:
    if not isinstance(trie, ItemTrie):
        raise TypeError("a recommender whose trie is live already")
    return trie
