"""A real PostgreSQL server for tests and benchmarks, in a folder that goes away."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

DEBIAN = Path("/usr/lib/postgresql")
"""Where Debian keeps the server's programs, by version and outside the path."""


def program(name: str) -> str | None:
    """A program of PostgreSQL, on the path or in its Debian folder; None where it is not installed."""
    if path := shutil.which(name):
        return path
    versions = sorted(DEBIAN.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3].split(".")[0]))
    return str(versions[-1]) if versions else None


def missing() -> str:
    """Why no server can be started, "" where one can."""
    if not (program("initdb") and program("pg_ctl")):
        return "PostgreSQL's initdb and pg_ctl are not installed"
    if os.geteuid() == 0 and not _user():
        return "PostgreSQL does not run as root, and there is no user postgres or nobody"
    return ""


def _user() -> str:
    """The user that the server runs as, where this process is root: it refuses to be root itself."""
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    return ""


class Server:
    """One server on a free port of loopback; `url` opens its database."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="shelftalk-postgres-"))
        if os.geteuid() == 0:
            os.chown(self._folder, pwd.getpwnam(_user()).pw_uid, -1)
        self._folder.chmod(0o700)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"postgresql://shop@127.0.0.1:{self.port}/postgres"
        data = self._folder / "data"
        self._run("initdb", "-D", str(data), "-U", "shop", "--auth=trust", "-E", "UTF8", "--no-sync")
        with (data / "postgresql.conf").open("a") as settings:
            settings.write(f"port = {self.port}\nlisten_addresses = '127.0.0.1'\n")
            settings.write(f"unix_socket_directories = '{self._folder}'\nshared_buffers = 16MB\n")
            settings.write("recovery_init_sync_method = syncfs\n")
        self.start()

    def start(self) -> None:
        """Start, and wait until it answers."""
        data, log = self._folder / "data", self._folder / "log"
        self._run("pg_ctl", "-D", str(data), "-l", str(log), "-w", "-t", "60", "start")

    def kill(self) -> None:
        """End every process of the server at once, as a crash does."""
        self._run("pg_ctl", "-D", str(self._folder / "data"), "-m", "immediate", "-w", "stop")

    def close(self) -> None:
        """Stop it and remove its folder."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, name: str, *arguments: str) -> None:
        command = [program(name) or name, *arguments]
        as_user: dict[str, Any] = {"user": _user(), "extra_groups": []} if os.geteuid() == 0 else {}
        environment = {**os.environ, "HOME": str(self._folder)}
        subprocess.run(
            command,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            cwd=self._folder,
            env=environment,
            **as_user,
        )
