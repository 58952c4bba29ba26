"""The two databases of the store: SQLite in a file, PostgreSQL by URL."""

from __future__ import annotations

import importlib.util
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from shelftalk.errors import SettingsError
from shelftalk.serving.store import SqlStore, Store

TABLES_LOCK = 5_743_621
"""Number of the advisory lock under which PostgreSQL's tables are made."""
WAIT = 10.0
"""Seconds that a writer waits for another one, and a connection for the server."""


class SqliteStore(SqlStore):
    """A file. Several processes of one machine may open it; a network file system is no place for it."""

    name: ClassVar[str] = "sqlite"
    number: ClassVar[str] = "INTEGER PRIMARY KEY AUTOINCREMENT"
    errors = (sqlite3.Error,)

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.parent.is_dir():
            raise SettingsError(
                f'the folder of the store "{path}" is not there; make it, or correct --store.'
            )
        super().__init__()

    def _connect(self) -> Any:
        connection = sqlite3.connect(
            self.path, timeout=WAIT, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",  # a commit has reached the disk when it returns
            "fullfsync = ON",  # on macOS, where fsync alone does not
            "secure_delete = ON",  # what is deleted is overwritten with zeros
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        return connection

    def _begin(self, connection: Any, write: bool) -> None:
        connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")

    def _overwrite_deleted(self) -> None:
        """Copy the log into the file and cut it, since the log holds pages as they were before."""
        connection = self._taken_connection()
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            connection.close()


class PostgresStore(SqlStore):
    """A database that several service processes share. The tables are made in it at the first opening."""

    name: ClassVar[str] = "postgresql"
    number: ClassVar[str] = "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
    mark = "%s"

    def __init__(self, url: str) -> None:
        if importlib.util.find_spec("psycopg") is None:
            raise SettingsError(
                'a PostgreSQL store needs psycopg; install it with: pip install "shelftalk[postgresql]"'
            )
        import psycopg

        self._url = url
        self._psycopg = psycopg
        self.errors = (psycopg.Error,)
        super().__init__()

    def _connect(self) -> Any:
        connection = self._psycopg.connect(self._url, autocommit=True, connect_timeout=int(WAIT))
        connection.execute("SET synchronous_commit = on")
        connection.execute(f"SET lock_timeout = '{int(WAIT)}s'")
        return connection

    def _begin(self, connection: Any, write: bool) -> None:
        connection.execute("BEGIN" if write else "BEGIN READ ONLY")

    def _alone(self, run: Callable[..., list[Any]]) -> None:
        run(f"SELECT pg_advisory_xact_lock({TABLES_LOCK})")

    def _overwrite_deleted(self) -> None:
        """Free the deleted rows at once, which the server would do later by itself."""
        connection = self._taken_connection()
        try:
            connection.execute("VACUUM events")
        finally:
            connection.close()


def open_store(address: str) -> Store:
    """The store of an address: a path of a SQLite file, or a URL that begins with postgresql://.

    Raises SettingsError for another kind of URL, and StoreUnavailable where the database does not answer.
    """
    scheme, separator, _ = address.partition("://")
    if separator and scheme in ("postgresql", "postgres"):
        return PostgresStore(address)
    if separator and scheme != "sqlite":
        raise SettingsError(
            f'a store of "{scheme}://" is not known; give the path of a file for SQLite, or a URL that '
            "begins with postgresql://."
        )
    return SqliteStore(Path(os.path.expanduser(address.removeprefix("sqlite://"))))
