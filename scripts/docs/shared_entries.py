"""A griffe extension for docstrings whose entries describe several parameters at once.

`start, end: seconds of the part to read` becomes an entry for `start` and one for `end`, because griffe knows entries
of one name only.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

SHARED = re.compile(r"^( +)((?:\*{0,2}\w+, )+\*{0,2}\w+)(: .*(?:\n\1 +\S.*)*)", re.MULTILINE)
SECTION = re.compile(r"(?<=\n)(Args|Attributes):\n(?:(?: +.*)?\n?)*")


class SharedEntries(griffe.Extension):
    """Repeats the text of an entry for each of its names."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of an object."""
        if obj.docstring is not None:
            obj.docstring.value = SECTION.sub(lambda section: SHARED.sub(repeat, section[0]), obj.docstring.value)


def repeat(match: re.Match[str]) -> str:
    """Return an entry for each name."""
    indent, names, text = match.groups()
    return "\n".join(f"{indent}{name}{text}" for name in names.split(", "))
