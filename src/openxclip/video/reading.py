"""Read clips: one, several, or all clips of a plan piece by piece, so that a long video needs no more memory."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from openxclip.video.clips import Clip, ClipPlan, PlannedClips, check_memory, next_run
from openxclip.video.decoding import Arrays, MakeRoom, VideoReader, in_memory
from openxclip.video.frames import Frames
from openxclip.video.opening import VideoSource
from openxclip.video.options import ReadOptions
from openxclip.video.sampling import Sampling, Short


def read_clip(
    source: VideoSource,
    *,
    num_frames: int,
    start: float | None = None,
    end: float | None = None,
    short: Short = "spread",
    sampling: Sampling = "time",
    read: ReadOptions | None = None,
) -> Frames:
    """Read one clip over a video: `num_frames` frames at the midpoints of equal segments.

    Args:
        source: as for `VideoReader`.
        num_frames: frames of the clip.
        start, end: the part of the video to read, in seconds; default is all of it.
        short: how to read videos of fewer frames, see `sampling.sample_uniform`.
        sampling: "time", or "frames" to count frames as the authors do, see `sampling.Timeline`.
        read: as for `VideoReader`; `limits.seconds` holds for opening and reading together.

    Raises:
        VideoError: as `VideoReader`, or the video ends before `start`, or is too short while `short` is "error".
        ValueError: an argument is out of its range.
    """
    plan = ClipPlan(num_frames=num_frames, start=start, end=end, short=short, sampling=sampling)
    return read_clips(source, plan, read=read)[0]


def read_clips(source: VideoSource, plan: ClipPlan, *, read: ReadOptions | None = None) -> list[Frames]:
    """Read all clips of a plan in one decode; `read` and the errors are as for `read_clip`."""
    with VideoReader(source, read=read) as reader:
        arrays = read_arrays(reader, plan, make_room=in_memory)
    return split_clips(Frames.from_arrays(*arrays), plan)


def read_arrays(reader: VideoReader, plan: ClipPlan, *, make_room: MakeRoom) -> Arrays:
    """Read the frames of all clips of a plan, clip after clip; see `VideoReader.get_arrays`."""
    clips = PlannedClips(plan, reader)
    check_memory(reader, len(clips) * plan.frames_per_clip)
    return reader.get_arrays([index for clip in clips for index in clip.indices], make_room=make_room)


def split_clips(frames: Frames, plan: ClipPlan) -> list[Frames]:
    """Split the frames of all clips of a plan into one `Frames` per clip."""
    length = plan.frames_per_clip
    return [frames.take(slice(i, i + length)) for i in range(0, len(frames), length)]


@dataclass(frozen=True)
class ClipPiece:
    """Some consecutive clips, and frames that they need.

    Attributes:
        clips: one or more.
        frames: in the order of the video, each once: all that the clips need, or the next of them.
        duration: duration of the video, in seconds.
        left: how many frames of these clips come with the next pieces, which have the same clips.
    """

    clips: tuple[Clip, ...]
    frames: Frames
    duration: float
    left: int = 0


def read_planned(
    source: VideoSource,
    plan: ClipPlan,
    *,
    first: int = 0,
    bytes_kept: int | None = None,
    read: ReadOptions | None = None,
) -> Generator[ClipPiece, None, None]:
    """Read the clips of a plan, a piece at a time.

    Clips over the whole video need frames from its beginning to its end, so each piece of clips takes a decode of all
    of it. A caller that resizes frames as they come gets more clips in a piece, and their frames in several runs.

    Args:
        source: as for `VideoReader`.
        plan: which clips.
        first: clips to skip.
        bytes_kept: how many bytes of a frame the caller keeps until it has all frames of a piece; None means that it
            keeps the frame itself.
        read: as for `VideoReader`; `limits.seconds` holds for each piece.

    Raises:
        VideoError: as `VideoReader` and `PlannedClips`.
        ValueError: an argument is out of its range.
    """
    with VideoReader(source, read=read) as reader:
        planned = PlannedClips(plan, reader)
        while clips := planned.piece(first, reader, bytes_kept=bytes_kept):
            sent, left = 0, 1
            while left:
                run, left = next_run(clips, reader, sent=sent, bytes_kept=bytes_kept)
                sent += len(run)
                yield ClipPiece(tuple(clips), reader.get_frames(run), reader.duration, left)
            first += len(clips)
