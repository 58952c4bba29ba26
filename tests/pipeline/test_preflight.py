"""What would fail after hours is refused before the first step, by a sentence whose remedy is followed
here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from transformers import OPTConfig, OPTForCausalLM

from shelftalk.decoding import ConstrainedDecoder
from shelftalk.errors import BadValue, DuplicateName, SettingsError, ShelftalkError
from shelftalk.experiment import Experiment
from shelftalk.models.backbone import LENGTH_STEP
from shelftalk.models.nano import train_tokenizer
from shelftalk.models.positions import position_limit
from shelftalk.pipeline import stages
from shelftalk.pipeline.preflight import alike
from shelftalk.pipeline.run import Run
from shelftalk.ragged import ragged
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.studies.planning.plan import Hardware, plan
from shelftalk.testing.t5_folder import SMALL, save_flan_t5

TITLES = [
    "red scarf",
    "blue hat",
    "green glove",
    "red hat",
    "blue glove",
    "green scarf",
    "red glove",
    "blue scarf",
    "green hat",
    "sock",
]
JAPANESE = ["red scarf", "\u9752\u3044\u5e3d\u5b50", "\u7dd1\u306e\u624b\u888b", *TITLES[3:]]
WORDS = [
    "Things a customer bought, oldest first: red blue green scarf hat glove sock rating from to worst best "
    "items item next ." * 2
] * 20
SHORT = {"retrieval": "{history}", "ranking": "{history}{candidates}"}
"""The shortest sources of the tasks that are always served."""
TINY: dict[str, Any] = {
    "models": ["aligned"],
    "split": {"ranking_negatives": 2},
    "index": {"scheme": "titles", "dimensions": 2},
    "tasks": {"retrieval": {"targets": 1}, "rating": {"targets": 1}},
    "training": {"epochs": 1, "validations": 1, "precision": "fp32", "batch_tokens": 2048},
    "decoding": {"beams": 10},
    "evaluation": {"search_error_users": 0, "shown_users": 1, "held_out_templates": False},
}


def shop(folder: Path, titles: list[str], ratings: bool = False) -> Path:
    """Six users of five items each."""
    folder.mkdir()
    pl.DataFrame({"item_id": [f"i{n}" for n in range(len(titles))], "title": titles}).write_csv(
        folder / "items.csv"
    )
    rows = [
        (f"u{u}", f"i{(3 * u + n) % len(titles)}", n, 1 + (u + n) % 5) for u in range(6) for n in range(5)
    ]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "rating"], orient="row")
    (events if ratings else events.drop("rating")).write_csv(folder / "interactions.csv")
    return folder


def experiment(data: Path, model: Path, **changes: dict[str, Any]) -> Experiment:
    start = {
        "pretrained": {"name": str(model), "random_weights": True},
        "data": {"folder": str(data), "k_core": 1},
    }
    changed = {name: TINY.get(name, {}) | more for name, more in changes.items()}
    return Experiment.model_validate({"name": "small", **TINY, **start, **changed})


def trained(out: Path, wanted: Experiment) -> Run:
    """Every stage up to the training and one answer of the model, in a folder that may hold some of them."""
    folder = RunFolder(out)
    stages.claim(folder, wanted)
    for stage in (stages.prepare, stages.index, stages.write, stages.train):
        stage(folder, wanted)
    run = Run(folder, wanted)
    requests, _ = run.split.retrieval_requests("test")
    assert all(len(ranking.items) == 3 for ranking in run.language_model.recommend(requests, 3))
    return run


def refusal(out: Path, wanted: Experiment) -> ShelftalkError:
    """What refuses it, before any checkpoint."""
    with pytest.raises(ShelftalkError) as refused:
        trained(out, wanted)
    assert not (out / "checkpoints").exists() and str(refused.value).endswith(".")
    return refused.value


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> Path:
    return save_flan_t5(tmp_path_factory.mktemp("flan"), WORDS, SMALL, 400, 200)


def opt(folder: Path, positions: int) -> Path:
    """A model with a table of so many positions."""
    tokenizer = train_tokenizer([*WORDS, *TITLES], [], 400)
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 16,
        "word_embed_proj_dim": 16,
        "num_hidden_layers": 1,
        "ffn_dim": 16,
        "num_attention_heads": 1,
    }
    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    config = OPTConfig(vocab_size=len(tokenizer), max_position_embeddings=positions, **special, **sizes)
    OPTForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


# --- names -----------------------------------------------------------------------------------------------


def test_names_of_the_same_tokens_are_refused_by_id_and_title_and_the_remedy_works(t5: Path, tmp_path: Path):
    data = shop(tmp_path / "shop", JAPANESE)
    error = refusal(tmp_path / "run", experiment(data, t5))
    assert isinstance(error, DuplicateName)
    assert all(
        word in str(error) for word in ('"i1"', '"i2"', JAPANESE[1], JAPANESE[2], 'index.scheme = "atomic"')
    )
    trained(tmp_path / "run", experiment(data, t5, index={"scheme": "atomic"}))  # no index stands there yet


def test_a_plan_refuses_names_of_the_same_tokens_too(t5: Path, tmp_path: Path):
    with pytest.raises(DuplicateName, match='"i1".*"i2".*index.scheme'):
        plan(experiment(shop(tmp_path / "shop", JAPANESE), t5), Hardware())


def test_another_model_over_a_finished_index_is_held_against_it(t5: Path, tmp_path: Path):
    data = shop(tmp_path / "shop", JAPANESE)
    reads_all, folder = experiment(data, opt(tmp_path / "opt", 2048)), RunFolder(tmp_path / "run")
    stages.claim(folder, reads_all)
    for stage in (stages.prepare, stages.index, stages.write):
        stage(folder, reads_all)
    with pytest.raises(DuplicateName, match='"i1".*"i2".*another --out'):
        stages.train(folder, experiment(data, t5))
    trained(tmp_path / "other", experiment(data, t5, index={"scheme": "atomic"}))


def test_two_names_are_alike_where_one_begins_the_other():
    assert alike(ragged([[5, 1], [5, 2], [4]])) is None and alike(ragged([])) is None
    assert alike(ragged([[5, 1, 3], [4], [5, 1]])) == (2, 0)
    assert sorted(alike(ragged([[7], [4], [7]])) or ()) == [0, 2]


# --- ratings ---------------------------------------------------------------------------------------------


def test_ratings_of_the_same_tokens_are_refused_by_value_and_the_remedy_works(t5: Path, tmp_path: Path):
    rated = shop(tmp_path / "rated", TITLES, ratings=True)
    error = refusal(tmp_path / "run", experiment(rated, t5))  # its tokenizer has no digit
    assert isinstance(error, SettingsError)
    assert "the rating values 1 and 2" in str(error) and "rating column" in str(error)
    trained(tmp_path / "other", experiment(shop(tmp_path / "plain", TITLES), t5))


# --- lengths ---------------------------------------------------------------------------------------------


def test_a_table_of_positions_is_a_limit_and_positions_that_are_worked_out_are_none(t5: Path, tmp_path: Path):
    from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

    sizes = {
        "vocab_size": 20,
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
    }
    assert position_limit(OPTForCausalLM.from_pretrained(opt(tmp_path / "opt", 40))) == 40
    assert position_limit(LlamaForCausalLM(LlamaConfig(max_position_embeddings=16, **sizes))) is None
    assert position_limit(T5ForConditionalGeneration(T5Config.from_pretrained(t5))) is None


def test_samples_longer_than_the_positions_are_refused_and_the_remedy_works(tmp_path: Path):
    data = shop(tmp_path / "shop", [f"{title} {' of many words' * 8} {n}" for n, title in enumerate(TITLES)])
    model = opt(tmp_path / "opt", 180)
    wanted = experiment(data, model, index={"scheme": "atomic"})
    error = refusal(tmp_path / "run", wanted)
    assert (
        isinstance(error, SettingsError)
        and "positions for 180" in str(error)
        and "lower tasks." in str(error)
    )
    with pytest.raises(SettingsError, match="positions for 180; lower tasks.*max_history"):
        plan(wanted, Hardware())
    trained(
        tmp_path / "run", experiment(data, model, index={"scheme": "atomic"}, text={"max_characters": 10})
    )
    shorter = {
        name: {"max_history": 2}
        for name in ("ranking", "masked_items", "masked_language", "pairwise_preference")
    }
    shorter |= {name: {"max_history": 2, "targets": 1} for name in ("retrieval", "rating")}
    trained(tmp_path / "less", experiment(data, model, index={"scheme": "atomic"}, tasks=shorter))


def test_a_wording_alone_that_is_too_long_is_told_as_such_and_shorter_ones_or_more_positions_work(
    tmp_path: Path,
):
    data = shop(tmp_path / "shop", TITLES)
    error = refusal(tmp_path / "run", experiment(data, opt(tmp_path / "opt", 12)))
    assert "even the shortest" in str(error) and "more positions" in str(error)
    trained(tmp_path / "run2", experiment(data, opt(tmp_path / "larger", 400)))
    changes: dict[str, dict[str, Any]] = {
        name: {} if name in SHORT else {"weight": 0.0} for name in Experiment().tasks
    }
    text: dict[str, Any] = {}
    for number in range(3 * len(SHORT)):  # what each refusal names, and nothing else
        wanted = experiment(
            data, opt(tmp_path / "opt", 12), tasks=changes, index={"scheme": "atomic"}, text=text
        )
        try:
            trained(tmp_path / f"shorter{number}", wanted)
            break
        except SettingsError as refused:
            histories = re.findall(r"tasks\.(\w+)\.max_history \((\d+)\)", str(refused))
            for task, most in histories:
                assert int(most) > 1, "it can be no lower"
                changes[task] |= {"max_history": 1}
            if not histories and "lower text.max_characters" in str(refused):
                text = {"max_characters": 1}
            for task in re.findall(r"give shorter templates \(tasks\.(\w+)\.templates\)", str(refused)):
                wording = f'[[template]]\nname = "short"\nsource = "{SHORT[task]}"\ntarget = "{{item}}"\n'
                (tmp_path / f"{task}.toml").write_text(wording)
                changes[task] |= {"templates": str(tmp_path / f"{task}.toml")}
    else:
        pytest.fail("the remedies do not lead to a training")
    assert text and {"templates", "max_history"} <= changes["ranking"].keys()


def test_as_many_positions_as_the_sentence_names_are_enough_and_one_less_is_not(tmp_path: Path):
    """They are no multiple of what batches are padded to."""
    data, positions = shop(tmp_path / "shop", TITLES), 33
    for attempt in range(9):
        wanted = experiment(data, opt(tmp_path / f"opt{attempt}", positions))
        try:
            trained(tmp_path / f"run{attempt}", wanted)
            break
        except SettingsError as error:
            positions = int(str(error).partition(" has ")[2].split()[0])
    assert positions > 33 and positions % LENGTH_STEP
    refusal(tmp_path / "less", experiment(data, opt(tmp_path / "opt", positions - 1)))


def test_a_decoder_refuses_a_prompt_that_is_too_long_and_the_remedies_work(tmp_path: Path):
    from transformers import AutoTokenizer

    folder = opt(tmp_path / "opt", 40)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), OPTForCausalLM.from_pretrained(folder)
    decoder = ConstrainedDecoder(model, tokenizer, ["red hat", "a" * 30])
    prompt = list(range(10, 40))
    with pytest.raises(
        BadValue, match="has 30 tokens and the longest string .* positions for 40; shorten the prompt to"
    ) as refused:
        decoder.top([prompt], k=2)
    room = int(str(refused.value).partition("shorten the prompt to ")[2].split()[0])
    assert len(decoder.top([prompt[:room]], k=2)[0]) == 2
    assert len(decoder.rank([prompt[:room]], [["red hat", "a" * 30]])[0]) == 2
    with pytest.raises(BadValue, match="positions for 40"):
        decoder.log_probs([prompt[: room + 1]])
    decoder.remove(["a" * 30])
    assert decoder.top([prompt], k=1)[0][0][0] == "red hat"
    decoder.add(["b" * 30])
    with pytest.raises(BadValue, match="positions for 40"):
        decoder.top([prompt], k=1)
