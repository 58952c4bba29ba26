"""Text files as published and as exported: plain or compressed, in an encoding that is given or detected.

UTF-8 is tried first. What else a file is in is detected from its first bytes (UTF-16, UTF-32), or from how
its other bytes stand (Windows-1252, which has Latin-1 in it), and noted; what fits none of these is refused,
and `data.encoding` names it.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TextIO

import pyarrow as pa

from shelftalk.data.sources.encoding import detected_encoding, encoding_of_start, not_in
from shelftalk.data.sources.table import Table
from shelftalk.errors import UnreadableFile

STARTS = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd"}
"""Ending of a compressed file -> its first bytes."""


@dataclass(frozen=True, slots=True)
class TextForm:
    """How a text file is written, where that is given: `encoding` by Python's name, and what separates the
    cells of a delimited file. None is detected."""

    encoding: str | None = None
    separator: str | None = None


DETECTED = TextForm()


def ending_of(path: Path) -> str:
    """The ending that names the format, without that of a compression: ".csv" of "a.CSV.gz"."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in STARTS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def stem_of(path: Path) -> str:
    """The name without its endings: "a" of "a.csv.gz"."""
    name = path.name
    for ending in (path.suffix if path.suffix.lower() in STARTS else "", ending_of(path)):
        name = name[: len(name) - len(ending)]
    return name


def open_binary(path: Path) -> IO[bytes]:
    """The content of a file, decompressed as it is read. Raises UnreadableFile where the ending of its name
    and its first bytes disagree."""
    with path.open("rb") as file:
        start = file.read(4)
    ending = path.suffix.lower()
    compressed = next((name for name, magic in STARTS.items() if start.startswith(magic)), "")
    if ending in STARTS and compressed != ending:
        raise UnreadableFile(
            f"{path.name} is not compressed as its ending {ending} says, or is damaged; download or copy it "
            f"again, or take the ending {ending} off its name."
        )
    if compressed and ending not in STARTS:
        raise UnreadableFile(f'{path.name} is compressed; add "{compressed}" to its name.')
    if compressed == ".gz":
        return io.BufferedReader(gzip.open(path, "rb"))
    if compressed == ".zst":
        return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))
    return path.open("rb")


def open_text(path: Path, encoding: str) -> TextIO:
    """The lines of a file as they end in it. Raises as `open_binary`."""
    return io.TextIOWrapper(open_binary(path), encoding=encoding, newline="")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """A block that reads a file: a damaged or forbidden one becomes UnreadableFile."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableFile(f"{path.name} is damaged ({error}); download or copy it again.") from error
    except pa.ArrowException as error:
        raise UnreadableFile(f"{path.name} is damaged ({error}); download or copy it again.") from error
    except OSError as error:
        if path.suffix.lower() in STARTS and error.strerror is None:
            raise UnreadableFile(f"{path.name} is damaged ({error}); download or copy it again.") from error
        raise UnreadableFile(
            f"{path.name} cannot be read ({error.strerror}); check the file and its permissions."
        ) from error


def read_text(path: Path, form: TextForm, read: Callable[[str], Table]) -> Table:
    """`read(encoding)` with the given encoding or the detected one, which is noted where it is not UTF-8.

    Raises UnreadableFile where the file is damaged, or in no encoding that can be detected.
    """
    with readable(path):
        if form.encoding is not None:
            try:
                return _with_note_on_end(path, read(form.encoding))
            except UnicodeError as error:
                raise not_in(path, open_binary, form.encoding) from error
        encoding = encoding_of_start(path, open_binary)
        try:
            table = read(encoding or "utf-8-sig")  # spreadsheet programs write a byte order mark
            note = f"{path.name} is in {encoding}, and was read so." if encoding else ""
        except UnicodeError as error:
            if encoding:
                raise not_in(path, open_binary, encoding) from error
            encoding, note = detected_encoding(path, open_binary)
            table = read(encoding)
        table.notes.extend([note] if note else [])
        return _with_note_on_end(path, table)


def _with_note_on_end(path: Path, table: Table) -> Table:
    """The table; noted where its file's last line does not end, as where a copy was cut off. A compressed
    file shows that by itself."""
    if path.suffix.lower() not in STARTS:
        with path.open("rb") as file:
            file.seek(-min(4, path.stat().st_size), 2)
            end = file.read()
        if len(table.row_numbers) and not end.rstrip(b"\0").endswith((b"\n", b"\r")):
            table.notes.append(
                f"{path.name} ends in the middle of its last line, {table.unit} {table.row_numbers[-1]}; if "
                "it was cut off, copy it again."
            )
    return table
