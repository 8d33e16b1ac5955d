"""`openxclip index --dry-run`: what indexing a source takes."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from openxclip.cli.options import note_of_model
from openxclip.cli.progress import progress
from openxclip.cli.terminal import is_set, note, printable, say
from openxclip.common.cores import num_cores
from openxclip.common.counting import counted

if TYPE_CHECKING:
    from openxclip.cluster import IndexSettings
    from openxclip.search.bulk.estimating import Estimate


def print_estimate(source: str, to: str, settings: IndexSettings, cluster: str | None) -> None:
    """Probe the videos of a source that an index lacks, and print what indexing them takes.

    Args:
        source: see `openxclip.search.bulk.sources.open_source`.
        to: place of the index, which is not created.
        settings: the model and the windows.
        cluster: address of the cluster that would work; None is this machine.
    """
    from openxclip.cluster.connecting import connected, nodes
    from openxclip.search.bulk.estimating import PROBES, describe, estimate
    from openxclip.search.bulk.planning import plan
    from openxclip.search.bulk.sources import open_source

    videos = open_source(source, hidden=is_set("hidden"))
    index = settings.open(to)
    pipeline, info = index.described()
    planned = plan(videos, index.store if index.info is not None else None)
    connection: Any = nullcontext() if cluster is None else connected(cluster)
    with connection as ray:
        machines = nodes(ray) if cluster is not None else []
    cores = sum(machine.cores for machine in machines) if cluster is not None else num_cores()
    gpus = (
        sum(machine.gpus for machine in machines) if cluster is not None else int(pipeline.model.device.type == "cuda")
    )
    first = next(planned, None)
    if first is None:
        done = planned.counts
        failed = f", and {done.failed} failed: --retry-failed tries again" if done.failed else ""
        there = f"the index has {done.done} of {counted(done.seen, 'video')}{failed}"
        click.echo(f"{printable(videos.describe())}: nothing to do: {there}.")
        return
    with progress("probing", PROBES) as display:
        found = estimate(
            chain([first], planned), pipeline, info, read=settings.read, on_probe=lambda done, total: display()
        )
    for text in videos.notes:
        note(text)
    counts = planned.counts
    if counts.done:
        note(f"{counts.done} of {counted(counts.seen, 'video')} are in the index already.")
    click.echo(printable(videos.describe()))
    for line in [*describe(found), *_times(found, cores, gpus)]:
        click.echo(f"  {printable(line)}")
    if found.errors:
        say("some videos can't be read: indexing reports them all, and goes on.")
    note_of_model(str(settings.model or info.model or ""))


def _times(found: Estimate, cores: float, gpus: float) -> list[str]:
    from openxclip.search.bulk.estimating import format_hours

    machines = counted(round(cores), "core") + (f" and {counted(round(gpus), 'GPU')}" if gpus else "")
    lines = []
    if found.fetching:
        lines.append(f"copying from the store: {format_hours(found.fetching)} one after the other, as fast as here")
    try:
        hours, stage = found.hours_on(cores, gpus)
    except ValueError as error:
        reading = format_hours(found.reading / max(cores, 1))
        return [*lines, f"time: reading alone takes {reading} on {machines}; {error}"]
    added = "starting workers and committing come on top"
    return [*lines, f"time: about {format_hours(hours)} on {machines}, most of it for {stage}; {added}"]
