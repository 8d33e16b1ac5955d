"""`openxclip bench`: measures the speed of this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from openxclip.cli.options import Target, Time
from openxclip.cli.progress import progress
from openxclip.cli.rows import CsvRows, Form, format_options
from openxclip.cli.terminal import json_line, printable
from openxclip.common.files import checked_target

if TYPE_CHECKING:
    from openxclip.benchmarking.measuring import Row

# Copies of names in benchmarking/, because importing them would import PyTorch.
_MODELS = ("base-patch32", "base-patch16", "large-patch14")
_SECTIONS = (
    "vision",
    "text",
    "padded",
    "training",
    "decode",
    "startup",
    "classify",
)


@click.command("bench")
@click.option("--model", "models", type=click.Choice(_MODELS), multiple=True, default=("base-patch32",),
              show_default=True, help="Architecture, with random weights; may be repeated.")  # fmt: skip
@click.option("--only", "sections", type=click.Choice(_SECTIONS), multiple=True, metavar="PART",
              help=f"Measure only this part; may be repeated: {', '.join(_SECTIONS)}.")  # fmt: skip
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Runs of each measurement.")
@click.option("--longest", type=Time(), default=40, show_default=True,
              help="Measurements that take longer than this get fewer rounds, but at least two.")  # fmt: skip
@click.option("--threads", type=click.IntRange(1), help="Threads of PyTorch.  [default: PyTorch's choice]")
@click.option("--clip", "clips", type=click.Path(exists=True, dir_okay=False), multiple=True,
              help="Video file for the classify rows; may be repeated.  [default: a generated one]")  # fmt: skip
@click.option("--out", "output", type=Target(dir_okay=False), help="Also write the rows to this JSON file.")
@format_options
def command(
    models: tuple[str, ...],
    sections: tuple[str, ...],
    rounds: int,
    longest: float,
    threads: int | None,
    clips: tuple[str, ...],
    output: Path | None,
    form: Form,
) -> None:
    """Measure openxclip on this CPU, and transformers if it is installed.

    Both run alternately, with the same random weights and the same number of threads, and medians are compared. A ratio
    below 1 means that openxclip is faster. "documented" is transformers as in its documentation, "tuned" as an expert
    would use it (cached text features, inference mode, bf16 autocast where openxclip uses bf16).
    """
    if output is not None:
        try:
            checked_target(output)
        except ValueError as error:
            raise click.UsageError(printable(str(error))) from error
    from openxclip.benchmarking import SECTIONS, bench

    show = _printer(form)
    with progress("measuring", noun="row", prints_meanwhile=True) as display:

        def on_row(row: Row) -> None:
            show(row)
            display()

        bench(
            list(dict.fromkeys(models)),
            sections=sections or SECTIONS,
            rounds=rounds,
            longest=longest,
            threads=threads,
            clips=clips,
            output=output,
            say=click.echo if form == "table" else lambda line: None,
            on_row=on_row,
        )


def _printer(form: Form) -> Callable[[Row], object]:
    if form == "csv":
        from openxclip.benchmarking.measuring import Row

        rows = CsvRows(list(Row("", "", 0.0).as_dict()))
        return lambda row: rows.print(row.as_dict())
    if form == "jsonl":
        return lambda row: click.echo(json_line(row.as_dict()))
    return lambda row: None
