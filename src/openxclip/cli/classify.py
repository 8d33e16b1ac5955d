"""`openxclip classify`: chooses labels for videos."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from openxclip.cli.cluster_options import OutOption, checked_without_cluster, run_on_cluster, table_options
from openxclip.cli.help import usage_errors
from openxclip.cli.options import (
    Time,
    batch_option,
    device_options,
    finding_options,
    footage_options,
    found_videos,
    frames_option,
    lines_of,
    model_option,
    note_of_model,
    read_options,
    refuse_given,
    sampling_option,
)
from openxclip.cli.progress import progress
from openxclip.cli.rows import Form, Rows, format_options
from openxclip.cli.terminal import say
from openxclip.common.counting import counted

if TYPE_CHECKING:
    from rich.table import Table

    from openxclip.cluster import TableResult
    from openxclip.engine import Precision
    from openxclip.pipeline.batching import Batch
    from openxclip.recognition import Classification

_COLUMNS = ("path", "outcome", "label", "probability", "score", "none_of_these", "error")


@click.command("classify", no_args_is_help=True)
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO...")
@click.option("--labels", metavar='"A, B, C"', help="The labels to choose from, separated by commas.")
@click.option("--labels-file", type=click.File(encoding="utf-8-sig"), help="A file with the labels, one per line.")
@model_option
@frames_option
@click.option(
    "--clips", "num_clips", type=click.IntRange(1), default=1, help="Clips per video; their scores are averaged."
)
@click.option("--start", type=Time(), help="Read the video only from this time: 83.5 or 1:23.5.")
@click.option("--end", type=Time(above=0), help="Read the video only up to this time.")
@sampling_option
@click.option("--top", type=click.IntRange(1), default=5, help="Labels to show per video.")
@click.option("--template", default="{}", help='Text for a label, for example "a video of {}".')
@click.option(
    "--min-score",
    type=click.FloatRange(0, 1),
    help='If the best label has a lower score, the outcome is "none of these".  [default: the model\'s, usually 0.5]',
)
@click.option(
    "--out",
    type=OutOption(),
    help="With --cluster: a folder for .parquet files or NAME.lance to write, also in an object store.",
)
@table_options
@format_options
@device_options
@batch_option
@finding_options
@footage_options
def command(
    videos: tuple[str, ...],
    labels: str | None,
    labels_file: TextIO | None,
    model: str,
    top: int,
    template: str,
    min_score: float | None,
    form: Form,
    device: str | None,
    precision: Precision,
    batch: Batch,
    out: Path | str | None,
    cluster: str | None,
    max_failures: int | None,
    cores_per_worker: int | None,
    readers: int | None,
    progress_form: str,
    **options: Any,
) -> None:
    """Choose the labels that fit each VIDEO.

    A VIDEO is a file, a folder (every video in it), or a glob in quotes; "-" reads names from standard input, one per
    line; /dev/stdin reads a video from a pipe.

    Each label gets two numbers. The probability compares the labels with each other: probabilities sum to 1 even if no
    label fits. The score compares one label with neutral texts ("a video", "a scene", ...) and doesn't depend on the
    other labels. If the best label's score is below --min-score, the outcome is "none of these". none_of_these in the
    JSON is 1 minus that score.

    Videos that can't be read are reported on stderr, the others are processed, and the exit status is 1.

    With --cluster, VIDEO is one folder, s3://bucket/prefix, or a manifest: a .parquet, .csv or .jsonl file with a
    column path; the results are rows of --out.
    """
    if (labels is None) == (labels_file is None):
        raise click.UsageError(
            'give the labels to choose from: --labels "a, b, c" or --labels-file FILE (one of them).'
        )
    names = labels.split(",") if labels is not None else lines_of(labels_file)
    if cluster is not None:
        if out is None:
            raise click.UsageError("--cluster needs --out: a folder for .parquet files, or NAME.lance.")
        refuse_given(("output_format", "as_json"), "can't be combined with --cluster, whose results are in --out.")
        options |= {"model": model, "top_k": top, "template": template, "min_score": min_score, "batch": batch}
        run_on_cluster(
            "classifying",
            videos,
            lambda common: _classify_on_cluster(common, names, precision=precision, **options),
            out=out,
            cluster=cluster,
            max_failures=max_failures,
            cores=cores_per_worker,
            readers=readers,
            form=progress_form,
        )
        note_of_model(model)
        return
    checked_without_cluster(None)
    refuse_given(("out",), "needs --cluster.")
    from openxclip.pipeline import VideoPipeline
    from openxclip.recognition import Classifier
    from openxclip.recognition.classification import check_labels
    from openxclip.video import ClipPlan

    paths = found_videos(videos)
    failed = 0
    with usage_errors():
        names = check_labels([name for name in names if name.strip()])
        read = read_options(options)
        plan = ClipPlan(**options)  # the remaining ones: num_frames, num_clips, start, end, sampling
        pipeline = VideoPipeline.from_pretrained(model, device=device, precision=precision, read=read)
        with progress("encoding labels", len(names), noun="label") as display:
            classifier = Classifier(
                pipeline,
                names,
                template=template,
                min_score=min_score,
                on_text=lambda done: display.at(min(done, len(names))),
            )
        with progress("classifying", len(paths), prints_meanwhile=form != "table") as display:
            results = classifier(
                paths, plan, top_k=top, batch=batch, on_clip=lambda done: display.clips(done, plan.num_clips)
            )
            rows = Rows(form, _COLUMNS)
            in_table: list[Classification] = []
            try:
                for result in results:
                    if result.error is not None:
                        failed += 1
                        say(result.error)
                    if form == "table":
                        in_table.append(result)
                    for row in _label_rows(result) if form == "csv" else [result.to_dict()]:
                        rows.print(row)
                    display()
            finally:  # show the results so far, even after an interruption
                display.close()
                if in_table:
                    _show_table(in_table)
    if failed:
        say(f"{failed} of {counted(len(paths), 'video')} could not be read.")
    note_of_model(model)
    if failed:
        sys.exit(1)


def _classify_on_cluster(common: dict[str, Any], names: list[str], **options: Any) -> TableResult:
    from openxclip.cluster import classify_on_cluster

    labels = [name for name in names if name.strip()]
    return classify_on_cluster(**common, labels=labels, read=read_options(options), **options)


def _show_table(results: list[Classification]) -> None:
    from openxclip.cli.tables import add_numbers, new_table, print_table

    table = new_table()
    table.add_column("video", overflow="fold")
    table.add_column("label", overflow="fold")
    add_numbers(table, "probability", "score")
    for result in results:
        _add_rows(table, result)
    print_table(table)


def _add_rows(table: Table, result: Classification) -> None:
    """Add the outcome of a video in its first row and the labels below; labels that weren't chosen are dim."""
    from openxclip.cli.tables import cell

    if result.error is not None:
        table.add_row(cell(result.path), cell(result.error.reason, "red"))
    is_chosen = bool(result.labels) and result.labels[0].label == result.outcome
    if result.labels and not is_chosen:
        table.add_row(cell(result.path), cell(result.outcome, "yellow"))
    for i, row in enumerate(result.labels):
        is_outcome = is_chosen and i == 0
        table.add_row(
            cell(result.path if is_outcome else ""),
            cell(row.label, "bold green" if is_outcome else ""),
            f"{row.probability:.1%}",
            f"{row.score:.2f}",
            style=None if is_outcome else "dim",
        )
    table.add_section()


def _label_rows(result: Classification) -> list[dict[str, Any]]:
    """Return one row for each label, or one with the error if the video could not be read."""
    video = result.to_dict()
    return [{**video, **label} for label in video.pop("labels", [{}])]
