"""`openxclip info`: describes videos, models and checkpoints."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any

import click

from openxclip.cli.options import footage_options, named_videos, read_options
from openxclip.cli.rows import Form, csv_line, format_options
from openxclip.cli.terminal import json_line, say
from openxclip.common.counting import counted
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
            description = info(path, read=read)
        except CheckpointError as error:
            failed += 1
            say(error)
            continue
        read_error = getattr(description, "error", None)
        if read_error is not None:
            failed += 1
            say(read_error)
        if form == "jsonl":
            click.echo(json_line({"path": path, **_as_dict(description)}))
        elif form == "csv":
            for name, value in _as_dict(description).items():
                click.echo(csv_line((path, name, value)))
        elif read_error is None:
            _print(path, description)
    sys.exit(1 if failed else 0)


def _as_dict(description: CheckpointDescription | VideoReport) -> dict[str, Any]:
    from openxclip.video import VideoReport

    if isinstance(description, VideoReport):
        return description.as_dict()
    return {**dataclasses.asdict(description), "kernel": _kernel(description)}


def _kernel(checkpoint: CheckpointDescription) -> str:
    """Return the kernel that computes an X-CLIP on this CPU in the default precision; "" for a CLIP."""
    if checkpoint.kind != "xclip":
        return ""
    try:
        import torch
    except ImportError:  # the rest of this command works without PyTorch
        return ""
    from openxclip.engine.linears import choose_kernel

    return str(choose_kernel(torch.float32, torch.device("cpu")))


def _print(path: str, description: CheckpointDescription | VideoReport) -> None:
    from rich.table import Table

    from openxclip.cli.tables import cell, print_line, print_table
    from openxclip.video import VideoReport

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    rows = _video_rows(description) if isinstance(description, VideoReport) else _checkpoint_rows(description)
    for name, value in rows.items():
        if value:
            table.add_row(cell(f"  {name}", "dim"), cell(value))
    for note in getattr(description, "notes", ()):
        table.add_row(cell("  note", "dim"), cell(note))
    for problem in description.problems:
        table.add_row(cell("  problem", "bold red"), cell(problem, "red"))
    print_line(path, "bold")
    print_table(table)


def _video_rows(report: VideoReport) -> dict[str, str]:
    kinds = {"video": "video", "image": "image", "images": "folder of images", "array": "array"}
    coding = " in ".join(part for part in (report.codec, report.container) if part)
    rate = "" if report.fps is None else f"{report.fps:.4g} frames a second"
    rotation = f", turned by {report.rotation}°" if report.rotation else ""
    start = f", from {format_time(report.start)} on" if report.start else ""
    colour = [report.pixel_format, report.matrix, report.range and f"{report.range} range", report.transfer]
    flags = {"HDR": report.hdr, "interlaced": report.interlaced, "may be transparent": report.alpha}
    return {
        "kind": f"{kinds.get(report.kind or '', 'video')}: {coding}",
        "frames": f"{report.frames}, {report.width}×{report.height}{rotation}",
        "rate": rate + (", varying" if report.variable_rate else ""),
        "duration": format_time(report.duration or 0.0) + start,
        "pixels": ", ".join([part for part in colour if part] + [name for name, is_set in flags.items() if is_set]),
        "sound": report.sound or "",
        "size": "" if report.size_bytes is None else format_bytes(report.size_bytes),
    }


def _checkpoint_rows(checkpoint: CheckpointDescription) -> dict[str, str]:
    kind = "X-CLIP" if checkpoint.kind == "xclip" else "CLIP (no video parts; an X-CLIP can be started from it)"
    pixels = counted(checkpoint.resolution, "pixel")
    return {
        "kind": f"{kind} {checkpoint.architecture}, {_FORMATS.get(checkpoint.format, checkpoint.format)}",
        "released": checkpoint.released,
        "clip": f"{counted(checkpoint.frames, 'frame')} of {pixels}" if checkpoint.frames else pixels,
        "trained on": checkpoint.trained_on or "",
        "video tower" if checkpoint.frames else "image tower": _tower(checkpoint.vision),
        "text tower": _tower(checkpoint.text),
        "joint width": str(checkpoint.joint_width),
        "activation": checkpoint.activation,
        "moments": _moments(checkpoint.contract or {}),
        "parameters": f"{checkpoint.parameters / 1e6:.2f} M, {checkpoint.dtype}",
        "size": format_bytes(checkpoint.size_bytes),
        "on this CPU": _kernel(checkpoint),
        "metadata": ", ".join(f"{key} {value}" for key, value in checkpoint.info.items() if key != "settings"),
    }


def _moments(contract: dict[str, Any]) -> str:
    """Describe a contract of time in a line; "" if there is none."""
    parts = []
    if "window" in contract:
        frames = f" of {counted(contract['frames'], 'frame')}" if "frames" in contract else ""
        parts.append(f"windows of {contract['window']:g} s{frames}, one every {contract['stride']:g} s")
    if "threshold" in contract:
        parts.append(f"threshold {contract['threshold']:g}")
    if "labels" in contract:
        parts.append(f"thresholds for {counted(len(contract['labels']), 'label')}")
    return "; ".join(parts)


def _tower(tower: Any) -> str:
    return f"{counted(tower.layers, 'block')} of width {tower.width}, {counted(tower.heads, 'head')}"
