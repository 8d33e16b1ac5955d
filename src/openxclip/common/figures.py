"""Make matplotlib's figures without a window and without state that other threads share."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from openxclip.errors import needs_package

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float, *, layout: Literal["constrained"] | None = "constrained") -> Figure:
    """Make a figure drawn by Agg without pyplot, so it needs no window and shares no state with other threads.

    Args:
        width, height: size in inches.
        layout: matplotlib's layout engine; None if every axis is placed by hand.

    Raises:
        MissingPackageError: matplotlib isn't installed.
    """
    with needs_package("a plot", "matplotlib", "plots"), _quiet_import():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


@contextmanager
def _quiet_import() -> Iterator[None]:
    """Suppress matplotlib's note that it uses a temporary cache if the user's can't be written."""
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
