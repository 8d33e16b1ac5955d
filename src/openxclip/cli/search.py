"""`openxclip search`: a table of moments, or JSON Lines."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from openxclip.cli.options import Target, index_option, precision_option, progress, where_option
from openxclip.cli.terminal import json_line, printable, say

if TYPE_CHECKING:
    from openxclip.engine import Precision
    from openxclip.search import Hit


@click.command("search", no_args_is_help=True)
@click.argument("text", required=False)
@index_option
@click.option("--video", metavar="PATH", help="Search for what is like this video, instead of a text.")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Moments shown.")
@where_option
@click.option(
    "--rerank",
    type=click.IntRange(0),
    default=200,
    show_default=True,
    help="Of how many candidates the score with prompts decides; 0 is without.",
)
@click.option("--model", help="Where the index's model is, if it isn't where it was.")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines, as when the output is piped.")
@click.option("--html", type=Target(), help="Write a page with a playing clip of each moment too.")
@click.option(
    "--thumbnails",
    type=Target(file_okay=False),
    metavar="DIR",
    help="Write a JPEG of each moment there; JSON names it as thumbnail.",
)
@click.option("--device", help="cpu, cuda, cuda:1, …  [default: a GPU if there is one]")
@precision_option
def command(
    text: str | None,
    uri: str,
    video: str | None,
    top: int,
    where: str | None,
    rerank: int,
    model: str | None,
    as_json: bool,
    html: Path | None,
    thumbnails: Path | None,
    device: str | None,
    precision: Precision,
) -> None:
    """Find the moments of an index that are the most like TEXT, or like another video.

    SCORE is by which they are in order: the cosine of the moment and the text, with X-CLIP's video-specific prompts
    where the index has what these need.
    """
    if (text is None) == (video is None):
        raise click.UsageError('say what to search for: a sentence, such as "a cat jumps", or --video PATH.')
    from openxclip.search import VideoIndex, write_contact_sheet
    from openxclip.search.sheet import check_sheet

    try:
        if html is not None:
            check_sheet(html)
        index = VideoIndex.open(uri, model=model, device=device, precision=precision)
        hits = index.search(text, video=video, k=top, where=where, rerank=rerank)
        pictures = _write_thumbnails(hits, thumbnails) if thumbnails else {}
        if html is not None:
            with progress("cutting clips", len(hits)) as advance:
                write_contact_sheet(hits, html, title=text or f"like {video}", on_hit=advance)
    except ValueError as error:
        raise click.UsageError(printable(str(error))) from error
    if as_json or not sys.stdout.isatty():
        for hit in hits:
            click.echo(json_line({**asdict(hit), **({"thumbnail": pictures.get(hit)} if thumbnails else {})}))
    elif hits:
        _show(hits)
    else:
        click.echo("nothing in the index meets the condition." if where else "the index is empty.")


def _write_thumbnails(hits: list[Hit], folder: Path) -> dict[Hit, str]:
    """The files, by moment; a video that can't be read has none."""
    from openxclip.errors import VideoError
    from openxclip.files import written_whole
    from openxclip.search import thumbnail
    from openxclip.video import DecodeWorker

    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder}: has files in it already: name another folder for the pictures.")
    folder.mkdir(parents=True, exist_ok=True)
    names: dict[Hit, str] = {}
    with DecodeWorker() as reader:
        for number, hit in enumerate(hits, start=1):
            path = folder / f"{number:03}.jpg"
            try:
                with written_whole(path) as partial:
                    partial.write_bytes(thumbnail(hit, reader=reader))
                names[hit] = str(path)
            except VideoError as error:
                say(error)
    return names


def _show(hits: list[Hit]) -> None:
    from rich.table import Table
    from rich.text import Text

    from openxclip.cli.tables import print_table
    from openxclip.search.results import clock

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("from", justify="right", no_wrap=True)
    table.add_column("to", justify="right", no_wrap=True)
    table.add_column("video", overflow="fold")
    for hit in hits:
        table.add_row(f"{hit.score:.3f}", clock(hit.start), clock(hit.end), Text(printable(hit.path)))
    print_table(table, title=3)
