"""What a store promises, by one exam for both databases; and a writer that is killed at any instant."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks._crashing import check_acknowledged, killed_writers
from benchmarks._postgres import Server, missing
from shelftalk.errors import SettingsError
from shelftalk.records import Item
from shelftalk.serving.databases import PostgresStore, SqliteStore, open_store
from shelftalk.serving.store import ConflictingEvent, Event, Store, StoredItem, StoreUnavailable
from shelftalk.testing.worlds import EVIL_TEXTS

HAT = StoredItem(Item("hat", "Red hat", "Halden", "hats", 9.5, "warm"))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    if why := missing():
        pytest.skip(f"{why}: the tests of PostgreSQL are skipped")
    running = Server()
    yield running
    running.close()


class StoreExam:
    """Subclasses have a fixture `address` of an empty store."""

    @pytest.fixture
    def store(self, address: str) -> Iterator[Store]:
        opened = open_store(address)
        yield opened
        opened.close()

    def test_an_item_comes_back_as_it_was_written(self, store: Store) -> None:
        (written,) = store.put_items([HAT])
        assert written == replace(HAT, change=written.change) and written.change > 0
        assert store.items(["hat", "none"]) == {"hat": written}
        nameless = StoredItem(Item("x"), hidden=True, expires_at=12.25)
        store.put_items([nameless])
        assert replace(store.items(["x"])["x"], change=0) == nameless

    def test_titles_of_any_text_are_kept(self, store: Store) -> None:
        texts = [text for text in EVIL_TEXTS if "\x00" not in text]
        items = [StoredItem(Item(f"i{n}", text, text, text, None, text)) for n, text in enumerate(texts)]
        store.put_items(items)
        stored = store.items([one.item.id for one in items])
        assert [stored[one.item.id].item for one in items] == [one.item for one in items]

    def test_writing_the_same_item_again_is_no_change(self, store: Store) -> None:
        (first,) = store.put_items([HAT])
        assert store.put_items([HAT]) == [first] and store.changes_since(first.change) == []
        (other,) = store.put_items([replace(HAT, hidden=True)])
        assert other.change > first.change and store.changes_since(first.change) == [other]
        assert store.last_change() >= other.change

    def test_an_item_that_is_changed_is_read_and_written_in_one_step(self, store: Store) -> None:
        store.put_items([HAT])

        def longer(before: StoredItem | None) -> StoredItem:
            assert before is not None
            return replace(before, item=replace(before.item, title=before.item.title + "!"))

        threads = [threading.Thread(target=store.change_item, args=("hat", longer)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.items(["hat"])["hat"].item.title == "Red hat" + 8 * "!"

    def test_every_reader_sees_the_changes_in_their_order(self, store: Store, address: str) -> None:
        """No number appears after a higher one was seen: else a reader would miss it for good."""
        writing, other, seen = True, open_store(address), []

        def write(name: str) -> None:
            for number in range(25):
                store.put_items([StoredItem(Item(f"{name}{number}"))])

        def read() -> None:
            last = 0
            while writing or other.changes_since(last):
                for stored in other.changes_since(last):
                    seen.append(stored.item.id)
                    last = max(last, stored.change)

        reader = threading.Thread(target=read)
        writers = [threading.Thread(target=write, args=(name,)) for name in "abc"]
        for thread in (reader, *writers):
            thread.start()
        for thread in writers:
            thread.join()
        writing = False
        reader.join()
        other.close()
        assert sorted(seen) == sorted(f"{name}{number}" for name in "abc" for number in range(25))

    def test_an_event_is_appended_once_by_its_key(self, store: Store) -> None:
        events = [Event("ann", "1", "hat", 5.0, 4.5), Event("ann", "2", "cap", 4.0), Event("bob", "1", "cap")]
        assert store.add_events(events) == 3
        assert store.add_events(events) == 0
        assert [event.item for event in store.taken("ann")] == ["cap", "hat"]  # by time
        assert store.export_user("ann") == [replace(events[1]), events[0]]
        assert store.taken("nobody") == []

    def test_a_key_with_another_content_is_a_conflict_and_nothing_of_the_batch_is_written(
        self, store: Store
    ) -> None:
        store.add_events([Event("ann", "1", "hat", 5.0)])
        for changed in (
            Event("ann", "1", "cap", 5.0), Event("ann", "1", "hat", 6.0), Event("ann", "1", "hat", 5.0, 1.0),
        ):  # fmt: skip
            with pytest.raises(ConflictingEvent, match="key of its own"):
                store.add_events([Event("ann", "2", "cap"), changed])
        assert len(store.export_user("ann")) == 1
        assert store.add_events([Event("ann", "1", "hat")]) == 0  # no time is no other time

    def test_a_user_is_deleted_for_good(self, store: Store, address: str) -> None:
        store.add_events([Event("ann-of-the-secret", str(n), f"item-{n}", float(n)) for n in range(50)])
        store.add_events([Event("bob", "1", "cap", 1.0)])
        assert store.delete_user("ann-of-the-secret") == 50 and store.delete_user("ann-of-the-secret") == 0
        assert store.export_user("ann-of-the-secret") == [] and len(store.export_user("bob")) == 1
        store.close()
        reopened = open_store(address)
        assert reopened.export_user("ann-of-the-secret") == []
        reopened.close()

    def test_a_closed_store_says_so(self, store: Store) -> None:
        store.close()
        with pytest.raises(StoreUnavailable, match="open it again"):
            store.last_change()

    def test_what_was_acknowledged_is_there_after_the_writer_was_killed(self, address: str) -> None:
        acknowledged = killed_writers(address, kills=4)
        check_acknowledged(address, acknowledged)


class TestSqlite(StoreExam):
    @pytest.fixture
    def address(self, tmp_path: Path) -> str:
        return str(tmp_path / "store.sqlite")

    def test_nothing_of_a_deleted_user_is_left_in_its_files(self, tmp_path: Path, address: str) -> None:
        store = open_store(address)
        store.add_events([Event("ann-of-the-secret", "1", "hat", 5.0)])
        store.delete_user("ann-of-the-secret")
        content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        store.close()
        assert b"ann-of-the-secret" not in content

    def test_commits_are_synced(self, address: str) -> None:
        store = SqliteStore(Path(address))
        connection = store._taken_connection()
        values = [
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
        ]
        assert values == ["wal", 2]

    def test_another_address_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="postgresql://"):
            open_store("mysql://localhost/shop")
        with pytest.raises(SettingsError, match="--store"):
            open_store(str(tmp_path / "none" / "store.sqlite"))

    def test_a_file_that_is_no_database_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(b"no database " * 100)
        with pytest.raises(StoreUnavailable, match="not a database"):
            open_store(str(tmp_path / "x"))


class TestPostgres(StoreExam):
    @pytest.fixture
    def address(self, server: Server) -> Iterator[str]:
        import psycopg

        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS counters, items, events")
        yield server.url

    def test_several_processes_may_make_the_tables_at_once(self, address: str) -> None:
        opened: list[Any] = []
        threads = [threading.Thread(target=lambda: opened.append(open_store(address))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(opened) == 6
        for store in opened:
            store.close()

    def test_a_server_that_crashed_is_an_error_and_then_answers_again(
        self, server: Server, address: str
    ) -> None:
        store = open_store(address)
        store.put_items([HAT])
        server.kill()
        with pytest.raises(StoreUnavailable, match="does not answer"):
            store.last_change()
        with pytest.raises(StoreUnavailable, match="cannot be opened"):
            store.last_change()
        server.start()
        assert store.items(["hat"])["hat"].item == HAT.item
        store.close()

    def test_it_needs_its_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(SettingsError, match="pip install"):
            PostgresStore("postgresql://localhost/none")
