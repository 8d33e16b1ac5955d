"""Rare formats give the frames of a plain PyAV decode, in any order, from a path and from bytes."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from made_videos import encode, picture
from numpy.typing import NDArray
from PIL import Image, features

from openxclip.errors import VideoError
from openxclip.video import VideoReader
from openxclip.video.formats import DEMUXERS
from openxclip.video.jpegs import is_motion_jpeg

Frames = list[NDArray[np.uint8]]


def flic(count: int = 8, width: int = 48, height: int = 32) -> bytes:
    """An FLC whose first frame has the palette and all pixels; the others change some lines (DELTA_FLC)."""

    def chunk(kind: int, data: bytes) -> bytes:
        return struct.pack("<IH", 6 + len(data), kind) + data

    def frame(*chunks: bytes) -> bytes:
        return struct.pack("<IHH8x", 16 + sum(map(len, chunks)), 0xF1FA, len(chunks)) + b"".join(chunks)

    palette = b"\x01\0\0\0" + bytes(v for i in range(256) for v in (i, 255 - i, i * 7 % 256))
    frames = [frame(chunk(4, palette), chunk(16, bytes(i % 256 for i in range(width * height))))]
    for i in range(1, count):
        # lines to skip, then one line: one packet of `width` bytes, in pairs, from column 0
        line = struct.pack("<hH", -i, 1) + bytes([0, width // 2]) + bytes([i * 30 % 256]) * width
        frames.append(frame(chunk(7, b"\x01\0" + line)))
    head = struct.pack("<IHHHHHHI", 128 + sum(map(len, frames)), 0xAF12, count, width, height, 8, 3, 50)
    return head.ljust(80, b"\0") + struct.pack("<II", 128, 128 + len(frames[0])).ljust(48, b"\0") + b"".join(frames)


def make(codec: str, container: str, **how: Any) -> Callable[[Path], bytes]:
    return lambda path: encode(path, codec, container=container, **{"count": 8, **how}).read_bytes()


JPEG = {"pix_fmt": "yuvj420p"}
FORMATS: dict[str, tuple[str, int, Callable[[Path], bytes]]] = {  # suffix, number of frames, function that makes it
    "Motion JPEG": ("mjpeg", 8, make("mjpeg", "mjpeg", **JPEG)),
    "Motion JPEG with another suffix": ("bin", 8, make("mjpeg", "mjpeg", **JPEG)),
    "Motion JPEG with the suffix of a picture": ("jpg", 8, make("mjpeg", "mjpeg", **JPEG)),
    "two JPEGs": ("mjpg", 2, make("mjpeg", "mjpeg", count=2, **JPEG)),
    "multipart JPEG": ("mjpg", 8, make("mjpeg", "mpjpeg", **JPEG)),
    "SMJPEG": ("mjpg", 8, make("mjpeg", "smjpeg", **JPEG)),
    "FLIC": ("flc", 8, lambda path: flic()),
    "Sega FILM": ("cpk", 8, make("cinepak", "film_cpk", pix_fmt="rgb24")),
    "FITS, grey": ("fits", 3, make("fits", "fits", pix_fmt="gray", count=3)),
    "FITS, 16 bits": ("fits", 2, make("fits", "fits", pix_fmt="gray16be", count=2)),
    "FITS, colour": ("fits", 1, make("fits", "fits", pix_fmt="gbrp", count=1)),
    "DNxHD": (
        "dnxhd",
        2,
        make("dnxhd", "dnxhd", pix_fmt="yuv422p", size=(1280, 720), options={"b": "90M"}, count=2),
    ),
    "RealMedia": ("rm", 8, make("rv20", "rm")),
    "Flash": ("swf", 8, make("flv", "swf")),
    "id RoQ": ("roq", 8, make("roqvideo", "roq", pix_fmt="yuvj444p")),
    "Filmstrip": ("flm", 8, make("rawvideo", "filmstrip", pix_fmt="rgba")),
    "OpenEXR": ("exr", 1, make("exr", "image2pipe", pix_fmt="gbrpf32le", count=1)),
    "DPX": ("dpx", 1, make("dpx", "image2pipe", pix_fmt="rgb24", count=1)),
    "QOI": ("qoi", 1, make("qoi", "image2pipe", pix_fmt="rgb24", count=1)),
    "JPEG 2000": ("j2k", 1, make("jpeg2000", "image2pipe", pix_fmt="rgb24", count=1)),
    "JPEG-LS": ("jls", 1, make("jpegls", "image2pipe", pix_fmt="rgb24", count=1)),
    "PCX": ("pcx", 1, make("pcx", "image2pipe", pix_fmt="rgb24", count=1)),
    "SGI": ("sgi", 1, make("sgi", "image2pipe", pix_fmt="rgb24", count=1)),
    "XWD": ("xwd", 1, make("xwd", "image2pipe", pix_fmt="bgra", count=1)),
    "Radiance": ("hdr", 1, make("hdr", "image2pipe", pix_fmt="gbrpf32le", count=1)),
    "PFM in colour": ("pfm", 1, make("pfm", "image2pipe", pix_fmt="gbrpf32le", count=1)),
}


def plain(data: bytes, **options: str) -> Frames:
    frames: Frames = []
    with av.open(io.BytesIO(data), **options) as container:  # type: ignore[call-overload]
        try:
            for frame in container.decode(video=0):
                frames.append(frame.to_ndarray(format="rgb24"))
        except av.error.InvalidDataError:  # the demuxers of SMJPEG and multipart JPEG end with this
            assert frames
    return frames


@pytest.mark.parametrize("name", FORMATS)
def test_frames_in_any_order(name: str, tmp_path: Path) -> None:
    suffix, count, make = FORMATS[name]
    path = tmp_path / f"film.{suffix}"
    data = make(path)
    path.write_bytes(data)
    expected = [] if name == "Filmstrip" else plain(data, **({"format": "mjpeg"} if suffix == "jpg" else {}))
    for source in (path, data):
        if name == "Filmstrip" and source is data:
            continue  # FFmpeg recognises it only by its name
        with VideoReader(source) as reader:
            assert reader.num_frames == count
            backwards = list(range(count))[::-1]
            frames = reader.get_frames([*backwards, 0]).frames_THWC.numpy()
            assert np.array_equal(reader.get_frames([count // 2]).frames_THWC[0], frames[backwards.index(count // 2)])
        if name != "Filmstrip":
            assert np.array_equal(frames, np.stack([expected[i] for i in [*backwards, 0]]))


def photo(size: tuple[int, int] = (64, 48), **how: Any) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture(0, *size)).save(data, "JPEG", **how)
    return data.getvalue()


def test_photos_with_trailing_data_are_photos(tmp_path: Path) -> None:
    jpeg, film = photo(), encode(tmp_path / "film.mp4", "mpeg4", count=2).read_bytes()
    file = io.BytesIO()
    Image.fromarray(picture(0)).save(file, "MPO", save_all=True, append_images=[Image.fromarray(picture(1))])
    for data in (jpeg, jpeg + film, jpeg + photo((32, 24)), jpeg + b"\0" * 40, jpeg + b"trailer", file.getvalue()):
        assert not is_motion_jpeg(io.BytesIO(data))
        with VideoReader(data) as reader:
            assert (reader.num_frames, reader.codec) == (1, "mpo" if data == file.getvalue() else "jpeg")


def test_motion_jpeg_is_recognised_by_its_content() -> None:
    for jpeg in (photo(), photo(progressive=True), photo(quality=100), photo(comment=b"\xff\xd9 in a comment")):
        for between in (b"", b"\0\0\0", b"\xff\xff"):
            assert is_motion_jpeg(io.BytesIO(jpeg + between + jpeg))
            with VideoReader(jpeg + between + jpeg) as reader:
                assert (reader.num_frames, reader.codec) == (2, "mjpeg")
    for cut in range(4, 400, 7):
        assert not is_motion_jpeg(io.BytesIO(photo()[:cut]))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
@pytest.mark.parametrize("brand", [None, b"mif1", b"msf1"])
def test_avif_stills_and_sequences_with_alpha(brand: bytes | None) -> None:
    """With any brand, transparency is shown on white, and its track isn't read as a video."""
    ramp = np.tile((np.arange(64) * 4).astype(np.uint8), (48, 1))[..., None]
    pictures = [Image.fromarray(np.dstack([np.full((48, 64, 3), 40 * i, np.uint8), ramp])) for i in range(5)]
    for many in (True, False):
        file = io.BytesIO()
        pictures[0].save(file, "AVIF", **({"save_all": True, "append_images": pictures[1:]} if many else {}))
        data = file.getvalue()
        data = data if brand is None else data[:8] + brand + data[12:]
        with VideoReader(data) as reader:
            assert reader.num_frames == (5 if many else 1)
            frames = reader.get_frames([0, reader.num_frames - 1]).frames_THWC.numpy().astype(int)
            assert reader.notes == ("transparent parts are shown on white",)
        for frame, level in zip(frames, (0, 160 if many else 0), strict=True):
            expected = 255 + (level - 255) * (np.arange(64) * 4) / 255
            assert np.abs(frame.mean(axis=(0, 2)) - expected).max() < 8


def test_an_alpha_track_is_not_read_as_a_video() -> None:
    """FFmpeg, which reads AVIF that Pillow can't, takes the transparency for a video of its own."""
    ramp = np.tile((np.arange(64) * 4).astype(np.uint8), (48, 1))[..., None]
    pictures = [Image.fromarray(np.dstack([np.full((48, 64, 3), 40 * i, np.uint8), ramp])) for i in range(5)]
    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    file = io.BytesIO()
    pictures[0].save(file, "AVIF", save_all=True, append_images=pictures[1:])
    data = file.getvalue()
    # a brand that Pillow doesn't take
    data = data.replace(b"avif", b"xxxx", 2).replace(b"avis", b"msf1")
    with VideoReader(data) as reader:
        assert (reader.num_frames, reader.notes) == (5, ())
        frames = reader.get_frames([0, 4]).frames_THWC.numpy()
    assert abs(frames[0].mean()) < 4
    assert abs(frames[1].mean() - 160) < 4


@pytest.mark.parametrize("name", ["concat", "hls", "dash", "sdp", "rtsp", "lavfi", "image2", "tty", "mlv", "vobsub"])
def test_formats_that_open_other_files_or_text_are_refused(name: str) -> None:
    assert name not in DEMUXERS


def test_all_formats_exist_in_ffmpeg() -> None:
    known = {part for name in av.formats_available for part in name.split(",")}
    assert set(DEMUXERS) <= known


def test_text_and_noise_are_refused() -> None:
    rng = np.random.default_rng(5)
    for data in (
        b"plain text\n" * 500,
        rng.integers(0, 256, 20_000, dtype=np.uint8).tobytes(),
        b"{}",
        b"\x1b[0mansi art",
    ):
        with pytest.raises(VideoError):
            VideoReader(data)
