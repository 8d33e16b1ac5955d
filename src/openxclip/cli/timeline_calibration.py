"""`openxclip timeline --calibrate`: sets the thresholds of labels from footage in which nothing happens."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from openxclip.cli.help import usage_errors
from openxclip.cli.progress import progress
from openxclip.cli.rows import Form, Rows
from openxclip.cli.terminal import note, say
from openxclip.common.files import cannot_write

if TYPE_CHECKING:
    from openxclip.pipeline.batching import Batch
    from openxclip.timelines import TimelineFinder
    from openxclip.timelines.calibration import Calibration
    from openxclip.video import VideoSource

DEFAULT_RATE = "1/day"
_COLUMNS = ("label", "threshold", "false_alarms_per_hour", "extrapolated")


class Calibrator:
    """Sets thresholds for a rate of false alarms, prints them and saves them.

    Args:
        rate: the rate, as "6/hour".
        place: a model's folder or a JSON file to save the contract in; None saves nothing.

    Raises:
        click.UsageError: the rate is invalid, or nothing can be saved in the place.
    """

    def __init__(self, rate: str, place: str | None) -> None:
        from openxclip.timelines.calibration import parse_rate
        from openxclip.timelines.contracts import contract_file

        with usage_errors():
            try:
                self._rate = parse_rate(rate)
            except ValueError as error:
                raise ValueError(f"--false-alarms {error}") from None
            self._place = place
            if place is not None:
                contract_file(place)

    def run(
        self, finder: TimelineFinder, videos: Sequence[VideoSource], form: Form, *, batch: Batch, template: str
    ) -> None:
        """Calibrate with videos; exit with status 1 if one could not be read or the contract could not be saved."""
        from openxclip.timelines.calibration import calibrate_videos, calibrated_contract
        from openxclip.timelines.contracts import save_contract

        with progress("calibrating", len(videos)) as display:
            last = [""]

            def on_clip(path: str, end: float, duration: float) -> None:
                if path != last[0] and last[0]:
                    display()
                last[0] = path
                display.footage(end, duration)

            result = calibrate_videos(finder, videos, self._rate, batch=batch, on_clip=on_clip)
        for text in result.notes:
            note(text)
        for error in result.errors:
            say(error)
        _print(result, form)
        has_failed = bool(result.errors)
        if self._place is None:
            note("the thresholds were not saved: --save-to FILE.json keeps them for --contract FILE.json.")
        else:
            try:
                path = save_contract(calibrated_contract(finder, result), self._place)
                say(f"{path}: has the thresholds")
                if template != "{}":
                    note(f"the thresholds hold for this template only: use --template {template!r} with them.")
            except OSError as error:
                say(cannot_write(self._place, error))
                has_failed = True
        if has_failed:
            sys.exit(1)


def _print(result: Calibration, form: Form) -> None:
    rows = Rows(form, _COLUMNS)
    for label, own in result.thresholds.items():
        values = (label, round(own.threshold, 6), round(own.false_alarms, 6), own.is_extrapolated)
        rows.print(dict(zip(_COLUMNS, values, strict=True)))
    if form != "table":
        return
    from openxclip.cli.tables import add_numbers, cell, new_table, print_table

    table = new_table()
    table.box = None
    add_numbers(table, "threshold")
    table.add_column("label", overflow="fold")
    table.add_column("")
    for label, own in result.thresholds.items():
        table.add_row(f"{own.threshold:.3f}", cell(label), "extrapolated" if own.is_extrapolated else "")
    print_table(table, title=1)
