"""Constrained decoding for any list of strings; see docs/decoding.md.

    from shelftalk.decoding import ConstrainedDecoder
    decoder = ConstrainedDecoder(model, tokenizer, ["red scarf", "blue hat"])
    decoder.top(["I bought gloves. Next:"], k=1)

The names are imported on access, since they load torch and the settings of this package must load without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shelftalk.decoding.exclusions import Exclusions
    from shelftalk.decoding.logits_processor import TrieLogitsProcessor, generation_config
    from shelftalk.decoding.strings import ConstrainedDecoder, string_trie

__all__ = ["ConstrainedDecoder", "Exclusions", "TrieLogitsProcessor", "generation_config", "string_trie"]
_FILES = {
    "ConstrainedDecoder": "strings",
    "Exclusions": "exclusions",
    "TrieLogitsProcessor": "logits_processor",
    "generation_config": "logits_processor",
    "string_trie": "strings",
}


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f'shelftalk.decoding has no "{name}"')
    return getattr(import_module(f"{__name__}.{_FILES[name]}"), name)
