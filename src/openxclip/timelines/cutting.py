"""Cut the segments of timelines out of their videos: copy their packets if a key frame allows it, else encode."""

from __future__ import annotations

import heapq
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np

from openxclip.common.files import atomic_file, checked_folder
from openxclip.errors import VideoError
from openxclip.timelines.clip_names import clip_names, refuse_existing
from openxclip.timelines.copying import (
    CopyPlan,
    add_copied_stream,
    container_start,
    copy_packets,
    plan_copy,
    video_stream,
)
from openxclip.timelines.encoding import add_encoded_stream, encoded_packets
from openxclip.timelines.reading import options_for
from openxclip.timelines.results import Segment, TimelineData
from openxclip.timelines.sound import Sound, sound_error
from openxclip.video import ReadOptions, VideoReader, VideoSource, frame_range
from openxclip.video.failures import machine_failure
from openxclip.video.memory import MemoryVideo
from openxclip.video.opening import is_buffer

#: How much earlier than its segment a copied clip may begin, and how much later it may end, in seconds.
DEFAULT_TOLERANCE = 0.5

_KEPT_METADATA = (
    "title",
    "artist",
    "author",
    "comment",
    "copyright",
    "creation_time",
    "date",
    "description",
    "location",
)
_HIGHEST_ERRNO = 4095  # FFmpeg's own error numbers are far above those of the system


@dataclass(frozen=True, kw_only=True)
class SavedClip:
    """A segment that was cut out of its video.

    Attributes:
        source: the name of the video.
        segment: the segment.
        path: the clip; None if it could not be made.
        start, end: the part of the video that is in the clip, in seconds; NaN without a clip. An encoded clip has the
            frames of the segment. A copied one may begin earlier and end later, by the tolerance at most.
        was_encoded: whether its picture was encoded again. If not, its frames equal those of the video, bit for bit.
        reason: why it was encoded; empty if it wasn't.
        notes: sentences about what the clip lacks.
        error: why there is no clip; None if there is one.
    """

    source: str
    segment: Segment
    path: Path | None
    start: float = math.nan
    end: float = math.nan
    was_encoded: bool = False
    reason: str = ""
    notes: tuple[str, ...] = ()
    error: VideoError | None = None


class _NoCopyError(Exception):
    """A clip can't be copied; the text is the reason."""


def save_clips(
    timelines: TimelineData | Iterable[TimelineData],
    folder: str | Path,
    *,
    video: VideoSource | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
    read: ReadOptions | None = None,
    on_clip: Callable[[SavedClip], object] = lambda clip: None,
) -> list[SavedClip]:
    """Cut each segment out of its video, with its sound, into a file of its own.

    A clip is copied without encoding if a key frame is shown at most `tolerance` seconds before the segment: it then
    begins with that frame, and it keeps the codecs, the quality and the rotation of the video. It is an MP4 if its
    codecs usually are in one, else a file of the kind that the video is (MOV, WebM or Matroska). Each copy is read
    again and compared with the video before it gets its name. Otherwise the clip has exactly the frames of the segment,
    encoded as they are shown (upright, in 8 bits of BT.709) as H.264 in MP4; its sound is copied if MP4 can hold it,
    else encoded as AAC.

    Files are named by video, start (hours, minutes, seconds) and label: film_00-01-02.5_a-cat-jumps.mp4. Each file is
    complete as soon as it has its name, so an interruption leaves only whole clips.

    Args:
        timelines: one timeline, or several.
        folder: folder of the clips, made if it doesn't exist. No file in it is replaced.
        video: the video of the only timeline; default is the file `timeline.path`.
        tolerance: how much earlier than its segment a copied clip may begin, and how much later it may end, in seconds.
            With 0, a clip is copied only if it has exactly the frames of its segment; with infinity, from the key frame
            before the segment, however far away that is.
        read: how to open the videos.
        on_clip: called with each clip after it has been made, or could not be.

    Returns:
        A clip for each segment, in order; with `error` if its video can't be read.

    Raises:
        ValueError: `tolerance` is negative, `video` was given with several timelines, a clip exists, or nothing can be
            written to the folder. Nothing has been written then.
        TypeError: `video` is an open file.
        OSError: a clip can't be written. The clips before it are there.
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance={tolerance}: must be 0 seconds or more.")
    all_timelines = [timelines] if isinstance(timelines, TimelineData) else list(timelines)
    if video is not None and len(all_timelines) != 1:
        raise ValueError(f"video is given for {len(all_timelines)} timelines: give one timeline, or none of both.")
    if video is not None and not (isinstance(video, str | os.PathLike | MemoryVideo) or is_buffer(video)):
        raise TypeError(f"a video to cut is a path, bytes or frames, not {type(video).__name__}: give its path.")
    names = clip_names(all_timelines)
    target = checked_folder(folder)
    refuse_existing(target, [name for of_timeline in names for name in of_timeline])
    clips: list[SavedClip] = []
    if any(names):
        target.mkdir(parents=True, exist_ok=True)
    for timeline, of_timeline in zip(all_timelines, names, strict=True):
        if timeline.segments:
            source = timeline.path if video is None else video
            for clip in _cut_video(timeline, source, target, of_timeline, tolerance, options_for(timeline, read)):
                clips.append(clip)
                on_clip(clip)
    return clips


def _cut_video(
    timeline: TimelineData, source: VideoSource, folder: Path, names: list[str], tolerance: float, read: ReadOptions
) -> Iterator[SavedClip]:
    """Yield the clips of a video."""
    try:
        cutter = _Cutter(source, folder, tolerance, read)
    except VideoError as error:
        for segment in timeline.segments:
            yield SavedClip(source=timeline.path, segment=segment, path=None, error=error)
        return
    try:
        for segment, name in zip(timeline.segments, names, strict=True):
            try:
                clip = cutter.cut(segment, name)
            except VideoError as error:
                clip = SavedClip(source=timeline.path, segment=segment, path=None, error=error)
            yield replace(clip, source=timeline.path)
    finally:
        cutter.close()


class _Cutter:
    """Cuts clips out of one video."""

    def __init__(self, source: VideoSource, folder: Path, tolerance: float, read: ReadOptions) -> None:
        self._folder, self._tolerance, self._read = folder, tolerance, read
        self._reader = VideoReader(source, read=read)
        self._sound: Sound | None = None
        self._notes: list[str] = []
        try:
            self._sound = Sound(self._reader, source, read)
        except VideoError as error:
            self._notes.append(sound_error(error))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the video."""
        if self._sound is not None:
            self._sound.close()
        self._reader.close()

    def cut(self, segment: Segment, name: str) -> SavedClip:
        """Write the clip of a segment.

        Raises:
            VideoError: the video can't be read.
            OSError: the clip can't be written.
        """
        reader = self._reader
        reader.restart_clock()
        first, stop = self._frames_of(segment)
        codecs = self._sound.codecs if self._sound is not None else []
        plan = plan_copy(reader, first, stop, tolerance=self._tolerance, sound=codecs)
        reason = plan if isinstance(plan, str) else ""
        path = self._folder / f"{name}.mp4"
        if isinstance(plan, CopyPlan):
            path = self._folder / f"{name}{plan.suffix}"
            try:
                self._copy(plan, path)
                first, stop = plan.first, plan.stop
            except _NoCopyError as error:
                reason, path = str(error), self._folder / f"{name}.mp4"
        if reason:
            self._encode(first, stop, path)
        notes = [*self._notes, *(self._sound.notes if self._sound is not None else [])]
        notes += self._notes_on_encoding() if reason else []
        return SavedClip(
            source=reader.source,
            segment=segment,
            path=path,
            start=self._time_of(first),
            end=self._time_of(stop),
            was_encoded=bool(reason),
            reason=reason,
            notes=tuple(notes),
        )

    def _notes_on_encoding(self) -> list[str]:
        """Return how encoded frames differ from those of the video."""
        width, height = self._reader.width, self._reader.height
        notes = list(self._reader.notes)  # such as that bright colours were reduced
        if width % 2 or height % 2:
            notes.append(f"its frames of {width}×{height} got another row or column: sides must be even in an MP4")
        return notes

    def _frames_of(self, segment: Segment) -> tuple[int, int]:
        """Return the frames that are shown in a segment, at least one, even if the segment is after the end."""
        times, duration = self._reader.times.tolist(), self._reader.duration
        start = min(max(0.0, segment.start), times[-1])
        end = segment.end if segment.end > start else None
        frames = frame_range(times=times, start=start, end=end, duration=duration)
        return frames.start, frames.stop if end is not None else frames.start + 1

    def _time_of(self, frame: int) -> float:
        """Return when a frame is shown; the end of the video for the one after the last."""
        reader = self._reader
        return float(reader.times[frame]) if frame < len(reader) else reader.duration

    def _copy(self, plan: CopyPlan, path: Path) -> None:
        """Write a clip by copying; `_NoCopyError` if it wouldn't show the same frames."""
        with atomic_file(path) as partial:
            try:
                with _output(partial, plan.form) as output:
                    copied = add_copied_stream(output, video_stream(self._reader))
                    sounds = [] if self._sound is None else self._sound.add_streams(output, is_copy=True)
                    self._write(output, copy_packets(self._reader, plan, copied), sounds, plan.first, plan.stop)
            except (av.error.FFmpegError, ValueError) as error:
                if isinstance(error, OSError) and machine_failure(error):
                    raise
                raise _NoCopyError(f"a {path.suffix[1:]} file can't hold its packets as they are") from None
            self._compare(plan, partial)

    def _compare(self, plan: CopyPlan, copy: Path) -> None:
        """Check the copy's frames: how many there are, when they are shown, and the pixels of the first and last."""
        reader = self._reader
        try:
            with VideoReader(copy, read=ReadOptions(limits=self._read.limits)) as copied:
                times = reader.times[plan.first : plan.stop]
                longest = 0.001 + reader.tick + copied.tick
                is_same = len(copied) == len(times) and bool(
                    np.abs((copied.times - copied.times[0]) - (times - times[0])).max() <= longest
                )
                for frame, original in ((0, plan.first), (len(times) - 1, plan.stop - 1)):
                    if is_same:
                        reader.restart_clock()
                        pictures = copied.get_arrays([frame])[0], reader.get_arrays([original])[0]
                        is_same = np.array_equal(*pictures)
        except VideoError as error:
            if machine_failure(error.__cause__ or error):
                raise
            is_same = False
        if not is_same:
            raise _NoCopyError("a copy doesn't show the same frames at the same times")

    def _encode(self, first: int, stop: int, path: Path) -> None:
        """Write a clip by encoding frames."""
        with atomic_file(path) as partial, _output(partial, "mp4") as output:
            stream = add_encoded_stream(output, self._reader)
            sounds = [] if self._sound is None else self._sound.add_streams(output, is_copy=False)
            self._write(output, encoded_packets(self._reader, first, stop, stream), sounds, first, stop)

    def _write(
        self, output: Any, pictures: Iterator[tuple[float, Any]], sounds: list[Any], first: int, stop: int
    ) -> None:
        """Write packets of pictures and sound in the order of their times, so that players needn't seek."""
        with self._reader.locked_footage() as footage:
            metadata = dict(footage.coded.container.metadata) if hasattr(footage, "coded") else {}
        output.metadata.update({key: value for key, value in metadata.items() if key in _KEPT_METADATA})
        length = self._time_of(stop) - self._time_of(first)
        parts = [pictures]
        if self._sound is not None and sounds:
            start = container_start(self._reader, first)
            parts.append(self._sound.packets(sounds, start=start, length=length))
        for _, packet in heapq.merge(*parts, key=lambda timed: timed[0]):
            output.mux(packet)


@contextmanager
def _output(partial: Path, form: str) -> Iterator[Any]:
    """Open a container to write; an error of the system while writing becomes an OSError.

    Raises:
        FFmpegError: the container can't hold what it is given.
        OSError: the file can't be written.
    """
    options = {"movflags": "+faststart"} if form in ("mp4", "mov") else {}
    try:
        output = av.open(f"file:{partial}", "w", format=form, options=options)
        try:
            yield output
        except BaseException:
            with suppress(Exception):
                output.close()
            raise
        output.close()
    except av.error.FFmpegError as error:
        number = error.errno or 0
        if machine_failure(error) or (0 < number <= _HIGHEST_ERRNO and not isinstance(error, ValueError)):
            raise OSError(number, os.strerror(number), str(partial)) from None
        raise
