"""Beam search in the item trie against transformers' `generate`, on the same model, prompts and precision.

Amazon 2014 Beauty, 12,101 items named by titles or by semantic codes; the nano model and SmolLM2-135M, both
trained on next items (benchmarks/_beauty.py). Four ways answer the same test users with 20 beams, by turns:

- ours: `beam_search` as the recommender calls it, from token ids to item numbers;
- generate with `prefix_allowed_tokens_fn`: the function looks the prefix up in a dictionary, as is usual;
- generate with our TrieLogitsProcessor;
- generate without constraints, as many tokens as our answers' names have on average.

`generate` ends a beam at its end token and then frees its slot, a plain beam search keeps it, so the
two may differ in the last items of a list; the share in common is stated. What the mask costs within our
search (the children of a prefix, their tokens, which of them are allowed) is measured by a clock around every
call of the trie and of the exclusions; what all costs that is not the model (the mask, prompts made into
tokens, the choice of the best, the books of beams and tails) by one around every call of the model. A plain
reference search in Python, which reads every beam's whole text anew at each step, is the check of the scores.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks._beauty import SCHEMES, drawn_requests, models, needs_beauty, prefilled, trained
from benchmarks.harness import Claim, Result, data_hash
from benchmarks.item_knn import BEAUTY
from shelftalk.decoding import TrieLogitsProcessor, generation_config
from shelftalk.decoding.beam_search import beam_search
from shelftalk.decoding.decoded_tree import DecodedTree
from shelftalk.decoding.exclusions import Exclusions
from shelftalk.decoding.item_trie import ItemTrie
from shelftalk.decoding.language_model import LanguageModelRecommender
from shelftalk.decoding.top_items import TopItems
from shelftalk.models.text_encoder import Encoded
from shelftalk.records import Request

CLAIMS = [
    "Beam search on titles is at least four times as fast, per user, as generate with "
    "prefix_allowed_tokens_fn",
    "It is not slower than generate without any constraint that says as many tokens",
    "The mask's own part of a search (children of a prefix, their tokens, which are open) is under 5 % of "
    "its time",
    "The LogitsProcessor's part of generate is under 5 % of its time",
    "In fp32 every score is that of a plain reference beam search within 1e-4 nats, and the items are the "
    "same",
]
SEED = 0
BEAMS = 20
USERS = {"nano": 16, "smollm2": 4}
REFERENCE_USERS = 3


@dataclass(frozen=True, eq=False)
class Case:
    """A model, an index, and some test users of one batch; for the usual function, its dictionaries, made
    beforehand."""

    name: str
    model: LanguageModelRecommender
    requests: list[Request]
    end: int
    follows: dict[tuple[int, ...], list[int]]
    items_below: Counter[tuple[int, ...]]

    def ours(self) -> TopItems:
        with self.model.backbone.precision():
            read, exclusions = prefilled(self.model, self.requests)
            return beam_search(read, self.model.trie, exclusions, BEAMS)


def main(quick: bool) -> Result:
    """--quick trains an eighth as long and measures one round, the nano model alone."""
    needs_beauty()
    runs: list[dict[str, Any]] = []
    for name in models()[: 1 if quick else 2]:
        for scheme in SCHEMES:
            case = _case(name, scheme, quick)
            runs.append(_measured(case, 1 if quick else 3))
            print(runs[-1], flush=True)
            if name == "nano":
                runs.append({"case": case.name, "way": "plain reference", **_reference(case)})
                print(runs[-1], flush=True)
    return Result(SEED, _claims(runs), runs, {"beauty": data_hash(BEAUTY.glob("*.parquet"))})


def _claims(runs: Sequence[dict[str, Any]]) -> list[Claim]:
    timed = [run for run in runs if "seconds" in run]
    on_titles = {run["case"]: run["with a function"] for run in timed if "titles" in run["case"]}
    free = {run["case"]: run["without constraints"] for run in timed}
    mask, processor = (max(run[share] for run in timed) for share in ("mask's share", "processor's share"))
    apart = max(run["largest difference"] for run in runs if "largest difference" in run)
    same = all(run["same items"] for run in runs if "same items" in run)
    return [
        Claim(CLAIMS[0], min(on_titles.values()), ">= 4", min(on_titles.values()) >= 4),
        Claim(CLAIMS[1], min(free.values()), ">= 1", min(free.values()) >= 1),
        Claim(CLAIMS[2], mask, "< 0.05", mask < 0.05),
        Claim(CLAIMS[3], processor, "< 0.05", processor < 0.05),
        Claim(CLAIMS[4], apart, "<= 1e-4", apart <= 1e-4 and same),
    ]


def _case(name: str, scheme: str, quick: bool) -> Case:
    run = trained(name, scheme, quick)
    model = run.language_model
    requests, _ = drawn_requests(run.split, "test", USERS[name], SEED)
    closes = model.backbone.tokens(run.index.end, symbols=False)  # codes have one length and need no end
    end = closes[-1] if closes else model.backbone.tokenizer.eos_token_id
    names = model.trie.names(np.arange(model.trie.items))
    rows = [tuple(names[item].tolist()) for item in range(len(names))]
    return Case(f"{name}, {scheme}", model, requests, end, _next_tokens(rows), _prefixes(rows))


def _measured(case: Case, rounds: int) -> dict[str, Any]:
    """All ways by turns; medians of the seconds per user."""
    result = case.ours()
    items = result.items[result.items >= 0]
    length = round(float(case.model.trie.names(items).lengths.mean()))
    ways: dict[str, Callable[[], Any]] = {
        "ours": case.ours,
        "generate, function": lambda: _generated(case, "function", 0),
        "generate, processor": lambda: _generated(case, "processor", 0),
        "generate, free": lambda: _generated(case, "free", length),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    answers: dict[str, Any] = {}
    for _ in range(rounds):
        for way, run in ways.items():
            start = time.perf_counter()
            answers[way] = run()
            seconds[way].append((time.perf_counter() - start) / len(case.requests))
            print(f"{case.name}: {way} {seconds[way][-1]:.3f} s a user", flush=True)
    median = {way: statistics.median(values) for way, values in seconds.items()}
    theirs, processed = (answers[f"generate, {way}"] for way in ("function", "processor"))
    return {
        "case": case.name,
        "users": len(case.requests),
        "beams": BEAMS,
        "rounds": rounds,
        "bf16": case.model.backbone.bf16,
        "seconds": {way: round(value, 4) for way, value in median.items()},
        "with a function": round(median["generate, function"] / median["ours"], 2),
        "with the processor": round(median["generate, processor"] / median["ours"], 2),
        "without constraints": round(median["generate, free"] / median["ours"], 2),
        "tokens without constraints": length,
        "mask's share": round(_share(case, MASK), 4),
        "share of all but the model": round(
            1 - _share(case, (*MODEL, (type(case.model.backbone), "prefill"))), 4
        ),
        "processor's share": round(processed[2], 4),
        "top 10 in common with generate": round(_in_common(result, theirs[0]), 3),
        "scores apart from generate's": round(_apart(result, theirs), 5),
        "processor and function agree": bool((theirs[0] == processed[0]).all()),
    }


# --- transformers' generate ---------------------------------------------------------------------------------


def _generated(case: Case, way: str, length: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Items and scores [R, B] of generate, and the share of its time spent in the processor."""
    model, backbone = case.model, case.model.backbone
    prompts = backbone.encode_samples(
        model.tasks["retrieval"].prompts(case.requests, model.tasks["retrieval"].seen[0])
    )
    ids, mask = _left_padded(prompts, backbone.pad)
    exclusions = model._exclusions(case.requests)
    processor = TrieLogitsProcessor(model.trie, case.end, ids.shape[1], exclusions)
    inside = _Clocked(processor)
    config = generation_config(backbone.model, model.trie, case.end, BEAMS)
    more: dict[str, Any] = {}
    if way == "function":
        more["prefix_allowed_tokens_fn"] = _Allowed(case, ids.shape[1])
    elif way == "processor":
        more["logits_processor"] = [inside]
    else:
        config = generation_config(
            backbone.model, model.trie, case.end, BEAMS, max_new_tokens=length, min_new_tokens=length
        )
    start = time.perf_counter()
    with torch.no_grad(), backbone.precision():
        out = backbone.model.generate(input_ids=ids, attention_mask=mask, generation_config=config, **more)
    spent = inside.seconds / (time.perf_counter() - start)
    if way == "free":
        return np.zeros(0), np.zeros(0), 0.0
    shape = len(case.requests), BEAMS
    return (
        processor.items(out.sequences, out.sequences_scores).reshape(shape),
        out.sequences_scores.float().numpy().reshape(shape),
        spent,
    )


class _Clocked(torch.nn.Module):
    """A LogitsProcessor and the seconds spent in it."""

    def __init__(self, processor: TrieLogitsProcessor) -> None:
        super().__init__()
        self.processor, self.seconds = processor, 0.0

    def forward(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        start = time.perf_counter()
        masked = self.processor(input_ids, scores)
        self.seconds += time.perf_counter() - start
        return masked


class _Allowed:
    """The usual prefix_allowed_tokens_fn: a dictionary of prefixes; where excluded items of a user begin so,
    what is left of it."""

    def __init__(self, case: Case, prompt_length: int) -> None:
        model = case.model
        self.follows, self.items_below, self.start, self.end = (
            case.follows,
            case.items_below,
            prompt_length,
            case.end,
        )
        self.excluded: list[Counter[tuple[int, ...]]] = []
        for request in case.requests:
            names = model.trie.names(np.unique([model.row_of[item] for item in request.history]))
            self.excluded.append(_prefixes(tuple(names[row].tolist()) for row in range(len(names))))

    def __call__(self, batch: int, ids: torch.Tensor) -> list[int]:
        prefix = tuple(ids[self.start :].tolist())
        tokens, excluded = self.follows.get(prefix, [self.end]), self.excluded[batch]
        if prefix not in excluded:
            return tokens
        return [token for token in tokens if self.items_below[*prefix, token] > excluded[*prefix, token]] or [
            self.end
        ]


def _prefixes(names: Iterable[tuple[int, ...]]) -> Counter[tuple[int, ...]]:
    """How many names begin with each prefix."""
    return Counter(name[:stop] for name in names for stop in range(len(name) + 1))


def _next_tokens(names: Iterable[tuple[int, ...]]) -> dict[tuple[int, ...], list[int]]:
    follows: dict[tuple[int, ...], set[int]] = {}
    for name in names:
        for stop in range(len(name)):
            follows.setdefault(name[:stop], set()).add(name[stop])
    return {prefix: sorted(tokens) for prefix, tokens in follows.items()}


def _left_padded(prompts: Sequence[Encoded], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, prompts))
    ids, mask = torch.full((len(prompts), width), pad), torch.zeros(len(prompts), width, dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.from_numpy(prompt.ids.astype(np.int64))
        mask[row, width - len(prompt) :] = 1
    return ids, mask


# --- checks -------------------------------------------------------------------------------------------------


TRIE_METHODS = ("children", "tokens_to", "is_leaf", "tails", "tail_lengths")
MASK = (*((ItemTrie, name) for name in TRIE_METHODS), (Exclusions, "allows_below"))
MODEL = ((DecodedTree, "decode"), (DecodedTree, "log_probs"), (DecodedTree, "select"))


def _share(case: Case, methods: Sequence[tuple[type, str]]) -> float:
    """The share of our search, reading the prompts included, that is spent in these methods."""
    inside, depth = 0.0, 0

    def clocked(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any) -> Any:
            nonlocal inside, depth
            start, depth = time.perf_counter(), depth + 1
            result = call(*arguments)
            depth -= 1
            inside += 0.0 if depth else time.perf_counter() - start  # what one of them calls is counted once
            return result

        return wrapper

    plain = [(kind, name, getattr(kind, name)) for kind, name in methods]
    try:
        for kind, name, call in plain:
            setattr(kind, name, clocked(call))
        start = time.perf_counter()
        case.ours()
        return inside / (time.perf_counter() - start)
    finally:
        for kind, name, call in plain:
            setattr(kind, name, call)


def _in_common(result: TopItems, items: np.ndarray) -> float:
    return float(
        np.mean(
            [
                len(set(ours[:10]) & set(theirs[:10])) / 10
                for ours, theirs in zip(result.items, items, strict=True)
            ]
        )
    )


def _apart(result: TopItems, theirs: tuple[np.ndarray, np.ndarray, float]) -> float:
    """The largest difference in nats between the two scores of an item that both found."""
    apart = [0.0]
    for ours, scores, items, others in zip(result.items, result.scores, theirs[0], theirs[1], strict=True):
        known = dict(zip(items.tolist(), others.tolist(), strict=True))
        apart += [
            abs(score - known[item])
            for item, score in zip(ours.tolist(), scores.tolist(), strict=True)
            if item in known
        ]
    return max(apart)


@torch.no_grad()
def _reference(case: Case) -> dict[str, Any]:
    """Ours against a plain beam search in Python that reads every beam's text anew, both in fp32."""
    model, requests = case.model, case.requests[:REFERENCE_USERS]
    was, model.backbone.bf16 = model.backbone.bf16, False
    read, exclusions = prefilled(model, requests)
    ours = beam_search(read, model.trie, exclusions, BEAMS)
    names = model.trie.names(np.arange(model.trie.items))
    rows = [tuple(names[item].tolist()) for item in range(len(names))]
    prompts = model.backbone.encode_samples(
        model.tasks["retrieval"].prompts(requests, model.tasks["retrieval"].seen[0])
    )
    apart, same = 0.0, True
    for number, (request, prompt) in enumerate(zip(requests, prompts, strict=True)):
        gone = {model.row_of[item] for item in request.history}
        plain = _plain_search(
            model, prompt.ids.tolist(), [row if item not in gone else () for item, row in enumerate(rows)]
        )
        scores = dict(zip(ours.items[number].tolist(), ours.scores[number].tolist(), strict=True))
        same = same and set(scores) == set(plain)
        apart = max([apart, *(abs(scores[item] - score) for item, score in plain.items() if item in scores)])
    model.backbone.bf16 = was
    return {"users": len(requests), "largest difference": apart, "same items": same}


def _plain_search(
    model: LanguageModelRecommender, prompt: list[int], names: Sequence[tuple[int, ...]]
) -> dict[int, float]:
    """Token by token, whole names staying in the beam; `names` are () for excluded items."""
    item_of = {name: item for item, name in enumerate(names) if name}
    follows = _next_tokens(item_of)
    beam: dict[tuple[int, ...], float] = {(): 0.0}
    while any(prefix not in item_of for prefix in beam):
        unfinished = [prefix for prefix in beam if prefix not in item_of]
        logits = (
            model.backbone.model(torch.tensor([[*prompt, *prefix] for prefix in unfinished]))
            .logits[:, -1]
            .float()
            .log_softmax(-1)
        )
        extended = {prefix: score for prefix, score in beam.items() if prefix in item_of}
        for prefix, row in zip(unfinished, logits.double().numpy(), strict=True):
            extended |= {(*prefix, token): beam[prefix] + float(row[token]) for token in follows[prefix]}
        beam = dict(sorted(extended.items(), key=lambda pair: -pair[1])[:BEAMS])
    return {item_of[prefix]: score for prefix, score in beam.items()}
