"""Store, catalogue, engine and models as one service: what HTTP calls, and what can be called without it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field

from shelftalk.errors import SettingsError, UnknownItem
from shelftalk.records import Filter, Item, Request, Text
from shelftalk.serving.answering import AnsweringModel, Asked, Task
from shelftalk.serving.catalogue import Catalogue
from shelftalk.serving.engine import Engine, Question, Watcher
from shelftalk.serving.store import Event, Store, StoredItem
from shelftalk.settings import Settings


class ServiceSettings(Settings):
    """How much a service takes on."""

    max_batch: int = Field(32, ge=1, le=1024)
    """Questions that are answered together at most."""
    queue_limit: int = Field(256, ge=1)
    """Questions that may wait; more are refused with 429."""
    refusal_seconds: float = Field(1.0, ge=0, le=60)
    """Seconds until a question that is refused is told so: callers who ask again at once would take the
    processor from those who wait."""
    seconds: float = Field(10.0, gt=0)
    """The time limit of a question, from its arrival to its answer."""
    max_history: int = Field(1000, ge=1)
    """Entries of a history at most."""
    max_k: int = Field(100, ge=1)
    """Items that may be asked for at once."""
    max_candidates: int = Field(1000, ge=1)
    """Candidates of a ranking at most."""
    max_body: int = Field(1_000_000, ge=1000)
    """Bytes of a request's body at most."""
    max_added: int = Field(100_000, ge=0)
    """Items that may be added beside those of the model."""
    drain_seconds: float = Field(0.0, ge=0)
    """Seconds for which a process that is to end still answers, and says that it is not ready."""


@dataclass(frozen=True)
class Wanted:
    """A question as a caller puts it: a history, or a user whose events are the history, or both."""

    history: tuple[str, ...] | None = None
    user: str | None = None
    ratings: tuple[float | None, ...] = ()
    k: int = 10
    candidates: tuple[str, ...] = ()
    item: str = ""
    filter: Filter | None = None
    excluded: tuple[str, ...] = ()
    model: str | None = None


class Refusals:
    """How long refused callers are kept waiting; at most MOST of them at a time, the others hear at once."""

    MOST = 1000

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting = 0

    async def pause(self) -> None:
        """Called in the event loop alone."""
        if self._seconds and self._waiting < self.MOST:
            self._waiting += 1
            try:
                await asyncio.sleep(self._seconds)
            finally:
                self._waiting -= 1


class Service:
    """One process of a service. `open_model` opens the model of a name again, for `reload`."""

    def __init__(
        self,
        models: Mapping[str, AnsweringModel],
        store: Store,
        watcher: Watcher,
        settings: ServiceSettings | None = None,
        open_model: Callable[[str], AnsweringModel] | None = None,
    ) -> None:
        self.settings = settings or ServiceSettings()
        self.store = store
        self.refusals = Refusals(self.settings.refusal_seconds)
        self.draining = False
        self._open_model = open_model
        self._syncing = threading.Lock()
        self._reloading = threading.Lock()
        self._seen = 0
        default = next(iter(models.values()))
        self._trained = {name: _trained_ids(model) for name, model in models.items()}
        self.catalogue = Catalogue(default.rows.dataset.items)
        self.engine = Engine(models, watcher, self.sync, self.settings.max_batch, self.settings.queue_limit)
        for name, model in models.items():
            self._align(name, model)
        self.sync()

    # --- the catalogue -----------------------------------------------------------------------------------

    def sync(self) -> None:
        """Bring in what was written to the store, by this process or another."""
        if self.store.last_change() == self._seen:
            return
        with self._syncing:
            latest = self.store.last_change()
            changes = self.store.changes_since(self._seen)
            if changes:
                self.catalogue.change(changes)
                self.engine.change(changes)
            # a write that changed nothing has a number too
            self._seen = max([latest, *(stored.change for stored in changes)])

    def item(self, item_id: str) -> StoredItem:
        """Raises UnknownItem."""
        self.sync()
        stored = self.catalogue.get(item_id)
        if stored is None:
            raise UnknownItem(f'item "{item_id}" is not in the catalogue; add it, or correct its id.')
        return stored

    def put_items(self, items: Sequence[StoredItem]) -> list[StoredItem]:
        """Add or change items as a whole. When it returns they are stored, and in effect."""
        self.sync()
        new = set(self.catalogue.missing([stored.item.id for stored in items]))
        if len(new) + self.catalogue.counts(0.0)["added"] > self.settings.max_added:
            raise SettingsError(
                f"this service takes at most {self.settings.max_added:,} added items; remove those that are "
                "gone, or train again with them in the catalogue."
            )
        written = self.store.put_items(items)
        self.sync()
        return written

    def change_item(self, item_id: str, change: Callable[[StoredItem], StoredItem]) -> StoredItem:
        """Change an item in one step. Raises UnknownItem."""

        def of_stored(before: StoredItem | None) -> StoredItem:
            if before is None:
                before = self.catalogue.get(item_id)
            if before is None or before.removed:
                raise UnknownItem(f'item "{item_id}" is not in the catalogue; add it, or correct its id.')
            return change(before)

        written = self.store.change_item(item_id, of_stored)
        self.sync()
        return written

    def remove_item(self, item_id: str) -> None:
        """Take an item out of the catalogue; one that is not there is none to remove."""
        self.sync()
        if self.catalogue.get(item_id) is not None:
            self.store.put_items([StoredItem(Item(item_id), removed=True)])
            self.sync()

    # --- events ------------------------------------------------------------------------------------------

    def add_events(self, events: Sequence[Event]) -> int:
        """Append events of items in the catalogue; see Store.add_events. Raises UnknownItem."""
        self.sync()
        if missing := self.catalogue.missing([event.item for event in events]):
            raise UnknownItem(
                f'item "{missing[0]}" of an event is not in the catalogue; add the item first, or leave the '
                "event out."
            )
        return self.store.add_events(events)

    # --- questions ---------------------------------------------------------------------------------------

    def ask(self, task: Task, wanted: Wanted, arrived: float) -> Future[Any]:
        """Queue a question that arrived at `arrived` of time.monotonic(). Raises Overloaded, UnknownItem,
        BadRequest, and SettingsError for an unknown model."""
        name = wanted.model or self.engine.models[0]
        if name not in self.engine.models:
            raise SettingsError(f'there is no model "{name}" here; ask {" or ".join(self.engine.models)}.')
        question = Question(
            name, task, Asked(self._request(task, wanted), wanted.k), arrived + self.settings.seconds
        )
        return self.engine.put(question)

    def _request(self, task: Task, wanted: Wanted) -> Request:
        taken = self.store.taken(wanted.user) if wanted.user is not None else []
        history, ratings = wanted.history, wanted.ratings
        if history is None:
            # what was removed from the catalogue since cannot be shown to a model
            there = set(self.catalogue.missing([event.item for event in taken]))
            kept = [event for event in taken if event.item not in there][-self.settings.max_history :]
            history, ratings = tuple(event.item for event in kept), tuple(event.rating for event in kept)
        self._check_items(task, wanted, history)
        excluded = (*wanted.excluded, *(event.item for event in taken))
        if excluded:
            gone = set(self.catalogue.missing(excluded))
            excluded = tuple(item for item in dict.fromkeys(excluded) if item not in gone)
        return Request(
            "",
            history,
            ratings,
            wanted.candidates if task == "rank" else (),
            wanted.item,
            wanted.filter if task == "recommend" else None,
            excluded if task == "recommend" else (),
        )

    def _check_items(self, task: Task, wanted: Wanted, history: Sequence[str]) -> None:
        """Raises UnknownItem for what is not in the catalogue, or may not come back."""
        shown = [entry for entry in history if not isinstance(entry, Text)]
        answered = [*wanted.candidates, *([wanted.item] if task in ("rate", "similar", "why") else [])]
        missing = self.catalogue.missing([*shown, *answered])
        now = time.time()
        for item_id in answered if not missing else ():
            stored = self.catalogue.get(item_id)
            if stored is None or not stored.visible(now):
                missing.append(item_id)
        if missing:
            raise UnknownItem(
                f'item "{missing[0]}" is not in the catalogue, or is hidden; leave it out, or add it.'
            )

    # --- models ------------------------------------------------------------------------------------------

    def reload(self, name: str | None = None) -> AnsweringModel:
        """Open a model's folder again and let it answer from the next batch on, without a question lost; the
        old one answers until then. Raises as opening does, and then nothing has changed."""
        name = name or self.engine.models[0]
        if name not in self.engine.models:
            raise SettingsError(f'there is no model "{name}" here; reload {" or ".join(self.engine.models)}.')
        if self._open_model is None:
            raise SettingsError(f'the model "{name}" cannot be opened again; restart the service.')
        with self._reloading:
            model = self._open_model(name)
            trained = _trained_ids(model)
            self.sync()
            with self._syncing:  # no change comes in between
                is_default = name == self.engine.models[0]
                if is_default:
                    self.catalogue.trained(model.rows.dataset.items.clone())
                self._trained[name] = trained
                self._align(name, model)
                model.refresh(self.catalogue.stored(), time.time())
                self.engine.swap(name, model)
        return model

    def _align(self, name: str, model: AnsweringModel) -> None:
        """Give a model the trained items that only the default one has, and hide those that only it has."""
        if name == self.engine.models[0]:
            return
        theirs, ours = self._trained[name], self._trained[self.engine.models[0]]
        own = self.catalogue
        added = [stored for item in ours - theirs if (stored := own.get(item)) is not None]
        hidden = [StoredItem(Item(item), removed=True) for item in theirs - ours]
        model.refresh([*added, *hidden], time.time())

    def close(self, seconds: float = 30.0) -> bool:
        """Answer what waits, then close the store. Returns whether all were answered."""
        done = self.engine.stop(seconds)
        self.store.close()
        return done


def _trained_ids(model: AnsweringModel) -> set[str]:
    return set(model.rows.dataset.item_ids[: model.rows.trained_items])


def expiry(stored: StoredItem, seconds: float | None) -> StoredItem:
    """The item, expiring in some seconds from now; None for never."""
    return replace(stored, expires_at=None if seconds is None else time.time() + seconds)
