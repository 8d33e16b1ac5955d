"""Run the command in this process, and return its exit status and output."""

from __future__ import annotations

import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import huggingface_hub.utils._cache_manager  # noqa: F401 (copies what `run` replaces: so it's loaded before)
import pytest
from huggingface_hub import constants

from openxclip.cli.main import main
from openxclip.pipeline import workers
from openxclip.video import DecodeWorker


class Ran(NamedTuple):
    """What a run of the command came to, named as in subprocess.CompletedProcess."""

    returncode: int
    stdout: str
    stderr: str


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
def run(monkeypatch: pytest.MonkeyPatch, kept_worker: DecodeWorker) -> Run:
    """Run the command with these arguments, offline; with `columns`, its output is a terminal of so many.

    `cwd` and the environment are the call's own. Of the variables that a package reads when it is imported, HF_HOME
    is heeded all the same.
    """
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(workers, "DecodeWorker", lambda: kept_worker)

    def call(
        *arguments: object,
        columns: int | None = None,
        stdin: str = "",
        out: io.StringIO | None = None,
        cwd: Path | None = None,
        **environment: str,
    ) -> Ran:
        out, err = out or (io.StringIO() if columns is None else Terminal()), io.StringIO()
        if columns is not None:
            environment |= {"COLUMNS": str(columns), "LINES": "25"}
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            if "HF_HOME" in environment:
                places = {"HF_HOME": environment["HF_HOME"], "HF_HUB_CACHE": str(Path(environment["HF_HOME"], "hub"))}
                for module in [one for name, one in sys.modules.items() if name.startswith("huggingface_hub")]:
                    for name in places.keys() & vars(module).keys():
                        patch.setattr(module, name, places[name])
            if cwd is not None:
                patch.chdir(cwd)
            given = io.BytesIO(stdin.encode("utf-8", "surrogateescape"))
            patch.setattr(sys, "stdin", io.TextIOWrapper(given, encoding="utf-8"))
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            patch.setattr(sys, "argv", ["openxclip", *map(str, arguments)])
            try:
                main()
                code = 0
            except SystemExit as done:
                code = done.code if isinstance(done.code, int) else int(done.code is not None)
        return Ran(code, out.getvalue(), err.getvalue())

    return call
