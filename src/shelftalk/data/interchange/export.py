"""The split of a run for other libraries, so that their models are measured on exactly this test.

A folder holds events, targets, candidates and catalogue in one of FORMATS, and README.md, which says how to
use them and how the results come back.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from shelftalk import __version__
from shelftalk.data.interchange import parts
from shelftalk.data.interchange.escaping import changed
from shelftalk.data.interchange.parquet_files import write_parquet
from shelftalk.data.interchange.recbole import write_recbole
from shelftalk.data.interchange.trec import write_trec
from shelftalk.data.splitting import Split
from shelftalk.errors import SettingsError
from shelftalk.runtime.run_folder import beside, holds_something

FORMATS: dict[str, Callable[[Split, Path, str], str]] = {
    "parquet": write_parquet,
    "recbole": write_recbole,
    "trec": write_trec,
}
README = """# {name}, divided by shelftalk

{sentence}

{users:,} users, {items:,} items, {events:,} interactions; {requests:,} test requests. Models learn from the
training part alone, choose on validation, and are measured on the test. Split {fingerprint}.
{how}
## How results come back

{back}

## Ids

{ids}

Written by shelftalk {version}.
"""
BACK = """Write your lists for the requests of the test part as `user`, `item`, `score` (Parquet, CSV or a
TREC run, higher is better, no item of the history; 20 items per user for all metrics), and let the run
measure them beside its own models:

```sh
shelftalk evaluate RUN --scores theirs.parquet --name theirs
```"""
SEVERAL = """Users have several requests here, and a score file names its request by the user alone, so that
`shelftalk evaluate RUN --scores` takes no results on this split. Measure them with the targets of this
folder, or export a split with one request each (`split.scheme = "leave_one_out"`)."""
AS_THEY_ARE = "Ids are written as they are."
ESCAPED = """{users:,} user ids and {items:,} item ids hold white space, quotes, "%" or "#", or look like a
missing value, and are written in percent notation (`a b` as `a%20b`). `urllib.parse.unquote` gives them back:
do so before results go back to the run."""


def export_split(split: Split, folder: Path, format: str, name: str) -> Path:
    """Write the split into a new folder, beside it first and then renamed.

    `name`: of the data set. Raises SettingsError for an unknown format and for a folder that holds something.
    """
    if format not in FORMATS:
        raise SettingsError(f'there is no format "{format}"; choose one of {", ".join(FORMATS)}.')
    if folder.is_file() or holds_something(folder):
        raise SettingsError(f'"{folder}" holds something already; name another --out, or remove it.')
    with beside(folder) as part:
        part.mkdir(parents=True)
        how = FORMATS[format](split, part, name)
        (part / "README.md").write_text(_readme(split, format, name, how), "utf-8")
    return folder


def _readme(split: Split, format: str, name: str, how: str) -> str:
    data = split.dataset
    ids, counts = AS_THEY_ARE, (changed(data.user_ids), changed(data.item_ids))
    if format != "parquet" and any(counts):
        ids = ESCAPED.format(users=counts[0], items=counts[1])
    return README.format(
        name=name,
        sentence=split.protocol.sentence,
        users=len(data.user_ids),
        items=len(data.items),
        events=len(data),
        requests=len(split.held_out_events("test")),
        fingerprint=split.fingerprint(),
        how=how,
        back=SEVERAL if parts.several_requests(split) else BACK,
        ids=ids,
        version=__version__,
    )
