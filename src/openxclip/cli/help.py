"""Help on terminals of any width, without words that are cut; and options in errors, as they are typed."""

from __future__ import annotations

import re
from collections.abc import Iterable

import click

_HYPHEN = "\u2011"  # at which lines aren't broken


class HelpFormatter(click.HelpFormatter):
    """Breaks lines at blanks alone: names like xclip-base-patch32 stay whole, to be copied."""

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """The options, with a narrower first column on narrow terminals."""
        kept = [(first, second.replace("-", _HYPHEN)) for first, second in rows]
        super().write_dl(kept, min(col_max, self.width // 3), col_spacing)

    def write_text(self, text: str) -> None:
        """A paragraph."""
        super().write_text(text.replace("-", _HYPHEN))

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """The line of usage."""
        super().write_usage(prog, args.replace("-", _HYPHEN), prefix)

    def getvalue(self) -> str:
        """All of it, with the hyphens that were written."""
        return super().getvalue().replace(_HYPHEN, "-")


class Context(click.Context):
    """click's, with these help texts."""

    formatter_class = HelpFormatter


_NAMES = {"num_frames": "frames", "num_clips": "clips", "num_texts": "texts", "k": "top"}  # in Python, and typed


def as_typed(error: click.UsageError) -> str:
    """An error's message with the library's `num_frames=0` as the command's `--frames 0`, where it has that option."""
    options: dict[str, str] = {}
    for parameter in error.ctx.command.params if error.ctx is not None else ():
        long = [name for name in parameter.opts if name.startswith("--")]
        if parameter.name and long:
            options[parameter.name] = options[long[0][2:].replace("-", "_")] = long[0]

    def typed(found: re.Match[str]) -> str:
        name = found[1]
        option = options.get(_NAMES.get(name, name))
        return found[0] if option is None else f"{option} "

    return re.sub(r"(?<![\w-])([a-z_]+)=(?=\S)", typed, error.message)
