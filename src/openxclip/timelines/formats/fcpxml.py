"""FCPXML 1.10 of Final Cut Pro (developer.apple.com/documentation/professional-video-applications/fcpxml-reference)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from openxclip.common.times import format_time
from openxclip.timelines.formats.frames import edit_rate, frame_range, num_frames_of, timed_segments
from openxclip.timelines.formats.texts import clean_labels, media_url, name_of, one_line, stem_of
from openxclip.timelines.results import TimelineData


def format_fcpxml(timelines: Sequence[TimelineData], notes: list[str]) -> str:
    """Return timelines as FCPXML; notes about what it can't hold are added to `notes`.

    Each video is a clip in the browser, whose segments are keywords with a range, and a project, in which they are
    markers.
    """
    root = Element("fcpxml", version="1.10")
    resources = SubElement(root, "resources")
    event = SubElement(root, "event", name="openxclip")
    reason = "a marker has it in one line without control characters, and a comma separates keywords"
    texts = clean_labels(timelines, lambda label: one_line(label.replace(",", ";")), reason, notes)
    for number, timeline in enumerate(timelines, 1):
        _add_video(resources, event, timeline, number, texts, notes)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n{ElementTree.tostring(root, "unicode")}\n'


def _add_video(
    resources: Element, event: Element, timeline: TimelineData, number: int, texts: dict[str, str], notes: list[str]
) -> None:
    rate = edit_rate(timeline, notes)
    num_frames = num_frames_of(timeline, rate)
    shape = SubElement(resources, "format", id=f"f{number}", frameDuration=_time(1, rate))
    if min(timeline.size) > 0:
        shape.attrib |= {"width": str(timeline.size[0]), "height": str(timeline.size[1])}
    else:
        notes.append(f"{timeline.path}: its width and height are unknown: set them in the editor's project.")
    name, length = one_line(name_of(timeline.path)), _time(num_frames, rate)
    part = {"name": name, "start": "0s", "duration": length, "format": shape.attrib["id"]}
    asset = SubElement(resources, "asset", {"id": f"a{number}", **part, "hasVideo": "1", "videoSources": "1"})
    SubElement(asset, "media-rep", kind="original-media", src=media_url(timeline.path))
    clip = SubElement(event, "asset-clip", {"ref": asset.attrib["id"], **part})
    project = SubElement(event, "project", name=one_line(stem_of(timeline.path)))
    times = {"duration": length, "tcStart": "0s", "tcFormat": "NDF"}
    sequence = SubElement(project, "sequence", {"format": part["format"], **times})
    spine = SubElement(sequence, "spine")
    placed = SubElement(spine, "asset-clip", {"ref": asset.attrib["id"], "offset": "0s", **part})
    for segment in timed_segments(timeline, notes):
        first, end = frame_range(segment, rate, num_frames)
        start, text = _time(first, rate), texts[segment.label]
        note = f"{format_time(segment.start)} to {format_time(segment.end)}, score {segment.score:.2f}"
        SubElement(clip, "keyword", start=start, duration=_time(end - first, rate), value=text, note=note)
        SubElement(placed, "marker", start=start, duration=_time(1, rate), value=text, note=note)


def _time(frames: int, rate: Fraction) -> str:
    """Return a time in seconds as a fraction over the rate: 1001/30000s, 4s."""
    seconds = frames / rate
    if seconds.denominator == 1:
        return f"{seconds.numerator}s"
    return f"{frames * rate.denominator}/{rate.numerator}s"
