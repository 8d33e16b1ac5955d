"""`openxclip profile`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import openxclip
from openxclip.cli.main import main

Run = Callable[..., Any]


def shown_on_terminal(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> list[str]:
    """The lines that a person sees at a terminal of 80 columns."""
    monkeypatch.setattr(sys, "argv", ["openxclip", "profile", *arguments])
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    main()
    return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in capsys.readouterr().out.splitlines()]


def test_json_in_a_pipe(run: Run, tiny_folder: Path) -> None:
    done = run("profile", str(tiny_folder), "--frames", "6", "--texts", "7")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1
    told = json.loads(done.stdout)
    assert told == openxclip.profile(str(tiny_folder), num_frames=6, num_texts=7).as_dict()
    assert (told["model"], told["num_frames"], told["num_texts"]) == (str(tiny_folder), 6, 7)


def test_json_by_option(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = shown_on_terminal(["mini", "--json"], monkeypatch, capsys)
    assert json.loads(line) == openxclip.profile("mini").as_dict()


@pytest.mark.parametrize("name", ["mini", "microsoft/xclip-base-patch32", "microsoft/xclip-large-patch14-16-frames"])
def test_a_table_on_a_terminal(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shown = shown_on_terminal([name, "--texts", "1000"], monkeypatch, capsys)
    assert all(len(line) <= 80 for line in shown)
    text = "\n".join(shown)
    assert "…" not in text
    for told in (name, "1000 texts of 77 tokens", "GMACs", "GFLOPs", "peak MB"):
        assert told in text, told
    rows = [re.split(r"\s{2,}", line.strip()) for line in shown]
    found = openxclip.profile(name, num_texts=1000)
    numbers = {row[0]: row[1:] for row in rows if len(row) == 7}
    parts = ("embeddings", "messages across frames", "attention in frames", "MLP", "projection of patches", "generator")
    singles = ("MIT", "visual projection", "scores", "text tower", "text projection")
    sums = ("video tower", "prompts", "each video", "texts, once", "all")
    assert set(numbers) == {"part", *parts, *singles, *sums}
    assert float(numbers["all"][0]) == pytest.approx(found.total.parameters / 1e6, rel=0.01)
    assert float(numbers["each video"][3].replace(",", "")) == pytest.approx(found.video.macs / 1e9, rel=0.01)
    assert float(numbers["each video"][4].replace(",", "")) == pytest.approx(found.video.flops / 1e9, rel=0.01)
    for column in (0, 3):  # parameters and multiply-adds of the parts add up to those of the whole
        adds = sum(float(numbers[row][column].replace(",", "")) for row in (*parts, *singles))
        assert adds == pytest.approx(float(numbers["all"][column].replace(",", "")), rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["nobody/xclip-none"], 1, "nobody/xclip-none is not in the local cache"),
        (["./none"], 1, "./none: there is no such folder"),
        (["none.pth"], 1, "none.pth: there is no such file"),
        (["mini", "--frames", "0"], 2, "'--frames': 0 is not in the range"),
        (["mini", "--texts", "few"], 2, "'--texts': 'few' is not"),
        (["mini", "--texts", "99999999999"], 2, "--texts 99999999999: must be a whole number from 1 to 2147483647"),
        (["mini", "--frames", "99999999999"], 2, "--frames 99999999999: must"),
    ],
)
def test_invalid_arguments_are_refused(run: Run, arguments: list[str], status: int, said: str) -> None:
    done = run("profile", *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    if status == 1:
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith("openxclip: ")


def test_control_characters_in_a_name_are_escaped(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    link = tmp_path / "a\x1b[2J\nb"
    link.symlink_to(tiny_folder)
    shown = shown_on_terminal([str(link)], monkeypatch, capsys)
    assert r"a\x1b[2J\nb" in "".join(shown)  # it may be wrapped
