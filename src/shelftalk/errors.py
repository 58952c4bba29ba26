"""What can go wrong, as a family. Each message is one sentence that ends in the remedy; the command line
prints it alone.

ShelftalkError                 anything a user can correct; exit code 2
├─ DataError                   the interactions or the catalogue
│  ├─ MissingFile
│  ├─ UnreadableFile           truncated, or not of the format of its name
│  ├─ DownloadFailed           a public data set that no mirror gives
│  ├─ MissingColumn
│  ├─ BadValue                 a rating, time or position that is not a number; mixed types
│  ├─ UnknownItem              in the interactions, not in the catalogue
│  ├─ UnknownLabel             a category or brand of a filter that no item has
│  ├─ DuplicateItem            one item id on two catalogue rows
│  ├─ TooFewEvents             a user whom leave-one-out cannot split
│  ├─ NothingLeft              the k-core filter removed everything
│  └─ BadScores                a score file that does not answer the requests of the run
├─ SettingsError               the experiment file or the command line
│  ├─ UnknownSetting
│  └─ UnknownPart              a task, index, model ... of an unknown name
├─ TemplateError               a template that cannot be filled in
├─ DuplicateName               two items with one name in an index
├─ BadRequest                  an invalid request or filter; a ValueError too
├─ RunError                    the run folder
│  ├─ AnotherExperiment        the folder holds the run of another experiment
│  ├─ StageMissing             an earlier stage has not been run
│  ├─ ChangedFile              a file of it is damaged, or is not the one that its stage wrote
│  ├─ InUse                    another process works in it
│  └─ NoSpace                  no space left on the device
├─ HubError                    a hub: no token, no network, a refusal
└─ IllegalMove                 decoding left the item trie: a defect of this package, never of the data
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

REASON_CHARACTERS = 300
"""Most characters quoted of a library's message."""


class ShelftalkError(Exception):
    """Anything a user can correct. The message is one sentence with the remedy."""


class DataError(ShelftalkError):
    """The interactions or the catalogue."""


class MissingFile(DataError):
    """A named file is not there."""


class UnreadableFile(DataError):
    """A file is truncated, or not of the format of its name."""


class DownloadFailed(DataError):
    """A file of a public data set cannot be downloaded; the message says where to put it by hand."""


class MissingColumn(DataError):
    """A needed column is not in the file."""


class BadValue(DataError):
    """A rating, time or position is not a number, or a column mixes types."""


class UnknownItem(DataError):
    """An item of the interactions is not in the catalogue."""


class UnknownLabel(DataError):
    """A filter names a category or a brand that no item of the catalogue has."""


class DuplicateItem(DataError):
    """One item id is on two catalogue rows."""


class TooFewEvents(DataError):
    """A user has too few events to be split."""


class NothingLeft(DataError):
    """The k-core filter removed everything."""


class BadScores(DataError):
    """A score file of another system does not answer the requests of the run."""


class SettingsError(ShelftalkError):
    """The experiment file or the command line."""


class UnknownSetting(SettingsError):
    """A setting that no stage reads."""


class UnknownPart(SettingsError):
    """A task, index, model or baseline of an unknown name."""


class TemplateError(ShelftalkError):
    """A template that cannot be filled in."""


class DuplicateName(ShelftalkError):
    """Two items would have one name."""


class BadRequest(ShelftalkError, ValueError):
    """An invalid request or filter."""


class RunError(ShelftalkError):
    """The run folder."""


class AnotherExperiment(RunError):
    """The folder holds the run of another experiment."""


class StageMissing(RunError):
    """An earlier stage has not been run."""


class ChangedFile(RunError):
    """A file of the run folder is damaged, gone, or not the one that its stage wrote."""


class InUse(RunError):
    """Another process works in the folder."""


class NoSpace(RunError):
    """No space left on the device."""


class HubError(ShelftalkError):
    """A hub cannot be reached, or refuses."""


class ProcessEnded(ShelftalkError):
    """Of several processes that do one run, another has ended."""


class IllegalMove(ShelftalkError):
    """Decoding left the item trie."""


@contextmanager
def reading(what: str, remedy: str) -> Iterator[None]:
    """A block that reads files from outside: its errors become UnreadableFile, "`what` (why); `remedy`".

    The message of a ShelftalkError keeps its reason and gets `remedy` in place of its own, which is meant for
    the author of the file; a RunError passes unchanged. Libraries raise anything at damaged bytes: parsers
    written in Rust even a BaseException that is no Exception.
    """
    try:
        yield
    except (RunError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except ShelftalkError as error:
        raise UnreadableFile(f"{_without_remedy(error)}; {remedy}.") from error
    except BaseException as error:
        raise UnreadableFile(f"{what} ({_reason(error)}); {remedy}.") from error


def _without_remedy(error: ShelftalkError) -> str:
    return str(error).rpartition("; ")[0] or str(error).rstrip(".")


def _reason(error: BaseException) -> str:
    """The first line of a library's message, or the name of its type where it is empty."""
    lines = (line.strip().rstrip(".") for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)[:REASON_CHARACTERS]


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name: 'did you mean "x"?', or the known names where none is near."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f'did you mean "{close[0]}"?' if close else "known are: " + ", ".join(known) + "."
