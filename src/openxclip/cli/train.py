"""`openxclip train`: trains a model by a recipe."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from openxclip.cli.options import Target, hidden_option, with_hidden
from openxclip.cli.progress import progress
from openxclip.cli.terminal import counted, printable, say, say_first
from openxclip.common.files import checked_folder

if TYPE_CHECKING:
    from openxclip.training import StepReport

_SHOWN_STEPS = 20  # number of steps that the displayed loss is the mean of


@click.command("train", no_args_is_help=True)
@click.argument("recipe")
@click.argument("changes", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--out", type=Target(), help="Folder for the model.  [required, except with --dry-run]")
@click.option("--dry-run", is_flag=True, help="Print the plan of the training, and do nothing.")
@click.option("--device", help="cpu, cuda, cuda:1, …  [default: a GPU if there is one]")
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
    from openxclip.training import plan_training, train

    changes = with_hidden(changes, hidden)
    if dry_run:
        for line in str(plan_training(recipe, *changes)).split("\n"):
            click.echo(printable(line))
        return
    if out is None:
        raise click.UsageError("--out is missing: a folder for the model.")
    try:
        checked_folder(out, of_model=True)
    except ValueError as error:
        raise click.UsageError(printable(str(error))) from error
    if device is not None:
        from openxclip.model.devices import as_computing_device

        try:
            as_computing_device(device)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
    with _progress() as on_step:
        result = train(recipe, *changes, out=out, device=device, on_step=on_step, say=_say)
    if int(os.environ.get("RANK", "0")):
        return
    unreadable = [f"could not be read and was skipped: {path}: {why}" for path, why in result.unreadable.items()]
    say_first(unreadable, rest=f": {printable(str(out))}/training/log.jsonl lists all")
    if not result.finished:
        say(f"stopped after {counted(result.steps, 'step')}: run the same command to resume.")
        sys.exit(130)
    click.echo(f"{result.folder}: wrote the model, its card and its results.")


def _say(text: str) -> None:
    click.echo(_printable(text), err=True)


def _printable(text: str) -> str:
    return printable(text.replace("\n", "\n  "), lines=True)


@contextmanager
def _progress() -> Iterator[Callable[[StepReport], None]]:
    """Yield the function to call after each step."""
    if int(os.environ.get("RANK", "0")):  # only the first of several processes shows progress
        yield lambda report: None
        return
    with progress("training", noun="step") as display:
        figures = _Figures()

        def show(report: StepReport) -> None:
            display.at(report.step + 1, report.total, note=f"epoch {report.epoch + 1}, {figures(report)}")

        yield show


class _Figures:
    """Describes the means of the last 20 steps, or of all if there are fewer."""

    def __init__(self) -> None:
        self._last: deque[StepReport] = deque(maxlen=_SHOWN_STEPS)

    def __call__(self, report: StepReport) -> str:
        self._last.append(report)
        number = len(self._last)
        seconds = sum(step.seconds for step in self._last)
        loss = sum(step.loss for step in self._last) / number
        return (
            f"loss {loss:.3f} over {counted(number, 'step')}, lr {report.lr:.1e}, "
            f"{sum(step.clips for step in self._last) / seconds:.1f} clips/s, "
            f"{100 * sum(step.waited for step in self._last) / seconds:.0f} % waiting for data"
        )
