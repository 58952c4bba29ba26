"""What stands where in a published folder, and how it is known that nothing of it was changed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from shelftalk.errors import AnotherExperiment, MissingFile, UnreadableFile

FACTS = "shelftalk.json"
"""Split hash, wordings, nouns, rating scale, prior weights, and the SHA-256 of every other file that answers depend on."""
CARD = "README.md"
EXPERIMENT = "experiment.toml"
INDEX = "item_index.parquet"
CATALOGUE = "catalogue.parquet"
TEMPLATES = "templates"
HOLD = (
    ("*.safetensors", "weights"),
    ("config.json", "architecture"),
    ("generation_config.json", "settings of `generate` inside the item trie"),
    ("tokenizer*", "tokenizer"),
    (INDEX, "item names"),
    ("item_trie/*", "item names as the model's tokens"),
    (CATALOGUE, "item ids and texts"),
    (f"{TEMPLATES}/*", "wordings"),
    (EXPERIMENT, "every setting, paths left out"),
    (FACTS, "split hash, rating scale, prior weights, hashes of the files"),
    (CARD, "the model card"),
)
"""Pattern -> what such a file holds, for people."""


def hashes(folder: Path) -> dict[str, str]:
    """Path inside the folder -> SHA-256, for every file but the card, which may be edited, and the facts that hold this."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    named = {path.relative_to(folder).as_posix(): path for path in found}
    return {name: _hash(path) for name, path in named.items() if name not in (FACTS, CARD)}


def read_facts(folder: Path) -> dict[str, Any]:
    """The facts of a published folder whose files are those it was published with.

    Raises MissingFile where the folder or a file of it is not there, UnreadableFile where the facts are no JSON, and AnotherExperiment
    where a file is another one: weights, item names and wordings of different trainings answer without an error, and wrongly.
    """
    facts = published_facts(folder)
    if facts is None:
        raise MissingFile(f'"{folder}" holds no published model; make one by `shelftalk publish RUN`, or mend the path.')
    for name, wanted in facts["files"].items():
        if not (folder / name).exists():
            raise MissingFile(f'"{name}" is missing in "{folder}"; fetch the folder again as a whole, or publish the run again.')
        if _hash(folder / name) != wanted:
            raise AnotherExperiment(
                f'"{name}" in "{folder}" is not the file that this model was published with; fetch the folder again as a whole, or '
                "publish the run again."
            )
    return facts


def published_facts(folder: Path) -> dict[str, Any] | None:
    """The facts as they stand, or None where this is no published folder (the model/ of a run is none). Raises UnreadableFile."""
    try:
        facts = json.loads((folder / FACTS).read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise UnreadableFile(f'"{folder / FACTS}" is not valid JSON ({error}); fetch the folder again, or publish again.') from None
    return facts if isinstance(facts, dict) and "files" in facts else None


def told(folder: Path, address: str | None, as_json: bool) -> str:
    """What is in the folder, files of one kind in one row, and where it was pushed to; `as_json`: as one JSON object."""
    sizes = {pattern: sum(path.stat().st_size for path in folder.glob(pattern)) for pattern, _ in HOLD}
    rows = [(pattern, sizes[pattern], what) for pattern, what in HOLD if sizes[pattern]]
    if as_json:
        files = [{"files": pattern, "bytes": size, "holds": what} for pattern, size, what in rows]
        return json.dumps({"folder": str(folder), "pushed_to": address, "files": files}, indent=1)
    lines = [f"{pattern:<24}{size / 1e6:>10.2f} MB  {what}" for pattern, size, what in rows]
    return "\n".join([*lines, f"Folder: {folder}", *([f"Pushed to: {address}"] if address else [])])


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
