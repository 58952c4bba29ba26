"""What every request passes before any of our code reads it: request id, limits, keys, log.

Written for ASGI itself, since a body must be refused before it is in memory.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from shelftalk.errors import SettingsError
from shelftalk.serving.meters import Log, Meters

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_DEPTH = 20
"""Levels of JSON."""
BODY_SECONDS = 20.0
"""Time in which a body must have arrived."""
DISCARDED = 64_000_000
"""Bytes of a body that is too large which are read, and forgotten, before it is refused."""
OPEN_PATHS = ("/", "/health", "/ready")
"""What is answered without a key: the page has no data in it."""
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")
_ID = re.compile(r"[\w.-]{1,64}")


class Refused(Exception):
    """A request that goes no further."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Keys:
    """API keys, kept as hashes. Without any, everybody is let in."""

    def __init__(self, keys: Sequence[str] = ()) -> None:
        self._hashes = [hashlib.sha256(key.encode()).digest() for key in keys]

    @classmethod
    def of_file(cls, path: Path) -> Keys:
        """One key a line; lines that begin with # are none. Raises SettingsError for keys that can be
        guessed, or none."""
        try:
            lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f'"{path}" cannot be read ({error}); correct --api-key-file.') from None
        keys = [line for line in lines if line and not line.startswith("#")]
        if not keys or any(len(key) < 16 for key in keys):
            raise SettingsError(
                f'"{path}" needs keys of at least 16 characters, one a line; make one with: '
                'python -c "import secrets; print(secrets.token_urlsafe(32))" > ' + f'"{path}"'
            )
        return cls(keys)

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def admit(self, given: str) -> bool:
        """Whether it is one of the keys; the time that this takes does not depend on which."""
        digest = hashlib.sha256(given.encode("utf-8", "surrogateescape")).digest()
        return any([hmac.compare_digest(digest, known) for known in self._hashes])


class Guard:
    """The outermost layer of the service."""

    def __init__(
        self,
        app: App,
        meters: Meters,
        log: Log,
        keys: Keys,
        max_body: int,
        hosts: Sequence[str] = (),
        log_bodies: bool = False,
    ) -> None:
        self._app = app
        self._meters = meters
        self._log = log
        self._keys = keys
        self._max_body = max_body
        self._hosts = hosts
        self._log_bodies = log_bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, headers = time.monotonic(), dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {}).update(request_id=request_id, arrived=started)
        status, body = 500, b""

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            self._check_head(scope, headers)
            body = await self._body(headers, receive)
            await self._app(scope, _replayed(body, receive), answer)
        except Refused as refusal:
            await _refuse(answer, refusal, request_id)
        finally:
            self._note(scope, status, time.monotonic() - started, request_id, body)

    def _check_head(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1").rpartition("@")[2]
        name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
        if self._hosts and name.lower() not in self._hosts:
            raise Refused(
                421,
                "wrong_host",
                "this service answers under other names; use its own address, or --allow-host.",
            )
        if not self._keys or scope["path"] in OPEN_PATHS:
            return
        kind, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        key = token.strip() if kind.lower() == "bearer" else headers.get(b"x-api-key", b"").decode("latin-1")
        if not self._keys.admit(key):
            raise Refused(401, "no_key", 'send one of the API keys as "Authorization: Bearer KEY".')

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """The whole body, checked: its size, its encoding, its depth, and that it is JSON."""
        too_large = Refused(
            413, "too_large", f"a body has at most {self._max_body:,} bytes; send less at a time."
        )
        parts, size, deadline = [], 0, time.monotonic() + BODY_SECONDS
        while True:
            try:
                message = await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                raise Refused(408, "too_slow", "the body did not arrive in time; send it again.") from None
            if message["type"] != "http.request":
                raise Refused(400, "ended", "the connection ended within the body; send it again.")
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
            if size <= self._max_body:
                parts.append(message.get("body", b""))
            elif not more or size > DISCARDED:
                raise too_large  # a caller that is still sending would not read the answer
            if not more:
                break
        body = b"".join(parts)
        if body:
            _check_json(body, headers)
        return body

    def _note(self, scope: Scope, status: int, seconds: float, request_id: str, body: bytes) -> None:
        route = scope.get("route")
        path = getattr(route, "path", None) or ("/" if scope["path"] == "/" else "unknown")
        self._meters.request(path, status, seconds)
        more = {"body": body.decode("utf-8", "replace")} if self._log_bodies and body else {}
        self._log.write(
            "request",
            request_id=request_id,
            method=scope["method"],
            path=path,
            status=status,
            milliseconds=round(seconds * 1000, 2),
            bytes=len(body),
            **more,
        )


def _check_json(body: bytes, headers: dict[bytes, bytes]) -> None:
    """Raises Refused for a body that is no JSON, in the header or in fact, or deeper than MAX_DEPTH."""
    kind = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(
            415, "not_json", 'send JSON, and "Content-Type: application/json"; no other kind is read.'
        )
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", body)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise Refused(400, "too_deep", f"JSON is read to {MAX_DEPTH} levels; send it flatter.")
    try:
        json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0][:100]
        raise Refused(400, "bad_json", f"the body is no JSON in UTF-8 ({reason}); correct it.") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _replayed(body: bytes, receive: Receive) -> Receive:
    """What the application receives: the body that was read, then what the connection says."""
    given = False

    async def again() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return again


def error_body(code: str, message: str, request_id: str) -> bytes:
    """The body of an error, see messages.ErrorAnswer."""
    return json.dumps({"error": {"code": code, "message": message, "request_id": request_id}}).encode()


async def _refuse(send: Send, refusal: Refused, request_id: str) -> None:
    body = error_body(refusal.code, refusal.message, request_id)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if refusal.status in (408, 413):
        headers.append((b"connection", b"close"))  # what was not read must not be taken for a request
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
