"""The whole way on a tiny world: what a run leaves, what it skips, what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from shelftalk import parts
from shelftalk.decoding.item_trie import build_trie
from shelftalk.errors import (
    AnotherExperiment,
    MissingFile,
    SettingsError,
    ShelftalkError,
    StageMissing,
    UnreadableFile,
)
from shelftalk.evaluation.beyond_accuracy import LIST_METRICS
from shelftalk.evaluation.comparison import measured
from shelftalk.evaluation.evaluator import summarise
from shelftalk.evaluation.metrics import further_names, metric_names
from shelftalk.experiment import Experiment, load_experiment
from shelftalk.pipeline import stages
from shelftalk.pipeline.run import Run
from shelftalk.records import Request
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.testing.worlds import tiny_world
from tests.end_to_end.tiny import call, contents, done_again, save_world, write_experiment

CopyOf = Callable[[RunFolder], RunFolder]
ANSWERED = {
    "retrieval": ["aligned", "aligned+prior", "item_knn", "popularity"],
    "ranking": ["aligned", "aligned+prior", "item_knn", "popularity"],
    "rating": ["aligned", "aligned+prior", "bias", "global_mean"],
}


def test_a_run_leaves_every_file_that_it_promises(finished: RunFolder) -> None:
    left = contents(finished.path)
    promised = [
        "experiment.toml", "dataset/items.parquet", "dataset/events.parquet", "dataset/partition.parquet",
        "item_index.parquet",
        "samples/epoch-0000.parquet", "samples/epoch-0001.parquet", "samples/validation.retrieval.parquet",
        "model/model.safetensors", "model/tokenizer.json", "model/item_index.parquet", "model/shelftalk.json",
        "evaluation/retrieval.parquet", "evaluation/slices.parquet", "evaluation/differences.parquet",
        "evaluation/test_evaluations.jsonl", "metrics.json", "report.html", "report.md", "report.json",
        *(f"rankings/{task}.{model}.parquet" for task, models in ANSWERED.items() for model in models),
    ]  # fmt: skip
    assert [name for name in promised if name not in left] == []
    assert [name for name in left if name.endswith(".part")] == []


def test_metrics_json_has_the_shape_laid_down(finished: RunFolder) -> None:
    metrics = json.loads(finished.metrics.read_text())
    assert list(metrics) == ["retrieval", "ranking", "rating"]
    for task, models in metrics.items():
        assert list(models) == [name for model in ANSWERED[task] for name in (model, f"{model}.ci")]
        for model in ANSWERED[task]:
            of_lists = LIST_METRICS if task == "retrieval" else ()
            assert list(models[model]) == [*metric_names(task), *further_names(task), *of_lists]
            intervals = models[f"{model}.ci"]
            assert set(models[model]) - set(intervals) == ({"coverage@10", "gini@10"} if of_lists else set())
            for metric, (low, high) in intervals.items():
                value = models[model][metric]
                assert isinstance(value, float) and low <= value <= high


def test_every_number_can_be_recomputed_from_the_per_user_tables(finished: RunFolder) -> None:
    lists = {name: pl.read_parquet(finished.evaluation(name)) for name in ("lists", "recommended")}
    for task, models in json.loads(finished.metrics.read_text()).items():
        table = pl.read_parquet(finished.evaluation(task))
        frames = {model: table.filter(model=model).drop("model") for model in ANSWERED[task]}
        experiment = load_experiment(finished.experiment)
        of_lists = lists if task == "retrieval" else {}
        again = measured(frames, task, experiment.evaluation.resamples, experiment.seed, of_lists)
        assert again == models
        for model, frame in frames.items():
            assert summarise(frame, task).items() <= models[model].items()


def test_the_saved_experiment_is_the_one_that_ran(finished: RunFolder, tiny: Experiment) -> None:
    assert load_experiment(finished.experiment) == tiny


def test_a_second_run_skips_every_stage(finished: RunFolder, experiment_file: Path, copy_of: CopyOf) -> None:
    run = copy_of(finished)
    before = contents(run.path)
    assert done_again(call("run", experiment_file, "--out", run.path, "--json")) == set()
    assert contents(run.path) == before


def test_a_training_whose_model_is_gone_is_done_again_from_its_checkpoints(
    finished: RunFolder, tiny: Experiment, copy_of: CopyOf
) -> None:
    run = copy_of(finished)
    weights = (run.model / "model.safetensors").read_bytes()
    shutil.rmtree(run.model)
    assert not stages.train(run, tiny).skipped
    assert (run.model / "model.safetensors").read_bytes() == weights


def test_another_evaluation_setting_redoes_evaluation_and_report_alone(
    finished: RunFolder, world: Path, copy_of: CopyOf, tmp_path: Path
) -> None:
    run = copy_of(finished)
    changed = write_experiment(tmp_path / "tiny.toml", world, evaluation={"resamples": 150, "shown_users": 3})
    assert done_again(call("run", changed, "--out", run.path, "--json")) == {"evaluate", "report"}
    assert run.test_evaluations() == 2
    assert json.loads((run.path / "report.json").read_text())["test_evaluations"] == 2


@pytest.mark.parametrize(
    "changes", [{"training": {"learning_rate": 0.1}}, {"seed": 4}, {"data": {"k_core": 2}}]
)
def test_a_folder_of_another_experiment_is_refused_and_left_as_it_was(
    changes: dict, finished: RunFolder, world: Path, copy_of: CopyOf, tmp_path: Path
) -> None:
    run = copy_of(finished)
    before = contents(run.path)
    other = load_experiment(write_experiment(tmp_path / "tiny.toml", world, **changes))
    with pytest.raises(AnotherExperiment, match="another --out"):
        stages.run_all(run, other)
    assert contents(run.path) == before


def test_a_folder_of_strangers_is_refused(tiny: Experiment, tmp_path: Path) -> None:
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "cat.jpg").write_bytes(b"meow")
    with pytest.raises(AnotherExperiment, match="not a run"):
        stages.run_all(RunFolder(tmp_path / "photographs"), tiny)
    assert contents(tmp_path) == {"photographs/cat.jpg": b"meow"}


def test_settings_may_be_corrected_where_nothing_depends_on_them_yet(world: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    broken = write_experiment(tmp_path / "broken.toml", world, data={"k_core": 50})
    assert call("prepare", broken, "--out", run).exit_code == 2
    corrected = write_experiment(tmp_path / "corrected.toml", world, models=["popularity"])
    assert call("run", corrected, "--out", run).exit_code == 0


def test_aligned_may_join_baselines_in_their_folder(experiment_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = done_again(
        call("run", experiment_file, "--out", run, "--models", "item_knn,popularity", "--json")
    )
    assert first == {"prepare", "recommend.item_knn", "recommend.popularity", "evaluate", "report"}
    assert not (run / "samples").exists()
    second = done_again(call("run", experiment_file, "--out", run, "--models", "item_knn,aligned", "--json"))
    assert second == {"index", "write", "train", "recommend.aligned", "evaluate", "report"}
    assert {"item_knn", "aligned"} <= set(json.loads((run / "metrics.json").read_text())["retrieval"])


def test_data_without_ratings_leaves_the_rating_task_out_and_says_so(tmp_path: Path) -> None:
    data = save_world(tiny_world(users=30, items=50, ratings=False), tmp_path / "data")
    experiment = write_experiment(tmp_path / "tiny.toml", data, training={"max_steps": 2})
    result = call("run", experiment, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "Rating prediction is left out" in result.stdout and "bias is left out" in result.stdout
    assert list(json.loads((tmp_path / "run" / "metrics.json").read_text())) == ["retrieval", "ranking"]
    assert "Rating prediction is left out" in (tmp_path / "run" / "report.html").read_text()
    assert call("run", experiment, "--out", tmp_path / "ratings", "--models", "bias").exit_code == 2


def test_the_same_seed_gives_the_same_samples_to_the_byte_and_another_seed_others(
    tiny: Experiment, tmp_path: Path
) -> None:
    def samples(name: str, seed: int) -> dict[str, bytes]:
        folder, experiment = RunFolder(tmp_path / name), tiny.model_copy(update={"seed": seed})
        for stage in (stages.prepare, stages.index, stages.write):
            stage(folder, experiment)
        return contents(folder.samples)

    first, second, other = samples("first", 3), samples("second", 3), samples("other", 4)
    assert first == second
    assert all(first[name] != other[name] for name in first)


def test_each_stage_works_alone_and_asks_for_the_one_before_it(world: Path, tmp_path: Path) -> None:
    experiment = write_experiment(
        tmp_path / "tiny.toml", world, training={"max_steps": 2}, models=["aligned", "popularity"]
    )
    order = ["prepare", "index", "write", "train", "recommend", "evaluate", "report"]
    missing_stage = ["", "prepare", "index", "write", "train", "recommend.aligned", "evaluate"]
    for stage, before in zip(order, missing_stage, strict=True):
        if before:
            early = call(stage, experiment, "--out", tmp_path / f"early-{stage}")
            assert early.exit_code == 2 and early.stderr.startswith("StageMissing") and before in early.stderr
        result = call(stage, experiment, "--out", tmp_path / "run")
        assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "report.html").exists()


def test_a_missing_stage_is_named(tiny: Experiment, tmp_path: Path) -> None:
    with pytest.raises(StageMissing, match="shelftalk prepare"):
        stages.index(RunFolder(tmp_path / "none"), tiny)


def test_the_test_part_is_counted_once_per_evaluation(
    finished: RunFolder, experiment_file: Path, copy_of: CopyOf
) -> None:
    run = copy_of(finished)
    assert run.test_evaluations() == 1
    call("run", experiment_file, "--out", run.path)
    assert run.test_evaluations() == 1
    call("run", experiment_file, "--out", run.path, "--models", "popularity")
    assert run.test_evaluations() == 2
    reports = [
        json.loads(line)
        for line in (run.path / "evaluation" / "test_evaluations.jsonl").read_text().splitlines()
    ]
    assert [row["what"] for row in reports] == [", ".join(parts.DEFAULT_MODELS), "popularity"]


def test_changed_data_in_the_same_place_is_noticed(tmp_path: Path) -> None:
    data = save_world(tiny_world(users=30, items=50), tmp_path / "data")
    experiment = write_experiment(tmp_path / "tiny.toml", data, models=["popularity"])
    call("run", experiment, "--out", tmp_path / "run")
    events = pl.read_parquet(data / "interactions.parquet")
    events.filter(pl.col("user_id") != "u0").write_parquet(data / "interactions.parquet")
    again = done_again(call("run", experiment, "--out", tmp_path / "run", "--json"))
    assert again == {"prepare", "recommend.popularity", "evaluate", "report"}


@pytest.mark.parametrize("task", parts.TASKS)
def test_a_sample_of_every_kind_can_be_shown_with_its_loss_marked(task: str, experiment_file: Path) -> None:
    result = call("show", "sample", task, experiment_file)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{task}, template") and "⟦" in result.stdout
    assert "prepare: 0/3 reading" in result.stderr and f"write: {task}" in result.stderr


def test_progress_names_what_the_language_model_answers(
    finished: RunFolder, tiny: Experiment, copy_of: CopyOf
) -> None:
    copy = copy_of(finished)
    for model in ("aligned", "aligned+prior"):
        copy.manifest(f"recommend.{model}").unlink()
    reports: dict[str, list[str]] = {}
    stages.recommend(copy, tiny, lambda stage, done, total, text: reports.setdefault(stage, []).append(text))
    described = {stage: list(dict.fromkeys(texts)) for stage, texts in reports.items()}
    assert described["recommend.aligned"] == [*parts.SERVED, "held-out templates", "search error"]
    assert described["recommend.aligned+prior"] == ["choosing weights", *parts.SERVED]


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        (
            lambda model: (model / "shelftalk.json").unlink(),
            MissingFile,
            "holds no trained model; run `shelftalk train` first",
        ),
        (lambda model: (model / "shelftalk.json").write_text("{"), UnreadableFile, "is damaged"),
        (
            lambda model: (model / "model.safetensors").write_bytes(b"short"),
            UnreadableFile,
            "damaged or cut short",
        ),
        (
            lambda model: (model / "tokenizer_config.json").unlink(),
            UnreadableFile,
            "names no pad token; remove the folder",
        ),
        (
            lambda model: (model / "tokenizer_config.json").write_text("{"),
            UnreadableFile,
            "is damaged; remove the folder",
        ),
        (
            lambda model: (model / "tokenizer_config.json").write_text("[]"),
            UnreadableFile,
            "is damaged; remove the folder",
        ),
        (
            lambda model: (model / "tokenizer.json").write_text("{"),
            UnreadableFile,
            "holds no model that can be read.*; remove the folder",
        ),
        (
            lambda model: (model / "config.json").write_text("{"),
            UnreadableFile,
            "holds no model that can be read.*; remove the folder",
        ),
        (
            lambda model: (model / "shelftalk.json").write_text("[]"),
            UnreadableFile,
            "is damaged; remove the folder",
        ),
        (
            lambda model: (model / "shelftalk.json").write_text('{"split": 5}'),
            UnreadableFile,
            "is damaged; remove the folder",
        ),
        (
            lambda model: (model / "item_trie" / "parent.npy").write_bytes(b""),
            UnreadableFile,
            "delete that folder",
        ),
        (lambda model: (model / "item_trie" / "leaf.npy").unlink(), UnreadableFile, "delete that folder"),
        (
            lambda model: build_trie([[5, 1], [6, 1]]).save(model / "item_trie"),
            AnotherExperiment,
            "names of another item index",
        ),
    ],
)
def test_half_a_model_folder_is_one_sentence(
    spoil: Callable[[Path], object],
    error: type[ShelftalkError],
    says: str,
    finished: RunFolder,
    copy_of: CopyOf,
    tiny: Experiment,
) -> None:
    run = copy_of(finished)
    spoil(run.model)
    with pytest.raises(error, match=says):
        _ = Run(run, tiny).language_model


def test_fewer_than_no_items_are_refused(finished: RunFolder, tiny: Experiment) -> None:
    run = Run(finished, tiny)
    for model in (run.language_model, run.model("item_knn"), run.model("popularity")):
        with pytest.raises(SettingsError, match="ask for 0 or more"):
            model.recommend([Request("u", ())], -1)


def test_the_remedy_for_a_damaged_model_folder_works(
    finished: RunFolder, copy_of: CopyOf, experiment_file: Path
) -> None:
    run = copy_of(finished)
    rankings = run.ranking("retrieval", "aligned").read_bytes()
    (run.model / "tokenizer.json").write_text("{")
    run.manifest("recommend.aligned").unlink()
    command = (experiment_file, "--out", run.path)
    refused = call("recommend", *command)
    assert refused.exit_code == 2 and refused.stderr.startswith("ChangedFile")
    assert f'remove "{run.model}" and run `shelftalk train` or `shelftalk run` again' in refused.stderr
    shutil.rmtree(run.model)
    for stage in ("train", "recommend"):
        done = call(stage, *command)
        assert done.exit_code == 0, done.output
    assert run.ranking("retrieval", "aligned").read_bytes() == rankings
