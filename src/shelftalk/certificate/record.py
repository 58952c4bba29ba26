"""certificate.json: the facts that a machine checked about a run, and the hashes of all that it stands on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from shelftalk import __version__
from shelftalk.errors import ChangedFile, MissingFile
from shelftalk.experiment import Experiment
from shelftalk.runtime import file_hashes, machine
from shelftalk.runtime.run_folder import RunFolder, StageRecord, fingerprint, read_signed

_KNOWN = ("version", "settings", "stages", "hashes", "versions", "hardware")
FORMAT = 1
"""Of certificate.json; a reader refuses another."""
PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Fact:
    """One thing that was checked about a run."""

    name: str
    """A few words, the same in every run."""
    checked: str
    """What was checked, in a sentence."""
    value: Any
    """What came out, as JSON."""
    holds: bool | None
    """Whether it is as it must be; None where it could not be checked."""
    how: str
    """How it was checked, or why it could not be."""


@dataclass(frozen=True)
class Certificate:
    """The content of certificate.json, and its `fingerprint`, which can be published with the figures."""

    fingerprint: str
    version: str
    settings: str
    """SHA-256 of all settings that a stage depends on."""
    stages: Mapping[str, str]
    """Stage -> hash of what its manifest states (see `stated`)."""
    hashes: Mapping[str, Any]
    versions: Mapping[str, str]
    hardware: Mapping[str, Any]
    facts: tuple[Fact, ...]

    @property
    def made_here(self) -> bool:
        """Whether this machine has the processor and the libraries with which the run was certified, so that
        what is made again is the same to the byte."""
        named, model = self.hardware["processor"], self.hardware.get("processor model")
        same_processor = (named, model) == (machine.processor(), machine.processor_model())
        return same_processor and self.versions == machine.versions() and self.program == program_hash()

    @property
    def program(self) -> str:
        """Hash of the program that certified the run."""
        return str(self.hashes["program"])


def stated(record: StageRecord) -> str:
    """SHA-256 of what a manifest states: what the stage depended on, what it noted, and the hash of each file
    that it wrote. Its time and memory are left out: the same stage done again states the same."""
    noted = {name: value for name, value in record.facts.items() if name != "seconds_before"}
    files = {name: facts and facts["sha256"] for name, facts in record.outputs.items()}
    return fingerprint([record.name, record.inputs, noted, files])


def settings_hash(settings: Mapping[str, Any]) -> str:
    """SHA-256 of the settings, as a run saved them, that some stage before the report depends on. A later
    version, which has more settings, gives the same for the same run."""
    return fingerprint(_without(settings, Experiment.fields_where(lambda role: role.stages == ())))


def _without(settings: Mapping[str, Any], excluded: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings without the fields `excluded`, each True or the fields of a section."""
    return {
        name: _without(value, excluded[name]) if isinstance(excluded.get(name), Mapping) else value
        for name, value in settings.items()
        if excluded.get(name) is not True
    }


@cache
def program_hash() -> str:
    """SHA-256 of the program itself: all its modules, templates and tables."""
    kinds = (".py", ".toml", ".jinja", ".css")
    files = sorted(path for path in PACKAGE.rglob("*") if path.suffix in kinds)
    return fingerprint({path.relative_to(PACKAGE).as_posix(): file_hashes.sha256(path) for path in files})


def certificate_content(
    experiment: Experiment, records: Mapping[str, StageRecord], facts: tuple[Fact, ...], split: str
) -> dict[str, Any]:
    """What certificate.json holds; `split` is the fingerprint of the split as its files are."""
    outputs = {name: facts for record in records.values() for name, facts in record.outputs.items()}
    data = records["prepare"].facts["data"]
    index = outputs.get("item_index.parquet")
    own: dict[str, Any] = {}
    for record in records.values():
        own |= record.inputs.get("own sources", {})
    hashes = {
        "data": {data[f"{file}_file"]: data[f"{file}_sha256"] for file in ("interactions", "items")},
        "split": split,
        "item index": index and index["sha256"],
        "samples": _together(outputs, "samples/"),
        "model": _together(outputs, "model/"),
        "program": program_hash(),
        "own code": own,
    }
    return {
        "format": FORMAT,
        "run": experiment.name,
        "seed": experiment.seed,
        "version": __version__,
        "settings": settings_hash(experiment.model_dump(mode="json")),
        "stages": {name: stated(record) for name, record in records.items()},
        "hashes": hashes,
        "facts": [asdict(fact) for fact in facts],
        "versions": machine.versions(),
        "hardware": _hardware(),
    }


def _hardware() -> dict[str, str | int]:
    """What this machine is, without what changes from hour to hour."""
    known = machine.hardware_facts()
    memory = str(known["memory"]).partition(",")[0]
    kept = ("system", "processor", "processor model", "cores")
    return {**{name: known[name] for name in kept}, "memory": memory}


def read_certificate(folder: RunFolder) -> Certificate:
    """Raises MissingFile where there is none, and ChangedFile for one that is not as it was written."""
    path = folder.certificate
    try:
        content = read_signed(path)
        if content["format"] != FORMAT:
            raise ValueError(f"it has the format {content['format']}, and this version reads {FORMAT}")
        facts = tuple(Fact(**fact) for fact in content["facts"])
        known = {name: content[name] for name in _KNOWN}
        return Certificate(fingerprint=fingerprint(content), facts=facts, **known)
    except FileNotFoundError:
        raise MissingFile(f'"{path}" is not there; run {folder.command("report")}.') from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = error if isinstance(error, ValueError) else "its content is not that of a certificate"
        raise ChangedFile(
            f'"{path}" is not the certificate that was written ({reason}); remove it and run '
            f"{folder.command('report')}: it is written anew."
        ) from None


def _together(outputs: Mapping[str, Any], folder: str) -> str | None:
    """One hash of all files of a folder; None where there are none."""
    files = {name: facts["sha256"] for name, facts in outputs.items() if facts and name.startswith(folder)}
    return fingerprint(files) if files else None
