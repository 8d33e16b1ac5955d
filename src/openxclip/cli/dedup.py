"""`openxclip dedup`: which videos of an index are copies of others, or parts of them."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from openxclip.cli.options import index_option, progress, where_option
from openxclip.cli.terminal import json_line, printable

if TYPE_CHECKING:
    from openxclip.search import DuplicateGroup


@click.command("dedup")
@index_option
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.95,
    show_default=True,
    help="The cosine from which on two windows are alike.",
)
@click.option(
    "--overlap",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.8,
    show_default=True,
    help="The share of a video's windows that must be alike one of the other's.",
)
@where_option
@click.option("--json", "as_json", is_flag=True, help="JSON Lines, one a group, as when the output is piped.")
def command(uri: str, threshold: float, overlap: float, where: str | None, as_json: bool) -> None:
    """Find the videos of an index that are copies of others: the same file, another encoding, a part.

    Of each group the longest is shown first, and below it those that are in it. No file is deleted:

    \b
      openxclip dedup --in archive.index --json \\
          | jq -r '.duplicates[] | select(.identical) | .path'
    """  # noqa: D301 (click's sign for a paragraph that is not wrapped)
    from openxclip.search import VideoIndex

    try:
        index = VideoIndex.open(uri)
        compared = 0
        with progress("comparing", len(index.files())) as advance:

            def on_video() -> None:
                nonlocal compared
                compared += 1
                advance()

            groups = index.duplicates(threshold=threshold, overlap=overlap, where=where, on_video=on_video)
    except ValueError as error:
        raise click.UsageError(printable(str(error))) from error
    if as_json or not sys.stdout.isatty():
        for group in groups:
            click.echo(json_line(asdict(group)))
        return
    for group in groups:
        _show(group)
    copies = sum(len(group.duplicates) for group in groups)
    click.echo(f"of {compared} videos, {copies or 'none'} {'is' if copies < 2 else 'are'} in another")


def _show(group: DuplicateGroup) -> None:
    from openxclip.search.results import clock

    click.echo(f"{clock(group.duration):>9}  {printable(group.path)}")
    for one in group.duplicates:
        how = "identical" if one.identical else f"{one.overlap:.0%} of it at {one.similarity:.3f}"
        click.echo(f"{clock(one.duration):>9}    {printable(one.path)}  ({how})")
    click.echo()
