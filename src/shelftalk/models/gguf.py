"""A GGUF file in place of a model's folder: finding it, the package that reads it, and the pre-tokenizer that
transformers does not take from it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerBase

from shelftalk.errors import MissingFile, SettingsError

AS_GPT2 = ("gpt-2", "phi-2", "mpt", "olmo", "jais", "exaone4")
"""Pre-tokenizers ("tokenizer.ggml.pre") that are GPT-2's, which transformers falls back to."""
DIGITS_APART = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")
"""Those that split off every digit first (llama.cpp, src/llama-vocab.cpp), which transformers does not know:
"  7" is " ", " ", "7" to them, but " ", " 7" to GPT-2's, which the model was not trained on."""


def gguf_file(name: str) -> Path | None:
    """The GGUF file of that name, or the only one in a folder of that name without a config.json; else None.

    Raises MissingFile where there is no such file, and SettingsError where the folder holds several.
    """
    path = Path(name)
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise MissingFile(f'there is no file "{name}"; check pretrained.name.')
        return path
    if not path.is_dir() or (path / "config.json").exists():
        return None
    files = sorted(path.glob("*.gguf"))
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise SettingsError(f'"{name}" holds several GGUF files; set pretrained.name to one of {names}.')
    return files[0] if files else None


def check_reader() -> None:
    """Raises SettingsError where the library that reads GGUF files is not installed."""
    if find_spec("gguf") is None:
        raise SettingsError(
            'reading a GGUF file needs the Python package "gguf"; install it with `pip install gguf`.'
        )


def fix_tokenizer(tokenizer: PreTrainedTokenizerBase, file: Path) -> None:
    """Give the tokenizer the pre-tokenizer that the file names, where transformers does not.

    Raises SettingsError for one that neither transformers nor this file implements: with another one the
    model would get other tokens than in its training, without any error.
    """
    name = _pre_tokenizer(file)
    if name in DIGITS_APART:
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
        digits = pre_tokenizers.Digits(individual_digits=True)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    elif name not in (*AS_GPT2, *_known_to_transformers(), None):
        raise SettingsError(
            f'"{file.name}" has the pre-tokenizer "{name}", which transformers does not know; fetch the '
            "model as a folder with its own tokenizer.json and set pretrained.name to that."
        )


def _pre_tokenizer(file: Path) -> str | None:
    """The file's name of it; None for a vocabulary of pieces (SentencePiece), which needs none."""
    # reads the header alone, where the package gguf takes seconds
    from transformers.integrations.gguf import read_gguf_metadata

    fields, _ = read_gguf_metadata(str(file))
    return fields.get("tokenizer.ggml.pre", "default") if fields["tokenizer.ggml.model"] == "gpt2" else None


def _known_to_transformers() -> tuple[str, ...]:
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    return tuple(GGUF_PRE_TOKENIZER_SPLITS)
