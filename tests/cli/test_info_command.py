from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import openxclip
from openxclip.checkpoints import CheckpointDescription
from openxclip.inspection.information import is_checkpoint
from openxclip.video import VideoReport

Run = Callable[..., Any]


def test_videos_and_models_in_one_call(run: Run, clip_folder: Path, tiny_folder: Path) -> None:
    video = str(clip_folder / "red2.mp4")
    done = run("info", video, str(tiny_folder), "mini")
    assert (done.returncode, done.stderr) == (0, "")
    clip, tiny, mini = (json.loads(line) for line in done.stdout.splitlines())
    assert (clip["path"], clip["kind"], clip["codec"], clip["container"]) == (video, "video", "h264", "mp4")
    assert (clip["frames"], clip["width"], clip["height"], clip["fps"]) == (10, 64, 48, 10.0)
    assert (tiny["kind"], tiny["format"], tiny["frames"], tiny["resolution"]) == ("xclip", "hub", 4, 32)
    assert tiny["parameters"] == openxclip.XCLIPModel.from_pretrained(tiny_folder).num_parameters()
    assert (mini["released"], mini["trained_on"]) == ("mini", "openxclip's rendered playground")


def test_a_terminal_shows_a_description_in_words(run: Run, clip_folder: Path) -> None:
    done = run("info", clip_folder / "red2.mp4", "mini", columns=80)
    assert done.returncode == 0, done.stderr
    shown = click.unstyle(done.stdout)
    for words in ("h264 in mp4", "10, 64×48", "10 frames a second", "0:01.0", "X-CLIP 192/8", "15.30 M, float16"):
        assert words in shown, words


def test_unreadable_files_are_named_and_the_others_described(run: Run, clip_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "torn.pth").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").write_text('{"model_type": "xclip"}')
    wrong = [str(tmp_path / name) for name in ("torn.pth", "text.mp4", "half", "none.mp4", "none.pth")]
    done = run("info", *wrong, "nobody/xclip-none", str(clip_folder / "red2.mp4"))
    assert done.returncode == 1
    said = done.stderr.splitlines()
    assert len(said) == 6
    for line, name in zip(said, [*wrong, "nobody/xclip-none"], strict=True):
        assert line.startswith("openxclip: ")
        assert name in line
    assert "is not in the local cache" in said[-1]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["path"] for line in lines if line["error"] is None] == [str(clip_folder / "red2.mp4")]


def test_paths_that_count_as_models(clip_folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    assert isinstance(openxclip.info(tiny_folder), CheckpointDescription)
    assert isinstance(openxclip.info(clip_folder / "red2.mp4"), VideoReport)
    for name in (tiny_folder, tiny_folder / "model.safetensors", "mini", "none.pth", "nobody/xclip-none"):
        assert is_checkpoint(name), name
    for name in (clip_folder, clip_folder / "red2.mp4", "none.mp4", "clips/none.webm", "https://a.b/c.pth", tmp_path):
        assert not is_checkpoint(name), name


def test_names_that_are_not_utf8_are_printed_as_json(run: Run, tiny_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.weights")  # without a known suffix: what it is, its content says
    openxclip.convert(tiny_folder, tmp_path / "x.pth", to="authors")
    (tmp_path / "x.pth").rename(path)
    ran = run("info", str(path))
    assert ran.returncode == 0
    said = json.loads(ran.stdout)
    assert (said["path"], said["kind"]) == (str(path), "xclip")
