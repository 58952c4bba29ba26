"""One process at a time: a lock of the operating system on a file, which ends with the process that holds it.

The file names who holds it, for the message to others. On a network file system the lock holds between
machines where the server supports it (NFS does); where locks are not supported at all, a warning is given.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from shelftalk.errors import InUse
from shelftalk.runtime.distributed import world

_TAKEN = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
_NOT_SUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
_OFFSET = 2**30  # Windows locks bytes: one after what is written in the file, which others may then read


@dataclass
class _Held:
    """A lock of this process: by which thread, and how many blocks deep."""

    file: int
    thread: int
    depth: int = 1


_held: dict[Path, _Held] = {}
_guard = threading.Lock()


@contextmanager
def locked(path: Path, what: str, remedy: str) -> Iterator[None]:
    """Inside the block no other process is in a block of the
    same `path`, a lock file that is there as long as the block.

    `what` is what the message to the others calls the locked thing, and `remedy` what they may choose. A
    thread may enter again what it holds. Of several processes that do one run together the first holds it for
    all. Raises InUse where another process holds it.
    """
    if not world().is_main:
        yield
        return
    path = path.absolute()
    with _guard:
        held = _held.get(path)
        if held and held.thread == threading.get_ident():
            held.depth += 1
        else:
            held = _held[path] = _Held(_acquired(path, what, remedy), threading.get_ident())
    try:
        yield
    finally:
        with _guard:
            held.depth -= 1
            if not held.depth:
                del _held[path]
                _release(path, held.file)


def _acquired(path: Path, what: str, remedy: str) -> int:
    """The open lock file. One that its holder removed between
    our opening and locking it is seen by no other."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(file)
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                os.close(file)
                if error.errno not in _TAKEN:
                    raise
                raise InUse(
                    f"{what} is in use by {_holder(path)}; wait until that has ended, or choose {remedy}."
                ) from None
            warnings.warn(
                f'the file system of "{path}" supports no locks; run one command at a time on {what}.',
                stacklevel=2,
            )
        if _is_at(file, path):
            _write_holder(file)
            return file
        os.close(file)


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _write_holder(file: int) -> None:
    who = {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
    }
    with suppress(OSError):  # on a full disk the lock holds all the same
        os.truncate(file, 0)
        os.write(file, json.dumps(who).encode())


def _holder(path: Path) -> str:
    try:
        who = json.loads(path.read_text("utf-8"))
        return f'process {who["process"]} on "{who["host"]}", since {who["since"]}'
    except (OSError, ValueError, KeyError, TypeError):  # it has just begun, or just ended
        return "another process"


if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        os.lseek(file, _OFFSET, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        os.lseek(file, 0, os.SEEK_SET)

    def _release(path: Path, file: int) -> None:
        os.close(file)
        with suppress(OSError):  # a process that has opened it since gets the lock, and removes it
            path.unlink()

else:
    import fcntl

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _release(path: Path, file: int) -> None:
        with suppress(OSError):  # the folder may be gone
            path.unlink()
        os.close(file)
