"""How often a beam search misses the true top k of a model: the same prompts searched exactly and with
several numbers of beams.

Legend: R requests, K positions of a list; scores in nats.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from shelftalk.decoding.beam_search import beam_search
from shelftalk.decoding.exact_search import ExactTopItems, exact_top
from shelftalk.decoding.language_model import LanguageModelRecommender
from shelftalk.decoding.settings import MEASURED_LIMIT, Finish
from shelftalk.decoding.top_items import TopItems
from shelftalk.records import Request

TIE = 1e-4
"""Nats within which two scores are equal: matrix products of another shape round differently."""


def search_error(
    model: LanguageModelRecommender,
    requests: Sequence[Request],
    beams: Sequence[int],
    k: int,
    limit: int = MEASURED_LIMIT,
) -> pl.DataFrame:
    """A row per request and search, in the order of the requests: with each of `beams` (at least k are used,
    as in `recommend`) and "replay", and with `model.settings.beams` and "retire". By log-probability,
    whatever `model.settings.length_penalty` is.

    Columns: user; beams; finish; proven, whether the exact search ended before it had decoded `limit` tokens
    after the prompt (else its result is only the best so far, with which the next two columns compare);
    missing, how many of the true top k the beam search lacks, items that tie with the last one not counted;
    shortfall, by how many nats the beam search's last item is below the true last, 0 where that is rounding;
    tokens, how many the exact search decoded after the prompt.
    """
    replayed = sorted({max(k, width) for width in beams})
    searches: list[tuple[int, Finish]] = [
        *((width, "replay") for width in replayed),
        (max(k, model.settings.beams), "retire"),
    ]
    tables: list[pl.DataFrame] = []
    softmax = model.settings.of_names
    for positions, prefilled, exclusions in model.prefilled_batches(requests):
        exact = exact_top(prefilled, model.trie, exclusions, k, limit=limit, softmax=softmax)
        for width, finish in searches:
            top = beam_search(prefilled, model.trie, exclusions, width, finish=finish, softmax=softmax)
            missing, shortfall = _compared(exact, top)
            columns = {
                "request": positions,
                "proven": exact.proven,
                "missing": missing,
                "shortfall": shortfall,
                "tokens": exact.tokens_decoded,
            }
            tables.append(pl.DataFrame(columns).with_columns(beams=pl.lit(width), finish=pl.lit(finish)))
    users = pl.Series("user", [request.user for request in requests], dtype=pl.String)
    table = pl.concat([table for shard in model.processes.all_gather(tables) for table in shard])
    table = table.sort("request", maintain_order=True)
    names = ("beams", "finish", "proven", "missing", "shortfall", "tokens")
    return table.select(users.gather(table["request"]), *names)


def _compared(exact: ExactTopItems, top: TopItems) -> tuple[np.ndarray, np.ndarray]:
    """[R] items of the true top that are missing in `top`, and [R] nats by which its last one falls short."""
    length = (exact.items >= 0).sum(axis=1)  # fewer than K where fewer are left
    rows, last = np.arange(len(length)), np.maximum(length - 1, 0)
    worst = top.scores[rows, last]
    listed = (exact.items[:, :, None] == top.items[:, None, : exact.items.shape[1]]).any(axis=2)  # [R, K]
    lost = ~listed & (exact.items >= 0) & (exact.scores > worst[:, None] + TIE)
    shortfall = np.subtract(exact.scores[rows, last], worst, out=np.zeros(len(length)), where=length > 0)
    return lost.sum(axis=1), np.where(shortfall > TIE, shortfall, 0.0)
