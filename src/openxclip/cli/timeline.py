"""`openxclip timeline`: finds when labels are seen in videos."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, TextIO

import click

from openxclip.cli.help import usage_errors
from openxclip.cli.options import (
    Target,
    Time,
    batch_option,
    decode_option,
    device_options,
    finding_options,
    footage_options,
    lines_of,
    note_of_model,
    refuse_given,
    shots_option,
)
from openxclip.cli.progress import progress
from openxclip.cli.rows import Form, format_options
from openxclip.cli.terminal import OutputError, note, say
from openxclip.common.counting import counted
from openxclip.hub import DEFAULT_MODEL

_DECODES = (  # parameters that have no use if nothing is decoded
    *("shots", "decode", "window", "stride", "num_frames", "batch", "fps", "track", "allow_protocols"),
    *("max_seconds", "max_pixels", "max_frames", "max_memory"),
)
_FINDS = ("index", "threshold", "writes", "plot", "save_clips", "scores")  # that have no use with --calibrate
_SEGMENTS = ("threshold", "stop", "smooth", "min_duration", "merge_gap")


@click.command("timeline", no_args_is_help=True)
@click.argument("videos", nargs=-1, metavar="[VIDEO...]")
@click.option("--labels", metavar='"A, B, C"', help="The labels to find, separated by commas.")
@click.option("--labels-file", type=click.File(encoding="utf-8-sig"), help="A file with the labels, one per line.")
@click.option(
    "--query", "queries", multiple=True, metavar="TEXT", help="A label that may have commas; may be repeated."
)
@click.option(
    "--model", help=f"A folder, a hub id, or mini.  [default: {DEFAULT_MODEL}; with --in, the model of the index]"
)
@click.option(
    "--in",
    "index",
    metavar="DIR",
    help="Use the windows that this index stores, and decode nothing. Without VIDEO, all videos of the index.",
)
@click.option("--window", type=Time(above=0), help="Length of a window.  [default: the model's, or 10]")
@click.option(
    "--stride",
    type=Time(above=0),
    help="Time from the start of one window to the next.  [default: half the window, or the model's without --window]",
)
@click.option(
    "--frames",
    "num_frames",
    type=click.IntRange(1),
    help="Frames of a window.  [default: the model's, or as it was trained]",
)
@shots_option
@decode_option
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Score from which a segment begins.  [default: the model's for the label, usually 0.5]",
)
@click.option(
    "--stop", type=click.FloatRange(0, 1), help="Score below which a segment ends.  [default: 0.1 of the threshold]"
)
@click.option("--smooth", type=Time(), help="Average scores over windows up to this far apart.  [default: two strides]")
@click.option("--min-length", "min_duration", type=Time(), help="Leave out shorter segments.  [default: one stride]")
@click.option(
    "--merge-gap", type=Time(), help="Join segments of a label that are at most this far apart.  [default: one stride]"
)
@click.option(
    "--calibrate",
    is_flag=True,
    help="Find no segments, but set each label's threshold from VIDEOs in which none of the labels happens.",
)
@click.option(
    "--false-alarms",
    metavar="RATE",
    help="With --calibrate: false alarms of a label: 6/hour, 2/week.  [default: 1/day]",
)
@click.option(
    "--save-to", metavar="PLACE", help="With --calibrate: save the thresholds in a FILE.json or in a model's folder."
)
@click.option("--template", default="{}", help='Text for a label, for example "a video of {}".')
@click.option(
    "--contract", metavar="FILE", help="JSON with windows, thresholds and neutral texts, instead of the model's own."
)
@click.option(
    "--write",
    "writes",
    multiple=True,
    metavar="FILE",
    help="Also write FILE: .vtt, .srt, .edl, .otio, .fcpxml, .ffmetadata, .jsonl (QVHighlights), "
    "label-studio:FILE.json or fiftyone:FILE.json; {stem} in the name is the video's. May be repeated.",
)
@click.option("--plot", metavar="FILE", help="Also draw a picture: .png or .svg; {stem} in the name is the video's.")
@click.option(
    "--save-clips",
    type=Target(file_okay=False),
    metavar="DIR",
    help="Cut the segments out into files of this folder at the end, without encoding where a key frame allows it.",
)
@click.option("--scores", is_flag=True, help="Also print the score of each label in each window (JSON Lines only).")
@format_options
@device_options
@batch_option
@finding_options
@footage_options
def command(
    videos: tuple[str, ...],
    labels: str | None,
    labels_file: TextIO | None,
    queries: tuple[str, ...],
    index: str | None,
    contract: str | None,
    writes: tuple[str, ...],
    plot: str | None,
    save_clips: Path | None,
    scores: bool,
    calibrate: bool,
    false_alarms: str | None,
    save_to: str | None,
    form: Form,
    **options: Any,
) -> None:
    """Find when labels are seen in each VIDEO.

    A VIDEO is a file, a folder (every video in it), or a glob in quotes; "-" reads names from standard input, one per
    line.

    The video is cut into overlapping windows. In each, every label gets a score from 0 to 1, its share against neutral
    texts ("a video", "a scene", ...), which doesn't depend on the other labels. A segment of a label is a time in which
    its score reaches the threshold and doesn't fall below --stop. Segments of several labels may overlap.

    Each video is printed as soon as it is done. Videos that can't be read are reported on stderr, the others are
    processed, and the exit status is 1. A video that is cut off has a timeline up to there.

    After an interruption, what was printed is valid, and the files contain the videos that were finished. The same
    command starts over.
    """
    names = _labels(labels, labels_file, queries)
    if scores and form != "jsonl":
        raise click.UsageError(f"--scores goes with --json (--format jsonl), not with --format {form}.")
    if index is None and not videos:
        raise click.UsageError("no videos are named.")
    if index is not None:
        refuse_given(_DECODES, "doesn't go with --in: nothing is decoded.")
    if calibrate:
        refuse_given(_FINDS, "doesn't go with --calibrate, which only sets thresholds.")
    else:
        refuse_given(("false_alarms", "save_to"), "goes with --calibrate.")
    from openxclip.cli.timeline_calibration import DEFAULT_RATE, Calibrator
    from openxclip.cli.timeline_files import Files
    from openxclip.cli.timeline_output import Output
    from openxclip.cli.timeline_sources import FileSource, IndexSource
    from openxclip.recognition.classification import check_labels
    from openxclip.timelines import SegmentOptions
    from openxclip.timelines.contracts import as_contract

    with usage_errors():
        names = check_labels(names)
        calibrator = Calibrator(DEFAULT_RATE if false_alarms is None else false_alarms, save_to) if calibrate else None
        settings = {
            "options": SegmentOptions(**{name: options.pop(name) for name in _SEGMENTS}),
            "template": options.pop("template"),
            "contract": None if contract is None else as_contract(contract),
        }
        if index is None:
            source: FileSource | IndexSource = FileSource(videos, options)
        else:
            source = IndexSource(index, videos, options)
        files = Files(
            writes,
            plot,
            save_clips,
            num_videos=source.count,
            read=source.read_again,
            videos=[str(path) for path in source.paths],
        )
        with progress("encoding labels", len(names), noun="label") as display:
            settings["on_text"] = lambda done: display.at(min(done, len(names)))
            notes = source.load(names, settings)
        for text in notes:
            note(text)
        if calibrator is not None and isinstance(source, FileSource):
            calibrator.run(source.finder, source.paths, form, batch=source.batch, template=settings["template"])
            note_of_model(source.model)
            return
        output = Output(form, scores=scores)
        with progress("finding segments", source.count, prints_meanwhile=True) as display:
            try:
                for timeline in source.timelines(lambda path, end, duration: display.footage(end, duration)):
                    try:
                        output.add(timeline, notes=[text for text in timeline.notes if text not in notes])
                    except (OSError, OutputError):  # such as `| head -1`: the files have this video all the same
                        files.add(timeline)
                        raise
                    files.add(timeline)
                    display()
            finally:  # also after an interruption: the files hold the videos so far
                display.close()
                files.finish()
        files.save_clips()
    if output.unread:
        say(f"{output.unread} of {counted(source.count, 'video')} could not be read.")
    if output.cut_off:
        say(f"{output.cut_off} of {counted(source.count, 'video')} could be read only in part.")
    note_of_model(source.model)
    if output.unread or output.cut_off or files.has_failed:
        sys.exit(1)


def _labels(labels: str | None, labels_file: TextIO | None, queries: tuple[str, ...]) -> list[str]:
    if sum((labels is not None, labels_file is not None, bool(queries))) != 1:
        raise click.UsageError(
            'give what to find: --labels "a, b, c", --labels-file FILE or --query TEXT (one of them).'
        )
    if queries:
        return list(queries)
    names = labels.split(",") if labels is not None else lines_of(labels_file)
    return [name for name in names if name.strip()]
