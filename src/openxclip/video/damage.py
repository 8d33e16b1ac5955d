"""Find damage by decoding a whole video, and missing frames by gaps in the times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openxclip.common.counting import counted
from openxclip.video.coded_stream import CodedStream
from openxclip.video.keyframes import recognises_keys
from openxclip.video.lost_parts import PictureNumbers, are_slices_intact

# Codecs whose key frames FFmpeg's parsers recognise by the packets' content. For codecs that neither these nor
# `keyframes` recognise, only the container marks key frames, and some containers (WTV, RoQ) don't.
_PARSED_KEYS = frozenset({"h264", "hevc", "vvc", "av1"})
# FFmpeg's option err_detect, for decoders that then find more damage, and none in intact videos: checksums of PNG, ends
# of JPEG's scans, coefficients outside of their block
_STRICT = dict.fromkeys(("png", "apng", "mjpeg", "amv", "jpegls"), "crccheck+explode")
_STRICT |= dict.fromkeys(("msmpeg4v2", "msmpeg4v3", "wmv1", "wmv2"), "bitstream")
_LONGEST_STEP_BACK_S = 0.1  # a longer step back is the beginning of another recording
_LONGEST_GAP_S, _LONGEST_GAP_STEPS = 1.0, 10  # a gap above both is a pause, or a still picture
_FEWEST_STEPS = 8  # fewer don't determine a frame rate
_MAX_GAPS = 0.01  # share of all steps, but at least three; with more gaps, the rate varies


def decode_strictly(coded: CodedStream) -> Iterator[tuple[Any | None, list[Any]]]:
    """Yield each packet with its frames, and at the end None with the frames that are left.

    One thread decodes, because several threads miss damage.
    """
    coded.reopen(threads=1)
    if coded.codec in _STRICT:
        context = coded.stream.codec_context
        context.options = {**context.options, "err_detect": _STRICT[coded.codec]}
    for packet in coded.packets():
        yield packet, coded.decode_packet(packet)
    yield None, coded.decode_packet(None)


class Survey:
    """Finds the problems of a video in its decoded packets and frames.

    The leading pictures of the first key frame are shown before it but coded after it, and need frames from before the
    recording. If they can't be decoded, this isn't damage.

    Args:
        codec: FFmpeg's name of the codec.
        tick: seconds per unit of time, if the container stores a presentation time for each packet; else None.
        full: whether to survey the whole video; otherwise the survey ends with the first frame.

    Attributes:
        first: PyAV's first frame; None if there is none.
        num_frames: number of frames.
    """

    def __init__(self, *, codec: str, tick: float | None, full: bool) -> None:
        self._codec, self._tick, self._full = codec, tick, full
        # the times of packets and frames with a problem, in seconds; None if unknown
        self._failed: list[float | None] = []
        self._failed_before_key: list[float | None] = []
        self._partial: list[float | None] = []
        self._broken_slices: list[float | None] = []
        self._num_intact_slices = self._num_resized = self._num_disordered = 0
        self._numbers = PictureNumbers()
        self._last_pts: int | None = None
        self._starts_with_key: bool | None = None
        self._is_key_seen, self._key_pts = False, None
        self.first: Any = None
        self.num_frames = 0

    def run(self, decoded: Iterable[tuple[Any | None, list[Any]]], *, on_frame: Callable[[int], object]) -> None:
        """Look at all packets and frames, or at those up to the first frame.

        Args:
            decoded: packets in decoding order, each with its frames or with [None] if it can't be decoded; at the end
                None with the frames that are left.
            on_frame: called with the number of frames so far.
        """
        for packet, frames in decoded:
            if packet is not None:
                self._note_packet(packet)
            for frame in frames:
                if frame is None:
                    self._note_failure(packet)
                else:
                    self._note_frame(frame)
                    on_frame(self.num_frames)
            if self.first is not None and not self._full:
                break

    def _note_packet(self, packet: Any) -> None:
        if self._starts_with_key is None:
            self._starts_with_key = bool(packet.is_keyframe)
        if packet.is_keyframe and not self._is_key_seen:
            self._is_key_seen, self._key_pts = True, packet.pts
        if self._full and self._codec in ("mpeg1video", "mpeg2video"):
            self._numbers.note(bytes(packet))
        if self._full and self._codec == "ffv1":
            if are_slices_intact(bytes(packet)):
                self._num_intact_slices += 1
            else:
                self._broken_slices.append(_time_of(packet))

    def _note_failure(self, packet: Any | None) -> None:
        if not self._is_key_seen:
            self._failed_before_key.append(_time_of(packet))
        elif not self._is_leading(packet):
            self._failed.append(_time_of(packet))

    def _note_frame(self, frame: Any) -> None:
        self.num_frames += 1
        if frame.is_corrupt and self._is_key_seen and not self._is_leading(frame):
            self._partial.append(_time_of(frame))
        self.first = self.first or frame
        self._num_resized += (frame.width, frame.height) != (self.first.width, self.first.height)
        self._num_disordered += self._tick is not None and _is_disordered(frame.pts, self._last_pts, self._tick)
        self._last_pts = self._last_pts if frame.pts is None else frame.pts

    def _is_leading(self, timed: Any | None) -> bool:
        """Return whether a packet or frame is shown before the first key frame."""
        return self._key_pts is not None and timed is not None and timed.pts is not None and timed.pts < self._key_pts

    def problems(self) -> list[str]:
        """Return a sentence for each problem."""
        problems, failed = [], self._failed
        if self._starts_with_key is False and (recognises_keys(self._codec) or self._codec in _PARSED_KEYS):
            problems.append("it doesn't start with a key frame: it was cut from a longer one")
        else:
            failed = [*self._failed_before_key, *self._failed]
        if not self._full:
            return problems
        if failed:
            problems.append(f"{counted(len(failed), 'packet')} can't be decoded{_first_at(failed)}")
        if self._partial:
            frames = counted(len(self._partial), "frame")
            problems.append(f"{frames} can be decoded only in part{_first_at(self._partial)}")
        broken = self._broken_slices
        if 0 < len(broken) < self._num_intact_slices:  # else slices have no checksums
            frames = counted(len(broken), "frame")
            problems.append(f"{frames} {_is(len(broken))} damaged, by the checksums of slices{_first_at(broken)}")
        if missing := self._numbers.num_missing():
            problems.append(f"{counted(missing, 'picture')} {_is(missing)} missing, by the numbers of the others")
        if count := self._num_resized:
            problems.append(f"{counted(count, 'frame')} {_has(count)} another size than the first")
        if count := self._num_disordered:
            problems.append(f"{counted(count, 'frame')} {_has(count)} no time, or a time that is not after the last")
        return problems


def _time_of(timed: Any | None) -> float | None:
    if timed is None or timed.pts is None or timed.time_base is None:
        return None
    return float(timed.pts * timed.time_base)


def _first_at(times: Sequence[float | None]) -> str:
    return "" if times[0] is None else f" (the first at {times[0]:.2f} s)"


def _is_disordered(pts: int | None, last_pts: int | None, tick: float) -> bool:
    if pts is None:
        return True
    return last_pts is not None and 0 <= (last_pts - pts) * tick <= _LONGEST_STEP_BACK_S


def missing_frames(times: NDArray[np.float64], *, tick: float) -> str | None:
    """Describe the frames that are missing in a video of constant rate, as gaps in the times; None if there are none.

    The rate is constant if all steps from one frame to the next are equal up to rounding, except a few that are two or
    more times as long. A step longer than a second may be a pause and doesn't count.

    Args:
        times: times of all frames, ascending, in seconds.
        tick: the rounding of the times, in seconds.
    """
    steps = np.diff(times)
    if len(steps) < _FEWEST_STEPS:
        return None
    max_gaps = max(3, round(_MAX_GAPS * len(steps)))
    usual = float(np.median(steps))
    tolerance = 0.01 * usual
    if np.count_nonzero(np.abs(steps - usual) > tolerance) > max_gaps:  # times are rounded
        tolerance = 1.01 * tick + 1e-6
    regular = np.abs(steps - usual) <= tolerance
    if not regular.any() or usual <= 2 * tolerance:
        return None
    step = float(steps[regular].mean())
    others = np.flatnonzero(~regular)
    multiples = np.round(steps[others] / step)
    fits = (multiples >= 2) & (np.abs(steps[others] - multiples * step) <= tolerance + 0.01 * step)
    long = steps[others] > max(_LONGEST_GAP_S, _LONGEST_GAP_STEPS * step)
    if not (fits | long).all() or len(others) > max_gaps:
        return None
    before_gaps = others[fits & ~long]
    if not len(before_gaps):
        return None
    count = int((multiples[fits & ~long] - 1).sum())
    at = times[before_gaps[0]] + step
    where = f", the first at {at:.2f} s" if count > 1 else f" at {at:.2f} s"
    return f"{counted(count, 'frame')} {_is(count)} missing{where}: the others are {step * 1000:.3g} ms apart"


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


def _has(number: int) -> str:
    return "has" if number == 1 else "have"
