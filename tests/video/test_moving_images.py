"""Animated images: each frame equals that of a decode from front to back, whatever was read before."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from made_images import HEIGHT, WIDTH, Part, apng, chunk, random_parts
from made_videos import picture
from PIL import Image

from openxclip.errors import VideoError
from openxclip.video import VideoReader, inspect


def in_any_order(data: bytes) -> np.ndarray:
    """Return all frames after checking that other orders, and each frame alone, give the same."""
    with VideoReader(data) as reader:
        count = reader.num_frames
        forward = np.stack([reader.get_frames([i]).frames_THWC[0].numpy() for i in range(count)])
        order = np.random.default_rng(0).integers(0, count, 3 * count).tolist()
        for i in [*reversed(range(count)), *order]:
            assert np.array_equal(reader.get_frames([i]).frames_THWC[0].numpy(), forward[i]), f"frame {i}"
    for i in range(count):
        with VideoReader(data) as reader:
            assert np.array_equal(reader.get_frames([i]).frames_THWC[0].numpy(), forward[i]), f"frame {i} alone"
    return forward


def by_ffmpeg(data: bytes, name: str) -> list[np.ndarray]:
    """Decode from front to back with FFmpeg, on white."""
    shown = []
    with av.open(io.BytesIO(data), format=name) as container:
        for frame in container.decode(video=0):
            image = Image.fromarray(frame.to_ndarray(format="rgba"), "RGBA")
            white = Image.new("RGBA", image.size, "white")
            white.alpha_composite(image)
            shown.append(np.array(white.convert("RGB")))
    return shown


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_apng_boxes_disposal_and_blending(seed: int, channels: int) -> None:
    parts = random_parts(seed, channels=channels)
    got = in_any_order(apng(parts))
    # FFmpeg can't show the empty parts of an opaque format: compare with the same frames with an alpha of 255
    expected = by_ffmpeg(apng([part._replace(samples=_with_alpha(part.samples)) for part in parts]), "apng")
    assert len(got) == len(expected) == 8
    for i, frame in enumerate(expected):
        # FFmpeg and Pillow round half-transparent pixels differently, and the errors add up over the frames
        assert np.abs(got[i].astype(int) - frame).max() <= (0 if channels in (1, 3) else 6), f"frame {i}"


def _with_alpha(samples: np.ndarray) -> np.ndarray:
    opaque = np.full_like(samples[..., :1], 255)
    return samples if samples.shape[2] in (2, 4) else np.concatenate([samples, opaque], axis=2)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_apng_of_16_bits(channels: int) -> None:
    """FFmpeg doesn't blend 16-bit frames: compare with the same frames of 8 bits."""
    wide = random_parts(5, channels=channels, dtype=np.uint16)
    narrow = [part._replace(samples=((part.samples.astype(np.uint32) + 128) // 257).astype(np.uint8)) for part in wide]
    got, expected = in_any_order(apng(wide)), in_any_order(apng(narrow))
    assert np.abs(got.astype(int) - expected).max() <= 6


def test_apng_of_a_palette() -> None:
    colours = np.random.default_rng(1).integers(0, 256, (5, 3), dtype=np.uint8)
    before = chunk(b"PLTE", colours.tobytes()) + chunk(b"tRNS", bytes([255, 0]))
    parts = [part._replace(samples=part.samples % 5) for part in random_parts(6, channels=1)]
    data = apng(parts, before=before, colour_type=3)
    got, expected = in_any_order(data), by_ffmpeg(data, "apng")
    assert np.array_equal(got, np.stack(expected))


def test_apng_written_by_ffmpeg(tmp_path: Path) -> None:
    path = tmp_path / "a.apng"
    with av.open(str(path), "w", format="apng") as out:
        stream = out.add_stream("apng", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "rgba"
        for i in range(6):
            levels = np.dstack([picture(i), np.full((64, 96), 255 if i % 2 else 120, np.uint8)])
            out.mux(stream.encode(av.VideoFrame.from_ndarray(levels, format="rgba")))
        out.mux(stream.encode())
    got = in_any_order(path.read_bytes())
    assert np.array_equal(got[1::2], np.stack([picture(i) for i in (1, 3, 5)]))
    with VideoReader(path) as reader:
        assert reader.times == pytest.approx(np.arange(6) / 10)


def test_apng_times_and_its_still_picture() -> None:
    levels = [np.full((HEIGHT, WIDTH, 3), 40 * i, np.uint8) for i in range(4)]
    delays = [(1, 4), (0, 7), (3, 0), (0, 0)]  # a denominator of 0 means hundredths
    data = apng([Part(samples, delay=delay) for samples, delay in zip(levels, delays, strict=True)], still=levels[3])
    with VideoReader(data) as reader:
        assert reader.times == pytest.approx([0, 0.25, 0.35, 0.38])
        assert reader.duration == pytest.approx(0.48)
        assert reader.get_frames([0, 1]).frames_THWC[:, 0, 0, 0].tolist() == [0, 40]


def test_exif_orientation_of_a_still_apng() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    samples = random_parts(0, channels=3)[0].samples
    data = apng([Part(samples)], before=chunk(b"eXIf", turned.tobytes()[6:]))
    with VideoReader(data) as reader:
        assert (reader.num_frames, reader.height, reader.width) == (1, WIDTH, HEIGHT)
        assert np.array_equal(reader.get_frames([0]).frames_THWC[0].numpy(), np.rot90(samples, -1))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_cut_off_and_damaged_apng(share: float) -> None:
    data = apng(random_parts(1))
    at = int(share * len(data))
    with pytest.raises(VideoError, match="it ends in the middle"):
        VideoReader(data[:at])
    with pytest.raises(VideoError, match="damaged"):
        VideoReader(data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :])
    assert inspect(data[:at], full=True).error is not None


def test_invalid_apng_frames() -> None:
    good = random_parts(2, count=2)
    with pytest.raises(VideoError, match="a frame extends beyond the picture"):
        VideoReader(apng([good[0], good[0]._replace(x=1)]))
    swapped = apng(good).replace(chunk(b"fcTL", b"")[4:8] + struct.pack(">I", 1), b"fcTL" + struct.pack(">I", 9))
    at = swapped.index(b"fcTL" + struct.pack(">I", 9))
    swapped = swapped[: at + 30] + zlib.crc32(swapped[at : at + 30]).to_bytes(4, "big") + swapped[at + 34 :]
    with pytest.raises(VideoError, match="its chunk 1 is missing"):
        VideoReader(swapped)


@pytest.mark.parametrize("seed", range(6))
def test_gif_boxes_and_disposal(seed: int) -> None:
    for clear in (0, 0.5, 1):
        data = gif(seed, clear=clear)
        assert np.array_equal(in_any_order(data), np.stack(by_ffmpeg(data, "gif")))


@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize("disposal", [0, 1, 2, 3])
def test_gif_written_by_pillow(disposal: int, optimize: bool) -> None:
    """A sprite moves over an opaque first frame: later frames are boxes with a transparent colour."""
    frames = []
    for i in range(5):
        levels = np.full((64, 96, 4), 30, np.uint8)
        levels[..., 3] = 0 if i else 255
        levels[10:30, 10 * i : 10 * i + 20] = [200, 40 * i, 90, 255]
        frames.append(Image.fromarray(levels, "RGBA"))
    out = io.BytesIO()
    options = {"disposal": disposal, "optimize": optimize, "duration": 50}
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:], **options)
    data = out.getvalue()
    assert np.array_equal(in_any_order(data), np.stack(by_ffmpeg(data, "gif")))


@pytest.mark.parametrize("share", [0.1, 0.4, 0.7])
def test_cut_off_gif(share: float) -> None:
    data = gif(1, clear=0.5)
    data = data[: data.index(b",", int(share * len(data))) + 30]
    with pytest.raises(VideoError, match="damaged or cut off: it ends in the middle"):
        VideoReader(data)


def test_gif_with_bytes_between_its_blocks_and_no_end() -> None:
    data = gif(2, clear=1)
    at = data.index(b"!\xf9", 100)
    with VideoReader(data) as whole, VideoReader(data[:at] + b"\0\0" + data[at:-1]) as other:
        assert np.array_equal(whole.get_frames([7, 3]).frames_THWC, other.get_frames([7, 3]).frames_THWC)
    with pytest.raises(VideoError, match="much of it is not GIF data"):
        VideoReader(data[:at] + bytes(1 << 17) + data[at:])


def test_gif_frame_beyond_the_screen_is_clipped() -> None:
    data = gif(0, clear=1)
    at = data.index(b",", data.index(b",") + 1)
    data = data[: at + 1] + struct.pack("<HH", 9, 8) + data[at + 5 :]  # the second frame, 18 x 8 in a screen of 24 x 16
    got = in_any_order(data)
    assert got.shape[1:3] == (HEIGHT, WIDTH)
    assert np.array_equal(got[1][:8], got[0][:8])


@pytest.mark.parametrize("lossless", [True, False])
def test_half_transparent_webp(tmp_path: Path, lossless: bool) -> None:
    rng = np.random.default_rng(3)
    frames = []
    for i in range(6):
        alpha = rng.choice([0, 100, 255], (64, 96)).astype(np.uint8)
        frames.append(Image.fromarray(np.dstack([picture(i), alpha]), "RGBA"))
    frames[0].save(
        tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=lossless, exact=True, duration=40
    )
    got = in_any_order((tmp_path / "a.webp").read_bytes())
    if lossless:
        for i, frame in enumerate(frames):
            white = Image.new("RGBA", frame.size, "white")
            white.alpha_composite(frame)
            assert np.abs(got[i].astype(int) - np.array(white.convert("RGB"))).max() <= 1


def test_mpo_is_a_still_image(tmp_path: Path) -> None:
    left, right = Image.fromarray(picture(0)), Image.fromarray(picture(9, 32, 32))
    left.save(tmp_path / "a.mpo", "MPO", save_all=True, append_images=[right], quality=95)
    with VideoReader(tmp_path / "a.mpo") as reader:
        assert (reader.num_frames, reader.width) == (1, 96)


def gif(seed: int, *, clear: float) -> bytes:
    """Make a GIF with frames of random size, position, disposal and palette; a share has a transparent colour."""
    rng = np.random.default_rng(seed)
    screen = struct.pack("<HHBBB", WIDTH, HEIGHT, 0xF1, 0, 0)
    out = b"GIF89a" + screen + rng.integers(0, 256, 12, dtype=np.uint8).tobytes()
    for i in range(8):
        whole = i == 0 or rng.random() < 0.2
        width, height = (WIDTH, HEIGHT) if whole else (int(rng.integers(1, WIDTH)), int(rng.integers(1, HEIGHT)))
        x, y = (0, 0) if whole else (int(rng.integers(WIDTH - width + 1)), int(rng.integers(HEIGHT - height + 1)))
        dispose, has_clear = int(rng.integers(1, 4)), int(rng.random() < clear)
        out += b"!\xf9\x04" + struct.pack("<BHBB", dispose << 2 | has_clear, 10, 3, 0)
        local = rng.random() < 0.4
        out += b"," + struct.pack("<HHHHB", x, y, width, height, 0x81 if local else 0)
        out += rng.integers(0, 256, 12, dtype=np.uint8).tobytes() if local else b""
        out += b"\x02" + _lzw(rng.integers(0, 4, width * height).tolist()) + b"\0"
    return out + b";"


def _lzw(indices: list[int]) -> bytes:
    """Encode as GIF does, without compressing: the table is cleared after every second code of 3 bits."""
    codes = [code for i in range(0, len(indices), 2) for code in (4, *indices[i : i + 2])] + [5]
    bits = sum(code << 3 * n for n, code in enumerate(codes))
    data = bits.to_bytes((3 * len(codes) + 7) // 8, "little")
    return b"".join(bytes([len(data[i : i + 255])]) + data[i : i + 255] for i in range(0, len(data), 255))
