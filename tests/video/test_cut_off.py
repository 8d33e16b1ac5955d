"""Files that were cut off are read up to the cut, if that is allowed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_videos import encode, picture

from openxclip.errors import VideoError
from openxclip.video import ClipPlan, DecodeWorker, ReadOptions, VideoReader, inspect, read_clip
from openxclip.video.clips import Clip
from openxclip.video.reading import read_planned

ALLOW = ReadOptions(allow_cut_off=True)
COUNT = 60
START = {"muxer": {"movflags": "faststart"}}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "h264.mp4": ("libx264", {"b_frames": 2, **START}),
    "mpeg4.mov": ("mpeg4", START),
    "h264.mkv": ("libx264", {"b_frames": 2}),
    "vp9.webm": ("libvpx-vp9", {"options": {"cpu-used": "8", "lag-in-frames": "8", "deadline": "realtime"}}),
    "mpeg4.avi": ("mpeg4", {}),
    "flv1.flv": ("flv", {}),
    "wmv2.asf": ("wmv2", {}),
    "mpeg2.mxf": ("mpeg2video", {}),
    "rv10.rm": ("rv10", {}),
}
MESSAGE = (
    r"it is cut off: the last \d+ bytes are missing; it was read up to 0:0\d\.\d\. Copy, download or record it again$"
)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            codec, how = KINDS[name]
            made[name] = encode(tmp_path_factory.mktemp("cut") / name, codec, count=COUNT, gop=10, **how)
        return made[name]

    return get


def cut(path: Path, to: Path, share: float) -> Path:
    data = path.read_bytes()
    to.write_bytes(data[: int(len(data) * share)])
    return to


@pytest.mark.parametrize("name", KINDS)
def test_frames_up_to_the_cut_are_those_of_the_whole_file(
    name: str, make: Callable[[str], Path], tmp_path: Path
) -> None:
    counts = []
    for share in (0.5, 0.7, 0.85):
        path = cut(make(name), tmp_path / name, share)
        with pytest.raises(VideoError, match="it is cut off"):
            VideoReader(path)
        with VideoReader(make(name)) as whole, VideoReader(path, read=ALLOW) as reader:
            assert whole.cut_off is None
            assert reader.cut_off is not None
            assert reader.cut_off.source == str(path)
            # without its footer, an MXF doesn't say that its first frame is shown at once
            assert np.abs(reader.times - whole.times[: len(reader)]).max() < (0.05 if name.endswith("mxf") else 1e-6)
            got, expected = (one.get_frames(range(len(reader))) for one in (reader, whole))
            assert torch.equal(got.frames_THWC, expected.frames_THWC)
            assert abs(reader.duration - len(reader) / 25) < 0.1
            assert any("it is cut off: the last" in note for note in reader.notes)
            counts.append(len(reader))
    assert 5 < counts[0] < counts[1] < counts[2] < COUNT


@pytest.mark.parametrize("isolated", [False, True])
def test_windows_come_before_the_error(make: Callable[[str], Path], tmp_path: Path, isolated: bool) -> None:
    plan = ClipPlan(num_frames=4, window=0.4, stride=0.2)
    with DecodeWorker() as worker:
        read = worker.read_planned if isolated else read_planned
        whole = [clip for piece in read(make("h264.mkv"), plan, read=ALLOW) for clip in piece.clips]
        path = cut(make("h264.mkv"), tmp_path / "cut.mkv", 0.7)
        for first in (0, 2, 99):
            clips = list[Clip]()
            with pytest.raises(VideoError, match=MESSAGE) as caught:
                clips.extend(clip for piece in read(path, plan, first=first, read=ALLOW) for clip in piece.clips)
            assert caught.value.source == str(path)
            assert (len(clips) > 3) == (first < 99)
            assert clips[:-1] == whole[first : first + max(0, len(clips) - 1)]
        assert read_clip(path, num_frames=4, start=0.2, end=0.6, read=ALLOW).indices == whole[1].indices


def test_a_whole_file_is_opened_once(make: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    opened, original = list[str](), av.open

    def counting(file: Any, *rest: Any, **how: Any) -> Any:
        opened.append(str(file))
        return original(file, *rest, **how)

    monkeypatch.setattr(av, "open", counting)
    plan = ClipPlan(num_frames=4, window=0.4)
    assert list(read_planned(make("h264.mkv"), plan, read=ALLOW))
    assert len(opened) == 1


def test_an_mp4_without_its_index_is_refused_all_the_same(tmp_path: Path) -> None:
    path = encode(tmp_path / "whole.mp4", "mpeg4", count=20)
    with pytest.raises(VideoError, match=r"it is an MP4 without its index \(moov\), which is written last"):
        VideoReader(cut(path, tmp_path / "cut.mp4", 0.7), read=ALLOW)


def test_arrays_and_reports_are_as_before(make: Callable[[str], Path], tmp_path: Path) -> None:
    np.save(tmp_path / "whole.npy", np.stack([picture(i) for i in range(4)]))
    with pytest.raises(VideoError, match="cut off"):
        VideoReader(cut(tmp_path / "whole.npy", tmp_path / "cut.npy", 0.7), read=ALLOW)
    report = inspect(cut(make("h264.mkv"), tmp_path / "cut.mkv", 0.7), read=ALLOW)
    assert report.error is not None
    assert "it is cut off" in report.error.reason
