"""The README and every page of docs/ run as they stand: commands and snippets, in order, in one folder for each page.

A block of output that follows a command or a snippet is compared with what the test printed: every line of it
must be there, in order. Numbers are not compared, because other CPUs differ in the last digits. `…` stands for lines or
a part of a line that the page leaves out. `not_run.txt` lists what a test can't run, with the reason; the options of
those commands are checked by the command's own parser.
"""

from __future__ import annotations

import contextlib
import glob
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import torch

from openxclip.cli.main import cli, main
from openxclip.video import DecodeWorker

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
OUTPUT = ("text", "json", "")
SHELL = re.compile(r"[|<>&;]|\$\(")


@dataclass
class Block:
    """A block of code, and the output that the page shows below it."""

    language: str
    text: str
    output: str | None = None


@dataclass(frozen=True)
class NotRun:
    """A line of not_run.txt."""

    page: str
    command: str
    reason: str = field(compare=False)


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    found: list[Block] = []
    end = 0
    for match in FENCE.finditer(text):
        indent, language, body = match.groups()
        body = re.sub(rf"^{indent}", "", body, flags=re.MULTILINE)
        follows = not text[end : match.start()].strip()
        if language in OUTPUT and found and follows and found[-1].output is None:
            found[-1].output = body
        elif language in ("bash", "python"):
            found.append(Block(language, body))
        end = match.end()
    return found


def commands(block: Block) -> list[str]:
    """The commands of a block, without comments; a line that ends with a backslash goes on in the next."""
    lines = re.sub(r"\\\n\s*", "", block.text).splitlines()
    return [command for line in lines if (command := re.sub(r"(^|\s+)#.*", "", line).strip())]


def pieces(block: Block) -> list[str]:
    """The parts of a block that run one by one: its commands, or the whole snippet."""
    return commands(block) if block.language == "bash" else [block.text]


@cache
def not_run() -> list[NotRun]:
    lines = (Path(__file__).parent / "not_run.txt").read_text(encoding="utf-8").splitlines()
    return [NotRun(*map(str.strip, line.split("|", 2))) for line in lines if line.strip() and not line.startswith("#")]


def reason_not_to_run(page: str, command: str) -> str | None:
    for entry in not_run():
        if entry.page in ("*", page) and command.startswith(entry.command):
            return entry.reason
    return None


@pytest.fixture(scope="module")
def hub(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub cache with stand-ins of random weights under the names of the released models."""
    home = tmp_path_factory.mktemp("hub")
    for name in ("base-patch32", "base-patch16", "base-patch16-zero-shot"):
        repository = home / "hub" / f"models--microsoft--xclip-{name}"
        shutil.copytree(tiny_folder, repository / "snapshots" / "0123abc")
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("0123abc")
    return home


@pytest.fixture
def desk(
    clip_folder: Path, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_worker: DecodeWorker
) -> Path:
    """The current folder of a page: the files that its examples name.

    PyTorch has one thread, as in tests that are not slow: small models gain nothing from more. All commands read their
    videos in one other process.
    """
    torch.set_num_threads(1)  # which the fixture of all tests resets
    shutil.copy(clip_folder / "red2.mp4", tmp_path / "match.mp4")
    shutil.copytree(clip_folder, tmp_path / "clips")
    shutil.copytree(ROOT / "samples", tmp_path / "samples")
    shutil.copytree(ROOT / "examples", tmp_path / "examples", dirs_exist_ok=True)
    (tmp_path / "more").mkdir()
    shutil.copy(clip_folder / "red10.mp4", tmp_path / "more" / "other.webm")  # its content is what counts
    for name in ("tango", "waltz"):
        (tmp_path / "dances" / name).mkdir(parents=True)
        for i, clip in enumerate(("red2.mp4", "red10.mp4")):
            shutil.copy(clip_folder / clip, tmp_path / "dances" / name / f"{i}.mp4")
    (tmp_path / "labels.txt").write_text("playing basketball\narm wrestling\n")
    monkeypatch.setattr("openxclip.pipeline.workers.DecodeWorker", lambda: kept_worker)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(hub))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


class Terminal(io.TextIOWrapper):
    """A stream that keeps what is written to it, and says whether it is a terminal."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal

    def text(self) -> str:
        assert isinstance(self.buffer, io.BytesIO)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.buffer.getvalue().decode())


@contextlib.contextmanager
def kept_process() -> Iterator[None]:
    """Undo what `main` changes in its process."""
    import signal

    handler, show, argv = signal.getsignal(signal.SIGTERM), warnings.showwarning, sys.argv
    streams = sys.stdin, sys.stdout, sys.stderr
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # the command prints warnings as notes
            yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        warnings.showwarning, sys.argv = show, argv
        sys.stdin, sys.stdout, sys.stderr = streams


def run_command(command: str, folder: Path) -> str:
    """Run a command and return what it printed; `openxclip …` runs in this process, which saves importing PyTorch.

    So do `… | openxclip …` with what the first command prints as its input, and `openxclip … > FILE`.
    """
    if parts := re.fullmatch(r"([^|>]+) \| (openxclip [^|>]+)", command):
        return run_verb(parts[2], run_shell(parts[1], folder))
    if parts := re.fullmatch(r"(openxclip [^|>]+) > (\S+)", command):
        (folder / parts[2]).write_text(run_verb(parts[1], terminal=False), encoding="utf-8")
        return ""
    quoted = r"'[^']*'|\"[^\"]*\""
    if command.startswith("openxclip ") and not SHELL.search(re.sub(quoted, "", command)):
        return run_verb(command)
    return run_shell(command, folder)


def run_shell(command: str, folder: Path) -> str:
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


def run_verb(command: str, typed: str = "", *, terminal: bool = True) -> str:
    """Run a command of openxclip in this process; its input is `typed`.

    Returns:
        What it printed on a terminal, or on stdout if it isn't a terminal.
    """
    words = shlex.split(command)
    arguments = [
        name
        for word, plain in zip(words[1:], shlex.split(command, posix=False)[1:], strict=True)
        for name in (sorted(glob.glob(word)) or [word] if "*" in plain and plain[0] not in "'\"" else [word])  # noqa: PTH207
    ]
    screen, errors = Terminal(is_terminal=terminal), io.StringIO()
    with kept_process():
        sys.argv, sys.stdout, sys.stderr = ["openxclip", *arguments], screen, errors
        sys.stdin = io.TextIOWrapper(io.BytesIO(typed.encode()), encoding="utf-8")
        try:
            main()
            status: Any = 0
        except SystemExit as stopped:
            status = stopped.code
    assert not status, f"{command}\n{errors.getvalue()}"
    return screen.text() + errors.getvalue() if terminal else screen.text()


def run_snippet(text: str, names: dict[str, Any]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(text, "<snippet>", "exec"), names)
    return out.getvalue()


def normalised(text: str) -> list[str]:
    lines = [" ".join(re.sub(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?", "#", line).split()) for line in text.splitlines()]
    return [re.sub(r"[─━]+", "─", line) for line in lines if line]


def assert_printed(shown: str, printed: str) -> None:
    """Check that the lines of the page are in the output, in order."""
    rest = normalised(printed)
    for line in normalised(shown):
        if line == "…":
            continue
        pattern = re.compile(re.escape(line).replace(r"\ …", ".*").replace("…", ".*"))
        matches = [i for i, other in enumerate(rest) if pattern.fullmatch(other)]
        assert matches, f"not printed: {line!r}\n\n{printed}"
        rest = rest[matches[0] + 1 :]


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_page_runs(page: str, desk: Path) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        to_run = [piece for piece in pieces(block) if reason_not_to_run(page, piece) is None]
        if block.language == "bash":
            printed = "".join(run_command(command, desk) for command in to_run)
        else:
            printed = "".join(run_snippet(snippet, names) for snippet in to_run)
        if block.output is not None and len(to_run) == len(pieces(block)):
            assert_printed(block.output, printed)


def test_commands_that_do_not_run_are_known_to_the_parser() -> None:
    for page in PAGES:
        for block in blocks(page):
            for command in pieces(block):
                if reason_not_to_run(page, command) and command.startswith("openxclip "):
                    words = shlex.split(command.split(" | ")[0].split(" > ")[0])
                    verb = cli.get_command(click.Context(cli), words[1])
                    assert verb is not None, command
                    verb.make_parser(click.Context(verb)).parse_args(words[2:])


def test_not_run_has_only_what_pages_show() -> None:
    for entry in not_run():
        assert entry.reason
        pages = PAGES if entry.page == "*" else [entry.page]
        shown = [piece for page in pages for block in blocks(page) for piece in pieces(block)]
        assert any(piece.startswith(entry.command) for piece in shown), f"no page shows {entry.command}"
