"""Still and animated images, folders of images, and arrays."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_videos import HEIGHT, WIDTH, picture
from PIL import Image

from openxclip.errors import VideoError
from openxclip.video import ReadOptions, VideoReader, natural_key

MS = [40, 100, 0, 250, 40, 70]
STARTS = [0.0, 0.04, 0.14, 0.24, 0.49, 0.53]  # a duration of 0 counts as 0.1 s


def images(count: int = 6) -> list[Image.Image]:
    return [Image.fromarray(picture(5 * i)) for i in range(count)]


def read(source: Any, indices: list[int], fps: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    with VideoReader(source, read=ReadOptions(fps=fps)) as reader:
        frames = reader.get_frames(indices)
        return frames.frames_THWC.numpy(), frames.times_T.numpy()


def test_gif(tmp_path: Path) -> None:
    path = tmp_path / "moving.gif"
    few_colours = [im.quantize(32).convert("RGB") for im in images()]
    few_colours[0].save(path, save_all=True, append_images=few_colours[1:], duration=MS, loop=0, optimize=False)
    got, times = read(path, [5, 0, 3, 3, 1])
    for slot, i in enumerate([5, 0, 3, 3, 1]):
        assert np.array_equal(got[slot], np.array(few_colours[i])), f"frame {i}"
        assert times[slot] == pytest.approx(STARTS[i])
    with VideoReader(path.read_bytes()) as reader:
        assert (reader.num_frames, reader.codec, reader.height, reader.width) == (6, "gif", HEIGHT, WIDTH)
        assert reader.duration == pytest.approx(0.6)
        assert reader.times == pytest.approx(STARTS)
        reader.get_frames([2, 2, 4])
        assert reader.frames_decoded == 2


def test_animated_webp(tmp_path: Path) -> None:
    path = tmp_path / "moving.webp"
    images()[0].save(path, save_all=True, append_images=images()[1:], duration=MS, lossless=True)
    got, times = read(path, [4, 1, 0])
    assert np.array_equal(got, np.stack([picture(20), picture(5), picture(0)]))
    assert times == pytest.approx([STARTS[i] for i in (4, 1, 0)])


def test_a_still_image_is_a_video_of_one_frame(tmp_path: Path) -> None:
    for suffix in ("png", "bmp", "tiff", "ppm", "webp"):
        path = tmp_path / f"still.{suffix}"
        images(1)[0].save(path, **({"lossless": True} if suffix == "webp" else {}))
        with VideoReader(path) as reader:
            assert (reader.num_frames, reader.times[0]) == (1, 0.0)
            assert np.array_equal(reader.get_frames([0, 0]).frames_THWC[1].numpy(), picture(0))
            assert reader.fps == pytest.approx(10)


def test_transparency_is_shown_on_white_and_photos_are_turned(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (8, 4), (200, 0, 0, 0))
    clear.putpixel((3, 2), (200, 0, 0, 255))
    clear.save(tmp_path / "clear.png")
    got, _ = read(tmp_path / "clear.png", [0])
    assert got[0, 2, 3].tolist() == [200, 0, 0]
    assert (np.delete(got[0].reshape(-1, 3), 2 * 8 + 3, 0) == 255).all()

    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise
    images(1)[0].save(tmp_path / "turned.png", exif=exif)
    with VideoReader(tmp_path / "turned.png") as reader:
        assert (reader.height, reader.width) == (WIDTH, HEIGHT)
        assert np.array_equal(reader.get_frames([0]).frames_THWC[0].numpy(), np.rot90(picture(0), -1))


def test_folder_of_images(tmp_path: Path) -> None:
    for i in (1, 2, 10):
        Image.fromarray(picture(i)).save(tmp_path / f"frame{i}.PNG")
    (tmp_path / "notes.txt").write_text("not a frame")
    (tmp_path / ".frame5.png").write_bytes(b"not an image")
    got, times = read(tmp_path, [2, 0, 1], fps=5)
    assert np.array_equal(got, np.stack([picture(10), picture(1), picture(2)]))
    assert times == pytest.approx([0.4, 0.0, 0.2])
    with VideoReader(tmp_path) as reader:
        assert (reader.num_frames, reader.fps, reader.codec) == (3, 25.0, "images")
        assert (reader.height, reader.width) == (HEIGHT, WIDTH)
        assert reader.duration == pytest.approx(3 / 25)


def test_natural_order() -> None:
    assert sorted(["b10", "b9", "a2b", "a02", "B1", "a10", "1"], key=natural_key) == [
        *("1", "a02", "a2b", "a10", "B1", "b9", "b10")
    ]


def test_arrays_are_read_like_videos(tmp_path: Path) -> None:
    frames_THWC = np.stack([picture(i) for i in range(5)])
    np.save(tmp_path / "last.npy", frames_THWC)
    np.save(tmp_path / "first.npy", frames_THWC.transpose(0, 3, 1, 2))
    in_memory = io.BytesIO()
    np.save(in_memory, frames_THWC)
    for source in (tmp_path / "last.npy", tmp_path / "first.npy", in_memory, in_memory.getvalue()):
        got, times = read(source, [4, 0, 4], fps=10)
        assert np.array_equal(got, frames_THWC[[4, 0, 4]])
        assert times == pytest.approx([0.4, 0.0, 0.4])
    with VideoReader(tmp_path / "first.npy") as reader:
        assert (reader.height, reader.width, reader.num_frames) == (HEIGHT, WIDTH, 5)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.uint8),
        np.zeros((2, 4, 4, 4), np.uint8),
        np.zeros((0, 4, 4, 3), np.uint8),
    ],
)
def test_arrays_that_are_not_videos(array: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "other.npy", array)
    with pytest.raises(VideoError, match=r"uint8 of shape \(T, H, W, 3\)"):
        VideoReader(tmp_path / "other.npy")


def test_arrays_of_objects_are_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(VideoError, match="cannot be read"):
        VideoReader(tmp_path / "objects.npy")


def test_damaged_images(tmp_path: Path) -> None:
    data = io.BytesIO()
    images()[0].save(data, "GIF", save_all=True, append_images=images()[1:])
    with pytest.raises(VideoError, match="damaged or cut off"):
        VideoReader(data.getvalue()[: len(data.getvalue()) // 2])
    with pytest.raises(VideoError, match="image that cannot be read"):
        VideoReader(b"\x89PNG\r\n\x1a\n and then nothing of use")
    Image.fromarray(picture(0)).save(tmp_path / "a.png")
    Image.fromarray(picture(0, 32, 32)).save(tmp_path / "b.png")
    with VideoReader(tmp_path) as reader, pytest.raises(VideoError, match="differ in size: frame 1 is 32×32"):
        reader.get_frames([0, 1])
    (tmp_path / "b.png").write_bytes(b"")
    with (
        VideoReader(tmp_path) as reader,
        pytest.raises(VideoError, match=r"b\.png: it is an image that cannot be read"),
    ):
        reader.get_frames([1])


def test_postscript_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow would pass PostScript, whatever its suffix, to Ghostscript, which runs it."""
    ran = tmp_path / "ran"
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch '{ran}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "1.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    )
    with VideoReader(tmp_path / "frames") as reader, pytest.raises(VideoError, match=r"1\.png: it is an image that"):
        reader.get_frames([0])
    assert not ran.exists()
