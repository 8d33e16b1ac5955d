"""Files that appear whole, and what a changed one is known by."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from openxclip.files import NO_STAMP, cache_folder, checked_target, stamp_of, target_path, user_path, written_whole


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with written_whole(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"

    def stopped(error: type[BaseException]) -> None:
        with written_whole(path) as partial:
            partial.write_text("half")
            raise error

    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            stopped(error)
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError) as caught, written_whole(tmp_path / "none/a.txt") as partial:
        partial.write_text("x")
    assert caught.value.filename == str(tmp_path / "none/a.txt")


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
    with written_whole(path) as partial:
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


def test_where_a_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for value, base in ((str(tmp_path / "x"), tmp_path / "x"), ("~/x", tmp_path / "x"), ("", tmp_path / ".cache"),
                        ("relative", tmp_path / ".cache")):  # fmt: skip
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_folder("kind") == base / "openxclip/kind"


@pytest.mark.parametrize("base", ["", "~/x"])
def test_a_cache_without_a_home_is_left_out(
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


def test_names_that_cannot_be_written(homeless: None, tmp_path: Path) -> None:
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
