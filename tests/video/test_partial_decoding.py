"""Decoding that leaves out frames: only key frames, or only frames that others refer to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from intact_videos import with_edits
from made_videos import ENCODINGS, MORE, encode, picture, x264
from PIL import Image

from openxclip.video import ClipPlan, DecodeWorker, ReadOptions, VideoReader, inspect, read_clip
from openxclip.video.clips import PlannedClips
from openxclip.video.reading import read_planned
from openxclip.video.sweeping import Sweep

KEY, NONREF = ReadOptions(decode="key"), ReadOptions(decode="nonref")
NAMES = [
    "h264_short_gop.mkv",
    "h264_open_gop.mp4",
    "h264_late_start.ts",
    "hevc.mp4",
    "hevc_layers.mp4",
    "mpeg4.nut",
    "mpeg2.mkv",
    "vp9.webm",
    "h264_without_times.avi",
    "h264_pyramid.mp4",
]
WITHOUT_DISPOSABLE = {"vp9.webm", "h264_without_times.avi"}

pytestmark = [
    pytest.mark.filterwarnings("ignore:a video that doesn't mark frames"),  # a test below expects it
    pytest.mark.filterwarnings("ignore:folders of images"),
]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            codec, how = (ENCODINGS | MORE)[name]
            made[name] = encode(tmp_path_factory.mktemp("partial") / name, codec, **{"count": 40, **how})
        return made[name]

    return get


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("read", [KEY, NONREF], ids=["key", "nonref"])
def test_a_frame_stands_for_those_after_it_that_are_left_out(
    name: str, read: ReadOptions, make: Callable[[str], Path]
) -> None:
    with VideoReader(make(name)) as exact, VideoReader(make(name), read=read) as reader:
        assert (len(reader), reader.duration) == (len(exact), exact.duration)
        assert (reader.times == exact.times).all()
        everything = range(len(exact))
        got = reader.get_frames(everything)
        assert torch.equal(got.frames_THWC, exact.get_frames(got.indices).frames_THWC)
        assert got.times_T.tolist() == exact.times[[*got.indices]].tolist()
        used = sorted(set(got.indices))
        assert [*got.indices] == [max([u for u in used if u <= i], default=used[0]) for i in everything]
        if read == NONREF and name in WITHOUT_DISPOSABLE:
            assert used == [*everything]
            assert "a video that doesn't mark frames that could be left out is decoded whole" in reader.notes[-1]
        elif "without_times" in name:  # its frames had to be counted, and are kept
            assert "a video that doesn't mark frames that could be left out is decoded whole" in reader.notes[-1]
        else:
            assert len(used) < len(exact)
            assert f"are decoded: {len(used)} of {len(exact)}, one in every" in reader.notes[-1]
        assert reader[-1].equal(exact[used[-1]])


@pytest.mark.parametrize("name", ["h264_short_gop.mkv", "h264_pyramid.mp4"])
def test_no_more_frames_are_decoded_than_said(name: str, make: Callable[[str], Path]) -> None:
    for read in (KEY, NONREF):
        with VideoReader(make(name), read=read) as reader:
            used = set(reader.used_frames(range(len(reader))))
            sweep = Sweep(reader, PlannedClips(ClipPlan(num_frames=8, window=0.4), reader))
            pieces = list(iter(sweep.next_piece, None))
            sent = [index for piece in pieces for index in piece.indices]
            assert set(sent) <= used
            assert len(sent) <= reader.frames_decoded <= (len(sent) * 2 if read == NONREF else len(sent))


def test_key_frames_far_apart_are_decoded_alone(tmp_path: Path) -> None:
    path = encode(tmp_path / "film.mp4", "libx264", count=200, **(x264(scenecut=0) | {"gop": 50}))
    with VideoReader(path, read=KEY) as reader:
        assert reader.get_frames(range(200)).indices == tuple(50 * (i // 50) for i in range(200))
        assert reader.frames_decoded == 4
        assert reader.notes == ("only key frames are decoded: 4 of 200, one in every 2.00 s or less",)


@pytest.mark.parametrize("isolated", [False, True])
def test_windows_of_key_frames(make: Callable[[str], Path], isolated: bool) -> None:
    path, plan = make("h264_short_gop.mkv"), ClipPlan(num_frames=4, window=0.4, stride=0.2)
    with DecodeWorker() as worker:
        pieces = list((worker.read_planned if isolated else read_planned)(path, plan, read=KEY))
        every = ClipPlan(num_frames=4, window=0.4, stride=0.2, all_frames=True)
        stream = list((worker.read_planned if isolated else read_planned)(path, every, read=KEY))
    indices = [index for piece in pieces for index in piece.frames.indices]
    assert indices == [index for piece in stream for index in piece.frames.indices] == [0, 8, 16, 24, 32]
    clips = [clip for piece in pieces for clip in piece.clips]
    assert [clip.start for clip in clips] == pytest.approx([0.2 * i for i in range(7)])
    assert clips[1].indices == (0, 8, 8, 8)
    for clip in clips:
        assert clip.indices == read_clip(path, num_frames=4, start=clip.start, end=clip.end, read=KEY).indices


def test_images_and_arrays_are_read_as_they_are(tmp_path: Path) -> None:
    np.save(tmp_path / "film.npy", np.stack([picture(i) for i in range(5)]))
    pictures = [Image.fromarray(picture(i)) for i in range(5)]
    pictures[0].save(tmp_path / "film.gif", save_all=True, append_images=pictures[1:])
    pictures[0].save(tmp_path / "still.png")
    for name in ("film.npy", "film.gif"):
        with VideoReader(tmp_path / name, read=KEY) as reader:
            assert reader.get_frames(range(5)).indices == tuple(range(5))
            assert "a video that doesn't mark frames that could be left out is decoded whole" in reader.notes[-1]
    with VideoReader(tmp_path / "still.png", read=KEY) as reader:
        assert reader.notes == ()


def test_that_the_option_has_no_effect_is_a_warning(tmp_path: Path) -> None:
    pictures = [Image.fromarray(picture(i)) for i in range(5)]
    pictures[0].save(tmp_path / "film.gif", save_all=True, append_images=pictures[1:])
    with pytest.warns(UserWarning, match="is decoded whole: --decode"):
        read_clip(tmp_path / "film.gif", num_frames=2, read=KEY)
    plan = ClipPlan(num_frames=2, window=0.2)
    with DecodeWorker() as worker, pytest.warns(UserWarning, match="is decoded whole: --decode"):
        list(worker.read_planned(tmp_path / "film.gif", plan, read=KEY))


def test_a_report_is_about_the_file(make: Callable[[str], Path]) -> None:
    assert inspect(make("h264_short_gop.mkv"), full=True, read=KEY) == inspect(make("h264_short_gop.mkv"), full=True)


def test_the_option_is_checked_and_restored() -> None:
    assert ReadOptions.from_dict(asdict(KEY)) == KEY
    with pytest.raises(ValueError, match=r"decode='some': must be all, nonref or key\."):
        ReadOptions(decode="some")  # type: ignore[arg-type]


@pytest.mark.parametrize("later_group", [False, True], ids=["one group", "two groups"])
def test_the_first_frame_is_read_if_an_edit_list_hides_its_key_frame(tmp_path: Path, *, later_group: bool) -> None:
    path = encode(tmp_path / "whole.mp4", "libx264", count=40, gop=20 if later_group else 250, b_frames=0)
    trimmed = tmp_path / "trimmed.mp4"
    trimmed.write_bytes(with_edits(path.read_bytes(), (1.0, 0.4)))
    with VideoReader(trimmed) as exact, VideoReader(trimmed, read=KEY) as reader:
        indices = reader.get_frames(range(len(exact))).indices
        assert indices[0] == 0
        assert len(set(indices)) == 1 + later_group
        assert reader[0].equal(exact[0])
