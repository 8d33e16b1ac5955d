"""A table of all refusals: each with an input that causes it, and the complete message.

The messages are also collected from the source code; a message that no row of the table causes is a failure.
"""

from __future__ import annotations

import ast
import io
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from made_heif import box, still
from made_videos import encode, picture
from PIL import Image
from test_encryption import common, scrambled
from test_errors import audio_file
from test_tracks import tracks
from test_truncation import with_number

import openxclip.video
from openxclip.errors import VideoError
from openxclip.video import ClipPlan, Limits, ReadOptions, VideoReader, read_clip
from openxclip.video.colour import RGBConverter
from openxclip.video.reading import read_planned

Patch = pytest.MonkeyPatch
Cause = Callable[[Path, Patch], object]
AGAIN = "Copy, download or record it again"


def film(folder: Path, suffix: str = "mp4", codec: str = "mpeg4", **options: Any) -> bytes:
    return encode(folder / f"film.{suffix}", codec, **{"count": 10, "gop": 5, **options}).read_bytes()


def fast_start(folder: Path) -> bytes:
    return film(folder, muxer={"movflags": "faststart"})


def opening(make: Callable[[Path], bytes], **options: Any) -> Cause:
    return lambda folder, patch: VideoReader(make(folder), read=ReadOptions(**options))


def replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new)


class Failing(io.BytesIO):
    """A file on a disk that fails after `after` bytes."""

    def __init__(self, data: bytes, after: int) -> None:
        super().__init__(data)
        self.after = after

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= self.after:
            raise OSError(5, "Input/output error")
        return super().read(size)


def failing(folder: Path, after: int) -> VideoReader:
    data = film(folder, "mkv", count=50, size=(320, 240))
    reader = VideoReader(Failing(data, after))
    reader.get_frames([reader.num_frames - 1])
    return reader


def array(data: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, data)
    return file.getvalue()


def image(kind: str, size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(0, *size)).save(file, kind, **options)
    return file.getvalue()


def folder_with(folder: Path, *files: tuple[str, bytes]) -> Path:
    (folder / "frames").mkdir()
    for name, data in files:
        (folder / "frames" / name).write_bytes(data)
    return folder / "frames"


def read_all(source: Any, **options: Any) -> None:
    with VideoReader(source, read=ReadOptions(**options)) as reader:
        reader.get_frames(range(reader.num_frames))


def damaged(folder: Path, number: int) -> bytes:
    """Make an all-intra film with one packet of zeros."""
    data = bytearray(film(folder, gop=1))
    with av.open(str(folder / "film.mp4")) as container:
        packet = bytes([p for p in container.demux(video=0) if p.size][number])
    at = data.index(packet)
    data[at : at + len(packet)] = bytes(len(packet))
    return bytes(data)


def without_pictures(folder: Path) -> bytes:
    """Make an AV1 film whose last packet is only padding, which decoders accept silently."""
    data = bytearray(film(folder, codec="libsvtav1", gop=20, options={"preset": "12", "svtav1-params": "lp=1"}))
    with av.open(str(folder / "film.mp4")) as container:
        packet = bytes([p for p in container.demux(video=0) if p.size][-1])
    at, length = data.index(packet), len(packet) - 3
    padding = b"\x7a" + bytes([length & 0x7F | 0x80, length >> 7]) + b"\1" * (length - 1) + b"\x80"
    data[at : at + len(packet)] = padding
    return bytes(data)


def fragments(folder: Path) -> bytes:
    data = film(folder, muxer={"movflags": "frag_keyframe+empty_moov+default_base_moof"})
    return data[data.index(b"moof") - 4 :]


def with_broken_index(folder: Path) -> bytes:
    data = bytearray(film(folder))
    at = data.index(b"stsd")
    data[at + 8 : at + 12] = b"\xff" * 4  # how many sample entries there are
    return bytes(data)


def slow(folder: Path, patch: Patch) -> None:
    os.mkfifo(folder / "pipe")
    VideoReader(folder / "pipe", read=ReadOptions(limits=Limits(seconds=0.05)))


def odd_pixels(folder: Path, patch: Patch) -> None:
    RGBConverter()(av.VideoFrame(16, 16, "yaf32le"))


def not_permitted(folder: Path, patch: Patch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = encode(folder / "film.mp4", "mpeg4", count=2)
    patch.setattr(Path, "open", refuse)
    VideoReader(path)


def decompression_bomb(folder: Path, patch: Patch) -> None:
    patch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    VideoReader(image("PNG"))


def unforeseen(folder: Path, patch: Patch) -> None:
    def fail(*args: object) -> None:
        raise KeyError("frame")

    patch.setattr(RGBConverter, "__call__", fail)
    read_all(film(folder))


def closed(folder: Path, patch: Patch) -> None:
    reader = VideoReader(film(folder))
    reader.close()
    reader.get_frames([0])


def shortened(folder: Path, patch: Patch) -> None:
    """Read an animated image whose later frames have vanished, as when the file is overwritten meanwhile."""

    def seek(self: object, frame: int) -> None:
        raise EOFError

    pictures = [Image.fromarray(picture(i)) for i in range(4)]
    pictures[0].save(folder / "animated.webp", save_all=True, append_images=pictures[1:])
    with VideoReader(folder / "animated.webp") as reader:
        patch.setattr("PIL.WebPImagePlugin.WebPImageFile.seek", seek)
        reader.get_frames([3])


def write(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def linked(folder: Path, patch: Patch) -> None:
    (folder / "link.mp4").symlink_to("/nowhere/a.mp4")
    VideoReader(folder / "link.mp4")


def empty_folder(folder: Path, patch: Patch) -> None:
    (folder / "empty").mkdir()
    VideoReader(folder / "empty")


def cut(make: Callable[[Path], bytes], share: float) -> Callable[[Path], bytes]:
    def part(folder: Path) -> bytes:
        data = make(folder)
        return data[: int(len(data) * share)]

    return part


def cut_in_index(folder: Path) -> bytes:
    data = film(folder)
    at = data.index(b"moov")
    return data[: at + (len(data) - at) // 2]


def flv(folder: Path, *, size: bool) -> bytes:
    data = film(folder, "flv", "flv", count=40)
    return with_number(data, b"filesize" if not size else b"duration", 0)[: len(data) * 6 // 10]


def one_tag_less(folder: Path) -> bytes:
    """Make an FLV that ends with a complete tag, before the size that its header states."""
    data = film(folder, "flv", "flv", count=40)
    at, ends = 13, []
    while at < len(data):
        at += 11 + int.from_bytes(data[at + 1 : at + 4], "big") + 4
        ends.append(at)
    return data[: ends[len(ends) // 2]]


TABLE: dict[str, tuple[Cause, str]] = {
    # names
    "no file": (lambda f, p: VideoReader(f / "none.mp4"), "there is no such file: check the path"),
    "link": (linked, "it is a link to /nowhere/a.mp4, where there is nothing: check the link"),
    "address": (
        lambda f, p: VideoReader("https://example.org/a.mp4"),
        "it is an address, which isn't opened without permission: download it first, or allow it with "
        'allow_protocols=["https", …] or --allow-protocols https,…',
    ),
    "address that nobody serves": (
        lambda f, p: VideoReader("http://127.0.0.1:9/a.mp4", read=ReadOptions(allow_protocols=("http", "tcp"))),
        "it cannot be opened: Connection refused",
    ),
    "not permitted": (not_permitted, "reading it is not permitted: check who may read the file and its folder"),
    "device": (
        lambda f, p: VideoReader(os.devnull),
        "it is neither a file nor a folder but a device: give a file, or a pipe",
    ),
    "empty file": (opening(lambda f: b""), "it is empty: copy, download or record it again"),
    "empty folder": (empty_folder, r"it contains no videos, and no images that could be frames \(\..*\)"),
    "name with NUL": (lambda f, p: VideoReader("a\0b"), "it cannot be read: embedded null byte"),
    # files that are no videos
    "noise": (
        opening(lambda f: bytes(range(256)) * 40),
        "it is not a video, or its beginning is damaged or encrypted: no known format was recognised. Check the file, "
        "or copy it again",
    ),
    "subtitles": (
        lambda f, p: VideoReader(write(f, "a.srt", b"1\n00:00:00,000 --> 00:00:01,000\nHello\n\n" * 9)),
        "it is not a video but another kind of file (a script, text, subtitles, or an unsupported sound or image "
        "format): convert it, e.g. to MP4",
    ),
    "playlist": (
        opening(lambda f: b"#EXTM3U\n#EXTINF:2,\na.ts\n"),
        "it is a playlist, which only names other files: give those files instead, or allow it to open them with "
        "allow_protocols=… or --allow-protocols",
    ),
    "sound": (
        lambda f, p: VideoReader(audio_file(f / "a.mp4", "aac")),
        "it has sound but no picture: give a file with a video track",
    ),
    "no track at all": (
        opening(lambda f: replaced(film(f, "mkv"), b"\x83\x81\1", b"\x83\x81\x11")),  # track type: subtitles
        "it has no video track: give a file with one",
    ),
    "no such track": (
        lambda f, p: VideoReader(tracks(f / "film.mkv", (1, 0)), read=ReadOptions(track=4)),
        "it has 2 video tracks, 0 to 1: there is no track 4",
    ),
    "track of a picture": (
        opening(lambda f: image("PNG"), track=1),
        "it is not a file with tracks: there is no track 1",
    ),
    "unknown codec": (
        opening(lambda f: replaced(film(f, codec="libx264"), b"avc1", b"zz9v")),
        "its video is coded in a way that this FFmpeg cannot decode: convert it, e.g. to H.264",
    ),
    "unknown pixels": (odd_pixels, "its pixel format yaf32le is not supported: convert it, e.g. to H.264"),
    "tiles": (
        opening(lambda f: replaced(still(tiles=(1, 2)), b"grid", b"iovl")),
        "it is a picture of 2 tiles, which openxclip can't join: convert it, e.g. to JPEG",
    ),
    "tiles that are missing": (
        lambda f, p: read_all(replaced(still(tiles=(1, 2)), b"dimg\0\3\0\2\0\1\0\2", b"dimg\0\3\0\1\0\1\0\2")),
        "it is a damaged HEIF picture: .*. Copy or download it again",
    ),
    # encrypted
    "encrypted": (
        opening(lambda f: common(f / "a.mp4")),
        "it is encrypted (Common Encryption, cenc): decrypt it first",
    ),
    "encrypted in parts": (
        opening(lambda f: scrambled(f / "a.ts", 10)),
        "parts of it are encrypted (scrambled for broadcasting): decrypt it first",
    ),
    # cut off
    "cut off": (opening(cut(fast_start, 0.7)), rf"it is cut off: the last \d+ bytes are missing. {AGAIN}"),
    "cut off, but read as far as it goes": (
        lambda f, p: list(
            read_planned(
                cut(fast_start, 0.7)(f), ClipPlan(num_frames=2, window=9), read=ReadOptions(allow_cut_off=True)
            )
        ),
        rf"it is cut off: the last \d+ bytes are missing; it was read up to 0:00.\d. {AGAIN}",
    ),
    "cut off in its index": (
        opening(cut_in_index),
        rf"it is cut off: the last \d+ bytes of its index \(moov\) are missing. {AGAIN}",
    ),
    "cut off before its index": (
        opening(cut(film, 0.5)),
        "it is an MP4 without its index (moov), which is written last: it was cut off, or its recording was not "
        f"completed. {AGAIN}",
    ),
    "FLV of which bytes are missing": (
        opening(lambda f: flv(f, size=True)),
        rf"it is cut off: the last \d+ bytes are missing. {AGAIN}",
    ),
    "FLV that ends between two tags": (
        opening(one_tag_less),
        rf"it is cut off: the last \d+ bytes are missing. {AGAIN}",
    ),
    "FLV of which seconds are missing": (
        opening(lambda f: flv(f, size=False)),
        rf"it is cut off at [01]\.\d\d s of the 1.60 s in its header. {AGAIN}",
    ),
    "array that is cut off": (
        opening(lambda f: array(np.zeros((2, 8, 8, 3), np.uint8))[:-5]),
        "it is cut off: the last 5 bytes are missing. Copy or write it again",
    ),
    "fragments alone": (
        opening(fragments),
        "it is a fragment of an MP4 without the header that describes it (moov): put its initialisation segment "
        "before it",
    ),
    # damaged
    "index of an MP4": (
        opening(with_broken_index),
        f"it is an MP4 whose index (moov) is damaged: FFmpeg cannot read it. {AGAIN}",
    ),
    "HEIF that holds nothing": (
        opening(lambda f: box(b"ftyp", b"heic", bytes(4), b"mif1") + box(b"meta", bytes(4))),
        "it is a HEIF picture that FFmpeg cannot read: convert it, e.g. to JPEG",
    ),
    "header of a Matroska file": (
        opening(lambda f: film(f, "mkv")[:20]),
        f"it begins as Matroska or WebM, but its header is damaged or cut off. {AGAIN}",
    ),
    "a frame": (
        lambda f, p: read_all(damaged(f, 4)),
        "it is damaged: frame 4 (0.16 s) cannot be decoded. Copy or download it again",
    ),
    "a packet without picture": (
        lambda f, p: read_all(without_pictures(f)),
        r"it seemed to have more than 9 frames, but only \d+ can be decoded: ask for others",
    ),
    "all frames": (
        lambda f, p: read_all(replaced(film(f, "avi", b_frames=2), b"\0\0\1\xb6", b"\0\0\1\xb2")),
        "none of its frames can be decoded: it is damaged, or cut from a longer file. Copy or download it again",
    ),
    "something unforeseen": (
        unforeseen,
        "it is damaged: reading it failed with KeyError ('frame'). Copy or download it again",
    ),
    # images and arrays
    "image": (
        opening(lambda f: image("PNG")[:20]),
        "it is an image that cannot be read: its PNG data are damaged, cut off, or of an unsupported variant. "
        "Copy or convert it",
    ),
    "pixels of an image": (
        opening(lambda f: image("JPEG", (320, 240))[:-900]),
        "it is damaged or cut off: its pixels cannot be decoded. Copy or convert it",
    ),
    "image of a folder": (
        lambda f, p: read_all(folder_with(f, ("1.png", image("PNG")), ("2.png", b"text"))),
        "it is an image that cannot be read: its data are damaged, cut off, or of an unsupported variant. "
        "Copy or convert it",
    ),
    "image of more pixels than Pillow's": (
        decompression_bomb,
        "it has more pixels than Pillow allows (200): make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS",
    ),
    "images of two sizes": (
        lambda f, p: read_all(folder_with(f, ("1.png", image("PNG")), ("2.png", image("PNG", (32, 32))))),
        "its frames differ in size: frame 1 is 32×32 and another 64×48: make them all of one size",
    ),
    "image that changes": (shortened, "it no longer has frame 3: it has changed while it was read"),
    "array of floats": (
        opening(lambda f: array(np.zeros((2, 8, 8, 3)))),
        "it is an array of shape (2, 8, 8, 3) and type float64: frames are uint8 of shape (T, H, W, 3) or "
        "(T, 3, H, W), with at least one frame",
    ),
    "array of objects": (
        opening(lambda f: array(np.array([{}], dtype=object))),
        "it is an array that cannot be read: it holds Python objects, which could run code. Save it as uint8",
    ),
    "header of an array": (
        opening(lambda f: array(np.zeros((2, 8, 8, 3), np.uint8))[:30]),
        "it is an array that cannot be read: its header is damaged or cut off. Copy or write it again",
    ),
    # limits and arguments
    "time": (
        slow,
        "reading it took longer than the limit of 0.05 s: raise the limit with Limits(seconds=…) or --max-seconds",
    ),
    "pixels": (
        opening(film, limits=Limits(pixels=100)),
        "its frames have 96×64 = 6144 pixels, over the limit of 100: to read it anyway, raise the limit with "
        "Limits(pixels=…) or --max-pixels",
    ),
    "frames": (
        opening(film, limits=Limits(frames=3)),
        "it has 4 frames or more, over the limit of 3: to read it anyway, raise the limit with Limits(frames=…) or "
        "--max-frames",
    ),
    "memory": (
        lambda f, p: read_all(film(f), limits=Limits(memory=10_000)),
        "the 10 frames of 96×64 asked for take 184 kB, over the limit of 10 kB: to read it anyway, raise the limit "
        "with Limits(memory=…) or --max-memory; or ask for fewer frames",
    ),
    "memory of a buffer": (
        lambda f, p: VideoReader(bytearray(film(f)), read=ReadOptions(limits=Limits(memory=100))),
        r"it has [\d.]+ kB or more to keep in memory, over the limit of 100 bytes: to read it anyway, raise the limit "
        r"with Limits\(memory=…\) or --max-memory",
    ),
    "a start behind the end": (
        lambda f, p: read_clip(film(f), num_frames=2, start=5),
        "it ends at 0.40 s, before start=5 s",
    ),
    "too few frames": (
        lambda f, p: read_clip(film(f), num_frames=20, short="error"),
        "only 10 frames are available and 20 are asked for: ask for fewer",
    ),
    "windows that are too short": (
        lambda f, p: list(read_planned(film(f), ClipPlan(num_frames=2, window=0.05))),
        "a window of 0.05 s is shorter than two of its frames (25 frames a second): choose a window of 0.08 s or more",
    ),
    "closed reader": (closed, "its reader has been closed: open it again"),
    # failures of the machine
    "a disk that fails at once": (lambda f, p: failing(f, 0), "it cannot be read: Input/output error"),
    "a disk that fails later": (lambda f, p: failing(f, 40_000), "it cannot be read: Input/output error"),
}


def reason_of(name: str, folder: Path, patch: Patch) -> str:
    with pytest.raises(VideoError) as caught:
        TABLE[name][0](folder, patch)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert caught.value.source
    return caught.value.reason


@pytest.mark.parametrize("name", TABLE)
def test_the_message_for_each_file(name: str, tmp_path: Path, monkeypatch: Patch) -> None:
    reason, expected = reason_of(name, tmp_path, monkeypatch), TABLE[name][1]
    assert reason == expected or re.fullmatch(expected, reason), reason
    library_words = ("Errno", "object at 0x", "Invalid data found", "cannot identify", "tile cannot extend")
    assert not [words for words in (*library_words, str(tmp_path)) if words in reason]
    assert "\n" not in reason


def patterns(node: ast.expr | None) -> list[str]:
    """Return the messages of an expression, with a wildcard for each value."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [re.escape(node.value)]
    if isinstance(node, ast.JoinedStr):
        return ["".join(re.escape(str(v.value)) if isinstance(v, ast.Constant) else ".*" for v in node.values)]
    if isinstance(node, ast.IfExp):
        return patterns(node.body) + patterns(node.orelse)
    return []


#: Modules whose functions return messages, and modules whose refusals need another process: test_processes.py,
#: test_worker.py and test_sweeps.py cause these.
RETURNING = {"refusals", "failures", "opening"}
WITH_PROCESSES = {"worker", "worker_child", "child", "answers"}
ELSEWHERE = (  # tested there too: readers in forked processes and addresses
    "its file object is shared with the process",
    "it has changed since it was opened",
    "it is encrypted (Common Encryption): decrypt it first",
)


def messages() -> list[str]:
    collected = []
    for path in sorted(Path(openxclip.video.__file__).parent.glob("*.py")):
        if path.stem in WITH_PROCESSES:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = getattr(node.func, "id", getattr(node.func, "attr", ""))
                number = {"VideoError": 1, "_error": 0, "Ending": 0}.get(called)
                if number is not None and len(node.args) > number:
                    collected += patterns(node.args[number])
            elif isinstance(node, ast.Return) and path.stem in RETURNING:
                collected += [pattern for pattern in patterns(node.value) if len(pattern) > 20]
    return collected


def test_every_message_of_the_code_is_in_the_table() -> None:
    all_messages = messages()
    assert len(all_messages) > 50
    expected = [pattern for _, pattern in TABLE.values()]
    expected += [p.replace("\\", "").replace("d+", "5").replace(".*", "").replace("[d.]+", "5") for p in expected]
    missing = [
        pattern
        for pattern in all_messages
        if not any(re.fullmatch(pattern, message) for message in expected)
        and not pattern.startswith(tuple(re.escape(words) for words in ELSEWHERE))
    ]
    assert not missing
