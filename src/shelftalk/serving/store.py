"""What a service must not lose: items that were added or changed after training, and events by user.

One small layer of SQL over two databases: SQLite, a file beside the service (write-ahead log, every commit
synced to disk), and PostgreSQL by URL, which several service processes share. What a method has returned from
is on disk.

Items are numbered by their last change: `changes_since(n)` has every item that changed after n, each once.
The numbers are given under a lock that is held until the commit, so no reader sees one before a lower one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

from shelftalk.errors import ShelftalkError
from shelftalk.records import Item

SCHEMA = 1
"""Version of the tables."""
TAKEN = 10_000
"""Most recent events of one user that are read for a request: what was taken before them may come back."""
CONNECTIONS = 8
"""Connections that are kept open between calls."""


class StoreUnavailable(ShelftalkError):
    """The database does not answer, or refuses."""


class ConflictingEvent(ShelftalkError):
    """An event's key is that of another event of the same user."""


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An item as it was last written. `expires_at` in Unix seconds, None for never. A removed item keeps only
    its id; `change` is the number of its last change."""

    item: Item
    hidden: bool = False
    expires_at: float | None = None
    removed: bool = False
    change: int = 0

    def visible(self, now: float) -> bool:
        """Whether it may be recommended at the Unix time `now`."""
        return not (self.hidden or self.removed or (self.expires_at is not None and self.expires_at <= now))


@dataclass(frozen=True, slots=True)
class Event:
    """A user takes an item. `key` identifies the event among those of its user; `time` in Unix seconds, None
    for when it is written."""

    user: str
    key: str
    item: str
    time: float | None = None
    rating: float | None = None


class Store(Protocol):
    """See SqlStore."""

    name: ClassVar[str]

    def put_items(self, items: Sequence[StoredItem]) -> list[StoredItem]: ...

    def change_item(self, item_id: str, change: Callable[[StoredItem | None], StoredItem]) -> StoredItem: ...

    def items(self, item_ids: Sequence[str]) -> dict[str, StoredItem]: ...

    def changes_since(self, change: int) -> list[StoredItem]: ...

    def last_change(self) -> int: ...

    def add_events(self, events: Sequence[Event]) -> int: ...

    def taken(self, user: str) -> list[Event]: ...

    def export_user(self, user: str) -> list[Event]: ...

    def delete_user(self, user: str) -> int: ...

    def close(self) -> None: ...


TABLES = (
    "CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value BIGINT NOT NULL)",
    f"INSERT INTO counters VALUES ('schema', {SCHEMA}), ('items', 0) ON CONFLICT DO NOTHING",
    """CREATE TABLE IF NOT EXISTS items (
        item_id TEXT PRIMARY KEY, title TEXT NOT NULL, brand TEXT NOT NULL, categories TEXT NOT NULL,
        price DOUBLE PRECISION, description TEXT NOT NULL, hidden INTEGER NOT NULL,
        expires_at DOUBLE PRECISION, removed INTEGER NOT NULL, change BIGINT NOT NULL)""",
    "CREATE UNIQUE INDEX IF NOT EXISTS items_by_change ON items (change, item_id)",
    """CREATE TABLE IF NOT EXISTS events (
        number {number}, user_key TEXT NOT NULL, event_key TEXT NOT NULL,
        item_id TEXT NOT NULL, time DOUBLE PRECISION NOT NULL, rating DOUBLE PRECISION,
        UNIQUE (user_key, event_key))""",
    "CREATE INDEX IF NOT EXISTS events_by_user ON events (user_key, time, number)",
)
_ITEM = "item_id, title, brand, categories, price, description, hidden, expires_at, removed, change"


class SqlStore:
    """The store over any of the two databases; subclasses know how to connect, begin and name errors."""

    name: ClassVar[str]
    number: ClassVar[str]
    """The type of a column that numbers its rows."""
    mark = "?"
    """The placeholder of a parameter."""

    def __init__(self) -> None:
        self._idle: list[Any] = []
        self._lock = threading.Lock()
        self._closed = False
        with self._transaction(write=True) as run:
            self._alone(run)
            for statement in TABLES:
                run(statement.replace("{number}", self.number))
            ((version,),) = run("SELECT value FROM counters WHERE name = 'schema'")
        if version > SCHEMA:
            raise StoreUnavailable(
                f"the store was written by a later version (tables {version}, and this one knows {SCHEMA}); "
                "install that version, or name another store."
            )

    # --- items -------------------------------------------------------------------------------------------

    def put_items(self, items: Sequence[StoredItem]) -> list[StoredItem]:
        """Write items as they are given, all or none; one that is stored like this already stays as it is.
        Of an id that is given twice the last counts. Returns them as stored, in the order of the ids."""
        wanted = {stored.item.id: stored for stored in items}
        with self._transaction(write=True) as run:
            change = self._next_change(run)
            known = self._read(run, list(wanted))
            for item_id, stored in wanted.items():
                before = known.get(item_id)
                if before is None or replace(before, change=0) != replace(stored, change=0):
                    wanted[item_id] = self._write(run, replace(stored, change=change))
                else:
                    wanted[item_id] = before
        return list(wanted.values())

    def change_item(self, item_id: str, change: Callable[[StoredItem | None], StoredItem]) -> StoredItem:
        """Write what `change` makes of the item as it is stored, None where it is not; nobody writes between
        reading and writing."""
        with self._transaction(write=True) as run:
            number = self._next_change(run)
            before = self._read(run, [item_id]).get(item_id)
            after = change(before)
            if before is not None and replace(after, change=before.change) == before:
                return before
            return self._write(run, replace(after, change=number))

    def items(self, item_ids: Sequence[str]) -> dict[str, StoredItem]:
        """Those of the items that are stored, removed ones too."""
        with self._transaction() as run:
            return self._read(run, item_ids)

    def changes_since(self, change: int) -> list[StoredItem]:
        """Every item whose last change is after number `change`, oldest change first."""
        with self._transaction() as run:
            rows = run(f"SELECT {_ITEM} FROM items WHERE change > ? ORDER BY change, item_id", (change,))
            return [_stored(row) for row in rows]

    def last_change(self) -> int:
        """The number of the last change of any item, 0 before the first."""
        with self._transaction() as run:
            ((value,),) = run("SELECT value FROM counters WHERE name = 'items'")
        return int(value)

    # --- events ------------------------------------------------------------------------------------------

    def add_events(self, events: Sequence[Event]) -> int:
        """Append events, all or none, and return how many are new: one that is there already, by user and
        key, is not written again. Raises ConflictingEvent where that key has another item, time or rating."""
        now, new = time.time(), 0
        with self._transaction(write=True) as run:
            for event in events:
                values = (event.user, event.key, event.item, now if event.time is None else event.time)
                written = run(
                    "INSERT INTO events (user_key, event_key, item_id, time, rating) VALUES (?, ?, ?, ?, ?) "
                    "ON CONFLICT (user_key, event_key) DO NOTHING RETURNING number",
                    (*values, event.rating),
                )
                new += len(written)
                if not written:
                    self._check_same(run, event)
        return new

    def taken(self, user: str) -> list[Event]:
        """The user's most recent events, at most TAKEN, oldest first."""
        with self._transaction() as run:
            return self._events_of(run, user, f"ORDER BY time DESC, number DESC LIMIT {TAKEN}")[::-1]

    def export_user(self, user: str) -> list[Event]:
        """All events of a user, oldest first."""
        with self._transaction() as run:
            return self._events_of(run, user, "ORDER BY time, number")

    def delete_user(self, user: str) -> int:
        """Delete all events of a user and return how many they were. They are overwritten, not only
        unlinked."""
        with self._transaction(write=True) as run:
            number = len(run("DELETE FROM events WHERE user_key = ? RETURNING number", (user,)))
        if number:
            self._overwrite_deleted()
        return number

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            self._closed, idle, self._idle = True, self._idle, []
        for connection in idle:
            connection.close()

    # --- what the databases do differently ---------------------------------------------------------------

    def _connect(self) -> Any:
        raise NotImplementedError

    def _begin(self, connection: Any, write: bool) -> None:
        raise NotImplementedError

    def _alone(self, run: Callable[..., list[Any]]) -> None:
        """Wait until no other process makes the tables."""

    def _overwrite_deleted(self) -> None:
        raise NotImplementedError

    errors: tuple[type[BaseException], ...] = ()
    """What the database's driver raises."""

    # --- inside a transaction ----------------------------------------------------------------------------

    def _next_change(self, run: Callable[..., list[Any]]) -> int:
        """Taken first, so that those who write items wait for each other here."""
        ((value,),) = run("UPDATE counters SET value = value + 1 WHERE name = 'items' RETURNING value")
        return int(value)

    def _read(self, run: Callable[..., list[Any]], item_ids: Sequence[str]) -> dict[str, StoredItem]:
        result = {}
        for start in range(0, len(item_ids), 500):  # SQLite takes some thousand parameters
            some = item_ids[start : start + 500]
            placeholders = ", ".join("?" * len(some))
            rows = run(f"SELECT {_ITEM} FROM items WHERE item_id IN ({placeholders})", tuple(some))
            result.update({row[0]: _stored(row) for row in rows})
        return result

    def _write(self, run: Callable[..., list[Any]], stored: StoredItem) -> StoredItem:
        item = stored.item
        texts = (item.id, item.title, item.brand, item.categories, item.price, item.description)
        flags = (int(stored.hidden), stored.expires_at, int(stored.removed), stored.change)
        columns = _ITEM.split(", ")
        changes = ", ".join(f"{name} = excluded.{name}" for name in columns[1:])
        placeholders = ", ".join("?" * len(columns))
        run(
            f"INSERT INTO items ({_ITEM}) VALUES ({placeholders}) "
            f"ON CONFLICT (item_id) DO UPDATE SET {changes}",
            (*texts, *flags),
        )
        return stored

    def _events_of(self, run: Callable[..., list[Any]], user: str, order: str) -> list[Event]:
        rows = run(
            f"SELECT user_key, event_key, item_id, time, rating FROM events WHERE user_key = ? {order}",
            (user,),
        )
        return [Event(*row) for row in rows]

    def _check_same(self, run: Callable[..., list[Any]], event: Event) -> None:
        ((item, moment, rating),) = run(
            "SELECT item_id, time, rating FROM events WHERE user_key = ? AND event_key = ?",
            (event.user, event.key),
        )
        if item != event.item or rating != event.rating or event.time not in (None, moment):
            raise ConflictingEvent(
                f'the key "{event.key}" is that of another event of this user (item "{item}"); give every '
                "event a key of its own."
            )

    # --- connections -------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self, write: bool = False) -> Iterator[Callable[..., list[Any]]]:
        """A function that runs a statement and returns its rows; committed at the end of the block, or rolled
        back. Raises StoreUnavailable."""
        connection = self._taken_connection()
        try:
            self._begin(connection, write)
            yield lambda statement, parameters=(): self._rows(connection, statement, parameters)
            connection.execute("COMMIT")
        except BaseException as error:
            self._give_up(connection, error)
            if isinstance(error, self.errors):
                raise StoreUnavailable(
                    f"the store does not answer ({_first_line(error)}); see that the database runs and has "
                    "space, then try again."
                ) from error
            raise
        with self._lock:
            kept = not self._closed and len(self._idle) < CONNECTIONS
            if kept:
                self._idle.append(connection)
        if not kept:
            connection.close()

    def _rows(self, connection: Any, statement: str, parameters: Sequence[Any]) -> list[Any]:
        statement = statement.replace("?", self.mark)
        cursor = connection.execute(statement, parameters) if parameters else connection.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []

    def _taken_connection(self) -> Any:
        with self._lock:
            if self._closed:
                raise StoreUnavailable("the store is closed; open it again.")
            if self._idle:
                return self._idle.pop()
        try:
            return self._connect()
        except self.errors as error:
            raise StoreUnavailable(
                f"the store cannot be opened ({_first_line(error)}); start the database, or correct --store."
            ) from error

    def _give_up(self, connection: Any, error: BaseException) -> None:
        """Roll back; a connection that may be broken is closed."""
        try:
            if not isinstance(error, self.errors):
                connection.execute("ROLLBACK")
                with self._lock:
                    if not self._closed and len(self._idle) < CONNECTIONS:
                        self._idle.append(connection)
                        return
        except self.errors:
            pass  # the error of the block is the one to report
        connection.close()


def _stored(row: Sequence[Any]) -> StoredItem:
    item_id, title, brand, categories, price, description, hidden, expires_at, removed, change = row
    item = Item(item_id, title, brand, categories, price, description)
    return StoredItem(item, bool(hidden), expires_at, bool(removed), int(change))


def _first_line(error: BaseException) -> str:
    lines = (line.strip().rstrip(".") for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)[:200]


def as_json(event: Event) -> Mapping[str, Any]:
    """An event as it is exported."""
    return {"key": event.key, "item": event.item, "time": event.time, "rating": event.rating}
