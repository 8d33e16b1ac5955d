"""`openxclip convert`: converts weights between formats."""

from __future__ import annotations

from typing import Any

import click

from openxclip.cli.help import usage_errors
from openxclip.cli.options import Target, clip_options
from openxclip.cli.progress import progress
from openxclip.cli.terminal import note, printable
from openxclip.common.counting import counted


@click.command("convert", no_args_is_help=True)
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST", type=Target())
@click.option("--to", type=click.Choice(["hub", "authors"]), default="hub", help="Format of DST.")
@click.option(
    "--frames", "num_frames", type=click.IntRange(1), help="Frames of a clip, if SRC is a CLIP.  [default: 8]"
)
@clip_options
@click.option("--force", is_flag=True, help="Overwrite DST if it exists.")
def command(**options: Any) -> None:
    """Convert the weights SRC to a model folder (hub) or to a file for the authors' code (authors).

    SRC is an X-CLIP (folder, hub id, the authors' .pth) or a CLIP (OpenAI's .pt, open_clip's or Hugging Face's files
    and folders). A CLIP becomes an X-CLIP that is ready for training.
    """
    from openxclip.conversion import convert

    with usage_errors(), progress("converting"):
        done = convert(**options)
    for text in done.notes:
        note(text)
    what = "X-CLIP" if done.kind == "xclip" else "X-CLIP, started from a CLIP"
    click.echo(
        f"{printable(str(done.target))}: {what} ({done.format}), {done.parameters / 1e6:.1f} M parameters, "
        f"{counted(done.frames, 'frame')}"
    )
