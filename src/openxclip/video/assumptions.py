"""Warn about what a video doesn't state, so that something had to be assumed or an option has no effect."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterable
from contextlib import contextmanager

ASSUMED_FPS = 25.0


class AssumptionWarning(UserWarning):
    """A property of a video had to be assumed."""


class Assumption(str):
    """A note about an assumption. It doesn't name the file, so Python shows the warning once for all files."""

    __slots__ = ()


FPS_ASSUMED = Assumption(
    f"folders of images, arrays and frames in memory have no times: {ASSUMED_FPS:g} frames a second were assumed; "
    "set the right rate with --fps (ReadOptions(fps=…) in Python)"
)


def warn_of_assumptions(notes: Iterable[str], *, stacklevel: int = 3) -> None:
    """Warn about the notes that are assumptions.

    Args:
        notes: notes about a video.
        stacklevel: see `warnings.warn`; 1 is this function.
    """
    for note in notes:
        if isinstance(note, Assumption):
            warnings.warn(str(note), AssumptionWarning, stacklevel=stacklevel)


@contextmanager
def collect_assumptions() -> Generator[list[str], None, None]:
    """Collect assumptions instead of warning about them, so that another process can warn."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AssumptionWarning)
        yield texts
    texts += [str(warning.message) for warning in caught if issubclass(warning.category, AssumptionWarning)]
