"""Forms of sources, impossible names, and failures of the machine, which aren't reported as damage."""

from __future__ import annotations

import errno
import io
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from made_videos import encode
from PIL import Image
from test_processes import in_fork, needs_fork

from openxclip.errors import VideoError
from openxclip.video import (
    ClipPlan,
    DecodeWorker,
    Limits,
    ReadOptions,
    VideoReader,
    check,
    check_videos,
    find_videos,
    inspect,
    read_clip,
)
from openxclip.video.failures import ffmpeg_failure, machine_failure


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("sources") / "clip.mp4", "libx264", count=20)


@pytest.fixture(scope="module")
def worker() -> Iterator[DecodeWorker]:
    with DecodeWorker() as worker:
        yield worker


def count_by_reader(source: Any) -> int:
    with VideoReader(source) as reader:
        return reader.num_frames


def count_by_clip(source: Any) -> int:
    return read_clip(source, num_frames=20).indices[-1] + 1


def count_by_inspect(source: Any) -> int | None:
    report = inspect(source)
    if report.error is not None:
        raise report.error
    return report.frames


def count_by_check(source: Any) -> int | None:
    (report,) = check(source, jobs=1, full=False)
    if report.error is not None:
        raise report.error
    return report.frames


Ways = list[Callable[[Any], "int | None"]]


@pytest.fixture
def ways(worker: DecodeWorker) -> Ways:
    """All functions that take a source; each returns the number of frames."""

    def in_worker(source: Any) -> int:
        return worker.read_clips(source, ClipPlan(num_frames=20))[0].indices[-1] + 1

    def inspected_by_worker(source: Any) -> int | None:
        report = worker.inspect(source)
        if report.error is not None:
            raise report.error
        return report.frames

    return [count_by_reader, count_by_clip, count_by_inspect, in_worker, inspected_by_worker]


# -- forms -------------------------------------------------------------------------------------------------------------


def test_buffers(clip: Path, ways: Ways) -> None:
    data = clip.read_bytes()
    twice = np.frombuffer(data, np.uint8).repeat(2)
    with clip.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        mapped.read(100)
        for source in (bytearray(data), memoryview(data), memoryview(twice)[::2], mapped):
            for way in ways:
                assert way(source) == 20
            assert inspect(source).path == f"video of {len(data)} bytes"
            assert inspect(source).size_bytes == len(data)
        assert count_by_check(bytearray(data)) == 20
        assert mapped.tell() == 100
        assert mapped.read(0) == b""
    view = memoryview(data)
    view.release()
    for source, message in (
        (mapped, "closed mmap: it cannot be read"),
        (view, "released memoryview: it cannot be read"),
    ):
        for way in ways:
            with pytest.raises(VideoError, match=message):
                way(source)
    with pytest.raises(VideoError, match="--max-memory"):
        VideoReader(bytearray(data), read=ReadOptions(limits=Limits(memory=1000)))


def test_a_buffer_may_change_while_it_is_read(clip: Path) -> None:
    data = bytearray(clip.read_bytes())
    with VideoReader(data) as reader:
        data[:] = b""
        assert len(reader.get_frames([0, 19])) == 2


def test_home(clip: Path, ways: Ways, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(clip.parent))
    for source in ("~/clip.mp4", Path("~/clip.mp4")):
        for way in ways:
            assert way(source) == 20
    assert find_videos(["~/clip.mp4"]) == [clip]
    for way in ways:
        with pytest.raises(VideoError, match=r"^~/none\.mp4: there is no such file"):
            way("~/none.mp4")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~").mkdir()
    (tmp_path / "~" / "clip.mp4").write_bytes(encode(tmp_path / "short.mp4", "libx264", count=9).read_bytes())
    assert [way("~/clip.mp4") for way in (count_by_reader, count_by_inspect, count_by_check)] == [9, 9, 9]
    assert find_videos(["~/clip.mp4"]) == [Path("~/clip.mp4")]


def test_the_current_folder_may_change(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "frames").mkdir()
    for i in range(3):
        Image.new("RGB", (8, 6)).save(tmp_path / "frames" / f"{i}.png")
    (tmp_path / "clip.mp4").write_bytes(clip.read_bytes())
    monkeypatch.chdir(tmp_path)
    with VideoReader("clip.mp4") as video, VideoReader("frames") as folder:
        monkeypatch.chdir("/")
        video._footage.coded.reopen()  # type: ignore[attr-defined]
        assert len(video.get_frames([0, 19])) == 2
        assert len(folder.get_frames([0, 2])) == 2
        (tmp_path / "frames" / "1.png").write_bytes(b"")
        with pytest.raises(VideoError, match=r"^frames/1\.png: "):
            folder.get_frames([1])


def test_errors_name_pictures_relative_to_the_given_folder(
    worker: DecodeWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VideoError, match=r"^frames/0\.png: "):
        worker.read_clips("frames", ClipPlan(num_frames=1))


# -- impossible names -----------------------------------------------------------------------------------------------

NAMES = [
    "x" * 300 + ".mp4",
    "y/" * 3000 + "a.mp4",
    "a\0b.mp4",
    "a\0*.mp4",
    "z" * 5000 + "*.mp4",
    "~\0/a.mp4",
    "~" * 999,
]


def test_impossible_names(clip: Path, ways: Ways, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [*NAMES, f"{tmp_path}/{'x' * 300}", f"{tmp_path}/" + "y/" * 3000]:
        for source in (name, Path(name)):
            for way in ways:
                with pytest.raises(VideoError) as caught:
                    way(source)
                assert caught.value.source == str(source)
                assert "cannot be read: " in caught.value.reason or "no such file" in caught.value.reason
                assert "Errno" not in caught.value.reason
    found = find_videos([*NAMES, clip])
    assert [str(video) for video in found] == [*(str(Path(name)) for name in NAMES), str(clip)]
    assert [report.frames for report in check_videos(found, jobs=1, full=False)] == [None] * len(NAMES) + [20]


@pytest.fixture
def deep(clip: Path, tmp_path: Path) -> Iterator[int]:
    """Make a folder whose path is longer than systems allow, with the clip in it; return an open descriptor."""
    fd = os.open(tmp_path, os.O_RDONLY)
    for i in range(25):
        name = f"{i:0200}"
        os.mkdir(name, dir_fd=fd)
        inner = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    file = os.open("deep.mp4", os.O_WRONLY | os.O_CREAT, dir_fd=fd)
    os.write(file, clip.read_bytes())
    os.close(file)
    yield fd
    os.close(fd)


def test_folders_too_deep_to_be_listed(deep: int, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "good.mp4").write_bytes(clip.read_bytes())
    found = find_videos([tmp_path])
    assert len(found) == 2
    assert found[1] == tmp_path / "good.mp4"
    reports = list(check_videos(found, jobs=1, full=False))
    assert reports[0].error is not None
    assert reports[0].error.reason == f"it cannot be read: {os.strerror(errno.ENAMETOOLONG)}"
    assert reports[1].frames == 20


@needs_fork
def test_a_current_folder_that_is_too_deep(deep: int, worker: DecodeWorker) -> None:
    def read() -> object:
        os.fchdir(deep)
        return count_by_reader("deep.mp4"), count_by_clip("deep.mp4"), worker.inspect("deep.mp4").frames

    assert in_fork(read) == "(20, 20, 20)"


# -- failures of the machine -------------------------------------------------------------------------------------------


class Failing(io.BytesIO):
    """A file that fails after some bytes, as on a network."""

    def __init__(self, data: bytes, error: Exception, after: int) -> None:
        super().__init__(data)
        self.error, self.left = error, after

    def read(self, size: int | None = -1) -> bytes:
        part = super().read(size)
        self.left -= len(part)
        if self.left < 0:
            raise self.error
        return part


def contents(kind: str, clip: Path) -> bytes:
    if kind == "mp4":
        return clip.read_bytes()
    data = io.BytesIO()
    if kind == "npy":
        np.save(data, np.zeros((8, 40, 40, 3), np.uint8))
        return data.getvalue()
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)) for _ in range(4)]
    images[0].save(data, kind, **({} if kind in ("png", "jpeg") else {"save_all": True, "append_images": images[1:]}))
    return data.getvalue()


@pytest.mark.parametrize("kind", ["mp4", "npy", "gif", "png", "jpeg", "webp", "tiff"])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError("NFS gone"), "it cannot be read: NFS gone"),
        (OSError(errno.EIO, "Input/output error", "a.mp4"), "it cannot be read: Input/output error"),
        (RuntimeError("token expired"), "it cannot be read: RuntimeError token expired"),
        (VideoError("a.tar", "it cannot be read: gone"), "it cannot be read: gone"),
    ],
)
def test_a_file_object_that_fails(kind: str, error: Exception, reason: str, clip: Path, worker: DecodeWorker) -> None:
    data = contents(kind, clip)
    failed = 0
    for after in [0, 10, 64, *range(200, 3 * len(data), len(data) // 4)]:
        file = Failing(data, error, after)
        reasons = []
        try:
            with VideoReader(file) as reader:
                reader.get_frames(range(reader.num_frames))
        except VideoError as caught:
            reasons.append(caught.reason)
        assert reasons in ([], [reason])
        failed += len(reasons)
    assert failed >= 4
    with pytest.raises(VideoError, match=reason):
        worker.read_clips(Failing(data, error, 100), ClipPlan(num_frames=1))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video longer than FFmpeg's read-ahead."""
    path = encode(tmp_path_factory.mktemp("large") / "large.mkv", "ffv1", count=100)
    assert path.stat().st_size > 150_000
    return path


def test_reading_works_again_after_a_failure(large: Path) -> None:
    file = Failing(large.read_bytes(), OSError("NFS gone"), 10**9)
    with VideoReader(file) as reader:
        file.left = 0
        with pytest.raises(VideoError, match="cannot be read: NFS gone"):
            reader.get_frames([19])
        file.left = 10**9
        assert len(reader.get_frames([19])) == 1


def test_a_closed_file_and_a_closed_reader(large: Path, ways: Ways) -> None:
    file = large.open("rb")
    reader = VideoReader(file)
    file.close()
    for way in [*ways, lambda _: len(reader.get_frames([19]))]:
        with pytest.raises(VideoError, match=r"it cannot be read: .*closed file"):
            way(file)
    reader.close()
    with pytest.raises(VideoError, match="its reader has been closed: open it again"):
        reader.get_frames([0])
    with pytest.raises(VideoError, match="its reader has been closed"):
        _ = reader.width


def test_damage_of_file_objects_is_reported_as_damage(clip: Path) -> None:
    data = bytearray(clip.read_bytes())
    with av.open(str(clip)) as container:
        packet = next(p for p in container.demux(video=0) if p.size)
    at = bytes(data).index(bytes(packet))
    data[at : at + packet.size] = bytes(packet.size)
    for source in (io.BytesIO(data), Failing(data, OSError(), 10**9), bytes(data)):
        with pytest.raises(VideoError, match="damaged"), VideoReader(source) as reader:
            reader.get_frames([0])
    with pytest.raises(VideoError, match="not a video, or its beginning is damaged"):
        VideoReader(Failing(bytes(5000), OSError(), 10**9))
    for part in (0.3, 0.9):
        gif = contents("gif", clip)
        with pytest.raises(VideoError, match="damaged or cut off"):
            VideoReader(Failing(gif[: int(len(gif) * part)], OSError(), 10**9))


@needs_fork
@pytest.mark.parametrize("kind", ["mp4", "npy", "gif", "folder"])
def test_too_many_open_files(kind: str, clip: Path, tmp_path: Path) -> None:
    import resource

    path = tmp_path / f"a.{kind}"
    if kind == "folder":
        path.mkdir()
        (path / "0.png").write_bytes(contents("png", clip))
    else:
        path.write_bytes(contents(kind, clip))
    count_by_reader(path)  # imports and opens what is needed once

    def read() -> object:
        results = set()
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        limit = 400
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
        descriptors = []
        try:
            while True:
                descriptors.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        for _ in range(6):
            try:
                with VideoReader(path) as reader:
                    results.add(len(reader.get_arrays([0], allocate=np.empty)[1]))
            except VideoError as error:
                results.add(error.reason)
            os.close(descriptors.pop())
        return sorted(map(str, results))

    assert in_fork(read) == str(["1", f"it cannot be read: {os.strerror(errno.EMFILE)}"])


def test_errors_of_the_system_in_ffmpeg(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (errno.EACCES, errno.ENOSPC, errno.EMFILE, errno.ENETDOWN, errno.ESTALE):
        with pytest.raises(av.error.FFmpegError) as caught:
            av.error.err_check(-number)
        assert machine_failure(caught.value)
        assert ffmpeg_failure(caught.value, clip) == machine_failure(caught.value)
        assert "Errno" not in str(machine_failure(caught.value))
    for number in (errno.EINVAL, errno.EAGAIN, av.error.tag_to_code(b"INDA")):
        with pytest.raises(av.error.FFmpegError) as caught:
            av.error.err_check(-number)
        assert machine_failure(caught.value) is None
    for number in (errno.EIO, errno.EPERM):  # demuxers also return these at the end of their data
        with pytest.raises(av.error.FFmpegError) as caught:
            av.error.err_check(-number)
        assert machine_failure(caught.value) is None
        assert ffmpeg_failure(caught.value, clip) is None
    monkeypatch.setattr(Path, "open", lambda *_: Failing(b"", OSError(errno.EIO, os.strerror(errno.EIO)), -1))
    assert ffmpeg_failure(caught.value, clip) == os.strerror(errno.EIO)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no unreadable file on this system")
def test_an_unreadable_file(ways: Ways) -> None:
    for way in ways:
        with pytest.raises(VideoError, match=f"it cannot be read: {os.strerror(errno.EIO)}"):
            way("/proc/self/mem")


def test_lack_of_memory_is_not_reported_as_damage(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with VideoReader(clip) as reader:

        def refuse(shape: tuple[int, ...]) -> Any:
            raise MemoryError

        with pytest.raises(VideoError, match="it needs more memory than is available"):
            reader.get_arrays([0], allocate=refuse)
    picture = contents("png", clip)
    monkeypatch.setattr(Image.Image, "convert", lambda *_: refuse(()))
    with VideoReader(picture) as reader, pytest.raises(VideoError, match="it needs more memory than is available"):
        reader.get_frames([0])
