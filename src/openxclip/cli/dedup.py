"""`openxclip dedup`: finds videos of an index that are copies or parts of others."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openxclip.cli.help import usage_errors
from openxclip.cli.options import index_option, where_option
from openxclip.cli.progress import progress
from openxclip.cli.rows import Form, Rows, format_options
from openxclip.cli.terminal import json_line, printable
from openxclip.common.counting import counted

if TYPE_CHECKING:
    from openxclip.search import DuplicateGroup

_COLUMNS = (
    "path", "duration", "duplicate", "duplicate_duration", "begins", "overlap", "score", "similarity", "identical",
    "identical_to",
)  # fmt: skip


@click.command("dedup")
@index_option
@click.option(
    "--min-similarity",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.95,
    help="Lowest cosine of two similar windows.",
)
@click.option(
    "--overlap",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.8,
    help="Share of a video's windows that must be similar to a window of the other video.",
)
@click.option(
    "--keep",
    type=click.Choice(["longest", "largest", "oldest", "highest-resolution"]),
    default="longest",
    help="Which video of a group to keep, among those that contain all the others; largest means bytes.",
)
@click.option(
    "--not-duplicates",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A file with two paths per line, separated by a tab: never report these pairs, now and later.",
)
@where_option
@format_options
def command(uri: str, not_duplicates: Path | None, form: Form, **options: Any) -> None:
    """Find the videos of an index that are copies of others: the same file, another encoding, a part.

    Each group lists the video to keep and then the videos that it contains. Black, white and frozen windows don't
    count. No file is deleted. This command prints the files that are byte copies of an earlier file:

    \b
      openxclip dedup --in archive.index --json \\
          | jq -r '.duplicates[]
                   | select(.identical_to) | .path'
    """  # noqa: D301 (\b tells click not to wrap the paragraph)
    from openxclip.search import VideoIndex
    from openxclip.search.not_duplicates import read_pairs

    with usage_errors():
        pairs = read_pairs(not_duplicates) if not_duplicates is not None else []
        index = VideoIndex.open(uri)
        with progress("comparing", len(index.files())) as display:
            groups = index.duplicates(not_duplicates=pairs, on_video=display, **options)
    if form == "table":
        for group in groups:
            _show(group)
        copies = sum(len(group.duplicates) for group in groups)
        verb = "is" if copies < 2 else "are"
        click.echo(f"of {counted(round(display.done), 'video')}, {copies or 'none'} {verb} contained in another")
    elif form == "jsonl":
        for group in groups:
            click.echo(json_line(_with_scores(group)))
    else:
        rows = Rows(form, _COLUMNS)
        for group in groups:
            for copy in group.duplicates:
                row = {**asdict(copy), "duplicate": copy.path, "duplicate_duration": copy.duration}
                rows.print({**row, "path": group.path, "duration": group.duration})


def _with_scores(group: DuplicateGroup) -> dict[str, Any]:
    """Return the group as JSON values, with a `score` of null as in a `search` by video."""
    return {**asdict(group), "duplicates": [{**asdict(copy), "score": None} for copy in group.duplicates]}


def _show(group: DuplicateGroup) -> None:
    from openxclip.common.times import format_time

    click.echo(f"{format_time(group.duration):>9}  {printable(group.path)}")
    for copy in group.duplicates:
        if copy.identical:
            relation = "identical"
        else:
            relation = f"{copy.overlap:.0%} of it at {copy.similarity:.3f}"
            relation += f", from {format_time(copy.begins)}" if copy.begins else ""
            relation += f"; identical to {printable(copy.identical_to)}" if copy.identical_to else ""
        click.echo(f"{format_time(copy.duration):>9}    {printable(copy.path)}  ({relation})")
    click.echo()
