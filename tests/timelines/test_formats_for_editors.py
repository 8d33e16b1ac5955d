"""EDL, OpenTimelineIO and FCPXML: frames at exact rates, read back by opentimelineio or checked by Apple's rules."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from handmade_timelines import CAT, ODD_LABELS, OWL, made_timeline, segment

from openxclip.timelines.formats import format_timelines, write_timelines
from openxclip.timelines.formats.frames import EDIT_RATES, exact_rate, frame_range, timecode
from openxclip.timelines.results import TimelineData

NTSC = {23.976: Fraction(24000, 1001), 29.97: Fraction(30000, 1001), 59.94: Fraction(60000, 1001)}
ODD = made_timeline(*(segment(label, i / 4, i / 4 + 0.2) for i, label in enumerate(ODD_LABELS)))


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        *NTSC.items(),
        (float(Fraction(24000, 1001)), Fraction(24000, 1001)),
        (24, Fraction(24)),
        (25.000001, Fraction(25)),
        (12.5, Fraction(25, 2)),
        (119.88, Fraction(120000, 1001)),
        (0.5, Fraction(1, 2)),
        (24.5, Fraction(49, 2)),
    ],
)
def test_rates_are_exact(fps: float, rate: Fraction) -> None:
    assert exact_rate(fps) == rate


@pytest.mark.parametrize("fps", [0, -25, float("nan"), float("inf"), 1e-9])
def test_rates_that_are_none(fps: float) -> None:
    assert exact_rate(fps) is None


@pytest.mark.parametrize("rate", EDIT_RATES)
def test_frames_do_not_drift(rate: Fraction) -> None:
    for first in (0, 1, 107_892, 2_000_003):
        part = segment(CAT, float(first / rate), float((first + 7) / rate))
        assert frame_range(part, rate) == (first, first + 7)


def test_a_segment_has_at_least_one_frame_within_the_video() -> None:
    rate = Fraction(25)
    assert frame_range(segment(CAT, 1.0, 1.001), rate) == (25, 26)
    assert frame_range(segment(CAT, 10.0, 10.0), rate, num_frames=250) == (249, 250)
    assert frame_range(segment(CAT, 9.0, 10.3), rate, num_frames=250) == (225, 250)


@pytest.mark.parametrize("rate", EDIT_RATES)
def test_timecode_is_that_of_opentimelineio(rate: Fraction) -> None:
    opentime = pytest.importorskip("opentimelineio").opentime
    random = np.random.default_rng(0)
    hour = int(3600 * rate)
    frames = {0, 1, 2, 1799, 1800, 1801, 3599, 3600, 17981, 17982, 17983, hour - 1, hour, 23 * hour}
    for frame in sorted(frames | set(random.integers(0, 23 * hour, 300).tolist())):
        assert timecode(frame, rate) == opentime.to_timecode(opentime.RationalTime(frame, float(rate)), float(rate))


def events_of(timeline: TimelineData, path: Path, rate: Fraction) -> list[tuple[int, int, int, str]]:
    """Source frames, record frame and label of the events that opentimelineio's adapter reads."""
    otio = pytest.importorskip("opentimelineio")
    read = otio.adapters.read_from_file(str(path), "cmx_3600", rate=float(rate))
    (track,) = read.tracks
    found = []
    for clip in track.find_clips():
        assert clip.name == "clip one.mp4"
        (comment,) = clip.metadata["cmx_3600"]["comments"]
        label = re.fullmatch(r"\|C:ResolveColor\w+ \|M:(.*) \|D:\d+", comment)[1]
        source, placed = clip.source_range, clip.range_in_parent()
        first, end = round(source.start_time.value), round(source.end_time_exclusive().value)
        found.append((first, end, round(placed.start_time.value), label))
    return found


@pytest.mark.parametrize("fps", [23.976, 24, 25, 29.97, 30, 50, 59.94, 60])
def test_events_are_read_back_at_their_frames(fps: float, tmp_path: Path) -> None:
    rate = NTSC.get(fps, Fraction(fps))
    starts = (10, 1798, 107_892, 1_900_000)
    parts = [segment(CAT, float(start / rate), float((start + 5) / rate)) for start in starts]
    timeline = made_timeline(*parts, fps=fps, duration=90_000.0)
    path = tmp_path / "a.edl"
    assert write_timelines([timeline], path) == []
    found = events_of(timeline, path, rate)
    assert [(first, end, label) for first, end, _, label in found] == [(n, n + 5, CAT) for n in starts]
    assert [placed - found[0][2] for _, _, placed, _ in found] == [start - 10 for start in starts]
    text = path.read_text(encoding="utf-8")
    assert ("FCM: DROP FRAME\n" in text) is (fps in (29.97, 59.94))
    mark = ";" if fps in (29.97, 59.94) else ":"
    assert f"00:00:00{mark}10 00:00:00{mark}15 01:00:00{mark}10 01:00:00{mark}15\n" in text


def test_overlapping_segments_in_an_edl(tmp_path: Path) -> None:
    parts = segment(CAT, 1, 4), segment(OWL, 2, 3), segment("a fox", 2, 5), segment("a hen", 2, 2.04)
    path = tmp_path / "a.edl"
    notes = write_timelines([made_timeline(*parts)], path)
    assert notes == [
        "footage/clip one.mp4: 2 events cut short where the next begins, because an EDL has one track; |D: has the "
        "whole length.",
        "footage/clip one.mp4: 2 events moved to a later frame, because an EDL has one event a frame.",
    ]
    found = events_of(made_timeline(*parts), path, Fraction(25))
    assert [event[:2] + event[3:] for event in found] == [
        (25, 50, CAT), (50, 51, "a fox"), (51, 52, "a hen"), (52, 75, OWL),
    ]  # fmt: skip
    assert "|M:a cat moves left |D:75\n" in path.read_text()


def test_odd_labels_stay_one_event_each(tmp_path: Path) -> None:
    write_timelines([ODD], tmp_path / "a.edl")
    labels = [label for *_, label in events_of(ODD, tmp_path / "a.edl", Fraction(25))]
    assert len(labels) == len(ODD_LABELS)
    assert labels[ODD_LABELS.index("a|b |D:5")] == "a/b /D:5"


@pytest.mark.parametrize(
    ("path", "reel"),
    [("clip one.mp4", "CLIPONE"), ("a/Möwe-2024-07.mov", "MOWE2024"), ("猫.mp4", "VIDEO1"), ("bl.mp4", "BL1")],
)
def test_reels_have_eight_letters_and_digits(path: str, reel: str) -> None:
    text, _ = format_timelines([made_timeline(segment(CAT, 1, 2), path=path)], "edl")
    assert f"\n001  {reel:8} V     C        00:00:01:00" in text


def test_what_an_edl_leaves_out() -> None:
    parts = [segment(CAT, 10 * n, 10 * n + 1) for n in range(1001)]
    late = segment(CAT, 23 * 3600, 23 * 3600 + 1)
    _, notes = format_timelines([made_timeline(*parts, late, duration=90_000.0)], "edl")
    assert notes == [
        "footage/clip one.mp4: 1 segment left out, because an EDL's timecode ends after 23 hours.",
        "footage/clip one.mp4: 1001 events; CMX 3600 has 999, and some editors read no more.",
    ]


@pytest.mark.parametrize(("fps", "chosen"), [(15, 30), (12.5, 25), (10, 30), (120, 60), (23, 25), (100, 50)])
def test_rates_that_editors_do_not_offer(fps: float, chosen: int) -> None:
    text, notes = format_timelines([made_timeline(segment(CAT, 1.2, 2), fps=fps)], "edl")
    assert notes == [
        f"footage/clip one.mp4: editors don't offer its {fps:g} frames per second, so its times are rounded to frames "
        f"of a project with {chosen}."
    ]
    assert f"00:00:01:{round(0.2 * chosen):02} 00:00:02:00" in text


@pytest.mark.parametrize("fps", [23.976, 25, 15])
def test_markers_are_read_back_by_opentimelineio(fps: float, tmp_path: Path) -> None:
    otio = pytest.importorskip("opentimelineio")
    rate = NTSC.get(fps, Fraction(fps))
    starts = (10, 86_400)
    parts = [segment(CAT, float(n / rate), float((n + 9) / rate), 0.75) for n in starts]
    path = tmp_path / "a.otio"
    assert write_timelines([made_timeline(*parts, fps=fps, duration=7200.0)], path) == []
    timeline = otio.adapters.read_from_file(str(path))
    assert timeline.name == "clip one"
    (clip,) = timeline.find_clips()
    assert clip.media_reference.target_url == Path("footage/clip one.mp4").absolute().as_uri()
    assert (
        clip.duration()
        == clip.available_range().duration
        == otio.opentime.RationalTime(round(7200 * rate), float(rate))
    )
    for marker, first in zip(clip.markers, starts, strict=True):
        assert marker.name == marker.metadata["openxclip"]["label"] == CAT
        assert marker.metadata["openxclip"]["score"] == 0.75
        assert marker.color == otio.schema.MarkerColor.BLUE
        frames = [otio.opentime.RationalTime(value, float(rate)) for value in (first, 9)]
        assert marker.marked_range == otio.opentime.TimeRange(*frames)


def test_several_videos_are_a_collection_of_timelines(tmp_path: Path) -> None:
    otio = pytest.importorskip("opentimelineio")
    path = tmp_path / "a.otio"
    write_timelines([ODD, made_timeline(path="https://example.org/owl.mp4")], path)
    first, second = otio.adapters.read_from_file(str(path))
    labels = [marker.name for clip in first.find_clips() for marker in clip.markers]
    assert len(labels) == len(ODD_LABELS)
    assert labels[ODD_LABELS.index("<b>bold</b> & \"quoted\" 'text'")] == "<b>bold</b> & \"quoted\" 'text'"
    assert "tab and control characters" in labels  # opentimelineio ends a text at a NUL character
    (clip,) = second.find_clips()
    assert (list(clip.markers), clip.media_reference.target_url) == ([], "https://example.org/owl.mp4")


def test_overlapping_markers_keep_their_colours_and_lengths(tmp_path: Path) -> None:
    otio = pytest.importorskip("opentimelineio")
    write_timelines([made_timeline(segment(CAT, 1, 4), segment(OWL, 1, 2))], tmp_path / "a.otio")
    (clip,) = otio.adapters.read_from_file(str(tmp_path / "a.otio")).find_clips()
    assert [(one.name, one.color, one.marked_range.duration.value) for one in clip.markers] == [
        (CAT, "BLUE", 75), (OWL, "GREEN", 25),
    ]  # fmt: skip


# What is used of Apple's DTD for FCPXML 1.10: an element's children in order, its required and its other attributes.
FCPXML = {
    "fcpxml": ("resources event*", "version", ""),
    "resources": ("(format|asset)*", "", ""),
    "format": ("", "id", "frameDuration width height"),
    "asset": ("media-rep", "id", "name start duration format hasVideo videoSources"),
    "media-rep": ("", "src", "kind"),
    "event": ("(asset-clip|project)*", "", "name"),
    "project": ("sequence", "", "name"),
    "sequence": ("spine", "format", "duration tcStart tcFormat"),
    "spine": ("asset-clip*", "", ""),
    "asset-clip": ("(marker|keyword)*", "ref", "name offset start duration format"),
    "marker": ("", "start value", "duration note"),
    "keyword": ("", "value", "start duration note"),
}


def seconds(text: str) -> Fraction:
    assert re.fullmatch(r"\d+(/\d+)?s", text)
    number = Fraction(text[:-1])
    assert int(text[:-1].partition("/")[2] or 1) < 2**31
    return number


def read_fcpxml(text: str) -> ElementTree.Element:
    """Check the elements, attributes, references and times of an FCPXML document."""
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n<fcpxml version="1.10">')
    root = ElementTree.fromstring(text)
    for element in root.iter():
        children, required, others = FCPXML[element.tag]
        pattern = "".join(f"(?:{part})" if part[-1] not in "*" else f"(?:{part[:-1]})*" for part in children.split())
        names = "".join(f"<{child.tag}>" for child in element)
        assert re.fullmatch(re.sub(r"([a-z]+(?:-[a-z]+)*)", r"(?:<\1>)", pattern), names), element.tag
        assert set(required.split()) <= set(element.attrib) <= {*required.split(), *others.split()}, element.tag
    identifiers = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert len(set(identifiers)) == len(identifiers)
    for element in root.iter():
        assert {element.attrib[name] for name in ("ref", "format") if name in element.attrib} <= set(identifiers)
    formats = {one.attrib["id"]: seconds(one.attrib["frameDuration"]) for one in root.iter("format")}
    for clip in root.iter("asset-clip"):
        frame, length = formats[clip.attrib["format"]], seconds(clip.attrib["duration"])
        for element in (clip, *clip):
            for name in {"start", "duration", "offset"} & set(element.attrib):
                assert (seconds(element.attrib[name]) / frame).denominator == 1  # else Final Cut Pro rounds it
        for element in clip:
            assert 0 <= seconds(element.attrib["start"]) < length
            assert seconds(element.attrib["start"]) + seconds(element.attrib["duration"]) <= length
    return root


@pytest.mark.parametrize("fps", [23.976, 24, 25, 29.97, 30, 50, 59.94, 60, 15])
def test_fcpxml_has_keywords_with_ranges_and_markers(fps: float) -> None:
    timeline = made_timeline(segment(CAT, 1, 2.5, 0.876), segment(OWL, 9.99, 10.5), fps=fps)
    text, notes = format_timelines([timeline], "fcpxml")
    assert len(notes) == (fps == 15)
    root = read_fcpxml(text)
    keywords, markers = root.findall("event/asset-clip/keyword"), root.findall(".//spine/asset-clip/marker")
    for found in (keywords, markers):
        assert [one.attrib["value"] for one in found] == [CAT, OWL]
        assert abs(seconds(found[0].attrib["start"]) - 1) <= Fraction(1, 2) / Fraction(fps)
    assert abs(seconds(keywords[0].attrib["duration"]) - Fraction(3, 2)) <= 1 / Fraction(fps)
    assert keywords[0].attrib["note"] == "0:01.0 to 0:02.5, score 0.88"
    media = root.find("resources/asset/media-rep")
    assert media.attrib["src"] == Path("footage/clip one.mp4").absolute().as_uri()
    assert (root.find("resources/format").attrib["width"], len(root.findall("event/project"))) == ("1280", 1)


def test_fcpxml_of_several_videos_with_odd_labels() -> None:
    unknown = made_timeline(path="owl.mp4", size=(0, 0))
    text, notes = format_timelines([ODD, unknown], "fcpxml")
    assert notes[1:] == ["owl.mp4: its width and height are unknown: set them in the editor's project."]
    root = read_fcpxml(text)
    values = [one.attrib["value"] for one in root.iter("keyword")]
    assert len(values) == len(ODD_LABELS)
    assert not any("," in value for value in values)
    assert values[ODD_LABELS.index("<b>bold</b> & \"quoted\" 'text'")] == "<b>bold</b> & \"quoted\" 'text'"
    assert len(root.findall("event/project")) == 2
