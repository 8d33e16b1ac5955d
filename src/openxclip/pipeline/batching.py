"""Encode clips of several videos in batches, and return their features in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Any, Generic, Literal

import torch
from torch import Tensor

from openxclip.config import XCLIPConfig
from openxclip.errors import VideoError
from openxclip.model import VideoFeatures
from openxclip.pipeline.clip_reading import ClipInfo, ReadClip
from openxclip.video import VideoSource
from openxclip.video.ahead import Item, ReadAhead

Batch = int | Literal["auto"]

_SHARE_OF_FREE_MEMORY = 0.5  # for activations on a GPU; the rest is for what the estimate misses
_MOST_REPEATS = 1000  # clips that wait without levels; a batch that isn't full doesn't wait for more
_MAX_AUTO = 64  # clips, which are 512 frames or more and keep any GPU busy


@dataclass
class Encoded(Generic[Item]):
    """A clip of an item with its features; or, after all its clips, the end of the item.

    Attributes:
        item: the item that was read.
        info: the times of the clip and so on; None at the end.
        features: features of the clip: `pooled` (1, E), `patches` (1, P, E), which are slices of its batch's tensors.
        error: at the end, the error that stopped the reading; None if there was none.
        waiting: the levels (T, 3, H, W) of the clip until it is encoded, then None.
        repeats: the earlier clip of the item that has the same levels and gives its features; None if there is none.
    """

    item: Item
    info: ClipInfo | None = None
    features: VideoFeatures | None = None
    error: BaseException | None = None
    waiting: Tensor | None = field(default=None, repr=False)
    repeats: Encoded[Item] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class VideoResult:
    """One video's features, or its error.

    Attributes:
        source: the video, as it was given.
        features: features of its C clips: `pooled` (C, E), `patches` (C, P, E); None if it could not be read.
        times: times of each clip's frames, in seconds.
        error: why the video could not be read; None if it could.
    """

    source: VideoSource
    features: VideoFeatures | None = None
    times: tuple[tuple[float, ...], ...] = ()
    error: VideoError | None = None


@dataclass(frozen=True, kw_only=True)
class EncodedClip(ClipInfo):
    """One clip's features and times; or, after all clips of a video, the end of the video.

    Attributes:
        source: the video, as it was given.
        features: features of the clip: `pooled` (1, E), `patches` (1, P, E); None at the end.
        is_repeat: whether the features are those of the clip before, whose frames are the same after resizing.
        error: at the end, the error that stopped the reading, perhaps after some clips; None if there was none.
    """

    source: VideoSource
    features: VideoFeatures | None = None
    is_repeat: bool = False
    error: VideoError | None = None


def check_batch(batch: Batch) -> Batch:
    """Return `batch` if it is valid.

    Raises:
        ValueError: it is neither a number of clips nor "auto".
    """
    if batch == "auto" or (isinstance(batch, int) and not isinstance(batch, bool) and batch >= 1):
        return batch
    raise ValueError(f'batch={batch!r}: must be a number of clips, 1 or more, or "auto".')


def clip_bytes(config: XCLIPConfig, *, num_frames: int, dtype: torch.dtype) -> int:
    """Return the peak memory, in bytes, that the model takes for one clip without gradients.

    The peak is in a block of the video tower: for every token, six vectors of the hidden size (input, normed, query,
    key, value, attended) and two of the MLP's size (before and after the activation); the attention map of every head,
    which some kernels store; and the clip's pixels in float32.
    """
    vision = config.vision_config
    tokens = (vision.image_size // vision.patch_size) ** 2 + 2  # the class token and the message token
    values = tokens * (6 * vision.hidden_size + 2 * vision.intermediate_size)
    values += vision.num_attention_heads * tokens**2
    pixels = vision.num_channels * vision.image_size**2
    return max(1, num_frames) * (values * dtype.itemsize + pixels * 4)


def batch_size(batch: Batch, config: XCLIPConfig, *, num_frames: int, device: torch.device, dtype: torch.dtype) -> int:
    """Return the number of clips in one call of the model.

    "auto" is 1 on a CPU: the hundreds of tokens of one clip keep a CPU as busy as thousands do, and the features of a
    clip don't depend, to the bit, on what else is read. On a GPU, "auto" is the number that fits into half of the free
    memory (see `clip_bytes`), at most 64.
    """
    if batch != "auto":
        return batch
    if device.type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # PyTorch reuses it
    fitting = int(free * _SHARE_OF_FREE_MEMORY) // clip_bytes(config, num_frames=num_frames, dtype=dtype)
    return max(1, min(fitting, _MAX_AUTO))


def encode_in_batches(
    read: ReadAhead[Item, list[ReadClip]],
    encode: Callable[[list[Tensor]], VideoFeatures],
    *,
    batch: int,
    only_full: bool,
    skip_repeats: bool = False,
) -> Iterator[Encoded[Item]]:
    """Encode clips as they are read; yield each clip with its features and the end of each item, in order.

    A batch is encoded when it is full, or when the next clip isn't read yet. If reading is faster than the model, clips
    pile up while the model is busy, and batches are full. If it is slower, the model would be idle anyway, so small
    batches cost nothing, and no result waits for the next video.

    Args:
        read: the clips, read ahead.
        encode: returns the features of some clips' levels, all of one shape.
        batch: the most clips in one call of `encode`.
        only_full: wait until each batch is full, so that batches depend only on the order of the clips.
        skip_repeats: give a clip the features of the clip before, without encoding it, if their levels are equal.
    """
    results: deque[Encoded[Item]] = deque()  # not yielded yet
    clips: deque[Encoded[Item]] = deque()  # those of the results that aren't encoded yet
    repeats = _Repeats[Item]()
    failure: Exception | None = None
    has_more = True
    while results or has_more:
        may_wait = len(clips) < batch and len(results) < batch + _MOST_REPEATS
        if has_more and may_wait and (only_full or not clips or read.is_ready()):
            try:
                step = next(read, None)
            except Exception as error:  # from the iterator of items; raised after the results of earlier items
                failure, step = error, None
            if step is None:
                has_more = False
            elif step.piece is None:
                repeats.forget()
                results.append(Encoded(step.item, error=step.error))
            else:
                new = [Encoded(step.item, info, waiting=levels) for levels, info in step.piece]
                results.extend(new)
                clips.extend(repeats.leave_out(new) if skip_repeats else new)
                del new
            del step  # free it while the caller uses the results
        elif clips:
            _encode_batch(clips, batch, encode)
        while results and results[0].waiting is None:
            result = results.popleft()
            if result.repeats is not None:
                result.features = result.repeats.features
            yield result
            del result  # while the next one is awaited
    if failure is not None:
        raise failure


class _Repeats(Generic[Item]):
    """Recognises clips of an item that repeat the one before."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin another item."""
        self._last: Encoded[Item] | None = None
        self._levels_TCHW: Tensor | None = None

    def leave_out(self, clips: list[Encoded[Item]]) -> list[Encoded[Item]]:
        """Mark the clips that repeat the one before, and return the others."""
        others: list[Encoded[Item]] = []
        for clip in clips:
            if self._levels_TCHW is not None and clip.waiting is not None and clip.waiting.equal(self._levels_TCHW):
                clip.waiting, clip.repeats = None, self._last
            else:
                self._last, self._levels_TCHW = clip, clip.waiting
                others.append(clip)
        return others


def _encode_batch(clips: deque[Encoded[Item]], batch: int, encode: Callable[[list[Tensor]], VideoFeatures]) -> None:
    """Encode the first clips, as many as have one size: sizes vary if the processor doesn't crop."""
    levels = [clip.waiting for clip in islice(clips, batch) if clip.waiting is not None]
    same_size = list(takewhile(lambda levels_TCHW: levels_TCHW.shape == levels[0].shape, levels))
    pooled_BE, patches_BPE = encode(same_size)
    for i in range(len(same_size)):
        clip = clips.popleft()
        clip.features = VideoFeatures(pooled_BE[i : i + 1], patches_BPE[i : i + 1])
        clip.waiting = None


def join_clips(
    encoded: Generator[Encoded[Item], None, None],
    source_of: Callable[[Item], VideoSource],
    on_clip: Callable[[int], object] = lambda done: None,
) -> Generator[VideoResult, None, None]:
    """Join the clips of each video; their features are copied, so that a result doesn't keep whole batches alive.

    Args:
        encoded: the encoded clips and the end of each item.
        source_of: returns the source of an item.
        on_clip: called after each clip with the number of clips of its video encoded so far.
    """
    clips: list[Encoded[Item]] = []
    with closing(encoded):
        for result in encoded:
            if result.info is not None:
                clips.append(result)
                on_clip(len(clips))
                continue
            source, error = source_of(result.item), _video_error(result)
            if error is not None:
                yield VideoResult(source, error=error)
            else:
                pooled, patches = zip(*(clip.features for clip in clips if clip.features), strict=True)
                features = VideoFeatures(torch.cat(pooled), torch.cat(patches))
                times = tuple(clip.info.times for clip in clips if clip.info)
                yield VideoResult(source, features, times)
            clips.clear()


def separate_clips(
    encoded: Generator[Encoded[tuple[VideoSource, int]], None, None],
) -> Generator[EncodedClip, None, None]:
    """Yield each clip as it is encoded, and the end of each video."""
    with closing(encoded):
        for result in encoded:
            source, _ = result.item
            if result.info is None:
                yield EncodedClip(source=source, error=_video_error(result))
            else:
                is_repeat = result.repeats is not None
                yield EncodedClip(source=source, features=result.features, is_repeat=is_repeat, **vars(result.info))


def _video_error(end: Encoded[Any]) -> VideoError | None:
    """Return the error of a video that could not be read, None if it could; raise errors of other kinds."""
    if end.error is None:
        return None
    if not isinstance(end.error, VideoError):
        raise end.error
    end.error.__context__ = end.error.__cause__ = None  # these and the traceback keep the reader alive
    return end.error.with_traceback(None)
