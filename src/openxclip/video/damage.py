"""What a plain decode of a whole video, and the times of its frames, say of damage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from openxclip.video.coded import CodedStream
from openxclip.video.continuity import slices_are_whole
from openxclip.video.keyframes import looks_into
from openxclip.video.lost_pictures import Numbers

# Codecs whose key frames are known from the packets' content, as FFmpeg's parsers or `keyframes` read it. For other
# codecs only the container marks key frames, and some containers (WTV, RoQ) don't.
_KNOWN_KEYS = frozenset({"h264", "hevc", "vvc", "av1"})
# FFmpeg's option err_detect where it finds more than the decoder does by itself, and nothing in whole videos: checksums
# of PNG, ends of JPEG's scans, coefficients that run out of their block
_STRICT = dict.fromkeys(("png", "apng", "mjpeg", "amv", "jpegls"), "crccheck+explode")
_STRICT |= dict.fromkeys(("msmpeg4v2", "msmpeg4v3", "wmv1", "wmv2"), "bitstream")
_LONGEST_STEP_BACK_S = 0.1  # a longer one is the beginning of another recording
_LONGEST_GAP_S, _LONGEST_GAP_STEPS = 1.0, 10  # what is longer than both is a pause, or a picture that stands
_FEWEST_STEPS = 8  # from which on a rate is known
_MOST_GAPS = 0.01  # of all steps, but three at least: where there are more, the rate varies


def decoded_strictly(coded: CodedStream) -> Iterator[tuple[Any | None, list[Any]]]:
    """Each packet with the frames that came of it (None: of the end), on one thread, which misses no damage."""
    coded.reopen(threads=1)
    if coded.codec in _STRICT:
        context = coded.stream.codec_context
        context.options = {**context.options, "err_detect": _STRICT[coded.codec]}
    for packet in coded.packets():
        yield packet, coded.decoded(packet)
    yield None, coded.decoded(None)


class Survey(NamedTuple):
    """What a decode found.

    Attributes:
        problems: a sentence each.
        first: the first frame (PyAV's), if any.
        decoded: how many frames came out.
    """

    problems: list[str]
    first: Any | None
    decoded: int


class _Place:
    """How often something was found, and when first."""

    def __init__(self) -> None:
        self.count = 0
        self.first_s: float | None = None

    def note(self, timed: Any) -> None:
        self.count += 1
        if self.count == 1 and timed is not None and timed.pts is not None and timed.time_base is not None:
            self.first_s = float(timed.pts * timed.time_base)

    @property
    def at(self) -> str:
        return "" if self.first_s is None else f" (the first at {self.first_s:.2f} s)"


def survey(
    decoded: Iterable[tuple[Any | None, list[Any]]],
    *,
    codec: str,
    tick: float | None,
    full: bool,
    on_frame: Callable[[int], object],
) -> Survey:
    """Look at every packet and at the frames that came of it.

    The leading pictures of the first key frame are shown before it but coded after it, and need frames from before the
    recording: that they can't be decoded is no damage.

    Args:
        decoded: packets in coded order, each with its frames or [None] if decoding failed; at last None with the rest.
        codec: FFmpeg's name of the codec.
        tick: the unit of times in seconds, where the container has a time of presentation for each packet; else None.
        full: look at all of it; else until the first frame.
        on_frame: called with the number of frames so far.
    """
    failed, before_key, partial, resized, disordered = (_Place() for _ in range(5))
    whole_slices, broken_slices = 0, _Place()
    numbers = Numbers()
    first: Any = None
    count = 0
    last_pts: int | None = None
    starts_with_key: bool | None = None
    key_seen, key_pts = False, None
    for packet, frames in decoded:
        if packet is not None:
            if starts_with_key is None:
                starts_with_key = bool(packet.is_keyframe)
            if packet.is_keyframe and not key_seen:
                key_seen, key_pts = True, packet.pts
            if full and codec in ("mpeg1video", "mpeg2video"):
                numbers.note(bytes(packet))
            if full and codec == "ffv1":
                if slices_are_whole(bytes(packet)):
                    whole_slices += 1
                else:
                    broken_slices.note(packet)
        for frame in frames:
            timed = packet if frame is None else frame
            leads = key_pts is not None and timed is not None and timed.pts is not None and timed.pts < key_pts
            if frame is None:
                if not key_seen:
                    before_key.note(packet)
                elif not leads:
                    failed.note(packet)
                continue
            count += 1
            if frame.is_corrupt and not leads and key_seen:
                partial.note(frame)
            first = first or frame
            if (frame.width, frame.height) != (first.width, first.height):
                resized.note(frame)
            if tick is not None and _is_disordered(frame.pts, last_pts, tick):
                disordered.note(frame)
            last_pts = last_pts if frame.pts is None else frame.pts
            on_frame(count)
        if first is not None and not full:
            break
    problems = []
    knows_keys = looks_into(codec) or codec in _KNOWN_KEYS
    if starts_with_key is False and knows_keys:
        problems.append("it doesn't start with a key frame: it was cut from a longer one")
    elif before_key.count:
        failed.count += before_key.count
        failed.first_s = before_key.first_s
    if full:
        if failed.count:
            problems.append(f"{counted(failed.count, 'packet')} can't be decoded{failed.at}")
        if partial.count:
            problems.append(f"{counted(partial.count, 'frame')} can be decoded only in part{partial.at}")
        if broken_slices.count and whole_slices > broken_slices.count:  # else they have no checksums
            which = counted(broken_slices.count, "frame")
            problems.append(f"{which} {_is(broken_slices.count)} damaged, by the checksums of slices{broken_slices.at}")
        if missing := numbers.missing():
            problems.append(f"{counted(missing, 'picture')} {_is(missing)} missing, by the numbers of the others")
        if resized.count:
            problems.append(f"{counted(resized.count, 'frame')} {_has(resized.count)} another size than the first")
        if disordered.count:
            which = f"{counted(disordered.count, 'frame')} {_has(disordered.count)}"
            problems.append(f"{which} no time, or one that is not after the last")
    return Survey(problems, first, count)


def _is_disordered(pts: int | None, last_pts: int | None, tick: float) -> bool:
    if pts is None:
        return True
    return last_pts is not None and 0 <= (last_pts - pts) * tick <= _LONGEST_STEP_BACK_S


def gaps(times: NDArray[np.float64], *, tick: float) -> str | None:
    """Whether frames are missing in a video of constant rate, by their times.

    The rate is constant if all steps from one frame to the next are equal up to rounding, but for a few that are two
    or more times as long. Where it varies nothing is said, nor of a step longer than a second, which may be a pause.

    Args:
        times: of all frames, ascending, in seconds.
        tick: what times are rounded to, in seconds.

    Returns:
        A sentence, or None.
    """
    steps = np.diff(times)
    if len(steps) < _FEWEST_STEPS:
        return None
    most = max(3, round(_MOST_GAPS * len(steps)))
    usual = float(np.median(steps))
    slack = 0.01 * usual
    if np.count_nonzero(np.abs(steps - usual) > slack) > most:  # times are rounded
        slack = 1.01 * tick + 1e-6
    regular = np.abs(steps - usual) <= slack
    if not regular.any() or usual <= 2 * slack:
        return None
    step = float(steps[regular].mean())
    others = np.flatnonzero(~regular)
    multiples = np.round(steps[others] / step)
    fits = (multiples >= 2) & (np.abs(steps[others] - multiples * step) <= slack + 0.01 * step)
    long = steps[others] > max(_LONGEST_GAP_S, _LONGEST_GAP_STEPS * step)
    if not (fits | long).all() or len(others) > most:
        return None
    missing = others[fits & ~long]
    if not len(missing):
        return None
    count = int((multiples[fits & ~long] - 1).sum())
    at = times[missing[0]] + step
    more = f", the first at {at:.2f} s" if count > 1 else f" at {at:.2f} s"
    return f"{counted(count, 'frame')} {_is(count)} missing{more}: the others are {step * 1000:.3g} ms apart"


def counted(number: int, what: str) -> str:
    """A number of things, in words."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


def _has(number: int) -> str:
    return "has" if number == 1 else "have"
