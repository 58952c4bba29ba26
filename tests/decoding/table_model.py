"""A language model that is a table: what may follow a text is drawn by a hash of the text, so every path has
its own probabilities, and a search over it costs nothing. Independent of every real backbone, it is what the
searches are checked against."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch

from shelftalk.decoding.settings import OVER_VOCABULARY
from shelftalk.ragged import Ragged

VOCABULARY = 12


class TableBackbone:
    """As much of a backbone as a search needs. A state is the number of a text in `texts`."""

    def __init__(self, seed: int, sharpness: float = 2.0) -> None:
        self.seed, self.sharpness = seed, sharpness
        self.texts: list[tuple[int, ...]] = []

    def state(self, text: tuple[int, ...]) -> int:
        self.texts.append(text)
        return len(self.texts) - 1

    def after(self, text: tuple[int, ...]) -> np.ndarray:
        """[V] the log-probability of each token after a text."""
        logits = np.random.default_rng([self.seed, zlib.crc32(bytes(token % 251 for token in text))]).normal(
            size=VOCABULARY
        )
        logits *= self.sharpness
        return logits - np.log(np.exp(logits).sum())

    def log_probs_of(self, states: torch.Tensor, owner: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        assert (owner[1:] >= owner[:-1]).all(), "owners ascend"
        table = {number: self.after(self.texts[number]) for number in set(states[owner, 0].long().tolist())}
        return torch.tensor(
            [table[n][t] for n, t in zip(states[owner, 0].long().tolist(), tokens.tolist(), strict=True)]
        )

    def log_probs_among(
        self,
        states: torch.Tensor,
        owner: torch.Tensor,
        tokens: torch.Tensor,
        sets: Ragged,
        set_of: np.ndarray,
        temperature: float,
    ) -> torch.Tensor:
        assert (owner[1:] >= owner[:-1]).all(), "owners ascend"
        numbers = owner.unique().tolist()
        log_probs = []
        for number, token in zip(owner.tolist(), tokens.tolist(), strict=True):
            allowed = sets[set_of[numbers.index(number)]].tolist()
            log_probs.append(
                normalised(self.after(self.texts[int(states[number, 0])]), allowed, temperature)[token]
            )
        return torch.tensor(log_probs, dtype=torch.float64)

    def prefill(self, prompts: Sequence[Sequence[int]]) -> TablePrefilled:
        return TablePrefilled(self, [tuple(prompt) for prompt in prompts])


class TablePrefilled:
    """Checks, too, that a search keeps the rules: parents come first, and no crop drops a node after which
    another is decoded later."""

    def __init__(self, backbone: TableBackbone, prompts: list[tuple[int, ...]]) -> None:
        self.backbone = backbone
        self.paths: list[list[tuple[int, ...]]] = [[] for _ in prompts]
        self.prompts = prompts
        self.names: Sequence[tuple[int, ...]] = ()
        self.softmax = OVER_VOCABULARY
        self.calls = 0
        self.most_nodes = 0  # that were kept after a prompt
        self.tokens = 0

    @property
    def states(self) -> torch.Tensor:
        return torch.tensor([[self.backbone.state(prompt)] for prompt in self.prompts], dtype=torch.float64)

    def decode(self, parents: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        assert parents.shape == tokens.shape == (len(self.prompts), parents.shape[1])
        states = torch.zeros(*parents.shape, 1, dtype=torch.float64)
        for row, (prompt, paths) in enumerate(zip(self.prompts, self.paths, strict=True)):
            for node, (parent, token) in enumerate(
                zip(parents[row].tolist(), tokens[row].tolist(), strict=True)
            ):
                assert -1 <= parent < len(paths), "a parent comes before its children"
                paths.append((*(paths[parent] if parent >= 0 else prompt), token))
                states[row, node] = self.backbone.state(paths[-1])
        self.calls += 1
        self.most_nodes = max(self.most_nodes, *map(len, self.paths))
        self.tokens += parents.numel()
        return states

    def select(self, rows: torch.Tensor) -> TablePrefilled:
        selected = TablePrefilled(self.backbone, [self.prompts[row] for row in rows.tolist()])
        selected.names, selected.softmax = self.names, self.softmax
        selected.paths = [list(self.paths[row]) for row in rows.tolist()]
        return selected

    def crop(self, nodes: int) -> None:
        self.paths = [paths[:nodes] for paths in self.paths]

    def token_score(self, request: int, prefix: tuple[int, ...], token: int) -> float:
        """The log-probability of a token after a prefix, by `softmax` over the vocabulary or over what
        `names` go on with."""
        log_probs = self.backbone.after((*self.prompts[request], *prefix))
        if self.softmax.over == "vocabulary":
            return float(log_probs[token])
        allowed = {name[len(prefix)] for name in self.names if name[: len(prefix)] == prefix}
        return normalised(log_probs, sorted(allowed), self.softmax.temperature)[token]

    def name_score(self, request: int, name: tuple[int, ...]) -> float:
        """The log-probability of a whole name, token by token."""
        return sum(self.token_score(request, name[:depth], token) for depth, token in enumerate(name))


def normalised(log_probs: np.ndarray, allowed: Sequence[int], temperature: float) -> dict[int, float]:
    """Token -> log-probability among the allowed ones."""
    scores = log_probs[list(allowed)] / temperature
    return dict(zip(allowed, (scores - np.logaddexp.reduce(scores)).tolist(), strict=True))
