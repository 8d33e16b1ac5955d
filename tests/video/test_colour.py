"""Pixels compared with FFmpeg's own filters and with an independent implementation of the standards' formulas."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.filter import Graph
from made_videos import picture
from PIL import Image, ImageOps

from openxclip.errors import VideoError
from openxclip.video import VideoReader, tone_mapping
from openxclip.video.colour import RGBConverter

BT709, UNSPECIFIED, FCC, BT470BG, SMPTE170M, SMPTE240M, BT2020 = 1, 2, 4, 5, 6, 7, 9
LUMA = {  # Kr, Kb
    BT709: (0.2126, 0.0722),
    FCC: (0.30, 0.11),
    BT470BG: (0.299, 0.114),
    SMPTE170M: (0.299, 0.114),
    SMPTE240M: (0.212, 0.087),
    BT2020: (0.2627, 0.0593),
    UNSPECIFIED: (0.299, 0.114),
}
FILTER_NAMES = {
    BT709: "bt709",
    FCC: "fcc",
    BT470BG: "bt470bg",
    SMPTE170M: "smpte170m",
    SMPTE240M: "smpte240m",
    BT2020: "bt2020nc",
    UNSPECIFIED: "unknown",
}
LIMITED, FULL = 1, 2
PQ, HLG = 16, 18
BLOCK = 32


def put(plane: Any, values: np.ndarray, bits: int) -> None:
    kind = np.dtype("u1" if bits <= 8 else "<u2")
    rows = np.zeros((plane.height, plane.line_size // kind.itemsize), kind)
    rows[:, : values.shape[1]] = values
    plane.update(rows.tobytes())


def spread(blocks: np.ndarray, height: int, width: int, step: tuple[int, int]) -> np.ndarray:
    return np.kron(blocks, np.ones(step, int))[:height, :width]


def flat_frame(pix_fmt: str, matrix: int, color_range: int, *, seed: int = 0) -> tuple[av.VideoFrame, np.ndarray]:
    """Make a frame of one-coloured blocks; return it with the code of each block (rows, columns, 3)."""
    rows, columns = 3, 4
    frame = av.VideoFrame(columns * BLOCK, rows * BLOCK, pix_fmt)
    bits = frame.format.components[0].bits
    unit = 2 ** (bits - 8)
    draw = np.random.default_rng([seed, matrix, color_range])
    floor, top = (0, 256 * unit - 1) if color_range == FULL else (16 * unit, 235 * unit)
    luma = draw.integers(floor, top + 1, (rows, columns))
    codes = [luma, *(128 * unit + draw.integers(-70 * unit, 70 * unit, (rows, columns)) for _ in "uv")]
    for plane, blocks in zip(frame.planes, codes, strict=False):
        step = (BLOCK * plane.height // frame.height, BLOCK * plane.width // frame.width)
        put(plane, spread(blocks, plane.height, plane.width, step), bits)
    frame.colorspace, frame.color_range = matrix, color_range
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    return frame, np.stack(codes, -1)


def middles(image: np.ndarray) -> np.ndarray:
    return image[BLOCK // 2 :: BLOCK, BLOCK // 2 :: BLOCK]


def signal(codes: np.ndarray, bits: int, matrix: int, color_range: int) -> np.ndarray:
    """Compute R'G'B' in [0, 1] as ITU-T H.273 defines it."""
    kr, kb = LUMA[matrix]
    if color_range == FULL:
        y, u, v = np.moveaxis((codes - [0, 2 ** (bits - 1), 2 ** (bits - 1)]) / (2**bits - 1), -1, 0)
    else:
        y, u, v = np.moveaxis((codes / 2 ** (bits - 8) - [16, 128, 128]) / [219, 224, 224], -1, 0)
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    return np.clip(np.stack([red, (y - kr * red - kb * blue) / (1 - kr - kb), blue], -1), 0, 1)


def filtered(frame: av.VideoFrame, scale: str) -> np.ndarray:
    """Convert a frame with FFmpeg's filters."""
    graph = Graph()
    names = (
        f"colorspace={FILTER_NAMES.get(frame.colorspace, 'unknown')}:range={('unknown', 'tv', 'pc')[frame.color_range]}"
    )
    size = f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/25"
    chain = [
        graph.add("buffer", f"{size}:{names}"),
        graph.add("scale", scale),
        graph.add("format", "rgb24"),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*chain).configure()
    graph.vpush(frame)
    return graph.vpull().to_ndarray()


def max_difference(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(float) - b).max())


def write(
    path: Path, codec: str, frames: Iterable[av.VideoFrame], *, options: dict[str, str] | None = None, **set_: Any
) -> Path:
    with av.open(str(path), "w") as out:
        stream = None
        for i, frame in enumerate(frames):
            if stream is None:
                stream = out.add_stream(codec, rate=25, options=options or {})
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
                for name, value in set_.items():
                    setattr(stream.codec_context, name, value)
            frame.pts, frame.time_base = i, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


# -- YCbCr -----------------------------------------------------------------------------------------------------------

TOLERANCES = {  # how far FFmpeg itself may be from the formulas
    "yuv444p": 1.0,
    "yuv444p10le": 1.5,
    "yuv444p12le": 1.5,
    "yuv444p16le": 1.5,
    "yuv420p": 3.0,
    "yuv422p": 3.0,
    "yuv411p": 3.5,
    "yuv420p10le": 4.0,
    "yuv422p10le": 4.0,
    "yuv420p12le": 4.0,
    "yuv420p16le": 4.0,
}


@pytest.mark.parametrize("color_range", [LIMITED, FULL])
@pytest.mark.parametrize("matrix", LUMA)
def test_ycbcr_matches_ffmpeg_and_the_standards(matrix: int, color_range: int) -> None:
    convert = RGBConverter()
    for seed, (pix_fmt, allowed) in enumerate(TOLERANCES.items()):
        frame, codes = flat_frame(pix_fmt, matrix, color_range, seed=seed)
        got = convert(frame)
        bits = frame.format.components[0].bits
        assert max_difference(middles(got), signal(codes, bits, matrix, color_range) * 255) <= allowed, pix_fmt
        named = {} if matrix == UNSPECIFIED else {"in_color_matrix": FILTER_NAMES[matrix]}
        scale = {"flags": "bilinear", "in_range": "pc" if color_range == FULL else "tv", "out_range": "pc", **named}
        assert max_difference(got, filtered(frame, ":".join(f"{k}={v}" for k, v in scale.items()))) <= 1, pix_fmt
        assert (frame.colorspace, frame.color_range) == (matrix, color_range)
    assert convert.notes == ()


def test_matrices_and_ranges_differ() -> None:
    frame, _ = flat_frame("yuv420p", BT709, LIMITED)
    pictures = []
    for matrix in (BT709, SMPTE170M, BT2020):
        for color_range in (LIMITED, FULL):
            frame.colorspace, frame.color_range = matrix, color_range
            pictures.append(RGBConverter()(frame))
    for i, converted in enumerate(pictures):
        assert all(max_difference(converted, other) > 4 for other in pictures[:i])


@pytest.mark.parametrize(
    "pix_fmt", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "nv12", "yuyv422", "yuv420p10le", "p010le"]
)
@pytest.mark.parametrize("size", [(96, 64), (97, 63)])
def test_frames_equal_those_of_pyav(pix_fmt: str, size: tuple[int, int]) -> None:
    frame = av.VideoFrame.from_ndarray(picture(3, *size)).reformat(format=pix_fmt)
    convert = RGBConverter()
    for matrix in (UNSPECIFIED, BT709, BT2020):
        frame.colorspace = matrix
        got = convert(frame)
        assert got.flags.c_contiguous
        assert got.shape == (size[1], size[0], 3)
        assert np.array_equal(got, frame.to_ndarray(format="rgb24"))


def test_tags_may_change_from_frame_to_frame() -> None:
    convert = RGBConverter()
    frames = [
        flat_frame(pix_fmt, matrix, color_range)[0]
        for pix_fmt in ("yuv420p", "yuv444p10le", "yuv420p")
        for matrix, color_range in ((BT709, LIMITED), (SMPTE170M, FULL), (BT709, LIMITED))
    ]
    for frame in frames:
        assert np.array_equal(convert(frame), RGBConverter()(frame))


def test_unknown_matrices_are_read_as_the_nearest() -> None:
    frame, _ = flat_frame("yuv420p", BT2020, LIMITED)
    expected = RGBConverter()(frame)
    for matrix, name in ((10, "constant luminance"), (14, "ICtCp")):
        frame.colorspace = matrix
        convert = RGBConverter()
        assert np.array_equal(convert(frame), expected)
        assert len(convert.notes) == 1
        assert name in convert.notes[0]
        assert frame.colorspace == matrix
    for matrix in (3, 8, 11, 15, 200):
        frame.colorspace = matrix
        convert = RGBConverter()
        convert(frame)
        assert "is not supported and read as BT.601" in convert.notes[0]
    frame.colorspace, frame.color_range = BT2020, 3
    assert np.array_equal(RGBConverter()(frame), expected)


@pytest.mark.parametrize("pix_fmt", ["gray32le", "yaf32le", "rgbaf32le"])
def test_unknown_pixel_formats_are_an_error(pix_fmt: str) -> None:
    with pytest.raises(VideoError, match=rf"^odd\.mkv: its pixel format {pix_fmt} is not supported"):
        RGBConverter(name="odd.mkv")(av.VideoFrame(32, 16, pix_fmt))


# -- RGB, grey, transparency -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pix_fmt", ["rgb24", "bgr24", "gbrp", "gbrp10le", "gbrp12le", "gbrp16le", "rgb48le", "bgr48le"]
)
def test_rgb_is_unchanged(pix_fmt: str) -> None:
    rgb = picture(5, 97, 63)
    bits = int("".join(filter(str.isdigit, pix_fmt.replace("24", "8").replace("48", "16"))) or 8)
    codes = np.rint(rgb / 255 * (2**bits - 1)).astype(np.uint16 if bits > 8 else np.uint8)
    stored = codes[..., ::-1].copy() if pix_fmt.startswith("bgr") else codes
    for color_range in (0, LIMITED, FULL):
        frame = av.VideoFrame.from_ndarray(stored, format=pix_fmt)
        frame.color_range = color_range
        assert max_difference(RGBConverter()(frame), rgb) <= (1 if bits > 8 else 0)


@pytest.mark.parametrize("pix_fmt", ["gray", "gray10le", "gray12le", "gray16le"])
def test_grey_is_full_range_unless_stated(pix_fmt: str) -> None:
    frame = av.VideoFrame(256, 2, pix_fmt)
    bits = frame.format.components[0].bits
    codes = np.tile(np.linspace(0, 2**bits - 1, 256).round().astype(int), (2, 1))
    put(frame.planes[0], codes, bits)
    for color_range in (0, FULL):
        frame.color_range = color_range
        got = RGBConverter()(frame)
        assert (got == got[..., :1]).all()
        assert max_difference(got[..., 0], codes / (2**bits - 1) * 255) <= 1.5
    frame.color_range = LIMITED
    got = RGBConverter()(frame)
    assert (got == got[..., :1]).all()
    assert max_difference(got[..., 0], np.clip((codes / 2 ** (bits - 8) - 16) / 219, 0, 1) * 255) <= 1


@pytest.mark.parametrize(
    "pix_fmt", ["yuva420p", "yuva444p10le", "rgba", "argb", "gbrap", "gbrap10le", "ya8", "rgba64le"]
)
@pytest.mark.parametrize("opaque", [False, True])
def test_transparency_is_shown_on_white(pix_fmt: str, opaque: bool) -> None:
    rgb = np.full((64, 256, 3), (90, 90, 90) if pix_fmt == "ya8" else (200, 40, 120), np.uint8)
    alpha = np.full((64, 256), 255) if opaque else np.tile(np.arange(256), (64, 1))
    rgba = np.dstack([rgb, alpha]).astype(np.uint8)
    if pix_fmt == "ya8":
        frame = av.VideoFrame(256, 64, pix_fmt)
        put(frame.planes[0], rgba[..., 2:].reshape(64, 512), 8)
    else:
        frame = av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format=pix_fmt)
    convert = RGBConverter()
    expected = rgb * (alpha / 255)[..., None] + 255 * (1 - alpha / 255)[..., None]
    assert max_difference(convert(frame), expected) <= (4 if pix_fmt.startswith("yuv") else 2)
    assert convert.notes == (() if opaque else ("transparent parts are shown on white",))


def test_a_palette_may_be_transparent() -> None:
    frame = av.VideoFrame(16, 2, "pal8")
    put(frame.planes[0], np.tile([0, 1, 2, 3], (2, 4)), 8)
    colours = [0xFF102030, 0x00102030, 0x80FF0000, 0xFFFFFFFF]
    frame.planes[1].update(struct.pack("=256I", *(colours + [0xFF000000] * 252)))
    convert = RGBConverter()
    assert convert(frame)[0, :4].tolist() == [[16, 32, 48], [255, 255, 255], [255, 127, 127], [255, 255, 255]]
    assert convert.notes == ("transparent parts are shown on white",)


# -- HDR -------------------------------------------------------------------------------------------------------------


def pq_nits(code: np.ndarray) -> np.ndarray:
    """Follow SMPTE ST 2084, as in BT.2100 table 4."""
    root = code ** (32 / 2523)
    return 10000 * (np.maximum(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)) ** (8192 / 1305)


def pq_code(nits: np.ndarray) -> np.ndarray:
    power = (nits / 10000) ** (1305 / 8192)
    return ((107 / 128 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def hlg_nits(code: np.ndarray) -> np.ndarray:
    """Follow BT.2100 table 5, for a display of 1000 cd/m²."""
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593])
    return 1000 * luminance[..., None] ** 0.2 * scene


def shown_in_sdr(nits: np.ndarray) -> np.ndarray:
    """Apply BT.2390's EETF from 1000 to 203 cd/m² to the greatest component, BT.2087's matrix, BT.1886's inverse."""
    most = np.maximum(nits.max(-1, keepdims=True), 1e-6)
    e = np.minimum(pq_code(most) / pq_code(1000), 1)
    top = pq_code(203) / pq_code(1000)
    ks = 1.5 * top - 0.5
    t = (e - ks) / (1 - ks)
    curve = (2 * t**3 - 3 * t**2 + 1) * ks + (t**3 - 2 * t**2 + t) * (1 - ks) + (-2 * t**3 + 3 * t**2) * top
    mapped = np.where(e < ks, most, pq_nits(np.where(e < ks, e, curve) * pq_code(1000)))
    light = nits / most * mapped / 203
    # the primaries of BT.2020 and BT.709 and their white, in CIE x, y
    matrices = []
    for corners in (((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)), ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))):
        columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in corners]).T
        white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
        matrices.append(columns * np.linalg.solve(columns, white))
    to_709 = np.linalg.inv(matrices[1]) @ matrices[0]
    return np.clip(light @ to_709.T, 0, 1) ** (1 / 2.4) * 255


def tagged(frame: av.VideoFrame, transfer: int, primaries: int = BT2020) -> av.VideoFrame:
    frame.color_trc, frame.color_primaries = transfer, primaries
    return frame


@pytest.mark.parametrize("transfer", [PQ, HLG])
@pytest.mark.parametrize("pix_fmt", ["yuv444p10le", "yuv420p10le", "yuv420p12le", "yuv422p10le"])
def test_hdr_colours_match_the_formulas(transfer: int, pix_fmt: str) -> None:
    for seed in range(6):
        frame, codes = flat_frame(pix_fmt, BT2020, LIMITED, seed=seed)
        convert = RGBConverter()
        got = middles(convert(tagged(frame, transfer)))
        code = signal(codes, frame.format.components[0].bits, BT2020, LIMITED)
        expected = shown_in_sdr(pq_nits(code) if transfer == PQ else hlg_nits(code))
        assert max_difference(got, expected) <= 1
        name = "PQ" if transfer == PQ else "HLG"
        assert convert.notes == (f"HDR ({name}, BT.2020) is tone-mapped to SDR BT.709",)


@pytest.mark.parametrize("transfer", [PQ, HLG])
@pytest.mark.parametrize("matrix", [BT2020, UNSPECIFIED])
def test_hdr_greys_stay_grey_and_in_order(transfer: int, matrix: int) -> None:
    frame = av.VideoFrame(877, 16, "yuv420p10le")
    put(frame.planes[0], np.tile(np.arange(64, 941), (16, 1)), 10)
    for plane in frame.planes[1:]:
        put(plane, np.full((plane.height, plane.width), 512), 10)
    frame.colorspace, frame.color_range = matrix, LIMITED
    row = RGBConverter()(tagged(frame, transfer))[8].astype(int)
    assert np.ptp(row, axis=1).max() <= 1
    assert (np.diff(row[:, 1]) >= 0).all()
    assert (row[0].max(), row[-1].min()) == (0, 255)
    code = (np.arange(877) / 876)[:, None] * np.ones(3)
    nits = pq_nits(code) if transfer == PQ else hlg_nits(code)
    assert max_difference(row, shown_in_sdr(nits)) <= 1
    at = {level: int(row[np.abs(nits[:, 0] - level).argmin(), 1]) for level in (1, 100, 203, 400, 600)}
    assert 20 < at[1] < 40
    assert 175 < at[100] < 200
    assert 220 < at[203] < 240
    assert at[203] < at[400] < at[600] < 255


@pytest.mark.parametrize(("pix_fmt", "transfer"), [("yuv420p10le", PQ), ("gray10le", 1), ("yuv420p", 1)])
def test_every_call_gives_the_same_picture(pix_fmt: str, transfer: int) -> None:
    frame = av.VideoFrame(1926, 1022, pix_fmt)  # swscale's threads get unequal slices
    noise = np.random.default_rng(0)
    for plane in frame.planes:
        plane.update(noise.integers(0, 1024, plane.buffer_size // 2, dtype=np.uint16).tobytes())
    frame.color_range = LIMITED
    pictures = []
    for _ in range(6):
        noise.integers(0, 256, 8_000_000, dtype=np.uint8)  # puts other values into freed memory
        pictures.append(RGBConverter()(tagged(frame, transfer)))
    assert all(np.array_equal(picture, pictures[0]) for picture in pictures)


def test_hdr_is_the_same_with_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = av.VideoFrame(1030, 1022, "yuv420p10le")  # padded rows, and a narrower last band
    noise = np.random.default_rng(0)
    for plane in frame.planes:
        plane.update(noise.integers(0, 1024, plane.buffer_size // 2, dtype=np.uint16).tobytes())
    pictures = []
    for cores in (1, 3):
        monkeypatch.setattr(tone_mapping, "num_cores", lambda cores=cores: cores)
        pictures.append(RGBConverter()(tagged(frame, PQ)))
    monkeypatch.setattr(tone_mapping, "_PIXELS_FOR_THREADS", 1 << 30)
    pictures.append(RGBConverter()(tagged(frame, PQ)))
    assert pictures[0].shape == (1022, 1030, 3)
    assert pictures[0].std() > 10
    assert all(np.array_equal(picture, pictures[0]) for picture in pictures)


def test_hdr_in_other_primaries_and_in_rgb() -> None:
    codes = np.full((8, 8, 3), (40000, 30000, 20000), np.uint16)
    for primaries, name in ((BT709, "BT.709"), (12, "Display P3"), (BT2020, "BT.2020"), (UNSPECIFIED, "BT.2020")):
        frame = tagged(av.VideoFrame.from_ndarray(codes, format="rgb48le"), PQ, primaries)
        convert = RGBConverter()
        red, green, blue = convert(frame)[0, 0].tolist()
        assert red > green > blue
        assert convert.notes == (f"HDR (PQ, {name}) is tone-mapped to SDR BT.709",)


def test_wide_gamut_in_sdr_is_noted() -> None:
    frame, _ = flat_frame("yuv420p10le", BT2020, LIMITED)
    convert = RGBConverter()
    convert(tagged(frame, 14))
    convert(frame)
    assert convert.notes == ("wide gamut (BT.2020): colours are left as stored",)


# -- how the picture is turned, its size, its pixels -----------------------------------------------------------------


@pytest.fixture(scope="module")
def upright(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = (av.VideoFrame.from_ndarray(picture(i)).reformat(format="yuv420p") for i in range(2))
    return write(tmp_path_factory.mktemp("turned") / "upright.mp4", "libx264", frames)


def with_matrix(source: Path, path: Path, a: float, b: float, c: float, d: float) -> Path:
    data = bytearray(source.read_bytes())
    assert data.count(b"tkhd") == 1
    at = data.index(b"tkhd") + 44
    assert data[at : at + 36] == struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    fixed = [round(v * 65536) for v in (a, b, c, d)]
    data[at : at + 36] = struct.pack(">9i", *fixed[:2], 0, *fixed[2:], 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def moved(stored: np.ndarray, a: int, b: int, c: int, d: int) -> np.ndarray:
    """Put each pixel where ISO/IEC 14496-12 says: (p, q, 1) = (x, y, 1) · ((a, b, u), (c, d, v), (x, y, w))."""
    y, x = np.mgrid[: stored.shape[0], : stored.shape[1]]
    p, q = a * x + c * y, b * x + d * y
    p, q = p - p.min(), q - q.min()
    shown = np.zeros((q.max() + 1, p.max() + 1, 3), np.uint8)
    shown[q, p] = stored
    return shown


QUARTERS = [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)] + [(0, b, c, 0) for b in (1, -1) for c in (1, -1)]


@pytest.mark.parametrize("matrix", QUARTERS)
def test_pictures_are_turned_and_mirrored_as_the_file_says(
    matrix: tuple[int, int, int, int], upright: Path, tmp_path: Path
) -> None:
    with av.open(str(upright)) as container:
        stored = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    path = with_matrix(upright, tmp_path / "turned.mp4", *matrix)
    with VideoReader(path) as reader:
        assert (reader.height, reader.width) == ((96, 64) if matrix[1] else (64, 96))
        got = reader.get_frames([0, 1]).frames_THWC.numpy()
    for frame, stored_frame in zip(got, stored, strict=True):
        assert np.array_equal(frame, moved(stored_frame, *matrix))
    assert reader.notes == ()


def test_other_angles_are_noted_but_not_followed(upright: Path, tmp_path: Path) -> None:
    with VideoReader(upright) as reader:
        expected = reader.get_frames([0]).frames_THWC
    path = with_matrix(upright, tmp_path / "tilted.mp4", 0.866, 0.5, -0.5, 0.866)
    with VideoReader(path) as reader:
        assert (reader.get_frames([0]).frames_THWC == expected).all()
    assert reader.notes == ("its rotation is not a multiple of 90°: frames are left as stored",)
    path = with_matrix(upright, tmp_path / "stretched.mp4", 1.5, 0, 0, 0.75)
    with VideoReader(path) as reader:
        assert (reader.get_frames([0]).frames_THWC == expected).all()
    assert reader.notes == ("pixels are not square (2:1): frames are left as stored, not stretched",)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_display_matrix_beside_unknown_side_data(orientation: int) -> None:
    """PyAV doesn't know Exif side data of Motion JPEG; FFmpeg turns its orientation into a display matrix too."""
    data, exif = io.BytesIO(), Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(picture(1)).save(data, "JPEG", exif=exif)
    decoder = av.CodecContext.create("mjpeg", "r")
    (frame,) = decoder.decode(av.Packet(data.getvalue())) + decoder.decode(None)
    got = RGBConverter()(frame)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(data)))
    assert got.shape == expected.shape
    assert np.abs(got.astype(int) - expected).mean() < 10  # Pillow scales chroma differently


def smooth(i: int, width: int, height: int) -> np.ndarray:
    """Make a picture for which the exact chroma position, where FFmpeg's filters differ, doesn't matter."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    return np.stack([250 * x, 200 * y + 5 * i, 220 - 150 * x], -1).astype(np.uint8)


def resized(path: Path, codec: str) -> list[np.ndarray]:
    """Write a video of 5 frames of 96×64 and then 5 of 128×96; return the frames as stored."""
    stored, packets = [], []
    for size in ((96, 64), (128, 96)):
        encoder = av.CodecContext.create(codec, "w")
        (encoder.width, encoder.height), encoder.pix_fmt, encoder.time_base = size, "yuv420p", Fraction(1, 25)
        encoder.options = {"preset": "ultrafast"} if codec == "libx264" else {"cpu-used": "8", "deadline": "realtime"}
        frames = [av.VideoFrame.from_ndarray(smooth(i, *size)).reformat(format="yuv420p") for i in range(5)]
        for i, frame in enumerate(frames):
            frame.pts = i
        packets += [p for frame in [*frames, None] for p in encoder.encode(frame)]
    if path.suffix == ".h264":
        path.write_bytes(b"".join(bytes(p) for p in packets))
    else:
        with av.open(str(path), "w") as out:
            stream = out.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            for i, packet in enumerate(packets):
                copy = av.Packet(bytes(packet))
                copy.pts = copy.dts = i * 40
                copy.time_base, copy.stream, copy.is_keyframe = Fraction(1, 1000), stream, packet.is_keyframe
                out.mux(copy)
    with av.open(str(path)) as container:
        for i, frame in enumerate(container.decode(video=0)):
            frame.pts, frame.time_base = i, Fraction(1, 25)
            is_first_size = (frame.width, frame.height) == (96, 64)
            plain = frame.to_ndarray(format="rgb24").copy()
            stored.append(plain if is_first_size else filtered(frame, "96:64:flags=bicubic"))
    return stored


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.h264", "libx264"), ("a.ts", "libx264"), ("a.webm", "libvpx-vp9"), ("b.webm", "libvpx")],
)
def test_frames_of_another_size_are_scaled_to_the_first(name: str, codec: str, tmp_path: Path) -> None:
    expected = resized(tmp_path / name, codec)
    for header_is_wrong in (False, True):
        for indices in ([9], [7, 2, 0], list(range(10))):
            with VideoReader(tmp_path / name) as reader:
                if header_is_wrong:  # some files state their cropping only with their frames
                    reader._footage.coded.first_size = (100, 80)
                got = reader.get_frames(indices).frames_THWC.numpy()
                assert (reader.height, reader.width) == (64, 96)
            for frame, i in zip(got, indices, strict=True):
                assert max_difference(frame, expected[i]) <= 3
            assert reader.notes == ("frames differ in size: all are scaled to the size of the first",)


def test_pixels_that_are_not_square_are_noted(tmp_path: Path) -> None:
    frames = (av.VideoFrame.from_ndarray(picture(i)).reformat(format="yuv420p") for i in range(2))
    path = write(tmp_path / "wide.mp4", "libx264", frames, sample_aspect_ratio=Fraction(64, 45))
    with VideoReader(path) as reader:
        assert (reader.height, reader.width) == (64, 96)
    assert reader.notes == ("pixels are not square (64:45): frames are left as stored, not stretched",)


def test_interlaced_frames_are_noted(tmp_path: Path) -> None:
    frames = (av.VideoFrame.from_ndarray(picture(i)).reformat(format="yuv420p") for i in range(3))
    path = write(tmp_path / "fields.mkv", "libx264", frames, options={"x264-params": "interlaced=1"})
    with VideoReader(path) as reader:
        reader.get_frames([0, 1, 2])
    assert reader.notes == ("interlaced: both fields of a frame are shown together",)


# -- whole files -----------------------------------------------------------------------------------------------------


def test_colours_of_files(tmp_path: Path) -> None:
    for codec, path, pix_fmt in (
        ("ffv1", tmp_path / "a.mkv", "yuv420p10le"),
        ("libvpx-vp9", tmp_path / "a.webm", "yuv444p"),
        ("libx264", tmp_path / "a.mp4", "yuv420p"),
    ):
        for color_range in (LIMITED, FULL):
            frame, codes = flat_frame(pix_fmt, BT709, color_range)
            lossless = {"libvpx-vp9": {"lossless": "1"}, "libx264": {"qp": "0"}}.get(codec)
            tags = {"colorspace": BT709, "color_range": color_range}
            write(path, codec, [frame], options=lossless, **tags)
            with VideoReader(path) as reader:
                got = reader.get_frames([0]).frames_THWC[0].numpy()
            bits = frame.format.components[0].bits
            assert max_difference(middles(got), signal(codes, bits, BT709, color_range) * 255) <= TOLERANCES[pix_fmt], (
                path
            )


def test_transparent_images_are_noted(tmp_path: Path) -> None:
    for alpha, notes in ((255, ()), (100, ("transparent parts are shown on white",))):
        Image.new("RGBA", (8, 6), (0, 0, 200, alpha)).save(tmp_path / "a.png")
        for source in (tmp_path / "a.png", tmp_path):
            with VideoReader(source) as reader:
                got = reader.get_frames([0]).frames_THWC[0, 0, 0].tolist()
            assert reader.notes == notes
            assert got == [255 - alpha, 255 - alpha, 255 - round(55 * alpha / 255)]


def test_prores_4444_is_shown_on_white(tmp_path: Path) -> None:
    rgba = np.full((64, 96, 4), (250, 30, 60, 255), np.uint8)
    rgba[:, 48:, 3] = 0
    frame = av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format="yuva444p10le")
    path = write(tmp_path / "logo.mov", "prores_ks", [frame], options={"profile": "4444"})
    with VideoReader(path) as reader:
        got = reader.get_frames([0]).frames_THWC[0].numpy()
    assert max_difference(got[:, :40], rgba[:, :40, :3]) <= 6
    assert (got[:, 56:] == 255).all()
    assert reader.notes == ("transparent parts are shown on white",)


def test_hevc_in_pq_is_tone_mapped(tmp_path: Path) -> None:
    frame = av.VideoFrame(128, 64, "yuv420p10le")
    levels = np.array([1.0, 100.0, 203.0, 600.0])
    put(frame.planes[0], np.tile(np.repeat(np.rint(64 + 876 * pq_code(levels)).astype(int), 32), (64, 1)), 10)
    for plane in frame.planes[1:]:
        put(plane, np.full((plane.height, plane.width), 512), 10)
    tags = {"colorspace": BT2020, "color_trc": PQ, "color_primaries": BT2020, "color_range": LIMITED}
    options = {"x265-params": "log-level=none:pools=1:lossless=1:bframes=0"}
    path = write(tmp_path / "hdr.mp4", "libx265", [frame], options=options, **tags)
    with VideoReader(path) as reader:
        got = reader.get_frames([0]).frames_THWC[0].numpy()
    assert max_difference(got[32, 16::32], shown_in_sdr(levels[:, None] * np.ones(3))) <= 1.5
    assert reader.notes == ("HDR (PQ, BT.2020) is tone-mapped to SDR BT.709",)
