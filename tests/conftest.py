"""What all tests share: quiet libraries, threads that wait as the command line's do, no network, and no test
that fails because the machine is busy."""

import os

from hypothesis import settings

from shelftalk.runtime.machine import set_thread_waiting

os.environ["HF_HUB_OFFLINE"] = (
    "1"  # read when transformers is imported; a test that asks a hub for anything fails at once
)
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
set_thread_waiting()

settings.register_profile("without deadlines", deadline=None)
settings.load_profile("without deadlines")
