"""Files in, features out: decode, transform, model; the next files are decoded while the model is at work."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openxclip.errors import VideoError
from openxclip.hub import DEFAULT_MODEL
from openxclip.model import VideoFeatures, XCLIPModel
from openxclip.processing import XCLIPProcessor
from openxclip.video import DEFAULT_LIMITS, DecodeWorker, Frames, Limits, VideoSource, read_clips
from openxclip.video.ahead import run_ahead
from openxclip.video.opening import check_protocols

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
        isolate: read videos in a process of its own, so that one that makes a decoder crash, hang or grow is an error
            like any other. It is started here (a quarter of a second, in the background), and takes a few milliseconds
            a video. Open files are read in this process even so.
        limits: what reading one video may cost.
        allow_protocols: what playlists and addresses may open, see `openxclip.video.VideoReader`.
    """

    def __init__(
        self,
        model: XCLIPModel,
        processor: XCLIPProcessor,
        *,
        isolate: bool = True,
        limits: Limits = DEFAULT_LIMITS,
        allow_protocols: Sequence[str] = (),
    ) -> None:
        self.model = model
        self.processor = processor
        self.isolate = isolate
        self.limits = limits
        self.allow_protocols = check_protocols(allow_protocols)
        self._idle_workers = [DecodeWorker()] if isolate else []

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = DEFAULT_MODEL,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
        isolate: bool = True,
        limits: Limits = DEFAULT_LIMITS,
        allow_protocols: Sequence[str] = (),
        **hub_options: Any,
    ) -> VideoPipeline:
        """The pipeline of a folder, a hub id or the shipped `"mini"` (which knows only the rendered playground).

        Args:
            name_or_path: see `XCLIPModel.from_pretrained`.
            device: default is a GPU if there is one, else the CPU.
            dtype: of the weights, default float32.
            isolate, limits, allow_protocols: see `VideoPipeline`.
            **hub_options: see `openxclip.hub.resolve_folder`.
        """
        allow_protocols = check_protocols(allow_protocols)
        workers = [DecodeWorker()] if isolate else []  # now, so that it gets ready while the model is loaded
        try:
            model = XCLIPModel.from_pretrained(name_or_path, device=device or "auto", dtype=dtype, **hub_options)
            processor = XCLIPProcessor.from_pretrained(name_or_path, **hub_options)
        except BaseException:
            _close(workers)
            raise
        pipeline = cls(model, processor, isolate=False, limits=limits, allow_protocols=allow_protocols)
        pipeline.isolate, pipeline._idle_workers = isolate, workers
        return pipeline

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
        limits: Limits | None = None,
    ) -> Iterator[EncodedVideo]:
        """The features of each video, in the order given; one that can't be read is returned with its error.

        Args:
            sources: paths, bytes or file objects.
            num_frames: T of a clip; default is what the model was trained with.
            num_clips: C clips over each video (see `openxclip.video.sample_clips`).
            start, end: the part of every video that is looked at, in seconds.
            limits: what reading one video may cost; default is the pipeline's.

        Raises:
            ValueError: an argument that can't be, or a model in training mode; at the call, before any video is read.
        """
        self._check_mode()
        check_stretch(start, end)
        if num_frames is None:
            num_frames = self.model.config.vision_config.num_frames
        return self._encoded(
            sources,
            num_frames=num_frames,
            num_clips=num_clips,
            start=start,
            end=end,
            limits=self.limits if limits is None else limits,
            allow_protocols=self.allow_protocols,
        )

    @torch.no_grad()
    def _encoded(self, sources: Iterable[VideoSource], **clips: Any) -> Iterator[EncodedVideo]:
        worker = self._take_worker()
        is_done = False

        def read(source: VideoSource) -> list[Frames]:
            return (read_clips if worker is None else worker.read_clips)(source, **clips)

        try:
            interrupt = (lambda: None) if worker is None else worker.close
            for source, decoded in run_ahead([read], sources, ahead=_DECODED_AHEAD, interrupt=interrupt):
                yield self._encoded_one(source, decoded)
            is_done = True
        finally:
            if worker is not None and is_done:
                self._idle_workers.append(worker)
            elif worker is not None:
                worker.close()  # it may be in the middle of a video that nobody waits for any more

    def _take_worker(self) -> DecodeWorker | None:
        """One that nobody else reads with, for there may be several iterators at once."""
        if not self.isolate:
            return None
        try:
            return self._idle_workers.pop()
        except IndexError:
            return DecodeWorker()

    def _encoded_one(self, source: VideoSource, decoded: Future[list[Frames]]) -> EncodedVideo:
        try:
            frames = decoded.result()
        except VideoError as error:
            return EncodedVideo(source, error=error.with_traceback(None))  # which would keep alive what read it
        inputs = self.processor(
            videos=[clip.frames_THWC for clip in frames], return_tensors="pt", device=self.model.device
        )
        return EncodedVideo(
            source,
            features=self.model.encode_video(inputs.pixel_values),
            times=tuple(tuple(clip.times_T.tolist()) for clip in frames),
        )

    def close(self) -> None:
        """End the processes that read; the next video starts one again."""
        _close(self._idle_workers)
        self._idle_workers.clear()

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


def _close(workers: Iterable[DecodeWorker]) -> None:
    for worker in workers:
        worker.close()
