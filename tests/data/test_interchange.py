"""A split for other libraries: what is written is read back by a few lines of csv, pandas and polars, and is
the split."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelftalk.data.dataset import Dataset, make_dataset
from shelftalk.data.interchange import FORMATS, export_split
from shelftalk.data.interchange.escaping import MISSING, escaped, plain
from shelftalk.data.splitting import CONTEXT, TEST, TRAIN, VALIDATION, Split, SplitSettings, split_dataset
from shelftalk.errors import SettingsError
from shelftalk.testing.worlds import nasty_world, tiny_world

SCHEMES = ("leave_one_out", "leave_last_n", "by_user", "global_time", "random")
PARTS = {"train": TRAIN, "validation": VALIDATION, "test": TEST, "context": CONTEXT}
PHASE = {"train": "train", "validation": "valid", "test": "test", "context": "context"}


def world_of_odd_ids() -> Dataset:
    """The nasty world, with ids that end fields, look like missing values, or are escapes already."""
    world = nasty_world()
    odd = [
        "a b",
        "tab\tbed",
        "two\nlines",
        "100%",
        "%20",
        "#1",
        '"quoted"',
        "NA",
        "nan",
        "None",
        "é\u00a0x",
        "\u2028",
        "🎬",
        "x#1",
        "A",
        "a%20b",
    ]
    items = dict(zip(world.items["item_id"].to_list(), odd, strict=False))
    users = dict(zip(world.user_ids, odd, strict=False))
    return make_dataset(
        world.items.with_columns(pl.col("item_id").replace(items)),
        world.events.with_columns(pl.col("item_id").replace(items), pl.col("user_id").replace(users)),
    )


@pytest.fixture(params=SCHEMES)
def split(request: pytest.FixtureRequest) -> Split:
    return split_dataset(world_of_odd_ids(), SplitSettings(scheme=request.param), 0)


def taken(split: Split) -> dict[str, list[tuple[str, str]]]:
    """Part -> user and item of its events."""
    pairs = list(split.dataset.events.select("user_id", "item_id").iter_rows())
    return {
        part: [pair for pair, one in zip(pairs, split.event_part, strict=True) if one == number]
        for part, number in PARTS.items()
    }


def fields(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text("utf-8").removesuffix("\n").split("\n")]


def test_parquet_holds_events_requests_candidates_and_catalogue(split, tmp_path):
    folder = export_split(split, tmp_path / "out", "parquet", "shop")
    for part, pairs in taken(split).items():
        path = folder / f"{part}.parquet"
        assert path.exists() == bool(pairs)
        if pairs:
            assert pl.read_parquet(path).select("user_id", "item_id").rows() == pairs
    train = pl.read_parquet(folder / "train.parquet")
    chosen = split.event_part == TRAIN
    assert train.drop("rating").equals(split.dataset.events.filter(pl.Series(chosen)).drop("rating"))
    visible = train["rating"].fill_null(float("nan")).to_numpy()
    assert np.array_equal(visible, split.visible_rating[chosen], equal_nan=True)
    for part in ("validation", "test"):
        asked, truths = split.ranking_requests(part)
        rows = pl.read_parquet(folder / f"requests.{part}.parquet").rows(named=True)
        assert [
            (r.user, list(r.history), truth, list(r.candidates))
            for r, truth in zip(asked, truths, strict=True)
        ] == [(row["user_id"], row["history"], row["item_id"], row["candidates"]) for row in rows]
        assert len({(row["user_id"], row["request"]) for row in rows}) == len(rows)
    assert pl.read_parquet(folder / "items.parquet").equals(split.dataset.items)


def test_parquet_holds_the_ratings_of_the_rating_partition_and_no_other(tmp_path):
    split = split_dataset(tiny_world(), SplitSettings(), 0)
    folder = export_split(split, tmp_path / "out", "parquet", "shop")
    known = {
        (user, item): rating
        for user, item, rating in split.dataset.events.select("user_id", "item_id", "rating").rows()
    }
    seen: set[tuple[str, str]] = set()
    for part, number in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST)):
        frame = pl.read_parquet(folder / f"ratings.{part}.parquet")
        pairs = frame.select("user_id", "item_id").rows()
        assert len(pairs) == (split.rating_part == number).sum() and not seen & set(pairs)
        assert frame["rating"].to_list() == [known[pair] for pair in pairs]
        seen |= set(pairs)
    for part in ("train", "validation", "test"):  # no held-out value stands beside an event
        shown = pl.read_parquet(folder / f"{part}.parquet").filter(pl.col("rating").is_not_null())
        training = set(pl.read_parquet(folder / "ratings.train.parquet").select("user_id", "item_id").rows())
        assert set(shown.select("user_id", "item_id").rows()) <= training
    assert (
        not export_split(split_of_no_ratings(), tmp_path / "bare", "parquet", "shop")
        .joinpath("ratings.test.parquet")
        .exists()
    )


def split_of_no_ratings() -> Split:
    return split_dataset(tiny_world(ratings=False), SplitSettings(), 0)


def test_recbole_files_are_read_back_as_the_split(split, tmp_path):
    folder = export_split(split, tmp_path / "out", "recbole", "shop")
    for part, pairs in taken(split).items():
        path = folder / "shop" / f"shop.{PHASE[part]}.inter"
        assert path.exists() == bool(pairs)
        if pairs:
            header, *rows = fields(path)
            assert header[:2] == ["user_id:token", "item_id:token"]
            assert [(unquote(user), unquote(item)) for user, item, *_ in rows] == pairs
    header, *rows = fields(folder / "shop/shop.item")
    assert header[0] == "item_id:token" and {name.split(":")[1] for name in header} <= {
        "token",
        "token_seq",
        "float",
    }
    assert [unquote(row[0]) for row in rows] == split.dataset.item_ids
    assert all(len(row) == len(header) for row in rows)


def test_recbole_sequences_are_all_prefixes_in_training_and_the_requests_elsewhere(split, tmp_path):
    folder = export_split(split, tmp_path / "out", "recbole", "shop") / "shop-sequential"

    def read(phase: str) -> list[tuple[str, tuple[str, ...], str]]:
        header, *rows = fields(folder / f"shop-sequential.{phase}.inter")
        assert header == ["user_id:token", "item_id_list:token_seq", "item_id:token"]
        return [(unquote(u), tuple(map(unquote, seq.split(" "))), unquote(i)) for u, seq, i in rows]

    wanted = []
    ids = split.dataset.events["item_id"].to_list()
    for user, (first, stop) in zip(split.dataset.user_ids, split.training_bounds.tolist(), strict=True):
        wanted += [(user, tuple(ids[first:row]), ids[row]) for row in range(first + 1, stop)]
    assert read("train") == wanted
    for part, phase in (("validation", "valid"), ("test", "test")):
        requests, truths = split.retrieval_requests(part)
        assert read(phase) == [(r.user, r.history, t) for r, t in zip(requests, truths, strict=True)]


def test_pandas_as_recbole_calls_it_loses_no_id(tmp_path):
    """RecBole reads its files by pandas with its default quotes and missing values."""
    pd = pytest.importorskip("pandas", reason="pandas, which RecBole reads its files by, is not installed")
    split = split_dataset(world_of_odd_ids(), SplitSettings(), 0)
    folder = export_split(split, tmp_path / "out", "recbole", "shop")
    frame = pd.read_csv(folder / "shop/shop.train.inter", delimiter="\t", dtype=str, encoding="utf-8")
    assert not frame.isna().any().any()
    assert (
        list(zip(frame["user_id:token"].map(unquote), frame["item_id:token"].map(unquote), strict=True))
        == taken(split)["train"]
    )
    items = pd.read_csv(folder / "shop/shop.item", delimiter="\t", dtype=str, encoding="utf-8")
    assert list(items["item_id:token"].map(unquote)) == split.dataset.item_ids


def test_recbole_ratings_are_a_data_set_of_their_own(tmp_path):
    split = split_dataset(tiny_world(), SplitSettings(), 0)
    folder = export_split(split, tmp_path / "out", "recbole", "shop") / "shop-rating"
    for phase, number in (("train", TRAIN), ("valid", VALIDATION), ("test", TEST)):
        header, *rows = fields(folder / f"shop-rating.{phase}.inter")
        assert header[2] == "rating:float"
        known = split.dataset.event_rating[split.rating_part == number]
        assert [float(row[2]) for row in rows] == known.tolist()
    bare = export_split(split_of_no_ratings(), tmp_path / "bare", "recbole", "shop")
    assert not (bare / "shop-rating").exists()


def test_trec_files_are_read_back_as_the_split(split, tmp_path):
    folder = export_split(split, tmp_path / "out", "trec", "shop")
    for part in ("validation", "test"):
        requests, truths = split.ranking_requests(part)
        qrels = [line.split() for line in (folder / f"qrels.{part}.txt").read_text("utf-8").splitlines()]
        topics = dict(fields(folder / f"topics.{part}.tsv"))
        candidates: dict[str, list[str]] = {}
        for line in (folder / f"candidates.{part}.run").read_text("utf-8").splitlines():
            topic, q0, item, rank, score, _ = line.split()
            candidates.setdefault(topic, []).append(unquote(item))
            assert (q0, float(score), int(rank)) == ("Q0", 0.0, len(candidates[topic]))
        assert len(topics) == len(qrels) == len(requests)
        for (topic, zero, item, one), request, truth in zip(qrels, requests, truths, strict=True):
            assert (zero, one, unquote(item)) == ("0", "1", truth)
            assert unquote(topic.partition("#")[0]) == request.user
            assert tuple(map(unquote, topics[topic].split(" "))) == request.history
            assert candidates[topic] == list(request.candidates)
        assert ("#" in qrels[0][0]) == (split.scheme == "leave_last_n")
    trained = [
        (unquote(u), unquote(i)) for u, items in fields(folder / "train.tsv") for i in items.split(" ")
    ]
    assert trained == taken(split)["train"]
    assert [unquote(row[0]) for row in fields(folder / "items.tsv")] == split.dataset.item_ids


def test_ordinary_ids_are_written_as_they_are(tmp_path):
    split = split_dataset(tiny_world(), SplitSettings(), 0)
    for name in ("recbole", "trec"):
        export_split(split, tmp_path / name, name, "shop")
        assert "Ids are written as they are." in (tmp_path / name / "README.md").read_text()
    first = fields(tmp_path / "recbole/shop/shop.train.inter")[1]
    assert first[:2] == list(split.dataset.events.row(0)[:2])


@settings(max_examples=400, deadline=None)
@given(st.lists(st.text(min_size=1), min_size=2, max_size=2, unique=True))
def test_an_escaped_id_is_one_field_and_comes_back(ids):
    try:
        one, other = map(escaped, ids)
        for text in ids:
            text.encode()
    except UnicodeEncodeError:
        return  # half a surrogate pair is no text, and no reader lets it in
    assert one != other
    for written, text in zip((one, other), ids, strict=True):
        assert unquote(written) == text and written.split() == [written] and written not in MISSING
        assert next(csv.reader([f"{written}\tx"], delimiter="\t")) == [written, "x"]
        assert "\n" not in written and "\r" not in written


@given(st.text())
def test_a_plain_text_stays_in_its_field(text):
    assert "\t" not in plain(text) and "\n" not in plain(text) and '"' not in plain(text)
    assert len(plain(text).splitlines()) <= 1


def test_every_export_says_how_it_is_used_and_how_results_come_back(tmp_path):
    for scheme in SCHEMES:
        split = split_dataset(tiny_world(), SplitSettings(scheme=scheme), 0)
        for name in FORMATS:
            page = (export_split(split, tmp_path / scheme / name, name, "shop") / "README.md").read_text()
            assert split.protocol.sentence in page and split.fingerprint() in page
            assert not re.search(r"\{\w*\}", page), "a placeholder is left"
            back = "takes no results on this split" if scheme == "leave_last_n" else "--scores theirs.parquet"
            assert back in page
            for file in re.findall(r"^- `([\w.-]+\.(?:parquet|tsv|txt|run))`:", page, re.MULTILINE):
                assert (tmp_path / scheme / name / file).exists(), file


def test_a_folder_that_holds_something_and_an_unknown_format_are_refused_and_the_remedies_work(tmp_path):
    split = split_dataset(tiny_world(), SplitSettings(), 0)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("kept")
    with pytest.raises(SettingsError, match="name another --out, or remove it"):
        export_split(split, tmp_path / "full", "trec", "shop")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    export_split(split, tmp_path / "another", "trec", "shop")
    with pytest.raises(SettingsError, match="choose one of parquet, recbole, trec") as caught:
        export_split(split, tmp_path / "new", "csv", "shop")
    for name in re.findall(r"\b(parquet|recbole|trec)\b", str(caught.value)):
        export_split(split, tmp_path / name, name, "shop")


def test_an_interrupted_export_leaves_nothing(tmp_path, monkeypatch):
    from shelftalk.data.interchange import export

    def broken(split: Split, folder: Path, name: str) -> str:
        (folder / "half.txt").write_text("half")
        raise OSError("no space")

    monkeypatch.setitem(export.FORMATS, "trec", broken)
    with pytest.raises(OSError, match="no space"):
        export_split(split_of_no_ratings(), tmp_path / "out", "trec", "shop")
    assert list(tmp_path.iterdir()) == []
