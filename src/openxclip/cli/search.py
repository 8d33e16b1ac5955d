"""`openxclip search`: the moments that are most like a sentence or a video, as a table, JSON Lines or CSV."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

import click

from openxclip.cli.options import Target, Time, fps_option, index_option, precision_option, where_option
from openxclip.cli.progress import progress
from openxclip.cli.rows import CsvRows, Form, format_options
from openxclip.cli.terminal import counted, json_line, printable, say
from openxclip.common.files import atomic_file, checked_folder
from openxclip.errors import OpenXCLIPError, VideoError

if TYPE_CHECKING:
    from openxclip.engine import Precision
    from openxclip.search import Hit


@click.command("search", no_args_is_help=True)
@click.argument("text", required=False)
@index_option
@click.option("--video", metavar="PATH", help="Search for what is like this video, instead of a text.")
@click.option("--start", type=Time(), help="Search for the part of --video from this time on: 83.5 or 1:23.5.")
@click.option("--end", type=Time(above=0), help="Search for the part of --video up to this time.")
@fps_option
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Moments shown.")
@click.option("--per-video", type=click.IntRange(1), metavar="N", help="At most this many moments from one video.")
@click.option("--min-score", type=click.FloatRange(0, 1), help="Only moments with this score or more.")
@click.option("--min-similarity", type=click.FloatRange(-1, 1), help="Only moments with this similarity or more.")
@click.option("--raw", is_flag=True, help="Show each window, instead of neighbouring ones as one moment.")
@where_option
@click.option(
    "--rerank",
    type=click.IntRange(0),
    default=200,
    show_default=True,
    help="How many candidates are ordered by their similarity with prompts; 0 turns prompts off.",
)
@click.option("--model", help="Where the index's model is, if it isn't where it was.")
@format_options
@click.option("--html", type=Target(), help="Write a page with a playing clip of each moment too.")
@click.option(
    "--thumbnails",
    type=Target(file_okay=False),
    metavar="DIR",
    help="Write a JPEG of each moment there; JSON and CSV name it as thumbnail.",
)
@click.option("--device", help="cpu, cuda, cuda:1, …  [default: a GPU if there is one]")
@precision_option
def command(
    text: str | None,
    uri: str,
    video: str | None,
    start: float | None,
    end: float | None,
    fps: float | None,
    top: int,
    per_video: int | None,
    min_score: float | None,
    min_similarity: float | None,
    raw: bool,
    where: str | None,
    rerank: int,
    model: str | None,
    form: Form,
    html: Path | None,
    thumbnails: Path | None,
    device: str | None,
    precision: Precision,
) -> None:
    """Find the moments of an index that are most like TEXT, or like another video.

    Neighbouring windows of a video are one moment; "best" is where its best window is.

    Two numbers are given for each moment. The score compares TEXT with neutral texts ("a video", "a scene", ...), as in
    classify: below 0.5, the moment hardly shows what TEXT says. The similarity is the cosine that orders the moments,
    with X-CLIP's video-specific prompts where the index has what they need. A search by video has no score.
    """
    if (text is None) == (video is None):
        raise click.UsageError('say what to search for: a sentence, such as "a cat jumps", or --video PATH.')
    if video is None and (start is not None or end is not None):
        raise click.UsageError("--start and --end are the part of a video to search for: give --video PATH too.")
    if video is not None and min_score is not None:
        raise click.UsageError("--min-score doesn't go with --video, which has no score: use --min-similarity.")
    from openxclip.search import Hit, VideoIndex, write_contact_sheet
    from openxclip.search.contact_sheet import check_contact_sheet
    from openxclip.video import ReadOptions

    try:
        if html is not None:
            check_contact_sheet(html)
        if thumbnails is not None:
            _check_folder(thumbnails)
        index = VideoIndex.open(uri, model=model, device=device, precision=precision)
        hits = index.search(
            text,
            video=video,
            start=start,
            end=end,
            read=ReadOptions(fps=fps),
            k=top,
            where=where,
            rerank=rerank,
            per_video=per_video,
            min_score=min_score,
            min_similarity=min_similarity,
            merge=not raw,
        )
    except ValueError as error:
        raise click.UsageError(printable(str(error))) from error
    pictures: dict[Hit, str] = {}
    unwritten: Exception | None = None  # a full disk takes nothing away from what was found
    try:
        if thumbnails is not None:
            _write_thumbnails(hits, thumbnails, pictures)
        if html is not None:
            with progress("cutting clips", len(hits), noun="clip") as advance:
                write_contact_sheet(hits, html, title=text or f"like {video}", on_hit=advance)
            say(f"{html}: a page of {counted(len(hits), 'moment')}")
    except OSError as error:
        unwritten = error
    except ValueError as error:
        unwritten = OpenXCLIPError(str(error))
    rows = [{**asdict(hit), **({"thumbnail": pictures.get(hit)} if thumbnails else {})} for hit in hits]
    if form == "csv":
        output = CsvRows([*(field.name for field in fields(Hit)), *(["thumbnail"] if thumbnails else [])])
        for row in rows:
            output.print(row)
    elif form == "jsonl":
        for row in rows:
            click.echo(json_line(row))
    elif hits:
        _show(hits)
    elif not len(index):
        click.echo("the index is empty.")
    else:
        click.echo("nothing in the index meets the conditions.")
    if unwritten is not None:
        raise unwritten


def _check_folder(folder: Path) -> None:
    checked_folder(folder)
    with suppress(OSError):  # it isn't there
        if any(folder.iterdir()):
            raise ValueError(f"{folder}: has files in it already: name another folder for the pictures.")


def _write_thumbnails(hits: list[Hit], folder: Path, names: dict[Hit, str]) -> None:
    """Write a picture of each moment, and put its file into `names`; a video that can't be read has none."""
    from openxclip.search import thumbnail
    from openxclip.video import DecodeWorker

    folder.mkdir(parents=True, exist_ok=True)
    with progress("writing pictures", len(hits), noun="moment") as shown, DecodeWorker() as reader:
        for number, hit in enumerate(hits, start=1):
            path = folder / f"{number:03}.jpg"
            try:
                with atomic_file(path) as partial:
                    partial.write_bytes(thumbnail(hit, reader=reader))
                names[hit] = str(path)
            except VideoError as error:
                say(error)
            shown()


def _show(hits: list[Hit]) -> None:
    from rich.table import Table
    from rich.text import Text

    from openxclip.cli.tables import print_table
    from openxclip.common.times import clock

    has_score = any(hit.score is not None for hit in hits)
    is_merged = any(hit.windows > 1 for hit in hits)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in (*(["score"] if has_score else []), "similarity", "from", "to", *(["best"] if is_merged else [])):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("video", overflow="fold")
    for hit in hits:
        cells = [] if hit.score is None else [f"{hit.score:.2f}"]
        cells += [f"{hit.similarity:.3f}", clock(hit.start), clock(hit.end)]
        cells += [clock(hit.best_start)] if is_merged else []
        table.add_row(*cells, Text(printable(hit.path)))
    print_table(table, title=len(table.columns) - 1)
