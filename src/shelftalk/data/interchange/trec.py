"""A split as TREC's files: qrels, the candidates as a run, the histories as topics, the catalogue as
documents."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from shelftalk.data.interchange import parts
from shelftalk.data.interchange.escaping import escaped, plain
from shelftalk.data.protocol import PARTS
from shelftalk.data.splitting import Split

TAG = "candidates"
HOW = """
- `qrels.test.txt`: `request 0 item 1`, the item taken, the only relevant one of a request.
- `topics.test.tsv`: `request`, tab, the items of the history, oldest first, by space.
- `candidates.test.run`: `request Q0 item rank 0.0 candidates`, what is ranked in the ranking task; equal
  scores, since the candidates have no order.
- `train.tsv`: `user`, tab, the items that may be learned from, oldest first, by space.
- `items.tsv`: `item`, tab, title, tab, brand, tab, categories; white space in texts became a space.

The validation part has the same files. A request is named by its user{numbered}.

```sh
trec_eval -m recip_rank -m recall.10 -m ndcg_cut.10 qrels.test.txt theirs.run
```

Leave the items of a request's history out of its list: a run that holds them is refused when it comes back.
`trec_eval` breaks equal scores by item id, the run in catalogue order.
"""
NUMBERED = ', with its number among that user\'s requests after a "#"'


def write_trec(split: Split, folder: Path, name: str) -> str:
    """Write all files; returns how to use them, in Markdown."""
    numbered = parts.several_requests(split)
    for part in PARTS:
        frame = parts.requests(split, part)
        users, number = frame["user_id"].to_list(), frame["request"].to_list()
        topics = [
            f"{escaped(user)}#{count}" if numbered else escaped(user)
            for user, count in zip(users, number, strict=True)
        ]
        asked = list(zip(topics, frame["item_id"].to_list(), strict=True))
        _write(folder / f"qrels.{part}.txt", (f"{topic} 0 {escaped(item)} 1" for topic, item in asked))
        _write(
            folder / f"topics.{part}.tsv",
            (
                f"{topic}\t{' '.join(map(escaped, history))}"
                for topic, history in zip(topics, frame["history"].to_list(), strict=True)
            ),
        )
        _write(
            folder / f"candidates.{part}.run",
            (
                f"{topic} Q0 {escaped(item)} {rank} 0.0 {TAG}"
                for topic, candidates in zip(topics, frame["candidates"].to_list(), strict=True)
                for rank, item in enumerate(candidates, start=1)
            ),
        )
    data, ids = split.dataset, split.dataset.item_ids
    trained = zip(data.user_ids, split.training_bounds.tolist(), strict=True)
    _write(
        folder / "train.tsv",
        (
            f"{escaped(user)}\t{' '.join(escaped(ids[row]) for row in data.event_item[first:stop].tolist())}"
            for user, (first, stop) in trained
            if stop > first
        ),
    )
    texts = data.items.select("item_id", "title", "brand", "categories").iter_rows()
    _write(
        folder / "items.tsv", ("\t".join([escaped(item), *map(plain, columns)]) for item, *columns in texts)
    )
    return HOW.format(numbered=NUMBERED if numbered else "")


def _write(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)
