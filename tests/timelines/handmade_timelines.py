"""Timelines made by hand, for tests of what is written of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from openxclip.timelines.results import Segment, TimelineData

CAT, OWL = "a cat moves left", "an owl vanishes"


def segment(label: str, start: float, end: float, score: float = 0.9) -> Segment:
    return Segment(label=label, start=start, end=end, score=score, peak=(start + end) / 2)


def made_timeline(*segments: Segment, path: str = "footage/clip one.mp4", **values: Any) -> TimelineData:
    """A video of 10 s at 25 frames per second, with windows of 1 s that don't overlap."""
    labels = tuple(dict.fromkeys(part.label for part in segments)) or (CAT,)
    defaults: dict[str, Any] = {"duration": 10.0, "fps": 25.0, "size": (1280, 720), "labels": labels}
    starts = np.arange(10, dtype=np.float64)
    scores = np.full((10, len(defaults["labels"])), 0.25, np.float32)
    windows = {"starts": starts, "ends": starts + 1, "scores": scores}
    return TimelineData(path=path, segments=segments, **{**defaults, **windows, **values})


#: Texts that mean something else in some formats.
ODD_LABELS = (
    "two\nlines",
    "a --> b",
    "00:00:01,000 --> 00:00:02,000",
    "<b>bold</b> & \"quoted\" 'text'",
    "{\\an8}top",
    "NOTE this",
    "STYLE",
    "REGION",
    "WEBVTT",
    "42",
    "[CHAPTER]",
    ";FFMETADATA1",
    "# a=b;c\\",
    "eine Möwe fliegt, 猫が左へ動く 🦉",
    "tab\tand\x00\x07control\x85\u2028characters",
    "  spaces  ",
    "a|b |D:5",
    "half \ud83d of a character",
    "\ufffe",
)
