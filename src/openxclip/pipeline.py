"""Files in, features out: decode, transform, model; the next files are decoded while the model is at work."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openxclip.errors import VideoError
from openxclip.hub import DEFAULT_MODEL
from openxclip.model import VideoFeatures, XCLIPModel
from openxclip.processing import XCLIPProcessor
from openxclip.video import Frames, VideoSource, read_clips

_TEXTS_AT_ONCE = 64  # bounds the memory of long label lists; larger chunks are no faster on a CPU
_DECODED_AHEAD = 2  # videos: one to hide decoding behind the model, one more for uneven lengths


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


class VideoPipeline:
    """A model and its processor, from files to features and scores.

    Args:
        model: in eval mode, else it is refused when it is used.
        processor: of the same folder.
    """

    def __init__(self, model: XCLIPModel, processor: XCLIPProcessor) -> None:
        self.model = model
        self.processor = processor

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = DEFAULT_MODEL,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
        **hub_options: Any,
    ) -> VideoPipeline:
        """The pipeline of a folder, a hub id or the shipped `"mini"` (which knows only the rendered playground).

        Args:
            name_or_path: see `XCLIPModel.from_pretrained`.
            device: default is a GPU if there is one, else the CPU.
            dtype: of the weights, default float32.
            **hub_options: see `openxclip.hub.resolve_folder`.
        """
        model = XCLIPModel.from_pretrained(name_or_path, device=device or "auto", dtype=dtype, **hub_options)
        return cls(model, XCLIPProcessor.from_pretrained(name_or_path, **hub_options))

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """(K, E), as `XCLIPModel.get_text_features`, of one or more texts."""
        self._check_mode()
        if isinstance(texts, str) or not len(texts):
            raise ValueError(f"texts must be a list of one or more of them, got {texts!r}.")
        chunks = []
        for i in range(0, len(texts), _TEXTS_AT_ONCE):
            inputs = self.processor(text=list(texts[i : i + _TEXTS_AT_ONCE]), return_tensors="pt", padding=True)
            chunks.append(self.model.get_text_features(**inputs.to(self.model.device)))
        return torch.cat(chunks)

    def encode_videos(
        self,
        sources: Iterable[VideoSource],
        *,
        num_frames: int | None = None,
        num_clips: int = 1,
        start: float | None = None,
        end: float | None = None,
    ) -> Iterator[EncodedVideo]:
        """The features of each video, in the order given; one that can't be read is returned with its error.

        Args:
            sources: paths, bytes or file objects.
            num_frames: T of a clip; default is what the model was trained with.
            num_clips: C clips over each video (see `openxclip.video.sample_clips`).
            start, end: the part of every video that is looked at, in seconds.

        Raises:
            ValueError: an argument that can't be, or a model in training mode; at the call, before any video is read.
        """
        self._check_mode()
        check_stretch(start, end)
        if num_frames is None:
            num_frames = self.model.config.vision_config.num_frames
        return self._encoded(sources, num_frames=num_frames, num_clips=num_clips, start=start, end=end)

    @torch.no_grad()
    def _encoded(self, sources: Iterable[VideoSource], **clips: Any) -> Iterator[EncodedVideo]:
        def read(source: VideoSource) -> list[Frames]:
            return read_clips(source, **clips)

        for source, decoded in _ahead(read, sources):
            try:
                frames = decoded.result()
            except VideoError as error:
                yield EncodedVideo(source, error=error)
                continue
            inputs = self.processor(
                videos=[clip.frames_THWC for clip in frames], return_tensors="pt", device=self.model.device
            )
            yield EncodedVideo(
                source,
                features=self.model.encode_video(inputs.pixel_values),
                times=tuple(tuple(clip.times_T.tolist()) for clip in frames),
            )

    def _check_mode(self) -> None:
        if self.model.training:
            raise ValueError("the model is in training mode, in which it drops things at random: call model.eval().")

    @torch.no_grad()
    def score(self, text_features_KE: Tensor, features: VideoFeatures) -> Tensor:
        """(C, K) `logits_per_video` of one video's C clips."""
        self._check_mode()
        logits: Tensor = self.model(text_features=text_features_KE, video_features=features).logits_per_video
        return logits.float()


def check_stretch(start: float | None, end: float | None) -> None:
    """Refuse a part of a video, in seconds, that no video can have.

    Raises:
        ValueError: a number below 0 or none at all, or an end that isn't after the start.
    """
    first, last = 0.0 if start is None else start, math.inf if end is None else end
    if not 0 <= first < math.inf:
        raise ValueError(f"start={start}: must be 0 or more seconds.")
    if not last > first:
        raise ValueError(f"end={end}: must be after start={first:g}.")


def _ahead(read: Any, sources: Iterable[VideoSource]) -> Iterator[tuple[VideoSource, Future[list[Frames]]]]:
    """Each source with the future of its frames; a few are read ahead of the one that is asked for."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="decode") as pool:
        waiting: deque[tuple[VideoSource, Future[list[Frames]]]] = deque()
        try:
            for source in sources:
                waiting.append((source, pool.submit(read, source)))
                if len(waiting) > _DECODED_AHEAD:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
