"""What a service refuses: the sentence is read, the request or the option changed as it says, and it is
answered."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shelftalk.baselines.bias import BiasSettings, fit_bias
from shelftalk.baselines.popularity import fit_popularity
from shelftalk.errors import ShelftalkError
from shelftalk.serving import running as running_module
from shelftalk.serving.answering import TwoStage, answering
from shelftalk.serving.databases import open_store
from shelftalk.serving.guarding import Keys
from shelftalk.serving.running import Address, check_certificate, limits, prepare
from shelftalk.serving.service import ServiceSettings
from shelftalk.serving.store import Event
from shelftalk.testing.exams import exam_split
from tests.serving.running import TLS, Client, serving, tiny_model

MOST = 3
KEY = "a-key-of-at-least-16-characters"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with pytest.MonkeyPatch.context() as patch:
        store = tmp_path_factory.mktemp("service") / "store.sqlite"
        with serving(str(store), patch, settings=ServiceSettings(max_added=MOST, max_body=20_000)) as running:
            yield running


def refusal(client: Client, path: str, body: Any, method: str = "POST", **more: Any) -> str:
    status, answer, _ = client.call(method, path, body, **more)
    assert 400 <= status < 500, answer
    return str(answer["error"]["message"])


def test_questions_corrected_as_the_sentences_say_are_answered(client: Client) -> None:
    items = client.recommended()
    ask, known = "/v1/recommend", {"history": items[:2]}
    wrong: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("give one of them, [] for nobody", {}, {"history": []}),
        ("give one of them, [] for nobody", {}, {"user": "ann"}),
        ("leave it out, or add it", {"history": [items[0], "nowhere"]}, {"history": items[:1]}),
        ("this service takes at most 100; ask for less", {**known, "k": 101}, {**known, "k": 100}),
        ("leave it out of `only`", {**known, "filter": {"only": ["x"]}}, {**known, "filter": {}}),
        ("swap or widen them", {**known, "filter": {"min_price": 9, "max_price": 1}}, known),
    ]
    for words, given, corrected in wrong:
        message = refusal(client, ask, given)
        assert words in message, message
        client.post(ask, corrected)
    message = refusal(client, ask, {**known, "model": "algined"})
    client.post(ask, {**known, "model": re.findall(r"; ask (\w+)", message)[0]})
    message = refusal(client, ask, {**known, "filter": {"categories": ["teaa"]}})
    client.post(ask, {**known, "filter": {"categories": re.findall(r'did you mean "(\w+)"', message)}})


def test_bodies_corrected_as_the_sentences_say_are_read(client: Client) -> None:
    good = b'{"history": []}'
    for body, headers, words in (
        (good, {"content_type": "text/plain"}, 'send JSON, and "Content-Type: application/json"'),
        (b"history=1", {}, "is no JSON in UTF-8"),
        (b'{"history": ' + b"[" * 500 + b"]" * 500 + b"}", {}, "send it flatter"),
        (b'{"history": [' + b'"x",' * 9000 + b'"x"]}', {}, "send less at a time"),
        (good, {"host": "shop.example"}, "use its own address, or --allow-host"),
    ):
        message = refusal(client, "/v1/recommend", None, raw=body, **headers)
        assert words in message, message
    assert client.call("POST", "/v1/recommend", raw=good, content_type="application/json")[0] == 200
    message = refusal(client, "/v1/recommendations", {"history": []})
    listed = client.call("GET", re.findall(r"; (/\S+) lists the addresses", message)[0])[1]
    assert "/v1/recommend" in listed["paths"]
    message = refusal(client, "/v1/recommend", None, method="DELETE")
    assert re.findall(r"; (/\S+) lists how", message) == ["/openapi.json"]
    assert set(listed["paths"]["/v1/recommend"]) == {"post"}


def test_items_and_events_join_as_the_sentences_say(client: Client) -> None:
    def new(number: int) -> dict[str, Any]:
        return {"id": f"new{number}", "title": f"Amber lamp No. {number}"}

    items = client.recommended()
    assert "add it, or correct its id" in refusal(client, "/v1/items/new0", None, method="GET")
    assert "add it, or correct its id" in refusal(client, "/v1/items/new0", {"hidden": True}, "PATCH")
    assert client.call("GET", f"/v1/items/{items[0]}")[0] == 200
    event = {"user": "ann", "key": "1", "item": "new0", "time": 1}
    assert "add the item first, or leave the event out" in refusal(client, "/v1/events", {"events": [event]})
    client.post("/v1/items", {"items": [new(number) for number in range(MOST)]})
    assert client.call("PATCH", "/v1/items/new0", {"hidden": True})[0] == 200
    assert client.post("/v1/events", {"events": [event]}) == {"new": 1}
    other = {**event, "item": items[0]}
    assert "give every event a key of its own" in refusal(client, "/v1/events", {"events": [other]})
    assert client.post("/v1/events", {"events": [{**other, "key": "2"}]}) == {"new": 1}
    message = refusal(client, "/v1/items", {"items": [new(7)]})
    assert f"takes at most {MOST} added items; remove those that are gone" in message
    assert client.call("DELETE", "/v1/items/new1")[0] == 204
    client.post("/v1/items", {"items": [new(7)]})


def test_a_key_is_sent_as_the_sentence_writes_it_and_another_name_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(str(tmp_path / "s"), monkeypatch, key=KEY) as client:
        message = refusal(client, "/v1/models", None, method="GET", authorization="")
        name, value = re.findall(r'as "(\w+): (.+)"', message)[0]
        assert client.call("GET", "/v1/models", **{name.lower(): value.replace("KEY", KEY)})[0] == 200
    named = Address(port=0, names=("shop.example",))  # --allow-host shop.example
    with serving(str(tmp_path / "s"), monkeypatch, address=named) as client:
        assert client.call("GET", "/v1/models", host="shop.example")[0] == 200


def test_who_is_refused_or_too_late_waits_as_told_and_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Retry-After` is enough where the service has caught up meanwhile."""
    settings = ServiceSettings(queue_limit=1, max_batch=1, seconds=1.0, refusal_seconds=0.0)
    with serving(str(tmp_path / "s"), monkeypatch, settings=settings) as client:
        model: Any = client.running.service.engine.answers_of("aligned")
        answer, begun, release = model.answer, threading.Event(), threading.Event()

        def slow(*given: Any) -> Any:
            begun.set()
            release.wait(10)
            return answer(*given)

        monkeypatch.setattr(model, "answer", slow)

        def ask() -> tuple[int, Any, dict[str, str]]:
            return client.call("POST", "/v1/recommend", {"history": []})

        with ThreadPoolExecutor(3) as callers:
            waiting = [callers.submit(ask)]
            assert begun.wait(10)
            waiting += [callers.submit(ask) for _ in range(2)]  # one more than may wait
            refused = sorted((one.result() for one in waiting), key=lambda one: one[0])
        assert {status for status, _, _ in refused} == {429, 504}
        release.set()
        for _, body, kinds in refused[:2]:
            assert "try again" in body["error"]["message"]
            time.sleep(int(kinds["retry-after"]))
            assert ask()[0] == 200


def test_a_body_that_is_too_slow_is_sent_again_and_answered(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, head = (
        b'{"history": []}',
        "POST /v1/recommend HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 15\r\n",
    )
    head += "Content-Type: application/json\r\nConnection: close\r\n\r\n"

    def sent(body: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", client.port), timeout=30) as connection:
            connection.sendall(head.encode() + body)
            return b"".join(iter(lambda: connection.recv(4096), b""))

    monkeypatch.setattr("shelftalk.serving.guarding.BODY_SECONDS", 0.2)
    assert b" 408 " in (answer := sent(good[:5])) and b"send it again" in answer
    monkeypatch.undo()
    assert b" 200 " in sent(good).partition(b"\r\n")[0]


def test_a_model_is_opened_again_by_a_name_that_is_told(client: Client) -> None:
    message = refusal(client, "/v1/reload", {"model": "algined"})
    assert (
        client.post("/v1/reload", {"model": re.findall(r"; reload (\w+)", message)[0]})["model"] == "aligned"
    )


def test_a_store_that_is_closed_locked_damaged_or_of_a_later_version_works_as_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.sqlite"
    store = open_store(str(path))
    store.close()
    assert "open it again" in told(store.last_change)
    monkeypatch.setattr("shelftalk.serving.databases.WAIT", 0.1)
    store = open_store(str(path))
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        assert "then try again" in told(store.add_events, [Event("ann", "1", "hat")])
        other.execute("ROLLBACK")
        assert store.add_events([Event("ann", "1", "hat")]) == 1
        store.close()
        other.execute("UPDATE counters SET value = value + 1 WHERE name = 'schema'")
        assert "install that version, or name another store" in told(open_store, str(path))
        open_store(str(tmp_path / "another.sqlite")).close()
        other.execute("UPDATE counters SET value = value - 1 WHERE name = 'schema'")  # that version
    assert len(open_store(str(path)).export_user("ann")) == 1
    path = tmp_path / "no database"
    path.write_bytes(b"no database " * 100)
    assert "or correct --store" in told(open_store, str(path))


# --- options of the command ------------------------------------------------------------------------------


def told(call: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(ShelftalkError) as error:
        call(*arguments, **named)
    return str(error.value)


def test_a_file_of_keys_is_made_by_the_command_that_is_told(tmp_path: Path) -> None:
    path = tmp_path / "the keys"
    assert "correct --api-key-file" in told(Keys.of_file, path)
    path.write_text("short\n")
    command = re.findall(r"make one with: python (.+)$", told(Keys.of_file, path))[0]
    subprocess.run(f"{shlex.quote(sys.executable)} {command}", shell=True, check=True)
    assert Keys.of_file(path).admit(path.read_text().strip())


def test_certificate_and_key_go_together_as_the_sentences_say(tmp_path: Path) -> None:
    certificate, key = TLS / "certificate.pem", TLS / "key.pem"
    for wrong, words in (
        ((certificate, None), "give both, or neither"),
        ((certificate, tmp_path / "none.pem"), "correct --tls-key"),
        ((tmp_path / "none.pem", key), "correct --tls-certificate"),
        ((key, certificate), "give the PEM file of the chain"),
    ):
        assert words in told(check_certificate, Address("127.0.0.1", 0, *wrong))
    check_certificate(Address("127.0.0.1", 0, certificate, key))
    check_certificate(Address("127.0.0.1", 0))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl, as its remedy does")
def test_a_key_with_a_passphrase_is_given_without_by_the_command_that_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "my keys"
    folder.mkdir()
    shutil.copy(TLS / "certificate.pem", folder)
    locked = ["openssl", "pkey", "-in", str(TLS / "key.pem"), "-aes256", "-passout", "pass:secret"]
    subprocess.run([*locked, "-out", str(folder / "key.pem")], check=True)
    before = (folder / "key.pem").read_bytes()
    message = told(check_certificate, Address("127.0.0.1", 0, folder / "certificate.pem", folder / "key.pem"))
    command = shlex.split(re.findall(r"made by: (openssl .+)$", message)[0])
    subprocess.run([*command, "-passin", "pass:secret"], check=True, cwd=tmp_path)
    check_certificate(Address("127.0.0.1", 0, folder / "certificate.pem", Path(command[-1])))
    assert (folder / "key.pem").read_bytes() == before


def test_limits_and_stores_are_taken_as_the_sentences_write_them(tmp_path: Path) -> None:
    assert limits([re.findall(r"such as (\S+)\.$", told(limits, ["seconds"]))[0]]).seconds == 5
    name = re.findall(r'did you mean "(?:limit\.)?(\w+)"', told(limits, ["secnds=3"]))[0]
    assert limits([f"{name}=3"]).seconds == 3
    assert "give the path of a file for SQLite" in told(open_store, "mysql://shop")
    path = tmp_path / "new" / "store.sqlite"
    assert "make it, or correct --store" in told(open_store, str(path))
    path.parent.mkdir()
    open_store(str(path)).close()


def test_ports_hosts_and_names_of_models_are_chosen_as_the_sentences_say(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_module, "open_answering", lambda path, model=None: tiny_model("titles"))
    store = str(tmp_path / "s")

    def prepared(*arguments: Any, **named: Any) -> None:
        prepare(*arguments, store, **named).socket.close()

    folder = tmp_path / "a"
    assert "choose another --port" in told(prepared, folder, Address(port=client.port))
    message = told(prepared, folder, Address("0.0.0.0", 0))
    assert "give --api-key-file FILE, or leave --host out" in message
    prepared(folder, Address("0.0.0.0", 0), keys=Keys([KEY]))
    prepared(folder, Address(port=0))
    (tmp_path / "run").mkdir()
    monkeypatch.setattr("shelftalk.publishing.contents.is_published", lambda path: False)
    message = told(prepared, folder, Address(port=0), also={"aligned": tmp_path / "run"})
    assert "publish the run, and give --also that folder by another name" in message
    monkeypatch.setattr("shelftalk.publishing.contents.is_published", lambda path: True)
    message = told(prepared, folder, Address(port=0), also={"aligned": tmp_path / "run"})
    assert 'two models are called "aligned"; give --also another name' in message
    prepared(folder, Address(port=0), also={"another": tmp_path / "run"})


def test_models_that_cannot_be_served_or_re_rank_are_replaced_as_the_sentences_say() -> None:
    split = exam_split()
    ranker, counts = tiny_model(), answering(fit_popularity(split), split.dataset.items)
    message = told(answering, fit_bias(split, BiasSettings()), split.dataset.items)
    assert 'name another model, such as "aligned" or "item_knn"' in message
    candidates = int(re.findall(r"give --candidates (\d+)", told(TwoStage, ranker, counts, 0))[0])
    assert TwoStage(ranker, counts, candidates)
