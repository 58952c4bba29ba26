"""A folder that looks like a released FLAN-T5, without the hub: its true architecture, a small tokenizer of
its kind that normalises as T5's does. Needs torch.

    save_flan_t5(folder, texts, FLAN_T5_BASE)
    load_experiment("my.toml", {"pretrained": {"name": str(folder), "random_weights": True}})
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import T5Tokenizer

from shelftalk.tasks.sentinels import SENTINELS

FLAN_T5_BASE = {"d_model": 768, "d_ff": 2048, "num_layers": 12, "num_decoder_layers": 12, "num_heads": 12}
"""247,577,856 weights."""
FLAN_T5_XL = {"d_model": 2048, "d_ff": 5120, "num_layers": 24, "num_decoder_layers": 24, "num_heads": 32}
"""2,849,757,184 weights."""
SMALL = {"d_model": 32, "d_ff": 48, "d_kv": 8, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4}
"""The same architecture in small."""
VOCABULARY = 32128
_CONTROL = ("<pad>", "</s>", "<unk>")


def save_flan_t5(
    folder: Path,
    texts: Iterable[str],
    sizes: Mapping[str, int],
    vocabulary: int = VOCABULARY,
    pieces: int = 1000,
) -> Path:
    """Write config.json, that of google/flan-t5-* but for `sizes` and `vocabulary`, and a tokenizer of at
    most `pieces` pieces, trained on `texts`. There are no weights: set random_weights. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "is_encoder_decoder": True,
        "decoder_start_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "d_kv": 64,
        "dropout_rate": 0.1,
        "feed_forward_proj": "gated-gelu",
        "layer_norm_epsilon": 1e-06,
        "n_positions": 512,
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "tie_word_embeddings": False,
        "vocab_size": vocabulary,
        **sizes,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    sentinels = [(f"<extra_id_{number}>", 0.0) for number in reversed(range(SENTINELS))]
    vocab = [*((piece, 0.0) for piece in _CONTROL), *_pieces(texts, pieces), *sentinels]
    T5Tokenizer(vocab=vocab, _spm_precompiled_charsmap=nmt_nfkc()).save_pretrained(folder)
    return folder


@cache
def nmt_nfkc() -> bytes:
    """SentencePiece's own map of characters by the rule "nmt_nfkc", by which T5's tokenizer normalises a text
    before it looks for pieces (see nmt_nfkc/ORIGIN.txt)."""
    return lzma.decompress(resources.files("shelftalk.testing").joinpath("nmt_nfkc/charsmap.xz").read_bytes())


def _pieces(texts: Iterable[str], number: int) -> list[tuple[str, float]]:
    """Pieces of words with their log-probabilities, trained as SentencePiece does."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.train_from_iterator(
        texts, trainers.UnigramTrainer(vocab_size=number, unk_token="<unk>", show_progress=False)
    )
    vocab = json.loads(tokenizer.to_str())["model"]["vocab"]
    return [(piece, score) for piece, score in vocab if piece not in _CONTROL]
