"""What has to be assumed where a source doesn't say it, and how the user is told."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterable
from contextlib import contextmanager

ASSUMED_FPS = 25.0


class AssumedWarning(UserWarning):
    """Something of a video had to be assumed."""


class Assumption(str):
    """A note on a video that says what was assumed; it names no file, so that it is said once for all of them."""

    __slots__ = ()


FPS_ASSUMED = Assumption(
    f"folders of images, arrays and frames in memory have no times: {ASSUMED_FPS:g} frames a second were assumed; "
    "set the right rate with --fps (fps= in Python)"
)


def warn_of(notes: Iterable[str], *, stacklevel: int = 3) -> None:
    """Warn of those notes that are assumptions; Python shows the same warning once.

    Args:
        notes: of a video.
        stacklevel: as of `warnings.warn`, counted from this function.
    """
    for note in notes:
        if isinstance(note, Assumption):
            warnings.warn(str(note), AssumedWarning, stacklevel=stacklevel)


@contextmanager
def collected() -> Generator[list[str], None, None]:
    """Collect the assumptions that `warn_of` would warn of, to be said by another process."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AssumedWarning)
        yield texts
    texts += [str(one.message) for one in caught if issubclass(one.category, AssumedWarning)]
