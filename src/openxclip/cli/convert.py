"""`openxclip convert`: converts weights between formats."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

import click

from openxclip.cli.options import Target, heads_options
from openxclip.cli.progress import progress
from openxclip.cli.terminal import counted, note, printable


@click.command("convert", no_args_is_help=True)
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST", type=Target())
@click.option("--to", type=click.Choice(["hub", "authors"]), default="hub", show_default=True, help="Format of DST.")
@click.option("--frames", type=click.IntRange(1), help="Frames of a clip, if SRC is a CLIP.  [default: 8]")
@click.option(
    "--activation",
    type=click.Choice(["quick_gelu", "gelu"]),
    help="Activation of a CLIP whose file doesn't state it: quick_gelu for OpenAI's weights.",
)
@heads_options
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of the parts that a CLIP lacks, which start at random."
)
@click.option("--force", is_flag=True, help="Overwrite DST if it exists.")
def command(
    source: str,
    target: Path,
    to: str,
    frames: int | None,
    activation: str | None,
    vision_heads: int | None,
    text_heads: int | None,
    seed: int,
    force: bool,
) -> None:
    """Convert the weights SRC to a model folder (hub) or to a file for the authors' code (authors).

    SRC is an X-CLIP (folder, hub id, the authors' .pth) or a CLIP (OpenAI's .pt, open_clip's or Hugging Face's files
    and folders). A CLIP becomes an X-CLIP that is ready for training.
    """
    from openxclip.conversion import convert

    try:
        with progress("converting"):
            done = convert(
                source,
                target,
                to=cast(Literal["hub", "authors"], to),
                num_frames=frames,
                hidden_act=activation,
                vision_heads=vision_heads,
                text_heads=text_heads,
                seed=seed,
                force=force,
            )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    for text in done.notes:
        note(text)
    what = "X-CLIP" if done.kind == "xclip" else "X-CLIP, started from a CLIP"
    click.echo(
        f"{printable(str(done.target))}: {what} ({done.format}), {done.parameters / 1e6:.1f} M parameters, "
        f"{counted(done.frames, 'frame')}"
    )
