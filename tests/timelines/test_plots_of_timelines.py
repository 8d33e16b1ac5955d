from __future__ import annotations

import sys
import warnings
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from drawn_timelines import drawn_timeline
from PIL import Image
from sounding_videos import video_with_sound

from openxclip.errors import MissingPackageError, VideoError
from openxclip.timelines import drawing, plots
from openxclip.timelines.plots import plot_timeline
from openxclip.timelines.reading import read_thumbnails

ORANGE, DARK_ORANGE = (232, 113, 10), (255, 165, 74)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return video_with_sound(tmp_path_factory.mktemp("plots") / "film.mp4", sound=None, tracks=[], seconds=2.0)


def columns_of(path: Path, colour: tuple[int, int, int]) -> np.ndarray:
    """Where a colour is in a picture: the numbers of its columns."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return np.flatnonzero((np.abs(pixels - colour).max(axis=-1) < 8).any(axis=0))


def height_of(path: Path) -> int:
    with Image.open(path) as picture:
        return picture.height


def texts_of(path: Path) -> list[str]:
    return [element.text or "" for element in ET.parse(path).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize(("dark", "colour"), [(False, ORANGE), (True, DARK_ORANGE)])
def test_a_segment_is_drawn_at_its_time(tmp_path: Path, dark: bool, colour: tuple[int, int, int]) -> None:
    timeline = drawn_timeline("a cat", duration=20.0)
    path = plot_timeline(timeline, tmp_path / "t.png", thumbnails=False, dark=dark)
    columns = columns_of(path, colour)
    left, right = 2.35 * 150, (11 - 0.35) * 150  # the time axis, in pixels
    segment = timeline.segments[0]
    expected = [left + time / 20 * (right - left) for time in (segment.start, segment.end)]
    assert columns[0] == pytest.approx(expected[0], abs=3)
    assert columns[-1] == pytest.approx(expected[1], abs=3)


def test_frames_of_the_video_are_those_of_their_times(video: Path) -> None:
    early, late = read_thumbnails(video, [0.1, 1.9], side=40)
    assert early.shape == late.shape == (27, 40, 3)
    assert int(late[..., 2].mean()) - int(early[..., 2].mean()) > 100  # `scene` gets bluer


def test_a_picture_with_frames_is_higher_and_a_missing_video_is_said(tmp_path: Path, video: Path) -> None:
    timeline = drawn_timeline("a cat", path=str(video), duration=2.0)
    with_frames = height_of(plot_timeline(timeline, tmp_path / "a.png"))
    lost = replace(timeline, path=str(tmp_path / "lost.mp4"))
    with pytest.warns(UserWarning, match=r"no frames of the video: .*lost.mp4: there is no such file"):
        without = height_of(plot_timeline(lost, tmp_path / "b.png"))
    assert with_frames > without + 80
    given = height_of(plot_timeline(lost, tmp_path / "c.png", video=video.read_bytes()))
    assert given == with_frames


def test_an_svg_holds_its_labels_as_text_in_any_script(tmp_path: Path) -> None:
    labels = ["a & <b>", "costs $5 or $6", "猫が走る", "🎉", "line\nbreak\x07", "half \udcff pair"]
    path = plot_timeline(drawn_timeline(*labels, cuts=(3.0, 9.0)), tmp_path / "t.svg", thumbnails=False)
    texts = texts_of(path)
    assert {"a & <b>", "costs $5 or $6", "猫が走る", "🎉", "line break", "half pair", "2 cuts", "film.mp4"} <= set(
        texts
    )
    assert {"0:00", "0:10", "0:20"} <= set(texts)


def test_characters_without_a_font_are_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "_FALLBACKS", ("no such font",))
    timeline = drawn_timeline("猫が走る", "🎉 party", "猫")
    with pytest.warns(UserWarning, match=r"no font for 5 of the characters .*Install a font") as caught:
        plot_timeline(timeline, tmp_path / "t.png", thumbnails=False)
    assert len(caught) == 1


def test_a_long_label_is_wrapped_and_shortened() -> None:
    assert drawing.wrapped("a very long label of many words", width=12, lines=2) == "a very long\nlabel of…"
    assert drawing.wrapped("猫" * 40, width=12, lines=2) == "\n".join(["猫" * 6, "猫" * 5 + "…"])
    assert drawing.wrapped("", width=12, lines=2) == ""


@pytest.mark.parametrize(
    ("end", "last", "step"), [(0.4, 0.4, 0.1), (10, 10, 1), (62, 60, 10), (3600, 3600, 600), (9e5, 864_000, 172_800)]
)
def test_the_ticks_of_the_time_axis_are_round(end: float, last: float, step: float) -> None:
    ticks = drawing.time_ticks(end, most=11)
    assert ticks[0] == 0
    assert ticks[1] == pytest.approx(step)
    assert ticks[-1] == pytest.approx(last)
    assert len(ticks) <= 11


def test_a_curve_of_many_windows_loses_no_peak() -> None:
    starts = np.arange(10_000.0)
    scores = np.zeros(10_000, np.float32)
    scores[[17, 5000, 9_999]] = 0.9
    scores[3000:3050] = np.nan
    times, heights = drawing.curve(starts, starts + 1, scores, end=10_000.0, most=500)
    assert len(times) == 502
    assert times[heights > 0.8] == pytest.approx([0, 10, 5010, 9_990, 10_000], abs=11)
    assert (times[0], times[-1]) == (0.0, 10_000.0)
    assert np.isnan(heights).sum() == 2


def test_an_hour_with_twelve_labels_is_a_small_svg(tmp_path: Path) -> None:
    labels = [f"label number {k}" for k in range(12)]
    timeline = drawn_timeline(*labels, duration=3600.0, cuts=tuple(np.arange(0.5, 3600, 5).tolist()))
    noise = np.random.default_rng(0).uniform(0, 1, timeline.scores.shape).astype(np.float32)
    path = plot_timeline(replace(timeline, scores=noise), tmp_path / "t.svg", thumbnails=False)
    assert path.stat().st_size < 1_000_000
    assert "1:00:00" in texts_of(path)


def test_what_is_missing_is_written_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "_MAX_LABELS", 3)
    error = VideoError("film.mp4", "it is cut off: read up to 0:12.0")
    cut = drawn_timeline("a cat", until=12.0, error=error)
    texts = texts_of(plot_timeline(cut, tmp_path / "a.svg", thumbnails=False))
    assert {"not read", "Not read to its end: it is cut off: read up to 0:12.0"} <= set(texts)
    many = drawn_timeline(*(f"label {k}" for k in range(5)))
    many.scores[:, 1] = np.nan
    texts = texts_of(plot_timeline(many, tmp_path / "b.svg", thumbnails=False))
    assert "3 of 5 labels are drawn: those with the highest scores." in texts
    assert any("windows have a label without a score" in text for text in texts)
    empty = replace(drawn_timeline("a cat"), starts=np.zeros(0), ends=np.zeros(0), scores=np.zeros((0, 1), np.float32))
    texts = texts_of(plot_timeline(empty, tmp_path / "c.svg", thumbnails=False))
    assert {"not read", "There are no windows, so there are no scores."} <= set(texts)


def test_the_settings_of_matplotlib_stay_as_they_are(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    plot_timeline(drawn_timeline("a cat"), tmp_path / "t.svg", thumbnails=False)
    assert dict(mpl.rcParams) == before


def test_the_same_timeline_gives_the_same_file(tmp_path: Path) -> None:
    timeline = drawn_timeline("a cat", "a dog")
    for suffix in ("svg", "png"):
        one, two = (plot_timeline(timeline, tmp_path / f"{name}.{suffix}", thumbnails=False) for name in "ab")
        assert one.read_bytes() == two.read_bytes()


def test_what_cannot_be_drawn_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timeline = drawn_timeline("a cat")
    with pytest.raises(ValueError, match=r"must end with .png or .svg"):
        plot_timeline(timeline, tmp_path / "t.jpg")
    with pytest.raises(ValueError, match="there is no folder"):
        plot_timeline(timeline, tmp_path / "no" / "t.png")
    with pytest.raises(ValueError, match="no label"):
        plot_timeline(replace(timeline, labels=()), tmp_path / "t.png")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'openxclip\[plots\]'"):
        plot_timeline(timeline, tmp_path / "t.png")
    assert list(tmp_path.iterdir()) == []


def test_a_picture_gives_no_warning(tmp_path: Path, video: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_timeline(drawn_timeline("a cat", path=str(video), duration=2.0), tmp_path / "t.png")
