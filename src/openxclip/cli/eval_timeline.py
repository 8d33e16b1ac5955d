"""`openxclip eval timeline`: measures timelines against annotated videos."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from openxclip.cli.help import usage_errors
from openxclip.cli.options import (
    Target,
    Time,
    batch_option,
    device_options,
    footage_options,
    lines_of,
    model_option,
    note_of_model,
    read_options,
    shots_option,
)
from openxclip.cli.progress import progress
from openxclip.cli.terminal import note, printable, say, say_first
from openxclip.common.counting import counted

if TYPE_CHECKING:
    from openxclip.timelines.annotations import Annotations
    from openxclip.timelines.evaluation_run import TimelineResults

_SEGMENTS = ("threshold", "stop", "smooth", "min_duration", "merge_gap")
_WINDOWS = ("window", "stride", "num_frames")
_FINDING = (*_SEGMENTS, *_WINDOWS, "shots", "model", "template", "contract", "videos", "device", "precision", "batch")


@click.command("timeline", no_args_is_help=True)
@click.argument("annotations", nargs=-1, required=True, metavar="ANNOTATIONS...")
@click.option("--videos", metavar="DIR", help="The folder of the videos.  [default: the folder of the annotations]")
@click.option(
    "--predictions",
    metavar="FILE",
    help="Timelines that `openxclip timeline --json --scores` printed, instead of running a model.",
)
@click.option(
    "--absent",
    type=click.File(encoding="utf-8-sig"),
    help="A file with more labels, one per line, which happen in none of the videos: false alarms are counted.",
)
@click.option("--subset", help="The subset of ActivityNet's videos, such as validation.  [default: all]")
@click.option(
    "--annotation-fps",
    "frame_rate",
    type=click.FloatRange(0, min_open=True),
    metavar="RATE",
    help="Frames per second by which Label Studio counted, for tasks without fps.",
)
@model_option
@click.option("--window", type=Time(above=0), help="Length of a window.  [default: the model's, or 10]")
@click.option("--stride", type=Time(above=0), help="Time from one window to the next.  [default: as timeline's]")
@click.option("--frames", "num_frames", type=click.IntRange(1), help="Frames of a window.  [default: the model's]")
@shots_option
@click.option("--threshold", type=click.FloatRange(0, 1), help="Score from which a segment begins.")
@click.option("--stop", type=click.FloatRange(0, 1), help="Score below which a segment ends.")
@click.option("--smooth", type=Time(), help="Average scores over windows up to this far apart.")
@click.option("--min-length", "min_duration", type=Time(), help="Leave out shorter segments.")
@click.option("--merge-gap", type=Time(), help="Join segments of a label that are at most so far apart.")
@click.option("--template", default="{}", help='Text for a label, for example "a video of {}".')
@click.option("--contract", metavar="FILE", help="JSON with windows, thresholds and neutral texts.")
@click.option("--out", type=Target(file_okay=False), help="Folder for results.json.")
@device_options
@batch_option
@footage_options
def command(
    annotations: tuple[str, ...],
    videos: str | None,
    predictions: str | None,
    absent: TextIO | None,
    subset: str | None,
    frame_rate: float | None,
    out: Path | None,
    **options: Any,
) -> None:
    """Measure timelines against videos with ANNOTATIONS.

    \b
      openxclip eval timeline val.json \\
          --videos clips/ --model my-model

    ANNOTATIONS are files of one form, which is recognised by their content: ActivityNet's JSON, QVHighlights' JSON
    Lines, Label Studio's export with TimelineLabels, or the film.json of openxclip playground.

    Segments are found with the options of `openxclip timeline`. The table has ActivityNet's mAP, F1, the mAP over
    frames, and QVHighlights' R1 and mAP of queries (HIT@1 if the file has ratings).

    Videos that are missing or can't be read are counted and named; no metric includes them. If one can't be read, the
    exit status is 1.
    """  # noqa: D301 (\b tells click not to wrap the paragraph)
    from openxclip.timelines.annotation_files import read_annotations

    if predictions is not None:
        _refuse_finding_options()
    if out is not None:
        from openxclip.common.files import checked_folder

        with usage_errors():
            checked_folder(out)
    read = read_annotations(annotations, subset=subset, frame_rate=frame_rate)
    for text in read.notes:
        note(text)
    more = [label.strip() for label in lines_of(absent) if label.strip()] if absent is not None else []
    for label in more:
        happens = sum(any(moment.label == label for moment in video.moments) for video in read.videos)
        if happens:
            note(f"--absent: {label!r} happens in {counted(happens, 'video')}, where it isn't counted as absent.")
    if predictions is not None:
        results = _of_predictions(predictions, read, annotations, more)
    else:
        folder = videos if videos is not None else str(Path(annotations[0]).parent)
        results = _of_model(folder, read, annotations, more, options)
    say_first([f"{name}: {reason}" for name, reason in results.errors.items()], rest=": results.json lists all")
    for text in results.notes[len(read.notes) :]:
        say(text)
    _show(results)
    if out is not None:
        path = results.save(out)
        click.echo(f"{printable(str(path))}: wrote the results.")
    if results.model is not None:
        note_of_model(results.model)
    if results.errors:
        sys.exit(1)


def _of_model(
    folder: str, read: Annotations, paths: tuple[str, ...], absent: list[str], options: dict[str, Any]
) -> TimelineResults:
    from openxclip.pipeline import VideoPipeline
    from openxclip.timelines import SegmentOptions
    from openxclip.timelines.annotations import find_files
    from openxclip.timelines.contracts import as_contract
    from openxclip.timelines.evaluation_run import evaluate_files, results_of
    from openxclip.timelines.shots import load_detectors

    contract = options.pop("contract")
    model, batch = options.pop("model"), options.pop("batch")
    loading = {name: options.pop(name) for name in ("device", "precision")}
    with usage_errors():
        segments = SegmentOptions(**{name: options.pop(name) for name in _SEGMENTS})
        finding: dict[str, Any] = {name: options.pop(name) for name in (*_WINDOWS, "shots", "template")}
        finding |= {"options": segments, "contract": None if contract is None else as_contract(contract)}
        how = read_options(options)
        if finding["shots"] is not None:
            load_detectors()
        find_files(read.videos, folder)  # before the model is loaded
        pipeline = VideoPipeline.from_pretrained(model, read=how, **loading)
        with progress("finding segments") as display:
            pairs, missing = evaluate_files(
                read,
                folder,
                pipeline,
                absent=absent,
                batch=batch,
                on_video=display.at,
                on_clip=lambda path, end, duration: display.footage(end, duration),
                **finding,
            )
    contract = pipeline.contract if finding["contract"] is None else finding["contract"]
    settings = contract.windows(**{name: finding[name] for name in _WINDOWS})._asdict()
    settings |= {name: finding[name] for name in ("shots", "template")} | {
        "contract": contract.to_dict(),
        "segments": vars(segments),
    }
    settings["absent"] = absent
    return results_of(pairs, missing, read, paths=paths, model=model, settings=settings)


def _of_predictions(predictions: str, read: Annotations, paths: tuple[str, ...], absent: list[str]) -> TimelineResults:
    from openxclip.timelines.evaluation_run import match_timelines, read_timelines, results_of

    timelines = read_timelines(predictions)
    pairs, missing = match_timelines(read, timelines, absent=absent)
    settings = {"predictions": predictions, "absent": absent}
    return results_of(pairs, missing, read, paths=paths, model=None, settings=settings)


def _refuse_finding_options() -> None:
    """Refuse options for finding segments beside --predictions, which has them already."""
    from click.core import ParameterSource

    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name in _FINDING and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{parameter.opts[0]} doesn't go with --predictions, which has the segments already."
            )


def _show(results: TimelineResults) -> None:
    """Print the metrics as a table; those that could not be measured are left out."""
    from openxclip.cli.tables import add_numbers, cell, new_table, print_line, print_table

    scores = results.scores
    counts = scores.counts
    table = new_table()
    table.add_column("metric", overflow="fold")
    add_numbers(table, "value")
    table.add_column("of", overflow="fold")
    queries = counted(scores.num_queries, "query", "queries")
    hours = sum(own.absent_hours for own in scores.labels.values())
    happening = counted(sum(own.moments > 0 for own in scores.labels.values()), "label")
    about = {
        **{f"mAP@{level:g}": happening for level in scores.map},
        "F1@0.5": f"{counts.matched} of {counted(counts.found, 'segment')} and {counted(counts.true, 'moment')}",
        "precision@0.5": counted(counts.found, "segment"),
        "recall@0.5": counted(counts.true, "moment"),
        "frame_mAP": happening,
        "HIT@1": counted(scores.num_rated, "rated query", "rated queries"),
        "start_error": counted(counts.matched, "segment"),
        "end_error": counted(counts.matched, "segment"),
        "false_alarms_per_hour": f"{hours:.3g} hours of absent labels",
    }
    for name, value in scores.to_dict().items():
        if value is not None:
            is_share = name not in ("false_alarms_per_hour", "start_error", "end_error")
            shown = f"{100 * value:.1f} %" if is_share else f"{value:.2f}{'' if 'alarms' in name else ' s'}"
            table.add_row(cell(name.replace("_", " ")), shown, cell(about.get(name, queries)))
    print_line(f"{counted(scores.num_videos, 'video')}, annotated as by {results.form}", "bold")
    print_table(table)
