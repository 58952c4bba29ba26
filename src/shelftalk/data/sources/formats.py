"""The formats of data files, by the ending of a file's name."""

from __future__ import annotations

from shelftalk.declarations import FileFormat

_JSON_LINES = FileFormat("shelftalk.data.sources.json_lines:read")
FORMATS: dict[str, FileFormat] = {
    ".parquet": FileFormat("shelftalk.data.sources.parquet:read"),
    ".csv": FileFormat("shelftalk.data.sources.delimited:read_csv", has_header=True),
    ".tsv": FileFormat("shelftalk.data.sources.delimited:read_tsv", has_header=True),
    ".jsonl": _JSON_LINES,
    ".ndjson": _JSON_LINES,
    ".json": _JSON_LINES,
}
