from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from openxclip import CheckpointError, hub

OURS = "me/xclip-of-mine"


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "openxclip", "cache", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "HF_HOME": str(home)},
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A cache as huggingface_hub lays it out: two X-CLIPs, one by its name, and somebody else's model."""
    commit = "0" * 40
    for name, config in (
        (OURS, '{"model_type": "clip"}'),
        ("you/videos", '{"model_type": "xclip"}'),
        ("them/bert", '{"model_type": "bert"}'),
        ("them/torn", '{"model_type": '),
    ):
        repo = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        snapshot = repo / "snapshots" / commit
        for folder in (snapshot, repo / "blobs", repo / "refs"):
            folder.mkdir(parents=True)
        (repo / "refs" / "main").write_text(commit)
        (repo / "blobs" / "a").write_text(config)
        (repo / "blobs" / "b").write_bytes(bytes(2_000_000))
        (snapshot / "config.json").symlink_to("../../blobs/a")
        (snapshot / "model.safetensors").symlink_to("../../blobs/b")
    return tmp_path


def test_only_x_clips_are_shown(home: Path) -> None:
    done = run(home)
    assert (done.returncode, done.stderr) == (0, "")
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    assert [entry["name"] for entry in shown] == [OURS, "you/videos"]
    assert shown[0]["bytes_on_disk"] == 2_000_000 + len('{"model_type": "clip"}')
    assert Path(shown[0]["folder"]).is_dir()
    assert [json.loads(line)["name"] for line in run(home, "you/videos").stdout.splitlines()] == ["you/videos"]


def test_what_is_deleted_is_what_was_named(home: Path) -> None:
    done = run(home, "--clear", "--yes", OURS)
    assert done.returncode == 0
    assert "2 MB freed" in done.stdout
    left = sorted(path.name for path in (home / "hub").glob("models--*"))
    assert left == ["models--them--bert", "models--them--torn", "models--you--videos"]
    assert run(home, "--clear", "--yes").returncode == 0
    assert sorted(path.name for path in (home / "hub").glob("models--*")) == left[:2]
    assert "nothing to delete" in run(home, "--clear", "--yes").stdout


@pytest.mark.slow
def test_nothing_is_deleted_unasked_or_by_a_wrong_name(home: Path) -> None:
    done = run(home, "--clear")
    assert done.returncode == 2
    assert "add --yes" in done.stderr
    done = run(home, "--clear", "--yes", OURS, "them/bert")
    assert done.returncode == 1
    assert "them/bert: not among the X-CLIPs" in done.stderr
    assert run(home, "them/bert").returncode == 2
    assert len(list((home / "hub").glob("models--*"))) == 4


def test_no_cache_is_no_error(tmp_path: Path) -> None:
    done = run(tmp_path / "none")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert hub.cached_models(tmp_path / "none") == []
    with pytest.raises(CheckpointError, match=r"there: none"):
        hub.remove_cached(["a/b"], tmp_path / "none")
