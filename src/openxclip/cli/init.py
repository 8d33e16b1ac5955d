"""`openxclip init`: starts an X-CLIP from a CLIP, for training."""

from __future__ import annotations

from pathlib import Path

import click

from openxclip.cli.options import Target, heads_options
from openxclip.cli.progress import progress
from openxclip.cli.terminal import counted, note, printable


@click.command("init", no_args_is_help=True)
@click.option(
    "--from",
    "source",
    metavar="CLIP",
    required=True,
    help="A CLIP with a vision transformer: OpenAI's .pt, open_clip's or Hugging Face's file or folder, or a hub id.",
)
@click.option("--out", type=Target(), required=True, metavar="DIR", help="Folder to write.")
@click.option("--frames", type=click.IntRange(1), default=8, show_default=True, help="Frames of a clip.")
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of the parts that a CLIP lacks, which start at random."
)
@click.option(
    "--hidden-act",
    "--activation",
    "hidden_act",
    type=click.Choice(["quick_gelu", "gelu"]),
    help="Activation of a CLIP whose file doesn't state it: quick_gelu for OpenAI's weights.",
)
@heads_options
@click.option("--force", is_flag=True, help="Overwrite the model in DIR; other files there stay.")
def command(
    source: str,
    out: Path,
    frames: int,
    seed: int,
    hidden_act: str | None,
    vision_heads: int | None,
    text_heads: int | None,
    force: bool,
) -> None:
    """Start an X-CLIP from a CLIP: write the model folder that training begins with.

    The towers are the CLIP's. The messages between frames, MIT and the prompts start at random.
    """
    from openxclip.conversion import init_from_clip

    with progress("initializing"):
        done = init_from_clip(
            source,
            out,
            num_frames=frames,
            seed=seed,
            hidden_act=hidden_act,
            vision_heads=vision_heads,
            text_heads=text_heads,
            force=force,
        )
    for text in done.notes:
        note(text)
    click.echo(
        f"{printable(str(done.target))}: X-CLIP, started from a CLIP ({done.format}), {done.parameters / 1e6:.1f} M "
        f"parameters, {done.fresh_parameters / 1e6:.1f} M of them at random (seed {done.seed})\n"
        f"clips: {counted(done.frames, 'frame')} of {done.resolution} pixels, normalised by ImageNet's mean and std, "
        "as in the paper"
    )
