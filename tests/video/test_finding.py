"""Finding videos: folders that can't be listed are returned, never skipped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openxclip.errors import VideoError
from openxclip.video import VideoReader, check, find_videos

Deny = Callable[[Path], None]


@pytest.fixture
def deny(monkeypatch: pytest.MonkeyPatch) -> Deny:
    """Make a folder unlistable, even for root."""
    denied: set[Path] = set()
    scandir, listdir = os.scandir, os.listdir

    def refusing(original: Any) -> Any:
        def listing(path: Any = ".") -> Any:
            if not isinstance(path, int) and Path(path).absolute() in denied:
                raise PermissionError(13, "Permission denied", os.fspath(path))
            return original(path)

        return listing

    monkeypatch.setattr(os, "scandir", refusing(scandir))
    monkeypatch.setattr(os, "listdir", refusing(listdir))
    return lambda folder: denied.add(folder.absolute())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a video, and a video in each of two subfolders."""
    for name in ("a.mp4", "locked/b.mp4", "open/c.mp4"):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "videos"


def test_an_unlistable_subfolder_is_returned(folder: Path, deny: Deny) -> None:
    deny(folder / "locked")
    assert find_videos([folder]) == [folder / "a.mp4", folder / "locked", folder / "open/c.mp4"]


@pytest.mark.parametrize("pattern", ["*/*.mp4", "**/*.mp4", "lo*/*.mp4", "locked/*.mp4"])
def test_a_glob_returns_unlistable_folders_on_its_way(folder: Path, deny: Deny, pattern: str) -> None:
    all_videos = find_videos([folder / pattern])
    deny(folder / "locked")
    found = find_videos([folder / pattern])
    assert set(found) == set(all_videos) - {folder / "locked/b.mp4"} | {folder / "locked"}


def test_a_glob_needs_no_listing_of_named_files(folder: Path, deny: Deny) -> None:
    deny(folder / "locked")
    assert find_videos([folder / "*/b.mp4"]) == [folder / "locked/b.mp4"]


def test_an_unlistable_root(folder: Path, deny: Deny) -> None:
    deny(folder)
    assert find_videos([folder]) == [folder]
    with pytest.raises(VideoError, match="videos: reading it is not permitted: check who may read"):
        VideoReader(folder)


def test_a_folder_that_vanishes_during_the_search(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def vanishing(path: Any) -> Any:
        if not isinstance(path, int) and Path(path).name == "locked" and Path(path).is_dir():
            shutil.rmtree(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", vanishing)
    found = find_videos([folder])
    assert found == [folder / "a.mp4", folder / "locked", folder / "open/c.mp4"]
    (report,) = check(folder / "locked", full=False, jobs=1)
    assert report.error is not None
    assert report.error.reason == "there is no such file: check the path"


def test_circular_links(folder: Path) -> None:
    (folder / "open/up").symlink_to(folder)
    (folder / "self.mp4").symlink_to(folder / "self.mp4")
    assert find_videos([folder]) == [
        folder / "a.mp4", folder / "locked/b.mp4", folder / "open/c.mp4", folder / "self.mp4"
    ]  # fmt: skip
    with pytest.raises(VideoError, match=r"self\.mp4: it cannot be read: Too many levels of symbolic links"):
        VideoReader(folder / "self.mp4")


def test_files_without_permission_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = Path.stat

    def refusing(self: Path, **options: Any) -> os.stat_result:
        if self.name == "b.mp4":
            raise PermissionError(13, "Permission denied", str(self))
        return stat(self, **options)

    monkeypatch.setattr(Path, "stat", refusing)
    assert folder / "locked/b.mp4" in find_videos([folder])
