"""`openxclip bench`: measures the speed of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from openxclip.cli.help import usage_errors
from openxclip.cli.options import Target, Time
from openxclip.cli.progress import progress
from openxclip.cli.rows import Form, Rows, format_options
from openxclip.common.files import checked_target

# Copies of names in benchmarking/, because importing them would import PyTorch.
_MODELS = ("base-patch32", "base-patch16", "large-patch14")
_SECTIONS = ("vision", "text", "padded", "training", "decode", "startup", "classify")


@click.command("bench")
@click.option(
    "--model",
    "models",
    type=click.Choice(_MODELS),
    multiple=True,
    default=("base-patch32",),
    help="Architecture, with random weights; may be repeated.",
)
@click.option(
    "--only",
    "sections",
    type=click.Choice(_SECTIONS),
    multiple=True,
    metavar="PART",
    help=f"Measure only this part; may be repeated: {', '.join(_SECTIONS)}.",
)
@click.option("--rounds", type=click.IntRange(1), default=5, help="Runs of each measurement.")
@click.option(
    "--longest",
    type=Time(),
    default=40,
    help="Measurements that take longer than this get fewer rounds, but at least two.",
)
@click.option("--threads", type=click.IntRange(1), help="Threads of PyTorch.  [default: PyTorch's choice]")
@click.option(
    "--clip",
    "clips",
    type=click.Path(exists=True, dir_okay=False),
    multiple=True,
    help="Video file for the classify rows; may be repeated.  [default: a generated one]",
)
@click.option("--out", "output", type=Target(dir_okay=False), help="Also write the rows to this JSON file.")
@format_options
def command(
    models: tuple[str, ...], sections: tuple[str, ...], output: Path | None, form: Form, **options: Any
) -> None:
    """Measure openxclip on this CPU, and transformers if it is installed.

    Both run alternately, with the same random weights and the same number of threads, and medians are compared. A ratio
    below 1 means that openxclip is faster. "documented" is transformers as in its documentation, "tuned" as an expert
    would use it (cached text features, inference mode, bf16 autocast where openxclip uses bf16).
    """
    if output is not None:
        with usage_errors():
            checked_target(output)
    from openxclip.benchmarking import SECTIONS, bench
    from openxclip.benchmarking.measuring import Row

    rows = Rows(form, Row("", "", 0.0).as_dict())
    with progress("measuring", noun="row", prints_meanwhile=True) as display:

        def on_row(row: Row) -> None:
            rows.print(row.as_dict())
            display()

        bench(
            list(dict.fromkeys(models)),
            sections=sections or SECTIONS,
            output=output,
            say=click.echo if form == "table" else lambda line: None,
            on_row=on_row,
            **options,
        )
