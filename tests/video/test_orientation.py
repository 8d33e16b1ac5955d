"""Display matrices that only some frames have: all frames are turned as the first, so that all have one size."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from made_videos import encode, picture
from numpy.typing import NDArray
from PIL import Image

from openxclip.video import ClipPlan, DecodeWorker, VideoReader, inspect, read_clip
from openxclip.video.nal import length_size
from openxclip.video.orientation import has_orientation

COUNT = 24
NOTE = "frames differ in rotation: all are turned as the first"
X265 = {"x265-params": "log-level=none:pools=1:keyint=8:min-keyint=8:scenecut=0"}


def message(codec: str, quarters: int) -> bytes:
    """Make a NAL unit with a display orientation message of some quarters anticlockwise."""
    bits = f"000{quarters * 0x4000:016b}" + ("0100" if codec == "h264" else "0")
    bits = bits + "1" + "0" * (-(len(bits) + 1) % 8)  # the payload is padded as the end of a unit is
    payload = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
    head = b"\x06" if codec == "h264" else b"\x4e\x01"
    return head + bytes([47, len(payload)]) + payload + b"\x80"


def with_messages(source: Path, path: Path, codec: str, frames: Collection[int], quarters: int = 1) -> Path:
    """Copy a video and put a message into these packets."""
    unit = message(codec, quarters)
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        from_stream = old.streams.video[0]
        stream = new.add_stream_from_template(from_stream)
        size = length_size(codec, from_stream.codec_context.extradata or b"")
        prefix = len(unit).to_bytes(size, "big") if size else b"\0\0\0\1"
        for number, packet in enumerate(p for p in old.demux(video=0) if p.size):
            copy = av.Packet((prefix + unit if number in frames else b"") + bytes(packet))
            copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
            copy.is_keyframe, copy.stream = packet.is_keyframe, stream
            new.mux(copy)
    return path


Source = Callable[[str], Path]


@pytest.fixture(scope="module")
def upright(tmp_path_factory: pytest.TempPathFactory) -> Source:
    made: dict[str, Path] = {}

    def get(codec: str) -> Path:
        if codec not in made:
            path = tmp_path_factory.mktemp("upright") / f"{codec}.mp4"
            options = {"gop": 8, "b_frames": 2} if codec == "h264" else {"options": X265}
            made[codec] = encode(path, "libx264" if codec == "h264" else "libx265", count=COUNT, **options)  # type: ignore[arg-type]
        return made[codec]

    return get


def decoded(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        return [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]


# Packets with a message, and the quarters by which the first frame is turned
PACKETS: dict[str, tuple[Collection[int], int]] = {
    "first": ((0,), 1),
    "key frames": ((0, 8, 16), 1),
    "all": (range(COUNT), 1),
    "later": ((8, 16), 0),
    "none": ((), 0),
}


@pytest.mark.parametrize("where", PACKETS)
@pytest.mark.parametrize(
    ("codec", "suffix"), [("h264", "mp4"), ("h264", "mkv"), ("h264", "mov"), ("hevc", "mp4"), ("hevc", "mkv")]
)
def test_all_frames_are_turned_as_the_first(
    codec: str, suffix: str, where: str, upright: Source, tmp_path: Path
) -> None:
    frames, quarters = PACKETS[where]
    path = with_messages(upright(codec), tmp_path / f"film.{suffix}", codec, frames)
    expected = np.stack([np.rot90(frame, quarters) for frame in decoded(upright(codec))])
    with av.open(str(path)) as container:
        rotations = [round(f.rotation) for f in container.decode(video=0)]
    assert rotations[0] == 90 * quarters
    if codec == "h264":  # in HEVC, FFmpeg applies a message until the next one
        assert (len(set(rotations)) > 1) == (where in ("first", "key frames", "later"))
    size = expected.shape[1:3]
    for order in ([17, 3, 0, 9], [20], [0, 23], [9]):  # each with a new reader that has not seen the first frame
        with VideoReader(path) as reader:
            assert (reader.get_frames(order).frames_THWC.numpy() == expected[order]).all()
            assert (reader.height, reader.width) == size
    with VideoReader(path) as reader:
        assert (reader.height, reader.width) == size
        assert (reader.get_frames(range(COUNT)).frames_THWC.numpy() == expected).all()
        assert (NOTE in reader.notes) == (len(set(rotations)) > 1)
    assert read_clip(path, num_frames=4, start=0.5).frames_THWC.shape[1:3] == size
    report = inspect(path, full=True)
    assert (report.height, report.width, report.rotation, report.problems) == (*size, 90 * quarters, ())


def test_transport_streams_and_bare_streams(upright: Source, tmp_path: Path) -> None:
    source = encode(tmp_path / "upright.ts", "libx264", gop=8, count=COUNT)
    for suffix in ("ts", "h264"):
        path = with_messages(source, tmp_path / f"film.{suffix}", "h264", (0, 8, 16))
        with VideoReader(path) as reader:
            assert reader.get_frames([12]).frames_THWC.shape == (1, 96, 64, 3)
        report = inspect(path)
        assert (report.height, report.width, report.rotation) == (96, 64, 90)


def test_the_containers_orientation_holds_if_the_first_frame_has_no_message(upright: Source, tmp_path: Path) -> None:
    """FFmpeg follows the message on frames that have one; the first has none, so the container's matrix holds."""
    turned = encode(tmp_path / "turned.mp4", "libx264", gop=8, count=COUNT, rotation=-90)
    path = with_messages(turned, tmp_path / "both.mp4", "h264", (8,), quarters=2)
    expected = np.rot90(np.stack(decoded(turned)), -1, axes=(1, 2))
    with av.open(str(path)) as container:
        rotations = {round(f.rotation) for f in container.decode(video=0)}
    assert len(rotations) == 2 or rotations == {-90}
    for order in ([10], [0, 8], [20, 8]):
        with VideoReader(path) as reader:
            assert (reader.get_frames(order).frames_THWC.numpy() == expected[order]).all()


def test_reports_and_clips_have_the_same_size(upright: Source, tmp_path: Path) -> None:
    path = with_messages(upright("h264"), tmp_path / "film.mp4", "h264", (0,))
    with DecodeWorker() as worker:
        report = worker.inspect(path)
        (clip,) = worker.read_clips(path, ClipPlan(num_frames=2, start=0.5))
    assert clip.frames_THWC.shape[1:3] == (report.height, report.width) == (96, 64)


def test_messages_are_found_among_others() -> None:
    other = bytes([5, 20]) + bytes(range(1, 21))  # a message of another type
    unit = message("h264", 3)
    assert has_orientation(b"\0\0\1\x06" + other + unit[1:] + b"\0\0\1\x65", codec="h264", length_size=0)
    assert not has_orientation(b"\0\0\1\x06" + other + b"\x80\0\0\1\x65", codec="h264", length_size=0)
    assert not has_orientation(b"\0\0\1\x65" + unit, codec="h264", length_size=0)
    large = b"\xff\xff\x01" + b"\xff\x03" + bytes([9]) * 258  # type 511, length 258
    assert has_orientation(b"\0\0\1\x4e\x01" + large + message("hevc", 1)[2:], codec="hevc", length_size=0)
    assert has_orientation(b"\xff\xd8\xff\xe1\0\x10Exif\0\0", codec="mjpeg", length_size=0)
    assert not has_orientation(b"\xff\xd8\xff\xe0", codec="mjpeg", length_size=0)
    assert not has_orientation(b"\0\0\1\x06\xff\xff", codec="h264", length_size=0)


@pytest.mark.parametrize("suffix", ["avi", "mov", "mkv"])
@pytest.mark.parametrize("orientations", [(6, 1, 1, 1), (1, 1, 6, 6), (6, 6, 6, 6)])
def test_exif_in_motion_jpeg(suffix: str, orientations: tuple[int, ...], tmp_path: Path) -> None:
    """The Exif orientation of the first picture turns the whole video."""
    with av.open(str(tmp_path / f"film.{suffix}"), "w") as out:
        stream = out.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for i, orientation in enumerate(orientations):
            data, exif = io.BytesIO(), Image.Exif()
            exif[0x112] = orientation
            Image.fromarray(picture(i, 64, 48)).save(data, "JPEG", exif=exif)
            packet = av.Packet(data.getvalue())
            packet.pts = packet.dts = i
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 10), stream, True
            out.mux(packet)
    size = (64, 48) if orientations[0] == 6 else (48, 64)
    for order in ([3], [0], [2, 1]):
        with VideoReader(tmp_path / f"film.{suffix}") as reader:
            assert reader.get_frames(order).frames_THWC.shape[1:3] == (reader.height, reader.width) == size
    report = inspect(tmp_path / f"film.{suffix}")
    assert (report.height, report.width) == size
