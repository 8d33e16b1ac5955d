"""Images of 16 and 32 bits are scaled by the white that their format states, or by an assumption with a warning."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from made_images import apng, chunk, random_parts, tiff
from PIL import Image

from openxclip import XCLIPProcessor
from openxclip.processing.sources import in_memory
from openxclip.video import ClipPlan, DecodeWorker, VideoReader, inspect
from openxclip.video.assumptions import AssumptionWarning

LEVELS = np.random.default_rng(0).integers(0, 256, (12, 16), dtype=np.uint8)
LEVELS[0, :2] = 0, 255  # so that the full range occurs


def encoded(image: Image.Image, kind: str) -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def pgm(white: int) -> bytes:
    values = np.rint(LEVELS * (white / 255)).astype(">u2")
    return b"P5 16 12 %d\n" % white + values.tobytes()


WIDE = LEVELS.astype(np.uint16) * 257
SHARE = LEVELS.astype(np.float32) / 255
STATED = {
    "PNG": encoded(Image.fromarray(WIDE), "PNG"),
    "PGM": pgm(65535),
    "PGM of 10 bits": pgm(1023),
    "TIFF": encoded(Image.fromarray(WIDE), "TIFF"),
    "TIFF, big-endian": encoded(Image.frombytes("I;16B", (16, 12), WIDE.astype(">u2").tobytes()), "TIFF"),
    "TIFF of 12 bits": tiff(np.rint(LEVELS * (4095 / 255)).astype(np.uint16), bits=12),
    "TIFF whose white is 0": tiff(65535 - WIDE, tags={262: 0}),
    "TIFF of 32 bits": tiff(LEVELS.astype(np.uint32) * 0x01010101),
    "TIFF with its largest sample": tiff(np.rint(LEVELS * (1000 / 255)).astype(np.int32), tags={341: 1000}),
    "PFM": b"Pf\n16 12\n-1.0\n" + SHARE[::-1].astype("<f4").tobytes(),
}
ASSUMED = {
    "floating TIFF to 1": (tiff(SHARE), "floating-point", "1"),
    "floating TIFF to 255": (tiff(LEVELS.astype(np.float32)), "floating-point", "255"),
    "floating TIFF to 65535": (tiff(WIDE.astype(np.float32)), "floating-point", "65535"),
    "floating TIFF beyond": (tiff(SHARE * 1e6), "floating-point", "1e\\+06"),
    "signed TIFF to 255": (tiff(LEVELS.astype(np.int16)), "32-bit", "255"),
    "signed TIFF to 65535": (tiff(WIDE.astype(np.int32)), "32-bit", "65535"),
}


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("form", STATED)
def test_stated_white(form: str, tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(STATED[form])  # the suffix doesn't matter
    for source in (tmp_path, tmp_path / "1.png", STATED[form]):
        with VideoReader(source) as reader:
            got = reader.get_frames([0]).frames_THWC[0].numpy()
            assert np.array_equal(got, np.repeat(LEVELS[..., None], 3, axis=2)), source
            assert not any("white" in note for note in reader.notes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(in_memory([opened(STATED[form])], "one").frames[0][..., 0], LEVELS)


@pytest.mark.parametrize("form", ASSUMED)
def test_assumed_white_is_reported(form: str, tmp_path: Path) -> None:
    data, kind, white = ASSUMED[form]
    (tmp_path / "1.tif").write_bytes(data)
    with DecodeWorker() as worker, pytest.warns(AssumptionWarning, match=f"{kind} .*: {white} was assumed"):
        worker.read_clips(tmp_path / "1.tif", ClipPlan(num_frames=1))  # as the commands do
    for source in (tmp_path, tmp_path / "1.tif"):
        with VideoReader(source) as reader, pytest.warns(AssumptionWarning, match=f"{kind} .*: {white} was assumed"):
            got = reader.get_frames([0]).frames_THWC[0].numpy()
        assert np.array_equal(got, np.repeat(LEVELS[..., None], 3, axis=2))
        (note,) = [note for note in inspect(source).notes if "white" in note]
        assert note.startswith(f"the {kind} pictures do not say which value is white: ")
    with pytest.warns(UserWarning, match=f"the {kind} pictures .*: {white} was assumed, with 0 as black"):
        video = in_memory([opened(data)], "one")
    assert np.array_equal(video.frames[0][..., 0], LEVELS)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_all_frames_of_a_video_have_one_scale(mode: str, tmp_path: Path) -> None:
    """A dark frame of a video stays dark beside bright ones."""
    kind = np.int32 if mode == "I" else np.float32
    dark, bright = (WIDE // 512).astype(kind), WIDE.astype(kind)
    for i, values in enumerate((dark, bright, dark)):
        (tmp_path / f"{i}.tif").write_bytes(tiff(values))
    pages = io.BytesIO()
    images = [Image.fromarray(values) for values in (dark, bright, dark)]
    images[0].save(pages, "TIFF", save_all=True, append_images=images[1:])
    expected = np.stack([np.rint(dark / 257), LEVELS, np.rint(dark / 257)])
    for source in (tmp_path, pages.getvalue()):
        for order in ([0, 1, 2], [2, 0, 1]):
            with VideoReader(source) as reader, pytest.warns(AssumptionWarning, match="65535 was assumed"):
                got = reader.get_frames(order).frames_THWC[..., 0].numpy()
            assert np.array_equal(got, expected[order])
    plain = {"do_resize": False, "do_center_crop": False, "do_rescale": False, "do_normalize": False}
    with pytest.warns(UserWarning, match="65535 was assumed"):
        batch = XCLIPProcessor()(videos=images, return_tensors="np", **plain)
    assert np.array_equal(batch.pixel_values[0, :, 0], expected)
    with pytest.warns(UserWarning, match="65535 was assumed"):
        frames = in_memory(images, "three").frames
    assert np.array_equal(np.stack([frame[..., 0] for frame in frames]), expected)


def test_nan_infinite_and_negative_values() -> None:
    values = np.array([[np.nan, -1, 0, 0.5], [1, np.inf, -np.inf, 0.25]], np.float32)
    with pytest.warns(UserWarning, match=r"1 was assumed.*highest value is 1\)"):
        (frame,) = in_memory([Image.fromarray(values)], "one").frames
    assert frame[..., 0].tolist() == [[0, 0, 0, 128], [255, 255, 0, 64]]


def test_a_transparent_value_of_16_bits_is_shown_on_white() -> None:
    parts = random_parts(0, channels=1, dtype=np.uint16, count=1)
    clear = int(parts[0].samples[3, 4, 0])
    data = apng(parts, before=chunk(b"tRNS", clear.to_bytes(2, "big")))
    still = data.replace(chunk(b"acTL", bytes([0, 0, 0, 1, 0, 0, 0, 0])), b"")
    for source in (data, still):
        with VideoReader(source) as reader:
            frame = reader.get_frames([0]).frames_THWC[0, ..., 0].numpy()
            expected = np.rint(parts[0].samples[..., 0] / 257)
            assert frame[3, 4] == 255
            assert (frame == expected).sum() >= frame.size - (parts[0].samples == clear).sum()
            assert any("transparent" in note for note in reader.notes)


def test_exif_orientation_of_a_16_bit_photo(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(WIDE).save(tmp_path / "a.png", exif=exif)
    with VideoReader(tmp_path / "a.png") as reader:
        assert (reader.width, reader.height) == (12, 16)
        assert np.array_equal(reader.get_frames([0]).frames_THWC[0, ..., 0].numpy(), np.rot90(LEVELS, -1))
