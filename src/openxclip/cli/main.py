"""`openxclip`, the command. Each verb is a file beside this one, imported when it is called: --help stays quick."""

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
from openxclip.cli.terminal import OutputError, prepare_streams, say
from openxclip.common.files import as_os_error, reason_of
from openxclip.errors import CheckpointError, OpenXCLIPError

_VERBS = {
    "classify": "Say which of some labels each video shows.",
    "embed": "Write the features of videos to a file.",
    "index": "Put videos into an index that can be searched.",
    "search": "Find moments in an index by a sentence, or by another video.",
    "dedup": "Find the videos of an index that are copies of others.",
    "train": "Train a model on your videos, by a recipe.",
    "eval": "Judge a model by a recipe's data and protocol.",
    "init": "Make an X-CLIP of a CLIP, to be trained.",
    "info": "Say what a video, model folder or checkpoint is.",
    "check": "Verify a collection of videos and write a report.",
    "convert": "Convert a checkpoint: hub folders, the authors' files, and CLIPs as a start.",
    "profile": "Count a model's parameters, operations and memory, part by part.",
    "models": "List the released checkpoints with what was published of them.",
    "playground": "Render clips and films whose right labels are known.",
    "bench": "Measure openxclip on this machine, beside transformers.",
    "cache": "Show or delete the models that were downloaded.",
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
        from openxclip.cli.options import common_to_all

        return common_to_all(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):  # from the table above: listing them must not import them
            formatter.write_dl(list(_VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="openxclip")
def cli() -> None:
    """Recognise what happens in video from words: X-CLIP.

    The model mini comes with the package and knows only openxclip's rendered playground, not real footage. On the clips
    in the project's folder:

    \b
      openxclip classify samples --model mini \\
          --labels-file samples/labels.txt
    """  # noqa: D301 (click's sign for a paragraph that is not wrapped)


def _say_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    say(f"note: {message}")


def _let_threads_sleep() -> None:
    """Have OpenMP's threads sleep while they wait, before PyTorch is loaded. The user's own settings win.

    Threads that spin take the cores from the decoding process and from other programs: docs/speed.md has the figures.
    """
    if not any(name in os.environ for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def main() -> None:
    """Run the command; a user's mistake is one line on stderr, not a traceback."""
    _let_threads_sleep()
    prepare_streams()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # cleans up on the way, as Ctrl-C does
    warnings.showwarning = _say_warning
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:  # what click makes of Ctrl-C
        say("interrupted")
        sys.exit(130)
    except click.ClickException as error:
        if type(error) is click.UsageError:  # the others are click's own
            error = click.UsageError(as_typed(error), error.ctx)
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except OpenXCLIPError as error:
        say(error, lines=isinstance(error, CheckpointError))  # which lists what doesn't fit
        sys.exit(1)
    except OutputError as error:
        if error.is_closed:  # `openxclip … | head`
            sys.exit(0)
        say(error)
        sys.exit(1)
    except OSError as error:  # of a file that is written: a full disk, say; others are caught where they arise
        name = "" if error.filename is None else f"{error.filename}: "
        say(f"{name}{reason_of(error)}")
        sys.exit(1)
    except Exception as error:  # safetensors and LanceDB have their own for what the system refuses
        found = as_os_error(error, "")
        if found is None:
            raise
        say(reason_of(found))
        sys.exit(1)


if __name__ == "__main__":
    main()
