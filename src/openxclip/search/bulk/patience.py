"""Do something again while an object store doesn't answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from openxclip.common.times import format_time
from openxclip.errors import OpenXCLIPError, StoreError
from openxclip.search.bulk.objects import Objects
from openxclip.search.store_errors import problem_of

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 15.0

_T = TypeVar("_T")


def patiently(work: Callable[[], _T], objects: Objects) -> _T:
    """Do some work on an index; if its store doesn't answer, again and again for as long as `objects` waits.

    Args:
        work: what to do; doing it again after it failed at any point must be right.
        objects: the place of the index.

    Raises:
        StoreError: the store refuses, or didn't answer in time.
        Exception: what else `work` raises.
    """
    started, wait, is_said = time.monotonic(), _FIRST_WAIT_S, False
    while True:
        try:
            return work()
        except (OpenXCLIPError, OSError, RuntimeError, ValueError) as error:
            problem = problem_of(objects.uri, error)
            may_pass = error.may_pass if isinstance(error, StoreError) else problem is not None and problem.may_pass
            if not may_pass or time.monotonic() + wait > started + objects.patience:
                if problem is not None and not isinstance(error, StoreError):
                    raise StoreError(problem.message, may_pass=problem.may_pass) from error
                raise
            if not is_said:
                message = str(error) if problem is None else problem.message
                objects.on_wait(f"{message.removesuffix('.')} (waiting, for up to {format_time(objects.patience)}).")
                is_said = True
        time.sleep(wait)
        wait = min(2 * wait, _LONGEST_WAIT_S)
