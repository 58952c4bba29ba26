"""The table of transitions holds the names and nothing else, and a plain processor that knows nothing of
shelftalk decodes by it as ours does."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, GenerationConfig, LogitsProcessorList

from shelftalk.decoding.logits_processor import TrieLogitsProcessor
from shelftalk.errors import AnotherExperiment, SettingsError
from shelftalk.publishing import open_recommender
from shelftalk.publishing.constraints import Transitions, static_arrays, transitions, write_constraints
from shelftalk.ragged import ragged
from shelftalk.records import Request
from tests.end_to_end.tiny import call

READER = Path(__file__).parents[2] / "docs" / "examples" / "constraints_reader.py"


def prefix_free(names: list[list[int]]) -> list[list[int]]:
    """Each name with its length in front: none begins another."""
    return [[50 + len(name), *name] for name in {tuple(name): name for name in names}.values()]


def walked(table: Transitions, name: list[int]) -> int:
    state = 0
    for token in name:
        row = slice(*table.indptr[state : state + 2])
        edge = row.start + int(np.flatnonzero(table.tokens[row] == token)[0])
        state = int(table.next[edge])
    return int(table.item[state])


@given(st.lists(st.lists(st.integers(0, 5), max_size=5), min_size=1, max_size=30).map(prefix_free))
def test_every_name_leads_to_its_item_and_there_is_no_other_way(names: list[list[int]]) -> None:
    table = transitions(ragged(names))
    assert [walked(table, name) for name in names] == list(range(len(names)))
    assert sorted(table.item[table.item >= 0].tolist()) == list(range(len(names)))
    prefixes = {tuple(name[:stop]) for name in names for stop in range(len(name) + 1)}
    assert len(table.item) == len(prefixes) and len(table.tokens) == len(prefixes) - 1
    counts = np.diff(table.indptr)
    assert ((counts == 0) == (table.item >= 0)).all()  # only a whole name has nothing after it
    for start, stop in zip(table.indptr, table.indptr[1:], strict=False):
        assert (np.diff(table.tokens[start:stop]) > 0).all()


@given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=30))
def test_the_static_arrays_hold_exactly_the_names(rows: list[list[int]]) -> None:
    names = sorted({tuple(row) for row in rows})
    arrays = static_arrays(ragged(names), 12)
    assert set(np.flatnonzero(arrays["start_mask"])) == {name[0] for name in names}
    reached = []
    for token in np.flatnonzero(arrays["dense_mask"]).tolist():
        stack = [((token,), int(arrays["dense_states"][token]))]
        while stack:
            path, state = stack.pop()
            start, stop = arrays["indptr"][state : state + 2]
            assert stop - start <= arrays["layer_max_branches"][len(path)]
            for following, child in arrays["packed_csr"][start:stop].tolist():
                here = (*path, following)
                reached += [here] if len(here) == 3 else []
                stack += [(here, child)] if len(here) < 3 else []
    assert sorted(reached) == names
    padding = arrays["packed_csr"][arrays["indptr"][-2] : arrays["indptr"][-1]]
    assert len(padding) == 12 and (padding == [12, 0]).all()


def test_names_of_different_lengths_have_no_static_form() -> None:
    for names in ([[1, 2], [3]], [[1], [2]]):
        with pytest.raises(SettingsError, match="leave --form out"):
            static_arrays(ragged(names), 10)


def test_a_plain_processor_decodes_by_the_files_alone(published: Path, tmp_path: Path) -> None:
    folder = write_constraints(published, tmp_path / "constraints")
    spec = importlib.util.spec_from_file_location("constraints_reader", READER)
    assert spec and spec.loader
    reader: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reader)
    assert "shelftalk." not in READER.read_text().replace("shelftalk constraints", "")

    recommender = open_recommender(published)
    prompt = recommender.backbone.encode(recommender.prompt("retrieval", Request("", ()))).ids
    model = AutoModelForCausalLM.from_pretrained(published)
    theirs = reader.CatalogueProcessor(folder, len(prompt))
    ours = TrieLogitsProcessor(recommender.trie, theirs.end, len(prompt))
    generated = [
        model.generate(
            input_ids=torch.from_numpy(prompt[None].astype("int64")),
            logits_processor=LogitsProcessorList([processor]),
            generation_config=GenerationConfig.from_pretrained(published),
        )
        for processor in (theirs, ours)
    ]
    assert torch.equal(generated[0].sequences, generated[1].sequences)
    items = ours.items(generated[1].sequences, generated[1].sequences_scores)
    assert theirs.items(generated[0].sequences) == [recommender.index.item_ids[item] for item in items]


def test_the_command_writes_documented_files_and_never_over_others(published: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert call("constraints", published, "--out", out).exit_code == 0
    assert {path.name for path in out.iterdir()} == {"constraints.safetensors", "items.parquet"}
    assert len({path.stat().st_mode for path in out.iterdir()}) == 1  # as readable as any new file
    with safe_open(out / "constraints.safetensors", framework="numpy") as file:
        facts = json.loads(file.metadata()["shelftalk"])
    arrays, items = load_file(out / "constraints.safetensors"), pl.read_parquet(out / "items.parquet")
    assert facts["items"] == len(items) == 50 and (arrays["item"] >= 0).sum() == 50
    assert {name: str(array.dtype) for name, array in arrays.items()} == {
        "indptr": "int64", "tokens": "int32", "next": "int32", "item": "int32",
    }  # fmt: skip
    assert arrays["tokens"].max() < facts["vocabulary"] and facts["format"] == "shelftalk constraints 1"
    with pytest.raises(AnotherExperiment, match="is there already"):
        write_constraints(published, out)
    refused = call("constraints", published, "--out", tmp_path / "two", "--form", "xml")
    assert refused.exit_code == 2 and "give csr or static" in refused.stderr
