"""A split as Parquet: ids, times and texts exactly as the run has them, for LensKit and any data frame."""

from __future__ import annotations

from pathlib import Path

from shelftalk.data.interchange import parts
from shelftalk.data.protocol import PARTS
from shelftalk.data.splitting import Split

HOW = """
```python
import polars as pl

train = pl.read_parquet("train.parquet")                  # user_id, item_id, position, timestamp, rating
test = pl.read_parquet("requests.test.parquet")           # user_id, request, history, item_id, candidates
items = pl.read_parquet("items.parquet")                  # the whole catalogue: all of it can be recommended
```

- `train.parquet`, `validation.parquet`, `test.parquet`: events of the part, oldest first within a user;
  `rating` is there where it may be learned from.
- `context.parquet`, if there is one: events that train nothing and are no target; histories show them.
- `requests.validation.parquet`, `requests.test.parquet`: what is asked: the history, the item taken, and the
  candidates of the ranking task.
- `ratings.train.parquet` ..., if there are ratings: rating prediction, which has a partition of its own.
- `items.parquet`: the catalogue.

LensKit reads these columns as they are:

```python
from lenskit.data import from_interactions_df

taken = train.select("user_id", "item_id").to_pandas()
training = from_interactions_df(taken, items=items["item_id"].to_list())
```

Recommend for each row of `requests.test.parquet`, from its history where the model can, without the items of
the history.
"""


def write_parquet(split: Split, folder: Path, name: str) -> str:
    """Write all files; returns how to use them, in Markdown."""
    for part, frame in parts.events(split):
        frame.write_parquet(folder / f"{part}.parquet")
    for part, frame in parts.ratings(split):
        frame.write_parquet(folder / f"ratings.{part}.parquet")
    for held_out in PARTS:
        parts.requests(split, held_out).write_parquet(folder / f"requests.{held_out}.parquet")
    split.dataset.items.write_parquet(folder / "items.parquet")
    return HOW
