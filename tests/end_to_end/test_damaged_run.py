"""Whatever happens to a file of a run: the same metrics again, or one sentence whose remedy leads to them.
Never a traceback.

A few damages of every file are tried by default; SHELFTALK_FUZZ=1 tries all of them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from shelftalk.errors import ChangedFile
from shelftalk.experiment import Experiment
from shelftalk.pipeline.answer_files import in_order_of_requests
from shelftalk.pipeline.run import Run
from shelftalk.runtime.run_folder import RunFolder, remove
from tests.end_to_end.test_interrupted import interrupt
from tests.end_to_end.tiny import call, contents
from tests.verified import verified

EVERYTHING = bool(os.environ.get("SHELFTALK_FUZZ"))
BASELINES = ("--models", "item_knn,popularity,bias")
# its lines do not come back; the number of evaluations is in the manifest too
LOG = "evaluation/test_evaluations.jsonl"
PROGRESS = re.compile(
    r"(prepare|index|write|train|recommend\.[\w+]+|evaluate|certify|report|held-out templates): "
)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def one_bit_other(path: Path) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[len(content) * 2 // 3] ^= 4
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: list[Callable[[Path], None]] = [cut_short, one_bit_other, empty, Path.unlink, a_folder]


def chosen(names: list[str], each: int) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Damages by file, the first of them by a hash of its
    name, so that files of one kind get different ones."""
    for name in names:
        first = zlib.crc32(name.encode())
        for number in range(len(DAMAGES) if EVERYTHING else each):
            yield name, DAMAGES[(first + number) % len(DAMAGES)]


def metrics(run: RunFolder) -> object:
    return json.loads(run.metrics.read_text("utf-8"))


def done_in_the_end(run: RunFolder, experiment: Path, *more: str) -> list[str]:
    """The sentences that the same command says until it succeeds,
    each of which is obeyed by removing what it names."""
    refusals: list[str] = []
    for _ in range(3):
        result = call("run", experiment, "--out", run.path, *more)
        if result.exit_code == 0:
            return refusals
        assert isinstance(result.exception, SystemExit) and result.exit_code == 2, (
            result.output,
            result.exception,
        )
        sentences = [line for line in result.stderr.splitlines() if not PROGRESS.match(line)]
        assert len(sentences) == 1, sentences
        refusals += sentences
        for path in named_to_be_removed(sentences[0]):
            remove(Path(path))
    pytest.fail(f"the remedies lead nowhere: {refusals}")


def named_to_be_removed(sentence: str) -> list[str]:
    """The paths of 'remove "A"', 'remove "A" and "B"' or '"A" is damaged ...; remove it'."""
    named = re.search(r'remove "([^"]+)"(?: and "([^"]+)")?', sentence) or re.search(
        r'"([^"]+)".*remove it\b', sentence
    )
    assert named, f"no remedy in: {sentence}"
    return [path for path in named.groups() if path]


@pytest.fixture(scope="module")
def baselines(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = RunFolder(tmp_path_factory.mktemp("damaged") / "baselines")
    assert call("run", experiment_file, "--out", run.path, *BASELINES).exit_code == 0
    return verified(run)


def test_a_run_of_baselines_survives_any_damage_of_any_file(
    baselines: RunFolder, experiment_file: Path, tmp_path: Path
) -> None:
    for name, damage in chosen(sorted(contents(baselines.path)), each=1):
        copy = RunFolder(Path(shutil.copytree(baselines.path, tmp_path / "copy")))
        damage(copy.path / name)
        done_in_the_end(copy, experiment_file, *BASELINES)
        assert metrics(copy) == metrics(baselines), (name, damage.__name__)
        assert copy.test_evaluations() >= 1
        kept = {path for path in contents(copy.path) if not path.startswith(".")}
        assert kept >= set(contents(baselines.path)) - {LOG} and not list(copy.path.rglob(".*")), (
            name,
            damage.__name__,
        )
        shutil.rmtree(copy.path)


def of_training(name: str) -> bool:
    return name.startswith(
        ("model/", "samples/", "item_index", "symbol_vectors", "stages/train", "rankings/retrieval.aligned.")
    )


def test_a_run_with_a_model_survives_damage_too(
    finished: RunFolder, experiment_file: Path, tmp_path: Path
) -> None:
    names = [name for name in sorted(contents(finished.path)) if of_training(name)]
    names = names if EVERYTHING else names[::4]
    for name, damage in chosen(names, each=1):
        copy = RunFolder(Path(shutil.copytree(finished.path, tmp_path / "copy")))
        damage(copy.path / name)
        refusals = done_in_the_end(copy, experiment_file)
        refused = name.startswith("model/") or name.startswith("stages/") and damage is not Path.unlink
        assert bool(refusals) == refused, f"{name}: a trained model is never replaced unasked"
        assert metrics(copy) == metrics(finished), (name, damage.__name__)
        shutil.rmtree(copy.path)


@pytest.fixture(scope="module")
def interrupted(finished: RunFolder, tiny: Experiment, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = RunFolder(tmp_path_factory.mktemp("interrupted") / "run")
    interrupt(run, tiny, "train", after=finished.needed("train").facts["steps"] * 2 // 3)
    return run


def test_damaged_checkpoints_are_never_continued(
    interrupted: RunFolder, finished: RunFolder, tiny: Experiment, experiment_file: Path, tmp_path: Path
) -> None:
    names = [
        f"checkpoints/{name}"
        for name in sorted(contents(interrupted.checkpoints))
        if not name.endswith("training_args.bin")
    ]
    newest = max(int(path.name.partition("-")[2]) for path in interrupted.checkpoints.glob("checkpoint-*"))
    for name, damage in chosen(names if EVERYTHING else [*names[:-2:5], *names[-2:]], each=1):
        copy = RunFolder(Path(shutil.copytree(interrupted.path, tmp_path / "copy")))
        damage(copy.path / name)
        refusals = done_in_the_end(copy, experiment_file, "--models", "popularity,aligned")
        weights = [(run.model / "model.safetensors").read_bytes() for run in (copy, finished)]
        assert weights[0] == weights[1], (name, damage.__name__, refusals)
        cut_off = (
            name == f"checkpoints/checkpoint-{newest}/trainer_state.json"
        )  # as by a power cut: the one before it is continued
        gone = name.endswith(("files.json", "seconds.json")) and damage is Path.unlink
        assert refusals or cut_off or gone, (name, damage.__name__)
        shutil.rmtree(copy.path)


def test_a_model_of_another_training_on_the_same_split_is_refused_and_left_as_it_is(
    finished: RunFolder, experiment_file: Path, tmp_path: Path
) -> None:
    copy = RunFolder(Path(shutil.copytree(finished.path, tmp_path / "copy")))
    weights = copy.model / "model.safetensors"
    other = weights.read_bytes()[:-4] + b"\x00\x00\x80\x3f"
    weights.write_bytes(other)
    for command in ("run", "recommend", "publish"):
        result = (
            call("publish", copy.path)
            if command == "publish"
            else call(command, experiment_file, "--out", copy.path)
        )
        assert (
            result.exit_code == 2
            and "ChangedFile" in result.stderr
            and "put the trained one back" in result.stderr
        ), result.output
        assert weights.read_bytes() == other
    weights.write_bytes((finished.model / "model.safetensors").read_bytes())
    assert call("publish", copy.path).exit_code == 0


def test_a_ranking_file_of_another_run_is_noticed_by_every_stage(
    baselines: RunFolder, experiment_file: Path, tmp_path: Path
) -> None:
    copy = RunFolder(Path(shutil.copytree(baselines.path, tmp_path / "copy")))
    shutil.copy(copy.ranking("retrieval", "popularity"), copy.ranking("retrieval", "item_knn"))
    for command in ("evaluate", "report"):
        result = call(command, experiment_file, "--out", copy.path, *BASELINES)
        assert result.exit_code == 2 and "run `shelftalk recommend`" in result.stderr, result.output
    again = call("recommend", experiment_file, "--out", copy.path, *BASELINES)
    assert "recommend.popularity      unchanged" in again.stdout
    assert "done again: rankings/retrieval.item_knn.parquet was changed" in again.stdout
    assert call("evaluate", experiment_file, "--out", copy.path, *BASELINES).exit_code == 0
    assert metrics(copy) == metrics(baselines)


@pytest.mark.parametrize(
    "name", ["metrics.json", "evaluation/retrieval.parquet", "evaluation/slices.parquet"]
)
def test_the_report_does_not_tell_of_changed_figures(
    name: str, baselines: RunFolder, experiment_file: Path, tmp_path: Path
) -> None:
    copy = RunFolder(Path(shutil.copytree(baselines.path, tmp_path / "copy")))
    one_bit_other(copy.path / name)
    result = call("report", experiment_file, "--out", copy.path, *BASELINES)
    assert result.exit_code == 2 and "run `shelftalk evaluate`" in result.stderr
    assert call("evaluate", experiment_file, "--out", copy.path, *BASELINES).exit_code == 0
    assert call("report", experiment_file, "--out", copy.path, *BASELINES).exit_code == 0
    assert metrics(copy) == metrics(baselines)


def test_answers_in_another_order_are_joined_by_their_keys_and_answers_to_others_refused(
    baselines: RunFolder, experiment_file: Path, tiny: Experiment
) -> None:
    split = Run(baselines, tiny).split
    for task, model in (("rating", "bias"), ("retrieval", "popularity")):
        frame = pl.read_parquet(baselines.ranking(task, model))
        turned = in_order_of_requests(frame.reverse(), split, task, baselines, f"recommend.{model}")
        assert turned.equals(frame)
        for wrong in (
            frame[1:],
            pl.concat([frame[1:], frame[1:2]]),
            frame.with_columns(user=pl.lit("nobody")),
        ):
            with pytest.raises(ChangedFile, match="does not answer the requests"):
                in_order_of_requests(wrong, split, task, baselines, f"recommend.{model}")


def test_a_folder_of_the_version_before_is_refused_in_a_sentence_that_helps(
    baselines: RunFolder, experiment_file: Path, tmp_path: Path
) -> None:
    copy = RunFolder(Path(shutil.copytree(baselines.path, tmp_path / "copy")))
    for manifest in copy.path.glob("stages/*.json"):
        values = json.loads(manifest.read_text())
        manifest.write_text(
            json.dumps(
                {name: values.get(name) for name in ("name", "inputs", "seconds", "peak_gigabytes", "facts")}
            )
        )
    (copy.path / "stages" / "experiment.json").unlink()
    before = contents(copy.path)
    result = call("run", experiment_file, "--out", copy.path, *BASELINES)
    assert (
        result.exit_code == 2
        and result.stderr.startswith("AnotherExperiment")
        and "earlier version" in result.stderr
    )
    assert contents(copy.path) == before
    assert len(done_in_the_end(copy, experiment_file, *BASELINES)) == 1
    assert metrics(copy) == metrics(baselines)


def test_samples_may_be_removed_and_come_back_without_training_again(
    finished: RunFolder, experiment_file: Path, tmp_path: Path
) -> None:
    copy = RunFolder(Path(shutil.copytree(finished.path, tmp_path / "copy")))
    before = contents(copy.path)
    shutil.rmtree(copy.samples)
    records = json.loads(call("run", experiment_file, "--out", copy.path, "--json").stdout)["stages"]
    assert [stage["stage"] for stage in records if not stage["skipped"]] == ["write"]
    assert contents(copy.samples) == {
        n.removeprefix("samples/"): c for n, c in before.items() if n.startswith("samples/")
    }
