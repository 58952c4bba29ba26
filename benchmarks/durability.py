"""kill -9 at any instant while items and events are written: what was acknowledged is there, whole and once.

A process writes an item, then three events in one transaction, and prints a line when each call has returned.
It is killed at a random instant and started again; at the end the store is opened and compared with what was
printed. With PostgreSQL the server itself is also ended at once between writers, without a shutdown, and
recovers. A kill of a process loses nothing that the operating system already has; that a commit outlives a
loss of power too rests on the database's own sync to disk, which is on (synchronous = FULL,
synchronous_commit).
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._crashing import check_acknowledged, killed_writers
from benchmarks._postgres import Server, missing
from benchmarks.harness import Claim, Result

CLAIMS = (
    "SQLite: everything acknowledged before a kill is there, whole and once",
    "PostgreSQL: everything acknowledged before a kill of the writer or the server is there, whole and once",
)
SEED = 0
SERVER_KILLS = 5


def main(quick: bool) -> Result:
    kills = 20 if quick else 100
    with tempfile.TemporaryDirectory() as scratch:
        rows = [_measured("SQLite", str(Path(scratch) / "store.sqlite"), kills)]
    if why := missing():
        rows.append({"store": "PostgreSQL", "why not": why})
    else:
        server = Server()
        try:
            rows.append(_measured("PostgreSQL", server.url, kills, server))
        finally:
            server.close()
    claims = [
        Claim(sentence, row.get("lost", row.get("why not", "")), "0 lost", row.get("lost") == 0)
        for sentence, row in zip(CLAIMS, rows, strict=True)
    ]
    return Result(SEED, claims, rows)


def _measured(name: str, address: str, kills: int, server: Server | None = None) -> dict[str, Any]:
    start, acknowledged = time.perf_counter(), []
    rounds = SERVER_KILLS if server else 1
    for number in range(rounds):
        first = kills * number // rounds
        some = kills * (number + 1) // rounds - first
        acknowledged += killed_writers(address, some, seed=SEED + number, first=first)
        if server:
            server.kill()
            server.start()
    try:
        counts, lost = check_acknowledged(address, acknowledged), 0
    except (AssertionError, KeyError) as error:
        counts, lost = {}, 1
        counts["what"] = repr(error)[:200]  # type: ignore[assignment]
    return {
        "store": name,
        "kills of the writer": kills,
        "kills of the server": SERVER_KILLS if server else 0,
        "lost": lost,
        **counts,
        "seconds": round(time.perf_counter() - start, 1),
    }
