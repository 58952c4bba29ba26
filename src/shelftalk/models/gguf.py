"""A GGUF file in place of a model's folder: where it is, who can read it, and what transformers leaves out of
its tokenizer."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerBase

from shelftalk.errors import MissingFile, SettingsError

AS_GPT2 = ("gpt-2", "phi-2", "mpt", "olmo", "jais", "exaone4")
"""Ways of cutting text before its bytes are merged ("tokenizer.ggml.pre") for which GPT-2's, which
transformers falls back to, is right."""
DIGITS_APART = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")
"""Those that set every digit apart first (llama.cpp, src/llama-vocab.cpp), which transformers does not know: "  7" is " ", " ", "7"
to them, but of GPT-2's way comes " ", " 7", and the model has never seen such a beginning."""


def gguf_file(name: str) -> Path | None:
    """The GGUF file that a model's name means: itself, or the only one of a folder without a config.json;
    None where it means none.

    Raises MissingFile where there is no such file, and SettingsError where the folder holds several.
    """
    path = Path(name)
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise MissingFile(f'there is no file "{name}"; check pretrained.name.')
        return path
    if not path.is_dir() or (path / "config.json").exists():
        return None
    found = sorted(path.glob("*.gguf"))
    if len(found) > 1:
        raise SettingsError(
            f'"{name}" holds several GGUF files; set pretrained.name to one of {", ".join(file.name for file in found)}.'
        )
    return found[0] if found else None


def check_reader() -> None:
    """Raises SettingsError where the library that reads GGUF files is not installed."""
    if find_spec("gguf") is None:
        raise SettingsError(
            'reading a GGUF file needs the Python package "gguf"; install it with `pip install gguf`.'
        )


def fix_tokenizer(tokenizer: PreTrainedTokenizerBase, file: Path) -> None:
    """Cut text as the model's own tokenizer did, where transformers does not know how the file says it.

    Raises SettingsError where neither does, since a tokenizer that cuts otherwise would make another model of
    it in silence.
    """
    way = _pre_tokenizer(file)
    if way in DIGITS_APART:
        bytes_of_words = pre_tokenizers.ByteLevel(add_prefix_space=False)
        digits = pre_tokenizers.Digits(individual_digits=True)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_of_words])
    elif way not in (*AS_GPT2, *_known_to_transformers(), None):
        raise SettingsError(
            f'"{file.name}" cuts text in the way "{way}", which transformers does not know; fetch the model as a folder with its own '
            "tokenizer.json and set pretrained.name to that."
        )


def _pre_tokenizer(file: Path) -> str | None:
    """What the file says of it; None for a vocabulary of pieces (SentencePiece), which needs none."""
    from transformers.integrations.gguf import (
        read_gguf_metadata,
    )  # tells it at once; the package gguf takes seconds

    known, _ = read_gguf_metadata(str(file))
    return known.get("tokenizer.ggml.pre", "default") if known["tokenizer.ggml.model"] == "gpt2" else None


def _known_to_transformers() -> tuple[str, ...]:
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    return tuple(GGUF_PRE_TOKENIZER_SPLITS)
