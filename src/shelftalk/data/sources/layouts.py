"""The published data sets that are read as they are: which files each has, and what reads them.

A layout is recognised in a folder by the names of its files; where two have the same names, by what the files
hold. `data.layout` names one where neither is enough.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shelftalk.data.sources.text_files import STARTS, readable
from shelftalk.errors import UnreadableFile

Files = Mapping[str, Path]
"""Role -> file: "interactions", "items" where the catalogue has a file, and what else a layout reads."""
_AMAZON = {"items": ("meta_*.json", "meta_*.jsonl", "meta_*.parquet")}
_PUBLISHED = "shelftalk.data.sources.published"


@dataclass(frozen=True)
class Layout:
    """The files of a published data set.

    `module` has `interactions(files, form)` and `items(files, form)`, each a Table whose columns have our
    names; `variant` names the functions where it has several: `interactions_VARIANT`. `needed` and `optional`
    are roles and patterns of names, the first that matches; text files may end in .gz or .zst beside.
    `recognises`: a function of the module for what the names do not show.
    """

    title: str
    module: str
    needed: Mapping[str, tuple[str, ...]]
    optional: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    variant: str = ""
    recognises: str = ""

    def files_in(self, folder: Path) -> dict[str, Path] | None:
        """The files of the layout in a folder, or None where it does not have them. Raises UnreadableFile
        where one role has two, or where what is looked at is damaged."""
        files: dict[str, Path] = {}
        for roles, must in ((self.needed, True), (self.optional, False)):
            for role, patterns in roles.items():
                match = _match(folder, patterns, role, excluded=self.optional.get("items", ()))
                if match is not None:
                    files[role] = match
                elif must:
                    return None
        with readable(files["interactions"]):
            recognised = not self.recognises or self._function(self.recognises)(files)
        return files if recognised else None

    def read(self, part: str) -> Callable[..., Any]:
        """The function that reads "interactions" or "items"."""
        return self._function(f"{part}_{self.variant}" if self.variant else part)

    def _function(self, name: str) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(importlib.import_module(f"{_PUBLISHED}.{self.module}"), name)
        return function


def _match(folder: Path, patterns: tuple[str, ...], role: str, excluded: tuple[str, ...]) -> Path | None:
    """The one file of the first pattern that has one. For interactions, files that are the catalogue's are
    left out."""
    endings = ("", *STARTS)
    for pattern in patterns:
        matches = {path for ending in endings for path in folder.glob(pattern + ending) if path.is_file()}
        if role == "interactions":
            catalogue = [one + ending for one in excluded for ending in endings]
            matches = {path for path in matches if not any(path.match(one) for one in catalogue)}
        if len(matches) > 1:
            one, other = sorted(path.name for path in matches)[:2]
            raise UnreadableFile(
                f'the folder "{folder}" holds both {one} and {other}, and one data set has one of them; keep '
                "each data set in a folder of its own."
            )
        if matches:
            return matches.pop()
    return None


# those whose names of files are special come first
LAYOUTS: dict[str, Layout] = {
    "movielens-100k": Layout(
        "MovieLens 100K", "movielens", {"interactions": ("u.data",), "items": ("u.item",)}, variant="100k"
    ),
    "movielens-1m": Layout(
        "MovieLens 1M or 10M",
        "movielens",
        {"interactions": ("ratings.dat",), "items": ("movies.dat",)},
        variant="1m",
    ),
    "movielens-csv": Layout(
        "MovieLens 20M, 25M, 32M or latest",
        "movielens",
        {"interactions": ("ratings.csv",), "items": ("movies.csv",)},
        variant="csv",
    ),
    "steam": Layout(
        "Steam reviews",
        "steam",
        {"interactions": ("steam_reviews.json", "steam_new.json")},
        {"items": ("steam_games.json",)},
    ),
    "yelp": Layout(
        "Yelp Open Dataset",
        "yelp",
        {"interactions": ("yelp_academic_dataset_review.json",)},
        {"items": ("yelp_academic_dataset_business.json",)},
    ),
    "goodreads": Layout(
        "Goodreads (UCSD Book Graph)",
        "goodreads",
        {"interactions": ("goodreads_interactions*.json", "goodreads_reviews*.json")},
        {"items": ("goodreads_books*.json",), "authors": ("goodreads_book_authors*.json",)},
    ),
    "lastfm-1k": Layout(
        "Last.fm 1K users",
        "lastfm",
        {"interactions": ("userid-timestamp-artid-artname-traid-traname.tsv",)},
        variant="1k",
    ),
    "lastfm-360k": Layout(
        "Last.fm 360K users",
        "lastfm",
        {"interactions": ("usersha1-artmbid-artname-plays.tsv",)},
        variant="360k",
    ),
    "lastfm-hetrec": Layout(
        "Last.fm of HetRec 2011",
        "lastfm",
        {"interactions": ("user_artists.dat",), "items": ("artists.dat",)},
        {"assigned": ("user_taggedartists.dat",), "tags": ("tags.dat",)},
        variant="hetrec",
    ),
    "mind": Layout(
        "MIND (Microsoft News)", "mind", {"interactions": ("behaviors.tsv",), "items": ("news.tsv",)}
    ),
    "recbole": Layout(
        "RecBole atomic files", "atomic_files", {"interactions": ("*.inter",)}, {"items": ("*.item",)}
    ),
    "p5": Layout(
        "P5 sequences",
        "sequences",
        {"interactions": ("sequential_data.txt",)},
        {"maps": ("datamaps.json",), "meta": ("meta.json",)},
        variant="p5",
    ),
    "amazon-2014": Layout(
        "Amazon reviews 2014",
        "amazon",
        {"interactions": ("reviews_*.json", "ratings_*.csv", "*.json")},
        _AMAZON,
        recognises="is_2014",
    ),
    "amazon-2018": Layout(
        "Amazon reviews 2018",
        "amazon",
        {"interactions": ("*.json", "*.csv")},
        _AMAZON,
        recognises="is_2018",
    ),
    "amazon-2023": Layout(
        "Amazon reviews 2023",
        "amazon",
        {"interactions": ("*.jsonl", "*.csv", "*.parquet")},
        _AMAZON,
        variant="2023",
        recognises="is_2023",
    ),
    "s3rec": Layout(
        "S3-Rec sequences",
        "sequences",
        {"interactions": ("*.txt",)},
        {"attributes": ("*_item2attributes.json",)},
        variant="s3rec",
        recognises="are_sequences",
    ),
}
