"""What `shelftalk publish` puts into a folder, what it prints, what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LogitsProcessorList

from shelftalk.decoding.item_trie import open_trie
from shelftalk.decoding.logits_processor import TrieLogitsProcessor
from shelftalk.errors import AnotherExperiment, ChangedFile, SettingsError, StageMissing
from shelftalk.experiment import load_experiment, save_experiment, saved_experiment
from shelftalk.pipeline import stages
from shelftalk.pipeline.run import Run
from shelftalk.publishing import open_recommender
from shelftalk.publishing.card import base_model, plain_name
from shelftalk.publishing.contents import FILE_KINDS
from shelftalk.publishing.publish import publish, without_paths
from shelftalk.records import Request
from shelftalk.runtime.run_folder import RunFolder, read_signed, write_signed
from shelftalk.testing.worlds import tiny_world
from tests.end_to_end.tiny import call, contents, save_world, write_experiment


def test_the_folder_holds_the_described_files_and_no_user(run: RunFolder, published: Path) -> None:
    files = contents(published)
    described = {
        path.relative_to(published).as_posix()
        for pattern, _ in FILE_KINDS
        for path in published.glob(pattern)
    }
    assert described == set(files)
    users = [user.encode() for user in pl.read_parquet(run.dataset / "events.parquet")["user_id"].unique()]
    text = b"".join(
        content
        for name, content in files.items()
        if name.endswith((".json", ".toml", ".md")) and name != "tokenizer.json"
    )
    assert not [user for user in users if b'"' + user + b'"' in text]
    assert pl.read_parquet(published / "catalogue.parquet").equals(
        pl.read_parquet(run.dataset / "items.parquet")
    )


def test_no_text_of_the_folder_holds_a_path_of_the_machine(published: Path) -> None:
    for name, content in contents(published).items():
        assert b"secret-place" not in content and str(published.parent.parent).encode() not in content, name


def test_the_experiment_in_the_folder_is_the_runs_without_paths(run: RunFolder, published: Path) -> None:
    inside, ours = load_experiment(published / "experiment.toml"), load_experiment(run.experiment)
    assert inside == without_paths(ours) != ours
    assert inside.data.folder == "shop-data" and inside.tasks["retrieval"].templates == "own.toml"
    assert inside.decoding == ours.decoding and inside.training == ours.training


def test_generate_stays_inside_the_trie_by_the_folders_own_settings(published: Path) -> None:
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(published),
        AutoTokenizer.from_pretrained(published),
    )
    settings, trie = GenerationConfig.from_pretrained(published), open_trie(published / "item_trie")
    assert model.generation_config.num_beams == settings.num_beams == 20 and settings.length_penalty == 0.0
    recommender = open_recommender(published)
    prompt = recommender.backbone.encode(recommender.prompt("retrieval", Request("nobody", ()))).ids
    processor = TrieLogitsProcessor(trie, tokenizer.eos_token_id, len(prompt))
    generated = model.generate(
        input_ids=torch.from_numpy(prompt[None].astype("int64")),
        logits_processor=LogitsProcessorList([processor]),
    )
    items = processor.items(generated.sequences, generated.sequences_scores)
    assert len(set(items.tolist())) == 20 and (items >= 0).all()


def test_publishing_again_replaces_the_folder_and_does_not_change_the_run(
    run: RunFolder, tmp_path: Path
) -> None:
    copy = RunFolder(Path(shutil.copytree(run.path, tmp_path / "copy")))
    before = contents(copy.path)
    first = publish(copy.path)
    assert first == copy.path / "published"
    (first / "old").write_text("left over")
    publish(copy.path)
    assert not (first / "old").exists()
    shutil.rmtree(first)
    assert contents(copy.path) == before


def test_what_is_no_published_model_is_never_replaced(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "cat.jpg").write_bytes(b"meow")
    for taken in (tmp_path / "photographs", tmp_path / "photographs" / "cat.jpg", run.model, run.path):
        with pytest.raises(AnotherExperiment, match="no published model"):
            publish(run.path, taken)
    assert contents(tmp_path) == {"photographs/cat.jpg": b"meow"} and run.experiment.exists()
    for taken in (tmp_path / "another", tmp_path / "photographs"):  # as the sentence says
        shutil.rmtree(taken, ignore_errors=True)
        assert (publish(run.path, taken) / "shelftalk.json").exists()


def test_a_run_that_is_not_finished_or_does_not_fit_is_refused(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(StageMissing, match="evaluate"):
        publish(tmp_path / "none", tmp_path / "out")
    copy = RunFolder(Path(shutil.copytree(run.path, tmp_path / "copy")))
    experiment = saved_experiment(copy)
    save_experiment(
        experiment.model_copy(update={"text": experiment.text.model_copy(update={"user_ids": True})}), copy
    )
    with pytest.raises(SettingsError, match="text.user_ids"):
        publish(copy.path)
    save_experiment(experiment, copy)
    index = pl.read_parquet(copy.item_index)
    facts = {
        key: value
        for key, value in pl.read_parquet_metadata(copy.item_index).items()
        if key != "ARROW:schema"
    }
    index.with_columns(name=pl.col("name").reverse()).write_parquet(copy.item_index, metadata=facts)
    with pytest.raises(ChangedFile, match="run `shelftalk index`"):
        publish(copy.path)
    assert not (copy.path / "published").exists() and not list(copy.path.glob(".*.part"))


@pytest.mark.parametrize(("stage", "key"), [("train", "seed"), ("recommend.aligned", "settings")])
def test_figures_of_another_training_or_another_asking_are_not_published(
    stage: str, key: str, run: RunFolder, tmp_path: Path
) -> None:
    copy = RunFolder(Path(shutil.copytree(run.path, tmp_path / "copy")))
    manifest = read_signed(copy.manifest(stage))
    manifest["inputs"][key] = "another"
    write_signed(copy.manifest(stage), manifest)
    with pytest.raises(StageMissing, match="is not the one any more"):
        publish(copy.path)


def test_a_run_last_evaluated_without_its_model_is_refused(run: RunFolder, tmp_path: Path) -> None:
    copy = RunFolder(Path(shutil.copytree(run.path, tmp_path / "copy")))
    assert call("run", copy.experiment, "--out", copy.path, "--models", "popularity").exit_code == 0
    with pytest.raises(StageMissing, match='"aligned" among the models'):
        publish(copy.path)


def test_an_encoder_decoder_that_says_titles_and_knows_no_ratings_is_published_too(tmp_path: Path) -> None:
    world = save_world(tiny_world(users=20, items=40, ratings=False), tmp_path / "data")
    tables = {
        "index": {"scheme": "titles"},
        "nano": {"family": "encoder-decoder"},
        "tasks": {"retrieval": {"targets": 1}, "rating": {"targets": 1}},
    }
    small = {
        "training": {"max_steps": 2, "batch_tokens": 512},
        "evaluation": {"search_error_users": 0, "held_out_templates": False},
    }
    file = write_experiment(tmp_path / "tiny.toml", world, models=["aligned"], **tables, **small)
    run, experiment = RunFolder(tmp_path / "run"), load_experiment(file)
    stages.run_all(run, experiment)
    folder = publish(run.path)
    requests, _ = (finished := Run(run, experiment)).split.retrieval_requests("test")
    model = open_recommender(folder)
    assert model.recommend(requests, 5) == finished.language_model.recommend(requests, 5) and set(
        model.tasks
    ) == {"retrieval", "ranking"}
    settings = GenerationConfig.from_pretrained(folder)
    assert settings.decoder_start_token_id == model.backbone.model.config.decoder_start_token_id is not None
    assert settings.max_new_tokens == model.trie.depth


def test_the_command_prints_what_is_in_the_folder(run: RunFolder, tmp_path: Path) -> None:
    result = call("publish", run.path, "--to", tmp_path / "model")
    assert result.exit_code == 0, result.output
    assert "model.safetensors" in result.stdout or "*.safetensors" in result.stdout
    assert f"Folder: {tmp_path / 'model'}" in result.stdout
    printed = json.loads(call("publish", run.path, "--to", tmp_path / "model", "--json").stdout)
    assert printed["pushed_to"] is None and sum(row["bytes"] for row in printed["files"]) == sum(
        map(len, contents(tmp_path / "model").values())
    )
    early = call("publish", tmp_path / "none")
    assert early.exit_code == 2 and early.stderr.startswith("StageMissing")


def test_a_base_model_is_named_only_where_a_hub_knows_it(tmp_path: Path) -> None:
    def of(**pretrained: object) -> str | None:
        return base_model(load_experiment(None, {"pretrained": pretrained}))

    assert of() is None and of(name="owner/small") == "owner/small"
    assert of(name="owner/small", random_weights=True) is None and of(name=str(tmp_path)) is None
    assert (
        plain_name(str(tmp_path / "gone" / "model.gguf")) == "model.gguf" and plain_name("tfidf") == "tfidf"
    )
