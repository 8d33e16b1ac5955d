"""The command run in this process: as `main` runs it, with its exit status and what it writes."""

from __future__ import annotations

import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from openxclip.cli.main import main


class Ran(NamedTuple):
    """What a run of the command came to."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def what_main_changes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put back what `main` sets for the whole process."""
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv("OMP_WAIT_POLICY", os.environ.get("OMP_WAIT_POLICY", "PASSIVE"))
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command with these arguments; with `columns`, its output is a terminal of so many."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def call(*arguments: object, columns: int | None = None, stdin: str = "", out: io.StringIO | None = None) -> Ran:
        out, err = out or (io.StringIO() if columns is None else Terminal()), io.StringIO()
        if columns is not None:
            monkeypatch.setenv("COLUMNS", str(columns))
            monkeypatch.setenv("LINES", "25")
        sys.stdin, sys.stdout, sys.stderr = io.StringIO(stdin), out, err
        monkeypatch.setattr(sys, "argv", ["openxclip", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as done:
            code = done.code if isinstance(done.code, int) else int(done.code is not None)
        return Ran(code, out.getvalue(), err.getvalue())

    return call
