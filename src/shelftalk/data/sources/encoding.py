"""Which encoding a text file is in, where it is not UTF-8, and the errors for one that cannot be read."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import IO

from shelftalk.errors import UnreadableFile

STARTS = {
    "UTF-32": ("fffe0000", "0000feff"),
    "UTF-16": ("fffe", "feff"),
    "UTF-16LE": ("..00",),
    "UTF-16BE": ("00..",),
}
"""Encoding -> regular expressions for the first bytes of its files, in hexadecimal: a byte order mark, or the
NUL half of an ASCII character."""
WINDOWS = "windows-1252"
UNUSED = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
"""Bytes that are no character of Windows-1252."""
ALONE = re.compile(rb"(?<![\x80-\xff])[\x80-\xff](?![\x80-\xff])")
HIGH = re.compile(rb"[\x80-\xff]")
MOSTLY = 0.8
"""Share of the bytes beyond ASCII that stand between ASCII ones: in Western texts nearly all, in texts of
other scripts few."""
Open = Callable[[Path], IO[bytes]]


def encoding_of_start(path: Path, opened: Open) -> str | None:
    """UTF-16 or UTF-32, by a file's first bytes; None where they show neither."""
    with opened(path) as file:
        start = file.read(4).hex()
    matching = (name for name, starts in STARTS.items() if any(re.match(one, start) for one in starts))
    return next(matching, None)


def detected_encoding(path: Path, opened: Open) -> tuple[str, str]:
    """Windows-1252 and a note with an example, for a file that is not UTF-8. Raises UnreadableFile where the
    file is UTF-8 but for damaged lines, or of another script."""
    first: tuple[int, bytes] | None = None
    utf8 = high = alone = 0
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            if line.isascii():
                continue
            if _is_utf8(line):
                utf8 += 1
                continue
            if UNUSED.search(line):
                raise not_in(path, opened, "UTF-8")
            first = first or (number, line)
            high, alone = high + len(HIGH.findall(line)), alone + len(ALONE.findall(line))
    if utf8 or first is None or alone < MOSTLY * high:
        raise not_in(path, opened, "UTF-8")
    number, line = first
    match = HIGH.search(line)
    at = match.start() if match else 0
    word = line[max(0, at - 12) : at + 12].decode(WINDOWS).strip()
    note = f'{path.name} is not UTF-8 and was read as Windows-1252, for instance "{word}" in line {number}; '
    return WINDOWS, note + "set data.encoding if it is in another."


def not_in(path: Path, opened: Open, encoding: str) -> UnreadableFile:
    """The error for a file that does not decode, naming the first line of UTF-8 that does not."""
    remedy = 'name its encoding in data.encoding, such as "windows-1251" or "gb18030"'
    if encoding != "UTF-8":
        return UnreadableFile(f"{path.name} is not {encoding} text; {remedy}.")
    with opened(path) as file:
        lines = enumerate(file, start=1)
        number, error = next(
            ((number, fault) for number, line in lines if (fault := _fault(line))), (0, None)
        )
    where = ""
    if error is not None:
        where = f": line {number} holds the byte 0x{error.object[error.start]:02X}"
    return UnreadableFile(f"{path.name} is not UTF-8 text{where}; correct the file, or {remedy}.")


def _is_utf8(line: bytes) -> bool:
    return _fault(line) is None


def _fault(line: bytes) -> UnicodeDecodeError | None:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        return error
    return None
