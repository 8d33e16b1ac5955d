"""Read videos: choose frames (`sampling`, `clips`, `views`) and decode exactly those (`decoding`, `reading`)."""

from openxclip.video.checking import check, check_videos, write_report
from openxclip.video.clips import ClipPlan
from openxclip.video.decoding import VideoReader
from openxclip.video.finding import find_videos
from openxclip.video.formats import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from openxclip.video.frames import Frames
from openxclip.video.images import natural_key
from openxclip.video.inspection import VideoReport, inspect
from openxclip.video.limits import DEFAULT_LIMITS, NO_LIMITS, Limits
from openxclip.video.opening import VideoSource, source_name
from openxclip.video.options import ReadOptions
from openxclip.video.reading import read_clip, read_clips
from openxclip.video.sampling import frame_range, sample_clips, sample_times, sample_uniform
from openxclip.video.views import Box, crop_boxes, rescaled
from openxclip.video.worker import DecodeWorker

__all__ = [
    "DEFAULT_LIMITS",
    "IMAGE_SUFFIXES",
    "NO_LIMITS",
    "VIDEO_SUFFIXES",
    "Box",
    "ClipPlan",
    "DecodeWorker",
    "Frames",
    "Limits",
    "ReadOptions",
    "VideoReader",
    "VideoReport",
    "VideoSource",
    "check",
    "check_videos",
    "crop_boxes",
    "find_videos",
    "frame_range",
    "inspect",
    "natural_key",
    "read_clip",
    "read_clips",
    "rescaled",
    "sample_clips",
    "sample_times",
    "sample_uniform",
    "source_name",
    "write_report",
]
