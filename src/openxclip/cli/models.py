"""`openxclip models`: the checkpoints that can be had by name."""

from __future__ import annotations

import dataclasses

import click

from openxclip.checkpoints.released import RELEASED, Released
from openxclip.cli.rows import CsvRows, Form, format_options
from openxclip.cli.terminal import json_line

_OWNER = "microsoft/"
_SHORTER = {  # so that the table fits 80 columns
    "Kinetics-": "K",
    "HMDB-51": "HMDB",
    "UCF-101": "UCF",
    "openxclip's rendered playground": "rendered",
    "top1": "",
    "top5": "",
}


@click.command("models")
@format_options
def command(form: Form) -> None:
    """List the checkpoints that --model takes by name: their size, what they were trained on, and how good they are.

    Accuracy is what the paper reports (arXiv 2208.02816).
    """
    entries = [as_dict(one) for one in RELEASED]
    if form == "csv":
        rows = CsvRows(list(entries[0]))
        for entry in entries:
            rows.print(entry)
    elif form == "jsonl":
        for entry in entries:
            click.echo(json_line(entry))
    else:
        _show_table()


def as_dict(one: Released) -> dict[str, object]:
    """A checkpoint as plain JSON values."""
    values = dataclasses.asdict(one)
    del values["bytes_of_a_parameter"]
    return {**values, "download_bytes": one.download_bytes}


def _show_table() -> None:
    from rich import box
    from rich.table import Table

    from openxclip.cli.tables import print_table

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("model", no_wrap=True)
    for title in ("GB", "clip"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("data", no_wrap=True)
    table.add_column("accuracy")
    for one in RELEASED:
        size = f"{one.download_bytes / 1e9:.1f}" if one.download_bytes else "–"
        table.add_row(
            one.name.removeprefix(_OWNER),
            size,
            f"{one.frames}×{one.resolution}",
            _short(one.trained_on.partition(",")[0]),
            ", ".join(f"{_short(name)} {value:.1f}".strip() for name, value in one.accuracy.items()),
        )
    print_table(table)
    click.echo(
        f"Names but mini's begin with {_OWNER}: --model {RELEASED[1].name}\n"
        "GB: of the download; clip: frames × pixels; data: trained on it (K: Kinetics);\n"
        "accuracy: %, top-1 and top-5, or of zero-shot, as published (arXiv 2208.02816)"
    )


def _short(text: str) -> str:
    for long, short in _SHORTER.items():
        text = text.replace(long, short)
    return text
