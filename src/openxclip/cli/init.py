"""`openxclip init`: starts an X-CLIP from a CLIP, for training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from openxclip.cli.options import Target, clip_options
from openxclip.cli.progress import progress
from openxclip.cli.terminal import note, printable
from openxclip.common.counting import counted


@click.command("init", no_args_is_help=True)
@click.option(
    "--from",
    "source",
    metavar="CLIP",
    required=True,
    help="A CLIP with a vision transformer: OpenAI's .pt, open_clip's or Hugging Face's file or folder, or a hub id.",
)
@click.option("--out", type=Target(), required=True, metavar="DIR", help="Folder to write.")
@click.option("--frames", "num_frames", type=click.IntRange(1), default=8, help="Frames of a clip.")
@clip_options
@click.option("--force", is_flag=True, help="Overwrite the model in DIR; other files there stay.")
def command(source: str, out: Path, **options: Any) -> None:
    """Start an X-CLIP from a CLIP: write the model folder that training begins with.

    The towers are the CLIP's. The messages between frames, MIT and the prompts start at random.
    """
    from openxclip.conversion import init_from_clip

    with progress("initializing"):
        done = init_from_clip(source, out, **options)
    for text in done.notes:
        note(text)
    click.echo(
        f"{printable(str(done.target))}: X-CLIP, started from a CLIP ({done.format}), {done.parameters / 1e6:.1f} M "
        f"parameters, {done.fresh_parameters / 1e6:.1f} M of them at random (seed {done.seed})\n"
        f"clips: {counted(done.frames, 'frame')} of {done.resolution} pixels, normalised by ImageNet's mean and std, "
        "as in the paper"
    )
