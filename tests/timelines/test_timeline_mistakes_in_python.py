"""Mistakes in calls of `openxclip.timeline`, and notes about files that lack videos."""

from __future__ import annotations

from pathlib import Path

import pytest

from openxclip.recognition.classification import check_labels
from openxclip.timelines.formats import TimelineWriter
from openxclip.video import ClipPlan


def test_a_label_that_is_no_text_is_refused() -> None:
    with pytest.raises(TypeError, match="labels must be texts, not int: 1"):
        check_labels(["red", 1])  # type: ignore[list-item]


def test_a_part_of_a_frame_is_refused() -> None:
    with pytest.raises(ValueError, match=r"num_frames=2\.5: must be a whole number"):
        ClipPlan(num_frames=2.5, window=1)  # type: ignore[arg-type]


def test_a_file_without_videos_says_why(tmp_path: Path) -> None:
    writer = TimelineWriter(tmp_path / "x.jsonl")
    assert writer.finish() == [f"{tmp_path / 'x.jsonl'} was not written, because no video was done."]
