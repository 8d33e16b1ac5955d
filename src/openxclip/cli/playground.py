"""`openxclip playground`: writes rendered clips and films."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from openxclip.cli.options import Target, Time
from openxclip.cli.progress import progress
from openxclip.cli.terminal import printable
from openxclip.common.counting import counted
from openxclip.common.times import format_time


@click.command("playground", no_args_is_help=True)
@click.option("--out", type=Target(file_okay=False), required=True, help="Folder to write to.")
@click.option("--clips", type=click.IntRange(1), help="Number of clips to render.")
@click.option("--film", type=Time(minimum=1, maximum=36_000), help="Render one film of this length: 90 or 1:30.")
@click.option("--seed", type=click.IntRange(0, 2**40), default=0, help="Seed; another seed gives other clips.")
@click.option("--size", type=click.IntRange(32, 1024), default=256, help="Width and height in pixels; an even number.")
@click.option("--seconds", type=Time(minimum=0.1, maximum=60), default=2.0, help="Length of a clip.")
@click.option("--fps", type=click.IntRange(1, 60), default=24, help="Frames per second.")
@click.option(
    "--split",
    type=click.Choice(["seen", "unseen pairs", "unseen things", "all"]),
    default="all",
    help="Pairs of things and actions to render: pairs that mini was trained on (seen), other pairs, or all.",
)
@click.option(
    "--hard", type=click.FloatRange(0, 1), default=1.0, help="Difficulty of the scenes, from plain (0) to full (1)."
)
def command(
    out: Path, clips: int | None, film: float | None, seed: int, size: int, seconds: float, **scenes: Any
) -> None:
    """Render clips of emoji that move, grow and chase each other, with known labels.

    --clips writes 00000.mp4 and so on, and captions.jsonl with caption, thing, action and other of each clip. --film
    writes film.mp4, and film.json with the events and their times. If OUT already has one of these files, nothing is
    written.
    """
    from openxclip.playground import export_clips
    from openxclip.playground import film as render_film

    if (clips is None) == (film is None):
        raise click.UsageError("give --clips N or --film TIME.")
    if size % 2:
        raise click.UsageError(f"--size {size}: H.264 needs an even number.")
    try:
        if film:
            made = render_film(film, seed, size=size, **scenes)
            with progress("rendering", 1, noun="film") as display:
                duration = made.duration
                path = made.save(out / "film.mp4", replace=False, on_shot=lambda end: display.footage(end, duration))
            events = counted(len(made.events), "event")
            click.echo(f"{printable(str(path))}: {format_time(duration)}, {events}; film.json has their times")
            return
        assert clips is not None
        with progress("rendering", clips, noun="clip") as display:
            export_clips(out, clips, seed, size=size, seconds=seconds, on_clip=display, **scenes)
    except FileExistsError as error:
        raise click.UsageError(f"{printable(str(error.filename))} exists already: choose another --out.") from error
    click.echo(f"{printable(str(out))}: {counted(clips, 'clip')}; captions.jsonl has their captions")
