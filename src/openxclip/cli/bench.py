"""`openxclip bench`: how fast this machine is."""

from __future__ import annotations

from pathlib import Path

import click

from openxclip.cli.options import Target

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
@click.option("--only", "sections", type=click.Choice(_SECTIONS), multiple=True, help="These parts alone.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Runs of each.")
@click.option("--longest", type=click.FloatRange(0), default=40, show_default=True, metavar="SECONDS",
              help="What takes longer than this for its rounds gets fewer, at least two.")  # fmt: skip
@click.option("--threads", type=click.IntRange(1), help="Of PyTorch.  [default: PyTorch's choice]")
@click.option("--clip", "clips", type=click.Path(exists=True, dir_okay=False), multiple=True,
              help="Video files for classify.  [default: one that is made]")  # fmt: skip
@click.option("--json", "output", type=Target(dir_okay=False), help="Also write the rows here.")
def command(
    models: tuple[str, ...],
    sections: tuple[str, ...],
    rounds: int,
    longest: float,
    threads: int | None,
    clips: tuple[str, ...],
    output: Path | None,
) -> None:
    """Measure openxclip on this CPU, beside transformers if that is installed.

    Both run in turns, on the same random weights, with as many threads; medians are compared. A ratio below 1 is
    openxclip's advantage: "documented" is transformers as its documentation uses it, "tuned" as an expert would (text
    features kept, inference mode, bf16 autocast where ours is bf16).
    """
    if output is not None and not output.absolute().parent.is_dir():
        raise click.UsageError(f"{output}: there is no such folder to write it to.")
    from openxclip.benchmarking import SECTIONS, bench

    bench(
        list(dict.fromkeys(models)),
        sections=sections or SECTIONS,
        rounds=rounds,
        longest=longest,
        threads=threads,
        clips=clips,
        output=output,
        say=click.echo,
    )
