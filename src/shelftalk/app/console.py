"""What the command line prints: progress on standard error, results on standard output."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from shelftalk import __version__
from shelftalk.certificate.against import Comparison
from shelftalk.certificate.verify import Verification
from shelftalk.data.sources.fetching import Fetched, PublicSet
from shelftalk.indexing.item_index import LEAK
from shelftalk.pipeline.imported_answers import sentences_on_imported
from shelftalk.pipeline.stages import data_sentences, reading_notes
from shelftalk.recommender import is_refit
from shelftalk.report import numbers
from shelftalk.report.tables import OUTCOMES
from shelftalk.report.tables import Table as ReportTable
from shelftalk.runtime.run_folder import RunFolder, StageRecord

EVERY = 20.0
"""Seconds between two lines of progress where standard error is no terminal."""
NARROW = 100
"""Columns of a terminal below which the bars are short and the time gone by is left out."""
PROGRESS_MARGIN, PROGRESS_MARGIN_NARROW = 94, 62
"""Columns that all but the text take up, with a stage name of 24 characters and a count of 11."""
WIDEST = 10_000
INDEX_HEADINGS = (
    "scheme",
    "min",
    "mean",
    "p95",
    "max",
    "until unique",
    "shared",
    "trie",
    "last level",
    "symbols",
    "made in",
)
ELLIPSIS = "…"
EARLY = 0.01
"""Share of a stage below which no time left is told: what it prepares first would be taken for its pace."""
SHOWN = {"retrieval": ("recall@10", "ndcg@10"), "ranking": ("hr@1", "ndcg@10"), "rating": ("rmse", "mae")}


class Progress:
    """A bar per stage with an estimate of the time left; on a pipe, a line now and then with the same."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, markup=False, emoji=False)
        self._bars = Bars(*self._columns(), console=self._console)
        self._tasks: dict[str, object] = {}
        self._started: dict[str, tuple[float, int]] = {}
        self._last = 0.0

    def _columns(self) -> list[ProgressColumn]:
        """All of fixed width but the last, whose text is cut to the
        rest: a long one would squeeze the others to nothing."""
        narrow = self._console.width < NARROW
        bar = BarColumn(bar_width=4 if narrow else 30)
        elapsed: list[ProgressColumn] = [] if narrow else [TimeElapsedColumn()]
        left, text = (TextColumn("left"), TimeRemainingColumn()), TextColumn("{task.fields[text]}")
        return [TextColumn("{task.description:<24}"), bar, MofNCompleteColumn(), *elapsed, *left, text]

    def _cut(self, text: str) -> str:
        width = self._console.width
        return numbers.shorten(
            text, max(8, width - (PROGRESS_MARGIN_NARROW if width < NARROW else PROGRESS_MARGIN))
        )

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    def __call__(self, stage: str, done: int, total: int, text: str) -> None:
        if not total:
            self.print_line(f"{stage}: {text}")
        elif self._console.is_terminal:
            text = self._cut(text)
            # what was done before an interruption does not count for the time left
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage, total=total, completed=done, text=text)
            bar = self._tasks[stage]
            self._bars.update(bar, completed=done, total=total, text=text)  # type: ignore[arg-type]
        else:
            self._line(stage, done, total, text)

    def print_line(self, line: str) -> None:
        """A line that stays, above the bars."""
        self._console.print(line, highlight=False, soft_wrap=True)

    def _line(self, stage: str, done: int, total: int, text: str) -> None:
        now = time.monotonic()
        first = stage not in self._started
        if first:
            self._started[stage] = (now, done)
        if first or now - self._last >= EVERY or done == total > 1:
            start, from_done = self._started[stage]
            here = done - from_done
            left = (now - start) / here * (total - done) if here and here >= EARLY * total else None
            ahead = f", about {_clock(left)} left" if left else ""
            line = f"{stage}: {done}/{total} {text}{ahead}" if total > 1 else f"{stage}: {text}"
            self._console.print(line, highlight=False, soft_wrap=True)
            self._last = now


def print_summary(folder: RunFolder, records: Sequence[StageRecord], as_json: bool) -> None:
    """Stages with their times, the metrics if there are any, and last the path of the report."""
    report = folder.path / "report.html"
    metrics = json.loads(folder.metrics.read_text()) if records[-1].name == "report" else {}
    certified = folder.needed("certify").facts if metrics else {}
    prepared = next((record for record in records if record.name == "prepare"), None)
    notes = reading_notes(prepared) if prepared else []
    if as_json:
        stages = [
            {"stage": r.name, "seconds": round(r.seconds, 2), "skipped": r.skipped, "again": r.again}
            for r in records
        ]
        data = (
            {
                "data": {
                    **prepared.facts.get("counts", {}),
                    "filters": prepared.facts.get("data", {}).get("filters", []),
                    "sentences": data_sentences(prepared),
                }
            }
            if prepared
            else {}
        )
        result = {"run": str(folder.path), "stages": stages, **data, "metrics": metrics, "notes": notes}
        written = {"report": str(report), "certificate": certified["certificate"]} if metrics else {}
        print(json.dumps({**result, **written}, indent=1))
        return
    console = Console(highlight=False, markup=False, emoji=False)
    for record in records:
        console.print(f"{record.name:<25} {_how_done(record)}", soft_wrap=True)
    for sentence in prepared.facts.get("kept", ()) if prepared else ():
        console.print(sentence, soft_wrap=True)
    for task in (task for task in SHOWN if task in metrics):
        _print_table(console, _table(task, metrics[task], metrics.get("split")))
    print_notes(notes)
    for record in records:
        warning = [f"Warning: {record.facts['warning']}"] if "warning" in record.facts else []
        sentences = [*record.facts.get("left_out", []), *record.facts.get("chosen", []), *warning]
        for sentence in [*sentences, *sentences_on_imported(record)]:
            console.print(sentence, soft_wrap=True)
    if certified:
        for name in certified["failing"]:
            console.print(f"Warning: what was certified does not hold: {name}", soft_wrap=True)
        console.print(f"Certificate: {certified['certificate']}", soft_wrap=True)
    console.print(f"Report: {report}" if metrics else f"Run folder: {folder.path}", soft_wrap=True)


def print_inspection(record: Mapping[str, Any], page: Path, as_json: bool) -> None:
    """What the page has but for the plots, with the warnings last, where they are seen."""
    if as_json:
        print(json.dumps({**record, "page": str(page)}, indent=1))
        return
    console = Console(highlight=False, markup=False, emoji=False)
    sections = {**record["sections"], "Tasks that the data supports": record["tasks"]}
    console.print(record["source"], soft_wrap=True)
    for name, section in sections.items():
        console.print(f"\n{name}", soft_wrap=True)
        for label, value in section.items():
            shown = f"{value:,}" if isinstance(value, int) else value
            console.print(f"  {label:<52} {shown}", soft_wrap=True)
    for name, sentences in (
        ("What the data itself gives away", [probe["sentence"] for probe in record["probes"]]),
        ("Filtered", [step["sentence"] for step in record["filters"]]),
        ("Read otherwise than it stands there", record["notes"]),
        ("What will go wrong", record["warnings"] or ["Nothing that could be seen."]),
    ):
        if sentences:
            console.print(f"\n{name}", soft_wrap=True)
            for sentence in sentences:
                console.print(f"  - {sentence}", soft_wrap=True)
    console.print(f"\nPage: {page}", soft_wrap=True)


def print_public_sets(sets: Iterable[PublicSet], as_json: bool) -> None:
    """Every public data set that `fetch` knows, with its terms."""
    if as_json:
        print(json.dumps([asdict(one) for one in sets], indent=1))
        return
    console = Console(highlight=False, markup=False, emoji=False)
    for one in sets:
        console.print(f"{one.name:<24} {one.title} ({one.terms})", soft_wrap=True)


def print_fetched(wanted: PublicSet, folder: Path, files: Iterable[Fetched], as_json: bool) -> None:
    """What was fetched, with hashes, and the command that reads it."""
    if as_json:
        held = {"name": wanted.name, "folder": str(folder), "files": [asdict(file) for file in files]}
        print(json.dumps(held, indent=1))
        return
    console = Console(highlight=False, markup=False, emoji=False)
    for file in files:
        was = "as published" if file.known else "recorded now: none was known before"
        console.print(f"{file.name}: {file.how}, {file.size:,} bytes", soft_wrap=True)
        console.print(f"  SHA-256 {file.sha256}, {was}", soft_wrap=True)
    console.print(f"Terms: {wanted.terms} ({wanted.page})", soft_wrap=True)
    console.print(f"Read it by: shelftalk run --data {folder}", soft_wrap=True)


def print_imported(folder: Path, rows: Mapping[str, int], as_json: bool) -> None:
    """How many rows of each query were written, and the command that reads them."""
    if as_json:
        print(json.dumps({"folder": str(folder), "rows": dict(rows)}, indent=1))
        return
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(", ".join(f"{number:,} {what}" for what, number in rows.items()), soft_wrap=True)
    console.print(f"Read them by: shelftalk run --data {folder}", soft_wrap=True)


def print_notes(notes: Iterable[str]) -> None:
    """The notes on the data, a line each."""
    console = Console(highlight=False, markup=False, emoji=False)
    for note in notes:
        console.print(f"Note: {note}", soft_wrap=True)


def _how_done(record: StageRecord) -> str:
    """Skipped, or how long it took, and why it was done again."""
    if record.skipped:
        other = f" (done by shelftalk {record.version})" if record.version != __version__ else ""
        return f"unchanged, skipped{other}"
    return _clock(record.seconds) + (f", done again: {record.again}" if record.again else "")


def print_tables(tables: Mapping[str, ReportTable]) -> None:
    """Title -> table, each as the reports show it."""
    console = Console(highlight=False, markup=False, emoji=False)
    for title, table in tables.items():
        shown = Table(title=Text(title), title_justify="left")
        for position, column in enumerate(table.columns):
            shown.add_column(Text(column), justify="left" if position < table.words else "right")
        for row in table.rows:
            shown.add_row(
                *(
                    Text(f"{cell.text}{'*' if cell.best else ''}" + (f"\n{cell.note}" if cell.note else ""))
                    for cell in row
                )
            )
        _print_table(console, shown)


def print_verification(results: Sequence[Verification], as_json: bool) -> None:
    """What verifying runs found: the facts, what was not checked, and each thing that does not hold."""
    if as_json:
        shown = [result.as_json() for result in results]
        print(json.dumps(shown[0] if len(shown) == 1 else shown, indent=1))
        return
    console = Console(highlight=False, markup=False)
    for result in results:
        for fact in result.facts:
            console.print(f"{OUTCOMES[fact.holds]:<15} {fact.name}", soft_wrap=True)
        for what in result.left_out:
            console.print(f"Not checked: {what}.", soft_wrap=True)
        for problem in result.problems:
            console.print(f"{problem.kind}: {problem.sentence}", soft_wrap=True)
        counted = ", ".join(f"{number:,} {what}" for what, number in result.counted.items())
        verdict = "verified" if result.holds else f"NOT verified, problems: {len(result.problems)}"
        console.print(f"{result.run}: {verdict} ({counted}; {_clock(result.seconds)})", soft_wrap=True)
        if result.fingerprint:
            console.print(f"Certificate: {result.fingerprint}", soft_wrap=True)


def print_comparison(compared: Comparison, results: Sequence[Verification], as_json: bool) -> None:
    """The paired differences of two verified runs."""
    if as_json:
        verified = [result.as_json() for result in results]
        print(json.dumps({**compared.as_json(), "verified": verified}, indent=1))
        return
    console = Console(highlight=False, markup=False)
    console.print(f"A: {compared.first}\nB: {compared.second} (both verified)", soft_wrap=True)
    table = Table(title="A minus B, paired on the same test part", title_justify="left")
    for number, heading in enumerate(("models", "task", "metric", "A - B", "95 % interval", "p", "n")):
        table.add_column(heading, justify="left" if number < 3 else "right")
    for row in compared.rows:
        table.add_row(
            f"{row.first} - {row.second}",
            row.task,
            row.metric,
            numbers.signed(row.value),
            numbers.signed_interval(row.low, row.high),
            numbers.p_value(row.p),
            numbers.count(row.n),
        )
    _print_table(console, table)


def print_plan(described: Sequence[Table | str], values: Mapping[str, Any] | None) -> None:
    """The tables and sentences of a plan, or its values as JSON."""
    if values is not None:
        print(json.dumps(values, indent=1))
        return
    console = Console(highlight=False, markup=False, emoji=False)
    for part in described:
        if isinstance(part, Table):
            _print_table(console, part)
        else:
            console.print(part, soft_wrap=True)


def print_sample(task: str, template: str, tokens: Sequence[tuple[str, bool]]) -> None:
    """Tokens in their order, those that bear loss marked by brackets
    and colour; the colour alone would not survive a pipe."""
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(
        f"{task}, template {template!r}: {len(tokens)} tokens, {sum(loss for _, loss in tokens)} of them "
        "bear loss (in ⟦⟧)\n"
    )
    text = Text()
    for token, loss in tokens:
        text.append(f"⟦{token}⟧" if loss else token, style="bold green" if loss else "")
    console.print(text, soft_wrap=True)


def print_probes(probes: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """A sentence per probe of the data, or all of their figures."""
    if as_json:
        print(json.dumps(list(probes), indent=1))
        return
    console = Console(highlight=False, markup=False)
    for probe in probes:
        console.print(f"- {probe['sentence']}", soft_wrap=True)


def print_index_figures(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    """A row per index scheme; one that leaks is marked, with a sentence below."""
    if as_json:
        print(json.dumps(list(rows), indent=1))
        return
    table = Table(
        title=f"names of {rows[0]['items']} items, in tokens of the experiment's model", title_justify="left"
    )
    for number, heading in enumerate(INDEX_HEADINGS):
        table.add_column(heading, justify="right" if number else "left")
    for row in rows:
        tokens = (
            f"{row['tokens_min']}",
            f"{row['tokens_mean']:.1f}",
            f"{row['tokens_p95']:.0f}",
            f"{row['tokens_max']}",
        )
        prefixes = (f"{row['tokens_until_unique']:.1f}", f"{row['shared_prefixes']}", f"{row['trie_nodes']}")
        rest = (f"{row['collision_share']:.1%}", f"{row['symbols']}", f"{row['seconds']:.1f} s")
        table.add_row(row["scheme"] + (" (leaks)" if row["leaks"] else ""), *tokens, *prefixes, *rest)
    console = Console(highlight=False, markup=False, emoji=False)
    _print_table(console, table)
    for row in rows:
        if row["leaks"]:
            console.print(f"{row['scheme']}: {LEAK}", soft_wrap=True)
    print_notes(rows[0].get("notes", ()))


def _print_table(console: Console, table: Table) -> None:
    """Nothing is ever cut: a pipe gets the table as wide as it is,
    a terminal too narrow for its words a block of lines per row."""
    natural = Measurement.get(console, console.options.update(width=WIDEST, max_width=WIDEST), table).maximum
    if not console.is_terminal:
        console.width = max(console.width, natural)
    if natural <= console.width or not _cuts(console, table):
        console.print(table)
        return
    console.print(table.title)
    headings = [_one_line(column.header) for column in table.columns]
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        first, *others = map(_one_line, cells)
        console.print(first)
        for heading, cell in zip(headings[1:], others, strict=True):
            console.print(f"  {heading}: {cell}" if heading else f"  {cell}", soft_wrap=True)


def _cuts(console: Console, table: Table) -> bool:
    """Whether a word would not stand whole in its column at the console's width."""
    with console.capture() as captured:
        console.print(table)
    return ELLIPSIS in captured.get()


def _one_line(cell: Any) -> str:
    return " ".join(str(cell).split())


def _table(task: str, models: dict[str, dict[str, Any]], split: Mapping[str, str] | None) -> Table:
    """`split`: the unusual protocol as in metrics.json, or None."""
    names = SHOWN[task]
    part = f"test part of a {split['name']}" if split else "test part"
    learned = "train-only, @refit on validation too" if any(map(is_refit, models)) else "train-only"
    table = Table(title=f"{task} ({part}, {learned}, 95 % intervals)", title_justify="left")
    table.add_column("model")
    for name in names:
        table.add_column(name, justify="right")
    for model, values in models.items():
        if not model.endswith(".ci"):
            ends = models[f"{model}.ci"]
            table.add_row(model, *(f"{values[n]:.4f} [{ends[n][0]:.4f}, {ends[n][1]:.4f}]" for n in names))
    return table


def _clock(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
