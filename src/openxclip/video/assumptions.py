"""Warn about what a video doesn't say and had to be assumed."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterable
from contextlib import contextmanager

ASSUMED_FPS = 25.0


class AssumptionWarning(UserWarning):
    """A property of a video had to be assumed."""


class Assumption(str):
    """A note about an assumption. It names no file, so that Python shows it once for all files."""

    __slots__ = ()


FPS_ASSUMED = Assumption(
    f"folders of images, arrays and frames in memory have no times: {ASSUMED_FPS:g} frames a second were assumed; "
    "set the right rate with --fps (ReadOptions(fps=…) in Python)"
)


def warn_of_assumptions(notes: Iterable[str], *, stacklevel: int = 3) -> None:
    """Warn about those notes that are assumptions; Python shows the same warning once.

    Args:
        notes: notes on a video.
        stacklevel: as for `warnings.warn`, counted from this function.
    """
    for note in notes:
        if isinstance(note, Assumption):
            warnings.warn(str(note), AssumptionWarning, stacklevel=stacklevel)


@contextmanager
def collect_assumptions() -> Generator[list[str], None, None]:
    """Collect the assumptions that would be warned about, for another process to show."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AssumptionWarning)
        yield texts
    texts += [str(warning.message) for warning in caught if issubclass(warning.category, AssumptionWarning)]
