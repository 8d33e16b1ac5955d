"""Users without a home folder, as in containers and services, and folders that can't be written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from openxclip import hub
from openxclip.errors import CheckpointError

Run = Callable[..., Any]


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user without HOME and without an entry among the accounts, in an empty folder."""
    pwd = pytest.importorskip("pwd")

    def unknown(of: object) -> None:
        raise KeyError(of)

    for name in ("HOME", "XDG_CACHE_HOME", "HF_HOME", "MPLCONFIGDIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("getpwuid", "getpwnam"):
        monkeypatch.setattr(pwd, name, unknown)
    for name, folder in (("HF_HOME", ""), ("HF_HUB_CACHE", "/hub")):  # as huggingface_hub has them then
        monkeypatch.setattr(constants, name, f"~/.cache/huggingface{folder}")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize(
    "arguments",
    [
        ["classify", "{video}", "--labels", "red, blue"],
        ["embed", "{video}", "--out", "f.npz"],
        ["index", "{video}", "--to", "index"],
        ["profile", "someone/xclip-of-theirs"],
        ["info", "microsoft/xclip-base-patch32"],
        ["convert", "microsoft/xclip-base-patch32", "out"],
        ["init", "--from", "openai/clip-vit-base-patch32", "--out", "out"],
    ],
)
@pytest.mark.parametrize("offline", ["0", "1"])
@pytest.mark.slow
def test_the_cache_of_the_hub_needs_a_folder(
    arguments: list[str], offline: str, homeless: Path, run: Run, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline == "1")
    ran = run(*(argument.format(video=clip_folder / "red2.mp4") for argument in arguments))
    assert ran.returncode == 1
    assert ran.stderr.count("\n") == 1
    assert "this user has no home folder. Set HF_HOME" in ran.stderr
    assert list(homeless.iterdir()) == []


def test_verbs_that_need_no_home_folder(homeless: Path, run: Run, clip_folder: Path, tiny_folder: Path) -> None:
    video = clip_folder / "red2.mp4"
    for arguments in (
        ["models"],
        ["info", "mini", video],
        ["profile", "mini"],
        ["embed", video, "--model", tiny_folder, "--out", homeless.parent / "f.npz", "--device", "cpu"],
    ):
        ran = run(*arguments)
        assert (ran.returncode, ran.stderr) == (0, "")
    assert list(homeless.iterdir()) == [], "no folder is called ~"


@pytest.mark.parametrize(
    "arguments",
    [
        ["embed", "{video}", "--model", "mini", "--out", "{bad}.npz"],
        ["index", "{video}", "--model", "mini", "--to", "{bad}"],
        ["index", "--to", "index", "--export", "{bad}.parquet"],
        ["search", "red", "--in", "{bad}"],
        ["search", "red", "--in", "index", "--html", "{bad}.html"],
        ["search", "red", "--in", "index", "--thumbnails", "{bad}"],
        ["convert", "mini", "{bad}"],
        ["init", "--from", "x.pt", "--out", "{bad}"],
        ["train", "my-videos", "data=x", "--out", "{bad}"],
        ["eval", "my-videos", "data=x", "--model", "mini", "--out", "{bad}"],
        ["playground", "--clips", "1", "--out", "{bad}"],
        ["check", "{video}", "--report", "{bad}.json"],
        ["bench", "--out", "{bad}.json"],
    ],
)
@pytest.mark.parametrize("bad", ["~/x", "~nobody-x/x", "x" * 300, "x/" * 3000 + "x", "a\0b"])
def test_verbs_on_a_read_only_disk(arguments: list[str], bad: str, homeless: Path, run: Run, clip_folder: Path) -> None:
    ran = run(*(argument.format(video=clip_folder / "red2.mp4", bad=bad) for argument in arguments))
    assert ran.returncode == 2
    assert "no home folder for ~" in ran.stderr or "too long" in ran.stderr or "NUL" in ran.stderr
    assert "\0" not in ran.stderr
    assert list(homeless.iterdir()) == []


@pytest.mark.parametrize("name", ["~/x", "~nobody-x/x", "x" * 300, "x/" * 3000 + "x", "a\0b"])
def test_missing_models_without_a_home_folder(name: str, homeless: Path, run: Run, clip_folder: Path) -> None:
    video = clip_folder / "red2.mp4"
    for arguments in (
        ["classify", video, "--labels", "a, b", "--model", name],
        ["profile", name],
        ["convert", name, "out"],
        ["init", "--from", name, "--out", "out"],
    ):
        ran = run(*arguments)
        assert ran.returncode in (1, 2)
        assert len(ran.stderr.splitlines()) == 1 or ran.stderr.startswith("Usage")
        assert "Errno" not in ran.stderr


def test_a_cache_of_the_hub_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/cache/hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refused)
    with pytest.raises(CheckpointError, match=r"can't be stored .*/cache/hub: Permission denied.*Set HF_HOME"):
        hub.resolve_folder("microsoft/xclip-base-patch32")
