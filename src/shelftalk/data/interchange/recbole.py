"""A split as RecBole's atomic files: tab-separated, a typed header, one folder per data set.

RecBole takes a division as it is where `benchmark_filename` names it. Its sequential models then want the
history in a column of its own, so they get a data set of their own, and so do ratings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from shelftalk.data.interchange import parts
from shelftalk.data.interchange.escaping import escaped, plain
from shelftalk.data.protocol import Part
from shelftalk.data.splitting import Split

PHASES = {"train": "train", "validation": "valid", "test": "test", "context": "context"}
HELD_OUT: dict[Part, str] = {"validation": "valid", "test": "test"}
ITEM_FIELDS = {
    "title": "title:token_seq",
    "brand": "brand:token",
    "categories": "categories:token_seq",
    "price": "price:float",
}
HOW = """
Folders are RecBole data sets (`data_path` is this folder):

- `{name}`: general models. `user_id`, `item_id`{and_time}; the held-out parts have the targets.
- `{name}-sequential`: sequential models. `item_id_list` is the history, oldest first, `item_id` what follows;
  training rows are all prefixes of the training histories.
{rating}
```yaml
data_path: .
dataset: {name}
benchmark_filename: [train, valid, test]
load_col: {{inter: [user_id, item_id], item: [item_id]}}
```

```yaml
data_path: .
dataset: {name}-sequential
benchmark_filename: [train, valid, test]
load_col: {{inter: [user_id, item_id_list, item_id], item: [item_id]}}
alias_of_item_id: [item_id_list]
train_neg_sample_args: ~   # full cross-entropy
```

RecBole 1.2 runs with NumPy below 2 and pandas below 3. Load the item file: without it RecBole recommends only
items that occur in the interactions. RecBole's own metrics are not the run's: its sequential models do not
leave items of the history out unless told to. Write the lists out and let the run measure them, as below.

{context}`{name}.item` has the catalogue; in texts white space became a space and a double quote a single one.
"""
CONTEXT_NOTE = """Events that train nothing and are no target are in `{name}.context.inter`, which RecBole
does not read; sequential histories hold them. General models cannot answer for users without a training
event.

"""
RATING = "- `{name}-rating`: rating prediction, divided as the run divides it; `rating` is the label.\n"


def write_recbole(split: Split, folder: Path, name: str) -> str:
    """Write all data sets; returns how to use them, in Markdown."""
    rated = False
    timed = split.dataset.has_times
    columns = ["user_id:token", "item_id:token", *(["timestamp:float"] if timed else [])]
    has_context = False
    for part, frame in parts.events(split):
        rows = frame.select("user_id", "item_id", *(["timestamp"] if timed else [])).iter_rows()
        _write(folder / name, f"{name}.{PHASES[part]}.inter", columns, _with_ids(rows))
        has_context |= part == "context"
    _write_items(split, folder / name, name)
    _write_sequential(split, folder / f"{name}-sequential", f"{name}-sequential")
    for part, frame in parts.ratings(split):
        rated, label = True, f"{name}-rating"
        rows = frame.select("user_id", "item_id", "rating").iter_rows()
        header = ["user_id:token", "item_id:token", "rating:float"]
        _write(folder / label, f"{label}.{PHASES[part]}.inter", header, _with_ids(rows))
    if rated:
        _write_items(split, folder / f"{name}-rating", f"{name}-rating")
    return HOW.format(
        name=name,
        and_time=", `timestamp`" if timed else "",
        rating=RATING.format(name=name) if rated else "",
        context=CONTEXT_NOTE.format(name=name) if has_context else "",
    )


def _write_sequential(split: Split, folder: Path, name: str) -> None:
    """Histories and what follows; a request with an empty history is no row."""
    header = ["user_id:token", "item_id_list:token_seq", "item_id:token"]
    training = (
        (escaped(user), " ".join(map(escaped, history)), escaped(item))
        for user, history, item in parts.training_histories(split)
    )
    _write(folder, f"{name}.train.inter", header, training)
    for part, phase in HELD_OUT.items():
        asked = parts.requests(split, part).select("user_id", "history", "item_id").iter_rows()
        rows = (
            (escaped(user), " ".join(map(escaped, history)), escaped(item))
            for user, history, item in asked
            if history
        )
        _write(folder, f"{name}.{phase}.inter", header, rows)
    _write_items(split, folder, name)


def _write_items(split: Split, folder: Path, name: str) -> None:
    frame = split.dataset.items.select("item_id", *ITEM_FIELDS)
    rows = (
        (escaped(item), *(plain(text) for text in texts), "" if price is None else repr(price))
        for item, *texts, price in frame.iter_rows()
    )
    _write(folder, f"{name}.item", ["item_id:token", *ITEM_FIELDS.values()], rows)


def _with_ids(rows: Iterable[Sequence[object]]) -> Iterable[Sequence[str]]:
    return ((escaped(str(row[0])), escaped(str(row[1])), *map(str, row[2:])) for row in rows)


def _write(folder: Path, name: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    folder.mkdir(exist_ok=True)
    with (folder / name).open("w", encoding="utf-8", newline="\n") as file:
        file.write("\t".join(header) + "\n")
        file.writelines("\t".join(row) + "\n" for row in rows)
