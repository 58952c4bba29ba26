"""What several task tests share: settings that keep every sample, and the item that a sample's answer names."""

from __future__ import annotations

from shelftalk.data.splitting import Split
from shelftalk.records import Sample
from shelftalk.testing.task_exams import exam_index

FULL = {"weight": 1.0, "text_share": 1.0}
"""Every sample of the task's own epoch, with its items' texts."""


def answer(sample: Sample, split: Split) -> str:
    """The item that the last segment bearing loss names."""
    return exam_index(split).item([s.text for s in sample.segments if s.bears_loss][-1])
