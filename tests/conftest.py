"""What all tests share: quiet libraries, and no network."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # read when transformers is imported; a test that asks a hub for anything fails at once
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
