"""Indexes of long files are reused when the files are opened again, as long as they haven't changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from openxclip.errors import VideoError
from openxclip.video import Limits, ReadOptions, VideoReader, indexing, packet_cache
from openxclip.video.packets import Packets

COUNT = 1200


def write(path: Path, codec: str, options: dict[str, str]) -> Path:
    """A film of 48 s; the grey level of each frame is its number modulo 250."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for i in range(COUNT):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), i % 250, np.uint8), "rgb24")
            frame.pts = i
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("films")
    return {
        "packets": write(folder / "film.mkv", "libx264", {"preset": "ultrafast", "g": "50"}),
        "counted": write(folder / "film.avi", "mpeg4", {"bf": "2", "g": "50"}),
    }


@pytest.fixture(autouse=True)
def empty_cache() -> Iterator[None]:
    packet_cache._entries.clear()
    yield
    packet_cache._entries.clear()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Number of packets that were read, and how often frames were counted."""
    done = {"packets": 0, "counts": 0}
    add, count = Packets.add, indexing.count_frames

    def adding(self: Packets, *arguments: object, **how: object) -> None:
        done["packets"] += 1
        add(self, *arguments, **how)  # type: ignore[arg-type]

    def counting(*arguments: object, **how: object) -> indexing.StreamIndex:
        done["counts"] += 1
        return count(*arguments, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(Packets, "add", adding)
    monkeypatch.setattr(indexing, "count_frames", counting)
    return done


@pytest.mark.parametrize("kind", ["packets", "counted"])
def test_opening_again_reads_no_packets(
    films: dict[str, Path], reads: dict[str, int], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(indexing, "_MAX_KEPT_BYTES", 0)  # as for a film whose frames are too large to keep
    indices = [1100, 3, 600, 601]
    with VideoReader(films[kind]) as first:
        expected = first.get_frames(indices)
        times, duration = first.times, first.duration
    assert reads == {"packets": COUNT, "counts": int(kind == "counted")}
    with VideoReader(films[kind]) as second:
        got = second.get_frames(indices)
        assert (second.times == times).all()
        assert second.duration == duration
        assert second.frames_decoded < 200
    assert (got.frames_THWC == expected.frames_THWC).all()
    assert reads == {"packets": COUNT, "counts": int(kind == "counted")}


def test_a_changed_file_is_read_again(films: dict[str, Path], tmp_path: Path, reads: dict[str, int]) -> None:
    path = Path(shutil.copy(films["packets"], tmp_path / "film.mkv"))
    with VideoReader(path):
        pass
    known = path.stat()
    os.utime(path, ns=(known.st_atime_ns, known.st_mtime_ns + 1))
    with VideoReader(path):
        pass
    assert reads["packets"] == 2 * COUNT
    with VideoReader(path.read_bytes()):
        pass
    with VideoReader(path.read_bytes()):
        pass
    assert reads["packets"] == 4 * COUNT  # bytes have no path that identifies them


def test_limits_hold_for_cached_files(films: dict[str, Path]) -> None:
    with VideoReader(films["packets"]):
        pass
    with pytest.raises(VideoError, match="over the limit of 1000"):
        VideoReader(films["packets"], read=ReadOptions(limits=Limits(frames=1000)))


def test_the_cache_is_bounded(
    films: dict[str, Path], tmp_path: Path, reads: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packet_cache, "_MAX_PACKETS", 2 * COUNT)
    paths = [Path(shutil.copy(films["packets"], tmp_path / f"{i}.mkv")) for i in range(3)]
    for path in (*paths, paths[2], paths[1], paths[0]):  # 0 is dropped for 2, and 2 for 0
        with VideoReader(path):
            pass
    assert reads["packets"] == 4 * COUNT
    assert len(packet_cache._entries) == 2
