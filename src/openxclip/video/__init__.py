"""Video in: which frames to take (`sampling`, `views`) and the frames themselves (`decoding`)."""

from openxclip.video.decoding import VIDEO_SUFFIXES, VideoReader, VideoSource, read_clip, read_clips, source_name
from openxclip.video.finding import find_videos
from openxclip.video.frames import Frames
from openxclip.video.images import IMAGE_SUFFIXES, natural_key
from openxclip.video.sampling import frame_range, sample_clips, sample_dense, sample_times, sample_uniform
from openxclip.video.views import Box, crop_boxes

__all__ = [
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "Box",
    "Frames",
    "VideoReader",
    "VideoSource",
    "crop_boxes",
    "find_videos",
    "frame_range",
    "natural_key",
    "read_clip",
    "read_clips",
    "sample_clips",
    "sample_dense",
    "sample_times",
    "sample_uniform",
    "source_name",
]
