"""What an index keeps: half-done videos, moved and copied files, files of a disk that isn't mounted; and its size."""

from __future__ import annotations

import os
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from openxclip import CheckpointError, VideoIndex, VideoIndexError, VideoPipeline, XCLIPModel
from openxclip.search import adding, removing, upkeep
from openxclip.search.schema import VideoRow
from openxclip.search.store import Store

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def windows_of(index: VideoIndex) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for table in index._store.tables(["path", "start", "end"]):
        for row in table.to_pylist():
            found.setdefault(row["path"], []).append((row["start"], row["end"]))
    return {path: sorted(those) for path, those in found.items()}


def all_embeddings(index: VideoIndex) -> dict[tuple[str, int, int], float]:
    return {
        (row["path"], row["number"], i): number
        for table in index._store.tables(["path", "number", "embedding"])
        for row in table.to_pylist()
        for i, number in enumerate(row["embedding"])
    }


class Decoded:
    """The paths that a pipeline was asked to encode, and from which clip on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths: list[tuple[str, int]] = []
        encode = VideoPipeline.encode_clips

        def noted(pipeline, sources, plan, *, first=0, **options):
            def watched():
                for source in sources:
                    self.paths.append((str(source), first))
                    yield source

            return encode(pipeline, watched(), plan, first=first, **options)

        monkeypatch.setattr(VideoPipeline, "encode_clips", noted)


def interrupt_after(monkeypatch: pytest.MonkeyPatch, clips: int) -> None:
    add, seen = adding.Adding._add, []

    def interrupted(self, video, one) -> None:
        add(self, video, one)
        seen.append(one)
        if len(seen) == clips:
            raise KeyboardInterrupt

    monkeypatch.setattr(adding.Adding, "_add", interrupted)


# -- an interruption ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clips", [3, 6, *(pytest.param(number, marks=pytest.mark.slow) for number in (1, 4))])
def test_a_long_video_is_resumed_where_it_was(pipeline, videos, tmp_path, monkeypatch, clips) -> None:
    whole = VideoIndex.open(tmp_path / "whole", model=pipeline, window=0.3, stride=0.15)
    whole.add(videos)
    index = VideoIndex.open(tmp_path / "index", model=pipeline, window=0.3, stride=0.15)
    with monkeypatch.context() as patched:
        interrupt_after(patched, clips)
        with pytest.raises(KeyboardInterrupt):
            index.add(videos)
    per_video = len(whole) // 3
    assert sum(index.unfinished().values()) == clips % per_video
    assert len(index) == clips // per_video * per_video  # a search sees complete videos only
    assert len(index.files()) == clips // per_video
    decoded = Decoded(monkeypatch)
    index.add(videos)
    assert all_embeddings(index) == pytest.approx(all_embeddings(whole), abs=1e-6)
    assert index.unfinished() == {}
    resumed = [first for _, first in decoded.paths if first]
    assert resumed == ([clips % per_video] if clips % per_video else [])
    assert len(decoded.paths) == 3 - clips // per_video


def test_windows_are_committed_within_a_video(pipeline, videos, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(adding, "_WRITTEN_EVERY_BYTES", 1)
    index = VideoIndex.open(tmp_path / "index", model=pipeline, window=0.2)
    kept = []
    index.add(
        videos / "red2.mp4",
        on_clip=lambda path, end, duration: kept.append((index._store.count(), dict(index.unfinished()))),
    )
    assert [count for count, _ in kept] == [0] * 5
    assert [sum(half.values()) for _, half in kept] == [0, 1, 2, 3, 4]
    assert len(index) == 5


def test_a_changed_half_of_a_video_is_read_anew(pipeline, videos, tmp_path, monkeypatch) -> None:
    index = VideoIndex.open(tmp_path / "index", model=pipeline, window=0.2)
    red = videos / "red2.mp4"
    with monkeypatch.context() as patched:
        interrupt_after(patched, 2)
        with pytest.raises(KeyboardInterrupt):
            index.add(red)
    red.write_bytes((videos / "more/blue.mp4").read_bytes())
    index.add(red)
    fresh = VideoIndex.open(tmp_path / "fresh", model=pipeline, window=0.2)
    fresh.add(red)
    assert all_embeddings(index) == pytest.approx(all_embeddings(fresh), abs=1e-6)


def test_old_windows_are_found_until_the_new_ones_are_complete(index, videos, monkeypatch) -> None:
    before = windows_of(index)
    (videos / "red2.mp4").write_bytes((videos / "more/blue.mp4").read_bytes() + b"\0")
    monkeypatch.setattr(adding, "_WRITTEN_EVERY_BYTES", 1)
    seen = []
    index.add(videos, on_clip=lambda *_: seen.append(windows_of(VideoIndex.open(index._store.uri))))
    assert seen == [before] * 4
    assert windows_of(index) == before
    assert index._store._windows.count_rows() == 12  # the old ones are gone


def test_a_writer_that_died_between_two_commits_is_cleaned_up_after(index, videos) -> None:
    row = index._store.complete()[str(videos / "red2.mp4")]
    index._store.put([VideoRow(**{**vars(row), "state": "removed"})])  # and was killed before it deleted the windows
    again = VideoIndex.open(index._store.uri, model=index._model)
    assert len(again) == 8
    again.add(videos)
    assert len(again) == 12
    assert again._store._windows.count_rows() == 12


def test_an_index_of_the_first_schema_is_refused(tmp_path) -> None:
    import lancedb
    import pyarrow as pa

    schema = pa.schema([pa.field("path", pa.string())], metadata={b"openxclip": b'{"model": "mini"}'})
    lancedb.connect(tmp_path / "old").create_table("windows", schema=schema)
    with pytest.raises(VideoIndexError, match=r"made by an older version of openxclip: build it again"):
        VideoIndex.open(tmp_path / "old")


def test_a_damaged_index_is_one_sentence(index, videos) -> None:
    for file in Path(index._store.uri, "windows.lance", "data").iterdir():
        file.write_bytes(b"x" * 100)
    with pytest.raises(VideoIndexError, match="can't be read, and may be damaged"):
        VideoIndex.open(index._store.uri, model=index._model).search("a red video")
    for file in Path(index._store.uri, "videos.lance", "_versions").iterdir():
        file.write_bytes(b"x" * 100)
    with pytest.raises(VideoIndexError, match="can't be read, and may be damaged"):
        VideoIndex.open(index._store.uri)


# -- files that were moved, copied, touched ----------------------------------------------------------------------------


def test_a_moved_file_is_not_decoded(index, videos, monkeypatch) -> None:
    old, new = str(videos / "red2.mp4"), str(videos / "more/renamed.mp4")
    before = windows_of(index)
    Path(old).rename(new)
    decoded = Decoded(monkeypatch)
    done = index.add(videos)
    assert (done.moved, done.added, done.removed) == (((old, new),), (), ())
    assert decoded.paths == []
    assert windows_of(index) == {(new if path == old else path): those for path, those in before.items()}
    assert {hit.path for hit in index.search("a red video", k=100, merge=False)} == {*before} - {old} | {new}
    assert index.update().removed == ()
    assert sorted(index.add(videos).unchanged) == index.files()


def test_a_copy_takes_the_windows(index, videos, monkeypatch) -> None:
    shutil.copy(videos / "red2.mp4", videos / "copy.mp4")
    decoded = Decoded(monkeypatch)
    assert index.add(videos).added == (str(videos / "copy.mp4"),)
    assert decoded.paths == []
    windows = windows_of(index)
    assert windows[str(videos / "copy.mp4")] == windows[str(videos / "red2.mp4")]
    index.remove(videos / "red2.mp4")
    assert len(windows_of(index)[str(videos / "copy.mp4")]) == 4


def test_content_that_changes_places(index, videos, monkeypatch) -> None:
    red, blue = videos / "red2.mp4", videos / "more/blue.mp4"
    before = all_embeddings(index)
    spare = videos / "spare"
    red.rename(spare)
    blue.rename(red)
    spare.rename(blue)
    decoded = Decoded(monkeypatch)
    index.add(videos)
    assert decoded.paths == []
    after = all_embeddings(index)
    other = {str(red): str(blue), str(blue): str(red)}
    for (path, window, place), number in before.items():
        assert after[other.get(path, path), window, place] == number


def test_another_file_of_the_same_size_and_time_is_noticed(index, videos) -> None:
    red = videos / "red2.mp4"
    status = red.stat()
    other = bytearray(red.read_bytes())
    other[-1] ^= 1
    red.write_bytes(other)
    os.utime(red, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert index.add(videos).added == (str(red),)


def test_a_new_time_writes_no_windows(index, videos) -> None:
    for path in videos.rglob("*.mp4"):
        os.utime(path, ns=(1, 1))
    before = index._store._windows.version
    assert len(index.add(videos).unchanged) == 3
    assert index._store._windows.version == before
    assert {row.modified for row in index._store.complete().values()} == {1}
    assert len(index.search("a red video", where="modified < 5", k=100, merge=False)) == 12
    assert index.search("a red video", where="modified > 5", k=100, merge=False) == []
    assert len(index.search("a red video", where=f"modified > 5 or path like '%{'red2'}%'", k=100, merge=False)) == 4
    with pytest.raises(ValueError, match="modified and a window's start"):
        index.search("a red video", where="modified < 5 and start > 0")


# -- files that are missing --------------------------------------------------------------------------------------------


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
    ("missing", "known", "folders", "allowed", "held"),
    [
        (1, 1, [], None, 0),  # one file is no disk
        (2, 2, [], None, 2),
        (2, 3, [], None, 0),
        (10, 50, [], None, 0),
        (11, 50, [], None, 11),
        (11, 110, [], None, 0),  # 10 %
        (11, 109, [], None, 11),
        (3, 100, ["/a/0"], None, 0),
        (10, 100, ["/a/0"], None, 10),  # all ten of a named folder
        (10, 100, ["/a/0"], 9, 10),
        (10, 100, ["/a/0"], 10, 0),
    ],
)
def test_when_missing_files_are_held_back(missing, known, folders, allowed, held) -> None:
    paths = [f"/a/{i // 10}/{i}.mp4" for i in range(known)]
    assert len(removing.held_back(paths[:missing], paths, folders, allowed)) == held


def test_a_folder_that_may_not_be_entered_is_not_missing(index, videos, monkeypatch) -> None:
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


def test_what_a_name_means() -> None:
    known = sorted(["/a/b", "/a/b/1", "/a/b/2/3", "/a/b-c/4", "/a/b0", "/z"])
    assert removing.matching("/a/b", known) == ["/a/b", "/a/b/1", "/a/b/2/3"]
    assert removing.matching("/a/b-c/", known) == ["/a/b-c/4"]
    assert removing.matching("/a/*/4", known) == ["/a/b-c/4"]
    assert removing.matching("/b", known) == []


@pytest.mark.slow
def test_another_model_is_refused_with_nothing_to_do(index, videos, tmp_path, tiny_folder) -> None:
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
            call(VideoIndex.open(index._store.uri, model=other, device="cpu"))
    with pytest.raises(CheckpointError):
        VideoIndex.open(index._store.uri, model=tmp_path / "none", device="cpu").add(videos)
    assert len(index) == 12


# -- its size ----------------------------------------------------------------------------------------------------------


def rows(first: int, count: int) -> tuple[list[VideoRow], list[dict]]:
    random = np.random.default_rng(first)
    numbers = range(first, first + count)
    return [VideoRow(id=i + 1, path=f"/{i}.mp4", windows=1) for i in numbers], [
        {
            "video": i + 1, "path": f"/{i}.mp4", "number": 0, "start": 0.0, "end": 1.0, "duration": 1.0, "size": 1,
            "featureless": False, "embedding": random.normal(size=64).astype(np.float32), "patches": random.bytes(6000),
        }
        for i in numbers
    ]  # fmt: skip


def add(store: Store, first: int, count: int) -> None:
    videos, windows = rows(first, count)
    store.put(videos, new=True)
    store.add_windows(windows)
    store.put(VideoRow(**{**vars(video), "state": "complete"}) for video in videos)
    store.tidy()


def made(folder: Path) -> Store:
    store = Store(str(folder))
    store.create({"patches": True}, 64)
    store.open()
    return store


@pytest.mark.filterwarnings("ignore:optimize:UserWarning")
@pytest.mark.parametrize(
    ("minutes", "garbage", "pays"),
    [
        ([25, 3, 0], 5_000_000, True),
        ([15, 11, 0], 5_000_000, False),
        ([25, 3, 0], 1000, False),
        ([25], 5_000_000, False),
    ],
)
def test_old_versions_go_every_20_minutes_at_most(tmp_path, minutes: list[int], garbage: int, pays: bool) -> None:
    """Not with every add, for each removal compacts the table."""

    class Table:
        def stats(self) -> dict[str, int]:
            return {"total_bytes": 1000}

        def list_versions(self) -> list[dict[str, datetime]]:
            return [{"timestamp": datetime.now() - timedelta(minutes=age)} for age in minutes]

    (tmp_path / "data").write_bytes(bytes(1000 + garbage))
    assert upkeep._versions_pay(Table(), tmp_path) == pays


@pytest.mark.slow
def test_many_small_adds_are_as_small_as_one(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(upkeep, "VERSIONS_KEPT", timedelta(milliseconds=1))
    monkeypatch.setattr(upkeep, "_GARBAGE_BYTES", 1 << 16)
    small, large = made(tmp_path / "small"), made(tmp_path / "large")
    for i in range(50):
        add(small, i, 1)
    add(large, 0, 50)
    bytes_small, bytes_large = (upkeep.disk_bytes(tmp_path / name) for name in ("small", "large"))
    assert bytes_small < (1 + 1.25 + 0.5) * bytes_large
    small.compact()
    assert upkeep.disk_bytes(tmp_path / "small") < 1.1 * bytes_large
    assert small.count() == large.count() == 50


def test_one_add_writes_no_more_to_a_large_index(tmp_path) -> None:
    written = []
    for number in (100, 2000):
        store = made(tmp_path / f"{number}")
        add(store, 0, number)
        before = upkeep.disk_bytes(tmp_path / f"{number}")
        add(store, number, 1)
        written.append(upkeep.disk_bytes(tmp_path / f"{number}") - before)
    assert written[1] < 1.2 * written[0] < 60_000


def test_touching_files_over_and_over_does_not_grow_an_index(index, videos) -> None:
    sizes = []
    for i in range(8):
        for path in videos.rglob("*.mp4"):
            os.utime(path, ns=(i, i))
        index.update()
        sizes.append(upkeep.disk_bytes(Path(index._store.uri, "windows.lance")))
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


def test_frames_in_memory(index, videos) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3), dtype=np.uint8)
    assert index.add_frames("camera 1", frames, 10).added == ("camera 1",)
    assert index.add_frames("camera 1", list(frames), 10).unchanged == ("camera 1",)
    assert windows_of(index)["camera 1"][-1] == pytest.approx((1.6, 2.0))
    found = index.search(video=videos / "red2.mp4", k=100, merge=False)
    assert {hit.path for hit in found} == {*index.files()}
    assert index.add_frames("camera 1", frames[:10], 10).added == ("camera 1",)
    assert windows_of(index)["camera 1"][-1] == pytest.approx((0.6, 1.0))
    assert index.update().removed == ()
    assert "camera 1" in index.files()
    for name, what in (("", "must be text"), ("a\udcff", "must be text"), (str(videos / "red2.mp4"), "has a file")):
        with pytest.raises(ValueError, match=what):
            index.add_frames(name, frames, 10)
    with pytest.raises(TypeError, match="camera 2"):
        index.add_frames("camera 2", ["a.mp4"], 10)
    assert index.remove("camera 1").removed == ("camera 1",)
    assert len(index) == 12
