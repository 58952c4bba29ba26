"""The service over HTTP, by a real server on loopback."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from http.client import BadStatusLine, HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

from shelftalk.errors import SettingsError
from shelftalk.serving.guarding import Keys
from shelftalk.serving.running import Address, limits, prepare
from shelftalk.serving.service import Refusals, ServiceSettings
from shelftalk.testing.worlds import EVIL_TEXTS
from tests.serving.running import TLS, Client, serving, tiny_model

KEY = "a-key-of-at-least-16-characters"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with pytest.MonkeyPatch.context() as patch:
        store = tmp_path_factory.mktemp("service") / "store.sqlite"
        with serving(str(store), patch, models={"other": "atomic"}) as running:
            yield running


@pytest.fixture(scope="module")
def items(client: Client) -> list[str]:
    return client.recommended()


def test_recommendations_are_those_of_the_model(client: Client, items: list[str]) -> None:
    from shelftalk.records import Request

    (expected,) = tiny_model().recommender.recommend([Request("", tuple(items[:3]))], 10)
    answer = client.post("/v1/recommend", {"history": items[:3], "k": 10})
    assert [one["item"] for one in answer["items"]] == list(expected.items)
    assert [one["score"] for one in answer["items"]] == pytest.approx(list(expected.scores), abs=1e-4)
    assert all(one["title"] for one in answer["items"]) and answer["model"] == "aligned"


def test_every_question_is_answered_by_every_model(client: Client, items: list[str]) -> None:
    for model in ("aligned", "other"):
        asked = {"history": items[:3], "model": model}
        ranked = client.post("/v1/rank", {**asked, "candidates": items[5:9]})
        assert sorted(one["item"] for one in ranked["items"]) == sorted(items[5:9])
        rated = client.post("/v1/rate", {**asked, "item": items[5], "ratings": [5, None, 3.5]})
        assert 1 <= rated["rating"] <= 5
        similar = client.post("/v1/similar", {"item": items[0], "k": 4, "model": model})
        assert len(similar["items"]) == 4 and items[0] not in {one["item"] for one in similar["items"]}
        reasons = client.post("/v1/why", {**asked, "item": items[5]})
        assert [one["entry"] for one in reasons["reasons"]] == items[:3] and reasons["score"] < 0
    described = client.call("GET", "/v1/models")[1]["models"]
    assert [one["model"] for one in described] == ["aligned", "other"]
    assert set(described[0]["tasks"]) == {"recommend", "rank", "rate", "similar", "why"}


def test_a_history_in_words_a_filter_and_excluded_items(client: Client, items: list[str]) -> None:
    words = [{"text": "a lamp like an amber moon"}, items[0]]
    filtered = client.recommended(words, filter={"categories": ["tea"]}, excluded=items[1:3])
    assert filtered and not {items[0], *items[1:3]} & set(filtered)
    error = client.post("/v1/recommend", {"history": [], "filter": {"categories": ["teaa"]}}, 422)
    assert 'did you mean "tea"' in error["error"]["message"]


@pytest.mark.parametrize("model", ["aligned", "other"])
def test_an_item_joins_is_hidden_expires_changes_and_leaves(client: Client, model: str) -> None:
    item = {"title": "Amber lamps No. 77", "categories": "lamps", "price": 5}
    path = f"/v1/items/new/{model}"  # an id may hold a slash
    others = [one["id"] for one in client.call("GET", "/v1/items?limit=30")[1]["items"]]

    def recommended() -> bool:
        only = {"only": [f"new/{model}", *others]}
        return f"new/{model}" in client.recommended(model=model, filter=only)

    start = time.monotonic()
    status, written, _ = client.call("PUT", path, item)
    assert status == 200 and written["id"] == f"new/{model}"
    assert recommended() and time.monotonic() - start < 5
    assert client.call("GET", "/v1/items?text=amber%20LAMPS%2077")[1]["items"][0]["id"] == f"new/{model}"
    assert client.call("PATCH", path, {"hidden": True})[0] == 200
    assert not recommended()
    assert client.post("/v1/rank", {"history": [], "candidates": [f"new/{model}"]}, 404)
    client.call("PATCH", path, {"hidden": False, "expires_in": 0.4})
    time.sleep(0.5)
    assert not recommended()
    status, changed, _ = client.call("PATCH", path, {"expires_in": None, "title": "Amber lamps No. 78"})
    assert changed["title"] == "Amber lamps No. 78" and changed["price"] == 5
    assert recommended()
    assert client.call("DELETE", path)[0] == 204 == client.call("DELETE", path)[0]
    assert client.call("GET", path)[0] == 404 and f"new/{model}" not in client.recommended(model=model)


def test_a_trained_item_is_hidden_and_shown_again(client: Client, items: list[str]) -> None:
    assert client.call("PATCH", f"/v1/items/{items[0]}", {"hidden": True})[0] == 200
    assert items[0] not in client.recommended() and client.recommended([items[0]])
    client.call("PATCH", f"/v1/items/{items[0]}", {"hidden": False})
    assert items[0] in client.recommended()


def test_a_user_is_known_by_key_exported_and_deleted(client: Client, items: list[str]) -> None:
    events = [
        {"user": "ann/1", "key": str(n), "item": item, "time": 10 - n} for n, item in enumerate(items[:3])
    ]
    assert client.post("/v1/events", {"events": events}) == {"new": 3}
    assert client.post("/v1/events", {"events": events}) == {"new": 0}
    assert client.post("/v1/events", {"events": [{**events[0], "item": items[5]}]}, 409)
    by_key = client.post("/v1/recommend", {"user": "ann/1"})
    by_history = client.post("/v1/recommend", {"history": items[2::-1]})  # by time
    assert by_key == by_history
    assert not set(items[:3]) & set(client.recommended([items[5]], user="ann/1"))
    exported = client.call("GET", "/v1/users/ann/1")[1]
    assert [event["item"] for event in exported["events"]] == items[2::-1]
    assert client.call("DELETE", "/v1/users/ann/1")[1] == {"deleted": 3}
    assert client.call("GET", "/v1/users/ann/1")[1]["events"] == []
    assert set(items[:3]) <= set(client.recommended(user="ann/1"))


def test_many_callers_get_the_answers_that_each_would_get_alone(client: Client, items: list[str]) -> None:
    histories = [items[n : n + 3] for n in range(24)]
    alone = [client.recommended(history, 5) for history in histories]
    together: list[Any] = [None] * len(histories)

    def ask(number: int) -> None:
        together[number] = client.recommended(histories[number], 5)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(histories))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone
    sizes = client.call("GET", "/metrics")[1].decode()
    assert 'shelftalk_batch_size_bucket{le="1.0",model="aligned",task="recommend"}' in sizes


def test_one_bad_question_of_a_batch_is_refused_alone(client: Client, items: list[str]) -> None:
    answers: dict[int, Any] = {}

    def ask(number: int) -> None:
        only = {"only": [items[0], "none"]} if number == 3 else {}
        answers[number] = client.call(
            "POST", "/v1/recommend", {"history": items[1:4], "filter": only or None}
        )[0]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: 404 if number == 3 else 200 for number in range(8)}


HOSTILE: list[tuple[str, bytes, dict[str, str], int]] = [
    ("10 MB of history", b'{"history": [' + b'"x",' * 2_500_000 + b'"x"]}', {}, 413),
    ("deep JSON", b'{"history": ' + b"[" * 5000 + b"]" * 5000 + b"}", {}, 400),
    ("deep in a string is not deep", b'{"history": ["' + b"[" * 500 + b'"]}', {}, 404),
    ("invalid UTF-8", b'{"history": ["\xff\xfe"]}', {}, 400),
    ("a lone surrogate", b'{"history": ["\\ud800"]}', {}, 422),
    ("a NUL character", b'{"history": ["\\u0000"]}', {}, 422),
    ("NaN", b'{"history": [], "k": NaN}', {}, 400),
    ("a number of 5,000 digits", b'{"history": [], "k": ' + b"9" * 5000 + b"}", {}, 400),
    ("no JSON", b"history=1", {}, 400),
    ("another kind", b'{"history": []}', {"content-type": "text/plain"}, 415),
    ("an unknown key", b'{"history": [], "kk": 3}', {}, 422),
    ("k of nothing", b'{"history": [], "k": 0}', {}, 422),
    ("k above the limit", b'{"history": [], "k": 101}', {}, 422),
    ("a history above the limit", b'{"history": [' + b'"i1",' * 1500 + b'"i1"]}', {}, 422),
    ("neither history nor user", b"{}", {}, 422),
    ("HTML", b'{"history": ["<script>alert(1)</script>"]}', {}, 404),
    ("another host", b'{"history": []}', {"host": "evil.example"}, 421),
    ("no body", b"", {}, 422),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "headers", "status"), [row[1:] for row in HOSTILE], ids=[r[0] for r in HOSTILE]
)
def test_a_hostile_body_is_refused(client: Client, body: bytes, headers: dict[str, str], status: int) -> None:
    got, answer, kinds = client.call(
        "POST", "/v1/recommend", raw=body, **{name.replace("-", "_"): text for name, text in headers.items()}
    )
    assert got == status, answer
    assert kinds["content-type"] == "application/json" and answer["error"]["message"]
    assert answer["error"]["request_id"] == kinds["x-request-id"]


def test_hostile_titles_are_titles(client: Client) -> None:
    texts = [text for text in EVIL_TEXTS if "\x00" not in text]
    items = [{"id": f"evil {n}", "title": text[:2000]} for n, text in enumerate(texts)]
    for model in ("aligned", "other"):
        client.post("/v1/items", {"items": items})
        ids = [item["id"] for item in items]
        assert set(client.recommended([ids[0]], model=model, filter={"only": ids})) == set(ids[1:])
    for item in items:
        client.call("DELETE", "/v1/items/" + item["id"].replace(" ", "%20"))


def test_the_log_has_every_request_and_no_history(client: Client, items: list[str]) -> None:
    status, _, kinds = client.call("POST", "/v1/recommend", {"history": items[:2]}, x_request_id="my-id-1")
    client.call("GET", "/v1/users/a-secret-user")
    assert kinds["x-request-id"] == "my-id-1"
    (line,) = [entry for entry in client.log if entry.get("request_id") == "my-id-1"]
    assert line["status"] == 200 and line["path"] == "/v1/recommend" and line["milliseconds"] > 0
    text = client._log.getvalue()
    assert items[0] not in text and "a-secret-user" not in text


def test_a_slow_body_does_not_keep_others_waiting(client: Client) -> None:
    with socket.create_connection(("127.0.0.1", client.port)) as slow:
        slow.sendall(
            b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        assert client.call("GET", "/health")[0] == 200


def test_health_readiness_and_the_openapi_document(client: Client) -> None:
    assert client.call("GET", "/health")[1] == client.call("GET", "/ready")[1] == {"state": "ok"}
    document = client.call("GET", "/openapi.json")[1]
    assert {"/v1/recommend", "/v1/items/{item_id}", "/v1/users/{user}"} <= set(document["paths"])
    assert client.call("GET", "/none")[1]["error"]["code"] == "no_such_path"
    assert client.call("DELETE", "/v1/recommend")[0] == 405


def test_a_model_is_swapped_while_questions_are_asked(client: Client, items: list[str]) -> None:
    client.call("PUT", "/v1/items/kept", {"title": "Amber lamps No. 5"})
    statuses, stop = [], threading.Event()

    def ask() -> None:
        while not stop.is_set():
            statuses.append(client.call("POST", "/v1/recommend", {"history": items[:3]})[0])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for name in ("aligned", "other"):
        assert client.post("/v1/reload", {"model": name})["model"] == name
    stop.set()
    for thread in threads:
        thread.join()
    assert len(statuses) > 4 and set(statuses) == {200}
    for name in ("aligned", "other"):
        assert client.recommended(model=name, filter={"only": ["kept"]}) == ["kept"]
    client.call("DELETE", "/v1/items/kept")
    assert client.post("/v1/reload", {"model": "none"}, 422)


def test_a_full_queue_is_429_and_a_late_answer_504(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ServiceSettings(queue_limit=2, max_batch=1, seconds=1.0, refusal_seconds=0.5)
    with serving(str(tmp_path / "s"), monkeypatch, settings=settings) as client:
        service = client.running.service
        model: Any = service.engine.answers_of("aligned")
        answer = model.answer
        release = threading.Event()

        def slow(*given: Any) -> Any:
            release.wait(5)
            return answer(*given)

        monkeypatch.setattr(model, "answer", slow)
        results: list[tuple[int, Any, dict[str, str]]] = []
        waited: list[tuple[int, float]] = []

        def call() -> None:
            start = time.monotonic()
            results.append(client.call("POST", "/v1/recommend", {"history": []}))
            waited.append((results[-1][0], time.monotonic() - start))

        threads = [threading.Thread(target=call) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        release.set()
        statuses = sorted(status for status, _, _ in results)
        assert set(statuses) == {429, 504} and statuses.count(504) <= 3
        assert all(kinds["retry-after"] == "1" for status, _, kinds in results)
        # a refusal is told after a pause
        assert all(seconds >= 0.5 for status, seconds in waited if status == 429)
        assert client.call("POST", "/v1/recommend", {"history": []})[0] == 200


def test_a_refusal_is_told_at_once_where_too_many_wait_for_theirs() -> None:
    import asyncio

    async def pauses(number: int) -> list[float]:
        refusals = Refusals(0.4)
        refusals.MOST = 3

        async def one() -> float:
            start = time.monotonic()
            await refusals.pause()
            return time.monotonic() - start

        first = await asyncio.gather(*(one() for _ in range(number)))
        return [*first, *(await asyncio.gather(one()))]

    seconds = asyncio.run(pauses(5))
    assert sorted(second >= 0.4 for second in seconds[:5]) == [False, False, True, True, True]
    assert seconds[5] >= 0.4  # there is room again


def test_an_answer_of_two_packets_does_not_wait_for_the_first_to_be_confirmed(client: Client) -> None:
    # asyncio switches Nagle's algorithm off for sockets of this protocol alone
    assert client.running.socket.proto == socket.IPPROTO_TCP


def test_who_would_wait_longer_than_its_time_limit_is_refused_at_once() -> None:
    from concurrent.futures import Future

    from shelftalk.records import Request
    from shelftalk.serving.answering import Asked
    from shelftalk.serving.engine import Engine, Overloaded, Question

    engine = Engine({}, watcher=_Nobody(), max_batch=2)
    engine._batch_seconds = 0.5

    def put(seconds: float) -> Future[Any]:
        return engine.put(Question("m", "recommend", Asked(Request("", ())), time.monotonic() + seconds))

    for _ in range(4):
        put(10.0)
    with pytest.raises(Overloaded, match="wait already, for about 2 seconds") as refused:
        put(1.0)
    assert refused.value.retry_after == 2
    put(10.0)


class _Nobody:
    """Watches nothing."""

    def batch(self, *given: Any) -> None: ...
    def queued(self, length: int) -> None: ...
    def refused(self, sentences: Any) -> None: ...


def test_keys_and_what_is_answered_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(str(tmp_path / "s"), monkeypatch, key=KEY) as client:
        assert client.call("POST", "/v1/recommend", {"history": []})[0] == 200
        for header in ({"authorization": "Bearer wrong-key-of-16-characters"}, {"authorization": ""}):
            status, answer, kinds = client.call("POST", "/v1/recommend", {"history": []}, **header)
            assert status == 401 and kinds["www-authenticate"] == "Bearer"
        assert client.call("GET", "/metrics", authorization="")[0] == 401
        assert client.call("GET", "/v1/models", authorization="", x_api_key=KEY)[0] == 200
        assert client.call("GET", "/health", authorization="")[0] == 200
        assert client.call("GET", "/", authorization="")[0] == 200


def test_what_was_written_is_there_after_a_restart_and_what_waits_is_answered_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, statuses = str(tmp_path / "s"), []
    with serving(store, monkeypatch, scheme="atomic") as client:
        client.call("PUT", "/v1/items/new", {"title": "Amber lamps No. 5"})
        threads = [
            threading.Thread(
                target=lambda: statuses.append(client.call("POST", "/v1/recommend", {"history": []})[0])
            )
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    assert statuses == [200] * 6
    with serving(store, monkeypatch, scheme="semantic") as client:
        assert "new" in client.recommended()


def test_an_address_that_others_reach_needs_keys() -> None:
    with pytest.raises(SettingsError, match="--api-key-file"):
        prepare(Path("none"), Address(host="0.0.0.0"), "none")


def test_over_tls_it_answers_those_who_trust_its_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = Address(port=0, certificate=TLS / "certificate.pem", key=TLS / "key.pem")
    with serving(str(tmp_path / "store"), monkeypatch, key=KEY, address=address) as client:
        assert client.running.url.startswith("https://127.0.0.1:")
        assert len(client.recommended(k=5)) == 5
        assert client.call("POST", "/v1/recommend", {"history": []}, authorization="Bearer no")[0] == 401
        with pytest.raises(ssl.SSLCertVerificationError):
            HTTPSConnection("127.0.0.1", client.port, timeout=60).request("GET", "/health")
        plain = HTTPConnection("127.0.0.1", client.port, timeout=60)
        with pytest.raises((BadStatusLine, ConnectionError)):
            plain.request("GET", "/health")
            plain.getresponse()
        assert len(client.recommended(k=5)) == 5  # those two did no harm


@pytest.mark.parametrize(
    ("certificate", "key", "remedy"),
    [
        ("certificate.pem", None, "belong together"),
        (None, "key.pem", "belong together"),
        ("none.pem", "key.pem", "correct --tls-certificate"),
        ("certificate.pem", "none.pem", "correct --tls-key"),
        ("certificate-of-another-key.pem", "key.pem", "own certificate first"),
        ("key.pem", "certificate.pem", "own certificate first"),
        ("certificate.pem", "key-with-passphrase.pem", "openssl pkey"),
    ],
)
def test_what_is_no_certificate_and_its_key_is_told_before_a_model_is_opened(
    certificate: str | None, key: str | None, remedy: str
) -> None:
    files = [TLS / name if name else None for name in (certificate, key)]
    with pytest.raises(SettingsError, match=remedy):
        prepare(Path("no model is here"), Address("127.0.0.1", 0, *files), "")


def test_a_key_file_needs_keys_that_cannot_be_guessed(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    for text in ("", "short\n", "# a comment\n"):
        file.write_text(text)
        with pytest.raises(SettingsError, match="secrets.token_urlsafe"):
            Keys.of_file(file)
    file.write_text(f"# shop\n{KEY}\n")
    assert Keys.of_file(file).admit(KEY) and not Keys.of_file(file).admit("# shop")


def test_limits_are_checked() -> None:
    assert limits(["seconds=5", "max_batch=8"]).seconds == 5.0
    for wrong in ("seconds", "second=5", "max_batch=0"):
        with pytest.raises(SettingsError):
            limits([wrong])
