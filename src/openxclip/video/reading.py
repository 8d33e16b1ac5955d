"""Read one clip or all clips of a plan, all at once or a piece at a time with bounded memory."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from openxclip.video.clips import Clip, ClipPlan, PlannedClips, check_memory, next_indices
from openxclip.video.decoding import VideoReader
from openxclip.video.frames import Frames
from openxclip.video.opening import VideoSource
from openxclip.video.options import ReadOptions
from openxclip.video.sampling import Sampling, Short
from openxclip.video.sweeping import Sweep


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
        source: see `VideoReader`.
        num_frames: number of frames of the clip.
        start, end: the part of the video to read, in seconds; default is the whole video.
        short: how to read videos with fewer frames, see `sampling.sample_uniform`.
        sampling: "time", or "frames" to count frames as the authors do, see `sampling.Timeline`.
        read: see `VideoReader`; `limits.seconds` applies to opening and reading together.

    Raises:
        VideoError: see `VideoReader`; or the video ends before `start`, or is too short while `short` is "error".
        ValueError: an argument is out of range.

    Examples:
        >>> from openxclip.video import read_clip
        >>> clip = read_clip("samples/cat_moves_left.mp4", num_frames=8)
        >>> clip.frames_THWC.shape, clip.indices
        (torch.Size([8, 256, 256, 3]), (3, 9, 15, 21, 27, 33, 39, 45))
    """
    plan = ClipPlan(num_frames=num_frames, start=start, end=end, short=short, sampling=sampling)
    return read_clips(source, plan, read=read)[0]


def read_clips(source: VideoSource, plan: ClipPlan, *, read: ReadOptions | None = None) -> list[Frames]:
    """Read all clips of a plan in one decode; see `read_clip` for `read` and the errors."""
    with VideoReader(source, read=read) as reader:
        arrays = reader.get_arrays(planned_indices(plan, reader))
    return split_clips(Frames.from_arrays(*arrays), plan)


def planned_indices(plan: ClipPlan, reader: VideoReader) -> list[int]:
    """Return the indices of the frames of all clips of a plan, clip after clip; the errors are as for `read_clip`."""
    clips = PlannedClips(plan, reader)
    check_memory(reader, len(clips) * plan.frames_per_clip)
    return [index for clip in clips for index in clip.indices]


def split_clips(frames: Frames, plan: ClipPlan) -> list[Frames]:
    """Split the frames of all clips of a plan into one `Frames` per clip."""
    length = plan.frames_per_clip
    return [frames.take(slice(i, i + length)) for i in range(0, len(frames), length)]


@dataclass(frozen=True)
class ClipPiece:
    """Some frames of a video, and the clips whose last frame is among them.

    Attributes:
        clips: the clips, in order. Their frames are in this piece or in earlier ones.
        frames: frames that the clips or later ones need, each once, in the order of the video.
        duration: duration of the video, in seconds.
        fps: average number of frames of the video per second.
        keep_from: no later clip needs a frame that was sent and comes before this one; None if no later clip needs any,
            and the next piece may begin earlier in the video.
    """

    clips: tuple[Clip, ...]
    frames: Frames
    duration: float
    fps: float
    keep_from: int | None = None


def read_planned(
    source: VideoSource,
    plan: ClipPlan,
    *,
    first: int = 0,
    after: int = -1,
    bytes_kept: int | None = None,
    read: ReadOptions | None = None,
) -> Generator[ClipPiece, None, None]:
    """Read the clips of a plan, a piece at a time.

    Windows are read in one pass over the video, and frames that they share are read once (see `sweeping.Sweep`). The
    exception are long windows that begin so shortly after each other that the caller would have to keep more than 256
    MiB of frames: these are read in groups, and each group decodes its part of the video.

    Clips over the whole video need frames from its beginning to its end, so each group of clips takes a decode of the
    whole video. A caller that resizes frames at once gets larger groups, whose frames come in several pieces.

    Args:
        source: see `VideoReader`.
        plan: the clips to read.
        first: number of clips to skip.
        after: with windows, the last frame that was read before, in another process; -1 if there was none.
        bytes_kept: bytes per frame that the caller keeps as long as later clips need it; None if it keeps the frame
            itself; 0 if it keeps nothing, because it only looks at the frames that windows need.
        read: see `VideoReader`; `limits.seconds` applies to each piece.

    Raises:
        VideoError: see `VideoReader` and `PlannedClips`; after all clips, the video is cut off (see
            `ReadOptions.allow_cut_off`).
        ValueError: an argument is out of range.
    """
    with VideoReader(source, read=read) as reader:
        planned, duration, fps = PlannedClips(plan, reader), reader.duration, reader.fps
        if planned.can_sweep(reader, bytes_kept=bytes_kept):
            sweep = Sweep(reader, planned, first=first, after=after, every=plan.all_frames)
            while (swept := sweep.next_piece()) is not None:
                frames = Frames.from_arrays(swept.frames_THWC, swept.times_T, tuple(swept.indices))
                piece = ClipPiece(tuple(swept.clips), frames, duration, fps, swept.keep_from)
                del swept, frames
                yield piece
                del piece  # frees its frames before the next ones are read
                reader.restart_clock()
            first = len(planned)
        while clips := planned.group(first, reader, bytes_kept=bytes_kept):
            sent, left = 0, 1
            while left:
                indices, left = next_indices(clips, reader, sent=sent, bytes_kept=bytes_kept)
                sent += len(indices)
                complete, keep_from = ((), 0) if left else (tuple(clips), None)
                yield ClipPiece(complete, reader.get_frames(indices), duration, fps, keep_from)
            first += len(clips)
        if reader.cut_off is not None:
            raise reader.cut_off
