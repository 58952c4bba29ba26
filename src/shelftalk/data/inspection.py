"""What there is to know about a data set before a model sees it: counts, shape, quality, what will go wrong.

A record of plain values: `sections` of facts, `warnings` with their remedies, the tasks that the data
supports, `charts` (named series of label and number) and the probes of probes.py.

Legend: U users, I items, E events.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from shelftalk.data.dataset import Dataset
from shelftalk.data.k_core import k_core
from shelftalk.data.probes import Probe, probe_data
from shelftalk.data.protocol import SplitSettings
from shelftalk.data.sources.lookalikes import NULL_WORDS, appearance
from shelftalk.data.sources.reading import DataReport
from shelftalk.data.splitting import Split, split_dataset
from shelftalk.errors import DataError, NothingLeft, SettingsError

Fact = str | int | float
TESTING = re.compile(
    r"(?:^|[\W_\d])(?:test|dummy|demo|admin|guest|anonymous|sample|fake|asdf)(?:$|[\W_\d])", re.I
)
"""In an id or a title it may be of a test account or a test item."""
PLACEHOLDER = re.compile(
    r"(?:title|item|product|untitled|unknown|n/?a|none|null|tbd|\?+|-+|\.+)[ _-]*\d*", re.I
)
"""A title that is no title."""
MARKUP = re.compile(r"<[a-z/!][^>]*>|&[a-z]{2,8};|&#\d+;", re.I)
LONG_TITLE = 200
"""Characters above which a title is a description."""
BURST = 20
"""Events of a user at one second from which on no person was acting."""
FAR_ABOVE = 5
"""Times the 99th percentile of history lengths above which a user is no usual one."""
RESOLUTIONS = ((86_400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))
CORES = (2, 3, 5, 10)
USUAL_CORE = 5
"""Of published data sets; larger ones are no surprise when they leave nothing."""
SWEEPS = 0.5
"""A k-core that takes more than this share of the catalogue away is warned of."""
FEW_USERS = 2000
MANY_TIED = 0.5
SHOWN = 3
"""Examples named of each kind."""


def inspect_dataset(
    dataset: Dataset,
    report: DataReport,
    settings: SplitSettings,
    seed: int,
    file_order: Sequence[str] = (),
) -> dict[str, Any]:
    """The record of a data set, divided as the settings say where it can be divided."""
    lengths, taken = np.diff(dataset.bounds), np.bincount(dataset.event_item, minlength=len(dataset.items))
    warnings: list[str] = []
    split, probes = _divided(dataset, settings, seed, file_order, warnings)
    sections = {
        "Counts": _counts(dataset, report),
        "Long tail": _tail(taken, warnings),
        "Histories": _histories(dataset, lengths, warnings),
        "Times": _times(dataset, report, warnings),
        "Titles": _titles(dataset, warnings),
        "Ratings": _ratings(dataset, warnings),
        "Fields that are filled in": _fields(report),
        "Accounts and items that look like tests or copies": _odd(dataset, lengths, warnings),
        "k-core": _cores(dataset, warnings),
    }
    return {
        "source": report.source,
        "sections": sections,
        "tasks": _tasks(dataset, split),
        "warnings": warnings,
        "notes": list(report.notes),
        "filters": list(report.filters),
        "probes": [asdict(probe) for probe in probes],
        "charts": _charts(dataset, lengths, taken),
    }


def _divided(
    dataset: Dataset, settings: SplitSettings, seed: int, file_order: Sequence[str], warnings: list[str]
) -> tuple[Split | None, list[Probe]]:
    """The split and its probes; without them, where the data cannot be divided, a warning."""
    try:
        split = split_dataset(dataset, settings, seed)
        probes = probe_data(split, file_order, seed)
    except (DataError, SettingsError) as error:
        warnings.append(f"The data cannot be divided as it is: {error}")
        return None, []
    warnings.extend(
        f"{probe.name.capitalize()}: {probe.value:.1%}, where data that gives nothing away would show "
        f"{probe.expected:.1%}; what it means stands with the probes."
        for probe in probes if probe.p is not None and probe.p < 0.01 and probe.value
        and probe.expected is not None and probe.value > probe.expected
    )  # fmt: skip
    return split, probes


def _counts(dataset: Dataset, report: DataReport) -> dict[str, Fact]:
    users, items, events = report.users, report.catalogue, report.events
    return {
        "users": users,
        "items": items,
        "items with an interaction": report.items,
        "interactions": events,
        "density": f"{events / max(1, users * items):.4%}",
        "repeats of a user and an item, dropped": report.repeats_dropped,
    }


def _tail(taken: np.ndarray, warnings: list[str]) -> dict[str, Fact]:
    """How unequal the items are; `taken` [I] interactions of each."""
    ordered = np.sort(taken)[::-1]
    total, items = max(1, int(ordered.sum())), len(ordered)
    held = {
        f"interactions of the most popular {share:.0%} of the items": (
            f"{ordered[: max(1, round(share * items))].sum() / total:.1%}"
        )
        for share in (0.01, 0.1, 0.2)
    }
    rank = np.arange(1, items + 1)
    gini = float((2 * (rank * ordered[::-1]).sum() / (items * total)) - (items + 1) / items)
    never, once = int((taken == 0).sum()), int((taken == 1).sum())
    if never > items / 2:
        warnings.append(
            f"{never:,} of {items:,} items have no interaction: only their text can recommend them. Set "
            'data.catalogue = "interacted" if they are not to be recommended.'
        )
    return {
        **held,
        "Gini index of the items": f"{gini:.3f}",
        "items without an interaction": never,
        "items with one": once,
        "interactions of the most popular item": int(ordered[0]) if items else 0,
    }


def _histories(dataset: Dataset, lengths: np.ndarray, warnings: list[str]) -> dict[str, Fact]:
    """`lengths` [U] interactions of each user."""
    short = int((lengths < 3).sum())
    longest = int(lengths.argmax())
    if short:
        warnings.append(
            f"{short:,} of {len(lengths):,} users have fewer than three interactions: they train, and are "
            "not evaluated."
        )
    if len(lengths) - short < FEW_USERS:
        warnings.append(
            f"{len(lengths) - short:,} users can be evaluated: intervals will be wide, and differences below "
            "some .01 may well be chance."
        )
    quantiles = {name: np.quantile(lengths, q) for name, q in (("median", 0.5), ("90th percentile", 0.9))}
    return {
        "shortest": int(lengths.min()),
        **{name: f"{value:.0f}" for name, value in quantiles.items()},
        "mean": f"{lengths.mean():.1f}",
        "longest": f'{int(lengths[longest]):,} (user "{dataset.user_ids[longest]}")',
        "users with fewer than three": short,
        "users with fewer than five": int((lengths < 5).sum()),
    }


def _times(dataset: Dataset, report: DataReport, warnings: list[str]) -> dict[str, Fact]:
    held = dataset.events.filter(pl.col("timestamp").is_not_null())
    if not len(held):
        if not dataset.ordered:
            warnings.append(
                "Nothing orders the interactions: no time and no position. A sequence cannot be learned, and "
                'the split is random: set split.scheme = "random".'
            )
        return {"interactions with a time": "none", "ordered by": report.ordered_by}
    seconds = held["timestamp"].to_numpy()
    fractions = bool((held["nanosecond"] != 0).any())
    unit = (
        "fractions of a second" if fractions else next(n for s, n in RESOLUTIONS if not (seconds % s).any())
    )
    first, last = int(seconds.min()), int(seconds.max())
    now = int(datetime.now(UTC).timestamp())
    tied = int((dataset.seconds_since_previous == 0).sum()) if dataset.ordered else 0
    odd = int(((seconds > now) | (seconds < 3 * 10**8)).sum())
    if odd:
        warnings.append(
            f"{odd:,} times are before July 1979 or in the future: check the unit of the column, or cut them "
            "off with data.filters.since and until."
        )
    if unit == "days" and report.ordered_by == "timestamp":
        warnings.append(
            "Times are whole days, and nothing else orders a day: the order within one is drawn by seed."
        )
    if report.users_tied_at_end > MANY_TIED:
        warnings.append(
            f"For {report.users_tied_at_end:.1%} of the users the last two interactions have one time, so "
            "that which one is the test is chance."
        )
    return {
        "first": _day(first),
        "last": _day(last),
        "span": f"{(last - first) / 86_400:,.0f} days",
        "resolution": unit,
        "interactions without a time": len(dataset.events) - len(held),
        "interactions at the time of the one before": tied,
        "users whose last two have one time": f"{report.users_tied_at_end:.1%}",
        "ordered by": report.ordered_by,
    }


def _titles(dataset: Dataset, warnings: list[str]) -> dict[str, Fact]:
    titles = dataset.items["title"]
    held = titles.filter(titles != "")
    if not len(held):
        warnings.append(
            "No item has a title: the language model knows items by their other texts and by who took them."
        )
        return {"items with a title": 0}
    shown = held.map_elements(lambda text: appearance(text).casefold(), return_dtype=pl.String)
    alike = held.filter(shown.is_duplicated())
    lengths = held.str.len_chars()
    kinds = {
        "placeholders": [t for t in held if PLACEHOLDER.fullmatch(t.strip()) or t.strip() in NULL_WORDS],
        "with markup or HTML entities": [t for t in held if MARKUP.search(t)],
        "with control characters": [t for t in held if any(unicodedata.category(c) == "Cc" for c in t)],
        f"longer than {LONG_TITLE} characters": held.filter(lengths > LONG_TITLE).to_list(),
        "in capital letters throughout": [t for t in held if t.isupper() and len(t) > 12],
    }
    if len(alike):
        warnings.append(
            f"{len(alike):,} items share their title with another, for instance {_quoted(alike[0])}: with "
            'index.scheme = "titles" a number tells them apart; "semantic" and "mixed" do not depend on it.'
        )
    for kind, examples in list(kinds.items())[:3]:
        if examples:
            warnings.append(f"{len(examples):,} titles: {kind}, for instance {_quoted(examples[0])}.")
    return {
        "items with a title": len(held),
        "characters, shortest": int(lengths.min()),  # type: ignore[arg-type]
        "characters, median": f"{np.median(lengths.to_numpy()):.0f}",
        "characters, longest": int(lengths.max()),  # type: ignore[arg-type]
        "items whose title is another's too": len(alike),
        **{kind: _with_examples(examples) for kind, examples in kinds.items()},
    }


def _ratings(dataset: Dataset, warnings: list[str]) -> dict[str, Fact]:
    ratings = dataset.events["rating"].drop_nulls()
    if not len(ratings):
        return {"interactions with a rating": 0}
    values = ratings.value_counts().sort("rating")
    common = values.sort("count", descending=True).row(0)
    if common[1] > 0.8 * len(ratings) and len(values) > 1:
        warnings.append(
            f"{common[1] / len(ratings):.1%} of the ratings are {common[0]:g}: a constant predicts them "
            "nearly as well as anything."
        )
    return {
        "interactions with a rating": len(ratings),
        "values": f"{len(values)}, from {values['rating'][0]:g} to {values['rating'][-1]:g}",
        "mean": f"{ratings.to_numpy().mean():.3f}",
        "standard deviation": f"{ratings.to_numpy().std():.3f}",
        "most common": f"{common[0]:g} ({common[1] / len(ratings):.1%})",
    }


def _fields(report: DataReport) -> dict[str, Fact]:
    of_items = ("title", "brand", "categories", "price", "description")
    held = {f"items with {name}": getattr(report, f"items_with_{name}") for name in of_items}
    of_events = ("rating", "timestamp", "position")
    held |= {f"interactions with {name}": getattr(report, f"events_with_{name}") for name in of_events}
    return {name: f"{share:.1%}" for name, share in held.items()}


def _odd(dataset: Dataset, lengths: np.ndarray, warnings: list[str]) -> dict[str, Fact]:
    """Users and items that look like test accounts, scripts or copies."""
    users = dataset.user_ids
    named = [user for user in users if TESTING.search(user) or user in NULL_WORDS]
    far = FAR_ABOVE * max(1.0, float(np.quantile(lengths, 0.99)))
    many = [users[row] for row in np.flatnonzero(lengths > far)]
    bursts: list[str] = []
    if not dataset.events["timestamp"].null_count():
        at_once = dataset.events.group_by("user_id", "timestamp", "nanosecond").len()
        times = dataset.events["timestamp"]
        if not (times % 86_400 == 0).all():  # whole days hold a day's interactions
            bursts = sorted(at_once.filter(pl.col("len") >= BURST)["user_id"].unique().to_list())
    histories = dataset.events.group_by("user_id", maintain_order=True).agg(
        pl.col("item_id").str.join("\x1f").alias("items"), pl.len().alias("length")
    )
    copies = histories.filter(pl.col("length") >= 5)
    copied = copies.filter(copies["items"].is_duplicated())["user_id"].to_list()
    titles = dataset.items["title"].to_list()
    tests = [t for t in titles if TESTING.fullmatch(t.strip()) or t.lower().startswith(("test ", "dummy "))]
    texts = dataset.items.select(pl.col("title", "brand").str.to_lowercase().str.strip_chars())
    same = dataset.items.filter((texts["title"] != "") & texts.is_duplicated())["item_id"].to_list()
    for kind, users_of_it, remedy in (
        ("users are named like test accounts", named, "remove their rows if they are"),
        ("users have many times the interactions of others", many, "set data.filters.max_per_user"),
        (f"users have {BURST} interactions or more at one moment", bursts, "set data.filters.max_per_user"),
        ("users have the same five items or more in the same order as another", copied,
         'set data.filters.same_history = "first"'),
    ):  # fmt: skip
        if users_of_it:
            example = _quoted(users_of_it[0])
            warnings.append(f"{len(users_of_it):,} {kind}, for instance {example}: {remedy}.")
    return {
        "users named like test accounts": _with_examples(named),
        f"users with more than {far:,.0f} interactions": _with_examples(many),
        f"users with {BURST} or more at one moment": _with_examples(bursts),
        "users with another's history": _with_examples(copied),
        "items titled like tests": _with_examples(tests),
        "items with title and brand of another": _with_examples(same),
    }


def _cores(dataset: Dataset, warnings: list[str]) -> dict[str, Fact]:
    """What each k-core would leave."""
    left: dict[str, Fact] = {}
    items = dataset.events["item_id"].n_unique()
    for k in CORES:
        try:
            kept, _ = k_core(dataset.events, k)
        except NothingLeft:
            left[f"{k}-core"] = "nothing"
            if k <= USUAL_CORE:
                warnings.append(f"A {k}-core leaves nothing of this data.")
            break
        held = kept["item_id"].n_unique()
        left[f"{k}-core"] = (
            f"{kept['user_id'].n_unique():,} users, {held:,} items, {len(kept):,} interactions"
        )
        if k == USUAL_CORE and held < SWEEPS * items:
            warnings.append(
                f"The usual 5-core takes {1 - held / items:.0%} of the {items:,} items with an interaction "
                'away, and with data.catalogue = "interacted" from the catalogue; choose a smaller one.'
            )
    return left


def _tasks(dataset: Dataset, split: Split | None) -> dict[str, str]:
    """Task -> whether the data supports it, and why not."""
    why_not = "no: the data cannot be divided as it is"
    evaluated = len(split.evaluated_users("test")) if split else 0
    retrieval = f"yes, for {evaluated:,} users" if evaluated else why_not
    rating = f"no: {split.why_no_rating_task}" if split and split.why_no_rating_task else retrieval
    text = any((dataset.items[name] != "").any() for name in ("title", "brand", "categories", "description"))
    return {
        "retrieval": retrieval,
        "ranking": retrieval,
        "rating prediction": rating if split else why_not,
        "masked items": "yes" if dataset.ordered else "yes, without an order",
        "text of items (masked language, meaning of items)": "yes" if text else "no: items have no text",
    }


def _charts(dataset: Dataset, lengths: np.ndarray, taken: np.ndarray) -> dict[str, list[tuple[str, int]]]:
    """Title -> (label, number): histograms by powers of two, the years, the ratings."""
    charts = {"Users by length of history": _by_powers(lengths), "Items by interactions": _by_powers(taken)}
    times = dataset.events["timestamp"].drop_nulls()
    if len(times):
        years = pl.from_epoch(times).dt.year().value_counts().sort("timestamp")
        if len(years) > 1:
            charts["Interactions by year"] = [(str(year), count) for year, count in years.rows()]
        else:
            months = pl.from_epoch(times).dt.strftime("%Y-%m").value_counts().sort("timestamp")
            charts["Interactions by month"] = months.rows()
    ratings = dataset.events["rating"].drop_nulls()
    if 0 < ratings.n_unique() <= 20:
        counts = ratings.value_counts().sort("rating")
        charts["Ratings"] = [(f"{value:g}", count) for value, count in counts.rows()]
    return charts


def _by_powers(numbers: np.ndarray) -> list[tuple[str, int]]:
    """Counts of 0, 1, 2-3, 4-7, 8-15 ..."""
    bins = np.where(numbers > 0, np.floor(np.log2(np.maximum(numbers, 1))).astype(int) + 1, 0)
    counted = np.bincount(bins)
    labels = ["0", "1"] + [f"{2**n}-{2 ** (n + 1) - 1}" for n in range(1, 64)]
    first = 0 if counted[0] else 1
    return [(labels[number], int(counted[number])) for number in range(first, len(counted))]


def _with_examples(examples: Sequence[str]) -> str:
    if not examples:
        return "0"
    shown = ", ".join(_quoted(one) for one in examples[:SHOWN])
    return f"{len(examples):,} ({shown}{', ...' if len(examples) > SHOWN else ''})"


def _quoted(text: str) -> str:
    plain = "".join(c if c.isprintable() else " " for c in text)
    return f'"{plain if len(plain) <= 60 else plain[:57] + "..."}"'


def _day(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d}" if -(10**11) < second < 10**11 else str(second)
