"""The table of call patterns, and functions that run a pattern with either library and compare the results.

A pattern is a function of two arguments that does what client code does and returns what that code would use: tensors,
numbers, strings, or nested dicts and lists of them. `lib` is the library under test, where names such as
`lib.XCLIPModel` are openxclip's or transformers'; `given` holds folders and inputs. The expected outcome is one of:

- `EQUAL`: both return values equal within 1e-5 of the largest, or both raise errors that one `except` clause catches.
- `ONLY_HERE`: transformers raises, openxclip returns.
- `DIFFERS`: both return or raise something else; `reason` says why, and docs/from-transformers.md lists it.
- `ONLY_THERE`: openxclip refuses; `reason` says why, and docs/from-transformers.md lists it.

`outcome_4` is the outcome with transformers 4.x, if it is another one.
"""

from __future__ import annotations

import builtins
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import torch

TOLERANCE = 1e-5


class Outcome(Enum):
    EQUAL = "equal"
    ONLY_HERE = "works only here"
    DIFFERS = "differs, documented"
    ONLY_THERE = "works only there, documented"


EQUAL, ONLY_HERE, DIFFERS, ONLY_THERE = Outcome


@dataclass(frozen=True)
class Pattern:
    """One row of the table."""

    group: str
    name: str
    run: Callable[[Any, Any], Any]
    outcome: Outcome
    outcome_4: Outcome
    reason: str
    tolerance: float


PATTERNS: list[Pattern] = []


def pattern(
    group: str,
    *,
    outcome: Outcome = EQUAL,
    outcome_4: Outcome | None = None,
    reason: str = "",
    tolerance: float = TOLERANCE,
) -> Callable[[Callable[[Any, Any], Any]], Callable[[Any, Any], Any]]:
    """Add a function to the table, under its own name."""

    def register(run: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        if {outcome, outcome_4} & {DIFFERS, ONLY_THERE} and not reason:
            raise ValueError(f"{run.__name__}: a documented difference needs a reason")
        PATTERNS.append(Pattern(group, run.__name__, run, outcome, outcome_4 or outcome, reason, tolerance))
        return run

    return register


@dataclass(frozen=True)
class Result:
    """What a pattern returned, or the error that it raised."""

    value: Any = None
    error: Exception | None = None


def result_of(run: Callable[[Any, Any], Any], lib: Any, given: Any) -> Result:
    torch.manual_seed(0)
    try:
        return Result(value=plain(run(lib, given)))
    except Exception as error:
        return Result(error=error)


def plain(value: Any) -> Any:
    """Convert a value to plain Python and NumPy types."""
    if isinstance(value, torch.Tensor):
        return value.detach().float().numpy() if value.is_floating_point() else value.detach().numpy()
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, str | bytes | bool | numbers.Number) or value is None:
        return value
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    raise TypeError(f"a pattern must return plain values, not {type(value).__name__}")


def difference(ours: Any, theirs: Any, tolerance: float, at: str = "result") -> str | None:
    """Describe the first difference between two values; None if there is none."""
    if isinstance(ours, np.ndarray) and isinstance(theirs, np.ndarray):
        if ours.shape != theirs.shape:
            return f"{at}: shape {ours.shape} here, {theirs.shape} there"
        if ours.dtype.kind != theirs.dtype.kind:
            return f"{at}: {ours.dtype} here, {theirs.dtype} there"
        if ours.size == 0 or ours.dtype.kind in "US":
            return None if np.array_equal(ours, theirs) else f"{at}: other strings"
        off = float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max())
        largest = max(1e-3, float(np.abs(theirs).max()))
        return None if off <= tolerance * largest else f"{at}: off by {off:.2e} of {largest:.2e}"
    if isinstance(ours, dict) and isinstance(theirs, dict):
        if ours.keys() != theirs.keys():
            return f"{at}: keys {sorted(ours)} here, {sorted(theirs)} there"
        return next((d for k in ours if (d := difference(ours[k], theirs[k], tolerance, f"{at}[{k!r}]"))), None)
    if isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) != len(theirs):
            return f"{at}: {len(ours)} items here, {len(theirs)} there"
        pairs = enumerate(zip(ours, theirs, strict=True))
        return next((d for i, (a, b) in pairs if (d := difference(a, b, tolerance, f"{at}[{i}]"))), None)
    if isinstance(ours, float) and isinstance(theirs, float):
        return (
            None if abs(ours - theirs) <= tolerance * max(1e-3, abs(theirs)) else f"{at}: {ours} here, {theirs} there"
        )
    return None if type(ours) is type(theirs) and ours == theirs else f"{at}: {ours!r} here, {theirs!r} there"


def kind_of(error: Exception) -> type[BaseException]:
    """Return the built-in exception class with which client code can catch an error of either library."""
    return next(c for c in type(error).__mro__ if c.__module__ == builtins.__name__)


def problem(row: Pattern, ours: Result, theirs: Result, expected: Outcome) -> str | None:
    """Describe how the outcome of a row differs from the expected one; None if it doesn't."""
    if ours.error is None and theirs.error is None:
        found = difference(ours.value, theirs.value, row.tolerance)
        actual = EQUAL if found is None else DIFFERS
    elif ours.error is None:
        found, actual = f"transformers raises {theirs.error!r}", ONLY_HERE
    elif theirs.error is None:
        found, actual = f"openxclip raises {ours.error!r}", ONLY_THERE
    else:
        same = isinstance(ours.error, kind_of(theirs.error))
        found, actual = f"{ours.error!r} here, {theirs.error!r} there", EQUAL if same else DIFFERS
    return None if actual is expected else f"expected: {expected.value}; found: {actual.value} ({found})"
