"""`openxclip search`: finds the moments of an index that are most similar to a sentence or a video."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from openxclip.cli.help import usage_errors
from openxclip.cli.options import (
    Target,
    Time,
    checked_empty_folder,
    device_options,
    fps_option,
    where_option,
)
from openxclip.cli.progress import progress
from openxclip.cli.rows import Form, Rows, format_options
from openxclip.cli.terminal import note, say
from openxclip.common.counting import counted
from openxclip.common.files import atomic_file
from openxclip.errors import OpenXCLIPError, VideoError

if TYPE_CHECKING:
    from openxclip.engine import Precision
    from openxclip.search import Hit


class _Place(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """The place of an index. The environment variable holds one, whose name may have spaces and colons."""

    name = "DIR"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)

    def split_envvar_value(self, rv: str) -> tuple[str, ...]:
        return (rv,)


class _Score(click.FloatRange):
    """A score, or "auto" for the threshold of the model."""

    def __init__(self) -> None:
        super().__init__(0, 1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == "auto" else super().convert(value, param, ctx)


@click.command("search", no_args_is_help=True)
@click.argument("text", required=False)
@click.option(
    "--in",
    "uris",
    type=_Place(),
    multiple=True,
    required=True,
    envvar="OPENXCLIP_INDEX",
    show_envvar=True,
    help="The index; repeated, several indexes of one model and window are searched as one.",
)
@click.option("--video", metavar="PATH", help="Search by this video instead of a text.")
@click.option("--start", type=Time(), help="Use the part of --video from this time: 83.5 or 1:23.5.")
@click.option("--end", type=Time(above=0), help="Use the part of --video up to this time.")
@fps_option
@click.option("--top", "k", type=click.IntRange(1), default=10, help="Moments to show.")
@click.option("--per-video", type=click.IntRange(1), metavar="N", help="Most moments of one video.")
@click.option("--min-score", type=_Score(), help="Lowest score; auto is the model's threshold, usually 0.5.")
@click.option("--min-similarity", type=click.FloatRange(-1, 1), help="Lowest similarity.")
@click.option("--raw", is_flag=True, help="Show single windows instead of merging neighbours to moments.")
@where_option
@click.option(
    "--rerank",
    type=click.IntRange(0),
    help="Number of candidates to rerank with prompts; 0 turns prompts off. An index without patches reads the "
    "videos again.  [default: 200, or 0 without patches]",
)
@click.option("--model", help="The model of the index, if it has moved.")
@format_options
@click.option("--html", type=Target(), help="Also write a page with a playing clip of each moment.")
@click.option(
    "--thumbnails",
    type=Target(file_okay=False),
    metavar="DIR",
    help="Write a JPEG of each moment to this folder; the field thumbnail in JSON and CSV names it.",
)
@device_options
def command(
    text: str | None,
    uris: tuple[str, ...],
    video: str | None,
    start: float | None,
    end: float | None,
    fps: float | None,
    min_score: float | Literal["auto"] | None,
    raw: bool,
    model: str | None,
    form: Form,
    html: Path | None,
    thumbnails: Path | None,
    device: str | None,
    precision: Precision,
    **options: Any,
) -> None:
    """Find the moments of an index that are most similar to TEXT or to another video.

    Neighbouring windows of a video are merged to one moment; "best" is the start of its best window.

    Each moment has two numbers. The score compares TEXT with neutral texts ("a video", "a scene", ...), as in classify:
    below the model's threshold, usually 0.5, the moment hardly shows TEXT. The similarity is the cosine that orders the
    moments. It uses X-CLIP's video-specific prompts if the index has patch features. A search by video has no score.
    """
    if (text is None) == (video is None):
        raise click.UsageError('give a sentence to search for, such as "a cat jumps", or --video PATH.')
    if video is None and (start is not None or end is not None):
        raise click.UsageError("--start and --end select a part of --video: give --video PATH too.")
    if video is not None and min_score is not None:
        raise click.UsageError("--min-score can't be combined with --video, which has no score: use --min-similarity.")
    from openxclip.search import Hit, VideoIndex, write_contact_sheet
    from openxclip.search.contact_sheet import check_contact_sheet
    from openxclip.video import ReadOptions

    with usage_errors():
        if html is not None:
            check_contact_sheet(html)
        if thumbnails is not None:
            checked_empty_folder(thumbnails, "the thumbnails")
        place = uris[0] if len(uris) == 1 else uris
        index = VideoIndex.open(place, model=model, device=device, precision=precision)
        if text is not None and index.info is not None and not index.info.patches:
            _mention_patches(options["rerank"])
        hits = index.search(
            text,
            video=video,
            start=start,
            end=end,
            read=ReadOptions(fps=fps),
            min_score=min_score,
            merge=not raw,
            **options,
        )
    pictures: dict[Hit, str] = {}
    write_error: Exception | None = None  # raised at the end, so that hits are printed even if the disk is full
    try:
        if thumbnails is not None:
            _write_thumbnails(hits, thumbnails, pictures)
        if html is not None:
            with progress("cutting clips", len(hits), noun="clip") as advance:
                write_contact_sheet(hits, html, title=text or f"like {video}", on_hit=advance)
            say(f"{html}: a page of {counted(len(hits), 'moment')}")
    except OSError as error:
        write_error = error
    except ValueError as error:
        write_error = OpenXCLIPError(str(error))
    rows = Rows(form, [*(field.name for field in fields(Hit)), *(["thumbnail"] if thumbnails else [])])
    for hit in hits:
        rows.print({**asdict(hit), **({"thumbnail": pictures.get(hit)} if thumbnails else {})})
    if form == "table":
        if hits:
            _show(hits)
        else:
            click.echo("no moment of the index meets the conditions." if len(index) else "the index is empty.")
    if write_error is not None:
        raise write_error


def _mention_patches(rerank: int | None) -> None:
    """Say what an index without patches means for a search."""
    if rerank is None:
        note(
            "the index has no patches, so moments are ordered without video-specific prompts: --rerank 50 reads the "
            "videos of 50 candidates again and orders these with prompts."
        )
    elif rerank:
        note(f"the index has no patches: reading the videos of {rerank} candidates again.")


def _write_thumbnails(hits: list[Hit], folder: Path, names: dict[Hit, str]) -> None:
    """Write a thumbnail of each moment and add its path to `names`; skip videos that can't be read."""
    from openxclip.search import thumbnail
    from openxclip.video import DecodeWorker

    folder.mkdir(parents=True, exist_ok=True)
    with progress("writing thumbnails", len(hits), noun="moment") as display, DecodeWorker() as reader:
        for number, hit in enumerate(hits, start=1):
            path = folder / f"{number:03}.jpg"
            try:
                with atomic_file(path) as partial:
                    partial.write_bytes(thumbnail(hit, reader=reader))
                names[hit] = str(path)
            except VideoError as error:
                say(error)
            display()


def _show(hits: list[Hit]) -> None:
    from openxclip.cli.tables import add_numbers, cell, new_table, print_table
    from openxclip.common.times import format_time

    has_score = any(hit.score is not None for hit in hits)
    is_merged = any(hit.windows > 1 for hit in hits)
    table = new_table()
    table.box = None
    add_numbers(table, *(["score"] if has_score else []), "similarity", "from", "to", *(["best"] if is_merged else []))
    table.add_column("video", overflow="fold")
    for hit in hits:
        cells = [] if hit.score is None else [f"{hit.score:.2f}"]
        cells += [f"{hit.similarity:.3f}", format_time(hit.start), format_time(hit.end)]
        cells += [format_time(hit.best_start)] if is_merged else []
        table.add_row(*cells, cell(hit.path))
    print_table(table, title=len(table.columns) - 1)
