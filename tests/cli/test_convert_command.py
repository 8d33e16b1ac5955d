"""`openxclip convert`, and the use of its files."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from openxclip.cli.main import main


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """The command with these arguments: exit status, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["openxclip", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def test_a_conversion_to_the_authors_format_and_back(
    run: Callable[..., Any], tiny_folder: Path, tmp_path: Path
) -> None:
    status, out, err = run("convert", tiny_folder, tmp_path / "x.pth", "--to", "authors")
    assert (status, err) == (0, "")
    assert out == f"{tmp_path / 'x.pth'}: X-CLIP (hub), 0.8 M parameters, 4 frames\n"
    status, out, _ = run("convert", tmp_path / "x.pth", tmp_path / "back")
    assert status == 0
    assert "X-CLIP (authors)" in out
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "back" / name).read_bytes() == (tiny_folder / name).read_bytes()


def test_a_users_mistakes_print_one_line(run: Callable[..., Any], tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    for arguments, told in (
        ((tiny_folder, tmp_path / "there", "--to", "authors"), "--force"),
        ((tmp_path / "nowhere", tmp_path / "x"), "nowhere"),
        ((tmp_path / "there", tmp_path / "x"), "torch.save"),
    ):
        status, out, err = run("convert", *arguments)
        assert status == 1
        assert out == ""
        assert err.startswith("openxclip: ")
        assert err.count("\n") == 1
        assert told in err
    status, _, err = run("convert", tiny_folder, tmp_path / "x", "--frames", "4")
    assert status == 2
    assert "the number of frames can be given only for a CLIP" in err
    assert (tmp_path / "there").read_text() == "mine"


def test_a_converted_file_classifies(
    run: Callable[..., Any], tiny_folder: Path, clip_folder: Path, tmp_path: Path
) -> None:
    """The authors' file and the folder it came from say the same of a video."""
    run("convert", tiny_folder, tmp_path / "k400.pth", "--to", "authors")
    answers = []
    for model in (tiny_folder, tmp_path / "k400.pth"):
        status, out, _ = run("classify", clip_folder / "red2.mp4", "--labels", "red, blue", "--model", model)
        assert status == 0
        answers.append(json.loads(out))
    assert answers[0] == answers[1]


def test_sigterm_leaves_no_files(
    run: Callable[..., Any], tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(value: object, file: Any) -> None:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # should `main` not handle it, the tests go on
    monkeypatch.setattr(torch, "save", save)
    assert run("convert", tiny_folder, tmp_path / "x.pth", "--to", "authors")[0] == 143
    assert list(tmp_path.iterdir()) == []
