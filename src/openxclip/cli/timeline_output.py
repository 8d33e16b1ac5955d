"""What `openxclip timeline` prints."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from openxclip.cli.rows import Form, Rows
from openxclip.cli.terminal import note, say
from openxclip.common.times import format_time

if TYPE_CHECKING:
    from openxclip.timelines import Timeline

_COLUMNS = ("path", "label", "start", "end", "score", "peak", "error")


class Output:
    """Prints each timeline as soon as it is done.

    Args:
        form: the format.
        scores: also print the score of each label in each window; for JSON Lines only.

    Attributes:
        unread: number of videos that could not be read.
        cut_off: number of videos that could be read only in part.
    """

    def __init__(self, form: Form, *, scores: bool) -> None:
        self._form, self._scores = form, scores
        self.unread = self.cut_off = 0
        self._rows = Rows(form, _COLUMNS)

    def add(self, timeline: Timeline, *, notes: list[str]) -> None:
        """Print a timeline, its error and the notes about it."""
        for text in notes:
            note(f"{timeline.path}: {text}")
        if timeline.error is not None:
            self.cut_off += bool(len(timeline.starts))
            self.unread += not len(timeline.starts)
            say(timeline.error)
        if self._form == "table":
            _show(timeline)
            return
        values = timeline.to_dict(scores=self._scores)
        if self._form == "jsonl":
            self._rows.print(values)
            return
        for segment in values["segments"]:
            self._rows.print({"path": timeline.path, **segment})
        if "error" in values:
            self._rows.print({"path": timeline.path, "error": values["error"]})


def _show(timeline: Timeline) -> None:
    from openxclip.cli.tables import add_numbers, cell, new_table, print_line, print_table

    if not len(timeline.starts):
        return  # stderr says why
    length = "" if math.isnan(timeline.duration) else f" ({format_time(timeline.duration)})"
    print_line(f"{timeline.path}{length}", "bold")
    if timeline.segments:
        table = new_table()
        table.box = None
        add_numbers(table, "from", "to", "score", "best")
        table.add_column("label", overflow="fold")
        for segment in timeline.segments:
            times = (format_time(time) for time in (segment.start, segment.end))
            table.add_row(*times, f"{segment.score:.2f}", format_time(segment.peak), cell(segment.label))
        print_table(table, title=len(table.columns) - 1)
    else:
        print_line("no segments", "yellow")
    found = {segment.label for segment in timeline.segments}
    for label, (score, time) in timeline.best().items():
        if label not in found:
            needed = timeline.thresholds[label]
            # calibrated thresholds may be near 0 or 1, and a score may be just below its threshold
            digits = 2 if 0.1 <= needed <= 0.9 and f"{score:.2f}" != f"{needed:.2f}" else 4
            why = "is needed" if score < needed else "is reached, but for too short a time"
            best = f"{score:.{digits}f} at {format_time(time)}"
            print_line(f"{label}: its best score is {best}; {needed:.{digits}f} {why}.", "dim")
    click.echo()
