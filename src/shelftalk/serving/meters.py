"""What a service counts, for Prometheus, and what it writes to its log: one JSON object a line."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Sequence
from typing import IO, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from shelftalk.serving.answering import Task

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Log:
    """Lines of JSON on standard error, or another stream."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def write(self, event: str, **values: Any) -> None:
        """One line: the time, what happened, and its values."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{int(time.time() * 1000) % 1000:03d}Z"
        line = json.dumps({"time": moment, "event": event, **values}, ensure_ascii=True)
        with self._lock:
            stream = self._stream or sys.stderr
            stream.write(line + "\n")
            stream.flush()


class Meters:
    """Counters of one process, and the engine's watcher."""

    def __init__(self, log: Log) -> None:
        self.registry = CollectorRegistry()
        self._log = log

        def named(kind: Any, name: str, text: str, labels: Sequence[str] = (), **more: Any) -> Any:
            return kind(f"shelftalk_{name}", text, labels, registry=self.registry, **more)

        self._requests = named(Counter, "requests", "Answered requests", ("path", "status"))
        self._seconds = named(
            Histogram, "request_seconds", "From arrival to answer", ("path",), buckets=SECONDS
        )
        self._batches = named(
            Histogram, "batch_size", "Questions answered together", ("model", "task"), buckets=SIZES
        )
        self._batch_seconds = named(
            Histogram, "batch_seconds", "Time of a batch", ("model", "task"), buckets=SECONDS
        )
        self._queue = named(Gauge, "queue_length", "Questions that wait")
        self._items = named(Gauge, "items", "Items of the catalogue", ("kind",))
        self._refused = named(Counter, "items_refused", "Items that a model has no name for")

    def request(self, path: str, status: int, seconds: float) -> None:
        """A request was answered. `path` is the route, never an address with ids in it."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def batch(self, model: str, task: Task, size: int, seconds: float) -> None:
        """See engine.Watcher."""
        self._batches.labels(model, task).observe(size)
        self._batch_seconds.labels(model, task).observe(seconds)

    def queued(self, length: int) -> None:
        """See engine.Watcher."""
        self._queue.set(length)

    def refused(self, sentences: Sequence[str]) -> None:
        """See engine.Watcher."""
        self._refused.inc(len(sentences))
        for sentence in sentences:
            self._log.write("item refused", message=sentence)

    def text(self, items: dict[str, int]) -> bytes:
        """Everything in Prometheus' text format. `items`: of the catalogue, by kind."""
        for kind, number in items.items():
            self._items.labels(kind).set(number)
        return generate_latest(self.registry)
