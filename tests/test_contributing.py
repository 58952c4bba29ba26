"""The example of CONTRIBUTING.md, applied to a copy of the package: one file, one entry, one exam."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shelftalk.testing.worlds import tiny_world
from tests.end_to_end.tiny import save_world, write_experiment

ROOT = Path(__file__).parent.parent
EXAMPLE = re.compile(r"```diff\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with src/ and tests/ to which the page's diff has been applied."""
    folder = tmp_path_factory.mktemp("contributing")
    leave = shutil.ignore_patterns("__pycache__", "bundled")
    shutil.copytree(ROOT / "src" / "shelftalk", folder / "src" / "shelftalk", ignore=leave)
    diff = EXAMPLE.search((ROOT / "CONTRIBUTING.md").read_text("utf-8"))
    assert diff, "CONTRIBUTING.md has no example"
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    command = ["git", "apply", "-"]
    done = subprocess.run(command, input=diff[1], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def in_the_copy(folder: Path, *arguments: str | Path) -> str:
    """What `python -m ...` prints with the changed package."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example_adds_a_line_to_one_file_of_the_package_and_is_formatted(copy: Path) -> None:
    changed = [
        str(path.relative_to(copy))
        for path in copy.rglob("*.py")
        if not (ROOT / path.relative_to(copy)).exists()
        or path.read_bytes() != (ROOT / path.relative_to(copy)).read_bytes()
    ]
    new, table, exam = "baselines/trending.py", "parts.py", "tests/baselines/test_trending.py"
    assert sorted(changed) == [f"src/shelftalk/{new}", f"src/shelftalk/{table}", exam]
    for command in (("format", "--check"), ("check",)):
        in_the_copy(
            copy, "ruff", *command, "--config", ROOT / "pyproject.toml", *(copy / name for name in changed)
        )


def test_the_baseline_of_the_example_passes_its_exam(copy: Path) -> None:
    assert re.search(r"\d+ passed", in_the_copy(copy, "pytest", "-p", "no:cacheprovider", copy / "tests"))


def test_the_baseline_of_the_example_is_evaluated_and_its_settings_ask_it_alone(copy: Path) -> None:
    world = save_world(tiny_world(users=30, items=50), copy / "data")

    def stages(**changes: object) -> dict[str, bool]:
        """Stage -> whether it was done."""
        file = write_experiment(copy / "tiny.toml", world, **changes)
        models = ("--models", "trending,popularity")
        result = json.loads(
            in_the_copy(copy, "shelftalk", "run", file, *models, "--out", copy / "run", "--json")
        )
        assert 0 < result["metrics"]["retrieval"]["trending"]["recall@20"] <= 1
        return {stage["stage"]: not stage["skipped"] for stage in result["stages"]}

    assert all(stages().values())
    again = stages(baselines={"trending": {"events": 1}})
    assert {name for name, done in again.items() if done} == {"recommend.trending", "evaluate", "report"}
