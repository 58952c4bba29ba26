"""What goes wrong in a command, as one sentence and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NoReturn

import typer

from shelftalk.errors import ShelftalkError
from shelftalk.runtime.machine import set_thread_waiting


def guarded(work: Callable[[], None], alone: bool = True) -> None:
    """What a user can correct comes as one sentence and exit code 2; an interruption says that nothing is
    lost. `alone`: several processes cannot do it together."""
    set_thread_waiting()  # read when torch is loaded
    # read when transformers is imported: our progress bars are enough, and what comes of all retries of a
    # download is reported in one sentence
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    if alone and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        stop(
            "SettingsError: only run and its stages are done by several processes; start this command "
            "without the launcher.",
            2,
        )
    try:
        work()
    except ShelftalkError as error:
        stop(f"{type(error).__name__}: {error}", 2)
    except (PermissionError, NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        stop(
            f'{type(error).__name__}: "{error.filename}" cannot be used ({error.strerror}); choose another '
            "path or correct it.",
            2,
        )
    except KeyboardInterrupt:
        stop("Interrupted. The same command continues where it stopped.", 130)


def stop(sentence: str, code: int) -> NoReturn:
    """One line, whatever foreign titles and ids it quotes."""
    print("".join(c if c.isprintable() else " " for c in sentence), file=sys.stderr)
    raise typer.Exit(code)
