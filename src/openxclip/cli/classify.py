"""`openxclip classify`: videos in, a table or JSON Lines out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

import click

from openxclip.cli.options import (
    batch_option,
    footage_options,
    named_videos,
    precision_option,
    progress,
    taken_limits,
)
from openxclip.cli.terminal import json_line, printable, say
from openxclip.hub import DEFAULT_MODEL

if TYPE_CHECKING:
    from rich.table import Table

    from openxclip.batching import Batch
    from openxclip.engine import Precision
    from openxclip.recognition import Classification

MINI_KNOWS = (
    "mini knows only openxclip's rendered playground (emoji that move), not real footage; "
    f"for that, use --model {DEFAULT_MODEL} or another X-CLIP."
)


@click.command("classify", no_args_is_help=True)
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO...")
@click.option("--labels", metavar='"A, B, C"', help="What to choose from, separated by commas.")
@click.option("--labels-file", type=click.File(encoding="utf-8-sig"), help="The same from a file, one a line.")
@click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    help="A folder, a hub id, or mini (knows only the rendered playground).",
)
@click.option("--frames", type=click.IntRange(1), help="Frames of a clip.  [default: what the model was trained with]")
@click.option("--clips", type=click.IntRange(1), default=1, show_default=True, help="Clips over each video, averaged.")
@click.option("--start", type=click.FloatRange(0), help="Look only from this second on.")
@click.option("--end", type=click.FloatRange(0, min_open=True), help="Look only up to this second.")
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="Labels shown of each video.")
@click.option("--template", default="{}", show_default=True, help='What is made of a label: "a video of {}".')
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Score that the best label must reach, or it is none of these.",
)
@click.option("--json", "as_json", is_flag=True, help="JSON Lines, as when the output is piped.")
@click.option("--device", help="cpu, cuda, cuda:1, …  [default: a GPU if there is one]")
@precision_option
@batch_option
@footage_options
def command(
    videos: tuple[str, ...],
    labels: str | None,
    labels_file: TextIO | None,
    model: str,
    frames: int | None,
    clips: int,
    start: float | None,
    end: float | None,
    top: int,
    template: str,
    threshold: float,
    as_json: bool,
    device: str | None,
    precision: Precision,
    batch: Batch,
    **footage: Any,
) -> None:
    """Say which of some labels each VIDEO shows.

    A VIDEO is a file, a folder (every video in it), or a glob in quotes; "-" reads names from standard input, one a
    line; /dev/stdin is a video that comes through a pipe.

    \b
    Two numbers are given for each label:
      probability  compares the labels with each other; they sum to 1 even if none fits
      score        compares the label with neutral texts ("a video", "a scene", ...): it means
                   something alone. If the best label's is below --threshold, the outcome is
                   "none of these".

    Videos that can't be read are named on stderr, the others go on, and the exit status is 1.
    """  # noqa: D301 (click's sign for a paragraph that is not wrapped)
    if (labels is None) == (labels_file is None):
        raise click.UsageError('say what to choose from: --labels "a, b, c" or --labels-file FILE (one of them).')
    names = labels.split(",") if labels is not None else _lines(labels_file)
    from openxclip.pipeline import VideoPipeline, check_stretch
    from openxclip.recognition import Classifier
    from openxclip.recognition.classification import check_labels
    from openxclip.video import find_videos

    paths = find_videos(named_videos(videos))
    if not paths:
        raise click.UsageError("no videos are named.")
    try:
        names = check_labels([name for name in names if name.strip()])
        check_stretch(start, end)
        if model == "mini":
            say(f"note: {MINI_KNOWS}")
        allowed = footage.pop("allow_protocols")
        pipeline = VideoPipeline.from_pretrained(
            model, device=device, precision=precision, limits=taken_limits(footage), allow_protocols=allowed
        )
        classifier = Classifier(pipeline, names, template=template, threshold=threshold)
        results = classifier(paths, top_k=top, num_frames=frames, num_clips=clips, start=start, end=end, batch=batch)
    except ValueError as error:
        raise click.UsageError(str(error)) from error

    show = _print_lines if as_json or not sys.stdout.isatty() else _show_table
    failed = show(results, len(paths))
    if failed:
        say(f"{failed} of {len(paths)} videos could not be read.")
        sys.exit(1)


def _lines(file: TextIO | None) -> list[str]:
    try:
        return list(file or ())
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{getattr(file, 'name', file)}: is not text in UTF-8 ({error.reason}).") from error


def _print_lines(results: Iterator[Classification], total: int) -> int:
    """One JSON object a video; returns how many could not be read."""
    failed = 0
    with progress("classifying", total) as advance:
        for result in results:
            failed += _say_if_failed(result)
            click.echo(json_line(as_dict(result)))
            advance()
    return failed


def _show_table(results: Iterator[Classification], total: int) -> int:
    """A table of all videos at the end; returns how many could not be read."""
    from rich import box
    from rich.table import Table

    from openxclip.cli.tables import print_table

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("video", overflow="fold")
    table.add_column("label", overflow="fold")
    table.add_column("probability", justify="right", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    failed = 0
    try:
        with progress("classifying", total) as advance:
            for result in results:
                failed += _say_if_failed(result)
                _add_rows(table, result)
                advance()
    finally:  # interrupted or not: what was found is shown
        if table.row_count:
            print_table(table)
    return failed


def _add_rows(table: Table, result: Classification) -> None:
    """A video's outcome in its first row, the labels after it; what was not chosen is dim."""
    from rich.text import Text

    if result.error is not None:
        table.add_row(Text(printable(result.path)), Text(printable(result.error.reason), style="red"))
    chosen = bool(result.labels) and result.labels[0].label == result.outcome
    if result.labels and not chosen:
        table.add_row(Text(printable(result.path)), Text(printable(str(result.outcome)), style="yellow"))
    for i, row in enumerate(result.labels):
        best = chosen and i == 0
        table.add_row(
            Text(printable(result.path) if best else ""),
            Text(printable(row.label), style="bold green" if best else ""),
            f"{row.probability:.1%}",
            f"{row.score:.2f}",
            style=None if best else "dim",
        )
    table.add_section()


def _say_if_failed(result: Classification) -> bool:
    if result.error is not None:
        say(result.error)
    return result.error is not None


def as_dict(result: Classification) -> dict[str, Any]:
    """A result as plain JSON values."""
    if result.error is not None:
        return {"path": result.path, "error": result.error.reason}
    return {
        "path": result.path,
        "outcome": result.outcome,
        "labels": [
            {"label": row.label, "probability": round(row.probability, 6), "score": round(row.score, 6)}
            for row in result.labels
        ],
        "none_of_these": None if result.none_of_these is None else round(result.none_of_these, 6),
        "times": [[round(time, 3) for time in clip] for clip in result.times],
    }
