"""A video is hashed from the bytes that are decoded; copies of objects are deleted, whatever happens."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from s3_server import S3Server

from openxclip.errors import StoreError, VideoError
from openxclip.search.bulk import fetching
from openxclip.search.bulk.fetching import fetched
from openxclip.search.bulk.items import SourceItem
from openxclip.search.bulk.objects import Objects

DATA = bytes(range(256)) * 40_000


def test_a_local_file_stays_in_its_place_and_gets_its_stamp(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(DATA)
    with fetched(SourceItem(str(path), columns={"n": 1}), tmp_path) as video:
        local, content = video
        assert (local, content) == (path, hashlib.sha256(DATA).hexdigest())
        assert (video.item.size, video.item.modified) == (len(DATA), path.stat().st_mtime_ns)
        assert video.item.columns == {"n": 1}
        assert video.is_unchanged()
        os.utime(path, ns=(1, 1))
        assert not video.is_unchanged()
    assert path.exists()


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path / "missing.mp4", "there is no such file"),
        (tmp_path, "it is a folder"),
        ("ftp://host/a.mp4", "begin with ftp:// can't be read"),
        ("/a\0b.mp4", "no file can have this name"),
    ):
        with pytest.raises(VideoError, match=reason) as caught, fetched(SourceItem(str(path)), tmp_path):
            pass
        assert caught.value.source == str(path)


def test_a_file_that_is_being_written_is_not_indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"1")

    def hash_and_write(path: Path) -> str:
        path.write_bytes(b"12")
        return ""

    monkeypatch.setattr(fetching, "hash_file", hash_and_write)
    with pytest.raises(VideoError, match="being written"), fetched(SourceItem(str(path)), tmp_path):
        pass


def test_an_object_is_copied_hashed_and_deleted(s3: S3Server, tmp_path: Path) -> None:
    bucket = s3.bucket("fetching")
    Objects.open(bucket).put("deep/a film.mp4", DATA)
    with fetched(SourceItem(f"{bucket}/deep/a film.mp4"), tmp_path) as video:
        local, content = video
        assert Path(str(local)).read_bytes() == DATA
        assert Path(str(local)).suffix == ".mp4"
        assert content == hashlib.sha256(DATA).hexdigest()
        assert video.item.size == len(DATA)
        assert video.is_unchanged()
    assert not list(tmp_path.iterdir())
    with pytest.raises(RuntimeError), fetched(SourceItem(f"{bucket}/deep/a film.mp4"), tmp_path):
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with (
        pytest.raises(VideoError, match=f"^{bucket}/none.mp4: there is no such object$"),
        fetched(SourceItem(f"{bucket}/none.mp4"), tmp_path),
    ):
        pass
    with (
        pytest.raises(VideoError, match="there is no bucket missing-bucket"),
        fetched(SourceItem("s3://missing-bucket/a.mp4"), tmp_path),
    ):
        pass
    with (
        s3.checking_credentials(),
        pytest.raises(StoreError, match="credentials"),
        fetched(SourceItem(f"{bucket}/deep/a film.mp4"), tmp_path),
    ):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [0, len(DATA)])
def test_a_full_disk_is_no_fault_of_the_video(
    s3: S3Server, tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3.bucket("full")
    Objects.open(bucket).put("a.mp4", DATA)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1 << 20))
    with pytest.raises(StoreError, match="make room") as caught:
        fetched(SourceItem(f"{bucket}/a.mp4", size=size), tmp_path).__enter__()
    assert caught.value.may_pass
    assert not list(tmp_path.iterdir())
