"""`openxclip embed`: writes the features of videos to a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from openxclip.cli.cluster_options import OutOption, checked_without_cluster, run_on_cluster, table_options
from openxclip.cli.options import (
    Time,
    batch_option,
    decode_option,
    device_options,
    finding_options,
    footage_options,
    found_videos,
    frames_option,
    model_option,
    note_of_model,
    read_options,
    refuse_given,
    sampling_option,
    stride_option,
)
from openxclip.cli.progress import progress
from openxclip.cli.terminal import printable, say
from openxclip.common.counting import counted
from openxclip.errors import CheckpointError

if TYPE_CHECKING:
    from openxclip.cluster import TableResult
    from openxclip.errors import VideoError


class _Window(Time):
    """The length of a window, or "auto" for the window of the model."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == "auto" else super().convert(value, param, ctx)


@click.command("embed", no_args_is_help=True)
@click.argument("videos", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--out",
    type=OutOption(),
    required=True,
    help="File to write: .parquet (needs openxclip[parquet]), .npz or .safetensors. With --cluster, a folder for "
    ".parquet files or NAME.lance, also in an object store.",
)
@model_option
@frames_option
@click.option("--clips", "num_clips", type=click.IntRange(1), help="Clips per video, with one row each.  [default: 1]")
@click.option(
    "--window",
    type=_Window(above=0),
    help="One row for each window of this length instead: 10 or 0:10; auto is the model's window, stride and frames.",
)
@stride_option
@sampling_option
@decode_option
@click.option(
    "--patches", is_flag=True, help="Also write the patch features, which are needed to score texts with prompts later."
)
@click.option("--normalize", is_flag=True, help="Scale each feature to length 1.")
@table_options
@click.option(
    "--force", is_flag=True, help="Overwrite OUT if it exists, and discard an unfinished run with other options."
)
@device_options
@batch_option
@finding_options
@footage_options
def command(
    videos: tuple[str, ...],
    out: Path | str,
    model: str,
    num_clips: int | None,
    window: float | Literal["auto"] | None,
    cluster: str | None,
    max_failures: int | None,
    cores_per_worker: int | None,
    readers: int | None,
    progress_form: str,
    **options: Any,
) -> None:
    """Write the features of videos to a file, a row for each clip or window.

    A PATH is a file, a folder (every video in it), or a glob in quotes; "-" reads names from standard input, one per
    line.

    A row has the path of the video, the start and end in seconds, the times of the frames, and the feature: the output
    of MIT for the clip, not normalised unless --normalize is given.

    The same command resumes an interrupted run; its results so far are in OUT.part. Videos that can't be read are
    skipped and reported on stderr and in the file, and the exit status is 1.

    With --cluster, PATH is one folder, s3://bucket/prefix, or a manifest: a .parquet, .csv or .jsonl file with a column
    path.
    """
    if window is not None and num_clips is not None:
        raise click.UsageError("give --clips N or --window TIME, not both.")
    if cluster is not None:
        run_on_cluster(
            "embedding",
            videos,
            lambda common: _embed_on_cluster(common, model=model, num_clips=num_clips or 1, window=window, **options),
            out=out,
            cluster=cluster,
            max_failures=max_failures,
            cores=cores_per_worker,
            readers=readers,
            form=progress_form,
        )
        note_of_model(model)
        return
    out = checked_without_cluster(out)
    from openxclip.features import embed

    paths = [str(path) for path in found_videos(videos)]
    read = read_options(options)
    try:
        with progress("embedding", len(paths)) as display:

            def on_video(path: str, error: VideoError | None) -> None:
                if error is not None:
                    say(error)
                display()

            result = embed(
                paths,
                out,
                model=model,
                num_clips=num_clips or 1,
                window=window,
                read=read,
                on_video=on_video,
                on_clip=lambda path, end, duration: display.footage(end, duration),
                **options,
            )
    except ValueError as error:
        raise click.UsageError(printable(str(error).replace("force=True", "--force"))) from error
    except FileExistsError as error:
        raise click.UsageError(
            f"{printable(str(error.filename))} exists already: choose another --out, or overwrite it with --force."
        ) from error
    except CheckpointError:  # the model couldn't be loaded, so there is nothing to resume
        raise
    except (KeyboardInterrupt, OSError):
        if out.with_name(f"{out.name}.part").is_dir():
            say("the progress is saved: run the same command to resume")
        raise
    num_videos = counted(len(result.paths), "video")
    if result.rows:
        kernel = f" ({result.kernel})" if result.kernel else ""
        num_read = counted(len(result.paths) - len(result.errors), "video")
        rows = f"{counted(result.rows, 'row')} of {counted(result.width, 'number')} from {num_read}"
        click.echo(f"{printable(str(result.path))}: {rows}{kernel}")
    if result.errors:
        nothing = "" if result.rows else f", and {result.path} was not written"
        say(f"{len(result.errors)} of {num_videos} could not be read{nothing}.")
    note_of_model(model)
    if result.errors:
        sys.exit(1)


def _embed_on_cluster(common: dict[str, Any], **options: Any) -> TableResult:
    from openxclip.cluster import embed_on_cluster

    refuse_given(("force",), "can't be combined with --cluster: choose another --out.")
    for name in ("device", "force"):
        del options[name]
    return embed_on_cluster(**common, read=read_options(options), **options)
