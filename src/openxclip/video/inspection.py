"""What a video is, and whether it is whole: facts of its header and of its frames, and what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from openxclip.errors import VideoError
from openxclip.video.arrays import ArrayFootage
from openxclip.video.containers import ContainerFootage
from openxclip.video.continuity import found_in_file
from openxclip.video.damage import counted, decoded_strictly, gaps, survey
from openxclip.video.decoding import VideoReader
from openxclip.video.demuxing import coding_of_sound, short_name
from openxclip.video.headers import num_edits, told_by_header
from openxclip.video.images import FolderFootage, ImageFootage
from openxclip.video.intactness import MAY_BE_CUT
from openxclip.video.limits import DEFAULT_LIMITS, Limits
from openxclip.video.opening import VideoSource, is_buffer, source_name, with_home
from openxclip.video.tails import found_at_end
from openxclip.video.tiles import TiledFootage

Kind = Literal["video", "image", "images", "array"]

_KINDS: dict[type, Kind] = {
    ContainerFootage: "video",
    ImageFootage: "image",
    TiledFootage: "image",
    FolderFootage: "images",
    ArrayFootage: "array",
}
# Numbers of ITU-T H.273, by FFmpeg's names; 2 is "not said"
_MATRICES = {0: "rgb", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "ycgco", 9: "bt2020nc"}
_MATRICES |= {10: "bt2020c", 14: "ictcp"}
_TRANSFERS = {1: "bt709", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 7: "smpte240m", 8: "linear", 13: "srgb"}
_TRANSFERS |= {14: "bt2020-10", 15: "bt2020-12", 16: "pq", 18: "hlg"}
_RANGES = {1: "limited", 2: "full"}
_HDR = frozenset({16, 18})
_WITH_TIMES = frozenset({"mp4", "mov", "matroska", "flv", "nut", "ivf", "ogg"})  # of each packet
_MAY_HAVE_GAPS = _WITH_TIMES | {"mpegts", "asf", "avi", "rm", "wtv", "film_cpk"}
_WRONG_TIMES = frozenset({("asf", "mpeg1video"), ("asf", "mpeg2video")})  # FFmpeg gives those of the next packet
_STEADY_S = 0.0025  # frames' distances differ by this much where times are rounded to milliseconds
_FEW_FRAMES = 8  # what a clip of the smallest released models takes
_NAMED = 5  # pictures of a folder that are named one by one

OnTime = Callable[[float, float], object]


@dataclass(frozen=True, kw_only=True)
class VideoReport:
    """What `inspect` finds; None is what the source doesn't say or have.

    Attributes:
        path: the source, as it was named.
        kind: "video" (a container), "image", "images" (a folder), or "array".
        container: of which format the file is, e.g. "mp4".
        codec: how frames are coded, e.g. "h264".
        pixel_format: FFmpeg's name, e.g. "yuv420p".
        width, height: of the first frame in pixels, as it is shown.
        rotation: degrees by which stored frames are turned (counter-clockwise) to be shown.
        frames: how many there are, exactly.
        fps: on average.
        variable_rate: whether the frames' distances in time differ.
        duration: when the last frame ends, in seconds.
        start: when the first frame is shown, in seconds.
        matrix, range, transfer: of its colours, as FFmpeg names them.
        bit_depth: of a sample.
        hdr: whether its transfer is PQ or HLG.
        interlaced: whether its frames are two fields.
        alpha: whether its pixels may be transparent.
        sound: the codec of its sound.
        size_bytes: of the file.
        notes: what should be known of how frames are made of it.
        problems: what is wrong with it, though it can be read.
        error: why it can't be read.
    """

    path: str
    kind: Kind | None = None
    container: str | None = None
    codec: str | None = None
    pixel_format: str | None = None
    width: int | None = None
    height: int | None = None
    rotation: int | None = None
    frames: int | None = None
    fps: float | None = None
    variable_rate: bool | None = None
    duration: float | None = None
    start: float | None = None
    matrix: str | None = None
    range: str | None = None
    transfer: str | None = None
    bit_depth: int | None = None
    hdr: bool | None = None
    interlaced: bool | None = None
    alpha: bool | None = None
    sound: str | None = None
    size_bytes: int | None = None
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    error: VideoError | None = None

    @property
    def is_fine(self) -> bool:
        """Whether it can be read, and nothing is wrong with it."""
        return self.error is None and not self.problems

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON values; the error is its reason."""
        values = asdict(self) | {"notes": list(self.notes), "problems": list(self.problems), "error": None}
        if self.error is not None:
            same = self.error.source == self.path
            values["error"] = self.error.reason if same else str(self.error)
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> VideoReport:
        """From what `as_dict` gave."""
        known = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        reason = known.get("error")
        known["error"] = None if reason is None else VideoError(known["path"], reason)
        return cls(**known | {"notes": tuple(known["notes"]), "problems": tuple(known["problems"])})


def inspect(
    source: VideoSource,
    *,
    full: bool = False,
    fps: float | None = None,
    track: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
    allow_protocols: Sequence[str] = (),
    on_time: OnTime = lambda end, duration: None,
) -> VideoReport:
    """What a video is.

    Args:
        source: as for `VideoReader`.
        full: decode all of it, to find what is damaged; else the first frame only.
        fps, track: as for `VideoReader`.
        limits: as for `VideoReader`; `seconds` holds for opening it and again for decoding it.
        allow_protocols: as for `VideoReader`.
        on_time: called while all of it is decoded, with how far that has come and the video's duration, in seconds.

    Returns:
        A report; one with an `error` if the source can't be read.

    Raises:
        TypeError: `source` is no source of videos.
        ValueError: a protocol's name or a track that can't be.
    """
    facts: dict[str, Any] = {"path": source_name(source), "size_bytes": _size_of(source)}
    try:
        with VideoReader(
            source,
            fps=fps,
            num_threads=1 if full else 0,
            track=track,
            limits=limits,
            allow_protocols=allow_protocols,
        ) as reader:
            facts |= _facts(reader)
            problems = _Problems(reader)
            if isinstance(reader._footage, ContainerFootage):
                reader.restart_clock()
                with reader.in_use():
                    facts |= problems.of_container(reader._footage, full=full, on_time=on_time)
            elif full:
                problems.of_pictures()
            facts["notes"] = reader.notes
            return VideoReport(**facts, problems=tuple(problems.found))
    except VideoError as error:
        return VideoReport(**{**facts, "error": error.with_traceback(None)})


def _size_of(source: VideoSource) -> int | None:
    try:
        if is_buffer(source):
            return memoryview(source).nbytes  # type: ignore[arg-type]
        if isinstance(source, str | os.PathLike):
            path = Path(with_home(os.fspath(source)))
            return path.stat().st_size if path.is_file() else None
    except (OSError, ValueError):
        pass
    return None


def _facts(reader: VideoReader) -> dict[str, Any]:
    """What every kind of footage can tell."""
    gaps = np.diff(reader.times)
    return {
        "kind": _KINDS[type(reader._footage)],
        "codec": reader.codec,
        "width": reader.width,
        "height": reader.height,
        "frames": reader.num_frames,
        "fps": reader.fps,
        "variable_rate": bool(len(gaps) and gaps.max() - gaps.min() > _STEADY_S),
        "duration": reader.duration,
        "start": float(reader.times[0]),
    }


class _Problems:
    """What is wrong with a video that can be opened."""

    def __init__(self, reader: VideoReader) -> None:
        self.found: list[str] = []
        self._reader = reader

    def of_container(self, footage: ContainerFootage, *, full: bool, on_time: OnTime) -> dict[str, Any]:
        """Look at its frames, all of them or the first; the facts that they tell."""
        reader = self._reader
        num_frames, duration = reader.num_frames, reader.duration
        container = footage.coded.container
        found = survey(
            decoded_strictly(footage.coded),
            codec=footage.codec,
            tick=footage.tick if short_name(container) in _WITH_TIMES else None,
            full=full,
            on_frame=lambda count: on_time(min(1.0, count / num_frames) * duration, duration),
        )
        self.found += found.problems
        if full:
            self._look_into_file(footage)
            if not self.found:
                self._count(footage, found.decoded)
        self.found += [note for note in footage.notes if note.endswith(MAY_BE_CUT)]
        self._compare_with_header(footage)
        if num_frames < _FEW_FRAMES:
            self.found.append(f"it is very short: {counted(num_frames, 'frame')}")
        facts = {} if found.first is None else _facts_of_frame(found.first)
        return {"container": short_name(container), "sound": coding_of_sound(container), **facts}

    def _look_into_file(self, footage: ContainerFootage) -> None:
        """What the container says of its end, its parts and their checksums."""
        file, coded = footage.file, footage.coded
        if coded.ends_within_packet:
            self.found.append("it is cut off: its last frame isn't whole")
        elif file is not None and (cut := found_at_end(file, coded.container, footage.packets)):
            self.found.append(cut)
        if file is not None:
            self.found += found_in_file(file, coded.container, coded.stream, check_time=footage.deadline.check)

    def _count(self, footage: ContainerFootage, decoded: int) -> None:
        """Say which frames are missing, where nothing else says so."""
        num_frames, container = self._reader.num_frames, short_name(footage.coded.container)
        if decoded < num_frames:
            self.found.append(f"{num_frames - decoded} of its {num_frames} frames can't be decoded")
        elif (container, footage.codec) in _WRONG_TIMES:
            return
        elif container in _MAY_HAVE_GAPS and num_edits(footage.file, footage.coded.stream) < 2:
            missing = gaps(self._reader.times, tick=self._reader.tick)
            self.found += [missing] if missing else []

    def _compare_with_header(self, footage: ContainerFootage) -> None:
        told = told_by_header(footage.coded.container, footage.coded.stream, footage.packets)
        if told.frames and abs(told.frames - told.found) > 1:
            self.found.append(f"its header tells of {told.frames} frames, and there are {told.found}")
        if told.seconds and abs(told.seconds - told.found_s) > max(0.5, 0.02 * told.found_s, 1.5 * told.step_s):
            self.found.append(f"its header tells of {told.seconds:.2f} s, and its frames last {told.found_s:.2f} s")

    def of_pictures(self) -> None:
        """Read every picture of an image, a folder or an array."""
        failed = 0
        for i in range(self._reader.num_frames):
            try:
                with self._reader.in_use() as footage:
                    footage.read([i], lambda index, frame_HWC: None)
            except VideoError as error:  # noqa: PERF203
                failed += 1
                if failed <= _NAMED:
                    self.found.append(str(error) if error.source != self._reader.source else error.reason)
        if failed > _NAMED:
            self.found.append(f"and {failed - _NAMED} more")


def _facts_of_frame(frame: Any) -> dict[str, Any]:
    parts = frame.format.components
    return {
        "pixel_format": frame.format.name,
        "rotation": round(getattr(frame, "rotation", 0)) % 360,
        "matrix": _MATRICES.get(int(frame.colorspace)),
        "range": _RANGES.get(int(frame.color_range)),
        "transfer": _TRANSFERS.get(int(frame.color_trc)),
        "bit_depth": max((part.bits for part in parts), default=None),
        "hdr": int(frame.color_trc) in _HDR,
        "interlaced": bool(frame.interlaced_frame),
        "alpha": any(part.is_alpha for part in parts),
    }
