"""A service as a process: models opened, a socket bound, signals answered.

SIGTERM and SIGINT end it after the questions that wait are answered; SIGHUP opens the model folders again.
"""

from __future__ import annotations

import ipaddress
import shlex
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from shelftalk.errors import SettingsError, ShelftalkError
from shelftalk.serving.answering import AnsweringModel, TwoStage, open_answering
from shelftalk.serving.app import make_app
from shelftalk.serving.databases import open_store
from shelftalk.serving.guarding import Keys
from shelftalk.serving.meters import Log, Meters
from shelftalk.serving.service import Service, ServiceSettings

LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "::1")
STOP_SECONDS = 30
"""Seconds that open connections have to end."""


@dataclass(frozen=True)
class Address:
    """Where a service listens. `names`: further names that it may be called by without keys."""

    host: str = "127.0.0.1"
    port: int = 8000
    certificate: Path | None = None
    key: Path | None = None
    names: tuple[str, ...] = ()

    @property
    def is_loopback(self) -> bool:
        """Whether other machines cannot reach it."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True)
class Retriever:
    """A quick model, such as a student, whose best items the served model re-ranks."""

    folder: Path
    candidates: int = 100
    """Items that are retrieved for each request."""


@dataclass
class Running:
    """A service that is about to answer."""

    service: Service
    server: uvicorn.Server
    socket: socket.socket
    url: str
    log: Log
    reopened: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Answer until a signal comes."""
        self.service.engine.start()
        if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGHUP, lambda number, frame: self._reload_all())
        self.log.write("serving", url=self.url, models=list(self.service.engine.models))
        self.server.run(sockets=[self.socket])

    def _reload_all(self) -> None:
        threading.Thread(target=self._reload, name="reload", daemon=True).start()

    def _reload(self) -> None:
        for name in self.service.engine.models:
            try:
                model = self.service.reload(name)
                self.log.write("reloaded", model=name, version=model.version)
            except ShelftalkError as error:
                self.log.write("not reloaded", model=name, message=str(error))


def prepare(
    folder: Path,
    address: Address,
    store: str,
    model: str | None = None,
    also: Mapping[str, Path] | None = None,
    keys: Keys | None = None,
    settings: ServiceSettings | None = None,
    log: Log | None = None,
    log_bodies: bool = False,
    retriever: Retriever | None = None,
) -> Running:
    """Open everything and bind the socket. `also`: further models by the name that callers give; of a run
    that is the model's name there. With a `retriever` the model re-ranks what that one finds. Raises
    SettingsError for an address that others can reach without keys, and as opening does."""
    keys, settings, log = keys or Keys(), settings or ServiceSettings(), log or Log()
    if not address.is_loopback and not keys:
        raise SettingsError(
            f"others can reach {address.host}, and this service has no keys; give --api-key-file FILE, or "
            "leave --host out to serve this machine alone."
        )
    check_certificate(address)
    bound = _bound(address)
    try:
        openers = _openers(lambda: _opened(folder, model, retriever), also or {})
        models = {name: open_model() for name, open_model in openers.items()}
        meters = Meters(log)
        service = Service(models, open_store(store), meters, settings, lambda name: openers[name]())
    except BaseException:
        bound.close()
        raise
    hosts = () if keys else (*LOOPBACK, *(name.lower() for name in address.names))
    app = make_app(service, meters, log, keys, hosts, log_bodies)
    server = _Server(_config(app, address), service)
    scheme = "https" if address.certificate else "http"
    host = f"[{address.host}]" if ":" in address.host else address.host
    return Running(service, server, bound, f"{scheme}://{host}:{bound.getsockname()[1]}", log)


def _opened(folder: Path, model: str | None, retriever: Retriever | None) -> AnsweringModel:
    opened = open_answering(folder, model)
    if retriever is None:
        return opened
    return TwoStage(opened, open_answering(retriever.folder), retriever.candidates)


def _openers(
    open_model: Callable[[], AnsweringModel], also: Mapping[str, Path]
) -> dict[str, Callable[[], AnsweringModel]]:
    first = open_model()
    once = [first]

    def open_first() -> AnsweringModel:
        return once.pop() if once else open_model()

    openers: dict[str, Callable[[], AnsweringModel]] = {first.name: open_first}
    for name, path in also.items():
        if name in openers:
            remedy = "give --also another name"
            if _is_run(path):  # whose models have their names there
                remedy = "publish the run, and give --also that folder by another name"
            raise SettingsError(f'two models are called "{name}"; {remedy}.')
        openers[name] = _opener(path, name)
    return openers


def _opener(path: Path, name: str) -> Callable[[], AnsweringModel]:
    is_run = _is_run(path)
    return lambda: open_answering(path, name if is_run else None)


def _is_run(path: Path) -> bool:
    from shelftalk.publishing.contents import is_published

    return path.exists() and not is_published(path)


def _bound(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # asyncio switches Nagle's algorithm off only where the protocol is named; with it an answer of two
    # packets waits 40 ms for its second one
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((address.host, address.port))
        bound.listen(2048)  # who connects from now on waits for the first answer
    except OSError as error:
        bound.close()
        raise SettingsError(
            f"{address.host}, port {address.port}, cannot be used ({error.strerror or error}); choose "
            "another --port or --host."
        ) from None
    return bound


def check_certificate(address: Address) -> None:
    """Raises SettingsError where certificate and key are not there, not both given, or not a pair."""
    for path, option in ((address.certificate, "--tls-certificate"), (address.key, "--tls-key")):
        if path is not None and not path.is_file():
            raise SettingsError(f'"{path}" is not there; correct {option}.')
    if address.certificate is None or address.key is None:
        if (address.certificate is None) != (address.key is None):
            raise SettingsError("--tls-certificate and --tls-key belong together; give both, or neither.")
        return
    has_passphrase = False

    def passphrase() -> str:  # without it, one would be asked for at the terminal
        nonlocal has_passphrase
        has_passphrase = True
        return ""

    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(address.certificate, address.key, password=passphrase)
    except OSError as error:
        if has_passphrase:
            plain = address.key.with_name(f"{address.key.stem}-without-passphrase.pem")
            command = shlex.join(["openssl", "pkey", "-in", str(address.key), "-out", str(plain)])
            raise SettingsError(
                f'the key "{address.key}" has a passphrase, which a service that starts by itself cannot '
                f"type; give --tls-key the one that is made by: {command}"
            ) from None
        raise SettingsError(
            f'"{address.certificate}" and "{address.key}" are no certificate and its key '
            f"({getattr(error, 'reason', None) or error.strerror or error}); give the PEM file of the chain, "
            "the service's own certificate first, and that of its private key."
        ) from None


def _config(app: Any, address: Address) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=STOP_SECONDS,
        ssl_certfile=address.certificate,
        ssl_keyfile=address.key,
    )


class _Server(uvicorn.Server):
    """A server that says for a while that it is not ready before it ends, so that a load balancer sees it."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        seconds, first = self._service.settings.drain_seconds, not self._service.draining
        self._service.draining = True
        if not (first and seconds):
            super().handle_exit(sig, frame)
            return
        ending = threading.Timer(seconds, super().handle_exit, (sig, frame))
        ending.daemon = True
        ending.start()


def default_store(folder: Path) -> str:
    """The SQLite file beside a model's folder: the folder is replaced as a whole when it is published
    again."""
    folder = folder.resolve()
    return str(folder.with_name(f"{folder.name}.store.sqlite"))


def wait_until_ready(running: Running, seconds: float = 30.0) -> None:
    """Until a server that runs in another thread accepts connections. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not running.server.started:
        if time.monotonic() > deadline:
            raise TimeoutError("the service did not start")
        time.sleep(0.01)


def limits(given: Sequence[str]) -> ServiceSettings:
    """Settings of "name=value" texts. Raises SettingsError for an unknown name or a value out of range."""
    from shelftalk.experiment import validated

    values: dict[str, Any] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator:
            raise SettingsError(f'"{text}" is no limit; write it as name=value, such as seconds=5.')
        values[name.strip()] = value.strip()
    return validated(ServiceSettings, values, "limit", "--limit")
