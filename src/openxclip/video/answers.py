"""Check the answers of the process that reads videos, which a malicious file may have taken over."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from openxclip.errors import VideoError
from openxclip.video.clips import Clip, ClipPlan, most_frames_kept
from openxclip.video.frames import Frames
from openxclip.video.reading import ClipPiece


def parse_frames(answer: dict[str, Any], frames_THWC: NDArray[np.uint8] | None, name: str) -> Frames:
    """Return the frames of an answer.

    Args:
        answer: the JSON of the answer.
        frames_THWC: the frames; None if the answer has none.
        name: name of the source in errors.

    Raises:
        VideoError: the answer is invalid.
    """
    try:
        times = np.array(answer["times"], dtype=np.float64)
        indices = tuple(answer["indices"])
        if frames_THWC is None or frames_THWC.ndim != 4 or not len(frames_THWC) == len(times) == len(indices):
            raise ValueError("the numbers of frames and times differ")
        return Frames.from_arrays(frames_THWC, times, indices)
    except (KeyError, TypeError, ValueError) as error:
        raise VideoError(name, f"the process that reads it sent invalid frames: {error}") from None


class ReceivedClips:
    """The place in a sequence of pieces, and the frames that earlier pieces had and later clips may need.

    Args:
        name: name of the source in errors.
        plan: the clips that were asked for.
        first: number of clips to skip.

    Attributes:
        first: number of clips that were skipped or received.
    """

    def __init__(self, name: str, plan: ClipPlan, *, first: int) -> None:
        self._name, self._plan = name, plan
        self.first = first
        self._last, self._sent = -1, 0
        self._keep_from: int | None = 0
        self._shape: tuple[int, ...] | None = None
        self._kept: dict[int, bool] = {}  # the frames, and whether a clip has used them

    def place(self) -> dict[str, int]:
        """Return what the process needs to continue: the clips, the last frame and the frames of unfinished clips."""
        return {"first": self.first, "after": self._last, "sent": self._sent}

    def add(self, answer: dict[str, Any], frames_THWC: NDArray[np.uint8] | None) -> ClipPiece | None:
        """Return the next piece; None if there are no more.

        Raises:
            VideoError: the answer is invalid.
        """
        if "indices" not in answer and answer.get("is_last") is True:
            return None
        frames = parse_frames(answer, frames_THWC, self._name)
        try:
            clips = tuple(Clip(float(start), float(end), tuple(indices)) for start, end, indices in answer["clips"])
            keep_from, is_last = answer["keep_from"], bool(answer.get("is_last"))
            self._add_frames(frames)
            for clip in clips:
                self._use(clip)
            self._drop(None if is_last else keep_from)
            piece = ClipPiece(clips, frames, float(answer["duration"]), float(answer["fps"]), keep_from)
        except (KeyError, TypeError, ValueError) as error:
            raise VideoError(self._name, f"the process that reads it sent invalid clips: {error}") from None
        self.first += len(clips)
        return piece

    def _add_frames(self, frames: Frames) -> None:
        shape = tuple(frames.frames_THWC.shape[1:])
        if not len(frames) or shape[2] != 3 or shape != (self._shape or shape):
            raise ValueError("the frames are not of one size")
        self._shape = shape
        for index in frames.indices:
            if type(index) is not int or index <= self._last:
                raise ValueError("the frames are not in the order of the video")
            self._last, self._kept[index] = index, self._plan.all_frames
        self._sent += len(frames)

    def _use(self, clip: Clip) -> None:
        if len(clip.indices) != self._plan.num_frames:
            raise ValueError("the number of frames of a clip is wrong")
        for index in clip.indices:
            if index not in self._kept:
                raise ValueError("the frames are not those of the clips")
            self._kept[index] = True

    def _drop(self, keep_from: int | None) -> None:
        """Drop the frames that no later clip needs."""
        if keep_from is not None and (type(keep_from) is not int or keep_from < (self._keep_from or 0)):
            raise ValueError("the frames to keep are wrong")
        dropped = [index for index in self._kept if keep_from is None or index < keep_from]
        if not all(self._kept.pop(index) for index in dropped):
            raise ValueError("there are frames that no clip needs")
        self._keep_from = keep_from
        if keep_from is None:
            self._last, self._sent = -1, 0
        elif (
            self._plan.window is not None
            and not self._plan.all_frames
            and len(self._kept) > most_frames_kept(self._plan)
        ):
            raise ValueError("there are too many frames to keep")
