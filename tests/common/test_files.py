"""Atomic writing, stamps, and checks of paths."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from openxclip.common.files import (
    NO_STAMP,
    as_os_error,
    atomic_file,
    atomic_folder,
    cache_folder,
    cannot_write,
    checked_folder,
    checked_target,
    stamp_of,
    target_path,
    user_path,
)


def test_atomic_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_file(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"

    def stopped(error: type[BaseException]) -> None:
        with atomic_file(path) as partial:
            partial.write_text("half")
            raise error

    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            stopped(error)
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError) as caught, atomic_file(tmp_path / "none/a.txt") as partial:
        partial.write_text("x")
    assert caught.value.filename == str(tmp_path / "none/a.txt")


def test_atomic_folder(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with atomic_folder(target) as folder:
        (folder / "a").write_text("old")
        assert not target.exists()
    (target / "other").touch()
    with atomic_folder(target, last="a") as folder:
        (folder / "a").write_text("new")
        (folder / "b").touch()
        assert (target / "a").read_text() == "old"
    assert (target / "a").read_text() == "new"

    def interrupted() -> None:
        with atomic_folder(target) as folder:
            (folder / "a").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (target / "a").read_text() == "new"
    assert sorted(path.name for path in target.iterdir()) == ["a", "b", "other"]
    assert list(tmp_path.iterdir()) == [target]


def test_write_errors_name_the_target(tmp_path: Path) -> None:
    def write(error: Exception) -> None:
        with atomic_file(tmp_path / "a.bin") as partial:
            partial.touch()
            raise error

    of_rust = RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    for error in (OSError(errno.ENOSPC, "No space left on device"), of_rust):
        with pytest.raises(OSError, match="No space left on device") as caught:
            write(error)
        found = caught.value
        assert (found.errno, found.filename) == (errno.ENOSPC, str(tmp_path / "a.bin"))
        assert (
            cannot_write(tmp_path / "a.bin", found) == f"{tmp_path}/a.bin: can't be written: No space left on device."
        )
    assert list(tmp_path.iterdir()) == []
    assert as_os_error(ValueError("something else"), "a") is None


def test_unwritable_targets_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match="is a folder: give the name of a file"):
        checked_target(tmp_path / "folder.csv", ".csv")
    with pytest.raises(ValueError, match=r"must end with \.a, \.b or \.c"):
        checked_target(tmp_path / "x", ".a", ".b", ".c")
    with pytest.raises(ValueError, match=r"can't be a folder, because .*file is a file"):
        checked_folder(tmp_path / "file/below/it")
    assert checked_folder(tmp_path / "new/and/below") == tmp_path / "new/and/below"
    with pytest.raises(ValueError, match="not valid UTF-8"):
        checked_folder(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"), of_model=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.csv"]


def test_stamps(tmp_path: Path) -> None:
    file = tmp_path / "folder/file"
    file.parent.mkdir()
    file.write_bytes(b"12345")
    os.utime(file, ns=(5, 5))
    assert stamp_of(file) == (5, 5)
    before = stamp_of(file.parent)
    assert before.size == 5
    os.utime(file, ns=(5, before.modified + 10**9))
    assert stamp_of(file.parent) == (5, before.modified + 10**9)
    (tmp_path / "folder/below").mkdir()
    assert stamp_of(file.parent).size == 5
    for what in ("none", "a\0b", "s3://bucket/a.mp4"):
        assert stamp_of(what) == NO_STAMP


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 125 + ".txt")
    with atomic_file(path) as partial:
        partial.write_text("new")
    assert path.read_text() == "new"


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without HOME and without an entry among the accounts."""
    pwd = pytest.importorskip("pwd")

    def unknown(of: object) -> None:
        raise KeyError(of)

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("getpwuid", "getpwnam"):
        monkeypatch.setattr(pwd, name, unknown)


def test_location_of_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for value, base in ((str(tmp_path / "x"), tmp_path / "x"), ("~/x", tmp_path / "x"), ("", tmp_path / ".cache"),
                        ("relative", tmp_path / ".cache")):  # fmt: skip
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_folder("kind") == base / "openxclip/kind"


@pytest.mark.parametrize("base", ["", "~/x"])
def test_no_cache_without_a_home_folder(
    base: str, homeless: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", base)
    monkeypatch.chdir(tmp_path)
    folder = cache_folder("kind")
    with pytest.raises(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    with pytest.raises(OSError):
        (folder / "a").read_text()
    assert list(tmp_path.iterdir()) == []


def test_impossible_names_are_refused(homeless: None, tmp_path: Path) -> None:
    assert user_path("~/a") == Path("~/a")
    for name, told in (
        ("~/a.txt", "there is no home folder for ~"),
        ("~nobody-x/a.txt", "there is no home folder for ~nobody-x"),
        ("a\0b.txt", r"'a\\x00b.txt': a name can't contain a NUL"),
        ("x" * 300 + ".txt", "the name is too long"),
        ("d/" * 3000 + "a.txt", "the name is too long"),
    ):
        for check in (target_path, lambda path: checked_target(path, ".txt")):
            with pytest.raises(ValueError, match=told):
                check(name)
    assert target_path(tmp_path / "none/a") == tmp_path / "none/a"
