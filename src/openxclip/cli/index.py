"""`openxclip index`: adds, updates and removes videos of an index."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openxclip.cli.cluster_options import bulk_options
from openxclip.cli.help import usage_errors
from openxclip.cli.index_bulk import NO_PATCHES, BulkIndexing, is_source
from openxclip.cli.options import (
    Target,
    Time,
    batch_option,
    device_options,
    finding_options,
    fps_option,
    limit_options,
    named_videos,
    note_of_model,
    read_options,
    refuse_given,
    search,
)
from openxclip.cli.progress import progress
from openxclip.cli.terminal import is_set, note, printable, say
from openxclip.common.counting import counted

if TYPE_CHECKING:
    from openxclip.errors import VideoError
    from openxclip.pipeline.batching import Batch
    from openxclip.search import Added, VideoIndex

_LOOKS_EVERY_S = 2.0
_NAMED = 10  # missing files
_ALONE = ("update", "allow_removing", "remove", "compact", "export", "watch")  # options that have no use in bulk


@click.command("index", no_args_is_help=True)
@click.argument("videos", nargs=-1, metavar="[PATH...]")
@click.option(
    "--to",
    required=True,
    metavar="DIR",
    help="Folder of the index, or another place that LanceDB takes, such as s3://…",
)
@click.option(
    "--model", help="A folder, a hub id, or mini.  [default: the model of the index; for a new index as in classify]"
)
@click.option("--window", type=Time(above=0), help="Length of a window of a new index.  [default: the model's, or 10]")
@click.option(
    "--stride",
    type=Time(above=0),
    help="Time from the start of one window to the next.  [default: the window, or the model's without --window]",
)
@click.option(
    "--frames",
    "num_frames",
    type=click.IntRange(1),
    help="Frames of a window.  [default: the model's, or as it was trained]",
)
@click.option(
    "--sampling",
    type=click.Choice(["time", "frames"]),
    help="How a new index chooses frames, as in classify.  [default: time]",
)
@click.option(
    "--decode",
    type=click.Choice(["all", "nonref", "key"]),
    help="Frames that a new index decodes: all is exact; nonref leaves out those to which no other refers, key all but "
    "key frames. In their place, windows get the last decoded frame before them.  [default: all]",
)
@click.option(
    "--patches/--no-patches",
    default=None,
    help="Store in a new index what reranking hits with prompts needs, which makes it many times larger.  [default: "
    "patches, but none in an object store or with --cluster or --part]",
)
@click.option("--update", is_flag=True, help="Look for changed and missing files of the index too.")
@click.option(
    "--allow-removing",
    type=click.IntRange(0),
    metavar="N",
    help="With --update: remove up to N missing files, even if the disk may not be mounted.",
)
@click.option("--remove", is_flag=True, help="Remove the files or folders from the index instead.")
@click.option("--compact", is_flag=True, help="Rewrite the index without deleted rows and old versions.")
@click.option(
    "--export",
    type=Target(dir_okay=False),
    metavar="FILE",
    help="Write all windows to FILE.parquet, which `openxclip index FILE.parquet` reads, also on another machine.",
)
@click.option("--watch", is_flag=True, help="Keep looking for new and changed files until Ctrl-C.")
@bulk_options
@device_options
@batch_option
@finding_options
@fps_option
@limit_options
def command(
    videos: tuple[str, ...],
    to: str,
    model: str | None,
    patches: bool | None,
    update: bool,
    allow_removing: int | None,
    remove: bool,
    compact: bool,
    export: Path | None,
    watch: bool,
    batch: Batch,
    cluster: str | None,
    part: tuple[int, int] | None,
    commit: bool,
    retry_failed: bool,
    dry_run: bool,
    max_failures: int | None,
    cores_per_worker: int | None,
    readers: int | None,
    progress_form: str,
    **options: Any,
) -> None:
    """Add videos to an index for `openxclip search`, and create the index if it doesn't exist.

    A PATH is a file, a folder (every video in it), or a glob in quotes; "-" reads names from standard input, one per
    line. A .parquet file that --export wrote adds its windows.

    Unchanged, moved and copied files are not decoded again. The same command resumes an interrupted run, even in the
    middle of a long video. Videos that can't be read are reported on stderr, and the exit status is 1; --update tries
    them again.

    --update removes missing files from the index. It keeps them if the disk may not be mounted: if more than 10 files
    and more than 10 % of the index are missing, or all files of the index or of a named folder. --allow-removing N
    removes up to N of them.

    With --cluster or --part, PATH is one folder, s3://bucket/prefix, or a manifest: a .parquet, .csv or .jsonl file
    with a column path, whose other columns become columns for --where. Moved and deleted files are found by a later
    --update without these options. docs/bulk.md has the details.
    """
    if cluster or part or commit or retry_failed or dry_run or is_source(videos):
        why = "can't be combined with --cluster, --part, --commit, --dry-run, a manifest or an object store."
        refuse_given(_ALONE, why)
        if is_set("verbose"):
            raise click.UsageError(f"--verbose {why}")
        if cluster is None:
            refuse_given(("cores_per_worker", "readers"), "needs --cluster.")
        bulk = BulkIndexing(videos, to, {"model": model, "patches": patches, "batch": batch, **options})
        if dry_run:
            refuse_given(
                ("part", "commit", "retry_failed", "max_failures", "progress_form"), "can't be combined with --dry-run."
            )
            bulk.estimate(cluster)
            return
        bulk.run(
            cluster=cluster,
            part=part,
            commit=commit,
            retry_failed=retry_failed,
            max_failures=max_failures,
            cores=cores_per_worker,
            readers=readers,
            form=progress_form,
        )
        return
    refuse_given(("max_failures", "cores_per_worker", "readers", "progress_form"), "needs --cluster or --part.")
    if remove and (update or watch):
        raise click.UsageError("--remove can't be combined with --update or --watch.")
    if allow_removing is not None and not update:
        raise click.UsageError("--allow-removing needs --update.")
    named = list(named_videos(videos, takes_pipes=False))
    if not named and not update and ((not compact and export is None) or watch):
        raise click.UsageError("no videos are named.")
    if watch and any(name.lower().endswith(".parquet") for name in named):
        raise click.UsageError("--watch is for videos: add the .parquet files without it.")
    if remove and export is not None:
        raise click.UsageError("--remove can't be combined with --export.")
    from openxclip.common.files import checked_target
    from openxclip.search import Added, VideoIndex
    from openxclip.search.parquet import SUFFIX

    with usage_errors():
        if export is not None:
            checked_target(export, SUFFIX)
        decode = options.pop("decode")  # of the index
        read = read_options(options)
        options["decode"] = decode
        index = VideoIndex.open(to, model=model, patches=patches, **options)
        if patches is None and index.info is None and "://" in to:
            note(NO_PATCHES)
            index = VideoIndex.open(to, model=model, patches=False, **options)
        if remove:
            gone = index.remove(named).removed
            click.echo(f"{printable(to)}: {counted(len(gone), 'video')} removed, {counted(len(index), 'window')}")
            return
        new_model = model if model is not None and index.info is None else ""
        work = _Work(to, index, named, update, allow_removing, {"batch": batch, "read": read})
        done = Added()
        if named or update:
            done = work.look(retry=update, may_be_empty=watch or update)
            click.echo(work.summary(done))
        if compact:
            before, after = index.compact()
            click.echo(f"{printable(to)}: {_size(before)} before, {_size(after)} after")
        if export is not None:
            click.echo(f"{printable(str(export))}: {counted(index.export(export), 'window')}")
        if watch:
            note_of_model(new_model)
            work.watch()
            return
    if done.errors:
        say(f"{counted(len(done.errors), 'video')} could not be read.")
    note_of_model(new_model)
    if done.errors or done.held_back:
        sys.exit(1)


@dataclass
class _Work:
    """Adds and updates videos, once or, for --watch, repeatedly."""

    to: str
    index: VideoIndex
    named: list[str]
    update: bool
    allow_removing: int | None
    options: dict[str, Any]
    said: set[str] = field(default_factory=set)

    def look(self, *, retry: bool, may_be_empty: bool = True) -> Added:
        """Add new and changed files; with --update, also update the files already in the index."""
        from openxclip.search import Added
        from openxclip.video.finding import require_videos

        found = search(self.named)
        videos = [str(path) for path in (found if may_be_empty else require_videos(found))]
        total = len(videos) + (len(self.index.files()) if self.update else 0)
        try:
            with progress("indexing", total) as display:

                def on_video(path: str, error: VideoError | None) -> None:
                    if error is not None:
                        self._say_once(str(error))
                    display()

                def on_clip(path: str, end: float, duration: float) -> None:
                    display.footage(end, duration)

                options = self.options | {"on_video": on_video, "on_clip": on_clip}
                done = Added()
                if videos:  # first, so that moved files are recognised before they count as missing
                    done += self.index.add(videos, **options)
                if self.update:
                    options |= {"folders": self.named, "allow_removing": self.allow_removing}
                    done += self.index.update(retry=retry, **options)
        except KeyboardInterrupt:
            say(self._describe_progress())
            raise
        if done.held_back:
            self._say_once(_held_back(done.held_back), lines=True)
        return done

    def watch(self) -> None:
        """Look for changes until Ctrl-C."""
        from openxclip.errors import VideoIndexError

        say(f"watching for new and changed files every {_LOOKS_EVERY_S:g} s, until Ctrl-C.")
        try:
            while True:
                time.sleep(_LOOKS_EVERY_S)
                try:
                    done = self.look(retry=False)
                except VideoIndexError as error:  # another process writes, or the disk is full; this may pass
                    self._say_once(f"{error} Trying again.")
                    continue
                if done.added or done.removed or done.moved:
                    click.echo(self.summary(done))
        except KeyboardInterrupt:
            say("stopped watching.")

    def summary(self, done: Added) -> str:
        """Return a summary of a run and of the index."""
        counts = {
            "added": done.added, "moved": done.moved, "unchanged": done.unchanged, "removed": done.removed,
            "missing but not removed": done.held_back, "unreadable": done.errors,
        }  # fmt: skip
        changes = ", ".join(f"{len(paths)} {name}" for name, paths in counts.items() if paths or name == "added")
        videos, windows = counted(len(self.index.files()), "video"), counted(len(self.index), "window")
        return f"{printable(self.to)}: {changes}; {videos}, {windows}"

    def _say_once(self, text: str, *, lines: bool = False) -> None:
        if text not in self.said:
            self.said.add(text)
            say(text, lines=lines)

    def _describe_progress(self) -> str:
        text = f"the index keeps {counted(len(self.index.files()), 'video')}"
        unfinished = self.index.unfinished()
        if unfinished:
            windows = counted(sum(unfinished.values()), "window")
            text += f", and {windows} of {', '.join(map(printable, unfinished))}"
        return f"{text}: run the same command to resume."


def _held_back(paths: tuple[str, ...]) -> str:
    names = "".join(f"\n  {printable(path)}" for path in paths[:_NAMED])
    more = f"\n  and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return (
        f"{counted(len(paths), 'file')} of the index {'is' if len(paths) == 1 else 'are'} missing but kept in it, "
        f"because the disk may not be mounted:{names}{more}\nTo remove them: --update --allow-removing {len(paths)}"
    )


def _size(number: int) -> str:
    return f"{number / 1e6:.1f} MB"
