"""Printed text is safe for a terminal, and the standard streams may be closed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openxclip.cli.terminal import printable

Run = Callable[..., Any]
ESCAPE = "\x1b[2J\x1b]0;title\x07"


def test_control_characters_are_escaped() -> None:
    assert printable("näme 1 (×2).mp4") == "näme 1 (×2).mp4"
    assert printable(ESCAPE) == r"\x1b[2J\x1b]0;title\x07"
    assert printable("two\nlines\r\x9b") == r"two\nlines\r\x9b"
    assert printable("two\n  lines\x1b\nmore", lines=True) == "two\n  lines\\x1b\\nmore"
    assert printable(os.fsdecode(b"\xff.mp4")) == r"\udcff.mp4"


@pytest.mark.parametrize(
    "arguments",
    [
        ["info"],
        ["check"],
        ["classify", "--model", "mini", "--labels", "a"],
        ["convert"],
    ],
)
def test_control_characters_in_file_names_are_escaped(arguments: list[str], run: Run, tmp_path: Path) -> None:
    target = [str(tmp_path / "out")] if arguments == ["convert"] else []
    done = run(*arguments, f"{ESCAPE}\nmore.pth", *target, cwd=tmp_path)
    assert done.returncode == 1
    assert "\x1b" not in done.stdout + done.stderr
    assert "\x07" not in done.stdout + done.stderr
    lines = (done.stdout + done.stderr).splitlines()
    assert any("more.pth" in line for line in lines)
    assert not any(line.startswith("more.pth") for line in lines)


@pytest.mark.parametrize(
    "closed", [*(pytest.param(one, marks=pytest.mark.slow) for one in ("<&-", "<&- >&-", "<&- >&- 2>&-")), ">&-"]
)
def test_standard_streams_may_be_closed(closed: str, clip_folder: Path, tmp_path: Path) -> None:
    for name in ("red2.mp4", "red10.mp4"):
        shutil.copy(clip_folder / name, tmp_path / name)
    call = f"exec '{sys.executable}' -m openxclip check . --report all.json {closed}"
    done = subprocess.run(call, shell=True, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "all.json").read_text().count('"error": null') == 2
