"""Videos in, features out: the next files are decoded and made small while the model is at work on a batch of clips."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openxclip.common.cores import num_cores
from openxclip.common.threads import say_if_forked
from openxclip.engine import OptimizedXCLIPModel, Precision
from openxclip.engine.precision import check_precision
from openxclip.errors import VideoError
from openxclip.hub import DEFAULT_MODEL
from openxclip.model import VideoFeatures, XCLIPModel
from openxclip.model.devices import as_computing_device
from openxclip.model.finite import finite
from openxclip.pipeline.batching import (
    Batch,
    Encoded,
    EncodedClip,
    EncodedVideo,
    ReadClip,
    VideoPart,
    Views,
    apart,
    batch_size,
    check_batch,
    in_batches,
    joined,
    read_small,
)
from openxclip.processing import XCLIPProcessor
from openxclip.processing.texts import warn_of_cuts
from openxclip.video import DEFAULT_LIMITS, DecodeWorker, Limits, VideoSource
from openxclip.video.ahead import Item, ReadAhead
from openxclip.video.clips import ClipPlan
from openxclip.video.opening import check_protocols, check_track
from openxclip.video.sampling import Sampling, check_fps, check_stretch

_TEXTS_AT_ONCE = 64  # of a plain model: bounds the memory of long label lists
_TEXTS_AT_ONCE_OPTIMIZED = 512  # it puts those of one length together
_MOST_READERS = 8
_MOST_VIEWS = 3  # of a frame, in the paper's protocols
# Preparing weights costs as much as it saves over a thousand tokens or more: one short clip is answered without.
_PATIENCE = 1000

Reader = Callable[[DecodeWorker | None, Item], Generator[list[ReadClip], None, None]]


class VideoPipeline:
    """A model and its processor, from videos (files, or frames in memory) to features and scores.

    Args:
        model: in eval mode, else it is refused when it is used.
        processor: of the same folder.
        precision: how the model is optimised (see `openxclip.optimize`), unless it is already; None takes it as it is.
        isolate: read videos in another process (with a GPU, in several), so that one that makes a decoder crash, hang
            or grow is an error like any other. It starts here, in the background, in a quarter of a second, and costs a
            few milliseconds a video. Open files and frames in memory are read in this process.
        limits: what reading one video may cost.
        allow_protocols: what playlists and addresses may open, see `openxclip.video.VideoReader`.
        track: which of a file's video tracks is read, see there.

    Attributes:
        name: of the model, by which it was loaded; None if it wasn't loaded here.
    """

    name: str | None = None

    def __init__(
        self,
        model: XCLIPModel,
        processor: XCLIPProcessor,
        *,
        precision: Precision | None = "auto",
        isolate: bool = True,
        limits: Limits = DEFAULT_LIMITS,
        allow_protocols: Sequence[str] = (),
        track: int | None = None,
    ) -> None:
        if precision is not None and type(model) is XCLIPModel:
            model = OptimizedXCLIPModel(model, precision, patience=_PATIENCE)
        self.model = model
        self.processor = processor
        self.isolate = isolate
        self.limits = limits
        self.allow_protocols = check_protocols(allow_protocols)
        check_track(track)
        self.track = track
        self._idle_workers = [DecodeWorker()] if isolate else []

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = DEFAULT_MODEL,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
        precision: Precision | None = "auto",
        isolate: bool = True,
        limits: Limits = DEFAULT_LIMITS,
        allow_protocols: Sequence[str] = (),
        track: int | None = None,
        **hub_options: Any,
    ) -> VideoPipeline:
        """The pipeline of a folder, a hub id or the shipped `"mini"` (which knows only the rendered playground).

        Args:
            name_or_path: see `XCLIPModel.from_pretrained`.
            device: default is a GPU if there is one, else the CPU.
            dtype: of the weights, default float32.
            precision, isolate, limits, allow_protocols, track: see `VideoPipeline`.
            **hub_options: see `openxclip.hub.resolve_folder`.
        """
        allow_protocols = check_protocols(allow_protocols)
        check_track(track)
        if precision is not None:
            check_precision(precision)  # before the model is loaded
        workers = [DecodeWorker()] if isolate else []  # now, so that it gets ready while the model is loaded
        try:
            device = as_computing_device(device or "auto")
            model = XCLIPModel.from_pretrained(name_or_path, device=device, dtype=dtype, **hub_options)
            processor = XCLIPProcessor.from_pretrained(name_or_path, **hub_options)
            pipeline = cls(
                model, processor, precision=precision, isolate=False, limits=limits, allow_protocols=allow_protocols
            )
        except BaseException:
            _close(workers)
            raise
        pipeline.track = track
        pipeline.isolate, pipeline._idle_workers, pipeline.name = isolate, workers, str(name_or_path)
        return pipeline

    @torch.no_grad()
    def encode_texts(
        self, texts: Sequence[str], *, what: str = "text", on_text: Callable[[int], object] = lambda done: None
    ) -> Tensor:
        """(K, E), as `XCLIPModel.get_text_features`, of one or more texts.

        A text with more tokens than the model has positions for (77) is cut, with a warning that names it.

        Args:
            texts: K of them.
            what: they are called in that warning.
            on_text: called now and then with the number of texts that are done.
        """
        self._check_mode()
        if isinstance(texts, str) or not len(texts):
            raise ValueError(f"texts must be a list of one or more of them, got {texts!r}.")
        at_once = _TEXTS_AT_ONCE_OPTIMIZED if isinstance(self.model, OptimizedXCLIPModel) else _TEXTS_AT_ONCE
        warn_of_cuts(self.processor.tokenizer, texts, what, stacklevel=3)  # seen from the caller, past no_grad
        chunks = list[Tensor]()
        for i in range(0, len(texts), at_once):
            inputs = self.processor(text=[*texts[i : i + at_once]], return_tensors="pt", padding=True, truncation=True)
            chunks.append(self.model.get_text_features(**inputs.to(self.model.device)))
            on_text(min(i + at_once, len(texts)))
        return finite(torch.cat(chunks), self.name)

    def encode_videos(
        self,
        sources: Iterable[VideoSource],
        *,
        num_frames: int | None = None,
        num_clips: int = 1,
        start: float | None = None,
        end: float | None = None,
        sampling: Sampling = "time",
        fps: float | None = None,
        limits: Limits | None = None,
        batch: Batch = "auto",
        on_clip: Callable[[int], object] = lambda done: None,
    ) -> Generator[EncodedVideo, None, None]:
        """The features of each video, in the order given; one that can't be read is returned with its error.

        The next videos are read while the model works. No result waits for a later video, or for later `sources`.

        Args:
            sources: paths, bytes, file objects, or frames in memory by `openxclip.processing.sources.in_memory`. An
                iterator is taken from in a thread of its own, a few videos ahead.
            num_frames: T of a clip; default is what the model was trained with.
            num_clips: C clips over each video (see `openxclip.video.sample_clips`).
            start, end: the part of every video that is looked at, in seconds.
            sampling: how the frames of a clip are chosen, see `openxclip.video.sampling.Timeline`.
            fps: frames per second of what carries no times: frames in memory, folders of images, `.npy` arrays.
            limits: what reading one video may cost; default is the pipeline's.
            batch: the most clips in one call of the model, of one video or several; "auto" is 1 on a CPU, and by the
                memory on a GPU (see `openxclip.pipeline.batching.batch_size`).
            on_clip: called after each clip with the number of clips of its video that are done.

        Raises:
            ValueError: an argument that can't be, or a model in training mode; at the call, before any video is read.
        """
        check_stretch(start, end)
        check_fps(fps)
        frames, size = self._checked(num_frames, batch)
        plan = ClipPlan(num_frames=frames, num_clips=num_clips, sampling=sampling)
        how: dict[str, Any] = {"plan": plan, "start": start, "end": end, "fps": fps, **self._reading(limits)}
        reader = partial(self._read_video, how)
        ahead = 2 + math.ceil(size / max(1, num_clips))  # one to hide reading behind the model, one for uneven lengths
        encoded = self._encoded(sources, reader, ahead=ahead, batch=size, only_full=False)
        return joined(encoded, lambda source: source, on_clip)

    def encode_clips(
        self,
        sources: Iterable[VideoSource],
        plan: ClipPlan,
        *,
        first: int = 0,
        fps: float | None = None,
        limits: Limits | None = None,
        batch: Batch = "auto",
    ) -> Generator[EncodedClip, None, None]:
        """The features of each clip that a plan makes of each video, in order, and the end of each video.

        Memory is bounded however long a video is: some 256 MiB of decoded frames for each process that reads, and about
        a hundred small clips besides the batch. All batches but the last are full, so that the same sources give the
        same features, to the bit on the same machine.

        Args:
            sources: as for `encode_videos`.
            plan: which clips of a video.
            first: how many clips of the first video to skip, in order to resume there.
            fps: as for `encode_videos`.
            limits: as for `encode_videos`, of every piece of a video.
            batch: the clips in one call of the model; "auto" is as for `encode_videos`.

        Raises:
            ValueError: as for `encode_videos`.
        """
        check_fps(fps)
        _, size = self._checked(plan.num_frames, batch)
        if isinstance(self.model, OptimizedXCLIPModel):
            self.model.lose_patience()
        reader = partial(self._read_planned, {"plan": plan, "fps": fps, **self._reading(limits)})
        items: Iterable[tuple[VideoSource, int]] = zip(sources, chain([first], repeat(0)), strict=False)
        items = list(items) if isinstance(sources, Sequence) else items
        return apart(self._encoded(items, reader, ahead=2 + size, batch=size, only_full=True))

    def encode_parts(
        self,
        parts: Iterable[VideoPart],
        views: Views,
        *,
        num_frames: int | None = None,
        num_clips: int = 1,
        sampling: Sampling = "time",
        limits: Limits | None = None,
        batch: Batch = "auto",
    ) -> Generator[EncodedVideo, None, None]:
        """The features of the views of each clip of parts of videos, in order: what a model is tested by.

        Batches are always full (but for the last), as in `encode_clips`, for the same reason.

        Args:
            parts: as `sources` of `encode_videos`, opened by the threads that read them; one that can't be opened is
                returned with its error.
            views: called, by a thread that reads, with frames, uint8 (N, 3, H, W), of one clip or several. It gives
                one view or several, uint8 (N, 3, height, width), whose levels are then scaled as the processor says.
            num_frames, num_clips, sampling, limits, batch: as for `encode_videos`; each view is one clip of a batch.

        Returns:
            For each part an `EncodedVideo` of its `source`; its features and times are those of the first clip's
            views, then of the second's, and so on.

        Raises:
            ValueError: as for `encode_videos`.
        """
        frames, size = self._checked(num_frames, batch)
        if isinstance(self.model, OptimizedXCLIPModel):
            self.model.lose_patience()
        plan = ClipPlan(num_frames=frames, num_clips=num_clips, sampling=sampling)
        how = {"plan": plan, **self._reading(limits), "views": views}
        how["bytes_kept"] *= _MOST_VIEWS
        reader = partial(self._read_part, how)
        ahead = 2 + math.ceil(size / max(1, num_clips))
        return joined(self._encoded(parts, reader, ahead=ahead, batch=size, only_full=True), lambda part: part.source)

    def _checked(self, num_frames: int | None, batch: Batch) -> tuple[int, int]:
        """Frames of a clip, and clips in one call of the model."""
        self._check_mode()
        check_batch(batch)
        model = self.model
        frames: int = model.config.vision_config.num_frames if num_frames is None else num_frames
        return frames, batch_size(batch, model.config, num_frames=frames, device=model.device, dtype=model.dtype)

    def _reading(self, limits: Limits | None) -> dict[str, Any]:
        readers, side = self._num_readers(), self.model.config.vision_config.image_size
        return {
            "views": lambda frames_TCHW: [self.processor.image_processor.levels(frames_TCHW)],
            "bytes_kept": 3 * side**2,
            "limits": self.limits if limits is None else limits,
            "allow_protocols": self.allow_protocols,
            "track": self.track,
            "num_threads": 0 if readers == 1 else max(1, num_cores() // readers),
        }

    # -- in the threads that read ------------------------------------------------------------------------------------
    def _read_video(
        self, how: dict[str, Any], worker: DecodeWorker | None, source: VideoSource
    ) -> Generator[list[ReadClip], None, None]:
        for part in read_small(worker, source, **how):
            yield [view for clip in part.clips for view in part.read_clips(clip)]
            del part  # before the next one is read

    def _read_part(
        self, how: dict[str, Any], worker: DecodeWorker | None, part: VideoPart
    ) -> Generator[list[ReadClip], None, None]:
        try:
            for small in read_small(worker, part.open(), start=part.start, end=part.end, **how):
                yield [view for clip in small.clips for view in small.read_clips(clip)]
                del small
        except VideoError as error:
            raise VideoError(part.source, error.reason) from None  # content has no name of its own
        except OSError as error:
            raise VideoError(part.source, f"it cannot be opened: {error.strerror or error}") from None

    def _read_planned(
        self, how: dict[str, Any], worker: DecodeWorker | None, item: tuple[VideoSource, int]
    ) -> Generator[list[ReadClip], None, None]:
        for part in read_small(worker, item[0], first=item[1], **how):
            yield [part.planned_clip(clip) for clip in part.clips]
            del part

    # -- in the caller's ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _encoded(
        self, items: Iterable[Item], reader: Reader[Item], *, ahead: int, batch: int, only_full: bool
    ) -> Generator[Encoded[Item], None, None]:
        workers = self._take_workers(items)
        readers = [partial(reader, worker) for worker in workers]

        def interrupt() -> None:
            _close(workers)

        is_done = False
        read: ReadAhead[Item, list[ReadClip]] | None = None
        try:
            ahead += len(workers) - 1
            read = ReadAhead(readers, items, ahead=ahead, room=batch + 1, size=len, interrupt=interrupt)
            yield from in_batches(read, self._encode, batch=batch, only_full=only_full)
            is_done = True
        finally:
            if read is not None:
                read.close()
            if is_done:
                self._idle_workers.extend(worker for worker in workers if worker is not None)
            else:
                interrupt()  # one may be in the middle of a video that nobody waits for any more

    def _encode(self, levels: list[Tensor]) -> VideoFeatures:
        values = self.processor.image_processor.values(levels, device=self.model.device)
        return finite(self.model.encode_video(values), self.name)

    def _take_workers(self, items: Iterable[Any]) -> list[DecodeWorker | None]:
        """Some that nobody else reads with, for there may be several iterators at once; None reads without."""
        number = self._num_readers()
        if isinstance(items, Sequence):
            number = max(1, min(number, len(items)))
        return [self._take_worker() if self.isolate else None for _ in range(number)]

    def _num_readers(self) -> int:
        # On a CPU one reader keeps up with the model, and more would only take cores from it.
        return 1 if self.model.device.type == "cpu" else max(1, min(num_cores() // 2, _MOST_READERS))

    def _take_worker(self) -> DecodeWorker:
        try:
            return self._idle_workers.pop()
        except IndexError:
            return DecodeWorker()

    def close(self) -> None:
        """End the processes that read; the next video starts one again."""
        _close(self._idle_workers)
        self._idle_workers.clear()

    def _check_mode(self) -> None:
        say_if_forked()
        if self.model.training:
            raise ValueError("the model is in training mode, in which it drops things at random: call model.eval().")

    @torch.no_grad()
    def score(self, text_features_KE: Tensor, features: VideoFeatures) -> Tensor:
        """(C, K) `logits_per_video` of one video's C clips."""
        self._check_mode()
        logits: Tensor = self.model(text_features=text_features_KE, video_features=features).logits_per_video
        return finite(logits.float(), self.name)


def _close(workers: Iterable[DecodeWorker | None]) -> None:
    for worker in workers:
        if worker is not None:
            worker.close()
