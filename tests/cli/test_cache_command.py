from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openxclip import CheckpointError, hub

Run = Callable[..., Any]
OURS = "me/xclip-of-mine"


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


def test_only_x_clips_are_shown(run: Run, home: Path) -> None:
    done = run("cache", HF_HOME=str(home))
    assert (done.returncode, done.stderr) == (0, "")
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    assert [entry["name"] for entry in shown] == [OURS, "you/videos"]
    assert shown[0]["bytes_on_disk"] == 2_000_000 + len('{"model_type": "clip"}')
    assert Path(shown[0]["folder"]).is_dir()
    one = run("cache", "you/videos", HF_HOME=str(home))
    assert [json.loads(line)["name"] for line in one.stdout.splitlines()] == ["you/videos"]


def test_what_is_deleted_is_what_was_named(run: Run, home: Path) -> None:
    done = run("cache", "--clear", "--yes", OURS, HF_HOME=str(home))
    assert done.returncode == 0
    assert "2 MB freed" in done.stdout
    left = sorted(path.name for path in (home / "hub").glob("models--*"))
    assert left == ["models--them--bert", "models--them--torn", "models--you--videos"]
    assert run("cache", "--clear", "--yes", HF_HOME=str(home)).returncode == 0
    assert sorted(path.name for path in (home / "hub").glob("models--*")) == left[:2]
    assert "nothing to delete" in run("cache", "--clear", "--yes", HF_HOME=str(home)).stdout


def test_nothing_is_deleted_unasked_or_by_a_wrong_name(run: Run, home: Path) -> None:
    done = run("cache", "--clear", HF_HOME=str(home))
    assert done.returncode == 2
    assert "add --yes" in done.stderr
    done = run("cache", "--clear", "--yes", OURS, "them/bert", HF_HOME=str(home))
    assert done.returncode == 1
    assert "them/bert: not among the X-CLIPs" in done.stderr
    assert run("cache", "them/bert", HF_HOME=str(home)).returncode == 2
    assert len(list((home / "hub").glob("models--*"))) == 4


def test_no_cache_is_no_error(run: Run, tmp_path: Path) -> None:
    done = run("cache", HF_HOME=str(tmp_path / "none"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert hub.cached_models(tmp_path / "none") == []
    with pytest.raises(CheckpointError, match=r"there: none"):
        hub.remove_cached(["a/b"], tmp_path / "none")
