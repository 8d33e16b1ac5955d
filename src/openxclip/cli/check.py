"""`openxclip check`: finds unreadable and damaged videos."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openxclip.cli.help import usage_errors
from openxclip.cli.options import Target, finding_options, footage_options, found_videos, read_options
from openxclip.cli.progress import progress
from openxclip.cli.rows import Form, Rows, format_options
from openxclip.common.counting import counted
from openxclip.common.files import checked_target

if TYPE_CHECKING:
    from openxclip.video import VideoReport


@click.command("check", no_args_is_help=True)
@click.argument("videos", nargs=-1, required=True, metavar="PATH...")
@click.option("--jobs", type=click.IntRange(1), help="Videos to read at the same time.  [default: one per core]")
@click.option("--quick", is_flag=True, help="Read only headers, packets and the first frame. This doesn't find damage.")
@click.option(
    "--report",
    type=Target(dir_okay=False),
    help="Write the findings about every video to a .json, .jsonl or .csv file.",
)
@format_options
@finding_options
@footage_options
def command(
    videos: tuple[str, ...], jobs: int | None, quick: bool, report: Path | None, form: Form, **footage: Any
) -> None:
    """Check videos: decode each to its end, several at the same time, each in a separate process.

    A PATH is a file, a folder (every video in it), or a glob in quotes; "-" reads names from standard input, one per
    line.

    It reports videos that can't be read, are cut off or damaged, have lost frames, have a header that contradicts the
    frames, have frames without valid timestamps or of several sizes, don't start with a key frame, or are very short.
    The exit status is 1 if there are any.
    """
    from openxclip.video import VideoReport, check_videos, write_report
    from openxclip.video.checking import REPORT_SUFFIXES

    with usage_errors():
        if report is not None:
            checked_target(report, *REPORT_SUFFIXES)
        paths = found_videos(videos)
        read = read_options(footage)
    rows = Rows(form, VideoReport(path="").as_dict())
    reports = []
    with progress("checking", len(paths), prints_meanwhile=form != "table") as display:

        def on_time(path: str, end: float, duration: float) -> None:
            display.footage(end, duration, path)

        checked = check_videos(paths, jobs=jobs, full=not quick, read=read, on_time=on_time)
        try:
            for video in checked:
                reports.append(video)
                rows.print(video.as_dict())
                display(video.path)
        finally:
            checked.close()  # type: ignore[attr-defined]
    if form == "table":
        _show_table([video for video in reports if not video.is_fine])
    click.echo(_summary(reports), err=form != "table")
    if report is not None:
        write_report(report, reports)  # last, so that an error doesn't suppress other output
    if not all(video.is_fine for video in reports):
        sys.exit(1)


def _summary(reports: list[VideoReport]) -> str:
    fine = sum(report.is_fine for report in reports)
    unread = sum(report.error is not None for report in reports)
    if fine == len(reports):
        return "The video is fine." if fine == 1 else f"All {fine} videos are fine."
    parts = [f"{fine} of {counted(len(reports), 'video')} {'is' if fine == 1 else 'are'} fine"]
    if unread:
        parts.append(f"{unread} can't be read")
    if len(reports) - fine - unread:
        parts.append(f"{len(reports) - fine - unread} can be read, but not without problems")
    return "; ".join(parts) + "."


def _show_table(reports: list[VideoReport]) -> None:
    if not reports:
        return
    from openxclip.cli.tables import cell, new_table, print_table

    table = new_table()
    table.add_column("video", overflow="fold")
    table.add_column("problem", overflow="fold")
    for report in reports:
        problems = [cell(problem, "yellow") for problem in report.problems]
        if report.error is not None:
            problems = [cell(report.error.reason, "red")]
        for number, problem in enumerate(problems):
            table.add_row(cell("" if number else report.path), problem)
    print_table(table)
