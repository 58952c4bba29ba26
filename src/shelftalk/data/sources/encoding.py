"""The error for a text file that is not UTF-8: what it may be instead, and how to convert it."""

from __future__ import annotations

from pathlib import Path

from shelftalk.errors import UnreadableFile

MARKS = {b"\xff\xfe\x00\x00": "UTF-32", b"\x00\x00\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
"""First bytes -> encoding; the longer ones first."""


def not_utf8(path: Path) -> UnreadableFile:
    """The error for a file that does not decode, or that has a NUL in its first line, as UTF-16 without a mark has."""
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        faults = ((line, _fault(text)) for line, text in enumerate(file, start=1))
        first = next(((line, error) for line, error in faults if error), None)
    encoding = next((name for mark, name in MARKS.items() if start.startswith(mark)), None)
    if encoding is None and first is not None:
        line, error = first
        where = f": line {line} holds the byte 0x{error.object[error.start]:02X}, perhaps of Windows-1252"
        return UnreadableFile(f"{path.name} is not UTF-8 text{where}; {_remedy('WINDOWS-1252', path)}")
    encoding = encoding or ("UTF-16LE" if start[1:2] == b"\0" else "UTF-16BE")
    return UnreadableFile(f"{path.name} is not UTF-8 text but {encoding}; {_remedy(encoding, path)}")


def _fault(text: bytes) -> UnicodeDecodeError | None:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        return error
    return None


def _remedy(encoding: str, path: Path) -> str:
    return f'save it in UTF-8, for instance by "iconv -f {encoding} -t UTF-8 {path.name}" into another file.'
