"""Help texts on terminals of any width: no word is cut."""

from __future__ import annotations

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
