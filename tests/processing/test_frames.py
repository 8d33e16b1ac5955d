"""Frames in every form are read, and other things are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from openxclip.processing.frames import as_videos

LEVELS_THWC = np.random.default_rng(0).integers(0, 256, (4, 10, 12, 3), dtype=np.uint8)
EXPECTED_TCHW = torch.from_numpy(LEVELS_THWC).permute(0, 3, 1, 2)


def no_file(source: Any) -> torch.Tensor:
    raise AssertionError(f"{source!r} was taken for a file")


def read(videos: Any, **options: Any) -> list[torch.Tensor]:
    return [torch.cat(video) for video in as_videos(videos, **{"read_file": no_file, **options})]


ONE_VIDEO = {
    "PIL images": [Image.fromarray(frame) for frame in LEVELS_THWC],
    "tuple of PIL images": tuple(Image.fromarray(frame) for frame in LEVELS_THWC),
    "arrays HWC": list(LEVELS_THWC),
    "arrays CHW": list(LEVELS_THWC.transpose(0, 3, 1, 2)),
    "tensors HWC": list(torch.from_numpy(LEVELS_THWC)),
    "tensors CHW": list(EXPECTED_TCHW.contiguous()),
    "mixed": [Image.fromarray(LEVELS_THWC[0]), LEVELS_THWC[1], EXPECTED_TCHW[2], LEVELS_THWC[3]],
    "array THWC": LEVELS_THWC,
    "array TCHW": LEVELS_THWC.transpose(0, 3, 1, 2),
    "tensor THWC": torch.from_numpy(LEVELS_THWC),
    "tensor TCHW": EXPECTED_TCHW.contiguous(),
    "reversed view": LEVELS_THWC[::-1].copy()[::-1],
    "read-only": np.frombuffer(LEVELS_THWC.tobytes(), np.uint8).reshape(LEVELS_THWC.shape),
    "int64": LEVELS_THWC.astype(np.int64),
    "big-endian int16": LEVELS_THWC.astype(">i2"),
    "uint16 of 8 bits": LEVELS_THWC.astype(np.uint16),
    "uint16 of 16 bits": LEVELS_THWC.astype(np.uint16) * 257,
    "RGBA": np.concatenate([LEVELS_THWC, LEVELS_THWC[..., :1]], axis=-1),
    "tensor with gradient": torch.from_numpy(LEVELS_THWC).float().requires_grad_(),
}


@pytest.mark.parametrize("form", ONE_VIDEO)
def test_one_video(form: str) -> None:
    (video,) = read(ONE_VIDEO[form])
    torch.testing.assert_close(video.to(torch.uint8), EXPECTED_TCHW)
    assert not video.requires_grad


@pytest.mark.parametrize(
    "videos",
    [
        [LEVELS_THWC, LEVELS_THWC],
        (LEVELS_THWC, ONE_VIDEO["PIL images"]),
        [list(LEVELS_THWC), list(EXPECTED_TCHW)],
        np.stack([LEVELS_THWC] * 2),
        torch.stack([EXPECTED_TCHW] * 2),
    ],
    ids=["4-D arrays", "array and list", "lists", "5-D array", "5-D tensor"],
)
def test_several_videos(videos: Any) -> None:
    first, second = read(videos)
    torch.testing.assert_close(first, EXPECTED_TCHW)
    torch.testing.assert_close(second, EXPECTED_TCHW)


@pytest.mark.parametrize(
    "frame", [ONE_VIDEO["PIL images"][0], LEVELS_THWC[0], EXPECTED_TCHW[0]], ids=["PIL", "HWC", "CHW"]
)
def test_single_frame_is_a_video_of_one(frame: Any) -> None:
    (video,) = read(frame)
    torch.testing.assert_close(video, EXPECTED_TCHW[:1])


@pytest.mark.parametrize("source", ["clip.mp4", Path("clip.mp4"), b"bytes of a file"], ids=["str", "Path", "bytes"])
def test_files(source: Any, tmp_path: Path) -> None:
    seen: list[Any] = []

    def read_file(source: Any) -> torch.Tensor:
        seen.append(source)
        return torch.from_numpy(LEVELS_THWC)

    (video,) = read(source, read_file=read_file)
    torch.testing.assert_close(video, EXPECTED_TCHW)
    assert len(read([source, LEVELS_THWC], read_file=read_file)) == 2
    (tmp_path / "file").write_bytes(b"")
    with (tmp_path / "file").open("rb") as stream:
        read(stream, read_file=read_file)
    assert seen == [source, source, stream]


@pytest.mark.parametrize(
    ("shape", "channels_last", "expected"),
    [
        ((3, 5, 7), None, (3, 5, 7)),
        ((5, 7, 3), None, (3, 5, 7)),
        ((1, 7, 3), None, (3, 1, 7)),  # one pixel high, rather than grey
        ((4, 7, 3), None, (3, 4, 7)),
        ((3, 5, 3), None, (3, 5, 3)),  # ambiguous: the first
        ((3, 5, 3), True, (3, 3, 5)),
        ((3, 5, 4), True, (3, 3, 5)),
        ((3, 5, 1), True, (3, 3, 5)),
        ((1, 5, 7), None, (3, 5, 7)),
        ((5, 7, 1), None, (3, 5, 7)),
        ((4, 5, 7), None, (3, 5, 7)),
        ((5, 7), None, (3, 5, 7)),
    ],
)
def test_layout(shape: tuple[int, ...], channels_last: bool | None, expected: tuple[int, ...]) -> None:
    (video,) = read([np.zeros(shape, np.uint8)], channels_last=channels_last)
    assert tuple(video.shape[1:]) == expected


def test_grey_is_in_every_channel() -> None:
    grey = LEVELS_THWC[0, :, :, 0]
    (video,) = read([grey, grey[..., None], Image.fromarray(grey)])
    assert (video == torch.from_numpy(grey)).all()


@pytest.mark.parametrize("mode", ["P", "RGBA", "LA", "L", "CMYK", "YCbCr", "1", "HSV", "I", "F"])
def test_image_modes_are_rgb(mode: str) -> None:
    image = ONE_VIDEO["PIL images"][0].convert("L" if mode in ("I", "F", "LA") else "RGB").convert(mode)
    if mode in ("I", "F"):
        with pytest.warns(UserWarning, match="do not say which value is white: 255 was assumed"):
            (video,) = read([image])
    else:
        (video,) = read([image])
    reference = np.array(image.convert("RGB"))
    np.testing.assert_array_equal(video[0].permute(1, 2, 0).numpy(), reference)


def test_palette_with_transparency() -> None:
    image = ONE_VIDEO["PIL images"][0].convert("P")
    image.info["transparency"] = b"\x00\x80"  # Pillow warns of this where it is not asked for RGBA first
    (video,) = read([image])
    np.testing.assert_array_equal(video[0].permute(1, 2, 0).numpy(), np.array(image.convert("RGBA"))[..., :3])


def test_16_bit_grey() -> None:
    levels = LEVELS_THWC[0, :, :, 0]
    (video,) = read([Image.fromarray(levels.astype(np.uint16) * 257)])
    assert (video == torch.from_numpy(levels)).all()


@pytest.mark.parametrize(
    ("videos", "error", "message"),
    [
        (None, TypeError, "NoneType"),
        (7, TypeError, "int"),
        ([], ValueError, "empty"),
        ([[]], ValueError, "without frames"),
        ([LEVELS_THWC[0], LEVELS_THWC], ValueError, "item 0 is a frame, but item 1 is not"),
        ([LEVELS_THWC, None], TypeError, "NoneType"),
        ([["a.png", "b.png"]], TypeError, "item 0 of a video"),
        ([np.stack([LEVELS_THWC] * 2)], TypeError, r"\(2, 4, 10, 12, 3\)"),
        (np.zeros(5), ValueError, r"shape \(5,\) is no video"),
        (np.zeros((8, 16, 16), np.uint8), ValueError, "no axis of 3 channels"),
        ([np.zeros((0, 5, 3), np.uint8)], ValueError, "empty"),
        ([np.zeros((5, 5, 3), bool)], TypeError, "bool"),
        ([np.full((5, 5, 3), 300)], ValueError, "300"),
        ([np.full((5, 5, 3), -1)], ValueError, "-1"),
        ([torch.zeros(5, 5, 3, dtype=torch.bool)], TypeError, "bool"),
        ([np.zeros((5, 5, 3), complex)], TypeError, "complex"),
        ([[[1, 2], [3, 4]]], TypeError, "list"),
    ],
)
def test_mistakes(videos: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read(videos)


def test_wrong_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="12 channels"):
        read([LEVELS_THWC[0].transpose(0, 2, 1)], channels_last=True)
