"""Whether a file is still the one that was written: size, time and SHA-256; and short hashes of large
folders."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

ALWAYS_READ = 32 * 2**20
"""Bytes up to which a file is read to know that it is unchanged;
of a larger one with the same size and time this is believed."""
SAMPLES = 64
"""Blocks of a large file that `content_of` reads, evenly spaced, the first and the last among them."""
BLOCK = 2**20
Written = Mapping[str, Mapping[str, Any] | None]
"""Path inside a folder -> bytes, modified (nanoseconds) and sha256 of the file; None: nothing is there."""


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes. A process reads a file
    again only when its size, time or inode is another."""
    stat = path.stat()
    return _sha256(str(path.absolute()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


def written(paths: Iterable[Path], folder: Path) -> dict[str, dict[str, Any] | None]:
    """What stands at `paths` inside `folder` just now: of a folder every file in it."""
    facts: dict[str, dict[str, Any] | None] = {}
    for path in paths:
        files = _files(path) if path.is_dir() else [path]
        facts |= {file.relative_to(folder).as_posix(): _facts(file) for file in files}
    return facts


def changed(known: Written, folder: Path) -> list[str]:
    """Those of the known paths at which something else stands now than was written, or nothing."""
    return [name for name, facts in known.items() if not _holds(folder / name, facts)]


def content_of(path: Path) -> dict[str, str]:
    """Path inside -> size and hash, of a file or of every
    file in a folder: to know another folder of weights.

    Files of more than `SAMPLES` blocks are hashed by samples: two trainings differ everywhere.
    """
    files = _files(path) if path.is_dir() else [path]
    return {file.relative_to(path).as_posix(): f"{file.stat().st_size} {_sampled(file)}" for file in files}


@lru_cache(maxsize=4096)
def _sha256(path: str, *stat: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _facts(path: Path) -> dict[str, Any] | None:
    if not os.path.lexists(path):
        return None
    stat = path.stat()
    return {"bytes": stat.st_size, "modified": stat.st_mtime_ns, "sha256": sha256(path)}


def _holds(path: Path, facts: Mapping[str, Any] | None) -> bool:
    if facts is None:
        return not os.path.lexists(path)
    if not path.is_file():
        return False
    stat = path.stat()
    if stat.st_size != facts["bytes"]:
        return False
    believed = stat.st_size > ALWAYS_READ and stat.st_mtime_ns == facts["modified"]
    result: bool = believed or sha256(path) == facts["sha256"]
    return result


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _sampled(path: Path) -> str:
    size = path.stat().st_size
    if size <= SAMPLES * BLOCK:
        return sha256(path)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for number in range(SAMPLES):
            file.seek((size - BLOCK) * number // (SAMPLES - 1))
            digest.update(file.read(BLOCK))
    return digest.hexdigest()
