"""Files that appear whole, and what a changed one is known by."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from openxclip.files import NO_STAMP, stamp_of, written_whole


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
