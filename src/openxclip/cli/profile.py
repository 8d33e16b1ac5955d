"""`openxclip profile`: counts parameters, operations and memory of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from openxclip.cli.help import usage_errors
from openxclip.cli.rows import Form, Rows, format_options
from openxclip.cli.terminal import json_line
from openxclip.common.counting import counted

if TYPE_CHECKING:
    from openxclip.inspection import Cost, Profile

# The parts of each group and their titles; a group of one part has no further rows.
_GROUPS: dict[str, dict[str, str]] = {
    "video tower": {
        "vision_embeddings": "embeddings",
        "vision_messages": "messages across frames",
        "vision_attention": "attention in frames",
        "vision_mlp": "MLP",
    },
    "visual projection": {"visual_projection": ""},
    "MIT": {"mit": ""},
    "prompts": {"prompts_patches": "projection of patches", "prompts_generator": "generator"},
    "scores": {"scores": ""},
    "text tower": {"text_tower": ""},
    "text projection": {"text_projection": ""},
}

_BYTES = ("weight_bytes", "activation_bytes")
_COLUMNS = (
    *("part", "per", "parameters", "macs", "flops"),
    *(f"{kind}_{dtype}" for kind in _BYTES for dtype in ("float32", "bfloat16")),
)


@click.command("profile", no_args_is_help=True)
@click.argument("model", metavar="MODEL")
@click.option(
    "--frames",
    "num_frames",
    type=click.IntRange(1),
    help="Frames of the video.  [default: the frames that MODEL was trained with]",
)
@click.option(
    "--texts",
    "num_texts",
    type=click.IntRange(1),
    default=400,
    help="Number of texts that the video is scored against.",
)
@format_options
def command(model: str, form: Form, **options: Any) -> None:
    """Count parameters, operations and memory of each part of MODEL, for one video.

    MODEL is a folder, a checkpoint, a hub id, or mini. The numbers are computed from its configuration: no weights are
    read, and released models aren't downloaded. The FLOPs of the paper (arXiv 2208.02816) are the GMACs of one video
    against 400 texts.
    """
    from openxclip.inspection import profile

    with usage_errors():
        counts = profile(model, **options)
    if form == "jsonl":
        click.echo(json_line(counts.as_dict()))
    elif form == "csv":
        rows = Rows(form, _COLUMNS)
        for name, cost in {**counts.parts, "video": counts.video, "texts": counts.texts, "total": counts.total}.items():
            rows.print({"part": name, **_flat(cost)})
    else:
        _print(counts)


def _flat(cost: Cost) -> dict[str, Any]:
    """Return all values of a cost, with the bytes of each dtype under a name of their own."""
    values = cost.as_dict()
    bytes_of = {kind: values.pop(kind) for kind in _BYTES}
    return values | {f"{kind}_{dtype}": size for kind, sizes in bytes_of.items() for dtype, size in sizes.items()}


def _print(counts: Profile) -> None:
    from openxclip.cli.tables import add_numbers, new_table, print_line, print_table

    table = new_table(padding=(0, 1, 0, 0))
    table.add_column("part", no_wrap=True)
    add_numbers(table, "params M", "fp32 MB", "bf16 MB", "GMACs", "GFLOPs", "peak MB")
    for per, sum_of in (("video", "each video"), ("texts", "texts, once")):
        for group, rows in _GROUPS.items():
            cost = counts.of(rows)
            if cost.per == per:
                table.add_row(group, *_numbers(cost))
                for name, title in rows.items():
                    if title:
                        table.add_row(f"  {title}", *_numbers(counts.parts[name]), style="dim")
        table.add_row(sum_of, *_numbers(getattr(counts, per)), style="bold")
        table.add_section()
    table.add_row("all", *_numbers(counts.total), style="bold")

    clip = f"{counted(counts.num_frames, 'frame')} of {counted(counts.image_size, 'pixel')}"
    texts = f"{counted(counts.num_texts, 'text')} of {counted(counts.text_length, 'token')}"
    print_line(counts.model, "bold")
    print_line(f"{clip}, {texts}")
    print_table(table)
    click.echo(
        "GMACs: 10⁹ multiply-adds of matrix products, which the paper calls FLOPs.\n"
        "GFLOPs: twice as many, as a multiply-add is two operations.\n"
        "fp32, bf16: weights. peak: activations in fp32 (bf16: half) at the fullest\n"
        "moment, for one video, or for all texts at once. Texts are encoded once for all\n"
        "videos, and shorter ones cost less."
    )


def _numbers(cost: Cost) -> list[str]:
    weights = cost.weight_bytes
    return [
        _short(cost.parameters / 1e6),
        _short(weights["float32"] / 1e6),
        _short(weights["bfloat16"] / 1e6),
        _short(cost.macs / 1e9),
        _short(cost.flops / 1e9),
        _short(cost.activation_bytes["float32"] / 1e6),
    ]


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 1000 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"
