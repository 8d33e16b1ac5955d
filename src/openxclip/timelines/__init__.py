"""Find when something happens in videos, from words.

`finder` scores labels in the windows of videos, each against neutral texts, and `indexed` in the windows of an index;
`segments` turns the scores over time into segments; a `Timeline` holds both.
"""

from openxclip.timelines.calibration import Calibration, calibrate_videos, calibrated_contract, parse_rate
from openxclip.timelines.contracts import save_contract
from openxclip.timelines.cutting import SavedClip, save_clips
from openxclip.timelines.finder import DEFAULT_WINDOW, TimelineFinder
from openxclip.timelines.finding import iter_timelines
from openxclip.timelines.results import Segment, TimelineData
from openxclip.timelines.segments import SegmentOptions, find_segments
from openxclip.timelines.timeline import Timeline

__all__ = [
    "DEFAULT_WINDOW",
    "Calibration",
    "SavedClip",
    "Segment",
    "SegmentOptions",
    "Timeline",
    "TimelineData",
    "TimelineFinder",
    "calibrate_videos",
    "calibrated_contract",
    "find_segments",
    "iter_timelines",
    "parse_rate",
    "save_clips",
    "save_contract",
]
