"""Every block of code in the pages works: TOML loads, Python runs in page order, command lines are commands.

Each page has a folder in which a shop, its experiment, a finished run and a published model are. Commands on
that shop are carried out where they take seconds; all others are read by the program's own parser.
"""

from __future__ import annotations

import gzip
import importlib
import json
import os
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer.main

from shelftalk.app.cli import app
from shelftalk.experiment import load_experiment
from shelftalk.pipeline import stages
from shelftalk.publishing.publish import publish
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.studies.ablation.grid import load_grid
from shelftalk.studies.tuning.space import load_space
from shelftalk.testing.worlds import tiny_world
from tests.decoding.small_models import small
from tests.end_to_end.tiny import call, write_experiment

ROOT = Path(__file__).parent.parent
GENERATED = {"api.md", "cli.md", "settings.md", "walkthrough.md"}
"""Compared with the program by tests/test_house_rules.py."""
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PAGES += sorted(path for path in (ROOT / "docs").glob("*.md") if path.name not in GENERATED)
MODULE = re.compile(r"# ([\w/]+\.py)\n")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TESTED_ELSEWHERE = {"text", "diff"}
"""Trees and prompts: tests/test_house_rules.py; the diff: tests/test_contributing.py."""
OTHER_PROGRAMS = {"tensorboard", "python", ".ci/run", "curl", "pip"}
"""tests/serving/test_docs.py sends what `curl` would."""
QUICK = {"run", "show", "publish", "constraints"}
"""Commands that are carried out on the shop, which has 30 customers."""
PLACEHOLDERS = {"FOLDER": "shop", "FILE.toml": "my-shop.toml"}
HUB_NAME = "HuggingFaceTB/SmolLM2-135M"
"""Of a model that a page opens; a small one takes its place."""
TINY: dict[str, Any] = {
    "name": "my-shop",
    "seed": 0,
    "nano": {"width": 16, "layers": 1, "heads": 2, "vocabulary": 300},
    "training": {"epochs": 1, "max_steps": 3, "validations": 1, "validation_samples": 5},
    "baselines": {
        "item_knn": {"text_weight": [0.3], "decay": [0.7], "max_history": [5]},
        "bias": {"user_damping": [5.0], "item_damping": [5.0]},
    },
    "evaluation": {"search_error_users": 3},
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [Block(m[1], m[2], text[: m.start()].count("\n") + 2) for m in FENCE.finditer(text)]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the pages name: data, experiment, run, published model. Tests copy it."""
    import torch

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("docs") / "folder"
    world = tiny_world(users=30, items=120)
    ids = {item: f"B{row:02}" for row, item in enumerate(world.item_ids)}
    labels = {"tea": "Shampoos", "lamps": "Conditioners", "Northwind": "OPI"}
    items = world.items.with_columns(world.items["item_id"].replace(ids)).with_columns(
        world.items[name].replace(labels) for name in ("categories", "brand")
    )
    events = world.events.with_columns(world.events["item_id"].replace(ids)).drop("position")
    (folder / "shop").mkdir(parents=True)
    for name, frame in (("orders", events), ("products", items)):
        frame.with_columns(frame["item_id"].alias("sku")).write_csv(folder / f"{name}.csv")
    (folder / "orders.csv.gz").write_bytes(gzip.compress((folder / "orders.csv").read_bytes()))
    items.write_parquet(folder / "shop" / "items.parquet")
    events.write_parquet(folder / "shop" / "interactions.parquet")
    templates = ROOT / "src" / "shelftalk" / "tasks" / "templates"
    shutil.copy(templates / "retrieval.toml", folder / "my-retrieval.toml")
    shutil.copy(templates / "masked_items.toml", folder / "bundles.toml")
    for saved in small("decoder-only"):
        saved.save_pretrained(folder / "small")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        file = write_experiment(folder / "my-shop.toml", Path("shop"), **TINY)
        best = folder / "runs" / "tuning" / "my-shop" / "best.toml"  # what `shelftalk tune` writes
        best.parent.mkdir(parents=True)
        shutil.copy(file, best)
        stages.run_all(RunFolder(Path("runs/my-shop")), load_experiment("my-shop.toml"))
        publish(Path("runs/my-shop"), Path("runs/my-shop/published"))
    return folder


@pytest.fixture
def folder(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the shop as the working directory, from which modules can be imported."""
    copy = Path(shutil.copytree(shop, tmp_path / "copy"))
    monkeypatch.chdir(copy)
    monkeypatch.syspath_prepend(copy)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield copy
    for name in [name for name in sys.modules if name.split(".")[0] == "my_shop"]:
        del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_a_page_works(page: Path, folder: Path) -> None:
    for block in blocks(page):
        if named := MODULE.match(block.text):  # first of all, since TOML names what is in them
            (folder / named[1]).parent.mkdir(exist_ok=True)
            (folder / named[1]).write_text(block.text)
    names: dict[str, Any] = {"__name__": page.stem}
    for block in blocks(page):
        at = f"{page.name}:{block.line}"
        if block.language == "toml":
            load_toml(block.text, folder)
        elif block.language == "sh":
            for line in block.text.splitlines():
                check_line(line, at)
        elif block.language == "python":
            exec(compile(block.text.replace(HUB_NAME, "small"), at, "exec"), names)
        else:
            assert block.language in TESTED_ELSEWHERE, f"{at}: no test reads such a block"


def test_the_notebook_shows_an_answer_of_every_cell_and_its_cells_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    made = importlib.import_module("generate_notebook")
    shown = json.loads(made.NOTEBOOK.read_text("utf-8"))
    assert shown["nbformat"] == 4 and [
        (cell["cell_type"], "".join(cell["source"])) for cell in shown["cells"]
    ] == list(made.CELLS)
    code = [cell for cell in shown["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"][0]["data"]["text/plain"] for cell in code)
    assert sum("<table" in "".join(cell["outputs"][0]["data"].get("text/html", "")) for cell in code) >= 4
    again = made.notebook(made.run_cells("runs/my-shop/published"))
    assert [cell["source"] for cell in again["cells"]] == [cell["source"] for cell in shown["cells"]]


def lacks_cornac(text: str) -> bool:
    """Whether it names a model of Cornac, an extra, where that is not installed."""
    return "cornac:" in text and find_spec("cornac") is None


def load_toml(text: str, folder: Path) -> None:
    """A grid, a space or a part of an experiment, under the name that its first line gives."""
    named = re.match(r"# ([\w-]+\.toml)\n", text)
    path = folder / (named[1] if named else "block.toml")
    path.write_text(text)
    tables = tomllib.loads(text)
    if lacks_cornac(text):
        return
    if "ablation" in tables:
        assert load_grid(path).variants
    elif "tuning" in tables:
        assert load_space(folder / "my-shop.toml", path)
    else:
        load_experiment(path)


def check_line(line: str, at: str) -> None:
    """One line of a shell: its program and files are there, the parser takes it, and it may be run."""
    words = [PLACEHOLDERS.get(word, word) for word in shlex.split(line, comments=True)]
    if not words:
        return
    for word in words:
        if word.startswith(("experiments/", "launch/")):
            assert (ROOT / word).exists(), f"{at}: there is no {word}"
    program, *arguments = words
    launched = program in ("torchrun", "accelerate")
    if launched:
        arguments = arguments[arguments.index("-m") + 1 :]
        program, *arguments = arguments
    if program == "make":
        targets = re.findall(r"^(\S+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        assert all(word in targets or "=" in word for word in arguments), f"{at}: {line}"
    elif program == "shelftalk":
        parse(arguments, at)
        own = not any(word.startswith("experiments/") or word.startswith("--push") for word in arguments)
        if own and not launched and arguments[0] in QUICK:
            carry_out(arguments, at)
    else:
        assert program in OTHER_PROGRAMS, f"{at}: what is {program}?"


def parse(arguments: list[str], at: str) -> None:
    """By the program's own parser: the command, its options and the number of its arguments are right."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("shelftalk", list(arguments))
    while getattr(command, "commands", None):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        assert command, f"{at}: there is no command {name}"
        context = command.make_context(name, rest, parent=context)


CARRIED_OUT: set[tuple[str, ...]] = set()
"""A line that two pages have is carried out once, a run once on each page."""


def carry_out(arguments: list[str], at: str) -> None:
    # what later lines of a page work on is in the folder of that page
    once = (at.partition(":")[0] if arguments[0] == "run" else "", *arguments)
    if once in CARRIED_OUT or lacks_cornac(" ".join(arguments)):
        return
    CARRIED_OUT.add(once)
    if arguments[0] == "publish":
        shutil.rmtree("runs/my-shop/published", ignore_errors=True)
    result = call(*arguments)
    assert result.exit_code == 0, f"{at}: shelftalk {' '.join(arguments)}: {result.output}"


def test_a_wrong_command_a_wrong_option_and_a_missing_file_are_noticed(folder: Path) -> None:
    for line in (
        "shelftalk runn my-shop.toml",
        "shelftalk run --dat FOLDER",
        "shelftalk publish a b",
        "shelftalk ablate experiments/ablations/none.toml",
        "make tests",
        "ftalk run",
    ):
        with pytest.raises(BaseException):  # noqa: B017 - of the parser's own kind
            check_line(line, "here")
    assert os.getcwd() == str(folder)
