"""`check` finds lost packets by times, counters, page numbers and checksums of the container."""

from __future__ import annotations

from pathlib import Path

import pytest
from intact_oddities import ODDITIES
from intact_videos import STAMPS_MS, combination, remuxed
from made_videos import encode

from openxclip.video import inspect
from openxclip.video.lost_parts import PictureNumbers

TIMED = """
libx264.mp4 libx265.mp4 mjpeg.mp4 mpeg4.mov prores_ks.mov h263.3gp libx264.matroska mjpeg.matroska
libvpx.webm libvpx-vp9.webm
libx264.avi mpeg4.avi mjpeg.avi ffv1.avi wmv2.asf mjpeg.asf libx264.nut huffyuv.nut libx264.flv flv.flv libx264.mpegts
mpeg2video.mpegts mpeg2video.wtv mpeg4.wtv rv10.rm libvpx.ogg libvpx.ivf cinepak.film_cpk
""".split()  # noqa: SIM905


def problems(data: bytes | Path) -> str:
    report = inspect(data, full=True)
    return "; ".join(report.problems) if report.error is None else report.error.reason


@pytest.mark.parametrize("name", TIMED)
def test_a_missing_packet_is_found(name: str, tmp_path: Path) -> None:
    source = combination(name, tmp_path / name)
    container = name.partition(".")[2]
    for lost in (4, 13, 24):
        path = tmp_path / f"lost.{container}"
        remuxed(path, source, keep=lambda i, lost=lost: i != lost, container=container)
        assert problems(path)


def test_the_message_tells_where_frames_are_missing(tmp_path: Path) -> None:
    source = encode(tmp_path / "whole.mkv", "mjpeg", pix_fmt="yuvj420p", count=50)
    path = remuxed(tmp_path / "lost.mkv", source, keep=lambda i: i not in (20, 33))
    assert problems(path) == "2 frames are missing, the first at 0.80 s: the others are 40 ms apart"


def test_no_lost_packets_are_reported_at_a_varying_rate(tmp_path: Path) -> None:
    """A missing frame can't be told from a varying rate."""
    source = encode(tmp_path / "whole.mkv", "mjpeg", pix_fmt="yuvj420p", pts_ms=STAMPS_MS["one_and_two"])
    assert problems(remuxed(tmp_path / "lost.mkv", source, keep=lambda i: i != 20)) == ""


@pytest.mark.parametrize("container", ["mpeg", "vcd", "mxf", "mpeg1video", "mpeg2video", "asf"])
def test_lost_pictures_of_mpeg_are_found_without_times(container: str, tmp_path: Path) -> None:
    """Pictures are numbered within their group: all but the last of a group are found missing."""
    codec = "mpeg1video" if container in ("vcd", "mpeg1video") else "mpeg2video"
    source = encode(tmp_path / "whole", codec, count=40, gop=10, container=container)
    for lost in (4, 13, 25):
        path = tmp_path / "lost"
        remuxed(path, source, keep=lambda i, lost=lost: i != lost, container=container)
        assert problems(path) == "1 picture is missing, by the numbers of the others"


def picture(number: int, *, begins_group: bool = False) -> bytes:
    head = b"\0\0\1\xb8" + bytes(4) if begins_group else b""
    return head + b"\0\0\1\0" + (number << 6 | 8).to_bytes(2, "big") + bytes(4)


def missing(*groups: list[int]) -> int:
    numbers = PictureNumbers()
    for group in groups:
        for i, number in enumerate(group):
            numbers.note(picture(number, begins_group=i == 0))
    return numbers.num_missing()


def test_missing_pictures_are_counted_by_their_numbers() -> None:
    complete = [2, 0, 1, 5, 3, 4, 8, 6, 7]
    assert missing(complete, complete, complete) == 0
    assert missing(complete, [2, 0, 1, 5, 3, 8, 6, 7], complete) == 1
    assert missing([2, 5, 3, 4], complete) == 0  # an editor left out what is shown before the first
    assert missing(complete, [2, 0, 1, 5]) == 0  # the recording ended here
    assert missing(complete, [2, 0, 1, 5, 3, 4, 8], complete) == 2  # it went on
    assert missing([1, 1, 3, 3], complete, complete) == 1  # two fields have the same number
    assert missing([0, 7, 5], [3, 9], [2, 8, 6], [1, 9, 5]) == 0  # not picture numbers
    assert missing([0, 1, 2, 4, 3, 5, 7, 8, 9]) == 1  # one group only
    assert missing([0, 1, 3]) == 0  # too few to tell the rule
    assert missing() == 0


# -- transport streams -------------------------------------------------------------------------------------------------


def ts(folder: Path, name: str = "muxed_headers_again.ts") -> bytes:
    ODDITIES[name](folder / name)
    return (folder / name).read_bytes()


def packets_of_video(data: bytes, pid: int = 256) -> list[int]:
    """Return where the packets of a PID begin."""
    return [at for at in range(0, len(data), 188) if int.from_bytes(data[at + 1 : at + 3], "big") & 0x1FFF == pid]


def test_a_missing_transport_packet_is_found(tmp_path: Path) -> None:
    data = ts(tmp_path)
    for at in packets_of_video(data)[6:-1:9]:
        assert "missing in 1 place, by their counter" in problems(data[:at] + data[at + 188 :])


def test_null_packets_are_ignored(tmp_path: Path) -> None:
    data = ts(tmp_path)
    at = packets_of_video(data)[20]
    null = b"\x47\x1f\xff\x10" + b"\xff" * 184
    assert problems(data[:at] + null * 3 + data[at:]) == ""


def test_transport_packets_marked_as_broken_are_reported(tmp_path: Path) -> None:
    data = bytearray(ts(tmp_path))
    data[packets_of_video(data)[30] + 1] |= 0x80
    assert "1 transport packet of its video was received with errors" in problems(bytes(data))


@pytest.mark.parametrize("name", ["joined.ts", "joined_mpeg2.ts", "muxed_m2ts.ts"])
def test_joined_recordings_are_no_loss(name: str, tmp_path: Path) -> None:
    assert problems(ts(tmp_path, name)) == ""


def test_joined_segments_whose_counters_restart_are_no_loss(tmp_path: Path) -> None:
    """Times go on and counters restart in joined HLS segments."""
    parts = []
    for i in range(3):
        part = encode(
            tmp_path / f"{i}.ts", "libx264", count=25, gop=25, b_frames=0, pts_ms=[1000 * i + 40 * j for j in range(25)]
        )
        parts.append(part.read_bytes())
    assert "counter" not in problems(b"".join(parts))


# -- Ogg and Matroska --------------------------------------------------------------------------------------------------


def pages(data: bytes) -> list[int]:
    found, at = [], data.find(b"OggS")
    while at >= 0:
        found.append(at)
        at = data.find(b"OggS", at + 4)
    return [*found, len(data)]


def test_lost_and_damaged_pages_of_ogg_are_found(tmp_path: Path) -> None:
    data = encode(tmp_path / "a.ogg", "libvpx", count=40, gop=10, muxer={"page_duration": "100000"}).read_bytes()
    assert problems(data) == ""
    ends = pages(data)
    begin, end = ends[4], ends[5]
    assert "pages are missing in 1 place, by their numbers" in problems(data[:begin] + data[end:])
    changed = data[: end - 1] + bytes((data[end - 1] ^ 1,)) + data[end:]
    assert "1 page is damaged, by its checksum" in problems(changed)
    assert "it may be cut off: it has no page that is marked as the last" in problems(data[: ends[-2]])


def test_damaged_clusters_of_matroska_are_found(tmp_path: Path) -> None:
    data = encode(tmp_path / "a.mkv", "libvpx", count=40, gop=10).read_bytes()
    at = data.index(b"\x1f\x43\xb6\x75") + 300
    changed = data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
    assert "1 part is damaged, by its checksum" in problems(changed)


def test_damaged_slices_of_ffv1_are_found(tmp_path: Path) -> None:
    data = encode(tmp_path / "a.avi", "ffv1", count=20).read_bytes()
    at = len(data) // 2
    changed = data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
    assert "1 frame is damaged, by the checksums of slices" in problems(changed)
