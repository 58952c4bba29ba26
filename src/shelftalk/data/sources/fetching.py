"""`shelftalk fetch`: the files of a public data set, from where its publisher or a mirror has them.

A download continues where it was interrupted. What was fetched, from where and with which SHA-256, stands in
`fetched.toml` beside the files; a hash that the catalogue knows must hold, and one that it does not know is
recorded at the first download and must hold from then on.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import shutil
import tarfile
import time
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import tomli_w

from shelftalk.errors import DownloadFailed, UnknownPart, UnreadableFile, nearest
from shelftalk.runtime.progress import OnProgress, silent
from shelftalk.runtime.run_folder import beside, space_needed

RECORD = "fetched.toml"
TIMEOUT = 30.0
"""Seconds without an answer after which a mirror is given up."""
AT_ONCE = 1 << 20
"""Bytes read at once."""
PART = re.compile(r"[A-Za-z0-9_]+")
MAGIC = {".zip": b"PK", ".gz": b"\x1f\x8b"}
"""Ending -> the first bytes of such a file; a mirror without it may answer with a page."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file and where it is; `members`: what is taken out of it, where it is an archive. A hash that is not
    known is empty."""

    name: str
    urls: tuple[str, ...]
    sha256: str = ""
    md5: str = ""
    members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PublicSet:
    """A public data set: its layout (see layouts.py), the page and terms of its publisher, its files."""

    name: str
    title: str
    layout: str
    page: str
    terms: str
    files: tuple[RemoteFile, ...]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file as it is now: `how` it came here, or that it was there, and whether its hash was known."""

    name: str
    size: int
    sha256: str
    how: str
    known: bool


@cache
def _catalogue() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("catalogue.toml").read_text("utf-8"))


def public_sets() -> list[PublicSet]:
    """Every data set of the catalogue; of those with parts, the one that stands as an example."""
    return [public_set(name) for name in _catalogue()]


def public_set(name: str) -> PublicSet:
    """The data set of a name such as "ml-1m" or "amazon-2014:Beauty". Raises UnknownPart."""
    key, _, part = name.partition(":")
    if key not in _catalogue():
        raise UnknownPart(f'there is no public data set "{key}"; {nearest(key, _catalogue())}')
    held = _catalogue()[key]
    if part and "part" not in held:
        raise UnknownPart(f'the public data set "{key}" has no parts; leave ":{part}" out.')
    part = part or held.get("part", "")
    if part and not PART.fullmatch(part):
        raise UnknownPart(f'"{part}" is no part of {key}; name one such as "{key}:{held["part"]}".')
    files = tuple(
        RemoteFile(
            file["name"].replace("{part}", part),
            tuple(url.replace("{part}", part) for url in file["urls"]),
            file.get("sha256", ""),
            file.get("md5", ""),
            tuple(file.get("members", ())),
        )
        for file in held["files"]
    )
    full = f"{key}:{part}" if part else key
    return PublicSet(full, held["title"], held["layout"], held["page"], held["terms"], files)


def fetch(wanted: PublicSet, folder: Path, progress: OnProgress = silent) -> list[Fetched]:
    """The files of a data set in `folder`, downloaded where they are not there, verified and unpacked.

    Files that were put there by hand are taken as they are, if their hash is right. Raises DownloadFailed,
    which says which file to put where, and UnreadableFile for a file that is not the expected one.
    """
    with space_needed(folder):
        folder.mkdir(parents=True, exist_ok=True)
        record = _read_record(folder)
        done = [_fetched(wanted, file, folder, record, progress) for file in wanted.files]
        _write_record(folder, wanted, done, record)
    return done


def _fetched(
    wanted: PublicSet, file: RemoteFile, folder: Path, record: dict[str, Any], progress: OnProgress
) -> Fetched:
    path, before = folder / file.name, record.get(file.name, {})
    if file.members and not path.exists() and _unpacked(folder, before):
        return Fetched(file.name, before["size"], before["sha256"], "was there, unpacked", bool(file.sha256))
    how = "was there"
    if not path.exists():
        how = "from " + _download(wanted, file, folder, progress)
    sha256, md5 = _hashes(path)
    _check(file, path, sha256, md5, before.get("sha256", ""))
    size = path.stat().st_size
    record[file.name] = {**before, "size": size, "sha256": sha256, "from": how.removeprefix("from ")}
    if file.members:
        record[file.name]["members"] = _unpack(file, folder, path)
        path.unlink()
    return Fetched(file.name, size, sha256, how, bool(file.sha256 or file.md5))


def _unpacked(folder: Path, before: dict[str, Any]) -> bool:
    """Whether everything that was taken out of an archive is still as it was."""
    members = before.get("members", {})
    return bool(members) and all(
        (folder / name).is_file() and _hashes(folder / name)[0] == sha256 for name, sha256 in members.items()
    )


def _download(wanted: PublicSet, file: RemoteFile, folder: Path, progress: OnProgress) -> str:
    """The address that the file came from. Raises DownloadFailed where none has it."""
    target, faults = folder / file.name, []
    for url in file.urls:
        part = folder / f".{file.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part"
        try:
            _download_from(url, part, progress, file.name)
        except (OSError, HTTPException) as error:
            if isinstance(error, OSError) and not isinstance(error, URLError) and error.filename:
                raise  # a path here, not the network
            faults.append(f"{urlsplit(url).netloc}: {_reason(error)}")
            continue
        magic = MAGIC.get(target.suffix, b"")
        with part.open("rb") as start:
            begins = start.read(len(magic))
        if begins != magic:
            part.unlink()
            faults.append(f"{urlsplit(url).netloc}: the answer is no {target.suffix} file")
            continue
        os.replace(part, target)
        return url
    where = f"download {' or '.join(file.urls) or f'{file.name} from {wanted.page}'} by other means, "
    where += f'put it at "{target}" and run the same command again'
    why = f"cannot be downloaded ({'; '.join(faults)})" if faults else "has no address that needs no consent"
    raise DownloadFailed(f"{file.name} of {wanted.name} {why}; {where}.")


def _download_from(url: str, part: Path, progress: OnProgress, name: str) -> None:
    """Continue `part` from where it ends. Raises OSError (URLError and HTTPError are such) or
    HTTPException."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "shelftalk", "Accept-Encoding": "identity"}
    tag = part.with_suffix(".tag")
    if have and tag.exists():  # a file that has changed since begins anew
        headers |= {"Range": f"bytes={have}-", "If-Range": tag.read_text("utf-8")}
    try:
        answer = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        if error.code != 416:  # what is there is longer than the file: begin anew
            raise
        headers = {name: value for name, value in headers.items() if not name.startswith(("Range", "If-"))}
        answer = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    with answer:
        continues = answer.status == 206
        have = have if continues else 0
        validator = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        if validator and not validator.startswith("W/"):
            tag.write_text(validator, "utf-8")
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else 0
        with part.open("ab" if continues else "wb") as file:
            for block in _blocks(answer):
                file.write(block)
                have += len(block)
                progress("fetch", have >> 20, max(total >> 20, 1), f"{name}, MB")
        if total and have < total:
            raise URLError(f"the connection ended after {have:,} of {total:,} bytes")
    tag.unlink(missing_ok=True)


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(AT_ONCE):
        yield block


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"{error.code} {error.reason}"
    return str(getattr(error, "reason", "") or error) or type(error).__name__


def _hashes(path: Path) -> tuple[str, str]:
    """SHA-256 and MD5 of a file; MD5 only to compare with one that a publisher gives."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        for block in _blocks(file):
            sha256.update(block)
            md5.update(block)
    return sha256.hexdigest(), md5.hexdigest()


def _check(file: RemoteFile, path: Path, sha256: str, md5: str, recorded: str) -> None:
    """Raise UnreadableFile where a known or recorded hash does not hold."""
    for kind, known, is_now in (
        ("SHA-256", file.sha256, sha256),
        ("MD5", file.md5, md5),
        ("SHA-256 of the first download", recorded, sha256),
    ):
        if known and known != is_now:
            raise UnreadableFile(
                f'"{path}" is not the expected file: its {kind} is {is_now} and not {known}; remove it and '
                "run the same command again; if its publisher has changed it, read it by --data as it is."
            )


def _unpack(file: RemoteFile, folder: Path, path: Path) -> dict[str, str]:
    """The wanted members of an archive beside it, by their names without folders: name -> SHA-256. Raises
    UnreadableFile."""
    taken: dict[str, str] = {}
    try:
        with _archive(path) as members:
            for name, opened in members:
                base = name.rsplit("/", 1)[-1]
                if not any(fnmatch.fnmatch(base, wanted) for wanted in file.members) or base in taken:
                    continue
                with opened as source, beside(folder / base) as part, part.open("wb") as target:
                    shutil.copyfileobj(source, target, AT_ONCE)
                taken[base] = _hashes(folder / base)[0]
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, NotImplementedError) as error:
        raise UnreadableFile(
            f'"{path}" is damaged ({error}); remove it and run the same command again.'
        ) from error
    if not taken:
        raise UnreadableFile(
            f'"{path}" holds none of {", ".join(file.members)}; remove it and run the same command again.'
        )
    return taken


@contextmanager
def _archive(path: Path) -> Iterator[Iterator[tuple[str, IO[bytes]]]]:
    """(name, opened file) of the members of a .zip or .tar.gz."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as held:
            yield ((name, held.open(name)) for name in held.namelist() if not name.endswith("/"))
    else:
        with tarfile.open(path, "r|*") as tar:
            yield ((one.name, file) for one in tar if one.isfile() and (file := tar.extractfile(one)))


def _read_record(folder: Path) -> dict[str, Any]:
    try:
        files = tomllib.loads((folder / RECORD).read_text("utf-8")).get("files", {})
        if not isinstance(files, dict) or not all(isinstance(facts, dict) for facts in files.values()):
            raise ValueError('"files" is no table of tables')
        return files
    except FileNotFoundError:
        return {}
    except (ValueError, OSError) as error:
        raise UnreadableFile(
            f'"{folder / RECORD}" cannot be read ({error}); remove it, and the hashes are recorded anew.'
        ) from error


def _write_record(folder: Path, wanted: PublicSet, done: list[Fetched], files: dict[str, Any]) -> None:
    content = {
        "name": wanted.name,
        "page": wanted.page,
        "terms": wanted.terms,
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "files": {file.name: {**files[file.name], "hash_was_known": file.known} for file in done},
    }
    with beside(folder / RECORD) as part:
        part.write_text(tomli_w.dumps(content), "utf-8")
