"""Clips of several videos in one call of the model: how many, and how they are put together and taken apart."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from openxclip.config import XCLIPConfig
from openxclip.errors import VideoError
from openxclip.model import VideoFeatures
from openxclip.processing.featureless import is_featureless
from openxclip.video import DecodeWorker, VideoSource
from openxclip.video.ahead import ReadAhead
from openxclip.video.clips import Clip, ClipPlan, needed, read_planned

Item = TypeVar("Item")
Batch = int | Literal["auto"]
# From frames, uint8 (T, 3, H, W), to their views, each as the model is to see it. A frame's views depend on it alone.
Views = Callable[[Tensor], Sequence[Tensor]]

_SHARE_OF_FREE = 0.5  # of a GPU's free memory, for activations: half is left for what the estimate misses
_CLIPS_AT_ONCE = 32  # what the model sees of clips may take more room than the frames that they share
_LARGEST_AUTO = 64  # clips: 512 frames or more, with which any GPU has enough to do


class VideoPart(Protocol):
    """A stretch of a video that is opened where it is read: a sample of a data set.

    Attributes:
        source: what it is called.
        start, end: of the stretch, in seconds; None is the video's own.
    """

    @property
    def source(self) -> str: ...  # noqa: D102 (attributes are described above)
    @property
    def start(self) -> float | None: ...  # noqa: D102
    @property
    def end(self) -> float | None: ...  # noqa: D102
    def open(self) -> str | bytes:
        """The path of the video, or its content."""


@dataclass(frozen=True)
class Moment:
    """What a clip shows of its video.

    Attributes:
        times: of its frames, in seconds.
        start, end: of the stretch that it stands for, in seconds; NaN where that isn't known.
        duration: of the video, in seconds; NaN where that isn't known.
        size: width and height of its frames, in pixels; 0 where that isn't known.
        is_featureless: see `openxclip.processing.featureless`.
    """

    times: tuple[float, ...]
    start: float = math.nan
    end: float = math.nan
    duration: float = math.nan
    size: tuple[int, int] = (0, 0)
    is_featureless: bool = False


class ReadClip(NamedTuple):
    """A clip that was read: uint8 levels (T, 3, H, W), resized and cropped for the model, and what they show."""

    levels_TCHW: Tensor  # noqa: N815
    moment: Moment


class SmallPart(NamedTuple):
    """Some clips of a video, and their frames as the model is to see them.

    Attributes:
        clips: these.
        views: of their frames: uint8 (N, 3, H, W) each, of N frames.
        places: where in a view each frame is, by its index.
        times: of each frame, in seconds.
        duration: of the video, in seconds.
        size: width and height of its frames, in pixels.
    """

    clips: tuple[Clip, ...]
    views: list[Tensor]
    places: dict[int, int]
    times: list[float]
    duration: float
    size: tuple[int, int]

    def read_clips(self, clip: Clip) -> list[ReadClip]:
        """A clip, once for each view; of what it shows only the times are told."""
        at = [self.places[index] for index in clip.indices]
        moment = Moment(tuple(self.times[place] for place in at))
        return [ReadClip(view[at], moment) for view in self.views]

    def planned_clip(self, clip: Clip) -> ReadClip:
        """A clip in the only view, with all that it shows."""
        (levels, moment), *_ = self.read_clips(clip)
        shown = Moment(moment.times, clip.start, clip.end, self.duration, self.size, is_featureless(levels))
        return ReadClip(levels, shown)


def read_small(
    worker: DecodeWorker | None,
    source: VideoSource,
    *,
    plan: ClipPlan,
    views: Views,
    bytes_kept: int,
    **how: Any,
) -> Generator[SmallPart, None, None]:
    """The clips of a video, some at a time, made small as they come.

    Frames that become smaller by it are made small when they are read, so that many fit in memory together; others
    when their clips are handed on, at most 32 at once.

    Args:
        worker: who reads it; None is this process.
        views: makes the views of frames, each by itself.
        bytes_kept: how many bytes the views of a frame take, about.
        source, plan, **how: as for `openxclip.video.clips.read_planned`.
    """
    held: list[list[Tensor]] = []
    indices: list[int] = []
    times: list[float] = []
    reader = read_planned if worker is None else worker.read_planned
    for piece in reader(source, plan, bytes_kept=bytes_kept, **how):
        frames_TCHW = piece.frames.frames_THWC.permute(0, 3, 1, 2)
        height, width = frames_TCHW.shape[-2:]
        is_small = 3 * height * width <= bytes_kept
        held.append([frames_TCHW] if is_small else list(views(frames_TCHW)))
        indices += piece.frames.indices
        times += piece.frames.times_T.tolist()
        clips, duration, left = piece.clips, piece.duration, piece.left
        del piece, frames_TCHW  # before the next one is read
        if left:
            continue
        kept = [torch.cat(runs) if len(runs) > 1 else runs[0] for runs in zip(*held, strict=True)]
        held.clear()
        places = {index: place for place, index in enumerate(indices)}
        for i in range(0, len(clips), _CLIPS_AT_ONCE):
            part = clips[i : i + _CLIPS_AT_ONCE]
            if not is_small:
                yield SmallPart(part, kept, places, times, duration, (width, height))
                continue
            own = needed(part)
            at = [places[index] for index in own]
            shown = list(views(kept[0] if len(at) == len(indices) else kept[0][at]))
            own_places, own_times = {index: place for place, index in enumerate(own)}, [times[place] for place in at]
            yield SmallPart(part, shown, own_places, own_times, duration, (width, height))
        del kept
        indices, times = [], []


@dataclass
class Encoded(Generic[Item]):
    """What comes out of `in_batches`: a clip of an item, with its features; or after all its clips the item's end.

    Attributes:
        item: as it was given.
        moment: what the clip shows; None at the end.
        features: of the clip: `pooled` (1, E), `patches` (1, P, E), parts of those of its batch.
        error: with the end, why there are no more clips; None if nothing was wrong.
    """

    item: Item
    moment: Moment | None = None
    features: VideoFeatures | None = None
    error: BaseException | None = None
    _levels: Tensor | None = field(default=None, repr=False)  # until they are encoded


@dataclass(frozen=True)
class EncodedVideo:
    """One video's features, or why there are none.

    Attributes:
        source: as it was given.
        features: of its C clips: `pooled` (C, E), `patches` (C, P, E); None if it could not be read.
        times: of each clip's frames, in seconds.
        error: what was wrong with it; None if nothing.
    """

    source: VideoSource
    features: VideoFeatures | None = None
    times: tuple[tuple[float, ...], ...] = ()
    error: VideoError | None = None


@dataclass(frozen=True)
class EncodedClip:
    """One clip's features; or, after all the clips of a video, that there are no more.

    Attributes:
        source: the video, as it was given.
        features: of the clip: `pooled` (1, E), `patches` (1, P, E); None at the end.
        times: of its frames, in seconds.
        start, end: of the stretch that it stands for, in seconds.
        duration: of the video, in seconds.
        size: width and height of the video's frames, in pixels.
        is_featureless: whether the clip is of one colour or frozen; see `openxclip.processing.featureless`.
        error: at the end, what was wrong with the video; None if nothing. Clips may have come of it before.
    """

    source: VideoSource
    features: VideoFeatures | None = None
    times: tuple[float, ...] = ()
    start: float = math.nan
    end: float = math.nan
    duration: float = math.nan
    size: tuple[int, int] = (0, 0)
    is_featureless: bool = False
    error: VideoError | None = None


def check_batch(batch: Batch) -> Batch:
    """The number of clips in one call of the model, or "auto".

    Raises:
        ValueError: it is neither.
    """
    if batch == "auto" or (isinstance(batch, int) and not isinstance(batch, bool) and batch >= 1):
        return batch
    raise ValueError(f'batch={batch!r}: must be a number of clips, 1 or more, or "auto".')


def clip_bytes(config: XCLIPConfig, *, num_frames: int, dtype: torch.dtype) -> int:
    """The most memory that one clip takes in the model at a time (without gradients, layers keep nothing).

    That is in a block of the video tower: of every token its width six times (what comes in, normed, as query, key and
    value, attended) and the MLP's width twice (before and after its activation); of every head the attention map, for
    where there is no kernel that does without; and the clip's pixels in float32.
    """
    vision = config.vision_config
    tokens = (vision.image_size // vision.patch_size) ** 2 + 2  # class and message
    numbers = tokens * (6 * vision.hidden_size + 2 * vision.intermediate_size)
    numbers += vision.num_attention_heads * tokens**2
    pixels = vision.num_channels * vision.image_size**2
    return max(1, num_frames) * (numbers * dtype.itemsize + pixels * 4)


def batch_size(batch: Batch, config: XCLIPConfig, *, num_frames: int, device: torch.device, dtype: torch.dtype) -> int:
    """The number of clips in one call of the model.

    "auto" is 1 on a CPU: one clip is hundreds of tokens, which occupy it as well as thousands do, and alone its
    features are the same to the bit whatever else is read. On a GPU it is as many as fit into half of the memory that
    is free (see `clip_bytes`), at most 64.
    """
    if batch != "auto":
        return batch
    if device.type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # kept for later tensors
    fitting = int(free * _SHARE_OF_FREE) // clip_bytes(config, num_frames=num_frames, dtype=dtype)
    return max(1, min(fitting, _LARGEST_AUTO))


def in_batches(
    read: ReadAhead[Item, list[ReadClip]],
    encode: Callable[[list[Tensor]], VideoFeatures],
    *,
    batch: int,
    only_full: bool,
) -> Iterator[Encoded[Item]]:
    """The clips that were read and the ends of their items, in order, with the features of each clip.

    Args:
        read: what reads.
        encode: features of several clips' levels, all of one shape.
        batch: the most clips that it is given at once.
        only_full: wait until there are so many, so that which clips are together depends on their order alone.
    """
    waiting: deque[Encoded[Item]] = deque()  # what was read and hasn't been given on
    clips: deque[Encoded[Item]] = deque()  # those of them that have no features yet
    failure: Exception | None = None
    are_all_read = False
    while waiting or not are_all_read:
        # A batch goes off when it is full, and also when the next clip isn't read yet. Where reading is faster than the
        # model, clips pile up while the model is busy, and batches are full. Where it is slower, or the next video
        # hasn't been recorded yet, the model would stand idle anyway: small batches cost nothing then, and nobody waits
        # for a result that could be had.
        if not are_all_read and len(clips) < batch and (only_full or not clips or read.is_ready()):
            try:
                step = next(read, None)
            except Exception as error:  # of where the items come from; what they gave comes first
                failure, step = error, None
            if step is None:
                are_all_read = True
            elif step.piece is None:
                waiting.append(Encoded(step.item, error=step.error))
            else:
                new = [Encoded(step.item, moment, _levels=levels) for levels, moment in step.piece]
                waiting.extend(new)
                clips.extend(new)
                del new
            del step  # not to be kept alive while the result is used
        elif clips:
            _encode(clips, batch, encode)
        while waiting and waiting[0]._levels is None:
            yield waiting.popleft()
    if failure is not None:
        raise failure


def _encode(clips: deque[Encoded[Item]], batch: int, encode: Callable[[list[Tensor]], VideoFeatures]) -> None:
    """Put features in the place of the first clips' levels, up to one of another size (without a crop, they vary)."""
    levels = [one._levels for one in islice(clips, batch) if one._levels is not None]
    alike = list(takewhile(lambda one: one.shape == levels[0].shape, levels))
    pooled_BE, patches_BPE = encode(alike)
    for i in range(len(alike)):
        one = clips.popleft()
        one.features = VideoFeatures(pooled_BE[i : i + 1], patches_BPE[i : i + 1])
        one._levels = None


def joined(
    encoded: Generator[Encoded[Item], None, None],
    source: Callable[[Item], VideoSource],
    on_clip: Callable[[int], object] = lambda done: None,
) -> Generator[EncodedVideo, None, None]:
    """The clips of each video together, with memory of their own: those of a batch are parts of one tensor.

    Args:
        encoded: the clips.
        source: of an item.
        on_clip: called with the number of clips of a video that are done, after each.
    """
    clips: list[Encoded[Item]] = []
    with closing(encoded):
        for one in encoded:
            if one.moment is not None:
                clips.append(one)
                on_clip(len(clips))
                continue
            error = _video_error(one)
            if error is not None:
                yield EncodedVideo(source(one.item), error=error)
            else:
                pooled, patches = zip(*(clip.features for clip in clips if clip.features), strict=True)
                features = VideoFeatures(torch.cat(pooled), torch.cat(patches))
                times = tuple(clip.moment.times for clip in clips if clip.moment)
                yield EncodedVideo(source(one.item), features, times)
            clips.clear()


def apart(encoded: Generator[Encoded[tuple[VideoSource, int]], None, None]) -> Generator[EncodedClip, None, None]:
    """Each clip, and the end of each video."""
    with closing(encoded):
        for one in encoded:
            (source, _), shown = one.item, one.moment
            if shown is None:
                yield EncodedClip(source, error=_video_error(one))
            else:
                yield EncodedClip(source, one.features, **vars(shown))


def _video_error(end: Encoded[Any]) -> VideoError | None:
    """What was wrong with a video; what is wrong with anything else is raised."""
    if end.error is None:
        return None
    if not isinstance(end.error, VideoError):
        raise end.error
    end.error.__context__ = end.error.__cause__ = None  # which would keep alive what read it, as would the traceback
    return end.error.with_traceback(None)
