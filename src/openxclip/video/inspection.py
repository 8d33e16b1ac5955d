"""Collect facts about a video and find its problems."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from openxclip.common.counting import counted
from openxclip.errors import VideoError
from openxclip.video.colour_codes import HLG, MATRICES, PQ, RANGES, TRANSFERS
from openxclip.video.containers import ContainerFootage
from openxclip.video.damage import Survey, decode_strictly, missing_frames
from openxclip.video.decoding import VideoReader
from openxclip.video.demuxing import audio_codec, short_name
from openxclip.video.file_ends import find_cut_end
from openxclip.video.frames import Kind
from openxclip.video.headers import header_contradiction, num_edits
from openxclip.video.lost_parts import find_lost_parts
from openxclip.video.opening import VideoSource, expand_home, is_buffer, source_name
from openxclip.video.options import ReadOptions
from openxclip.video.truncation import MAY_BE_CUT

_WITH_TIMES = frozenset({"mp4", "mov", "matroska", "flv", "nut", "ivf", "ogg"})  # every packet has a timestamp
_MAY_HAVE_GAPS = _WITH_TIMES | {"mpegts", "asf", "avi", "rm", "wtv", "film_cpk"}
_WRONG_TIMES = frozenset({("asf", "mpeg1video"), ("asf", "mpeg2video")})  # FFmpeg returns the next packet's times
_STEADY_S = 0.0025  # rounding times to milliseconds makes steps differ by this much
_FEW_FRAMES = 8  # a clip of the smallest released models
_MAX_NAMED = 5  # damaged pictures of a folder to name

OnTime = Callable[[float, float], object]


@dataclass(frozen=True, kw_only=True)
class VideoReport:
    """The result of `inspect`. Facts that the source doesn't state or have are None.

    Attributes:
        path: the source as the caller named it.
        kind: "video" (a container), "image", "images" (a folder), or "array".
        container: the format of the file, e.g. "mp4".
        codec: how frames are coded, e.g. "h264".
        pixel_format: FFmpeg's name, e.g. "yuv420p".
        width, height: size of the first frame in pixels, as shown.
        rotation: degrees by which stored frames are turned (counter-clockwise) to be shown.
        frames: the exact number of frames.
        fps: average frames per second.
        variable_rate: whether the steps between frame times differ.
        duration: when the last frame ends, in seconds.
        start: when the first frame is shown, in seconds.
        matrix, range, transfer: colour properties, by FFmpeg's names.
        bit_depth: bits per sample.
        hdr: whether the transfer is PQ or HLG.
        interlaced: whether frames consist of two fields.
        alpha: whether pixels may be transparent.
        sound: the codec of the sound.
        size_bytes: size of the file.
        notes: notes for the user about how the frames are made.
        problems: problems of a video that can be read.
        error: the error if the video can't be read.
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
        """Whether the video can be read and has no problems."""
        return self.error is None and not self.problems

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values, with the error's reason as the error."""
        values = asdict(self) | {"notes": list(self.notes), "problems": list(self.problems), "error": None}
        if self.error is not None:
            same = self.error.source == self.path
            values["error"] = self.error.reason if same else str(self.error)
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> VideoReport:
        """Make a report from the values that `as_dict` returned."""
        known = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        reason = known.get("error")
        known["error"] = None if reason is None else VideoError(known["path"], reason)
        return cls(**known | {"notes": tuple(known["notes"]), "problems": tuple(known["problems"])})


def inspect(
    source: VideoSource,
    *,
    full: bool = False,
    read: ReadOptions | None = None,
    on_time: OnTime = lambda end, duration: None,
) -> VideoReport:
    """Collect facts about a video and find its problems.

    Args:
        source: see `VideoReader`.
        full: whether to decode the whole video, on one thread, to find damage; otherwise only the first frame is
            decoded.
        read: see `VideoReader`; `limits.seconds` applies to opening the video and again to decoding it.
        on_time: called during a full decode with the time reached and the video's duration, in seconds.

    Returns:
        A report; its `error` is set if the source can't be read.

    Raises:
        TypeError: `source` isn't a video source.
    """
    read = replace(read or ReadOptions(), decode="all", allow_cut_off=False)  # a report is about the file
    facts: dict[str, Any] = {"path": source_name(source), "size_bytes": _size_of(source)}
    problems: list[str] = []
    try:
        with VideoReader(source, read=replace(read, threads=1) if full else read) as reader:
            with reader.locked_footage() as footage:
                facts |= _facts(reader, footage.kind)
            if isinstance(footage, ContainerFootage):
                reader.restart_clock()
                with reader.locked_footage():
                    container_facts, problems = _inspect_container(reader, footage, full=full, on_time=on_time)
                facts |= container_facts
            elif full:
                problems = _find_damaged_pictures(reader)
            return VideoReport(**facts, notes=reader.notes, problems=tuple(problems))
    except VideoError as error:
        return VideoReport(**facts, error=error.with_traceback(None))


def _size_of(source: VideoSource) -> int | None:
    with suppress(OSError, ValueError):
        if is_buffer(source):
            return memoryview(source).nbytes  # type: ignore[arg-type]
        if isinstance(source, str | os.PathLike):
            path = Path(expand_home(os.fspath(source)))
            return path.stat().st_size if path.is_file() else None
    return None


def _facts(reader: VideoReader, kind: Kind) -> dict[str, Any]:
    """Return the facts that every kind of footage has."""
    steps = np.diff(reader.times)
    return {
        "kind": kind,
        "codec": reader.codec,
        "width": reader.width,
        "height": reader.height,
        "frames": reader.num_frames,
        "fps": reader.fps,
        "variable_rate": bool(len(steps) and steps.max() - steps.min() > _STEADY_S),
        "duration": reader.duration,
        "start": float(reader.times[0]),
    }


def _inspect_container(
    reader: VideoReader, footage: ContainerFootage, *, full: bool, on_time: OnTime
) -> tuple[dict[str, Any], list[str]]:
    """Decode all frames of a container, or only the first; return facts and problems."""
    num_frames, duration = reader.num_frames, reader.duration
    coded = footage.coded
    # before decoding, which opens the container again
    facts = {"container": short_name(coded.container), "sound": audio_codec(coded.container)}
    tick = footage.tick if facts["container"] in _WITH_TIMES else None
    survey = Survey(codec=footage.codec, tick=tick, full=full)
    survey.run(
        decode_strictly(coded),
        on_frame=lambda count: on_time(min(1.0, count / num_frames) * duration, duration),
    )
    problems = survey.problems()
    if full:
        problems += _find_damage_of_file(footage)
        if not problems:
            problems += _find_missing_frames(reader, footage, survey.num_frames)
    problems += [note for note in footage.notes if note.endswith(MAY_BE_CUT)]
    if contradiction := header_contradiction(coded.container, coded.stream, footage.index.packets):
        problems.append(contradiction)
    if num_frames < _FEW_FRAMES:
        problems.append(f"it is very short: {counted(num_frames, 'frame')}")
    if survey.first is not None:
        facts |= _facts_of_frame(survey.first)
    return facts, problems


def _find_damage_of_file(footage: ContainerFootage) -> list[str]:
    """Check the end of the file, its parts and their checksums."""
    problems = []
    file, coded = footage.file, footage.coded
    if coded.ends_within_packet:
        problems.append("it is cut off: its last frame is incomplete")
    elif file is not None and (cut := find_cut_end(file, coded.container, footage.index.packets)):
        problems.append(cut)
    if file is not None:
        problems += find_lost_parts(file, coded.container, coded.stream, check_time=footage.deadline.check)
    return problems


def _find_missing_frames(reader: VideoReader, footage: ContainerFootage, num_decoded: int) -> list[str]:
    num_frames, container = reader.num_frames, short_name(footage.coded.container)
    if num_decoded < num_frames:
        return [f"{num_frames - num_decoded} of its {num_frames} frames can't be decoded"]
    if (container, footage.codec) in _WRONG_TIMES or container not in _MAY_HAVE_GAPS:
        return []
    if num_edits(footage.file, footage.coded.stream) >= 2:
        return []
    missing = missing_frames(reader.times, tick=reader.tick)
    return [missing] if missing else []


def _find_damaged_pictures(reader: VideoReader) -> list[str]:
    """Read every frame of an image, a folder or an array, and return the errors' messages."""
    reasons = []
    for i in range(reader.num_frames):
        try:
            with reader.locked_footage() as footage:
                footage.read([i], lambda index, frame_HWC: None)
        except VideoError as error:  # noqa: PERF203
            reasons.append(str(error) if error.source != reader.source else error.reason)
    if len(reasons) <= _MAX_NAMED:
        return reasons
    return [*reasons[:_MAX_NAMED], f"and {len(reasons) - _MAX_NAMED} more"]


def _facts_of_frame(frame: Any) -> dict[str, Any]:
    components, transfer = frame.format.components, int(frame.color_trc)
    return {
        "pixel_format": frame.format.name,
        "rotation": round(getattr(frame, "rotation", 0)) % 360,
        "matrix": MATRICES.get(int(frame.colorspace)),
        "range": RANGES.get(int(frame.color_range)),
        "transfer": TRANSFERS.get(transfer),
        "bit_depth": max((component.bits for component in components), default=None),
        "hdr": transfer in (PQ, HLG),
        "interlaced": bool(frame.interlaced_frame),
        "alpha": any(component.is_alpha for component in components),
    }
