"""Labels and names of videos as texts that a format can hold."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import unquote

from openxclip.common.counting import counted
from openxclip.common.files import is_utf8
from openxclip.timelines.results import TimelineData

_NOT_TEXT = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, halves of characters, line and paragraph ends


def one_line(text: str) -> str:
    r"""Return a text in one line, with single spaces in place of white space, line breaks and control characters.

    Examples:
        >>> one_line("a cat\n moves")
        'a cat moves'
    """
    kept = (" " if unicodedata.category(char) in _NOT_TEXT or char in "\ufffe\uffff" else char for char in text)
    return " ".join("".join(kept).split()) or "?"


def valid_text(text: str) -> str:
    """Return a text that can be stored as UTF-8, with ? in place of what can't."""
    return text.encode("utf-8", "replace").decode()


def clean_labels(
    timelines: Iterable[TimelineData], clean: Callable[[str], str], reason: str, notes: list[str]
) -> dict[str, str]:
    """Return the text of each label, with a note if some labels had to be changed.

    Args:
        timelines: the timelines, whose labels and segments are looked through.
        clean: returns the text of a label.
        reason: why labels are changed, as the end of a sentence.
        notes: the list to which the note is added.
    """
    labels = dict.fromkeys(
        label for timeline in timelines for label in (*timeline.labels, *(part.label for part in timeline.segments))
    )
    texts = {label: clean(label) for label in labels}
    changed = [(label, text) for label, text in texts.items() if label != text]
    if changed:
        label, text = changed[0]
        was = "was" if len(changed) == 1 else "were"
        notes.append(
            f"{counted(len(changed), 'label')} {was} changed, because {reason}: {label!r:.60} to {text!r:.60}."
        )
    return texts


def stored_labels(timelines: Iterable[TimelineData], notes: list[str]) -> dict[str, str]:
    """Return each label as it is stored in JSON, which holds all texts but broken ones, with a note about those."""
    return clean_labels(timelines, valid_text, "halves of characters can't be stored as UTF-8", notes)


def name_of(path: str) -> str:
    """Return the name of a video without its folders."""
    path = unquote(path.partition("?")[0]) if "://" in path else path
    return path.rstrip("/").rpartition("/")[2] or "video"


def stem_of(path: str) -> str:
    """Return the name of a video without its folders and its suffix."""
    return Path(name_of(path)).stem or "video"


def media_url(path: str) -> str:
    """Return the URL of a video: of a file, with its absolute path."""
    return path if "://" in path else Path(path).absolute().as_uri()


def stored_path(path: str, notes: list[str]) -> str:
    """Return the absolute path of a video, or its URL, as a text in UTF-8, with a note if it is no longer exact."""
    stored = path if "://" in path else str(Path(path).absolute())
    if is_utf8(stored):
        return stored
    notes.append(f"{valid_text(path)}: its name is not valid UTF-8, so it is stored with ? in it: rename the video.")
    return valid_text(stored)
