"""Find when something happens in videos, from words.

`finding` reads videos and scores labels in their windows, each against neutral texts; `segments` turns the scores over
time into segments; `Timeline` holds both.
"""

from openxclip.timelines.finding import DEFAULT_WINDOW, TimelineFinder, iter_timelines
from openxclip.timelines.results import Segment, TimelineData
from openxclip.timelines.segments import SegmentOptions, find_segments
from openxclip.timelines.timeline import Timeline

__all__ = [
    "DEFAULT_WINDOW",
    "Segment",
    "SegmentOptions",
    "Timeline",
    "TimelineData",
    "TimelineFinder",
    "find_segments",
    "iter_timelines",
]
