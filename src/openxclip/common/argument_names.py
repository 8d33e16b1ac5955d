"""Wrong names of arguments: what is said of an old one, and of one that is misspelt."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def renamed(**names: str) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Make a function refuse the old names of its arguments, with a TypeError that says the new one.

    Args:
        **names: the new name of each old one.
    """

    def decorate(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        @functools.wraps(function)
        def checked(*args: Arguments.args, **options: Arguments.kwargs) -> Result:
            for old in names.keys() & options.keys():
                raise TypeError(f"{old}= is called {names[old]}= now.")
            return function(*args, **options)

        return checked

    return decorate


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence on an unknown name: ": did you mean …?" where a known one is close, else a full stop."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f": did you mean {close[0]!r}?" if close else "."
