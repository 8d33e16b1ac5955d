"""`openxclip search`: a table of moments, or JSON Lines."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from openxclip.cli.options import precision_option
from openxclip.cli.terminal import json_line, printable

if TYPE_CHECKING:
    from openxclip.engine import Precision
    from openxclip.search import Hit


@click.command("search", no_args_is_help=True)
@click.argument("text", required=False)
@click.option(
    "--in", "uri", required=True, metavar="DIR", envvar="OPENXCLIP_INDEX", show_envvar=True, help="The index."
)
@click.option("--video", metavar="PATH", help="Search for what is like this video, instead of a text.")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Moments shown.")
@click.option(
    "--where",
    metavar="CONDITION",
    help="SQL on path, start, end, duration, size, modified: \"duration < 60 and path like '%cam2%'\".",
)
@click.option(
    "--rerank",
    type=click.IntRange(0),
    default=200,
    show_default=True,
    help="Of how many candidates the score with prompts decides; 0 is without.",
)
@click.option("--model", help="Where the index's model is, if it isn't where it was.")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines, as when the output is piped.")
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
    device: str | None,
    precision: Precision,
) -> None:
    """Find the moments of an index that are the most like TEXT, or like another video.

    SCORE is by which they are in order: the cosine of the moment and the text, with X-CLIP's video-specific prompts
    where the index has what these need.
    """
    if (text is None) == (video is None):
        raise click.UsageError('say what to search for: a sentence, such as "a cat jumps", or --video PATH.')
    from openxclip.search import VideoIndex

    try:
        index = VideoIndex.open(uri, model=model, device=device, precision=precision)
        hits = index.search(text, video=video, k=top, where=where, rerank=rerank)
    except ValueError as error:
        raise click.UsageError(printable(str(error))) from error
    if as_json or not sys.stdout.isatty():
        for hit in hits:
            click.echo(json_line(asdict(hit)))
    elif hits:
        _show(hits)
    else:
        click.echo("nothing in the index meets the condition." if where else "the index is empty.")


def _show(hits: list[Hit]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("score", justify="right")
    table.add_column("from", justify="right")
    table.add_column("to", justify="right")
    table.add_column("video", overflow="fold")
    for hit in hits:
        table.add_row(f"{hit.score:.3f}", _clock(hit.start), _clock(hit.end), Text(printable(hit.path)))
    Console().print(table)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"
