"""Writes the snippets of docs/walkthrough.md: one event, from the file to the report.

python docs/walkthrough.py        the snippets up to the tokens, from the bundled data; a test compares them
python docs/walkthrough.py RUN    those after the training too, from the folder of a finished `make run`
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from shelftalk.data.sources.locating import BUNDLED
from shelftalk.experiment import load_experiment
from shelftalk.pipeline import stages
from shelftalk.pipeline.fresh_backbone import new_backbone
from shelftalk.pipeline.run import Run
from shelftalk.records import Sample
from shelftalk.runtime.run_folder import RunFolder

PAGE = Path(__file__).parent / "walkthrough.md"
EXPERIMENT = Path(__file__).parents[1] / "experiments" / "movielens-small.toml"
USER, ITEM = "29", "2571"  # The Matrix: trained on as an event, its rating held out
SHOWN = ("retrieval", "rating", "masked_items", "pairwise_preference")
PARTS = ("train", "validation", "test", "-")
BLOCK = re.compile(r"(<!-- (\w+) -->\n```text\n)(.*?)(```)", re.DOTALL)


def main(arguments: list[str]) -> None:
    """Write the page anew; snippets for which there is nothing to read stay as they are."""
    with tempfile.TemporaryDirectory() as scratch:
        snippets = before_training(Path(scratch))
    if arguments:
        snippets |= after_training(Path(arguments[0]))
    PAGE.write_text(with_snippets(PAGE.read_text("utf-8"), snippets), encoding="utf-8")


def with_snippets(page: str, snippets: dict[str, str]) -> str:
    """The page with the named blocks replaced."""
    return BLOCK.sub(
        lambda block: block[1] + snippets[block[2]] + "\n" + block[4] if block[2] in snippets else block[0],
        page,
    )


def before_training(scratch: Path) -> dict[str, str]:
    """Snippets that need no training."""
    folder, experiment = RunFolder(scratch), load_experiment(EXPERIMENT)
    stages.prepare(folder, experiment)
    stages.index(folder, experiment)
    run = Run(folder, experiment)
    samples = {name: _first_sample(run, name) for name in SHOWN}
    texts = {
        f"sample_{name}": f"epoch {epoch}\n{_card(sample, run.index.name(ITEM))}"
        for name, (epoch, sample) in samples.items()
    }
    return {
        "file": _table(_of_file()),
        "dataset": _table(_of_dataset(run)),
        "split": _table(_of_split(run)),
        "index": _of_index(run),
        **texts,
        "tokens": _tokens(run, samples["rating"][1]),
    }


def after_training(folder: Path) -> dict[str, str]:
    """Snippets of a finished run."""
    run = RunFolder(folder)
    titles = _titles(run)
    facts = run.needed("train").facts
    curve = [row for row in facts["curve"] if row["part"] == "validation" and row["task"] != "all"]
    return {
        "training": "\n".join(
            [
                f"{facts['parameters']:,} weights, {facts['steps']} steps, {facts['tokens']:,} tokens",
                *_curve(curve),
            ]
        ),
        "ranking": "\n".join(_top(run, model, titles) for model in ("aligned", "item_knn", "aligned+prior")),
        "metric": _table(_of_evaluation(run)),
        "rating": _of_rating(run),
        "report": _of_metrics(run),
    }


def _of_file() -> pl.DataFrame:
    rows = pl.read_parquet(BUNDLED / "movielens-small" / "interactions.parquet").filter(
        pl.col("user_id").cast(pl.String) == USER
    )
    return rows.sort("timestamp").tail(6).select("user_id", "item_id", "rating", "timestamp")


def _of_dataset(run: Run) -> pl.DataFrame:
    data = run.split.dataset
    rows = data.events.filter(pl.col("user_id") == USER).tail(6)
    return rows.join(data.items, on="item_id", maintain_order="left").select(
        "user_id", "item_id", "position", "rating", "title"
    )


def _of_split(run: Run) -> pl.DataFrame:
    split = run.split
    user = split.dataset.user_ids.index(USER)
    rows = slice(int(split.dataset.bounds[user + 1]) - 6, int(split.dataset.bounds[user + 1]))
    parts = {"event": split.event_part[rows], "rating value": split.rating_part[rows]}
    shown = split.visible_rating[rows].tolist()
    titles = _of_dataset(run)["title"]
    named = {name: [PARTS[part] for part in values.tolist()] for name, values in parts.items()}
    return pl.DataFrame(
        {"title": titles, **named, "visible": ["-" if value != value else str(value) for value in shown]}
    )


def _of_index(run: Run) -> str:
    """The item's name, and the items whose starting vectors are nearest to its own."""
    index = run.index
    vectors = index.symbol_vectors
    assert vectors is not None
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    position = {symbol: row for row, symbol in enumerate(index.vocabulary)}
    alike = np.argsort(-(unit @ unit[position[index.name(ITEM)]]), kind="stable")[:4]
    rows = [
        (index.vocabulary[row], run.split.dataset.item(index.item(index.vocabulary[row])).title)
        for row in alike.tolist()
    ]
    return "\n".join(f"{name:<9} {title}" for name, title in rows)


def _first_sample(run: Run, task: str) -> tuple[int, Sample]:
    """The first sample of a task in which the user's event occurs, and its epoch."""
    for epoch in range(100):
        for sample in run.tasks[task].samples(epoch):
            if sample.user == USER and ITEM in sample.items:
                return epoch, sample
    raise LookupError(f"no sample of {task} holds the event")


def _card(sample: Sample, name: str) -> str:
    """The text with what bears loss in brackets, as in tests/golden: its ends, and what stands around the
    item of this name."""
    text = "".join(f"⟦{segment.text}⟧" if segment.bears_loss else segment.text for segment in sample.segments)
    lines = text.rstrip("\n").split("\n")
    near = {position + step for position, line in enumerate(lines) if name in line for step in range(-3, 2)}
    kept = sorted({0, 1, 2, len(lines) - 1} | near & set(range(len(lines))))
    shown = []
    for before, position in zip([-1, *kept], kept, strict=False):
        missing = position - before - 1
        shown += (
            [f"... ({missing} more lines)"] * (missing > 1)
            + lines[before + 1 : position] * (missing == 1)
            + [lines[position]]
        )
    return "\n".join(shown)


def _tokens(run: Run, sample: Sample) -> str:
    """The last tokens of a sample, one per line with its number."""
    backbone = new_backbone(run)
    encoded = backbone.encode(sample.segments)
    rows = [
        (int(number), *shown)
        for number, shown in zip(encoded.ids, backbone.text_encoder.show(encoded), strict=True)
    ][-14:]
    return "\n".join(
        f"{number:>5}  {text!r:<14}{'bears loss' if loss else ''}".rstrip() for number, text, loss in rows
    )


def _titles(run: RunFolder) -> dict[str, str]:
    items = pl.read_parquet(run.dataset / "items.parquet")
    return dict(zip(items["item_id"], items["title"], strict=True))


def _curve(rows: list[dict[str, Any]]) -> Iterator[str]:
    """First and last validation loss per target of each task, in nats."""
    for task in dict.fromkeys(row["task"] for row in rows):
        losses = [row for row in rows if row["task"] == task]
        first, last = losses[0], losses[-1]
        ends = [f"{row['loss']:.3f} at step {row['step']}" for row in (first, last)]
        yield f"validation loss, {task}: {', '.join(ends)}"


def _top(run: RunFolder, model: str, titles: dict[str, str]) -> str:
    row = pl.read_parquet(run.ranking("retrieval", model)).row(
        by_predicate=pl.col("user") == USER, named=True
    )
    best = zip(row["items"][:5], row["scores"][:5], strict=True)
    return "\n".join([model, *(f"{score:>9.3f}  {titles[item]}" for item, score in best)])


def _of_evaluation(run: RunFolder) -> pl.DataFrame:
    """The user's rows of both ranked tasks."""
    tables = []
    for task in ("retrieval", "ranking"):
        rows = pl.read_parquet(run.evaluation(task)).filter(pl.col("user") == USER)
        tables.append(rows.select(pl.lit(task).alias("task"), "model", "rank", pl.col("ndcg@10").round(4)))
    return pl.concat(tables)


def _of_rating(run: RunFolder) -> str:
    """The estimates of the rating that was held out."""
    lines = []
    for path in sorted((run.path / "rankings").glob("rating.*.parquet")):
        frame = pl.read_parquet(path).filter((pl.col("user") == USER) & (pl.col("item") == ITEM))
        lines.append(
            f"{path.name.removeprefix('rating.').removesuffix('.parquet'):<14} {frame['estimate'][0]:.2f}"
        )
    return "\n".join(lines)


def _of_metrics(run: RunFolder) -> str:
    models = json.loads(run.metrics.read_text())["retrieval"]
    lines = []
    for name in (name for name in models if not name.endswith(".ci")):
        low, high = models[f"{name}.ci"]["recall@10"]
        lines.append(f"{name:<14} recall@10 {models[name]['recall@10']:.4f}  [{low:.4f}, {high:.4f}]")
    return "\n".join(lines)


def _table(frame: pl.DataFrame) -> str:
    """Columns side by side, as wide as their widest cell."""
    cells = [
        frame.columns,
        *([str(cell) if cell is not None else "-" for cell in row] for row in frame.iter_rows()),
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


if __name__ == "__main__":
    main(sys.argv[1:])
