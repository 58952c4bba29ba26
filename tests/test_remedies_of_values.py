"""What is refused of values in Python: each sentence is obeyed here, and the same call then works."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shelftalk.baselines.bias import BiasSettings, fit_bias
from shelftalk.baselines.ease import EaseSettings, fit_ease
from shelftalk.baselines.fusion import FusionSettings, fuse
from shelftalk.baselines.neural.sasrec import SasRecSettings, fit_sasrec
from shelftalk.baselines.popularity import fit_popularity
from shelftalk.data.dataset import Dataset
from shelftalk.data.splitting import SplitSettings, split_leave_one_out
from shelftalk.decoding import ConstrainedDecoder, exclusions, logits_processor
from shelftalk.decoding.item_trie import build_trie
from shelftalk.decoding.live_trie import LiveTrie
from shelftalk.errors import (
    BadRequest,
    BadValue,
    DuplicateName,
    NothingLeft,
    SettingsError,
    ShelftalkError,
    UnknownItem,
    UnknownLabel,
    UnknownPart,
)
from shelftalk.evaluation.evaluator import (
    InvalidAnswer,
    evaluate_ranking,
    evaluate_rating,
    evaluate_retrieval,
)
from shelftalk.experiment import Experiment, load_experiment
from shelftalk.models.precision import fp16_refusal, product_type
from shelftalk.records import Filter, Ranking, Request
from shelftalk.runtime.file_hashes import sha256
from shelftalk.testing.exams import exam_split
from shelftalk.testing.worlds import tiny_world
from shelftalk.training.checkpoints import last_complete
from tests.decoding.small_models import small
from tests.training.test_trainer import new, trained, weights

SPLIT = exam_split()


def told(kind: type[ShelftalkError], call: Callable[..., Any], *arguments: Any, **named: Any) -> str:
    with pytest.raises(kind) as error:
        call(*arguments, **named)
    return str(error.value)


# --- requests and filters --------------------------------------------------------------------------------


def test_a_filter_corrected_as_the_sentence_says_is_taken() -> None:
    wrong: dict[str, dict[str, Any]] = {
        "give a tuple of texts": {"categories": ["tea"]},
        "swap or widen them": {"min_price": 9.0, "max_price": 1.0},
        "give a price or None": {"min_price": "9"},
    }
    right: list[dict[str, Any]] = [
        {"categories": ("tea",)},
        {"min_price": 1.0, "max_price": 9.0},
        {"min_price": 9.0},
    ]
    for words, fields in wrong.items():
        assert words in told(BadRequest, Filter, **fields)
    assert "give a tuple of texts" in told(BadRequest, Filter, brands=(7,))
    assert all(Filter(**fields) for fields in right) and Filter(brands=("7",))


def test_a_request_corrected_as_the_sentence_says_is_answered() -> None:
    wrong: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ('give "7"', {"history": (7,)}, {"history": ("7",)}),
        ("give a tuple of item ids", {"history": "b01"}, {"history": ("b01",)}),
        ("None where unknown", {"ratings": (1.0,)}, {"ratings": (1.0, None)}),
        ("or None where unknown", {"ratings": (1.0, float("inf"))}, {"ratings": (1.0, None)}),
        ("give a Filter, or None", {"filter": "tea"}, {"filter": Filter(categories=("tea",))}),
    ]
    base = {"user": "u", "history": ("a", "b")}
    for words, given, corrected in wrong:
        assert words in told(BadRequest, Request, **{**base, **given}), words
        Request(**{**base, **corrected})


def test_labels_items_and_numbers_of_items_are_taken_as_the_sentence_names_them() -> None:
    model, request = fit_popularity(SPLIT), SPLIT.retrieval_requests("test")[0][0]

    def ask(k: Any = 3, **changed: Any) -> Any:
        return model.recommend([replace(request, **changed)], k)

    message = told(UnknownLabel, ask, filter=Filter(categories=("teas",)))
    assert ask(filter=Filter(categories=(re.findall(r'did you mean "(\w+)"', message)[0],)))
    message = told(UnknownLabel, ask, filter=Filter(brands=("Zzzz",)))
    assert ask(filter=Filter(brands=(re.findall(r'such as "(\w+)"', message)[0],)))
    assert "leave it out of `only`" in told(UnknownItem, ask, filter=Filter(only=("nowhere",)))
    assert "leave it out of the request" in told(UnknownItem, ask, history=("nowhere",), ratings=())
    assert "give one, such as 10" in told(SettingsError, ask, 2.5) and ask(10)
    assert "ask for 0 or more" in told(SettingsError, ask, -1) and ask(0)


def test_a_price_is_left_out_of_a_filter_where_no_item_has_one() -> None:
    data = tiny_world()
    free = Dataset(data.items.with_columns(price=None).cast({"price": float}), data.events)
    split = split_leave_one_out(free, SplitSettings(), seed=0)
    model, request = fit_popularity(split), split.retrieval_requests("test")[0][0]
    asked = replace(request, filter=Filter(max_price=9.0))
    assert "leave min_price and max_price out" in told(UnknownLabel, model.recommend, [asked], 3)
    assert model.recommend([replace(asked, filter=Filter())], 3)


# --- answers ---------------------------------------------------------------------------------------------


def test_answers_corrected_as_the_sentence_says_are_evaluated() -> None:
    requests, truths = SPLIT.retrieval_requests("test")
    requests, truths, catalogue = requests[:2], truths[:2], SPLIT.dataset.item_ids
    good = fit_popularity(SPLIT).recommend(requests, 20)

    def spoiled(**fields: Any) -> list[Ranking]:
        return [replace(good[0], **fields), good[1]]

    first = good[0]
    wrong = {
        "give one each": good[:1],
        "keep the order of the requests": good[::-1],
        "names an item twice; fix its recommend()": spoiled(items=(*first.items[:-1], first.items[0])),
        "not in the catalogue; fix its recommend()": spoiled(items=(*first.items[:-1], "nowhere")),
        "in its history; fix its recommend()": spoiled(items=(*first.items[:-1], requests[0].history[0])),
        "and not 20; fix its recommend()": spoiled(items=first.items[:3], scores=first.scores[:3]),
        "is not a number; fix the recommender": spoiled(scores=(float("nan"), *first.scores[1:])),
        "sort by score, best first": spoiled(scores=tuple(range(20))),
    }
    for words, answers in wrong.items():
        message = told(InvalidAnswer, evaluate_retrieval, answers, requests, truths, catalogue)
        assert words in message, message
    assert len(evaluate_retrieval(good, requests, truths, catalogue)) == 2


def test_candidates_and_estimates_corrected_as_the_sentence_says_are_evaluated() -> None:
    requests, truths = SPLIT.ranking_requests("test")
    ranked = fit_popularity(SPLIT).rank(requests[:1])
    half = [replace(ranked[0], items=ranked[0].items[:5], scores=ranked[0].scores[:5])]
    message = told(InvalidAnswer, evaluate_ranking, half, requests[:1], truths[:1])
    assert "is not made of its candidates, each once; fix rank()" in message
    assert len(evaluate_ranking(ranked, requests[:1], truths[:1])) == 1
    rated, ratings = SPLIT.rating_requests("test")
    assert "give one each" in told(InvalidAnswer, evaluate_rating, [3.0], rated[:2], ratings[:2])
    assert "fix rate()" in told(InvalidAnswer, evaluate_rating, [float("inf")], rated[:1], ratings[:1])
    assert len(evaluate_rating([3.0, 4.0], rated[:2], ratings[:2])) == 2


def test_a_bias_without_held_out_ratings_is_fitted_with_one_value_for_each_setting() -> None:
    none = replace(SPLIT, rating_part=np.where(SPLIT.rating_part == 1, 0, SPLIT.rating_part).astype(np.uint8))
    message = told(NothingLeft, fit_bias, none, BiasSettings())
    assert "give each setting of [baselines.bias] one value" in message
    assert fit_bias(none, BiasSettings(item_damping=(3.0,), user_damping=(3.0,)))


# --- tries and searches ----------------------------------------------------------------------------------

END = 9
NAMES = [(1, 2, END), (1, 3, END), (4, END)]


def test_names_that_begin_with_each_other_go_together_once_they_end_and_differ() -> None:
    words = "close every name with an end token and tell equal names apart"
    assert words in told(DuplicateName, build_trie, [(1, 2), (1, 2, 3)])
    assert build_trie([(1, 2, END), (1, 2, 3, END)]).items == 2
    live = LiveTrie(build_trie(NAMES))
    assert words in told(DuplicateName, live.with_names, [(1, 2, END)])
    assert live.with_names([(1, 2, 5, END)]).items == 4
    unended = LiveTrie(build_trie([(1, 2), (4,)]))
    assert "close every name with an end token" in told(DuplicateName, unended.with_names, [(4, 5)])
    assert LiveTrie(build_trie([(1, 2, END), (4, END)])).with_names([(4, 5, END)]).items == 3


def test_numbers_of_items_within_the_bounds_that_are_named_are_taken() -> None:
    trie = build_trie(NAMES)
    message = told(BadValue, LiveTrie(trie).without, [3])
    last = int(re.findall(r"among 0 to (\d+)", message)[0])
    assert LiveTrie(trie).without([last]).removed.tolist() == [2]
    message = told(BadValue, exclusions.Exclusions, trie, [[7]])
    last = int(re.findall(r"0 to (\d+); leave it out", message)[0])
    assert exclusions.Exclusions(trie, [[last]]).num_allowed().tolist() == [2]


def test_a_processor_that_leaves_a_name_and_a_config_of_known_fields_work() -> None:
    trie, model = build_trie(NAMES), small("decoder-only")[0]

    def processor(excluded: list[int]) -> Any:
        given = exclusions.Exclusions(trie, [excluded])
        return logits_processor.TrieLogitsProcessor(trie, END, 0, given)

    assert "exclude fewer" in told(NothingLeft, processor, [0, 1, 2])
    scores = processor([0, 1])(torch.zeros((1, 0), dtype=torch.long), torch.zeros((1, 12)))
    assert torch.isfinite(scores).nonzero()[:, 1].tolist() == [4]

    def config(beams: int = 1, **fields: Any) -> Any:
        return logits_processor.generation_config(model, trie, END, beams, **fields)

    assert "give 1 (greedy) or more" in told(SettingsError, config, 0) and config(1)
    assert "correct the name or leave it out" in told(SettingsError, config, do_sampel=True)
    assert config(do_sample=True).do_sample


def test_strings_and_prompts_corrected_as_the_sentences_say_are_taken() -> None:
    model, tokenizer = small("decoder-only")
    strings, prompts = ["red hat", "blue hat"], ["I bought gloves. Next:"]
    ids = tokenizer(prompts[0])["input_ids"]
    decoder = ConstrainedDecoder(model, tokenizer, strings)

    def decode(*given: Any) -> Any:
        return ConstrainedDecoder(model, tokenizer, list(given))

    many = decode(*(f"{colour} hat {number}" for colour in ("red", "blue") for number in range(9)))
    wrong: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "give texts alone": (lambda: decode("a", 3), lambda: decode("a", "3")),
        "leave it out": (lambda: decode("a", ""), lambda: decode("a")),
        "give a text or a list of token ids": (
            lambda: decoder.top([None], 1),
            lambda: (decoder.top(prompts, 1), decoder.top([ids], 1)),
        ),
        "put them in a list": (lambda: decoder.top(ids, 1), lambda: decoder.top([ids], 1)),
        "use its own tokenizer": (lambda: decoder.top([[10**6]], 1), lambda: decoder.top([ids], 1)),
        "add it first or leave it out": (
            lambda: decoder.rank(prompts, [["green hat"]]),
            lambda: (decoder.rank(prompts, [strings]), decoder.add(["green hat"])),
        ),
        "give batch_size=1 or more": (
            lambda: ConstrainedDecoder(model, tokenizer, strings, batch_size=0),
            lambda: ConstrainedDecoder(model, tokenizer, strings, batch_size=1),
        ),
        'choose "beam" or "exact"': (
            lambda: decoder.top(prompts, 1, search="best"),
            lambda: [decoder.top(prompts, 1, search=one) for one in ("beam", "exact")],
        ),
        'choose "replay" or "retire"': (
            lambda: decoder.top(prompts, 1, finish="none"),
            lambda: [decoder.top(prompts, 1, finish=one) for one in ("replay", "retire")],
        ),
        "raise exact_limit or choose": (
            lambda: many.top(prompts, 5, search="exact", exact_limit=1),
            lambda: [many.top(prompts, 5, search="exact", exact_limit=999), many.top(prompts, 5)],
        ),
    }
    for words, (call, remedy) in wrong.items():
        assert words in told(ShelftalkError, call), words  # type: ignore[type-abstract]
        assert remedy() is not False
    assert decoder.rank(prompts, [["green hat"]])  # which was added


def test_searches_masks_and_batches_corrected_as_the_sentences_say_are_taken() -> None:
    model, tokenizer = small("decoder-only")
    strings, prompts = ["red hat", "blue hat"], ["I bought gloves. Next:"]
    decoder, trie = ConstrainedDecoder(model, tokenizer, strings), build_trie(NAMES)
    for wrong in ({"k": 0}, {"beams": 0}, {"length_penalty": -1.0}, {"exact_limit": -1}):
        message = told(SettingsError, decoder.top, prompts, **{"k": 1} | wrong)
        assert "at least 1, length_penalty and exact_limit not negative; change what is not" in message
        (name,) = wrong
        assert decoder.top(prompts, **{"k": 1, name: 0.0 if name == "length_penalty" else 1})
    assert "write something in it" in told(BadValue, decoder.top, [""], 1)
    assert decoder.top(["Next:"], 1)
    message = told(BadValue, exclusions.Exclusions, trie, [[]], np.ones((1, 2), bool), np.array([0]))
    width, rows = map(int, re.findall(r"masks are \[G, (\d+)\] bool and `mask_index` \[(\d+)\]", message)[0])
    masks = np.eye(1, width, dtype=bool)
    assert exclusions.Exclusions(trie, [[]], masks, np.zeros(rows, int)).num_allowed().tolist() == [1]
    assert exclusions.Exclusions(trie, [[]]).num_allowed().tolist() == [3]
    ids, scores = torch.zeros((3, 0), dtype=torch.long), torch.zeros((3, 12))

    def process(prompts: int) -> Any:
        given = exclusions.Exclusions(trie, [[] for _ in range(prompts)])
        return logits_processor.TrieLogitsProcessor(trie, END, 0, given)(ids, scores)

    assert "make it for the prompts of this batch" in told(SettingsError, process, 2)
    assert process(3).shape == (3, 12)


def test_a_model_inside_another_and_one_of_another_attention_are_searched_as_told() -> None:
    model, tokenizer = small("decoder-only")

    class Wrapper(torch.nn.Module):
        """As PeftModel."""

        def get_base_model(self) -> Any:
            return model

    wrapper = Wrapper()
    message = told(SettingsError, ConstrainedDecoder, wrapper, tokenizer, ["red hat"])
    inside = re.findall(r"give the model inside \(of a PeftModel, (\w+)\(\)\)", message)[0]
    assert ConstrainedDecoder(getattr(wrapper, inside)(), tokenizer, ["red hat"])
    other = copy.deepcopy(model)
    other.config._attn_implementation = "flash_attention_2"
    message = told(SettingsError, ConstrainedDecoder, other, tokenizer, ["red hat"])
    other.set_attn_implementation(re.findall(r'set_attn_implementation\("(\w+)"\)', message)[0])
    assert ConstrainedDecoder(other, tokenizer, ["red hat"]).top(["Next:"], 1)


# --- settings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "name", "wrong"),
    [
        ("training", "best_by", "ndgc@10"),
        ("teacher", "model", "item_kn"),
        ("prior", "model", "item_kn"),
        ("prior", "rating_model", "biass"),
        ("baselines", "fusion", "popularty"),
    ],
)
def test_a_name_in_a_setting_is_corrected_to_the_nearest_that_is_told(
    section: str, name: str, wrong: str
) -> None:
    def load(value: str) -> Experiment:
        if name == "fusion":
            fusion = {"models": [value, "item_knn"], "weights": [[0.5, 0.5]]}
            return load_experiment(None, {section: {name: fusion}})
        users = {"validation_users": 200} if name == "best_by" else {}
        return load_experiment(None, {section: {name: value, **users}})

    nearest = re.findall(r'did you mean "(.+)"', told(UnknownPart, load, wrong))[0]
    assert nearest in load(nearest).toml()


def test_a_choice_by_quality_has_users_to_measure_it_as_the_sentence_says() -> None:
    wrong = {"best_by": "ndcg@10", "validation_users": 0}
    message = told(SettingsError, load_experiment, None, {"training": wrong})
    users = int(re.findall(r"set training.validation_users = (\d+)", message)[0])
    assert load_experiment(None, {"training": wrong | {"validation_users": users}})


# --- baselines -------------------------------------------------------------------------------------------


def test_a_baseline_that_is_refused_is_fitted_with_each_setting_that_is_named() -> None:
    message = told(SettingsError, fit_ease, SPLIT, EaseSettings(max_items=5), 0)
    named = re.findall(r"set baselines.ease.(\w+) = (\w+)|or baselines.ease.(\w+) = (\w+)", message)
    changes = [{a or c: int(b) if b else d == "true"} for a, b, c, d in named]
    assert len(changes) == 2
    for change in changes:
        assert fit_ease(SPLIT, EaseSettings(**{"max_items": 5, "l2": (100.0,)} | change), 0)
    settings: dict[str, Any] = {"width": (6,), "epochs": 1}
    message = told(SettingsError, fit_sasrec, SPLIT, SasRecSettings(**settings, heads=4), 0)
    heads = int(re.findall(r"set heads to a divisor of it, such as (\d+)", message)[0])
    assert fit_sasrec(SPLIT, SasRecSettings(**settings, heads=heads), 0)
    popularity, bias = fit_popularity(SPLIT), fit_bias(SPLIT, BiasSettings())
    settings["epochs"] = 4
    message = told(SettingsError, fit_sasrec, SPLIT, SasRecSettings(**settings, learning_rate=1e30), 0)
    assert "set a lower learning_rate" in message
    assert fit_sasrec(SPLIT, SasRecSettings(**settings, learning_rate=1e-3), 0)
    pair = FusionSettings(models=("popularity", "item_knn"), weights=((0.5, 0.5),))
    assert "leave it out, or give it a method scores" in told(
        SettingsError, fuse, SPLIT, [popularity, bias], pair, 0
    )
    assert fuse(SPLIT, [popularity, popularity], pair, 0)


# --- training --------------------------------------------------------------------------------------------


def test_a_training_that_is_refused_works_with_the_setting_that_is_named(tmp_path: Path) -> None:
    message = told(SettingsError, trained, tmp_path / "a", best_by="ndcg@10", validation_users=9)
    by_loss = re.findall(r'set training.best_by = "(\w+)"', message)[0]
    assert trained(tmp_path / "b", best_by=by_loss, epochs=1)
    message = told(SettingsError, trained, tmp_path / "c", judged_by=("ranking",))
    judges = re.findall(r"choose among (.+)\.", message)[0].split(", ")
    assert judges == ["retrieval", "rating"]
    assert trained(tmp_path / "d", judged_by=tuple(judges), epochs=1)


def test_a_loss_that_is_no_number_becomes_one_with_a_lower_learning_rate(tmp_path: Path) -> None:
    wild = {"learning_rate": 1e30, "warmup": 0.0, "epochs": 4}
    try:
        trained(tmp_path / "wild", **wild)
    except SettingsError as error:
        assert "lower training.learning_rate" in str(error)
    else:
        pytest.fail("the training did not diverge")
    backbone, _ = trained(tmp_path / "calm", **{**wild, "learning_rate": 1e-3})
    assert all(torch.isfinite(weight).all() for weight in weights(backbone))


@pytest.mark.parametrize("newest", [True, False])
def test_a_damaged_checkpoint_is_put_back_or_removed_and_the_training_ends(
    newest: bool, tmp_path: Path
) -> None:
    whole, _ = trained(tmp_path / "run", epochs=2)
    checkpoints = sorted((tmp_path / "run").glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    assert len(checkpoints) > 1
    file = checkpoints[-1 if newest else 0] / "model.safetensors"
    kept, digest = file.read_bytes(), sha256(file)
    file.write_bytes(kept[:100])
    message = told(ShelftalkError, last_complete, tmp_path / "run")
    removed = Path(re.findall(r'put it back, or remove "(.+?)"', message)[0])
    assert removed == (checkpoints[-1] if newest else tmp_path / "run")
    assert ("continues from" in message) == newest
    file.write_bytes(kept)
    assert last_complete(tmp_path / "run") == checkpoints[-1] and sha256(file) == digest
    shutil.rmtree(removed)
    again, _ = trained(tmp_path / "run", epochs=2)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(again), strict=True))


def test_a_precision_that_a_refusal_names_is_taken() -> None:
    for family, gpu in (("encoder-decoder", True), ("decoder-only", False)):
        message = fp16_refusal("fp16", family, gpu)
        named = [name for name in ("bf16", "fp32", "auto") if f'"{name}"' in message]
        assert named, message
        for name in named:
            assert not fp16_refusal(name, family, gpu)  # type: ignore[arg-type]
    if not torch.cuda.is_available():
        told(SettingsError, product_type, "fp16", "decoder-only")
    assert product_type("fp32", "decoder-only") == torch.float32 and new() is not None
