"""Options of verbs that work on many machines, and the display of such a run."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openxclip.cli import terminal
from openxclip.cli.help import usage_errors
from openxclip.cli.options import Target, all_of, refuse_given
from openxclip.cli.progress import progress
from openxclip.cli.terminal import is_set, printable, say
from openxclip.common.counting import counted

if TYPE_CHECKING:
    from openxclip.cluster.reporting import Report
    from openxclip.cluster.results import BulkResult
    from openxclip.cluster.tables import TableResult

_JSON_EVERY_S = 5.0
_NAMED_REASONS = 5
_RETRY = '--retry-failed tries again, and the table "failures" of the index has the reasons.'


class _Address(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """The address of a cluster. An option without a value takes the next argument: the error says where to put it."""

    name = "ADDRESS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in ("auto", "local") and not re.fullmatch(r"[^/\s]+:\d+", value):
            self.fail(
                f"{value!r}: must be auto, local or HOST:PORT; put --cluster without a value after the videos.",
                param,
                ctx,
            )
        return str(value)


class Part(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A share of the videos, I/N."""

    name = "I/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return I and N, or fail with click's error."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d+)/(\d+)", value.strip(), re.ASCII)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            self.fail(f"{value!r}: must be I/N with I from 1 to N, such as 3/16.", param, ctx)
        return int(match[1]), int(match[2])


cluster_option = click.option(
    "--cluster",
    type=_Address(),
    is_flag=False,
    flag_value="auto",
    help="Work on all machines of a Ray cluster (needs openxclip[cluster]): auto is the one that RAY_ADDRESS names or "
    "that runs here, local starts one on this machine, or HOST:PORT.",
)
layout_options = all_of(
    click.option(
        "--cores-per-worker",
        type=click.IntRange(1),
        metavar="N",
        help="With --cluster: CPU cores of each process that decodes and encodes.  [default: 1]",
    ),
    click.option(
        "--readers",
        type=click.IntRange(0),
        metavar="N",
        help="With --cluster: processes that decode for each one that runs the model; 0 decodes in the same one.  "
        "[default: 0 without GPUs, with GPUs all cores]",
    ),
)
max_failures_option = click.option(
    "--max-failures",
    type=click.IntRange(0),
    metavar="N",
    help="Stop when more than N videos have failed.  [default: more than half of at least 100]",
)
progress_option = click.option(
    "--progress",
    "progress_form",
    type=click.Choice(["text", "json"]),
    default="text",
    help="Progress on stderr as text, or as a JSON object per line every few seconds.",
)
bulk_options = all_of(
    cluster_option,
    click.option(
        "--part",
        type=Part(),
        help="Index only share I of N of the videos, as one task of a job array; the tasks may run anywhere at once.",
    ),
    click.option(
        "--commit",
        is_flag=True,
        help="After all parts: make what they indexed searchable, and name what of the videos is missing.",
    ),
    click.option(
        "--retry-failed",
        is_flag=True,
        help="With --cluster or --part: try again what failed before; without PATH, only that.",
    ),
    click.option(
        "--dry-run",
        is_flag=True,
        help="Index nothing, but probe a few videos and say how much footage there is and what indexing it takes.",
    ),
    max_failures_option,
    layout_options,
    progress_option,
)


table_options = all_of(cluster_option, max_failures_option, layout_options, progress_option)
_OF_A_CLUSTER = ("max_failures", "cores_per_worker", "readers", "progress_form")


class OutOption(Target):
    """A file or folder to write, or a place in an object store."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, an address as it is, or fail with click's error."""
        return value if isinstance(value, str) and "://" in value else super().convert(value, param, ctx)


class Display:
    """Shows the reports of a run: as text beside the verb's other messages, or as JSON Lines.

    Args:
        what: name of the work, such as "indexing".
        form: "text" or "json".
    """

    def __init__(self, what: str, form: str) -> None:
        self._what, self._form = what, form
        self._bar: Any = None
        self._printed_at = -_JSON_EVERY_S
        self._last: Report | None = None
        self._printed: Report | None = None

    @contextmanager
    def shown(self) -> Iterator[Display]:
        """Show the display during a block; with JSON, the last report is printed at the end."""
        if self._form == "text":
            with progress(self._what) as self._bar:
                yield self
            return
        try:
            yield self
        finally:
            if self._last is not None and self._last is not self._printed:
                self._print(self._last)

    def report(self, report: Report) -> None:
        """Show how far the run has come."""
        self._last = report
        if self._form == "text":
            total = None if report.left is None else report.videos + report.left
            self._bar.at(report.videos, total, note=report.speed())
        elif time.monotonic() >= self._printed_at + _JSON_EVERY_S:
            self._printed_at = time.monotonic()
            self._print(report)

    def say(self, text: str) -> None:
        """Print a message; in JSON as an object too, so that every line can be parsed."""
        if self._form == "json":
            click.echo(json.dumps({"message": text}), err=True)
        else:
            say(text)

    def notes(self, texts: Iterable[str]) -> None:
        """Print notes, which --quiet hides."""
        for text in texts if not is_set("quiet") else ():
            self.say(text)

    def _print(self, report: Report) -> None:
        self._printed = report
        if not terminal.is_set("quiet"):
            click.echo(json.dumps(report.to_dict()), err=True)


def checked_without_cluster(out: Path | str | None) -> Path:
    """Return the path to write to without a cluster.

    Raises:
        click.UsageError: options of a cluster are given, or the path is in an object store.
    """
    refuse_given(_OF_A_CLUSTER, "needs --cluster.")
    if isinstance(out, str):
        raise click.UsageError(f"{printable(out)}: an object store is written to with --cluster only.")
    return out or Path()


def run_on_cluster(
    what: str,
    videos: tuple[str, ...],
    run: Callable[[dict[str, Any]], TableResult],
    *,
    out: Path | str,
    cluster: str,
    max_failures: int | None,
    cores: int | None,
    readers: int | None,
    form: str,
) -> None:
    """Write a table from a cluster, show the progress and what came of it, and exit with 1 if videos failed.

    Args:
        what: name of the work, such as "embedding".
        videos: the arguments of the command.
        run: does the work, with these arguments of `embed_on_cluster`: the source, the place, the cluster, and the
            display.
        out: place of the table.
        cluster, max_failures, cores, readers, form: options of the command.
    """
    refuse_given(("device",), "can't be combined with --cluster, which uses the GPUs of the cluster.")
    if len(videos) != 1 or videos[0] == "-":
        raise click.UsageError("with --cluster, name one folder, prefix or manifest: a manifest can list any videos.")
    from openxclip.cluster import Layout
    from openxclip.cluster.placing import CORES_PER_WORKER

    display = Display(what, form)
    with usage_errors(), display.shown():
        try:
            result = run(
                {
                    "source": videos[0], "out": out, "address": cluster, "hidden": is_set("hidden"),
                    "layout": Layout(cores or CORES_PER_WORKER, readers), "max_failures": max_failures,
                    "on_report": display.report, "say": display.say,
                }
            )  # fmt: skip
        except KeyboardInterrupt:
            display.say("stopped: what is done is kept. Run the same command to resume.")
            raise
    rows = f"{counted(result.rows, 'row')} of {counted(result.videos, 'video')} added"
    before = f", {counted(result.done_before, 'video')} were there" if result.done_before else ""
    click.echo(f"{printable(result.uri)}: {rows}{before}")
    _say_reasons(result, display)
    if result.failed:
        display.say(f"{counted(result.failed, 'video')} could not be read: {result.failures} has the reasons.")
        sys.exit(1)


def summary(result: BulkResult) -> str:
    """Return what a bulk run did, in one line."""
    from openxclip.cluster.reporting import footage_in_words

    counts = {
        "added": result.videos,
        "unchanged": result.done_before,
        "failed": result.failed,
        "failed before": result.failed_before,
    }
    changes = ", ".join(f"{count} {name}" for name, count in counts.items() if count or name == "added")
    footage = f", {footage_in_words(result.footage)}" if result.footage else ""
    return f"{printable(result.uri)}: {changes}; {counted(result.windows, 'window')}{footage}"


def commit_summary(result: BulkResult) -> str:
    """Return what a commit did, and the first videos that are missing."""
    text = (
        f"{printable(result.uri)}: {counted(result.videos, 'video')} and {counted(result.windows, 'window')} committed"
    )
    if result.missing is None:
        return f"{text}; name the videos to look for missing ones"
    failed = f"; {counted(result.failed_before, 'video')} failed" if result.failed_before else ""
    if not result.missing:
        return f"{text}{failed or '; nothing is missing'}"
    names = "".join(f"\n  {printable(path)}" for path in result.first_missing)
    more = result.missing - len(result.first_missing)
    return f"{text}{failed}; {counted(result.missing, 'video')} missing:{names}" + (
        f"\n  and {more} more" if more else ""
    )


def end(result: BulkResult, display: Display) -> None:
    """Print why videos failed, and exit with 1 if some did."""
    _say_reasons(result, display)
    if result.failed_before:
        display.say(f"{counted(result.failed_before, 'video')} could not be indexed before: {_RETRY}")
    if result.failed:
        display.say(f"{counted(result.failed, 'video')} could not be indexed: {_RETRY}")
    if result.failed or result.failed_before:
        sys.exit(1)


def _say_reasons(result: BulkResult | TableResult, display: Display) -> None:
    display.notes(result.notes)
    reasons = list(result.reasons.items())
    for reason, count in reasons[:_NAMED_REASONS]:
        display.say(f"{count} × {reason}")
    if len(reasons) > _NAMED_REASONS:
        display.say(f"and {sum(count for _, count in reasons[_NAMED_REASONS:])} failures for other reasons")


def end_commit(result: BulkResult, display: Display) -> None:
    """Say how many videos of an index failed, and exit with 1 if some of the source are missing."""
    display.notes(result.notes)
    if result.failed:
        display.say(f"{counted(result.failed, 'video')} of the parts could not be indexed: {_RETRY}")
    if result.missing or result.failed_before:
        sys.exit(1)
