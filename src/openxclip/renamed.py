"""Arguments that have a new name: the old one is refused with the new one in the message."""

from __future__ import annotations

import functools
from collections.abc import Callable
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
