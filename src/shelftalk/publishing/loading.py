"""`shelftalk.load`: a published folder, here or on a hub, as a model that answers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from shelftalk.errors import HubError
from shelftalk.models.settings import Precision
from shelftalk.publishing.contents import CARD, FACTS, FILE_KINDS
from shelftalk.publishing.opening import open_published
from shelftalk.publishing.served_model import ServedModel

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def load(name: str | Path, precision: Precision | None = None, revision: str | None = None) -> ServedModel:
    """The recommender of a folder that `shelftalk publish` or `shelftalk distil` made, or of a repository
    "owner/model" of a hub, at a `revision` where one is named.

    `recommend`, `rank`, `rate` (for data with ratings), `similar` and `why`, for a history of catalogue items
    and texts, or for many requests. Its answers are those of the run on the same machine: of "aligned+prior"
    where the folder holds the prior, else of "aligned". `precision` of a language model's matrix products: by
    default that of the training, or fp32 where this machine lacks it.

    Nothing but the folder is read, and none of its files can name code that is run. Raises MissingFile;
    UnreadableFile where a file is damaged or invalid; AnotherExperiment where a file is not the one that was
    published, or where this tokenizer splits the item names otherwise than the one that wrote the trie;
    SettingsError for a precision that this machine lacks; HubError where a hub does not give it.
    """
    model, items = open_published(folder_of(name, revision), precision)
    return ServedModel(model, items)


def folder_of(name: str | Path, revision: str | None = None) -> Path:
    """The folder of this name, or of a repository of a hub once it is fetched. Raises HubError."""
    folder = Path(name)
    if not folder.exists() and HUB_NAME.fullmatch(str(name)):
        return fetched(str(name), revision)
    if revision is not None and folder.exists():
        raise HubError(f'"{name}" is a folder, which has no revisions; leave revision out.')
    return folder


def fetched(name: str, revision: str | None, download: Any = None) -> Path:
    """The files of a published folder from a hub, in its cache. `download`: by default
    huggingface_hub.snapshot_download. Raises HubError."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, HTTPError  # type: ignore[attr-defined]

    patterns = [*(pattern for pattern, _ in FILE_KINDS), FACTS, CARD]
    try:
        return Path((download or snapshot_download)(name, revision=revision, allow_patterns=patterns))
    except (HFValidationError, HTTPError, OSError, ValueError) as error:
        reason = next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), "")
        raise HubError(
            f'"{name}" is no folder here, and the hub does not give it ({reason or type(error).__name__}); '
            "correct the path or the name, or run `hf auth login` for a private one."
        ) from None
