"""What an index keeps: incomplete videos, moved and copied files, files of an unmounted disk; and its size on disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from index_tables import create_store, embeddings, lance_table, open_store, window_row, window_times

from openxclip import CheckpointError, VideoIndex, VideoIndexError, VideoPipeline, XCLIPModel
from openxclip.search import indexer, maintenance, paths
from openxclip.search.schema import VideoRow
from openxclip.search.store import Store

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Decoded:
    """Records the paths that a pipeline encodes, and the number of clips skipped."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths: list[tuple[str, int]] = []
        encode = VideoPipeline.encode_clips

        def recorded(pipeline, sources, plan, *, first=0, **options):
            def watched():
                for source in sources:
                    self.paths.append((str(source), first))
                    yield source

            return encode(pipeline, watched(), plan, first=first, **options)

        monkeypatch.setattr(VideoPipeline, "encode_clips", recorded)


def interrupt_after(clips: int) -> Callable[..., None]:
    """Return an `on_clip` that interrupts at this clip."""
    seen = []

    def on_clip(*_: object) -> None:
        seen.append(1)
        if len(seen) == clips:
            raise KeyboardInterrupt

    return on_clip


# -- interruptions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clips", [3, 6, *(pytest.param(number, marks=pytest.mark.slow) for number in (1, 4))])
def test_a_long_video_is_resumed_where_it_was_interrupted(pipeline, videos, tmp_path, monkeypatch, clips) -> None:
    whole = VideoIndex.open(tmp_path / "whole", model=pipeline, window=0.3, stride=0.15)
    whole.add(videos)
    index = VideoIndex.open(tmp_path / "index", model=pipeline, window=0.3, stride=0.15)
    with pytest.raises(KeyboardInterrupt):
        index.add(videos, on_clip=interrupt_after(clips))
    per_video = len(whole) // 3
    assert sum(index.unfinished().values()) == clips % per_video
    assert len(index) == clips // per_video * per_video  # a search sees complete videos only
    assert len(index.files()) == clips // per_video
    decoded = Decoded(monkeypatch)
    index.add(videos)
    assert embeddings(tmp_path / "index") == pytest.approx(embeddings(tmp_path / "whole"), abs=1e-6)
    assert index.unfinished() == {}
    resumed = [first for _, first in decoded.paths if first]
    assert resumed == ([clips % per_video] if clips % per_video else [])
    assert len(decoded.paths) == 3 - clips // per_video


def test_windows_are_committed_within_a_video(pipeline, videos, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(indexer, "_COMMIT_EVERY_BYTES", 1)
    index = VideoIndex.open(tmp_path / "index", model=pipeline, window=0.2)
    kept = []
    index.add(videos / "red2.mp4", on_clip=lambda *_: kept.append((len(index), sum(index.unfinished().values()))))
    assert kept == [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4)]
    assert len(index) == 5


def test_an_incomplete_video_that_changed_is_read_from_the_start(pipeline, videos, tmp_path) -> None:
    index = VideoIndex.open(tmp_path / "index", model=pipeline, window=0.2)
    red = videos / "red2.mp4"
    with pytest.raises(KeyboardInterrupt):
        index.add(red, on_clip=interrupt_after(2))
    red.write_bytes((videos / "more/blue.mp4").read_bytes())
    index.add(red)
    fresh = VideoIndex.open(tmp_path / "fresh", model=pipeline, window=0.2)
    fresh.add(red)
    assert embeddings(tmp_path / "index") == pytest.approx(embeddings(tmp_path / "fresh"), abs=1e-6)


def test_old_windows_are_found_until_the_new_ones_are_complete(index, videos, folder, monkeypatch) -> None:
    before = window_times(folder)
    (videos / "red2.mp4").write_bytes((videos / "more/blue.mp4").read_bytes() + b"\0")
    monkeypatch.setattr(indexer, "_COMMIT_EVERY_BYTES", 1)
    seen = []
    index.add(videos, on_clip=lambda *_: seen.append(window_times(folder)))
    assert seen == [before] * 4
    assert window_times(folder) == before
    assert lance_table(folder).count_rows() == 12  # the old ones are deleted


def test_windows_left_by_a_killed_writer_are_deleted(index, videos, folder, pipeline) -> None:
    store = open_store(folder)
    row = store.complete_videos()[str(videos / "red2.mp4")]
    store.put_videos([VideoRow(**{**vars(row), "state": "removed"})])  # killed before it deleted the windows
    again = VideoIndex.open(folder, model=pipeline)
    assert len(again) == 8
    again.add(videos)
    assert len(again) == 12
    assert lance_table(folder).count_rows() == 12


def test_an_index_of_the_first_schema_is_refused(tmp_path) -> None:
    import lancedb
    import pyarrow as pa

    schema = pa.schema([pa.field("path", pa.string())], metadata={b"openxclip": b'{"model": "mini"}'})
    lancedb.connect(tmp_path / "old").create_table("windows", schema=schema)
    with pytest.raises(VideoIndexError, match=r"made by an older version of openxclip: build it again"):
        VideoIndex.open(tmp_path / "old")


@pytest.mark.parametrize("description", [b"{nope", b"[1]", b'{"schema": 2, "model": "mini"}'])
def test_a_damaged_description_is_refused(tmp_path, description) -> None:
    import lancedb
    import pyarrow as pa

    schema = pa.schema([pa.field("path", pa.string())], metadata={b"openxclip": description})
    lancedb.connect(tmp_path / "damaged").create_table("windows", schema=schema)
    with pytest.raises(VideoIndexError, match="can't be read, and may be damaged"):
        VideoIndex.open(tmp_path / "damaged")


def test_damaged_tables_are_refused(index, videos, folder, pipeline) -> None:
    for file in (folder / "windows.lance/data").iterdir():
        file.write_bytes(b"x" * 100)
    with pytest.raises(VideoIndexError, match="can't be read, and may be damaged"):
        VideoIndex.open(folder, model=pipeline).search("a red video")
    for file in (folder / "videos.lance/_versions").iterdir():
        file.write_bytes(b"x" * 100)
    with pytest.raises(VideoIndexError, match="can't be read, and may be damaged"):
        VideoIndex.open(folder)


# -- moved, copied and touched files -----------------------------------------------------------------------------------


def test_a_moved_file_is_not_decoded(index, videos, folder, monkeypatch) -> None:
    old, new = str(videos / "red2.mp4"), str(videos / "more/renamed.mp4")
    before = window_times(folder)
    Path(old).rename(new)
    decoded = Decoded(monkeypatch)
    done = index.add(videos)
    assert (done.moved, done.added, done.removed) == (((old, new),), (), ())
    assert decoded.paths == []
    assert window_times(folder) == {(new if path == old else path): times for path, times in before.items()}
    assert {hit.path for hit in index.search("a red video", k=100, merge=False)} == {*before} - {old} | {new}
    assert index.update().removed == ()
    assert sorted(index.add(videos).unchanged) == index.files()


def test_a_copied_file_is_not_decoded(index, videos, folder, monkeypatch) -> None:
    shutil.copy(videos / "red2.mp4", videos / "copy.mp4")
    decoded = Decoded(monkeypatch)
    assert index.add(videos).added == (str(videos / "copy.mp4"),)
    assert decoded.paths == []
    times = window_times(folder)
    assert times[str(videos / "copy.mp4")] == times[str(videos / "red2.mp4")]
    index.remove(videos / "red2.mp4")
    assert len(window_times(folder)[str(videos / "copy.mp4")]) == 4


def test_swapped_files_are_not_decoded(index, videos, folder, monkeypatch) -> None:
    red, blue = videos / "red2.mp4", videos / "more/blue.mp4"
    before = embeddings(folder)
    spare = videos / "spare"
    red.rename(spare)
    blue.rename(red)
    spare.rename(blue)
    decoded = Decoded(monkeypatch)
    index.add(videos)
    assert decoded.paths == []
    after = embeddings(folder)
    other = {str(red): str(blue), str(blue): str(red)}
    for (path, window, dimension), number in before.items():
        assert after[other.get(path, path), window, dimension] == number


def test_another_file_of_the_same_size_and_time_is_noticed(index, videos) -> None:
    red = videos / "red2.mp4"
    status = red.stat()
    other = bytearray(red.read_bytes())
    other[-1] ^= 1
    red.write_bytes(other)
    os.utime(red, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert index.add(videos).added == (str(red),)


def test_a_new_modification_time_writes_no_windows(index, videos, folder) -> None:
    for path in videos.rglob("*.mp4"):
        os.utime(path, ns=(1, 1))
    before = lance_table(folder).version
    assert len(index.add(videos).unchanged) == 3
    assert lance_table(folder).version == before
    assert {row.modified for row in open_store(folder).complete_videos().values()} == {1}
    assert len(index.search("a red video", where="modified < 5", k=100, merge=False)) == 12
    assert index.search("a red video", where="modified > 5", k=100, merge=False) == []
    assert len(index.search("a red video", where="modified > 5 or path like '%red2%'", k=100, merge=False)) == 4
    with pytest.raises(ValueError, match="can't use modified together with start or end"):
        index.search("a red video", where="modified < 5 and start > 0")


# -- missing files -----------------------------------------------------------------------------------------------------


def test_an_empty_mount_point_removes_nothing(index, videos) -> None:
    files = index.files()
    shutil.move(videos, videos.with_name("elsewhere"))
    videos.mkdir()
    done = index.update()
    assert (done.removed, sorted(done.held_back)) == ((), files)
    assert index.files() == files
    assert index.update(allow_removing=2).held_back
    assert sorted(index.update(allow_removing=3).removed) == files


@pytest.mark.parametrize(
    ("missing", "known", "folders", "allowed", "expected"),
    [
        (1, 1, [], None, True),  # one file is no unmounted disk
        (2, 2, [], None, False),
        (2, 3, [], None, True),
        (10, 50, [], None, True),
        (11, 50, [], None, False),
        (11, 110, [], None, True),  # 10 %
        (11, 109, [], None, False),
        (3, 100, ["/a/0"], None, True),
        (10, 100, ["/a/0"], None, False),  # all ten of a named folder
        (10, 100, ["/a/0"], 9, False),
        (10, 100, ["/a/0"], 10, True),
    ],
)
def test_many_missing_files_are_held_back(missing, known, folders, allowed, expected) -> None:
    all_paths = [f"/a/{i // 10}/{i}.mp4" for i in range(known)]
    assert paths.may_remove(all_paths[:missing], all_paths, folders, allowed) == expected


def test_a_file_that_cannot_be_accessed_is_not_missing(index, videos, monkeypatch) -> None:
    lstat = os.lstat

    def denied(path, *rest, **more):
        if str(path).endswith("red2.mp4"):
            raise PermissionError(13, "Permission denied", str(path))
        return lstat(path, *rest, **more)

    monkeypatch.setattr(os, "lstat", denied)
    (videos / "red2.mp4").unlink()
    done = index.update()
    assert done.removed == done.held_back == ()
    assert str(videos / "red2.mp4") in {str(error.source) for error in done.errors}


def test_names_of_files_folders_and_patterns() -> None:
    known = sorted(["/a/b", "/a/b/1", "/a/b/2/3", "/a/b-c/4", "/a/b0", "/z"])
    assert paths.matching_paths("/a/b", known) == ["/a/b", "/a/b/1", "/a/b/2/3"]
    assert paths.matching_paths("/a/b-c/", known) == ["/a/b-c/4"]
    assert paths.matching_paths("/a/*/4", known) == ["/a/b-c/4"]
    assert paths.matching_paths("/b", known) == []


@pytest.mark.slow
def test_another_model_is_refused_even_without_work(index, videos, folder, tmp_path, tiny_folder) -> None:
    import torch

    torch.manual_seed(6)
    other = Path(shutil.copytree(tiny_folder, tmp_path / "other"))
    XCLIPModel(XCLIPModel.from_pretrained(tiny_folder).config).save_pretrained(other)
    for call in (
        lambda wrong: wrong.add(videos),
        lambda wrong: wrong.update(),
        lambda wrong: wrong.remove(videos / "red2.mp4"),
        lambda wrong: wrong.search("a red video"),
    ):
        with pytest.raises(ValueError, match="features of two models can't be compared"):
            call(VideoIndex.open(folder, model=other, device="cpu"))
    with pytest.raises(CheckpointError):
        VideoIndex.open(folder, model=tmp_path / "none", device="cpu").add(videos)
    assert len(index) == 12


# -- its size on disk --------------------------------------------------------------------------------------------------


def make_rows(first: int, count: int) -> tuple[list[VideoRow], list[dict]]:
    random = np.random.default_rng(first)
    numbers = range(first, first + count)
    videos = [VideoRow(id=i + 1, path=f"/{i}.mp4", windows=1) for i in numbers]
    windows = [window_row(row.id, row.path, random.normal(size=64), patches=random.bytes(6000)) for row in videos]
    return videos, windows


def add(store: Store, first: int, count: int) -> None:
    videos, windows = make_rows(first, count)
    store.put_videos(videos, new=True)
    store.add_windows(windows)
    store.put_videos(VideoRow(**{**vars(video), "state": "complete"}) for video in videos)
    store.tidy()


@pytest.mark.filterwarnings("ignore:optimize:UserWarning")
@pytest.mark.parametrize(
    ("minutes", "garbage", "expected"),
    [
        ([25, 3, 0], 5_000_000, True),
        ([15, 11, 0], 5_000_000, False),
        ([25, 3, 0], 1000, False),
        ([25], 5_000_000, False),
    ],
)
def test_old_versions_are_removed_every_20_minutes_at_most(tmp_path, minutes, garbage, expected) -> None:
    """Each removal compacts the table, so not every add may cause one."""

    class Table:
        def stats(self) -> dict[str, int]:
            return {"total_bytes": 1000}

        def list_versions(self) -> list[dict[str, datetime]]:
            return [{"timestamp": datetime.now() - timedelta(minutes=age)} for age in minutes]

    (tmp_path / "data").write_bytes(bytes(1000 + garbage))
    assert maintenance._has_old_versions(Table(), tmp_path) == expected


@pytest.mark.slow
def test_many_small_adds_take_little_more_disk_than_one(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(maintenance, "VERSIONS_KEPT", timedelta(milliseconds=1))
    monkeypatch.setattr(maintenance, "_GARBAGE_BYTES", 1 << 16)
    small, large = create_store(tmp_path / "small", 64), create_store(tmp_path / "large", 64)
    for i in range(50):
        add(small, i, 1)
    add(large, 0, 50)
    bytes_small, bytes_large = (maintenance.disk_bytes(tmp_path / name) for name in ("small", "large"))
    assert bytes_small < (1 + 1.25 + 0.5) * bytes_large
    small.compact()
    assert maintenance.disk_bytes(tmp_path / "small") < 1.1 * bytes_large
    assert small.count_windows() == large.count_windows() == 50


def test_an_add_writes_no_more_to_a_large_index(tmp_path) -> None:
    written = []
    for number in (100, 2000):
        store = create_store(tmp_path / f"{number}", 64)
        add(store, 0, number)
        before = maintenance.disk_bytes(tmp_path / f"{number}")
        add(store, number, 1)
        written.append(maintenance.disk_bytes(tmp_path / f"{number}") - before)
    assert written[1] < 1.2 * written[0] < 60_000


def test_touching_files_repeatedly_does_not_grow_the_index(index, videos, folder) -> None:
    sizes = []
    for i in range(8):
        for path in videos.rglob("*.mp4"):
            os.utime(path, ns=(i, i))
        index.update()
        sizes.append(maintenance.disk_bytes(folder / "windows.lance"))
    assert len({*sizes}) == 1


def test_compact(index, videos) -> None:
    for _ in range(3):
        (videos / "red2.mp4").write_bytes((videos / "red2.mp4").read_bytes() + b"\0")
        index.add(videos)
    before, after = index.compact()
    assert after < before
    assert len(index) == 12
    assert len(index.search("a red video", k=100, merge=False)) == 12


# -- frames in memory --------------------------------------------------------------------------------------------------


def test_frames_in_memory(index, videos, folder) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3), dtype=np.uint8)
    assert index.add_frames("camera 1", frames, 10).added == ("camera 1",)
    assert index.add_frames("camera 1", list(frames), 10).unchanged == ("camera 1",)
    assert window_times(folder)["camera 1"][-1] == pytest.approx((1.6, 2.0))
    found = index.search(video=videos / "red2.mp4", k=100, merge=False)
    assert {hit.path for hit in found} == {*index.files()}
    assert index.add_frames("camera 1", frames[:10], 10).added == ("camera 1",)
    assert window_times(folder)["camera 1"][-1] == pytest.approx((0.6, 1.0))
    assert index.update().removed == ()
    assert "camera 1" in index.files()
    for name, what in (("", "must be text"), ("a\udcff", "must be text"), (str(videos / "red2.mp4"), "has a file")):
        with pytest.raises(ValueError, match=what):
            index.add_frames(name, frames, 10)
    with pytest.raises(TypeError, match="camera 2"):
        index.add_frames("camera 2", ["a.mp4"], 10)
    assert index.remove("camera 1").removed == ("camera 1",)
    assert len(index) == 12
