"""The folder of an unfinished batch, OUT.parts: requests and answers in shards, and the job that they are of.

    job.json                the job, written last of all requests
    requests-000000.jsonl   checked requests, a line each; {"error": ...} in place of one that was refused
    answers-000000.parquet  written when all of its requests are answered

Every file is written beside and renamed, so a killed process leaves whole files or none. The answers of a
shard depend on its requests and the model alone.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shelftalk.errors import AnotherExperiment
from shelftalk.runtime.run_folder import beside, differing, remove, write_json

JOB = "job.json"
VERSION = 1


@dataclass(frozen=True)
class Job:
    """What the answers of a batch depend on, and the form they are written in."""

    model: str
    """SHA-256 of the facts of the model's folder, which list the hashes of all its files."""
    requests: str
    """SHA-256 of the file of requests."""
    task: str
    """"retrieval", "ranking" or "rating"."""
    k: int
    """Items per request, for retrieval."""
    shard_size: int
    """Requests in a shard."""
    keep_bad_rows: bool
    """Whether a request that cannot be answered is a row with an error; else it ends the batch."""
    form: str
    """The ending of the file of answers."""
    version: int = VERSION
    """Of this layout."""

    @property
    def schema(self) -> pa.Schema:
        """The columns of the answers."""
        lists = [("items", pa.list_(pa.string())), ("scores", pa.list_(pa.float64()))]
        answer = [("rating", pa.float64())] if self.task == "rating" else lists
        error = [("error", pa.string())] if self.keep_bad_rows else []
        return pa.schema([("user_id", pa.string()), *answer, *error])


@dataclass(frozen=True)
class Shards:
    """The folder of a job."""

    folder: Path
    job: Job

    def requests(self, number: int) -> Path:
        """The requests of a shard."""
        return self.folder / f"requests-{number:06}.jsonl"

    def answers(self, number: int) -> Path:
        """The answers of a shard."""
        return self.folder / f"answers-{number:06}.parquet"

    def check(self) -> None:
        """Raises AnotherExperiment where the folder holds another job."""
        if (known := self._known()) is None:
            return
        if differs := differing({**known, "rows": 0}, {**asdict(self.job), "rows": 0}):
            raise AnotherExperiment(
                f'"{self.folder}" holds unfinished answers of another batch '
                f"(other: {', '.join(differs[:3])}); remove that folder, or choose another --out."
            )

    @property
    def rows(self) -> int | None:
        """How many requests there are; None until all have been checked."""
        known = self._known()
        return None if known is None else int(known["rows"])

    def write_requests(self, lines: Iterable[str]) -> int:
        """Divide the requests into shards, then write the job. Returns their number."""
        rows, number, shard = 0, 0, list[str]()
        for line in lines:
            shard.append(line)
            rows += 1
            if len(shard) == self.job.shard_size:
                self._write(number, shard)
                number, shard = number + 1, []
        if shard:
            self._write(number, shard)
        write_json(self.folder / JOB, {**asdict(self.job), "rows": rows})
        return rows

    def size(self, number: int) -> int:
        """How many requests a shard has."""
        assert self.rows is not None
        return min(self.job.shard_size, self.rows - number * self.job.shard_size)

    @property
    def number(self) -> int:
        """How many shards there are."""
        assert self.rows is not None
        return -(-self.rows // self.job.shard_size)

    def pending(self) -> list[int]:
        """The shards without whole answers."""
        return [number for number in range(self.number) if not self._is_answered(number)]

    def write_answers(self, number: int, columns: dict[str, Sequence[Any]]) -> None:
        """The answers of a shard, in the order of its requests."""
        with beside(self.answers(number)) as part:
            pq.write_table(pa.table(columns, schema=self.job.schema), part, compression="zstd")

    def merge(self, out: Path) -> None:
        """All answers, in the order of the requests, as one file; a shard at a time."""
        with beside(out) as part:
            if self.job.form == ".parquet":
                with pq.ParquetWriter(part, self.job.schema, compression="zstd") as writer:
                    for table in self._tables():
                        writer.write_table(table)
            elif self.job.form in (".csv", ".tsv"):
                self._write_delimited(part)
            else:
                with part.open("w", encoding="utf-8") as file:
                    for table in self._tables():
                        file.writelines(f"{_json(row)}\n" for row in table.to_pylist())

    def remove(self) -> None:
        """The batch is finished."""
        remove(self.folder)

    def _write_delimited(self, path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as file:
            separator = "\t" if self.job.form == ".tsv" else ","
            writer = csv.writer(file, delimiter=separator, lineterminator="\n")
            writer.writerow(self.job.schema.names)
            for table in self._tables():
                for row in table.to_pylist():
                    writer.writerow(
                        [_json(cell) if isinstance(cell, list) else cell for cell in row.values()]
                    )

    def _tables(self) -> Iterator[pa.Table]:
        return (pq.read_table(self.answers(number)) for number in range(self.number))

    def _write(self, number: int, lines: Sequence[str]) -> None:
        with beside(self.requests(number)) as part:
            part.write_text("".join(f"{line}\n" for line in lines), "utf-8")

    def _is_answered(self, number: int) -> bool:
        try:
            file = pq.ParquetFile(self.answers(number))
        except (OSError, pa.ArrowInvalid):  # not there, or cut short when the machine went down
            return False
        with file:
            whole: bool = file.metadata.num_rows == self.size(number)
            return whole and bool(file.schema_arrow.equals(self.job.schema))

    def _known(self) -> dict[str, Any] | None:
        try:
            result: dict[str, Any] = json.loads((self.folder / JOB).read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return result


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
