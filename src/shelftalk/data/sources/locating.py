"""Where the files of a data source are: named ones, a folder of interactions and items, or the folder of a
published data set."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from shelftalk.data.sources.formats import FORMATS
from shelftalk.data.sources.layouts import LAYOUTS, Files, Layout
from shelftalk.data.sources.settings import DataSettings
from shelftalk.data.sources.text_files import STARTS
from shelftalk.errors import MissingFile, SettingsError, UnreadableFile

BUNDLED = Path(__file__).parent.parent / "bundled"


@dataclass(frozen=True, slots=True)
class Source:
    """A source's name and its files. `layout` is that of a published data set, or None where interactions and
    items are files of one of FORMATS."""

    name: str
    files: Files
    layout: Layout | None = None

    @property
    def items_path(self) -> Path:
        """The file of the catalogue; that of the interactions where it has none."""
        return self.files.get("items", self.files["interactions"])


def locate(settings: DataSettings) -> Source:
    """The files that the settings name. Raises MissingFile or UnreadableFile, and SettingsError for names of
    columns beside a published data set, which has its own."""
    source = _located(settings)
    for name in ("interactions_columns", "items_columns"):
        if source.layout is not None and getattr(settings, name):
            raise SettingsError(
                f'"{settings.folder}" is read as {source.layout.title}, whose columns are known; leave '
                f"data.{name} out."
            )
    return source


def _located(settings: DataSettings) -> Source:
    if settings.interactions is not None and settings.items is not None:
        events, items = Path(settings.interactions).expanduser(), Path(settings.items).expanduser()
        return Source(f"{events.name} and {items.name}", {"interactions": events, "items": items})
    if settings.folder is not None:
        return _in_folder(Path(settings.folder).expanduser(), settings.layout)
    folder = BUNDLED / str(settings.bundled_name)
    files = {role: _one_file(folder, role) for role in ("interactions", "items")}
    return Source(f"{settings.bundled_name} (bundled)", files)


def source_hashes(settings: DataSettings) -> tuple[str, ...]:
    """SHA-256 of every file: whether the data is still the same. Raises MissingFile or UnreadableFile."""
    files = locate(settings).files
    for path in files.values():
        check_file(path)
    return tuple(sha256(path) for path in files.values())


def check_file(path: Path) -> None:
    """Raise MissingFile or UnreadableFile for what is no file."""
    if not path.exists():
        raise MissingFile(f'there is no file "{path}"; correct the path.')
    if path.is_dir():
        raise UnreadableFile(f'"{path}" is a folder; name a file, or set data.folder to read a folder.')
    if not path.is_file():
        raise UnreadableFile(
            f'"{path}" is a pipe or a device, and data is read more than once; write it into a file first.'
        )


def sha256(path: Path) -> str:
    """Of a file's content as it is stored."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _in_folder(folder: Path, layout: str | None) -> Source:
    """The files of a folder: those of the layout that is named, else interactions.* and items.*, else those
    of the layout that it shows."""
    if not folder.is_dir():
        raise MissingFile(
            f'there is no folder "{folder}"; set data.folder to one that holds interactions and items.'
        )
    name = folder.resolve().name
    if layout is not None:
        return _published(folder, name, layout)
    if _files_of(folder, "interactions") or _files_of(folder, "items"):
        return Source(name, {role: _one_file(folder, role) for role in ("interactions", "items")})
    return _recognised(folder, name)


def _recognised(folder: Path, name: str) -> Source:
    """The first layout whose files the folder holds."""
    ambiguous: UnreadableFile | None = None
    for layout in LAYOUTS.values():
        try:
            if (files := layout.files_in(folder)) is not None:
                return Source(f"{name} ({layout.title})", files, layout)
        except UnreadableFile as error:
            ambiguous = ambiguous or error
    raise ambiguous or MissingFile(
        f'the folder "{folder}" holds no file interactions with one of the endings {", ".join(FORMATS)}, '
        f"nor the files of a published data set ({', '.join(LAYOUTS)}); add them."
    )


def _published(folder: Path, name: str, key: str) -> Source:
    layout = LAYOUTS[key]
    files = layout.files_in(folder)
    if files is None:
        wanted = "; ".join(f"{role}: {' or '.join(patterns)}" for role, patterns in layout.needed.items())
        raise MissingFile(
            f'the folder "{folder}" does not hold the files of {layout.title} ({wanted}); put them there, or '
            "leave data.layout out."
        )
    return Source(f"{name} ({layout.title})", files, layout)


def _files_of(folder: Path, stem: str) -> list[Path]:
    """The files of that name with an ending that has a reader."""
    endings = [
        ending + packed
        for ending, one in FORMATS.items()
        for packed in ("", *(STARTS if one.is_text else ()))
    ]
    return [path for ending in endings if (path := folder / (stem + ending)).is_file()]


def _one_file(folder: Path, stem: str) -> Path:
    files = _files_of(folder, stem)
    if not files:
        raise MissingFile(
            f'the folder "{folder}" holds no file {stem} with one of the endings {", ".join(FORMATS)}; '
            "add it."
        )
    if len(files) > 1:
        raise UnreadableFile(
            f'the folder "{folder}" holds both {files[0].name} and {files[1].name}; '
            "remove one, or name the files in data.interactions and data.items."
        )
    return files[0]
