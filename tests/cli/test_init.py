"""`openxclip init`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from made_models import clip_model, openai_state, sizes

from openxclip.cli.main import main


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clip = clip_model(vocab=49408)
    path = tmp_path_factory.mktemp("clips") / "ViT-tiny.pt"
    torch.save({**openai_state(clip), **sizes(clip)}, path)
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """The command with these arguments: exit status, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["openxclip", "init", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.mark.slow
def test_an_initialized_model_and_its_summary(run: Callable[..., Any], clip_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "start"
    status, said, err = run("--from", clip_file, "--frames", 3, "--out", out, "--seed", 4)
    assert status == 0, err
    lines = said.splitlines()
    assert lines[0].startswith(f"{out}: X-CLIP, started from a CLIP (openai), ")
    assert lines[0].endswith("at random (seed 4)")
    assert lines[1].startswith("clips: 3 frames of 32 pixels, normalised by ImageNet's mean")
    assert len(lines) == 2
    assert "untrained" in err
    assert (out / "README.md").is_file()
    status, said, err = run("--from", clip_file, "--out", out)
    assert (status, said) == (1, "")
    assert err.count("\n") == 1
    assert "--force" in err
    status, said, err = run("--from", clip_file, "--out", out, "--force", "--hidden-act", "gelu")
    assert status == 0
    assert '"hidden_act": "gelu"' in (out / "config.json").read_text()
    assert "clips: 8 frames" in said


def test_an_x_clip_is_refused(run: Callable[..., Any], tiny_folder: Path, tmp_path: Path) -> None:
    status, said, err = run("--from", tiny_folder, "--out", tmp_path / "start")
    assert (status, said) == (1, "")
    assert "X-CLIP already" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--out", "x"), "--from"),
        (("--from", "x"), "--out"),
        (("--from", "x", "--out", "y", "--frames", "0"), "--frames"),
        (("--from", "x", "--out", "y", "--hidden-act", "relu"), "--hidden-act"),
    ],
)
def test_a_users_mistakes(run: Callable[..., Any], arguments: tuple[str, ...], told: str) -> None:
    status, said, err = run(*arguments)
    assert (status, said) == (2, "")
    assert told in err
