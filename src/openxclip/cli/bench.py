"""`openxclip bench`: how fast this machine is."""

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

# Not imported: that would take PyTorch.
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
              show_default=True, help="Architecture, of random weights; may be given several times.")  # fmt: skip
@click.option("--only", "sections", type=click.Choice(_SECTIONS), multiple=True, metavar="PART",
              help=f"This part alone; may be given several times: {', '.join(_SECTIONS)}.")  # fmt: skip
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Runs of each.")
@click.option("--longest", type=Time(), default=40, show_default=True,
              help="What takes longer than this for its rounds gets fewer, at least two.")  # fmt: skip
@click.option("--threads", type=click.IntRange(1), help="Of PyTorch.  [default: PyTorch's choice]")
@click.option("--clip", "clips", type=click.Path(exists=True, dir_okay=False), multiple=True,
              help="Video files for classify.  [default: one that is made]")  # fmt: skip
@click.option("--out", "output", type=Target(dir_okay=False), help="JSON file to write the rows to as well.")
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
    """Measure openxclip on this CPU, beside transformers if that is installed.

    Both run in turns, on the same random weights, with as many threads; medians are compared. A ratio below 1 is
    openxclip's advantage: "documented" is transformers as its documentation uses it, "tuned" as an expert would (text
    features kept, inference mode, bf16 autocast where ours is bf16).
    """
    if output is not None:
        try:
            checked_target(output)
        except ValueError as error:
            raise click.UsageError(printable(str(error))) from error
    from openxclip.benchmarking import SECTIONS, bench

    show = _printer(form)
    with progress("measuring", noun="row", prints_meanwhile=True) as shown:

        def on_row(row: Row) -> None:
            show(row)
            shown()

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
