"""A language model whose catalogue changes while it answers: items join, change, are hidden, and leave, with
no training.

It belongs to one thread: `refresh` and every question are called from the same one, so that no lock is needed
and no question sees a catalogue that is half changed. Rows of the catalogue are numbered once: an item that
gets another name, or is removed and comes back, gets a new row; its old one is excluded from every search.

Legend: I items of the trained catalogue.
"""

from __future__ import annotations

import copy
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import polars as pl

from shelftalk.data.dataset import EVENT_COLUMNS, Dataset
from shelftalk.data.splitting import Split
from shelftalk.decoding.item_trie import ItemTrie, Trie, build_trie
from shelftalk.decoding.language_model import LanguageModelRecommender
from shelftalk.decoding.live_trie import LiveTrie
from shelftalk.errors import DuplicateName, SettingsError
from shelftalk.indexing.item_index import LAST_LEVEL, IndexSettings, ItemIndex, split_symbols
from shelftalk.ragged import Ragged, ragged, vstack
from shelftalk.records import Item, Segment
from shelftalk.serving.new_names import NewNames, frame_of
from shelftalk.serving.new_symbols import SymbolRows
from shelftalk.serving.store import StoredItem
from shelftalk.tasks.item_text import ItemText
from shelftalk.tasks.task import TaskContext
from shelftalk.tasks.templates import Template

REBUILT_AFTER = 4000
"""Names added to a trie before it is built anew with all of them: each costs time at every change."""
FORMS = ("name", "line", "before_rating", "candidate")
"""The methods of ItemText that prompts use."""
RETIRED = "\x00retired "
"""Begins the id of a row that no item has any more; no item id holds a NUL character."""


class LiveDataset(Dataset):
    """A catalogue without events whose rows are changed and added in memory; `commit` ends some changes."""

    records: dict[int, Item]
    """Row -> the item there, of rows that changed or were added."""

    def __init__(self, items: pl.DataFrame) -> None:
        super().__init__(items, pl.DataFrame(schema=EVENT_COLUMNS))
        ids = items["item_id"].to_list()
        row_of = {item: row for row, item in enumerate(ids)}
        # in place of what would be computed once from the frame
        vars(self).update(item_ids=ids, row_of=row_of, records={}, dirty=set())

    def item(self, item_id: str) -> Item:
        """As Dataset.item."""
        return self.records.get(self.row_of[item_id]) or super().item(item_id)

    def put(self, row: int, item: Item) -> None:
        """Change the item of a row, or add the next row."""
        if row == len(self.item_ids):
            self.item_ids.append(item.id)
        self.row_of[item.id] = row
        self.records[row] = item
        vars(self)["dirty"].add(row)

    def retire(self, item_id: str) -> int:
        """Take the item away; its row remains, under an id that no item has."""
        row = self.row_of.pop(item_id)
        self.item_ids[row] = f"{RETIRED}{row}"
        return row

    def commit(self) -> None:
        """Bring the frame, which filters read, to what the rows are."""
        dirty: set[int] = vars(self)["dirty"]
        old = sorted(row for row in dirty if row < len(self.items))
        new = sorted(dirty - set(old))
        frame = self.items
        if old:
            values = frame_of([self.records[row] for row in old])
            numbered = values.with_columns(row=pl.Series(old, dtype=pl.get_index_type()))
            frame = frame.with_row_index("row").update(numbered, on="row", include_nulls=True).drop("row")
        if new:
            frame = pl.concat([frame, frame_of([self.records[row] for row in new])])
        object.__setattr__(self, "items", frame)
        dirty.clear()


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


class LiveLanguageModel:
    """`recommender` with a catalogue that changes, which it becomes the only user of: it adds rows to the
    embeddings, so that the recommender must not be asked any more. `model` answers as of the last
    `refresh`. `settings` and `seed`: those of the index, by which the semantic scheme names new items."""

    def __init__(
        self, recommender: LanguageModelRecommender, settings: IndexSettings | None = None, seed: int = 0
    ) -> None:
        context = next(iter(recommender.tasks.values())).context
        self.trained_items = len(recommender.index.item_ids)
        self.new_names = NewNames(recommender.index, context.split.dataset.items, settings, seed)
        self._dataset = LiveDataset(context.split.dataset.items)
        self._index = LiveIndex(recommender.index)
        self._text = ItemText(self._dataset, self._index, context.text.settings)
        templates = {name: task.templates for name, task in recommender.tasks.items()}
        self._context = _live_context(context, self._dataset, self._text, templates)
        self._symbols = SymbolRows(recommender.backbone)
        self._base = _built(recommender.trie)
        self._trie = LiveTrie(self._base)
        self._added: list[list[int]] = []  # the tokens of each name that is not in the base
        self._retired: set[int] = set()
        self._invisible: set[str] = set()
        self._stored: dict[str, StoredItem] = {}
        self._expiry: list[tuple[float, str]] = []
        self.model = copy.copy(recommender)
        self.model.index, self.model.row_of = self._index, self._dataset.row_of
        self.model.tasks = {
            name: type(task)(task.settings, self._context) for name, task in recommender.tasks.items()
        }
        self._longest = self._base.depth
        self._publish()

    @property
    def item_ids(self) -> Iterable[str]:
        """The items that the model knows, hidden ones too."""
        return self._dataset.row_of.keys()

    def is_visible(self, item_id: str) -> bool:
        """Whether the item may be recommended, as of the last refresh."""
        return item_id in self._dataset.row_of and item_id not in self._invisible

    def refresh(self, changes: Sequence[StoredItem], now: float) -> list[str]:
        """Apply changes, and what expires until the Unix time `now`; of several changes of one item the last
        counts. Returns a sentence for each item that this model has no name for."""
        latest = {stored.item.id: stored for stored in changes}
        refused: list[str] = []
        joining: list[Item] = []
        for item_id, stored in latest.items():
            self._stored[item_id] = stored
            if stored.removed:
                self._retire(item_id)
            elif self._needs_a_name(stored.item):
                self._retire(item_id)
                joining.append(stored.item)
            if stored.expires_at is not None and not stored.removed:
                heapq.heappush(self._expiry, (stored.expires_at, item_id))
        refused += self._join(joining)
        expired = list(self._expired(now))
        for item_id in {*latest, *expired}:
            self._set_visibility(item_id, now)
        if latest:
            self._dataset.commit()
            self._index.commit(self._dataset.item_ids)
        if latest or expired:
            self._publish()
        return refused

    # --- one item ----------------------------------------------------------------------------------------

    def _needs_a_name(self, item: Item) -> bool:
        """Whether the item is new or gets another name. Otherwise its texts are changed here."""
        row = self._dataset.row_of.get(item.id)
        if row is None:
            return True
        if item == self._dataset.item(item.id):
            return False
        if self._index.includes_title or row >= self.trained_items:
            return True  # the name is made of the text
        self._dataset.put(row, item)
        self._forget(row, item.id)
        return False

    def _retire(self, item_id: str) -> None:
        if item_id in self._dataset.row_of:
            self._index.retire(item_id)
            row = self._dataset.retire(item_id)
            self._forget(row, item_id)
            self._retired.add(row)

    def _forget(self, row: int, item_id: str) -> None:
        """Render the row anew when it is next shown."""
        self._context.forget(row)
        for text in (self._text, self._text.names_only):
            text._details.pop(item_id, None)

    def _join(self, items: Sequence[Item]) -> list[str]:
        """Name items and add them; sentences for those that no name is left for."""
        refused = []
        for item in items:
            try:
                name, tokens = self._new_name(item)
            except SettingsError as error:
                refused.append(str(error))
                continue
            self.new_names.names.add(name)
            self._added.append(tokens)
            self._longest = max(self._longest, len(tokens))
            self._index.put(item.id, name, self.new_names.words(item))
            self._dataset.put(len(self._dataset.item_ids), item)
        return refused

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
                self._symbols.put(symbol, self._mixture(item))

    def _mixture(self, item: Item) -> tuple[np.ndarray, np.ndarray]:
        """What a new symbol's embedding is made of: the symbols of the most similar items by text, weighted
        by their cosines; of an item that is similar to none all symbols alike."""
        rows, cosines = self.new_names.texts.nearest(item)
        if not len(rows):
            rows, cosines = np.arange(self.trained_items), np.ones(self.trained_items)
        ids = self._symbols.ids([self._index.names[row] for row in rows.tolist()])
        return ids, (cosines / cosines.sum()).astype(np.float32)

    def _expired(self, now: float) -> Iterator[str]:
        while self._expiry and self._expiry[0][0] <= now:
            yield heapq.heappop(self._expiry)[1]

    def _set_visibility(self, item_id: str, now: float) -> None:
        if self._stored[item_id].visible(now):
            self._invisible.discard(item_id)
        else:
            self._invisible.add(item_id)

    def _publish(self) -> None:
        """Give the model a trie of what there is now."""
        if len(self._added) > REBUILT_AFTER:
            old = self._base.names(np.arange(self._base.items))
            self._base, self._added = build_trie(vstack([old, ragged(self._added)])), []
        row_of = self._dataset.row_of
        hidden = {row_of[item] for item in self._invisible if item in row_of}
        if self._trie.base is not self._base or len(self._trie.added) != len(self._added):
            self._trie = LiveTrie(self._base, self._added)
        self._trie = self.model.trie = self._trie.with_removed(hidden | self._retired)
        vars(self.model)["_longest_name"] = self._longest


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
