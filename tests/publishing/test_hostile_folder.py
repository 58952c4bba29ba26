"""A published folder from outside is hostile: it opens as what it claims to be, or is refused in one
sentence, and runs no code.

SHELFTALK_FUZZ=5000 tries so many damages of every file in place of a few.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tomli_w

from shelftalk.errors import AnotherExperiment, MissingFile, SettingsError, ShelftalkError, UnreadableFile
from shelftalk.publishing import open_recommender
from shelftalk.publishing.contents import REQUIRED, Facts, hashes
from shelftalk.publishing.opening import with_prior
from shelftalk.records import Request

Copied = Callable[[], Path]
TRIES = int(os.environ.get("SHELFTALK_FUZZ", "4"))
SECONDS = 60.0
"""More than opening a tiny folder takes on the busiest machine; an endless loop takes longer."""
FILES = (
    "shelftalk.json", *REQUIRED, "model.safetensors", "tokenizer.json", "templates/retrieval.toml",
    "templates/ranking.toml",
    "templates/rating.toml",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 3, 10**12, -(10**30), 1e308, float("nan"), "", "x", "planted:Thing",
    "../../../etc/passwd", [], {}, [[]], {"a": {}},
)  # fmt: skip


def signed(folder: Path) -> Path:
    """The folder with hashes as whoever wrote it would write them."""
    facts = json.loads((folder / "shelftalk.json").read_text("utf-8"))
    (folder / "shelftalk.json").write_text(json.dumps({**facts, "files": hashes(folder)}))
    return folder


def with_facts(folder: Path, **changes: Any) -> Path:
    facts = json.loads((folder / "shelftalk.json").read_text("utf-8"))
    (folder / "shelftalk.json").write_text(json.dumps({**facts, **changes}))
    return folder


def with_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}))


def check_sentence(error: BaseException) -> None:
    message = str(error)
    assert message and "\n" not in message and message.endswith(".") and "shelftalk-" not in message, message


def opened_or_refused(folder: Path) -> bool:
    """Whether the folder opens. Its answers are then items of its catalogue; else one of the family says why,
    in one sentence."""
    start = time.monotonic()
    try:
        model = open_recommender(folder)
        some = model.index.item_ids[:3]
        request = Request("anyone", some, ratings=(1.0, None, 5.0), candidates=some, item=some[0])
        for ranking in (
            *model.recommend([request], 5),
            *(model.rank([request]) if "ranking" in model.tasks else ()),
        ):
            assert set(ranking.items) <= set(model.index.item_ids) and np.isfinite(ranking.scores).all()
        if "rating" in model.tasks:
            assert np.isfinite(model.rate([request])).all()
    except ShelftalkError as error:
        check_sentence(error)
        return False
    finally:
        assert time.monotonic() - start < SECONDS
    return True


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module that anybody could have installed; it writes a file when it is imported."""
    position = tmp_path / "installed"
    position.mkdir()
    trace = position / "was-imported"
    (position / "planted.py").write_text(f"open({str(trace)!r}, 'w').close()\nclass Thing: pass\n")
    monkeypatch.syspath_prepend(str(position))
    yield position / "planted.py"
    assert not trace.exists() and "planted" not in sys.modules


def test_a_task_that_the_folder_names_is_not_imported(copied: Copied, planted: Path) -> None:
    folder = copied()
    settings = tomllib.loads((folder / "experiment.toml").read_text())
    settings["tasks"]["planted:Thing"] = {}
    (folder / "experiment.toml").write_text(tomli_w.dumps(settings))
    (folder / "templates" / "planted:Thing.toml").write_text("")
    with_facts(signed(folder), tasks=["retrieval", "ranking", "rating", "planted:Thing"])
    with pytest.raises(UnreadableFile, match="'retrieval', 'ranking' or 'rating'"):
        open_recommender(folder)


def test_an_experiment_that_names_code_everywhere_opens_without_it(
    copied: Copied, planted: Path, published: Path
) -> None:
    folder = copied()
    settings = tomllib.loads((folder / "experiment.toml").read_text())
    settings["models"] = ["planted:Thing"]
    settings["index"] |= {"scheme": "planted:Thing", "encoder": "planted"}
    settings["prior"] |= {"model": "planted:Thing", "rating_model": "planted:Thing"}
    settings["tasks"]["planted:Thing"] = {"weight": 1.0}
    (folder / "experiment.toml").write_text(tomli_w.dumps(settings))
    request = Request("anyone", ())
    assert open_recommender(signed(folder)).recommend([request], 5) == open_recommender(published).recommend(
        [request], 5
    )


@pytest.mark.parametrize("known", [True, False], ids=["a kind that transformers has", "a kind of its own"])
def test_an_auto_map_neither_runs_nor_prompts(
    known: bool, copied: Copied, planted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied()
    (folder / "code.py").write_text(planted.read_text())
    names = {
        f"Auto{kind}": f"code.Thing{kind}" for kind in ("Config", "Model", "ModelForCausalLM", "Tokenizer")
    }
    with_json(folder / "config.json", auto_map=names, **({} if known else {"model_type": "things"}))
    tokenizer = ["code.Thing", "code.Thing"]
    with_json(
        folder / "tokenizer_config.json", auto_map={"AutoTokenizer": tokenizer}, tokenizer_class="Thing"
    )
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asked"))
    if known:
        with_json(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    assert opened_or_refused(signed(folder)) == known


def test_what_is_not_listed_is_not_read(copied: Copied, published: Path) -> None:
    """An adapter's configuration would lead transformers to another model, vectors of symbols
    to another file."""
    folder = copied()
    for name in (
        "adapter_config.json",
        "symbol_vectors.parquet",
        "generation_config.json",
        "chat_template.jinja",
        "added_tokens.json",
    ):
        (folder / name).write_bytes(b"{")
    facts = json.loads((folder / "shelftalk.json").read_text())
    del facts["files"]["generation_config.json"]
    (folder / "shelftalk.json").write_text(json.dumps(facts))
    request = Request("anyone", ())
    assert open_recommender(folder).recommend([request], 5) == open_recommender(published).recommend(
        [request], 5
    )


@pytest.mark.parametrize("name", [*REQUIRED, "model.safetensors", "templates/retrieval.toml"])
def test_a_file_whose_hash_is_left_out_is_refused(name: str, copied: Copied) -> None:
    folder = copied()
    facts = json.loads((folder / "shelftalk.json").read_text())
    del facts["files"][name]
    (folder / "shelftalk.json").write_text(json.dumps(facts))
    with pytest.raises(UnreadableFile, match=f'files lacks "{name}"'):
        open_recommender(folder)


def test_no_hashes_are_no_way_around_them(copied: Copied) -> None:
    with pytest.raises(UnreadableFile, match="files lacks"):
        open_recommender(with_facts(copied(), files={}))


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/../../secret", "..\\secret", "C:/secret", "", ".", "a//b", "a\0b"]
)
def test_a_path_out_of_the_folder_is_refused_unread(name: str, copied: Copied) -> None:
    folder = copied()
    (folder.parent / "secret").write_text("x")
    facts = json.loads((folder / "shelftalk.json").read_text())
    facts["files"][name] = "0" * 64
    (folder / "shelftalk.json").write_text(json.dumps(facts))
    with pytest.raises(UnreadableFile, match="no path inside the folder"):
        open_recommender(folder)


@pytest.mark.parametrize("target", ["outside", "/dev/zero", "pipe", "folder", "itself"])
def test_a_link_out_of_the_folder_and_what_is_no_file_are_refused(target: str, copied: Copied) -> None:
    folder = copied()
    file = folder / "catalogue.parquet"
    outside = folder.parent / "outside"
    outside.write_bytes(file.read_bytes())
    file.unlink()
    if target == "pipe":
        os.mkfifo(file)
    elif target == "folder":
        file.mkdir()
    else:
        file.symlink_to({"outside": outside, "itself": file}.get(target, Path(target)))
    with pytest.raises((UnreadableFile, MissingFile), match='"catalogue.parquet"'):
        open_recommender(folder)


def test_the_links_of_a_hubs_cache_are_followed(published: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "0123"
    blobs.mkdir(parents=True)
    for number, path in enumerate(path for path in published.rglob("*") if path.is_file()):
        (blobs / str(number)).write_bytes(path.read_bytes())
        link = snapshot / path.relative_to(published)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blobs / str(number), link.parent))
    request = Request("anyone", ())
    assert open_recommender(snapshot).recommend([request], 5) == open_recommender(published).recommend(
        [request], 5
    )


OPTIONAL = {name for name, field in Facts.model_fields.items() if not field.is_required()}


@pytest.mark.parametrize("key", sorted(Facts.model_fields))
def test_a_fact_that_is_missing_or_of_another_form_is_named(key: str, copied: Copied) -> None:
    folder = copied()
    facts = json.loads((folder / "shelftalk.json").read_text())
    for wrong in (
        *([] if key in OPTIONAL else [{}]),
        *(
            {key: value}
            for value in (None, 7, "x" if key not in ("shelftalk", "split", "scheme") else 1.5, [7], {"x": 7})
        ),
    ):
        given = {**{name: value for name, value in facts.items() if name != key}, **wrong}
        (folder / "shelftalk.json").write_text(json.dumps(given))
        with pytest.raises((UnreadableFile, MissingFile)) as caught:
            open_recommender(folder)
        check_sentence(caught.value)
        assert key in str(caught.value) or (key == "files" and not wrong)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "[" * 100_000, '{"files": NaN}', "\0", '{"files": ' + "9" * 10_000 + "}"]
)
def test_facts_that_are_no_facts_are_one_sentence(text: str, copied: Copied) -> None:
    folder = copied()
    (folder / "shelftalk.json").write_text(text)
    assert not opened_or_refused(folder)
    with pytest.raises(ShelftalkError):
        with_prior(folder, None, None)  # type: ignore[arg-type]


def test_a_fact_of_a_later_version_is_named(copied: Copied) -> None:
    folder = with_facts(copied(), more={"x": 1})
    with pytest.raises(
        UnreadableFile, match='holds "more", which shelftalk .* does not know; install a later version'
    ) as caught:
        open_recommender(folder)
    check_sentence(caught.value)


def test_tables_that_do_not_go_together_are_refused(copied: Copied) -> None:
    folder = copied()
    items = pl.read_parquet(folder / "catalogue.parquet")
    others = (
        items[:-1],
        items[::-1],
        items.drop("brand"),
        items.with_columns(price=pl.lit("x")),
        items.with_columns(title=None),
    )
    for other in others:
        other.write_parquet(folder / "catalogue.parquet")
        with pytest.raises(UnreadableFile, match="catalogue.parquet"):
            open_recommender(signed(folder))


def test_a_config_that_needs_more_than_there_is_is_refused_at_once(copied: Copied) -> None:
    folder = copied()
    before = (folder / "config.json").read_bytes()
    changes: tuple[dict[str, Any], ...] = (
        {"num_hidden_layers": 10**9}, {"hidden_size": 2**20}, {"vocab_size": 2**30},
        {"intermediate_size": -1}, {"model_type": "t5"},
        {"num_hidden_layers": 0}, {"quantization_config": {"quant_method": "bitsandbytes"}},
        {"num_attention_heads": 10**9},
    )  # fmt: skip
    for change in changes:
        with_json(folder / "config.json", **change)
        assert not opened_or_refused(signed(folder)), change
        (folder / "config.json").write_bytes(before)
    with_json(
        folder / "config.json", attn_implementation="someone/kernels", _attn_implementation="someone/kernels"
    )
    assert open_recommender(signed(folder)).backbone.model.config._attn_implementation != "someone/kernels"


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("decoding", "beams", 10**12),
        ("decoding", "batch_size", 10**12),
        ("decoding", "search", "exact"),
        ("decoding", "length_penalty", 2.0),
        ("text", "max_characters", 10**12),
    ],
)
def test_settings_of_any_size_cost_no_more_than_the_catalogue(
    section: str, key: str, value: object, copied: Copied
) -> None:
    folder = copied()
    settings = tomllib.loads((folder / "experiment.toml").read_text())
    settings[section][key] = value
    (folder / "experiment.toml").write_text(tomli_w.dumps(settings))
    assert opened_or_refused(signed(folder))


def test_weights_that_are_no_numbers_and_weights_that_lack_are_refused(copied: Copied) -> None:
    from safetensors.numpy import load_file, save_file

    folder = copied()
    weights = load_file(folder / "model.safetensors")
    first = next(iter(weights))
    for changed in (
        weights | {first: weights[first] * np.nan},
        {name: w for name, w in weights.items() if name != first},
    ):
        save_file(changed, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(UnreadableFile, match="not finite|weights"):
            open_recommender(signed(folder))


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_another_file(name: str, copied: Copied) -> None:
    folder = copied()
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    if name == "shelftalk.json":  # the hash of nothing: what is left is its form
        opened_or_refused(folder)
        return
    with pytest.raises(AnotherExperiment, match=f'"{name}" in .* is not the file'):
        open_recommender(folder)


def damaged(content: bytes, name: str, draw: random.Random) -> bytes:
    """The file as chance or malice leaves it."""
    way = draw.choice(["flip", "flip", "cut", "repeat", "value", "value", "value"])
    if way == "value" and name.endswith(".json"):
        return json.dumps(_replaced(json.loads(content), draw)).encode()
    if way == "value" and name.endswith(".toml"):
        try:
            return tomli_w.dumps(_replaced(tomllib.loads(content.decode()), draw)).encode()
        except (TypeError, AttributeError):  # no such value in TOML
            return b"x" + content
    if way == "value" and name.endswith(".npy"):
        return _with_a_number(content, draw)
    if way == "cut":
        return content[: draw.randrange(len(content))]
    if way == "repeat":
        return content * 2
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 4, 40])):
        position = (
            draw.randrange(len(content)) if draw.random() < 0.5 else draw.randrange(min(200, len(content)))
        )
        changed[position] = draw.randrange(256)
    return bytes(changed)


def _replaced(value: Any, draw: random.Random) -> Any:
    """The value with one part of it, at any depth, replaced, removed or doubled."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(sorted(value))
        if draw.random() < 0.15:
            return {name: part for name, part in value.items() if name != key}
        return {**value, key: _replaced(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.9:
        position = draw.randrange(len(value))
        if draw.random() < 0.15:
            return [
                *value[:position],
                *value[position + 1 :],
                *value[position : position + 1] * draw.choice([0, 2]),
            ]
        return [*value[:position], _replaced(value[position], draw), *value[position + 1 :]]
    return draw.choice(VALUES)


def _with_a_number(content: bytes, draw: random.Random) -> bytes:
    start = 128  # the numbers come after numpy's header
    changed = bytearray(content)
    if len(changed) < start + 4:
        return content + b"\0" * 4
    position = start + 4 * draw.randrange((len(changed) - start) // 4)
    number = draw.choice([-1, 0, 1, position, 10**6, 2**31 - 1, -(2**31)])
    changed[position : position + 4] = number.to_bytes(4, "little", signed=True)
    return bytes(changed)


@pytest.mark.parametrize("name", FILES)
def test_whatever_is_written_into_a_file_it_opens_or_is_refused(
    name: str, copied: Copied, planted: Path
) -> None:
    """Whoever damages the files writes hashes that fit."""
    folder = copied()
    whole, facts = (folder / name).read_bytes(), (folder / "shelftalk.json").read_bytes()
    for number in range(TRIES):
        draw = random.Random(f"{name} {number}")
        (folder / name).write_bytes(damaged(whole, name, draw))
        if name != "shelftalk.json":
            signed(folder)
        try:
            opened_or_refused(folder)
        except Exception as error:
            raise AssertionError(f"try {number} of {name}: {type(error).__name__}: {error}") from error
        (folder / name).write_bytes(whole)
        (folder / "shelftalk.json").write_bytes(facts)


def test_a_precision_that_is_not_here_is_fp32_or_refused_where_it_is_requested(
    copied: Copied, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from shelftalk.models import precision as precisions

    if torch.cuda.is_available():
        pytest.skip("needs a machine without a GPU")
    monkeypatch.setattr(precisions, "has_bf16", lambda: False)
    folder = copied()
    text = (folder / "experiment.toml").read_text()
    request, whole = Request("anyone", ()), open_recommender(published, precision="fp32")
    for precision in ("fp16", "bf16"):
        (folder / "experiment.toml").write_text(
            text.replace('precision = "auto"', f'precision = "{precision}"')
        )
        model = open_recommender(signed(folder))
        assert not model.backbone.fp16 and not model.backbone.bf16
        assert model.recommend([request], 5) == whole.recommend([request], 5)
        with pytest.raises(
            SettingsError, match=f'has no {precision}; give precision = "fp32", or none'
        ) as caught:
            open_recommender(folder, precision=precision)  # type: ignore[arg-type]
        check_sentence(caught.value)
        assert open_recommender(folder, precision="fp32").recommend([request], 5) == whole.recommend(
            [request], 5
        )
