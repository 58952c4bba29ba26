"""Kinds of tampering with a finished run of the tiny experiment, and how a forger covers them up."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from shelftalk.runtime import file_hashes
from shelftalk.runtime.run_folder import RunFolder, remove, write_signed
from tests.end_to_end.tiny import call, sign_anew

Tamper = Callable[[RunFolder], None]


def change(path: Path, edit: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    edit(pl.read_parquet(path, glob=False)).write_parquet(path)


def cell(path: Path, column: str, row: int, value: Any) -> None:
    """Another value in one cell."""

    def edit(frame: pl.DataFrame) -> pl.DataFrame:
        values = frame[column].to_list()
        values[row] = value(values[row]) if callable(value) else value
        return frame.with_columns(pl.Series(column, values, frame[column].dtype))

    change(path, edit)


def edit_text(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text, f"{path} does not hold {old!r}"
    path.write_text(text.replace(old, new, 1), "utf-8")


def edit_json(path: Path, edit: Callable[[Any], None], sign: bool = False) -> None:
    value = json.loads(path.read_text("utf-8"))
    value.pop("sha256", None) if sign else None
    edit(value)
    write_signed(path, value) if sign else path.write_text(json.dumps(value, indent=1))


def swap_listed(run: RunFolder) -> None:
    """The first list that holds its truth ends with it instead of whatever stands there."""
    table = pl.read_parquet(run.evaluation("retrieval")).filter(model="item_knn")
    row = table.with_row_index().filter(pl.col("rank") < 15)["index"][0]
    rank = int(table["rank"][row])

    def moved(items: list[str]) -> list[str]:
        items[rank - 1], items[-1] = items[-1], items[rank - 1]
        return items

    cell(run.ranking("retrieval", "item_knn"), "items", row, moved)


def swap_users(run: RunFolder) -> None:
    table = pl.read_parquet(run.evaluation("retrieval")).with_row_index()
    ranked = table.filter(model="item_knn").unique("rank", maintain_order=True)["index"]
    first, second = ranked[0], ranked[1]
    order = list(range(len(table)))
    order[first], order[second] = second, first
    keys = table.select("user", "item")[order]
    change(run.evaluation("retrieval"), lambda frame: frame.with_columns(keys["user"], keys["item"]))


def move_event(run: RunFolder) -> None:
    """A training event becomes an event that is in no part's requests: the part of the one before."""
    path = run.dataset / "partition.parquet"
    parts = pl.read_parquet(path)["event_part"].to_list()
    last = max(row for row, part in enumerate(parts) if part == 0)
    cell(path, "event_part", last, 1)


def other_candidates(run: RunFolder) -> None:
    path = run.dataset / "candidates.parquet"
    rows = pl.read_parquet(path)["test"][0].to_list()
    items = len(pl.read_parquet(run.dataset / "items.parquet"))
    taken = set(rows)
    cell(path, "test", 0, [next(one for one in range(items) if one not in taken), *rows[1:]])


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(bytes(content))


def other_sample(run: RunFolder) -> None:
    change(run.epoch(0), lambda frame: frame.reverse())


def other_index(run: RunFolder) -> None:
    """Two items exchange their names."""
    frame = pl.read_parquet(run.item_index)
    names = next(name for name in frame.columns if name not in ("item", "item_id"))
    values = frame[names].to_list()
    values[0], values[1] = values[1], values[0]
    change(run.item_index, lambda f: f.with_columns(pl.Series(names, values, f[names].dtype)))


def report_number(run: RunFolder) -> None:
    def edit(content: Any) -> None:
        content["tasks"][0]["rows"][0]["metrics"]["recall@10"] += 0.01

    edit_json(run.path / "report.json", edit)


def page_figure(run: RunFolder) -> None:
    text = (run.path / "report.html").read_text("utf-8")
    figure = re.search(r">(\.\d\d\d\d)<", text)
    assert figure
    other = f".{(int(figure[1][1:]) + 111) % 10_000:04d}"
    edit_text(run.path / "report.html", figure[0], f">{other}<")


def metric_digit(run: RunFolder) -> None:
    def edit(metrics: Any) -> None:
        metrics["retrieval"]["item_knn"]["ndcg@10"] += 0.001

    edit_json(run.metrics, edit)


def interval_end(run: RunFolder) -> None:
    def edit(metrics: Any) -> None:
        metrics["ranking"]["item_knn.ci"]["hr@1"][0] += 0.001

    edit_json(run.metrics, edit)


def other_setting(run: RunFolder) -> None:
    """Both files that hold the settings."""
    edit_text(run.experiment, "seed = 3", "seed = 4")
    edit_json(run.signed_experiment, lambda value: value["experiment"].update(seed=4), sign=True)


def other_facts(run: RunFolder) -> None:
    edit_json(run.manifest("write"), lambda value: value["facts"]["samples"].update(ranking=9), sign=True)


def certified_fact(run: RunFolder) -> None:
    """Signed again, and the new fingerprint written into the manifest."""

    def edit(content: Any) -> None:
        fact = next(fact for fact in content["facts"] if fact["name"] == "candidates")
        fact["value"]["each"] = "1 + 99"

    edit_json(run.certificate, edit, sign=True)
    sign_certificate(run)


def shorter_log(run: RunFolder) -> None:
    run.evaluation_log.write_bytes(b"")


def estimate(run: RunFolder) -> None:
    cell(run.ranking("rating", "bias"), "estimate", 0, lambda value: value + 0.25)


def a_seen_item(run: RunFolder) -> None:
    """The first list is given an item of the user's history, last, where it changes no rank."""
    path = run.ranking("retrieval", "popularity")
    user = pl.read_parquet(path)["user"][0]
    events = pl.read_parquet(run.dataset / "events.parquet").filter(user_id=user)
    cell(path, "items", 0, lambda items: [*items[:-1], events["item_id"][0]])


def another_runs_answers(run: RunFolder) -> None:
    shutil.copy(run.ranking("ranking", "popularity"), run.ranking("ranking", "item_knn"))


def sign_certificate(run: RunFolder) -> None:
    """What a forger does last: the certify stage has the certificate as it is now."""
    sign_anew(run, "certify")
    signed = json.loads(run.certificate.read_text())["sha256"]
    edit_json(run.manifest("certify"), lambda value: value["facts"].update(certificate=signed), sign=True)


def covered_up(run: RunFolder) -> None:
    """All that a forger with the program can do: every manifest says that its stage wrote what is there now,
    on what is there before it, and certificate and report are written anew."""
    if not _report_is_whole(run):
        sign_anew(run, "report")
        return
    stages = [path.stem for path in run.path.glob("stages/*.json")]
    stages = [stage for stage in stages if stage not in ("experiment", "certify", "report")]
    for stage in stages:
        sign_anew(run, stage)
    for _ in stages:  # fingerprints name each other along the chain
        fingerprints = {stage: record.fingerprint for stage in stages if (record := run.record(stage))}
        for stage in stages:
            edit_json(run.manifest(stage), partial(_built_on, fingerprints), sign=True)
    for stage in ("certify", "report"):
        remove(run.manifest(stage))
    call("report", run.experiment, "--out", run.path)


def _report_is_whole(run: RunFolder) -> bool:
    """Whether it is not the report that was tampered with."""
    record = run.record("report")
    return record is not None and not file_hashes.changed(record.outputs, run.path)


def _built_on(fingerprints: dict[str, str], manifest: Any) -> None:
    inputs = manifest["inputs"]
    for table in (inputs, inputs.get("built on", {}), inputs.get("recommend", {})):
        named = [name for name, value in table.items() if name in fingerprints and len(value) == 64]
        table.update({name: fingerprints[name] for name in named})


@dataclass(frozen=True)
class Kind:
    """A kind of tampering, what `verify` must call it, and whether it is found when all hashes are made to
    fit."""

    name: str
    tamper: Tamper
    called: str
    follows: bool = True


KINDS = [
    Kind("a rank in a per-user file", lambda run: cell(run.evaluation("retrieval"), "rank", 0, 1.0), "rank"),
    Kind("a list", swap_listed, "rank"),
    Kind("an estimate", estimate, "rank"),
    Kind("a list with a seen item", a_seen_item, "answers"),
    Kind("two users swapped", swap_users, "rank"),
    Kind("a user removed", lambda run: change(run.evaluation("ranking"), lambda frame: frame[1:]), "rank"),
    Kind("a digit of a metric", metric_digit, "metric"),
    Kind("an interval", interval_end, "interval"),
    Kind("a slice", lambda run: cell(run.evaluation("slices"), "ndcg@10", 0, 0.5), "slice"),
    Kind("a difference", lambda run: cell(run.evaluation("differences"), "value", 0, 0.5), "difference"),
    Kind("a p-value", lambda run: cell(run.evaluation("differences"), "p", 0, 0.0001), "difference"),
    Kind("a number of report.json", report_number, "report"),
    Kind("a figure of report.html", page_figure, "report"),
    Kind("a part of the split", move_event, "split"),
    Kind("the candidates", other_candidates, "candidates"),
    Kind("the item index", other_index, "item index"),
    Kind("the samples", other_sample, "samples"),
    Kind("the model's weights", lambda run: flip_last_byte(run.model / "model.safetensors"), "model", False),
    Kind("answers of another model", another_runs_answers, "rank"),
    Kind("experiment.toml", lambda run: edit_text(run.experiment, "seed = 3", "seed = 4"), "settings"),
    Kind("all files of the settings", other_setting, "settings"),
    Kind("a manifest", lambda run: edit_text(run.manifest("evaluate"), '"seed": 3', '"seed": 5'), "manifest"),
    Kind("a manifest, signed again", other_facts, "manifest", False),
    Kind("a manifest removed", lambda run: run.manifest("recommend.bias").unlink(), "missing manifest"),
    Kind("the certificate", lambda run: edit_text(run.certificate, '"1 + 20"', '"1 + 99"'), "certificate"),
    Kind("the certificate, signed again", certified_fact, "candidates"),
    Kind("no certificate", lambda run: run.certificate.unlink(), "certificate"),
    Kind("the log of evaluations", shorter_log, "evaluation log"),
]
LEFT_TO_HASHES = {
    "experiment.toml", "all files of the settings", "a manifest", "a manifest removed", "the certificate",
    "no certificate", "the certificate, signed again",
}  # fmt: skip
"""These tamper with what would be made to fit."""
