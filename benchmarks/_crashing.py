"""A writer that is killed at any instant, again and again, and what of its writes is there afterwards."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from shelftalk.serving.databases import open_store

SOURCES = Path(__file__).parents[1] / "src"

WRITER = """
import sys
from shelftalk.records import Item
from shelftalk.serving.databases import open_store
from shelftalk.serving.store import Event, StoredItem
store, start = open_store(sys.argv[1]), int(sys.argv[2])
for number in range(start, start + 10**6):
    store.put_items([StoredItem(Item(f"i{number}", f"title {number} " + "x" * (number % 3000)))])
    print(f"i{number}", flush=True)
    store.add_events([Event("ann", f"{number}-{part}", f"i{number}", float(number)) for part in range(3)])
    print(f"e{number}", flush=True)
"""


def killed_writers(address: str, kills: int, seed: int = 0, first: int = 0) -> list[str]:
    """Start a writer, kill it at a random instant, again and again: everything it had acknowledged. `first`:
    the number of the first writer, by which what it writes is told from others'."""
    acknowledged: list[str] = []
    rng = random.Random(seed)
    for kill in range(kills):
        command = [sys.executable, "-c", WRITER, address, str((first + kill) * 10**6)]
        environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdout is not None
        acknowledged.append(process.stdout.readline().strip())  # it has begun
        time.sleep(rng.random() * 0.15)
        process.send_signal(signal.SIGKILL)
        # a line that the kill cut is no acknowledgement
        acknowledged += [line.strip() for line in process.stdout if line.endswith("\n")]
        process.wait()
    return acknowledged


def check_acknowledged(address: str, acknowledged: list[str]) -> dict[str, int]:
    """Everything acknowledged is there, whole and once; counts of what is there."""
    store = open_store(address)
    items = {stored.item.id: stored.item.title for stored in store.changes_since(0)}
    events = store.export_user("ann")
    store.close()
    batches: dict[str, list[str]] = {}
    for event in events:
        batches.setdefault(event.key.partition("-")[0], []).append(event.key)
    assert all(sorted(keys) == [f"{number}-{part}" for part in range(3)] for number, keys in batches.items())
    for line in acknowledged:
        number = int(line[1:])
        if line[0] == "i":
            assert items[line] == f"title {number} " + "x" * (number % 3000)
        else:
            assert str(number) in batches, line
    return {"acknowledged": len(acknowledged), "items": len(items), "events": len(events)}
