"""The error for a text file that is not UTF-8: what it may be instead, and how to convert it."""

from __future__ import annotations

import re
from pathlib import Path

from shelftalk.errors import UnreadableFile

STARTS = {
    "UTF-32": ("fffe0000", "0000feff"),
    "UTF-16": ("fffe", "feff"),
    "UTF-16LE": ("..00",),
    "UTF-16BE": ("00..",),
}
"""Encoding -> regular expressions for the first bytes of its files, in hexadecimal: a byte order mark, or the
NUL half of an ASCII character."""


def not_utf8(path: Path) -> UnreadableFile:
    """The error for a file that does not decode, or has a NUL in its first two characters."""
    with path.open("rb") as file:
        start = file.read(4).hex()
        file.seek(0)
        for encoding, starts in STARTS.items():
            if any(re.match(one, start) for one in starts):
                return UnreadableFile(
                    f"{path.name} is not UTF-8 text but {encoding}; {_remedy(encoding, path)}"
                )
        faults = ((line, _fault(text)) for line, text in enumerate(file, start=1))
        line, error = next((line, error) for line, error in faults if error)
    where = f"line {line} holds the byte 0x{error.object[error.start]:02X}, perhaps of Windows-1252"
    return UnreadableFile(f"{path.name} is not UTF-8 text: {where}; {_remedy('WINDOWS-1252', path)}")


def _fault(text: bytes) -> UnicodeDecodeError | None:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        return error
    return None


def _remedy(encoding: str, path: Path) -> str:
    return f'save it in UTF-8, for instance by "iconv -f {encoding} -t UTF-8 {path.name}" into another file.'
