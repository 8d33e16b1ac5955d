"""`openxclip train`: trains a model by a recipe."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from openxclip.cli.help import usage_errors
from openxclip.cli.options import Target, device_option, hidden_option
from openxclip.cli.progress import Progress, progress
from openxclip.cli.terminal import printable, say, say_first
from openxclip.common.counting import counted
from openxclip.common.files import checked_folder

if TYPE_CHECKING:
    from openxclip.training import StepReport

_SHOWN_STEPS = 20  # last steps; the displayed figures are their means


@click.command("train", no_args_is_help=True)
@click.argument("recipe")
@click.argument("changes", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--out", type=Target(), help="Folder for the model.  [required, except with --dry-run]")
@click.option("--dry-run", is_flag=True, help="Print the plan of the training, and do nothing.")
@device_option
@hidden_option
def command(
    recipe: str, changes: tuple[str, ...], out: Path | None, dry_run: bool, device: str | None, hidden: bool
) -> None:
    """Train a model by a RECIPE: my-videos, few-shot, kinetics, zero-shot, or your own YAML file.

    KEY=VALUE replaces a value of the recipe; docs/training.md lists the keys. The same command resumes an interrupted
    training.

    \b
      openxclip train my-videos data=clips/ --out my-model
      openxclip classify new.mp4 --model my-model \\
          --labels "jumping, falling"
    """  # noqa: D301 (\b tells click not to wrap the paragraph)
    from openxclip.model.devices import as_computing_device
    from openxclip.training import plan_training, train

    if hidden:
        changes += ("hidden=true",)
    if dry_run:
        for line in str(plan_training(recipe, *changes)).split("\n"):
            click.echo(printable(line))
        return
    if out is None:
        raise click.UsageError("--out is missing: a folder for the model.")
    with usage_errors():
        checked_folder(out, of_model=True)
        if device is not None:
            as_computing_device(device)
    is_first = not int(os.environ.get("RANK", "0"))  # only the first of several processes shows progress and results
    last: deque[StepReport] = deque(maxlen=_SHOWN_STEPS)
    with progress("training", noun="step") if is_first else nullcontext(Progress("training", None)) as display:

        def on_step(report: StepReport) -> None:
            last.append(report)
            display.at(report.step + 1, report.total, note=f"epoch {report.epoch + 1}, {_describe_means(last)}")

        result = train(recipe, *changes, out=out, device=device, on_step=on_step, say=_say)
    if not is_first:
        return
    unreadable = [f"could not be read and was skipped: {path}: {why}" for path, why in result.unreadable.items()]
    say_first(unreadable, rest=f": {printable(str(out))}/training/log.jsonl lists all")
    if not result.finished:
        say(f"stopped after {counted(result.steps, 'step')}: run the same command to resume.")
        sys.exit(130)
    click.echo(f"{result.folder}: wrote the model, its card and its results.")


def _say(text: str) -> None:
    click.echo(printable(text.replace("\n", "\n  "), lines=True), err=True)


def _describe_means(steps: Sequence[StepReport]) -> str:
    loss, clips, seconds, waited = (
        sum(getattr(step, name) for step in steps) for name in ("loss", "clips", "seconds", "waited")
    )
    return (
        f"loss {loss / len(steps):.3f} over {counted(len(steps), 'step')}, lr {steps[-1].lr:.1e}, "
        f"{clips / seconds:.1f} clips/s, {100 * waited / seconds:.0f} % waiting for data"
    )
