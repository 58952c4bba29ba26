"""A real server in a thread, over an untrained model of the tiny world; and a client without a library."""

from __future__ import annotations

import http.client
import io
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shelftalk.serving import running as running_module
from shelftalk.serving.answering import AnsweringModel, answering
from shelftalk.serving.guarding import Keys
from shelftalk.serving.meters import Log
from shelftalk.serving.running import Address, Running, prepare, wait_until_ready
from shelftalk.serving.service import ServiceSettings
from shelftalk.testing.exams import exam_split
from tests.decoding.test_language_model import untrained
from tests.serving.test_live_model import SCHEMES, SMALL

ANY_PORT = Address(port=0)
TLS = Path(__file__).parent / "tls"
"""A key that only these tests use, its certificate for localhost, and another key's certificate."""


def tiny_model(scheme: str = "titles") -> AnsweringModel:
    split = exam_split()
    recommender = untrained(split, SCHEMES[scheme](split, SMALL, 0))
    return answering(recommender, split.dataset.items, SMALL, 0)


class Client:
    """Calls of one service; `log` has what it wrote."""

    def __init__(self, running: Running, log: io.StringIO, key: str = "") -> None:
        self.running, self._log, self.key = running, log, key
        self.port = running.socket.getsockname()[1]

    def call(
        self, method: str, path: str, body: Any = None, raw: bytes | None = None, **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, JSON (or bytes) and headers of an answer."""
        connection = self._connection()
        sent = raw if raw is not None else (None if body is None else json.dumps(body).encode())
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        if sent is not None:
            names = {"content-type": "application/json", **names}
        if self.key:
            names.setdefault("authorization", f"Bearer {self.key}")
        connection.request(method, path, sent, names)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        kinds = {name.lower(): value for name, value in answer.getheaders()}
        is_json = kinds.get("content-type", "").startswith("application/json")
        return answer.status, json.loads(content) if is_json else content, kinds

    def _connection(self) -> http.client.HTTPConnection:
        if self.running.url.startswith("http:"):
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        trusted = ssl.create_default_context(cafile=str(TLS / "certificate.pem"))
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60, context=trusted)

    def post(self, path: str, body: Any, status: int = 200) -> Any:
        got, answer, _ = self.call("POST", path, body)
        assert got == status, answer
        return answer

    def recommended(self, history: list[Any] | None = None, k: int = 100, **more: Any) -> list[str]:
        answer = self.post("/v1/recommend", {"history": history or [], "k": k, **more})
        return [item["item"] for item in answer["items"]]

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.getvalue().splitlines()]


@contextmanager
def serving(
    store: str,
    monkeypatch: Any,
    scheme: str = "titles",
    key: str = "",
    models: dict[str, str] | None = None,
    settings: ServiceSettings | None = None,
    opener: Callable[..., AnsweringModel] | None = None,
    address: Address = ANY_PORT,
    **more: Any,
) -> Iterator[Client]:
    """A service on a free port. `models`: further models by name, with their index schemes; `opener`: what
    opens a model in place of `tiny_model`."""

    def opened(path: Path, model: str | None = None) -> AnsweringModel:
        return opener(path) if opener else tiny_model(path.name)

    monkeypatch.setattr(running_module, "open_answering", opened)
    monkeypatch.setattr("shelftalk.publishing.contents.is_published", lambda path: True)
    log = io.StringIO()
    running = prepare(
        Path(scheme),
        address,
        store,
        also={name: Path(kind) for name, kind in (models or {}).items()},
        keys=Keys([key] if key else []),
        settings=settings,
        log=Log(log),
        **more,
    )
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    wait_until_ready(running)
    try:
        yield Client(running, log, key)
    finally:
        running.server.should_exit = True
        thread.join(60)
        assert not thread.is_alive(), "the service did not end"
