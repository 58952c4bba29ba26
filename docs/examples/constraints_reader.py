"""Reads what `shelftalk constraints` wrote, and keeps transformers' `generate` inside the catalogue.

It needs torch, transformers, safetensors and polars, and nothing of shelftalk: copy it.
"""

import json

import polars as pl
import torch
from safetensors import safe_open
from transformers import LogitsProcessor


class CatalogueProcessor(LogitsProcessor):
    """Leaves to each row the tokens that go on with the name of an item, and `end` after a whole name.

    `prompt_length`: columns of `input_ids` before what is generated (1 for an encoder-decoder).
    """

    def __init__(self, folder, prompt_length):
        with safe_open(f"{folder}/constraints.safetensors", framework="pt") as file:
            facts = json.loads(file.metadata()["shelftalk"])
            self.indptr, self.tokens, self.next, self.item = (
                file.get_tensor(name).tolist() for name in ("indptr", "tokens", "next", "item")
            )
        assert facts["format"] == "shelftalk constraints 1"
        self.end, self.longest, self.prompt_length = facts["end"], facts["longest"], prompt_length
        self.item_ids = pl.read_parquet(f"{folder}/items.parquet")["item_id"].to_list()

    def state(self, tokens):
        """The state after some tokens; None outside the catalogue."""
        state = 0
        for token in tokens:
            if self.item[state] >= 0:
                return state if token == self.end else None
            row = range(self.indptr[state], self.indptr[state + 1])
            state = next((self.next[edge] for edge in row if self.tokens[edge] == token), None)
            if state is None:
                return None
        return state

    def __call__(self, input_ids, scores):
        allowed = torch.full_like(scores, -torch.inf)
        for row, tokens in enumerate(input_ids[:, self.prompt_length :].tolist()):
            state = self.state(tokens)
            if state is None or self.item[state] >= 0:
                following = [self.end]
            else:
                following = self.tokens[self.indptr[state] : self.indptr[state + 1]]
            allowed[row, following] = scores[row, following]
        return allowed

    def items(self, sequences):
        """The item id of each generated row."""
        states = [self.state(tokens) for tokens in sequences[:, self.prompt_length :].tolist()]
        return [self.item_ids[self.item[state]] for state in states]
