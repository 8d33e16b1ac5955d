"""Subtitles and chapters are read by other programs, and what a format can't hold is said."""

from __future__ import annotations

import errno
from fractions import Fraction
from pathlib import Path

import av
import pytest
import webvtt
from handmade_timelines import CAT, ODD_LABELS, OWL, made_timeline, segment

from openxclip.errors import VideoError
from openxclip.timelines.formats import (
    FORMATS,
    TimelineWriter,
    check_target,
    format_timelines,
    split_format,
    write_timelines,
)
from openxclip.timelines.results import TimelineData

SUFFIXES = {
    "webvtt": ".vtt",
    "srt": ".srt",
    "edl": ".edl",
    "otio": ".otio",
    "fcpxml": ".fcpxml",
    "ffmetadata": ".ffmetadata",
    "qvhighlights": ".jsonl",
    "label-studio": ".json",
    "fiftyone": ".json",
}
ONE_VIDEO = ("webvtt", "srt", "edl", "ffmetadata")
ODD = made_timeline(*(segment(label, i / 4, i / 4 + 0.2) for i, label in enumerate(ODD_LABELS)))
LONG = made_timeline(segment(CAT, 359_998.9994, 360_001.25), duration=400_000.0)  # 100 hours


def written(timeline: TimelineData, path: Path, format: str | None = None) -> Path:
    assert write_timelines([timeline], path, format=format) == []
    return path


def shown(path: Path) -> list[tuple[float, float, str]]:
    """What FFmpeg's demuxer and decoder make of a file of subtitles: start, end and text."""
    found = []
    with av.open(str(path)) as container:
        for packet in container.demux(subtitles=0):
            for subtitle in packet.decode():
                start, length = (float(time * packet.time_base) for time in (packet.pts, packet.duration))
                text = subtitle.ass.decode().split(",", 8)[8]
                found.append((round(start, 3), round(start + length, 3), text))
    return found


@pytest.mark.parametrize("name", ["webvtt", "srt"])
def test_subtitles_are_read_by_webvtt_and_by_ffmpeg(name: str, tmp_path: Path) -> None:
    timeline = made_timeline(segment(OWL, 2.0, 3.5), segment(CAT, 0.25, 2.5), segment(CAT, 9.0, 9.0))
    path = written(timeline, tmp_path / f"a{SUFFIXES[name]}")
    captions = webvtt.read(path) if name == "webvtt" else webvtt.from_srt(path)
    expected = [("00:00:00.250", "00:00:02.500", CAT), ("00:00:02.000", "00:00:03.500", OWL)]
    expected.append(("00:00:09.000", "00:00:09.001", CAT))  # not empty, or no player shows it
    assert [(caption.start, caption.end, caption.text) for caption in captions] == expected
    assert shown(path) == [(0.25, 2.5, CAT), (2.0, 3.5, OWL), (9.0, 9.001, CAT)]


@pytest.mark.parametrize("name", ["webvtt", "srt"])
def test_odd_labels_stay_one_subtitle_each(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{SUFFIXES[name]}"
    (note,) = write_timelines([ODD], path)
    assert "labels were changed" in note
    captions = webvtt.read(path) if name == "webvtt" else webvtt.from_srt(path)
    assert len(captions) == len(shown(path)) == len(ODD_LABELS)
    texts = [text for _, _, text in shown(path)]
    for same in ("NOTE this", "STYLE", "42", "[CHAPTER]", "eine Möwe fliegt, 猫が左へ動く 🦉"):
        assert texts[ODD_LABELS.index(same)] == same
    assert texts[ODD_LABELS.index("two\nlines")] == "two lines"
    assert all("\\i" not in text and "\\b" not in text for text in texts)  # no label became formatting
    arrow = texts[ODD_LABELS.index("a --> b")]
    assert arrow == ("a --> b" if name == "webvtt" else "a --› b")


def test_labels_that_a_format_holds_cause_no_note() -> None:
    timeline = made_timeline(segment("an owl & a cat (3)", 0, 1))
    assert [format_timelines([timeline], name)[1] for name in FORMATS] == [[] for _ in FORMATS]


def test_subtitles_after_a_hundred_hours(tmp_path: Path) -> None:
    (caption,) = webvtt.read(written(LONG, tmp_path / "a.vtt"))
    assert (caption.start, caption.end) == ("99:59:58.999", "100:00:01.250")
    assert shown(written(LONG, tmp_path / "a.srt")) == [(359_998.999, 360_001.25, CAT)]


def test_a_timeline_without_segments_is_a_valid_file(tmp_path: Path) -> None:
    empty = made_timeline()
    assert len(webvtt.read(written(empty, tmp_path / "a.vtt"))) == 0
    assert written(empty, tmp_path / "a.srt").read_bytes() == b""
    with av.open(str(written(empty, tmp_path / "a.ffmetadata")), format="ffmetadata") as container:
        assert container.chapters() == []


def chapters_of(path: Path, **options: str) -> list[tuple[float, float, str]]:
    with av.open(str(path), **options) as container:
        return [
            (float(one["start"] * one["time_base"]), float(one["end"] * one["time_base"]), one["metadata"]["title"])
            for one in container.chapters()
        ]


def test_chapters_split_where_labels_overlap_and_fill_the_video(tmp_path: Path) -> None:
    timeline = made_timeline(segment(CAT, 1, 4), segment(OWL, 3, 5), segment(CAT, 6, 7), segment(CAT, 7, 8))
    path = written(timeline, tmp_path / "a.ffmetadata")
    found = chapters_of(path, format="ffmetadata")
    both = f"{CAT} + {OWL}"
    assert found == [(0, 1, "–"), (1, 3, CAT), (3, 4, both), (4, 5, OWL), (5, 6, "–"), (6, 8, CAT), (8, 10, "–")]
    with av.open(str(path), format="ffmetadata") as container:
        assert container.metadata["title"] == "clip one.mp4"


def test_ffmpeg_stores_the_chapters_in_a_video(tmp_path: Path) -> None:
    timeline = made_timeline(segment(CAT, 0.5, 1.25), segment(OWL, 1, 2), duration=2.0)
    path = written(timeline, tmp_path / "a.ffmetadata")
    video = tmp_path / "a.mp4"
    with av.open(str(path), format="ffmetadata") as source, av.open(str(video), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, width=32, height=32)
        container.set_chapters(source.chapters())
        for _ in range(50):
            container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(stream.encode())
    assert chapters_of(video) == chapters_of(path, format="ffmetadata")
    assert [title for *_, title in chapters_of(video)] == ["–", CAT, f"{CAT} + {OWL}", OWL]


def test_odd_labels_stay_one_chapter_each(tmp_path: Path) -> None:
    path = tmp_path / "a.ffmetadata"
    write_timelines([ODD], path)
    titles = [title for *_, title in chapters_of(path, format="ffmetadata")]
    assert len([title for title in titles if title != "–"]) == len(ODD_LABELS)
    assert titles[::2][ODD_LABELS.index("[CHAPTER]")] == "[CHAPTER]"
    assert titles[::2][ODD_LABELS.index(";FFMETADATA1")] == ";FFMETADATA1"
    assert titles[::2][ODD_LABELS.index("# a=b;c\\")].rstrip() == "# a=b;c\\"


@pytest.mark.parametrize("name", FORMATS)
def test_segments_without_times_are_left_out_with_a_note(name: str) -> None:
    nan = float("nan")
    wrong = segment(CAT, nan, 2), segment(CAT, 1, float("inf")), segment(OWL, 3, 2)
    text, notes = format_timelines([made_timeline(*wrong, segment(OWL, 1, 2))], name)
    assert "footage/clip one.mp4: 3 segments left out, because the times are not valid numbers." in notes
    assert "nan" not in text.lower()
    assert OWL in text


@pytest.mark.parametrize("name", FORMATS)
def test_a_duration_and_a_rate_that_are_unknown(name: str) -> None:
    nan = float("nan")
    timeline = made_timeline(segment(CAT, 1, 2.5), duration=nan, fps=nan, size=(0, 0))
    text, notes = format_timelines([timeline], name)
    assert CAT in text
    uses_frames = name in ("edl", "otio", "fcpxml", "label-studio", "fiftyone")
    note = "footage/clip one.mp4: its frame rate is unknown, so its frames are counted at 25 per second."
    assert (note in notes) is uses_frames


@pytest.mark.parametrize("name", FORMATS)
def test_a_timeline_of_segments_alone_is_written(name: str) -> None:
    text, _ = format_timelines([TimelineData(path="a.mp4", labels=(CAT,), segments=(segment(CAT, 1.0, 2.0),))], name)
    assert CAT in text


@pytest.mark.parametrize("name", FORMATS)
def test_the_ending_and_the_name_choose_the_format(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{SUFFIXES[name]}"
    assert check_target(path, format=name) == name
    if SUFFIXES[name] == ".json":
        with pytest.raises(ValueError, match=r"a\.json: \.json can be label-studio or fiftyone: name the format\."):
            check_target(path)
    else:
        assert check_target(path) == name
    with pytest.raises(ValueError, match=r"its name must end with"):
        check_target(tmp_path / "clip.mp4", format=name)  # or a video could be replaced


def test_unknown_endings_and_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.txt: its name must end with .*\.vtt \(webvtt\).*\.json \(fiftyone\)"):
        check_target(tmp_path / "a.txt")
    with pytest.raises(ValueError, match="format='vtt': must be one of webvtt, srt"):
        check_target(tmp_path / "a.vtt", format="vtt")
    with pytest.raises(ValueError, match="there is no folder"):
        check_target(tmp_path / "none" / "a.vtt")
    assert check_target(tmp_path / "a.txt", format="ffmetadata") == "ffmetadata"


@pytest.mark.parametrize(
    ("text", "format", "path"),
    [
        ("fiftyone:labels.json", "fiftyone", "labels.json"),
        ("labels.json", None, "labels.json"),
        ("C:labels.json", None, "C:labels.json"),
    ],
)
def test_a_format_before_a_colon(text: str, format: str | None, path: str) -> None:
    assert split_format(text) == (format, path)


@pytest.mark.parametrize("name", FORMATS)
def test_several_videos(name: str, tmp_path: Path) -> None:
    two = [made_timeline(segment(label, 1, 2), path=f"{label[-4:]}.mp4") for label in (CAT, OWL)]
    path = tmp_path / f"a{SUFFIXES[name]}"
    if name in ONE_VIDEO:
        with pytest.raises(ValueError, match=rf"{name} holds one video: put \{{stem\}} into the name, such as"):
            write_timelines(two, path, format=name)
        writer = TimelineWriter(path, format=name)
        writer.add(two[0])
        with pytest.raises(ValueError, match="holds one video"):
            writer.add(two[1])
        assert list(tmp_path.iterdir()) == []
    else:
        write_timelines(two, path, format=name)
        assert all(label in path.read_text(encoding="utf-8") for label in (CAT, OWL))


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_for_each_video(name: str, tmp_path: Path) -> None:
    videos = ("a/cat.mp4", "owl.mp4", "b/cat.mov", "https://example.org/a%20fox.mp4?x=1")
    timelines = [made_timeline(segment(CAT, 1, 2), path=video) for video in videos]
    suffix = SUFFIXES[name]
    writer = TimelineWriter(tmp_path / f"{{stem}}-found{suffix}", format=name, num_videos=4)
    for number, timeline in enumerate(timelines, 1):
        assert writer.add(timeline) == []
        assert len(list(tmp_path.iterdir())) == number  # at once, so that an interruption loses nothing
    assert writer.finish() == []
    names = [f"{stem}-found{suffix}" for stem in ("cat", "owl", "cat-2", "a fox")]
    assert [path.name for path in writer.written] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_the_stem_is_refused_in_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\{stem\} can't be in the name of a folder"):
        check_target(tmp_path / "{stem}" / "a.vtt")


def test_videos_that_could_not_be_read(tmp_path: Path) -> None:
    error = VideoError("bad.mp4", "it is no video.")
    bad, path = TimelineData(path="bad.mp4", labels=(CAT,), error=error), tmp_path / "a.vtt"
    left_out = f"bad.mp4: left out of {path}, because it could not be read."
    assert write_timelines([bad], path) == [left_out, f"{path} was not written, because no video could be read."]
    assert not path.exists()
    assert write_timelines([bad, made_timeline(segment(CAT, 1, 2))], path) == [left_out]
    assert len(webvtt.read(path)) == 1


def test_a_video_that_is_cut_off_is_written(tmp_path: Path) -> None:
    cut = made_timeline(segment(CAT, 1, 2), error=VideoError("clip", "it is cut off: read up to 0:10.0."))
    path = tmp_path / "a.vtt"
    assert write_timelines([cut], path) == [f"{cut.path}: {path} has its segments up to where it could be read."]
    assert len(webvtt.read(path)) == 1


def test_nothing_half_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(made_timeline(segment(CAT, 1, 2)), tmp_path / "a.vtt")
    before = path.read_bytes()

    def full(self: Path, *_: object, **__: object) -> int:
        self.write_bytes(b"WEB")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        write_timelines([made_timeline(segment(OWL, 1, 2))], path)
    assert [one.name for one in tmp_path.iterdir()] == ["a.vtt"]
    assert path.read_bytes() == before


def test_times_are_clamped_to_the_video() -> None:
    text, notes = format_timelines([made_timeline(segment(CAT, -0.5, 0.5), segment(OWL, 9.5, 10.2))], "webvtt")
    assert "00:00:00.000 --> 00:00:00.500" in text
    assert "00:00:09.500 --> 00:00:10.000" in text
    assert notes == []


def test_milliseconds_of_chapters_are_whole(tmp_path: Path) -> None:
    path = written(made_timeline(segment(CAT, 1 / 3, 2 / 3)), tmp_path / "a.ffmetadata")
    with av.open(str(path), format="ffmetadata") as container:
        assert [one["time_base"] for one in container.chapters()] == [Fraction(1, 1000)] * 3
        assert [one["start"] for one in container.chapters()] == [0, 333, 667]
