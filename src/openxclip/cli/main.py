"""The command `openxclip`. Each verb is a file in this folder, imported only when it is called, so --help is fast."""

from __future__ import annotations

import difflib
import os
import signal
import sys
import warnings
from importlib import import_module
from typing import Any

import click

from openxclip._version import __version__
from openxclip.cli.help import Context, as_typed
from openxclip.cli.terminal import OutputError, kept_flag, prepare_streams, say
from openxclip.common.files import as_os_error, reason_of
from openxclip.errors import CheckpointError, OpenXCLIPError

_VERBS = {
    "classify": "Choose the labels that fit each video.",
    "timeline": "Find when labels are seen in long videos.",
    "embed": "Write the features of videos to a file.",
    "index": "Build and update a searchable index of videos.",
    "search": "Find moments in an index by a sentence or by another video.",
    "dedup": "Find the videos of an index that are copies of others.",
    "train": "Train a model on your videos, by a recipe.",
    "eval": "Evaluate a model by a recipe's data and protocol.",
    "init": "Start an X-CLIP from a CLIP, for training.",
    "info": "Describe a video, model folder or checkpoint.",
    "check": "Find unreadable and damaged videos, and write a report.",
    "convert": "Convert checkpoints: hub folders, the authors' files, and CLIPs.",
    "profile": "Count a model's parameters, operations and memory, part by part.",
    "models": "List the released models with their published accuracy.",
    "playground": "Render clips and films with known labels.",
    "serve": "Serve an HTTP API and a page to watch, search and correct.",
    "bench": "Compare openxclip's speed on this machine with transformers.",
}


class _Verbs(click.Group):
    context_class = Context

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            close = difflib.get_close_matches(args[0], _VERBS, n=1)
            if not close:
                raise
            raise click.UsageError(f"No such command {args[0]!r}: did you mean {close[0]}?", ctx) from error

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        command: click.Command = import_module(f"openxclip.cli.{cmd_name}").command
        if command.context_class is not Context:  # the first time
            command.context_class = Context
            kept_flag("-q", "--quiet", text="Hide progress and notes; warnings and errors are always shown.")(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):  # from the table above, because listing the verbs must not import them
            formatter.write_dl(list(_VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="openxclip")
def cli() -> None:
    """Recognise, search and learn what happens in video from words, with X-CLIP.

    The included model mini knows only openxclip's rendered playground, not real footage. Try it on the clips in the
    project's folder:

    \b
      openxclip classify samples --model mini \\
          --labels-file samples/labels.txt
    """  # noqa: D301 (\b tells click not to wrap the paragraph)


def _say_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    say(f"note: {message}")


def _let_threads_sleep() -> None:
    """Make OpenMP's threads sleep while they wait, unless the user chose otherwise. Call it before PyTorch is loaded.

    Spinning threads take cores from the decoding process and from other programs; docs/speed.md has the figures.
    """
    if not any(name in os.environ for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def main() -> None:
    """Run the command. A user's mistake prints one line on stderr and no traceback."""
    _let_threads_sleep()
    prepare_streams()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # cleans up as Ctrl-C does
    warnings.showwarning = _say_warning
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:  # click turns Ctrl-C into Abort
        say("interrupted")
        sys.exit(130)
    except click.ClickException as error:
        if type(error) is click.UsageError:  # click's own subclasses already show options as typed
            error = click.UsageError(as_typed(error), error.ctx)
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except OpenXCLIPError as error:
        say(error, lines=isinstance(error, CheckpointError))  # it lists the weights that don't fit on several lines
        sys.exit(1)
    except OutputError as error:
        if error.is_closed:  # `openxclip … | head`
            sys.exit(0)
        say(error)
        sys.exit(1)
    except Exception as error:  # safetensors and LanceDB wrap system errors in their own exceptions
        system_error = as_os_error(error, "")  # while writing a file; others are handled where they occur
        if system_error is None:
            raise
        name = f"{system_error.filename}: " if system_error.filename else ""
        say(f"{name}{reason_of(system_error)}")
        sys.exit(1)


if __name__ == "__main__":
    main()
