"""`openxclip index`: put videos into an index, keep it up to date, take them out."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openxclip.cli.classify import MINI_KNOWS
from openxclip.cli.options import (
    Target,
    batch_option,
    limit_options,
    named_videos,
    precision_option,
    progress,
    taken_limits,
)
from openxclip.cli.terminal import printable, say

if TYPE_CHECKING:
    from openxclip.batching import Batch
    from openxclip.engine import Precision
    from openxclip.errors import VideoError
    from openxclip.search import Added, VideoIndex

_LOOKS_EVERY_S = 2.0


@click.command("index", no_args_is_help=True)
@click.argument("videos", nargs=-1, metavar="[PATH...]")
@click.option("--to", required=True, metavar="DIR", help="Folder of the index, or s3://… and what else LanceDB takes.")
@click.option("--model", help="A folder, a hub id, or mini.  [default: the index's; of a new one as in classify]")
@click.option("--window", type=float, metavar="SECONDS", help="Of a new index: a window's length.  [default: 10]")
@click.option("--stride", type=float, metavar="SECONDS", help="From one window to the next.  [default: the window]")
@click.option(
    "--frames", type=click.IntRange(1), help="Frames of a window.  [default: what the model was trained with]"
)
@click.option("--no-patches", is_flag=True, help="Of a new index: smaller, but its hits can't be reranked by prompts.")
@click.option("--update", is_flag=True, help="Look at all files of the index again: what has changed, what is gone?")
@click.option("--remove", is_flag=True, help="Take the files or folders out of the index instead.")
@click.option(
    "--export",
    type=Target(dir_okay=False),
    metavar="FILE",
    help="Write all windows to FILE.parquet, which `openxclip index FILE.parquet` takes, on another machine too.",
)
@click.option("--watch", is_flag=True, help="Go on looking for new and changed files, until Ctrl-C.")
@click.option("--device", help="cpu, cuda, cuda:1, …  [default: a GPU if there is one]")
@precision_option
@batch_option
@limit_options
def command(
    videos: tuple[str, ...],
    to: str,
    model: str | None,
    window: float | None,
    stride: float | None,
    frames: int | None,
    no_patches: bool,
    update: bool,
    remove: bool,
    export: Path | None,
    watch: bool,
    device: str | None,
    precision: Precision,
    batch: Batch,
    **limits: Any,
) -> None:
    """Put videos into an index that `openxclip search` searches; it is made where there is none.

    A PATH is a file, a folder (every video in it), or a glob in quotes; "-" reads names from standard input, one a
    line. A .parquet file that --export wrote adds the windows it has.

    Files that are in the index and have not changed are passed over: an interrupted run goes on when it is started
    again. Videos that can't be read are named on stderr and remembered, the others go on, and the exit status is 1;
    --update tries them again.
    """
    if remove and (update or watch):
        raise click.UsageError("--remove takes files out: it doesn't go with --update or --watch.")
    named = list(named_videos(videos))
    if not named and not update and export is None:
        raise click.UsageError("no videos are named.")
    if watch and any(name.lower().endswith(".parquet") for name in named):
        raise click.UsageError("--watch is for videos: add the .parquet files without it.")
    if remove and export is not None:
        raise click.UsageError("--remove takes files out: it doesn't go with --export.")
    from openxclip.errors import VideoIndexError
    from openxclip.files import checked_target
    from openxclip.search import Added, VideoIndex
    from openxclip.search.parquet import SUFFIX

    try:
        if export is not None:
            checked_target(export, SUFFIX)
        index = VideoIndex.open(
            to,
            model=model,
            window=window,
            stride=stride,
            num_frames=frames,
            patches=False if no_patches else None,
            device=device,
            precision=precision,
        )
        if remove:
            gone = index.remove(named).removed
            click.echo(f"{printable(to)}: {len(gone)} videos removed, {len(index)} windows")
            return
        if model == "mini" and index.about is None:
            say(f"note: {MINI_KNOWS}")
        options: dict[str, Any] = {"batch": batch, "limits": taken_limits(limits)}
        done = Added()
        if named or update:
            done = _pass(index, named, update=update, retry=update, **options)
            click.echo(_summary(to, index, done))
        if export is not None:
            click.echo(f"{printable(str(export))}: {index.export(export)} windows")
        said = {str(error) for error in done.errors}
        while watch:
            time.sleep(_LOOKS_EVERY_S)
            try:
                done = _pass(index, named, update=update, retry=False, quiet=said, **options)
            except VideoIndexError as error:  # another process writes, or the disk is full: it may pass
                if str(error) not in said:
                    said.add(str(error))
                    say(f"{error} Trying again.")
                continue
            if done.added or done.removed:
                click.echo(_summary(to, index, done))
    except ValueError as error:
        raise click.UsageError(printable(str(error))) from error
    if done.errors:
        say(f"{len(done.errors)} {'video' if len(done.errors) == 1 else 'videos'} could not be read.")
        sys.exit(1)


def _pass(
    index: VideoIndex, named: list[str], *, update: bool, retry: bool, quiet: set[str] | None = None, **options: Any
) -> Added:
    from openxclip.search import Added
    from openxclip.video import find_videos

    said = set() if quiet is None else quiet
    videos = [str(path) for path in find_videos(named)]
    with progress("indexing", len(index.files()) * update + len(videos)) as advance:

        def on_video(path: str, error: VideoError | None) -> None:
            if error is not None and str(error) not in said:
                said.add(str(error))
                say(error)
            advance()

        again = index.update(retry=retry, on_video=on_video, **options) if update else Added()
        new = index.add(videos, on_video=on_video, **options) if videos else Added()
    errors = {str(error): error for error in (*again.errors, *new.errors)}
    seen = set(again.added)
    unchanged = tuple(path for path in new.unchanged if path not in seen)
    return Added(
        (*again.added, *new.added),
        tuple(dict.fromkeys((*again.unchanged, *unchanged))),
        again.removed,
        tuple(errors.values()),
    )


def _summary(to: str, index: VideoIndex, done: Added) -> str:
    counts = {"added": done.added, "unchanged": done.unchanged, "removed": done.removed, "unreadable": done.errors}
    what = ", ".join(f"{len(those)} {name}" for name, those in counts.items() if those or name == "added")
    return f"{printable(to)}: {what}; {len(index.files())} videos, {len(index)} windows"
