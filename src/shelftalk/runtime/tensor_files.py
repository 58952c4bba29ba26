"""Arrays as safetensors files that others may read."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


def save_tensors(arrays: Mapping[str, np.ndarray], path: Path, header: Mapping[str, str]) -> None:
    """Write arrays and the texts of the header, as readable as any new file: safetensors gives its files to
    their owner alone, and a service may run as another user."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(contiguous, path, metadata=dict(header))
    fresh = path.with_name(f".{path.name}.mode")
    fresh.touch()
    shutil.copymode(fresh, path)
    fresh.unlink()
