"""What is known of the code of one's own parts: the module, what it imports of one's own, and versions of
what is installed."""

from __future__ import annotations

import sys
import types
from importlib import metadata
from pathlib import Path

import pytest

from shelftalk.runtime.own_source import source_of

FILES = {
    "shop_models/__init__.py": "",
    "shop_models/mine.py": (
        "import json, numpy as np\nfrom .parts import deep\nimport shelftalk\n"
        "def m():\n    import shop_late\n"
    ),
    "shop_models/parts/__init__.py": "from . import side\n",
    "shop_models/parts/deep.py": "from ..base import *\nimport shop_models.mine\n",
    "shop_models/parts/side.py": "",
    "shop_models/base.py": "try:\n    import no_such_module_anywhere\nexcept ImportError:\n    pass\n",
    "shop_models/unused.py": "raise RuntimeError('must not be imported')\n",
    "shop_late.py": "raise RuntimeError('must not be imported')\n",
}
USED = {
    "shop_models", "shop_models.mine", "shop_models.parts", "shop_models.parts.deep",
    "shop_models.parts.side", "shop_models.base", "shop_late",
}  # fmt: skip


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_every_own_module_that_the_code_imports_is_known_and_nothing_is_imported_for_it(shop: Path) -> None:
    source = source_of("shop_models.mine:model")
    assert set(source["modules"]) == USED and source["not_looked_at"] == []
    assert source["distributions"] == {"numpy": metadata.version("numpy")}
    assert not {"shop_models", "shop_late"} & set(sys.modules)


@pytest.mark.parametrize("name", [name for name in FILES if name != "shop_models/unused.py"])
def test_a_change_in_any_of_them_is_seen_and_in_others_not(name: str, shop: Path) -> None:
    before = source_of("shop_models.mine:model")
    (shop / "shop_models" / "unused.py").write_text("0")
    assert source_of("shop_models.mine:model") == before
    (shop / name).write_text(FILES[name] + "\n# another\n")
    assert source_of("shop_models.mine:model") != before


def test_an_installed_part_is_known_by_its_version(shop: Path) -> None:
    source = source_of("sklearn.dummy:DummyClassifier")
    assert source == {
        "modules": {},
        "distributions": {"scikit-learn": metadata.version("scikit-learn")},
        "not_looked_at": [],
    }


def test_code_without_a_file_is_named_as_unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "made_in_memory", types.ModuleType("made_in_memory"))
    assert source_of("made_in_memory:model")["not_looked_at"] == ["made_in_memory"]


def test_a_file_that_is_no_python_is_left_to_whoever_loads_it(shop: Path) -> None:
    (shop / "shop_late.py").write_text("def broken(:")
    assert set(source_of("shop_late:model")["modules"]) == {"shop_late"}
