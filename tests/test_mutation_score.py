"""`make mutants`: what it names exists, and its records are counted by module."""

from __future__ import annotations

import importlib.util
import json
import tomllib
from pathlib import Path

import pytest

from tests.mutation_score import main, outcomes_by_module, rows, table

ROOT = Path(__file__).parents[1]


def test_what_is_mutated_and_tested_and_preloaded_is_there() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutmut"]
    for path in (*settings["only_mutate"], *settings["pytest_add_cli_args_test_selection"]):
        assert (ROOT / path).exists(), path
    lines = (ROOT / settings["preload_modules_file"]).read_text(encoding="utf-8").splitlines()
    modules = [line for line in lines if not line.startswith("#")]
    assert modules and all(importlib.util.find_spec(module) for module in modules)


def test_mutants_are_counted_by_module_and_those_that_no_test_killed_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("x_f__mutmut_1", "x_f__mutmut_2", "x_f__mutmut_3", "x_g__mutmut_1", "x_h__mutmut_1")
    codes = {f"a.{name}": code for name, code in zip(names, (1, 0, 36, 33, None), strict=True)}
    (tmp_path / "src" / "pack").mkdir(parents=True)
    (tmp_path / "src" / "pack" / "a.py.meta").write_text(json.dumps({"exit_code_by_key": codes}))
    (tmp_path / "src" / "pack" / "b.py.meta").write_text(
        json.dumps({"exit_code_by_key": {"b.x_f__mutmut_1": None}})
    )
    counted = rows(outcomes_by_module(tmp_path))
    assert table(counted).splitlines()[2:] == ["| `pack/a.py` | 5 | 4 | 1 | 1 | 1 | 1 | 0 |"]
    main([str(tmp_path)], tmp_path)
    left = {"a.x_f__mutmut_2": "survived", "a.x_f__mutmut_3": "timeout", "a.x_g__mutmut_1": "no tests"}
    assert capsys.readouterr().out.splitlines()[3:] == [
        f"{outcome}: {name}" for name, outcome in left.items()
    ]
    assert json.loads((tmp_path / "mutants.json").read_text())["runs"] == [*counted, {"not killed": left}]
