"""The samples of an epoch as columns, written and read without an object per sample.

Every distinct piece of text is kept once in a table; a sample is a row of piece numbers. Single samples are
plain `Sample` records. Legend: N samples, P pieces of all samples together.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shelftalk.ragged import Ragged, ragged, vstack
from shelftalk.records import Sample, Segment

NOBODY = -1
"""User number of a sample about items alone."""
_NAMES = ("task", "template", "user")
_SCHEMA = pa.schema(
    [
        *((name, pa.dictionary(pa.int32(), pa.string())) for name in _NAMES),
        ("items", pa.list_(pa.dictionary(pa.int32(), pa.string()))),
        ("texts", pa.list_(pa.dictionary(pa.int32(), pa.string()))),
        ("bears_loss", pa.list_(pa.bool_())),
        ("symbols", pa.list_(pa.bool_())),
    ]
)
"""One row per sample; the last three columns have a value per segment."""
_DICTIONARIES = [*_NAMES, "items.list.element", "texts.list.element"]
_DICTIONARY_BYTES = 256 * 2**20  # a page of distinct texts may be as large: what a shop's catalogue takes


@dataclass(eq=False)
class Tables:
    """What the numbers in samples stand for. Pieces and templates are added at first use."""

    item_ids: Sequence[str]
    user_ids: Sequence[str]
    pieces: list[Segment] = field(default_factory=list)
    """Distinct texts, their `bears_loss` always false: whether a piece bears loss is part of its code."""
    templates: list[tuple[str, str]] = field(default_factory=list)
    """(task, template)."""
    settled: int = sys.maxsize
    """Pieces that do not depend on which samples have been made: files have them in the order of their
    numbers, and all others in that of their first use."""
    _number_of: dict[Any, int] = field(default_factory=dict)

    def code(self, segment: Segment) -> int:
        """Twice the piece's number, plus one where it bears loss."""
        return (
            2 * self._number(Segment(segment.text, False, segment.symbols), self.pieces) + segment.bears_loss
        )

    def codes(self, segments: Iterable[Segment]) -> list[int]:
        """The code of each segment."""
        return [self.code(segment) for segment in segments]

    def template_number(self, task: str, template: str) -> int:
        """The number of a task's template."""
        return self._number((task, template), self.templates)

    def segments(self, codes: np.ndarray) -> tuple[Segment, ...]:
        """The segments of the codes."""
        pairs = ((self.pieces[code >> 1], bool(code & 1)) for code in codes.tolist())
        return tuple(Segment(piece.text, loss, piece.symbols) for piece, loss in pairs)

    def with_texts(self, texts: Sequence[Segment]) -> Tables:
        """The same with more pieces, whose codes `text_codes` gives. They do not stay: a service is shown
        ever new texts. Samples of it are read, and written to no file."""
        pieces: Any = _JoinedPieces(self.pieces, texts)
        return Tables(self.item_ids, self.user_ids, pieces, self.templates)

    def _number(self, thing: Any, known: list[Any]) -> int:
        number = self._number_of.setdefault(thing, len(known))
        if number == len(known):
            known.append(thing)
        return number


@dataclass(frozen=True, eq=False)
class _JoinedPieces(Sequence[Segment]):
    """Pieces of a table from 0 up, and others from -1 down."""

    kept: list[Segment]
    others: Sequence[Segment]

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, number: Any) -> Any:
        return self.kept[number] if number >= 0 else self.others[-1 - number]


def text_codes(first: int, number: int) -> list[int]:
    """The codes of so many of the texts of `Tables.with_texts`, from the `first` on."""
    return [2 * (-1 - text) for text in range(first, first + number)]


@dataclass(frozen=True, eq=False)
class Samples(Sequence[Sample]):
    """N samples. `text` [N] rows of piece codes, `items` [N] rows of catalogue rows, `user` [N] user numbers
    (-1: nobody), `template` [N] numbers of task and template; `tables` resolves them."""

    tables: Tables
    text: Ragged
    items: Ragged
    user: np.ndarray
    template: np.ndarray

    def __len__(self) -> int:
        return len(self.text)

    def __iter__(self) -> Iterator[Sample]:
        return (self[position] for position in range(len(self)))

    @overload
    def __getitem__(self, position: int) -> Sample: ...
    @overload
    def __getitem__(self, position: slice) -> Samples: ...
    def __getitem__(self, position: int | slice) -> Sample | Samples:
        if isinstance(position, slice):
            return self.take(np.arange(*position.indices(len(self))))
        row = range(len(self))[position]  # raises IndexError, and counts from the end, as a list does
        task, template = self.tables.templates[self.template[row]]
        user = "" if self.user[row] == NOBODY else self.tables.user_ids[self.user[row]]
        items = tuple(self.tables.item_ids[item] for item in self.items[row].tolist())
        return Sample(task, template, user, items, self.tables.segments(self.text[row]))

    def __eq__(self, other: object) -> bool:
        """As lists of records compare."""
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def take(self, positions: np.ndarray) -> Samples:
        """The samples at `positions`."""
        return Samples(
            self.tables,
            self.text.take(positions),
            self.items.take(positions),
            self.user[positions],
            self.template[positions],
        )

    def positions(self, task: str) -> np.ndarray:
        """The positions of a task's samples."""
        of_task = [number for number, (name, _) in enumerate(self.tables.templates) if name == task]
        return np.flatnonzero(np.isin(self.template, of_task))

    def tasks(self) -> list[str]:
        """[N] the task of each sample."""
        return [self.tables.templates[number][0] for number in self.template.tolist()]

    def counts(self) -> dict[str, int]:
        """Samples per task."""
        counts: dict[str, int] = {}
        of_template = np.bincount(self.template, minlength=len(self.tables.templates)).tolist()
        for (task, _), number in zip(self.tables.templates, of_template, strict=True):
            if number:
                counts[task] = counts.get(task, 0) + number
        return counts


def samples_of(records: Iterable[Sample], tables: Tables) -> Samples:
    """From plain records: simpler than columns, and slower."""
    records = list(records)
    rows = {item: row for row, item in enumerate(tables.item_ids)}
    users = {user: number for number, user in enumerate(tables.user_ids)}
    return Samples(
        tables,
        ragged(tables.codes(record.segments) for record in records),
        ragged([rows[item] for item in record.items] for record in records),
        np.array([users[record.user] if record.user else NOBODY for record in records], np.int64),
        np.array([tables.template_number(record.task, record.template) for record in records], np.int64),
    )


def joined(parts: Sequence[Samples]) -> Samples:
    """The samples of all parts in their order, all of the same tables. At least one part."""
    return Samples(
        parts[0].tables,
        vstack([part.text for part in parts]),
        vstack([part.items for part in parts]),
        np.concatenate([part.user for part in parts]),
        np.concatenate([part.template for part in parts]),
    )


class SamplesFile:
    """A Parquet file to which samples are appended, a row group at a time."""

    def __init__(self, path: Path) -> None:
        layout = {"write_statistics": False, "dictionary_pagesize_limit": _DICTIONARY_BYTES}
        self._writer = pq.ParquetWriter(path, _SCHEMA, compression="zstd", **layout)

    def __enter__(self) -> SamplesFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def add(self, samples: Samples) -> None:
        """One row group."""
        self.add_table(table_of(samples))

    def add_table(self, table: pa.Table) -> None:
        """One row group of `table_of`."""
        self._writer.write_table(table)


def read_samples(path: Path) -> Samples:
    """What a `SamplesFile` holds."""
    return _samples(pq.read_table(path, read_dictionary=_DICTIONARIES))


def row_groups(path: Path) -> Iterator[Samples]:
    """What a `SamplesFile` holds, a row group at a time, each with tables of its own."""
    file = pq.ParquetFile(path, read_dictionary=_DICTIONARIES)
    return (_samples(file.read_row_group(number)) for number in range(file.num_row_groups))


def _samples(table: pa.Table) -> Samples:
    table = table.unify_dictionaries().combine_chunks()
    columns = {name: _only_chunk(table[name], _SCHEMA.field(name).type) for name in _SCHEMA.names}
    names = {name: columns[name].dictionary.to_pylist() for name in _NAMES}
    number = {name: columns[name].indices.to_numpy() for name in _NAMES}
    tables = Tables(columns["items"].values.dictionary.to_pylist(), names["user"])
    texts = columns["texts"]
    symbols = columns["symbols"].values.to_numpy(zero_copy_only=False)
    pieces = _coded_pieces(texts.values, symbols, tables)
    codes = 2 * pieces + columns["bears_loss"].values.to_numpy(zero_copy_only=False)
    pairs = number["task"].astype(np.int64) * (len(names["template"]) + 1) + number["template"]
    known, positions = np.unique(pairs, return_inverse=True)
    for pair in known.tolist():
        task, template = divmod(pair, len(names["template"]) + 1)
        tables.template_number(names["task"][task], names["template"][template])
    nobody = np.array(
        [NOBODY if user == "" else position for position, user in enumerate(names["user"])], np.int64
    )
    items = Ragged(
        columns["items"].values.indices.to_numpy().astype(np.int64),
        columns["items"].offsets.to_numpy().astype(np.int64),
    )
    text = Ragged(codes, texts.offsets.to_numpy().astype(np.int64))
    return Samples(tables, text, items, nobody[number["user"]] if len(nobody) else number["user"], positions)


def _coded_pieces(texts: pa.DictionaryArray, symbols: np.ndarray, tables: Tables) -> np.ndarray:
    """[P] piece numbers; the tables get the distinct pairs of text and kind."""
    words = texts.dictionary.to_pylist()
    keys = 2 * texts.indices.to_numpy().astype(np.int64) + symbols
    used = np.zeros(2 * len(words), bool)
    used[keys] = True
    number = np.zeros(len(used), np.int64)
    for key in np.flatnonzero(used).tolist():
        number[key] = tables.code(Segment(words[key >> 1], symbols=bool(key & 1))) >> 1
    result: np.ndarray = number[keys]
    return result


def table_of(samples: Samples) -> pa.Table:
    """One row per sample, as in the files. The same samples give the same table, whatever other samples the
    tables have resolved: see `Tables.settled`."""
    tables = samples.tables
    pieces = samples.text.values >> 1
    used, position = np.unique(pieces, return_inverse=True)
    known = [tables.pieces[number] for number in used.tolist()]
    is_symbol = np.array([piece.symbols for piece in known], bool)
    order = _by_first_use(pieces, used, tables.settled)
    texts = _dictionary(position, [piece.text for piece in known], order)
    users = np.where(samples.user == NOBODY, len(tables.user_ids), samples.user)
    arrays = [
        _words(samples.template, lambda number: tables.templates[number][0]),
        _words(samples.template, lambda number: tables.templates[number][1]),
        _words(users, lambda number: tables.user_ids[number] if number < len(tables.user_ids) else ""),
        _lists(samples.items, _words(samples.items.values, tables.item_ids.__getitem__)),
        _lists(samples.text, texts),
        _lists(samples.text, pa.array(samples.text.values & 1 == 1)),
        _lists(samples.text, pa.array(is_symbol[position])),
    ]
    return pa.table(arrays, schema=_SCHEMA)


def _by_first_use(pieces: np.ndarray, used: np.ndarray, settled: int) -> np.ndarray:
    """[used] the order of pieces in a file: by number, those beyond `settled` by where they come first."""
    late = used >= settled
    if not late.any():
        return np.arange(len(used))
    number, first = np.unique(pieces[pieces >= settled], return_index=True)
    return np.concatenate([np.flatnonzero(~late), np.flatnonzero(late)[np.argsort(first, kind="stable")]])


def _words(numbers: np.ndarray, word: Callable[[int], str]) -> pa.DictionaryArray:
    """The word of each number as a dictionary array, the words in the order of their numbers."""
    used, position = np.unique(numbers, return_inverse=True)
    return _dictionary(position, [word(number) for number in used.tolist()], np.arange(len(used)))


def _dictionary(position: np.ndarray, words: Sequence[str], order: np.ndarray) -> pa.DictionaryArray:
    """`words[position]` as a dictionary array, its words in that order and each once, since Parquet's writer
    refuses repeated entries."""
    number_of: dict[str, int] = {}
    number = np.zeros(len(words), np.int32)
    for one in order.tolist():
        number[one] = number_of.setdefault(words[one], len(number_of))
    return pa.DictionaryArray.from_arrays(pa.array(number[position]), pa.array(list(number_of), pa.string()))


def _lists(rows: Ragged, values: pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(rows.offsets.astype(np.int32)), values)


def _only_chunk(column: pa.ChunkedArray, kind: pa.DataType) -> Any:
    return column.chunk(0) if column.num_chunks else pa.array([], kind)
