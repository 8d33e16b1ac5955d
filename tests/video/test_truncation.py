"""Files that were cut off are refused if their header shows it; files whose header is merely wrong are read."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest
from made_videos import encode

from openxclip.errors import VideoError
from openxclip.video import VideoReader, inspect

COUNT = 50
Make = Callable[[str], bytes]

# container: codec, muxer's options
KINDS: dict[str, tuple[str, dict[str, str]]] = {
    "flv": ("flv", {}),
    "mp4": ("mpeg4", {"movflags": "faststart"}),
    "mov": ("mpeg4", {"movflags": "faststart"}),
    "avi": ("mpeg4", {}),
    "mkv": ("mpeg4", {}),
    "asf": ("wmv2", {}),
    "mxf": ("mpeg2video", {}),
    "rm": ("rv10", {}),
    "swf": ("flv", {}),
}


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    made: dict[str, bytes] = {}

    def get(kind: str) -> bytes:
        if kind not in made:
            codec, muxer = KINDS[kind]
            path = tmp_path_factory.mktemp("whole") / f"film.{kind}"
            made[kind] = encode(path, codec, count=COUNT, gop=10, muxer=muxer).read_bytes()
        return made[kind]

    return get


def reason_of(data: bytes) -> str:
    with pytest.raises(VideoError) as caught:
        VideoReader(data)
    return caught.value.reason


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_were_cut_off_are_refused(kind: str, make: Make) -> None:
    data = make(kind)
    with VideoReader(data) as reader:
        assert (reader.num_frames, reader.notes) == (COUNT, ())
    for share in (0.4, 0.7, 0.9):
        assert "it is cut off: the last" in reason_of(data[: int(len(data) * share)])


def with_number(data: bytes, name: bytes, value: float) -> bytes:
    at = data.index(len(name).to_bytes(2, "big") + name + b"\0") + len(name) + 3
    return data[:at] + struct.pack(">d", value) + data[at + 8 :]


def tags(data: bytes) -> list[int]:
    """Return where each tag of an FLV ends, including its length."""
    ends, at = [], 13
    while at < len(data):
        at += 11 + int.from_bytes(data[at + 1 : at + 4], "big") + 4
        ends.append(at)
    return ends


def test_an_flv_that_states_only_its_size(make: Make) -> None:
    data = with_number(make("flv"), b"duration", 0)
    end = tags(data)[30]
    for cut in (end, end - 1, end + 5, end + 13):
        assert reason_of(data[:cut]).startswith(f"it is cut off: the last {len(data) - cut} bytes are missing")


def test_an_flv_that_states_only_its_duration(make: Make) -> None:
    data = with_number(make("flv"), b"filesize", 0)
    end = tags(data)[30]
    for cut in (end - 1, end + 5, end + 13, len(data) - 1):
        assert "s of the 2.00 s in its header" in reason_of(data[:cut])
    with VideoReader(data[:end]) as reader:  # between two tags: the header may be wrong instead
        assert reader.num_frames < COUNT
        assert reader.notes[0].endswith("it may be cut off")
    short = with_number(data, b"duration", 60)
    with VideoReader(short) as reader:
        assert reader.num_frames == COUNT
        assert reader.notes == ("its header says 60.00 s, but it ends at 1.96 s: it may be cut off",)
    assert any("60.00 s" in problem for problem in inspect(short).problems)


def test_an_flv_that_states_neither_is_read_to_its_end(make: Make) -> None:
    """Such a file may still be being written."""
    data = with_number(with_number(make("flv"), b"filesize", 0), b"duration", 0)
    with VideoReader(data[: tags(data)[30] + 5]) as reader:
        assert 20 < reader.num_frames < COUNT


def test_an_flv_of_the_right_duration_is_read_whatever_its_size(make: Make) -> None:
    data = with_number(make("flv"), b"filesize", 10**9)
    with VideoReader(data) as reader:
        assert reader.num_frames == COUNT


def test_an_flv_with_trailing_data_is_read(make: Make) -> None:
    with VideoReader(make("flv") + b"padding of some kind") as reader:
        assert reader.num_frames == COUNT


def claiming(data: bytes, kind: str, more: int) -> bytes:
    """Make the header claim more bytes than there are."""
    at, order = {"mp4": (data.find(b"mdat") - 4, "big"), "mov": (data.find(b"mdat") - 4, "big"), "avi": (4, "little")}[
        kind
    ]
    length = int.from_bytes(data[at : at + 4], order) + more  # type: ignore[arg-type]
    return data[:at] + length.to_bytes(4, order) + data[at + 4 :]  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["mp4", "mov", "avi"])
@pytest.mark.parametrize("more", [1, 8, 100_000])
def test_files_that_claim_too_many_bytes_are_read(kind: str, more: int, make: Make) -> None:
    data = make(kind)
    with VideoReader(data) as correct, VideoReader(claiming(data, kind, more)) as reader:
        assert reader.notes == (f"its header claims {more} bytes more than the file has, but all its frames are there",)
        assert reader.num_frames == correct.num_frames == COUNT
        every = range(COUNT)
        assert np.array_equal(reader.get_frames(every).frames_THWC, correct.get_frames(every).frames_THWC)
    report = inspect(claiming(data, kind, more), full=True)
    assert (report.error, report.problems) == (None, ())
    assert len(report.notes) == 1
    assert "it is cut off" in reason_of(claiming(data, kind, more)[:-60] if kind != "avi" else data[:-2000])


def test_a_matroska_file_that_claims_too_many_bytes_is_read(make: Make) -> None:
    data = bytearray(make("mkv"))
    at = data.index(b"\x18\x53\x80\x67") + 4
    assert data[at] == 1  # a length of 7 bytes follows
    length = int.from_bytes(data[at + 1 : at + 8], "big")
    data[at + 1 : at + 8] = (length + 9).to_bytes(7, "big")
    with VideoReader(bytes(data)) as reader:
        assert reader.num_frames == COUNT
        assert reader.notes == ("its header claims 9 bytes more than the file has, but all its frames are there",)
