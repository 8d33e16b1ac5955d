"""Reports on videos and collections, and the problems in them."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from intact_videos import several
from made_videos import encode, picture
from PIL import Image

import openxclip
from openxclip.errors import VideoError
from openxclip.video import Limits, ReadOptions, VideoReport, check, check_videos, inspect, write_report

Videos = Callable[[str], Path]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("inspection") / "whole.mp4", "libx264", count=30, gop=10)


def test_facts_of_a_video(whole: Path) -> None:
    report = inspect(whole, full=True)
    assert report == VideoReport(
        path=str(whole),
        kind="video",
        container="mp4",
        codec="h264",
        pixel_format="yuv420p",
        width=96,
        height=64,
        rotation=0,
        frames=30,
        fps=pytest.approx(25),
        variable_rate=False,
        duration=pytest.approx(1.2),
        start=0.0,
        bit_depth=8,
        hdr=False,
        interlaced=False,
        alpha=False,
        size_bytes=whole.stat().st_size,
        # the file states no matrix, range or transfer, and has no sound
    )
    assert report.is_fine
    assert inspect(whole) == report
    assert inspect(whole.read_bytes()).size_bytes == report.size_bytes
    with whole.open("rb") as file:
        assert inspect(file).frames == 30


def test_every_made_video_is_fine(videos: Videos) -> None:
    from made_videos import ENCODINGS

    for name in ENCODINGS:
        report = inspect(videos(name), full=True)
        assert report.is_fine, (name, report.problems, report.error)


def test_facts_of_other_kinds(tmp_path: Path, videos: Videos) -> None:
    assert inspect(videos("h264_irregular.mkv")).variable_rate
    assert inspect(videos("prores.mov")).bit_depth == 10
    assert inspect(videos("prores.mov")).container == "mov"
    assert inspect(videos("h264_short_gop.mkv")).container == "matroska"
    turned = encode(tmp_path / "turned.mp4", "libx264", rotation=90)
    report = inspect(turned)
    assert (report.rotation, report.width, report.height) == (90, 64, 96)
    pictures = [Image.fromarray(picture(i)) for i in range(3)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=40)
    (tmp_path / "folder").mkdir()
    for i, image in enumerate(pictures):
        image.save(tmp_path / "folder" / f"{i}.png")
    np.save(tmp_path / "a.npy", np.stack([picture(i) for i in range(3)]))
    for name, kind in (("a.gif", "image"), ("folder", "images"), ("a.npy", "array")):
        report = inspect(tmp_path / name, full=True)
        assert (report.kind, report.frames, report.width, report.height) == (kind, 3, 96, 64)
        assert report.is_fine


def test_reports_as_json_values(whole: Path, tmp_path: Path) -> None:
    for source in (whole, tmp_path / "gone.mp4"):
        report = inspect(source)
        again = VideoReport.from_dict(json.loads(json.dumps(report.as_dict())))
        assert str(again) == str(report)
        assert again.as_dict() == report.as_dict()


# -- what is wrong with videos -----------------------------------------------------------------------------------------


def problems(path: Path, *, full: bool = True) -> str:
    report = inspect(path, full=full)
    assert report.error is None
    return "; ".join(report.problems)


def packets_of(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(video=0) if p.size]


def test_damaged_packets(whole: Path, tmp_path: Path) -> None:
    packet = packets_of(whole)[10]
    path = tmp_path / "damaged.mp4"
    path.write_bytes(whole.read_bytes().replace(packet, b"\0" * 5 + b"\xff" * (len(packet) - 5)))
    found = problems(path)
    assert "can't be decoded" in found or "only in part" in found
    assert "0.4" in found  # time of the first damaged frame
    assert problems(path, full=False) == ""


def test_frames_that_refer_to_missing_frames(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.ts", "libx264", count=40, gop=10, b_frames=0)
    data = whole.read_bytes()
    (tmp_path / "cut.ts").write_bytes(data[188 * (len(data) // 188 // 3) :])
    report = inspect(tmp_path / "cut.ts", full=True)
    assert not report.is_fine


def remuxed(source: Path, path: Path, keep: Callable[[int], bool], retime: Callable[[int], int]) -> Path:
    """Copy the packets for which `keep` is true, with times changed by `retime`."""
    with av.open(str(source)) as container, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(container.streams.video[0])
        for i, packet in enumerate(p for p in container.demux(video=0) if p.size):
            if keep(i):
                assert packet.pts is not None
                packet.stream = stream
                packet.pts = packet.dts = retime(packet.pts)
                out.mux(packet)
    return path


def test_the_sound_of_a_video(tmp_path: Path) -> None:
    path = several(tmp_path / "sound.mp4", {"codec": "mpeg4", "count": 10}, {"codec": "aac", "seconds": 0.4})
    for full in (False, True):
        assert inspect(path, full=full).sound == "aac"


def test_no_key_frame_at_the_start(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mkv", "mpeg4", count=40, gop=10)
    path = remuxed(whole, tmp_path / "late.mkv", lambda i: i > 3, lambda t: t)
    assert "doesn't start with a key frame" in problems(path)


def test_a_header_with_a_wrong_duration(tmp_path: Path) -> None:
    data = bytearray(encode(tmp_path / "whole.asf", "wmv2", count=40).read_bytes())
    at = data.index(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")) + 64  # the play duration, in units of 100 ns
    duration = int.from_bytes(data[at : at + 8], "little") + 100_000_000
    data[at : at + 8] = duration.to_bytes(8, "little")
    path = tmp_path / "wrong.asf"
    path.write_bytes(data)
    for full in (False, True):
        assert "but its frames last 1.60 s" in problems(path, full=full)


def test_a_header_with_a_wrong_frame_count(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.avi", "mpeg4", count=40, gop=10)
    data = bytearray(whole.read_bytes())
    at = data.index(b"strh") + 8 + 32  # dwLength of the stream: frames
    assert int.from_bytes(data[at : at + 4], "little") == 40
    data[at : at + 4] = (400).to_bytes(4, "little")
    path = tmp_path / "wrong.avi"
    path.write_bytes(data)
    found = problems(path)
    assert "its header says 400 frames, but there are 40" in found


def test_frames_that_change_in_size(tmp_path: Path) -> None:
    small, large = tmp_path / "small.h264", tmp_path / "large.h264"
    encode(small, "libx264", count=12, container="h264")
    with av.open(str(large), "w", format="h264") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 128, "yuv420p"
        for i in range(12):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture(i, 160, 128), format="rgb24")))
        out.mux(stream.encode(None))
    both = tmp_path / "both.h264"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    assert "12 frames have another size than the first" in problems(both)


def test_short_cut_off_and_missing_files(tmp_path: Path, whole: Path) -> None:
    assert "very short: 2 frames" in problems(encode(tmp_path / "short.mp4", "libx264", count=2))
    fast = encode(tmp_path / "fast.mp4", "libx264", muxer={"movflags": "faststart"})
    (tmp_path / "cut.mp4").write_bytes(fast.read_bytes()[:-500])
    for name, reason in (("cut.mp4", "cut off"), ("gone.mp4", "no such file")):
        report = inspect(tmp_path / name)
        assert report.error is not None
        assert reason in report.error.reason
        assert not report.is_fine
    with pytest.raises(TypeError):
        inspect(7)  # type: ignore[arg-type]


def test_damaged_pictures_of_a_folder(tmp_path: Path) -> None:
    for i in range(9):
        Image.fromarray(picture(i)).save(tmp_path / f"{i}.png")
    for i in range(2, 9):
        path = tmp_path / f"{i}.png"
        path.write_bytes(path.read_bytes()[:200])
    report = inspect(tmp_path, full=True)
    assert len(report.problems) == 6
    assert "2.png: it is damaged or cut off" in report.problems[0]
    assert report.problems[-1] == "and 2 more"


# -- collections -------------------------------------------------------------------------------------------------------


@pytest.fixture
def collection(tmp_path: Path, whole: Path) -> Path:
    folder = tmp_path / "collection"
    folder.mkdir()
    for i in range(4):
        (folder / f"{i}.mp4").write_bytes(whole.read_bytes())
    (folder / "10.mp4").write_bytes(b"no video")
    return folder


def test_check_gives_reports_in_order(collection: Path) -> None:
    for jobs, full in ((1, True), (3, False)):
        reports = openxclip.check(collection, jobs=jobs, full=full)
        assert [Path(r.path).name for r in reports] == ["0.mp4", "1.mp4", "2.mp4", "3.mp4", "10.mp4"]
        assert [r.is_fine for r in reports] == [True] * 4 + [False]
        assert isinstance(reports[-1].error, VideoError)
    assert check(str(collection / "?.mp4"), read=ReadOptions(limits=Limits(frames=3)))[0].error is not None
    with pytest.raises(ValueError, match="jobs=0"):
        check_videos([], jobs=0)
    assert list(check_videos([], jobs=2)) == []


def test_closing_the_iterator_ends_the_workers(collection: Path) -> None:
    before = children()
    reports = check_videos([collection / "0.mp4"] * 50, jobs=2)
    next(reports)
    assert len(children() - before) == 2
    for pid in children() - before:
        os.kill(pid, signal.SIGSTOP)
    started = time.monotonic()
    reports.close()  # type: ignore[attr-defined]
    assert time.monotonic() - started < 60
    assert children() == before


def children() -> set[int]:
    return {int(pid) for task in Path("/proc/self/task").glob("*/children") for pid in task.read_text().split()}


def test_reports_as_files(collection: Path, tmp_path: Path) -> None:
    reports = check(collection, full=False, report=tmp_path / "report.json")
    rows = [report.as_dict() for report in reports]
    assert json.loads((tmp_path / "report.json").read_text()) == rows
    write_report(tmp_path / "report.jsonl", reports)
    assert [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()] == rows
    write_report(str(tmp_path / "report.csv"), reports)
    with (tmp_path / "report.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["path"] for row in table] == [row["path"] for row in rows]
    assert table[0]["frames"] == "30"
    assert table[-1]["error"] == rows[-1]["error"]
    with pytest.raises(ValueError, match="must end with"):
        check(collection, report=tmp_path / "report.txt")
    with pytest.raises(OSError, match="No such file"):
        write_report(tmp_path / "none" / "report.csv", reports)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["collection", "report.csv", "report.json", "report.jsonl"]
