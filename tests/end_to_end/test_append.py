"""New interactions and items appended to a run: what is known stays, what is new is learned."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from shelftalk.data.sources import DataSettings, read_dataset
from shelftalk.data.splitting import Split
from shelftalk.errors import AnotherExperiment, NothingLeft, SettingsError
from shelftalk.experiment import saved_experiment
from shelftalk.indexing.continued import continued
from shelftalk.indexing.item_index import IndexSettings, ItemIndex
from shelftalk.indexing.numbers import build as build_numbers
from shelftalk.indexing.semantic import build as build_semantic
from shelftalk.indexing.titles import build as build_titles
from shelftalk.pipeline import continuation, stages
from shelftalk.pipeline.continuation import append
from shelftalk.pipeline.run import Run
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.tasks.samples import read_samples
from shelftalk.testing.worlds import tiny_world
from tests.end_to_end.tiny import call

NEW_ITEM = "a new item"


@pytest.fixture(scope="module")
def new_files(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Three later events of one user, one of them of a new item; four of a new user; a row that is known."""
    folder = tmp_path_factory.mktemp("new")
    events, items = (pl.read_parquet(world / f"{name}.parquet") for name in ("interactions", "items"))
    old = events["user_id"][0]
    taken = set(events.filter(pl.col("user_id") == old)["item_id"].to_list())
    untaken = [item for item in items["item_id"].to_list() if item not in taken]
    last = int(events["timestamp"].max())  # type: ignore[arg-type]
    rows = [(old, item, last + 60 * at) for at, item in enumerate([NEW_ITEM, *untaken[:2]], 1)]
    rows += [("a new user", item, last + 60 * at) for at, item in enumerate([*untaken[:3], NEW_ITEM], 1)]
    new = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    ratings = new.with_columns(rating=pl.lit(4.0), nanosecond=pl.lit(0, pl.Int64)).select(events.columns)
    pl.concat([ratings, events[:1]]).write_parquet(folder / "interactions.parquet")
    item = items[:1].with_columns(item_id=pl.lit(NEW_ITEM), title=pl.lit("Something new"))
    pl.concat([item, items[:2]]).write_parquet(folder / "items.parquet")
    return folder / "interactions.parquet", folder / "items.parquet"


@pytest.fixture(scope="module")
def appended(
    finished: RunFolder, new_files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> RunFolder:
    """A run that goes on where the finished one is, up to its samples."""
    out = tmp_path_factory.mktemp("appended") / "more"
    result = call(
        "append", finished.path, "--interactions", new_files[0], "--items", new_files[1], "--out", out,
        "--epochs", "1", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    counts = ("interactions", "interactions known before", "items", "items known before", "users")
    assert [told[name] for name in counts] == [7, 1, 1, 2, 1]
    assert told["next"] == f"shelftalk run {out / 'experiment.toml'} --out {out}"
    folder = RunFolder(out)
    for stage in ("prepare", "index", "write"):
        result = call(stage, out / "experiment.toml", "--out", out)
        assert result.exit_code == 0, result.output
    return folder


def test_the_data_is_that_of_all_rows_at_once(
    appended: RunFolder, world: Path, new_files: tuple[Path, Path], tmp_path: Path
) -> None:
    for name, new in zip(("interactions", "items"), new_files, strict=True):
        frames = [pl.read_parquet(world / f"{name}.parquet"), pl.read_parquet(new)]
        pl.concat(frames, how="vertical").unique(maintain_order=True).write_parquet(
            tmp_path / f"{name}.parquet"
        )
    whole, _ = read_dataset(DataSettings(folder=str(tmp_path), k_core=1), 3)
    assert Split.load(appended.dataset).dataset.fingerprint() == whole.fingerprint()


def test_items_keep_their_names_and_new_ones_get_names_of_their_own(
    finished: RunFolder, appended: RunFolder
) -> None:
    known, more = ItemIndex.load(finished.item_index), ItemIndex.load(appended.item_index)
    assert {item: more.name(item) for item in known.item_ids} == {
        item: known.name(item) for item in known.item_ids
    }
    assert set(more.item_ids) - set(known.item_ids) == {NEW_ITEM}


def test_samples_are_of_what_is_new_alone(finished: RunFolder, appended: RunFolder) -> None:
    """Users without a new training event, and known items by themselves, are in none; no known event bears
    loss in the next-item samples."""
    before, after = Split.load(finished.dataset), Split.load(appended.dataset)
    samples = list(read_samples(appended.epoch(0)))
    trained = {
        user: stop - start
        for split in (before, after)
        for user, (start, stop) in zip(split.dataset.user_ids, split.training_bounds.tolist(), strict=True)
        if split is after
    }
    known = dict(
        zip(
            before.dataset.user_ids,
            (before.training_bounds[:, 1] - before.training_bounds[:, 0]).tolist(),
            strict=True,
        )
    )
    with_new = {user for user, number in trained.items() if number > known.get(user, 0)}
    assert {sample.user for sample in samples if sample.user} == with_new and "a new user" in with_new
    assert {sample.items for sample in samples if not sample.user} <= {(NEW_ITEM,)}
    for sample in samples:
        if sample.task == "retrieval":
            targets = sum(segment.bears_loss and segment.symbols for segment in sample.segments)
            assert 0 < targets <= trained[sample.user] - known.get(sample.user, 0)


def test_the_training_begins_at_the_weights_of_the_old_model(
    finished: RunFolder, appended: RunFolder
) -> None:
    from shelftalk.models.pretrained import load_backbone
    from shelftalk.pipeline.fresh_backbone import new_backbone

    experiment = saved_experiment(appended)
    run, old = Run(appended, experiment), load_backbone(finished.model)
    new = new_backbone(run)
    known = ItemIndex.load(finished.item_index)
    for symbol in known.vocabulary:
        rows = [
            backbone.model.get_input_embeddings().weight[backbone.tokens(symbol, symbols=True)[0]]
            for backbone in (old, new)
        ]
        assert rows[0].equal(rows[1])
    assert run.index.name(NEW_ITEM) in new.tokenizer.get_vocab()


def test_the_same_call_again_changes_nothing_and_another_is_refused(
    finished: RunFolder, appended: RunFolder, new_files: tuple[Path, Path], world: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in appended.path.rglob("*") if path.is_file()}
    _, counts = append(finished.path, *new_files, appended.path, {"epochs": 1})
    assert counts["again"] and counts["interactions"] == 7
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(AnotherExperiment, match="choose another --out"):
        append(finished.path, new_files[0], None, appended.path)
    with pytest.raises(NothingLeft, match="give newer ones"):
        append(finished.path, world / "interactions.parquet", None, appended.path.parent / "nothing")
    assert not (appended.path.parent / "nothing").exists()


def test_what_is_interrupted_leaves_nothing(
    finished: RunFolder, new_files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(continuation, "save_experiment", cut)
    with pytest.raises(KeyboardInterrupt):
        append(finished.path, *new_files, tmp_path / "more")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "..more.lock"]
    monkeypatch.undo()
    append(finished.path, *new_files, tmp_path / "more")
    assert (tmp_path / "more" / "experiment.toml").exists()


@pytest.mark.parametrize(
    ("build", "settings"),
    [
        (build_titles, IndexSettings(scheme="titles")),
        (build_semantic, IndexSettings(scheme="semantic", codes=4, dimensions=4)),
    ],
    ids=["titles", "semantic"],
)
def test_every_scheme_names_items_that_join(build: object, settings: IndexSettings) -> None:
    small, large = (stages.split_dataset(world, stages_settings(), 0) for world in worlds())
    known = build(small, settings, 0)  # type: ignore[operator]
    more = continued(known, large, settings)
    assert set(more.item_ids) == set(large.dataset.item_ids) and len(set(more.names)) == len(more.names)
    assert all(more.name(item) == known.name(item) for item in known.item_ids)
    if settings.scheme == "semantic":
        stems = {name[: name.rindex("<")] for name in known.names}
        assert {name[: name.rindex("<")] for name in more.names} == stems


def test_numbers_go_on_while_their_digits_last() -> None:
    small, large = (stages.split_dataset(world, stages_settings(), 0) for world in worlds())
    known = build_numbers(small, IndexSettings(scheme="numbers"), 0)
    if len(str(len(large.dataset.item_ids) - 1)) > len(known.names[0]):
        with pytest.raises(SettingsError, match="train a run of all data anew"):
            continued(known, large, IndexSettings(scheme="numbers"))
    else:
        assert len(set(continued(known, large, IndexSettings(scheme="numbers")).names)) == len(
            large.dataset.item_ids
        )


def stages_settings() -> object:
    from shelftalk.data.splitting import SplitSettings

    return SplitSettings(ranking_negatives=5)


def worlds() -> tuple[object, object]:
    """A world, and one of more items."""
    large = tiny_world(users=30, items=50)
    kept = set(large.item_ids[:40])
    from shelftalk.data.dataset import make_dataset

    events = large.events.filter(pl.col("item_id").is_in(list(kept)))
    return make_dataset(
        large.items.filter(pl.col("item_id").is_in(list(kept))), events.with_columns(position=None)
    ), large
