"""How often beams miss the true top of a model: the same prompts answered by exact search and by beams of
several widths.

Legend: R requests, K places; scores in nats.
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
"""Nats within which two scores are the same: products of another shape round otherwise."""


def search_error(
    model: LanguageModelRecommender,
    requests: Sequence[Request],
    beams: Sequence[int],
    k: int,
    limit: int = MEASURED_LIMIT,
) -> pl.DataFrame:
    """A row per request and way to search, in the order of the requests: by each of `beams` (at least k are
    used, as in `recommend`), pruned by "replay", and by `model.settings.beams` with "retire". By
    log-probability, whatever `model.settings.length_penalty` is.

    Columns: user; beams; finish; proven, whether the exact search came to an end before it had read `limit`
    tokens behind the prompt (else its answer is only the best found so far, and the two columns that follow
    compare with that); missing, how many of the true top k the beams lack, items that share the last place
    not counted; shortfall, by how many nats the beams' last item is behind the true last, 0 where that is
    rounding; tokens, how many the exact search read behind the prompt.
    """
    replayed = sorted({max(k, width) for width in beams})
    ways: list[tuple[int, Finish]] = [
        *((width, "replay") for width in replayed),
        (max(k, model.settings.beams), "retire"),
    ]
    parts = []
    for positions, prefilled, exclusions in model.read(requests):
        exact = exact_top(prefilled, model.trie, exclusions, k, limit=limit)
        for width, finish in ways:
            found = beam_search(prefilled, model.trie, exclusions, width, finish=finish)
            missing, shortfall = _compared(exact, found)
            columns = {
                "place": positions,
                "proven": exact.proven,
                "missing": missing,
                "shortfall": shortfall,
                "tokens": exact.tokens_decoded,
            }
            parts.append(pl.DataFrame(columns).with_columns(beams=pl.lit(width), finish=pl.lit(finish)))
    users = pl.Series("user", [request.user for request in requests], dtype=pl.String)
    parts = [part for share in model.processes.all_gather(parts) for part in share]
    table = pl.concat(parts).sort("place", maintain_order=True)
    return table.select(
        users.gather(table["place"]), "beams", "finish", "proven", "missing", "shortfall", "tokens"
    )


def _compared(exact: ExactTopItems, found: TopItems) -> tuple[np.ndarray, np.ndarray]:
    """[R] items of the true top that are missing, and [R] nats by which the last one found falls short."""
    wanted = (exact.items >= 0).sum(axis=1)  # fewer than K where fewer are left
    rows, last = np.arange(len(wanted)), np.maximum(wanted - 1, 0)
    worst = found.scores[rows, last]
    listed = (exact.items[:, :, None] == found.items[:, None, : exact.items.shape[1]]).any(axis=2)  # [R, K]
    lost = ~listed & (exact.items >= 0) & (exact.scores > worst[:, None] + TIE)
    behind = np.subtract(exact.scores[rows, last], worst, out=np.zeros(len(wanted)), where=wanted > 0)
    return lost.sum(axis=1), np.where(behind > TIE, behind, 0.0)
