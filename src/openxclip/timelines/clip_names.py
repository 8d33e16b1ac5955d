"""Name the files of clips, with names that are valid on every system."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from openxclip.timelines.results import Segment, TimelineData

#: The suffixes that a clip's name may have; see `copying.container_for`.
CLIP_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm")

_NOT_ALLOWED = frozenset('<>:"/\\|?*')  # in names on Windows, and partly elsewhere
_RESERVED = frozenset(
    ["CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(10))]
)
_STEM_BYTES, _LABEL_BYTES = 80, 120  # with the time, the suffix and a number, below the 255 that systems allow


def clip_names(timelines: Iterable[TimelineData]) -> list[list[str]]:
    """Return a name, without suffix, for the clip of each segment of each timeline: film_00-01-02.5_a-cat-jumps.

    Names differ even where upper and lower case are the same. A second clip of the same name has "-2" at its end.
    """
    used: set[str] = set()
    names = []
    for timeline in timelines:
        stem = _cleaned(Path(timeline.path).stem, most=_STEM_BYTES) or "video"
        if stem.partition(".")[0].upper() in _RESERVED:  # Windows looks only at the part before the first dot
            stem = f"_{stem}"
        names.append([_unused(_name(stem, segment), used) for segment in timeline.segments])
    return names


def refuse_existing(folder: Path, names: Iterable[str]) -> None:
    """Raise an error if a clip of one of these names exists in a folder, whatever its suffix.

    Raises:
        ValueError: a clip exists.
        OSError: the folder can't be read.
    """
    if not folder.is_dir():
        return
    existing = {entry.casefold(): entry for entry in os.listdir(folder)}  # noqa: PTH208 (names, not paths)
    for name in names:
        for suffix in CLIP_SUFFIXES:
            entry = existing.get(f"{name}{suffix}".casefold())
            if entry is not None:
                raise ValueError(
                    f"{folder / entry}: exists already, and no clip is replaced: choose another folder, or remove it."
                )


def _name(stem: str, segment: Segment) -> str:
    tenths = round(10 * max(0.0, segment.start))
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    label = _cleaned(segment.label, most=_LABEL_BYTES) or "label"
    return f"{stem}_{hours:02}-{minutes:02}-{rest / 10:04.1f}_{label}"


def _unused(name: str, used: set[str]) -> str:
    unused, number = name, 1
    while unused.casefold() in used:
        number += 1
        unused = f"{name}-{number}"
    used.add(unused.casefold())
    return unused


def _cleaned(text: str, *, most: int) -> str:
    """Return a part of a name of at most `most` bytes, with "-" in place of spaces and of what names can't hold."""
    text = unicodedata.normalize("NFC", text)
    # unassigned, private and control characters and halves of pairs; joiners are parts of words and of emoji
    is_allowed = [unicodedata.category(char)[0] != "C" or char in "\u200c\u200d" for char in text]
    kept = "".join(
        char if allowed and char not in _NOT_ALLOWED and not char.isspace() else " "
        for char, allowed in zip(text, is_allowed, strict=True)
    )
    return "-".join(kept.split()).encode()[:most].decode(errors="ignore").strip("-. \u200c\u200d")
