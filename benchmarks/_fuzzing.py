"""Damaged files of every format: what reading them gives, trial by trial.

A trial damages one file of a small data set (bytes replaced, taken out, put in, or the end cut off) and reads
it. Allowed are a result, or one error of ours that names the file. A result with fewer interactions than the
whole file has must say so in a note or a count of the report.
"""

from __future__ import annotations

import gzip
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from shelftalk.data.sources import DataReport, DataSettings, read_dataset
from shelftalk.data.sources.layouts import LAYOUTS
from shelftalk.errors import ShelftalkError
from shelftalk.testing.worlds import tiny_world
from tests.data.test_published import PUBLISHED

SLOW = 5.0
"""Seconds of the processor after which a trial counts as a hang: a whole file takes milliseconds."""
PLAIN = ("csv", "tsv", "jsonl", "parquet", "arrow", "feather", "csv.gz", "csv.zst", "jsonl.gz", "jsonl.zst")
KINDS = (*PLAIN, *LAYOUTS)
"""Every format: those of one's own files by ending, published data sets by layout."""
Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Outcome:
    """`verdict`: "result", "error", or what must not be: "crash", "hang", "unnamed" (an error without the
    name of a file), "smaller" (fewer interactions, and nothing said). A text that is in the
    form of a whole one is "no trace" (see has_no_trace). `row`: whether an error names a line or row."""

    verdict: str
    text: str = ""
    row: bool = False


def whole_files(kind: str) -> Files:
    """The files of a small data set in a format."""
    if kind in PUBLISHED:
        held = PUBLISHED[kind]
        return {name: text.encode() if isinstance(text, str) else text for name, text in held.items()}
    world = tiny_world(users=12, items=20)
    ending, _, packed = kind.partition(".")
    frames = {"interactions": world.events.drop("position", "nanosecond"), "items": world.items}
    return {f"{stem}.{kind}": _PACKED[packed](_WRITERS[ending](frame)) for stem, frame in frames.items()}


def _written(write: Callable[[pl.DataFrame, Path], object]) -> Callable[[pl.DataFrame], bytes]:
    def content(frame: pl.DataFrame) -> bytes:
        import io

        target = io.BytesIO()
        write(frame, target)  # type: ignore[arg-type]
        return target.getvalue()

    return content


_WRITERS: dict[str, Callable[[pl.DataFrame], bytes]] = {
    "csv": lambda frame: frame.write_csv().encode(),
    "tsv": lambda frame: frame.write_csv(separator="\t").encode(),
    "jsonl": lambda frame: frame.write_ndjson().encode(),
    "parquet": _written(lambda frame, file: frame.write_parquet(file)),
    "arrow": _written(lambda frame, file: frame.write_ipc_stream(file)),
    "feather": _written(lambda frame, file: frame.write_ipc(file)),
}
_PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": lambda content: content,
    "gz": gzip.compress,
    "zst": lambda content: bytes(pa.compress(content, codec="zstd", asbytes=True)),
}


def damaged(files: Files, generator: np.random.Generator) -> tuple[dict[str, bytes], str]:
    """The files with one of them damaged, and its name."""
    name = str(generator.choice(sorted(files)))
    content = bytearray(files[name])
    for _ in range(int(generator.integers(1, 5))):
        position, how = int(generator.integers(0, max(1, len(content)))), int(generator.integers(0, 10))
        if how < 7 and content:
            content[position] ^= (
                int(generator.integers(1, 256)) if how < 4 else 1 << int(generator.integers(0, 8))
            )
        elif how == 7:
            del content[position : position + int(generator.integers(1, 4))]
        elif how == 8:
            content[position:position] = generator.bytes(int(generator.integers(1, 4)))
        else:
            del content[position:]
            break
    return {**files, name: bytes(content)}, name


def save(folder: Path, files: Files) -> None:
    """Write the files, and only them, into a folder."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def read(kind: str, folder: Path) -> DataReport:
    """Read the folder in its format. Raises what `read_dataset` does."""
    layout = kind if kind in LAYOUTS else None
    return read_dataset(DataSettings(folder=str(folder), layout=layout), seed=0, order_needed=False)[1]


def outcome(kind: str, folder: Path, before: DataReport) -> Outcome:
    """What reading the files in the folder gives, beside the report of the whole files."""
    start = time.process_time()
    try:
        report = read(kind, folder)
    except ShelftalkError as error:
        text = str(error)
        named = any(path.name in text for path in folder.iterdir()) or "folder" in text
        verdict = Outcome("error" if named else "unnamed", text, row=" line " in text or " row " in text)
    except BaseException as error:  # a parser written in Rust may raise one that is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        verdict = Outcome("crash", f"{type(error).__name__}: {error}")
    else:
        lost = before.rows_read - report.rows_read
        said = set(report.notes) != set(before.notes)
        verdict = Outcome(
            "smaller" if lost > 0 and not said else "result", f"{lost} rows fewer" if lost else ""
        )
    return Outcome("hang", verdict.text) if time.process_time() - start > SLOW else verdict


def trials(kind: str, number: int, seed: int, scratch: Path) -> list[Outcome]:
    """So many damaged versions of a format, each read."""
    files = whole_files(kind)
    folder = scratch / "data"
    save(folder, files)
    before = read(kind, folder)
    generator = np.random.default_rng([seed, KINDS.index(kind)])
    outcomes = []
    for _ in range(number):
        broken, name = damaged(files, generator)
        save(folder, broken)
        one = outcome(kind, folder, before)
        no_trace = one.verdict == "smaller" and has_no_trace(kind, files[name], broken[name])
        outcomes.append(Outcome("no trace", one.text) if no_trace else one)
    return outcomes


def has_no_trace(kind: str, whole: bytes, left: bytes) -> bool:
    """Whether a damaged text is in the form of a whole one, so that no reader can see that something is gone:
    it ends with a line, and each line is one of the whole text in form. In a sequence that is numbers with
    one space between them; elsewhere the same separators as in the whole text's line."""
    if not left.endswith(b"\n"):
        return False
    lines, before = left.split(b"\n")[:-1], whole.split(b"\n")[:-1]
    if kind in ("s3rec", "p5"):
        return all(re.fullmatch(rb"\d+( \d+)+", line) for line in lines)
    shapes = [re.sub(rb"[^,;:|\t\"{}\[\]]+", b"x", line) for line in before]
    return len(lines) < len(before) and all(
        re.sub(rb"[^,;:|\t\"{}\[\]]+", b"x", line) == shape
        for line, shape in zip(lines, shapes, strict=False)
    )


def made_up(ending: str, lines: list[str]) -> bytes:
    """A text file of arbitrary lines, some of which look like the format's."""
    if ending == "jsonl":
        rows = (line if number % 2 else json.dumps({"user_id": line, "item_id": "a", "timestamp": number})
                for number, line in enumerate(lines))  # fmt: skip
        return "\n".join(rows).encode("utf-8", "surrogatepass")
    separator = "\t" if ending == "tsv" else ","
    header = separator.join(("user_id", "item_id", "timestamp"))
    return "\n".join([header, *lines]).encode("utf-8", "surrogatepass")
