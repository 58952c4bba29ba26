"""Whether the files of a run are those that its stages wrote, each manifest the one that others name, and the
data and split those that the run began with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

from shelftalk.certificate.record import Certificate, settings_hash, stated
from shelftalk.certificate.run_files import RunFiles
from shelftalk.data.sources import read_dataset, source_hashes
from shelftalk.data.splitting import Split, split_dataset
from shelftalk.errors import MissingFile, ShelftalkError
from shelftalk.experiment import Experiment, load_experiment, saved_experiment, validated
from shelftalk.runtime.file_hashes import sha256
from shelftalk.runtime.run_folder import RunFolder, StageRecord, built_on, differing, read_signed

Problem = tuple[str, str]
"""Kind, and a sentence."""
KINDS = {
    "dataset/partition.parquet": "split",
    "dataset/candidates.parquet": "candidates",
    "dataset/": "data",
    "item_index.parquet": "item index",
    "symbol_vectors.parquet": "item index",
    "samples/": "samples",
    "model/": "model",
    "rankings/": "answers",
    "evaluation/slices.parquet": "slice",
    "evaluation/differences.parquet": "difference",
    "evaluation/": "per-user table",
    "metrics.json": "metric",
    "certificate.json": "certificate",
    "report.": "report",
}
"""Beginning of a file's path in the run -> what the file holds."""
WHAT = {
    "split": "the partition of the data", "candidates": "the ranking candidates", "data": "the data set",
    "item index": "the item index", "samples": "training samples", "model": "the trained model",
    "answers": "a model's answers", "slice": "the slices", "difference": "the paired differences",
    "per-user table": "a per-user table", "metric": "the metrics", "certificate": "the certificate",
    "report": "the report", "file": "a file of the run",
}  # fmt: skip
RESPLIT_EVENTS = 2_000_000
"""Most interactions that are read and split again without `complete`."""


def kind_of(name: str) -> str:
    """What a file of a run holds, by its path in the folder."""
    return next((kind for start, kind in KINDS.items() if name.startswith(start)), "file")


def read_records(folder: RunFolder, stages: list[str]) -> tuple[dict[str, StageRecord], list[Problem]]:
    """The manifests that are there and whole; a problem for each other one."""
    records, problems = {}, []
    for stage in stages:
        path = folder.manifest(stage)
        try:
            record = folder.record(stage)
        except ShelftalkError as error:
            problems.append(("manifest", f"{_reason(error)}."))
            continue
        if record is not None:
            records[stage] = record
        elif stage == "certify":
            problems.append(
                (
                    "certificate",
                    f'"{path}" is not there: the run has no certificate; run {folder.command("report")}.',
                )
            )
        elif stage != "report":
            problems.append(("missing manifest", f'"{path}" is not there, the manifest of a finished stage.'))
    return records, problems


def file_problems(
    folder: RunFolder, records: dict[str, StageRecord], on_bytes: Callable[[int, str], None]
) -> Iterator[Problem]:
    """Every file of every manifest, read as a whole. `on_bytes` is told of bytes read and the file."""
    for stage, record in records.items():
        for name, facts in record.outputs.items():
            path, kind = folder.path / name, kind_of(name)
            if facts is None:
                if path.exists():
                    yield kind, f'"{path}" is there, and the stage "{stage}" wrote no such file.'
                continue
            if not path.is_file():
                yield kind, f'"{path}" is gone: {WHAT[kind]}, written by the stage "{stage}".'
                continue
            if sha256(path) != facts["sha256"]:
                yield kind, f'"{path}" ({WHAT[kind]}) is not the file that the stage "{stage}" wrote.'
            on_bytes(path.stat().st_size, name)


def total_bytes(folder: RunFolder, records: dict[str, StageRecord]) -> int:
    """Bytes of all files that the manifests name and that are there."""
    names = {name for record in records.values() for name, facts in record.outputs.items() if facts}
    return sum((folder.path / name).stat().st_size for name in names if (folder.path / name).is_file())


def chain_problems(records: dict[str, StageRecord]) -> Iterator[Problem]:
    """Whether each stage was built on the earlier ones as they are now."""
    for stage, record in records.items():
        for earlier, wanted in built_on(record).items():
            if earlier in records and records[earlier].fingerprint != wanted:
                yield (
                    "manifest",
                    f'The stage "{stage}" was built on another "{earlier}" than stages/ has now.',
                )


def certificate_problems(
    folder: RunFolder,
    records: dict[str, StageRecord],
    certificate: Certificate,
    published: str | None,
) -> Iterator[Problem]:
    """Whether the certificate is the published one, and manifests and settings those that it names."""
    if published and certificate.fingerprint != published.strip().lower():
        yield (
            "certificate",
            f"The certificate has the fingerprint {certificate.fingerprint}, not {published}.",
        )
    noted = records["certify"].facts.get("certificate") if "certify" in records else None
    if noted not in (None, certificate.fingerprint):
        yield "certificate", f'"{folder.certificate}" is not the certificate that the stage "certify" wrote.'
    for stage, wanted in certificate.stages.items():
        if stage in records and stated(records[stage]) != wanted:
            yield (
                "manifest",
                f'"{folder.manifest(stage)}" states something else than the manifest that was certified.',
            )
    with suppress(OSError, ValueError, KeyError, TypeError):  # what cannot be read is described elsewhere
        if settings_hash(read_signed(folder.signed_experiment)["experiment"]) != certificate.settings:
            yield "settings", "The settings of the run are others than those that were certified."


def split_problems(files: RunFiles, certificate: Certificate | None) -> Iterator[Problem]:
    """Whether dataset/ holds the split that the manifests and the certificate name."""
    now = files.split.fingerprint()
    noted = (
        {"prepare's manifest": files.records["prepare"].facts.get("split")}
        if "prepare" in files.records
        else {}
    )
    if certificate:
        noted["the certificate"] = certificate.hashes["split"]
    for where, wanted in noted.items():
        if wanted != now:
            yield "split", f'"{files.folder.dataset}" holds another split than {where} names.'


def data_problems(files: RunFiles, complete: bool, left_out: list[str]) -> Iterator[Problem]:
    """Whether the data files are those that were read, and give the same split again."""
    experiment = files.experiment
    try:
        now = list(source_hashes(experiment.data))
    except MissingFile as error:
        left_out.append(f"the data files, which are not on this machine ({_reason(error)})")
        return
    if "prepare" not in files.records:
        return
    known, names = files.records["prepare"].inputs["files"], ("interactions", "items")
    changed = [name for name, one, other in zip(names, now, known, strict=True) if one != other]
    for name in changed:
        yield "data file", f"The file of the {name} is not the one that the run was made from."
    if changed:
        return
    events = files.records["prepare"].facts["data"]["rows_read"]
    if not complete and events > RESPLIT_EVENTS:
        left_out.append(f"reading and splitting the data again ({events:,} rows); --complete does it")
        return
    again = _split_again(experiment)
    for name, kind in (("candidates", "candidates"), ("fingerprint", "split")):
        if name == "fingerprint" and again.fingerprint() != files.split.fingerprint():
            yield (
                kind,
                "The data files, split by the settings of the run, give another split than dataset/ holds.",
            )
        elif name == "candidates" and any(
            again.candidates[part].tobytes() != rows.tobytes()
            for part, rows in files.split.candidates.items()
        ):
            yield (
                kind,
                "The ranking candidates of dataset/ are not those that the seed draws from the data files.",
            )


def read_settings(folder: RunFolder) -> tuple[Experiment, list[Problem]]:
    """The settings that the run had, and whether experiment.toml shows them. Raises MissingFile or
    ChangedFile where neither of its two files can be read."""
    try:
        signed = validated(Experiment, read_signed(folder.signed_experiment)["experiment"], "")
    except (OSError, ValueError, KeyError, TypeError, ShelftalkError) as error:
        problem = f'"{folder.signed_experiment}" cannot be read ({_reason(error)}): the settings of the run.'
        return saved_experiment(folder), [("settings", problem)]
    try:
        shown = load_experiment(folder.experiment)
    except (OSError, ShelftalkError) as error:
        return signed, [("settings", f'"{folder.experiment}" cannot be read ({_reason(error)}).')]
    edited = differing(signed.model_dump(mode="json"), shown.model_dump(mode="json"))
    where = ", ".join(edited[:3])
    problem = f'"{folder.experiment}" was edited after the run began (in {where}).'
    return signed, [("settings", problem)] if edited else []


def _split_again(experiment: Experiment) -> Split:
    dataset, _ = read_dataset(
        experiment.data, experiment.seed, order_needed=experiment.split.scheme != "random"
    )
    return split_dataset(dataset, experiment.split, experiment.seed, experiment.data.training_core)


def _reason(error: Exception) -> str:
    return str(error).strip().rstrip(".")
