"""Help that doesn't split words on terminals of any width, and errors that name options as they are typed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from openxclip.cli.terminal import printable

_HYPHEN = "\u2011"  # a hyphen at which lines are not wrapped


class HelpFormatter(click.HelpFormatter):
    """Wrap lines only at spaces, so that names like xclip-base-patch32 stay whole and can be copied."""

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write the options, with a narrower first column on narrow terminals."""
        kept = [(first, second.replace("-", _HYPHEN)) for first, second in rows]
        super().write_dl(kept, min(col_max, self.width // 3), col_spacing)

    def write_text(self, text: str) -> None:
        """Write a paragraph."""
        super().write_text(text.replace("-", _HYPHEN))

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Write the usage line."""
        super().write_usage(prog, args.replace("-", _HYPHEN), prefix)

    def getvalue(self) -> str:
        """Return the text with ordinary hyphens."""
        return super().getvalue().replace(_HYPHEN, "-")


class Context(click.Context):
    """click's context, with this formatter; help shows defaults."""

    formatter_class = HelpFormatter

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **{"show_default": True, **settings})


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turn a ValueError in the block into a usage error of the command."""
    try:
        yield
    except ValueError as error:
        raise click.UsageError(printable(str(error))) from error


def as_typed(error: click.UsageError) -> str:
    """Replace Python arguments in an error message by options of the command: `num_frames=0` becomes `--frames 0`."""
    options: dict[str, str] = {}
    for parameter in error.ctx.command.params if error.ctx is not None else ():
        long = [name for name in parameter.opts if name.startswith("--")]
        if parameter.name and long:
            options[parameter.name] = options[long[0][2:].replace("-", "_")] = long[0]

    def replacement(match: re.Match[str]) -> str:
        option = options.get(match[1])
        return match[0] if option is None else f"{option} "

    return re.sub(r"(?<![\w-])([a-z_]+)=(?=\S)", replacement, error.message)
