"""The formats of data files, by the ending of a file's name."""

from __future__ import annotations

from shelftalk.declarations import FileFormat

_JSON_LINES = FileFormat("shelftalk.data.sources.json_lines:read", is_text=True)
_ARROW = FileFormat("shelftalk.data.sources.arrow:read")
FORMATS: dict[str, FileFormat] = {
    ".parquet": FileFormat("shelftalk.data.sources.parquet:read"),
    ".csv": FileFormat("shelftalk.data.sources.delimited:read_csv", has_header=True, is_text=True),
    ".tsv": FileFormat("shelftalk.data.sources.delimited:read_tsv", has_header=True, is_text=True),
    ".jsonl": _JSON_LINES,
    ".ndjson": _JSON_LINES,
    ".json": _JSON_LINES,
    ".arrow": _ARROW,
    ".feather": _ARROW,
    ".ipc": _ARROW,
}
