"""The item names of a published model as one table of transitions, for engines that decode by themselves.

constraints.safetensors holds a trie as a sparse matrix in CSR form, with a state per prefix and a column per
token; state 0 is the empty prefix:

    indptr  [S + 1] int64   the transitions of state s are indptr[s] : indptr[s + 1]
    tokens  [E] int32       the token of each transition, ascending within a state
    next    [E] int32       the state that it leads to
    item    [S] int32       the item whose name is whole at this state, a row of items.parquet; -1 elsewhere

A state with an item has no transitions: what follows there is the token `end`. The header has, under
"shelftalk", as JSON: format, scheme, vocabulary (rows of the model's output layer), end, longest (tokens of
the longest name, without `end`), items, and model (SHA-256 of the folder's shelftalk.json). items.parquet has
a row per item: item_id, title.

With the form "static", static.safetensors holds the same names as the arrays of STATIC (Su et al.,
"Vectorizing the trie", arXiv 2602.22647): packed_csr, indptr, layer_max_branches, start_mask, dense_mask and
dense_states of one dense layer, for names that all have the same number of tokens.

Legend: S states, E transitions, I items, V vocabulary, L tokens of a name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import polars as pl

from shelftalk.errors import AnotherExperiment, SettingsError
from shelftalk.publishing.contents import FACTS
from shelftalk.publishing.opening import open_recommender
from shelftalk.ragged import Ragged
from shelftalk.runtime.file_hashes import sha256
from shelftalk.runtime.run_folder import beside
from shelftalk.runtime.tensor_files import save_tensors

FORMAT = "shelftalk constraints 1"
TABLE = "constraints.safetensors"
STATIC = "static.safetensors"
ITEMS = "items.parquet"
Form = Literal["csr", "static"]


@dataclass(frozen=True, eq=False)
class Transitions:
    """The arrays of constraints.safetensors."""

    indptr: np.ndarray
    tokens: np.ndarray
    next: np.ndarray
    item: np.ndarray


def write_constraints(model: Path, out: Path, form: Form = "csr") -> Path:
    """Write the table of a published language model into a new folder, and return it. Raises
    AnotherExperiment where `out` is there, SettingsError for a form that these names do not have, and as
    `open_recommender` does."""
    if form not in get_args(Form):
        raise SettingsError(f'there is no form "{form}" of constraints; give csr or static.')
    if out.exists():
        raise AnotherExperiment(f'"{out}" is there already; remove it, or choose another --out.')
    recommender = open_recommender(model)
    backbone, index = recommender.backbone, recommender.index
    names = backbone.encode_names([index.segments(item) for item in index.item_ids])
    vocabulary = int(backbone.model.get_output_embeddings().weight.shape[0])
    facts = {
        "format": FORMAT,
        "scheme": index.scheme,
        "vocabulary": vocabulary,
        "end": int(backbone.tokenizer.eos_token_id),
        "longest": int(names.lengths.max()),
        "items": len(names),
        "model": sha256(model / FACTS),
    }
    table = transitions(names)
    static = static_arrays(names, vocabulary) if form == "static" else None
    items = recommender.tasks["retrieval"].context.split.dataset.items
    with beside(out) as part:
        part.mkdir()
        arrays = {name: getattr(table, name) for name in ("indptr", "tokens", "next", "item")}
        save_tensors(arrays, part / TABLE, {"shelftalk": json.dumps(facts)})
        if static is not None:
            save_tensors(static, part / STATIC, {"shelftalk": json.dumps(facts)})
        items.select("item_id", pl.col("title")).write_parquet(part / ITEMS)
    return out


def transitions(names: Ragged) -> Transitions:
    """The table of token sequences, none of which begins another; row i is the name of item i."""
    lengths = names.lengths
    depth = int(lengths.max())
    padded = np.full((len(names), depth), -1, np.int64)  # [I, depth]
    padded[names.row_ids, names.positions] = names.values
    order = np.lexsort(padded.T[::-1])
    sorted_names, sorted_lengths = padded[order], lengths[order]

    # A state begins at every row whose first tokens are not those of the row before: level by level.
    state = np.zeros(len(names), np.int64)  # [I] the state of each name's prefix so far
    parents, tokens, item = list[np.ndarray](), list[np.ndarray](), [np.array([-1], np.int64)]
    states, new = 1, np.zeros(len(names), bool)
    new[0] = True
    for level in range(depth):
        inside = sorted_lengths > level
        new[1:] |= sorted_names[1:, level] != sorted_names[:-1, level]
        first = np.flatnonzero(new & inside)
        parents.append(state[first])
        tokens.append(sorted_names[first, level])
        number = states - 1 + np.cumsum(new & inside)
        state = np.where(inside, number, state)
        whole = sorted_lengths[first] == level + 1
        item.append(np.where(whole, order[first], -1))
        states += len(first)

    parent = np.concatenate(parents)
    by_parent = np.argsort(parent, kind="stable")  # within a state they are sorted by token already
    counts = np.bincount(parent, minlength=states)
    return Transitions(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.concatenate(tokens)[by_parent].astype(np.int32),
        (1 + by_parent).astype(np.int32),
        np.concatenate(item).astype(np.int32),
    )


def static_arrays(names: Ragged, vocabulary: int) -> dict[str, np.ndarray]:
    """The arrays of STATIC with one dense layer. In it a state is 1 + the first token, and a longer prefix
    has a number above the vocabulary, level by level; 0 is the end of a name. Raises SettingsError for names
    of different lengths, and for names of one token."""
    lengths = names.lengths
    size = int(lengths[0])
    if (lengths != size).any() or size < 2:
        raise SettingsError(
            "the static form has names of one length, at least two tokens, and these have "
            f"{int(lengths.min())} to {int(lengths.max())}; leave --form out, or train with "
            'index.scheme = "semantic".'
        )
    table = np.sort(names.values.reshape(-1, size).view([("", names.values.dtype)] * size), axis=0)
    rows = table.view(names.values.dtype).reshape(-1, size)  # [I, L], ascending
    state, following = rows[:, 0].astype(np.int32) + 1, vocabulary + 1
    parents, tokens, children, widest = (
        list[np.ndarray](),
        list[np.ndarray](),
        list[np.ndarray](),
        list[int](),
    )
    new = np.concatenate([[True], rows[1:, 0] != rows[:-1, 0]])
    start = np.zeros(vocabulary, bool)
    start[rows[:, 0]] = True
    widest.append(int(start.sum()))
    for level in range(1, size):
        new[1:] |= rows[1:, level] != rows[:-1, level]
        last = level == size - 1
        number = following - 1 + np.cumsum(new).astype(np.int32)
        parents.append(state[new])
        tokens.append(rows[new, level].astype(np.int32))
        children.append(np.zeros(int(new.sum()), np.int32) if last else number[new].astype(np.int32))
        widest.append(int(np.unique(state[new], return_counts=True)[1].max()))
        if not last:
            state, following = number.astype(np.int32), following + int(new.sum())
    counts = np.bincount(np.concatenate(parents), minlength=following)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    padding = np.stack([np.full(vocabulary, vocabulary, np.int32), np.zeros(vocabulary, np.int32)], axis=1)
    edges = np.stack([np.concatenate(tokens), np.concatenate(children)], axis=1)
    first = np.arange(1, vocabulary + 1, dtype=np.int32)
    return {
        "packed_csr": np.ascontiguousarray(np.concatenate([edges, padding])),
        "indptr": np.append(indptr, indptr[-1] + vocabulary).astype(np.int32),
        "layer_max_branches": np.array(widest, np.int64),
        "start_mask": start,
        "dense_mask": start.copy(),
        "dense_states": np.where(start, first, 0).astype(np.int32),
    }
