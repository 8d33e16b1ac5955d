"""`openxclip info`: describes videos, models and checkpoints."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any

import click

from openxclip.cli.options import footage_options, named_videos, read_options
from openxclip.cli.rows import Form, csv_line, format_options
from openxclip.cli.terminal import counted, json_line, printable, say
from openxclip.common.sizes import format_bytes
from openxclip.common.times import format_time
from openxclip.errors import CheckpointError

if TYPE_CHECKING:
    from openxclip.checkpoints import CheckpointDescription
    from openxclip.video import VideoReport

_FORMATS = {
    "hub": "Hugging Face folder",
    "authors": "file of the authors' code",
    "openai": "OpenAI's CLIP",
    "open_clip": "open_clip",
    "huggingface_clip": "Hugging Face CLIP",
}


@click.command("info", no_args_is_help=True)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@format_options
@footage_options
def command(paths: tuple[str, ...], form: Form, **footage: Any) -> None:
    """Describe each PATH: a video (codec, size, frames, colours), a model folder or a checkpoint.

    "-" reads names from standard input, one per line. CSV has one row per fact: path, name, value.

    This downloads nothing, reads no weights and runs no program in a checkpoint. It decodes one frame of a video
    (`openxclip check` decodes the whole video). The exit status is 1 if a PATH can't be read.
    """
    from openxclip.inspection import info

    read = read_options(footage)
    failed = 0
    if form == "csv":
        click.echo(csv_line(("path", "name", "value")))
    for path in named_videos(paths):
        try:
            found = info(path, read=read)
        except CheckpointError as error:
            failed += 1
            say(error)
            continue
        unread = getattr(found, "error", None)
        if unread is not None:
            failed += 1
            say(unread)
        if form == "jsonl":
            click.echo(json_line({"path": path, **_as_dict(found)}))
        elif form == "csv":
            for name, value in _as_dict(found).items():
                click.echo(csv_line((path, name, value)))
        elif unread is None:
            _print(path, found)
    sys.exit(1 if failed else 0)


def _as_dict(found: CheckpointDescription | VideoReport) -> dict[str, Any]:
    from openxclip.video import VideoReport

    if isinstance(found, VideoReport):
        return found.as_dict()
    return {**dataclasses.asdict(found), "kernel": _kernel(found)}


def _kernel(found: CheckpointDescription) -> str:
    """Return the kernel that computes an X-CLIP on this CPU in the default precision; "" for a CLIP."""
    if found.kind != "xclip":
        return ""
    try:
        import torch
    except ImportError:  # the rest of this command works without PyTorch
        return ""
    from openxclip.engine.linears import choose_cpu_kernel

    return str(choose_cpu_kernel(torch.float32))


def _print(path: str, found: CheckpointDescription | VideoReport) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from openxclip.cli.tables import print_table
    from openxclip.video import VideoReport

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    facts = _of_video(found) if isinstance(found, VideoReport) else _of_checkpoint(found)
    for name, value in facts.items():
        if value:
            table.add_row(Text(f"  {name}", style="dim"), Text(printable(value)))
    for note in getattr(found, "notes", ()):
        table.add_row(Text("  note", style="dim"), Text(printable(note)))
    for problem in found.problems:
        table.add_row(Text("  problem", style="bold red"), Text(printable(problem), style="red"))
    Console().print(Text(printable(path), style="bold"), overflow="fold")
    print_table(table)


def _of_video(report: VideoReport) -> dict[str, str]:
    kinds = {"video": "video", "image": "image", "images": "folder of images", "array": "array"}
    coded = " in ".join(part for part in (report.codec, report.container) if part)
    rate = "" if report.fps is None else f"{report.fps:.4g} frames a second"
    turned = f", turned by {report.rotation}°" if report.rotation else ""
    light = [report.pixel_format, report.matrix, report.range and f"{report.range} range", report.transfer]
    signs = {"HDR": report.hdr, "interlaced": report.interlaced, "may be transparent": report.alpha}
    return {
        "kind": f"{kinds.get(report.kind or '', 'video')}: {coded}",
        "frames": f"{report.frames}, {report.width}×{report.height}{turned}",
        "rate": rate + (", varying" if report.variable_rate else ""),
        "duration": format_time(report.duration or 0.0) + (f", from {format_time(report.start)} on" if report.start else ""),
        "pixels": ", ".join([part for part in light if part] + [sign for sign, true in signs.items() if true]),
        "sound": report.sound or "",
        "size": "" if report.size_bytes is None else format_bytes(report.size_bytes),
    }


def _of_checkpoint(found: CheckpointDescription) -> dict[str, str]:
    what = "X-CLIP" if found.kind == "xclip" else "CLIP (no video parts: one to start an X-CLIP from)"
    vision, text = found.vision, found.text
    pixels = counted(found.resolution, "pixel")
    said = {key: value for key, value in found.info.items() if key != "settings"}
    return {
        "kind": f"{what} {found.architecture}, {_FORMATS.get(found.format, found.format)}",
        "released": found.released,
        "clip": f"{counted(found.frames, 'frame')} of {pixels}" if found.frames else pixels,
        "trained on": found.trained_on or "",
        "video tower" if found.frames else "image tower": _tower(vision),
        "text tower": _tower(text),
        "joint width": str(found.joint_width),
        "activation": found.activation,
        "parameters": f"{found.parameters / 1e6:.2f} M, {found.dtype}",
        "size": format_bytes(found.size_bytes),
        "on this CPU": _kernel(found),
        "says": ", ".join(f"{key} {value}" for key, value in said.items()),
    }


def _tower(tower: Any) -> str:
    return f"{counted(tower.layers, 'block')} of width {tower.width}, {counted(tower.heads, 'head')}"
