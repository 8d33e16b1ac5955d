"""Turn videos into features; the next videos are decoded and resized while the model encodes a batch of clips."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from openxclip.common.cores import num_cores
from openxclip.common.threads import warn_if_forked
from openxclip.config import TimeContract
from openxclip.engine import OptimizedXCLIPModel, Precision
from openxclip.engine.precision import check_precision
from openxclip.errors import VideoError
from openxclip.hub import DEFAULT_MODEL, HubOptions
from openxclip.model import VideoFeatures, XCLIPModel
from openxclip.model.devices import as_computing_device
from openxclip.model.finite import require_finite
from openxclip.pipeline.batching import (
    Batch,
    Encoded,
    EncodedClip,
    VideoResult,
    batch_size,
    check_batch,
    encode_in_batches,
    join_clips,
    separate_clips,
)
from openxclip.pipeline.clip_reading import ClipReader, ReadClip, ReadFrames, VideoPart, Views
from openxclip.pipeline.workers import WorkerPool, close_workers
from openxclip.processing import XCLIPProcessor
from openxclip.processing.featureless import is_featureless
from openxclip.processing.texts import warn_of_cuts
from openxclip.video import ClipPlan, DecodeWorker, ReadOptions, VideoSource
from openxclip.video.ahead import Item, ReadAhead

if TYPE_CHECKING:
    from typing_extensions import Unpack  # in typing since Python 3.11

_TEXTS_AT_ONCE = 64  # bounds the memory that long lists of labels take
_TEXTS_AT_ONCE_OPTIMIZED = 512  # for an optimised model, which groups them by length
_MAX_READERS = 8
_MAX_VIEWS = 3  # views of a frame in the paper's protocols
_PREPARE_AFTER = 1000  # tokens; preparing weights costs as much time as it saves over so many

Reader = Callable[[DecodeWorker | None, Item], Generator[list[ReadClip], None, None]]


class VideoPipeline:
    """A model and its processor, which turn videos (files, or frames in memory) into features and scores.

    Args:
        model: the model, in eval mode; a model in training mode is refused when it is used.
        processor: the model's processor.
        precision: how to optimise the model (see `openxclip.optimize`), unless it is optimised already; None leaves it
            as it is.
        isolate: read videos in another process (with a GPU, in several), so that a video that makes the decoder crash,
            hang or run out of memory is an error like any other. The process starts here, in the background, in a
            quarter of a second, and costs a few milliseconds a video. Open files and frames in memory are read in this
            process.
        read: how to read videos; default is `ReadOptions()`.
        name: the name by which the model was loaded, if any.
        workers: the worker processes, if they were started before; then `isolate` is ignored.

    Attributes:
        model, processor, name, read: the arguments; `model` is optimised according to `precision`.
    """

    def __init__(
        self,
        model: XCLIPModel,
        processor: XCLIPProcessor,
        *,
        precision: Precision | None = "auto",
        isolate: bool = True,
        read: ReadOptions | None = None,
        name: str | None = None,
        workers: WorkerPool | None = None,
    ) -> None:
        if precision is not None and type(model) is XCLIPModel:
            model = OptimizedXCLIPModel(model, precision, prepare_after=_PREPARE_AFTER)
        self.model = model
        self.processor = processor
        self.name = name
        self.read = read or ReadOptions()
        self._workers = workers or WorkerPool(isolate)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = DEFAULT_MODEL,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
        precision: Precision | None = "auto",
        isolate: bool = True,
        read: ReadOptions | None = None,
        **hub_options: Unpack[HubOptions],
    ) -> VideoPipeline:
        """Load a pipeline from a folder, a hub id or the shipped `"mini"` (which knows only the rendered playground).

        Args:
            name_or_path: see `XCLIPModel.from_pretrained`.
            device: device of the model; default is a GPU if there is one, else the CPU.
            dtype: dtype of the weights; default is float32.
            precision, isolate, read: see `VideoPipeline`.
            **hub_options: see `openxclip.hub.HubOptions`.
        """
        if precision is not None:
            check_precision(precision)  # before the model is loaded
        workers = WorkerPool(isolate)  # its process starts while the model is loaded
        try:
            device = as_computing_device(device or "auto")
            model = XCLIPModel.from_pretrained(name_or_path, device=device, dtype=dtype, **hub_options)
            processor = XCLIPProcessor.from_pretrained(name_or_path, **hub_options)
            return cls(model, processor, precision=precision, read=read, name=str(name_or_path), workers=workers)
        except BaseException:
            workers.close()
            raise

    @property
    def contract(self) -> TimeContract:
        """The model's contract of time, from its config; the default contract if the config has none.

        Raises:
            CheckpointError: the contract in the config is invalid.
        """
        return TimeContract.of_config(self.model.config)

    @torch.no_grad()
    def encode_texts(
        self, texts: Sequence[str], *, what: str = "text", on_text: Callable[[int], object] = lambda done: None
    ) -> Tensor:
        """Return the features (K, E) of K texts, as `XCLIPModel.get_text_features`.

        A text with more tokens than the model has positions for (77) is truncated, with a warning that quotes it.

        Args:
            texts: one or more texts.
            what: the word for a text in the warning.
            on_text: called after some texts each time, with the number encoded so far.

        Raises:
            ValueError: `texts` is empty or a string, or the model is in training mode.
        """
        self._check_mode()
        if isinstance(texts, str) or not len(texts):
            raise ValueError(f"texts must be a list of one or more texts, got {texts!r}.")
        at_once = _TEXTS_AT_ONCE_OPTIMIZED if isinstance(self.model, OptimizedXCLIPModel) else _TEXTS_AT_ONCE
        warn_of_cuts(self.processor.tokenizer, texts, what, stacklevel=3)  # the caller, above `no_grad`
        chunks = list[Tensor]()
        for i in range(0, len(texts), at_once):
            inputs = self.processor(text=[*texts[i : i + at_once]], return_tensors="pt", padding=True, truncation=True)
            chunks.append(self.model.get_text_features(**inputs.to(self.model.device)))
            on_text(min(i + at_once, len(texts)))
        return require_finite(torch.cat(chunks), self.name)

    def encode_videos(
        self,
        sources: Iterable[VideoSource],
        plan: ClipPlan | None = None,
        *,
        read: ReadOptions | None = None,
        batch: Batch = "auto",
        on_clip: Callable[[int], object] = lambda done: None,
    ) -> Generator[VideoResult, None, None]:
        """Encode videos, in the order given; yield a result for each video, with an error if it can't be read.

        The next videos are read while the model works. No result waits for a later video, or for later `sources`.

        Args:
            sources: paths, bytes, file objects, or frames in memory by `openxclip.processing.sources.in_memory`. An
                iterator is consumed in another thread, a few videos ahead.
            plan: which clips to read of each video; default is one over the whole video.
            read: how to read videos; default is the pipeline's `read`.
            batch: the most clips in one call of the model, of one video or several; "auto" is 1 on a CPU, and depends
                on the memory of a GPU (see `openxclip.pipeline.batching.batch_size`).
            on_clip: called after each clip with the number of clips of its video encoded so far.

        Raises:
            ValueError: an argument is out of range, or the model is in training mode; raised at the call, before any
                video is read.
        """
        reader = self._clip_reader(plan or ClipPlan(), read)
        size = self.clips_per_call(batch, reader.plan)
        encoded = self._encode_all(sources, reader.read_clips, reader.plan, batch=size, only_full=False)
        return join_clips(encoded, lambda source: source, on_clip)

    def encode_clips(
        self,
        sources: Iterable[VideoSource],
        plan: ClipPlan,
        *,
        first: int = 0,
        read: ReadOptions | None = None,
        batch: Batch = "auto",
        skip_repeats: bool = False,
        reading: ReadFrames | None = None,
    ) -> Generator[EncodedClip, None, None]:
        """Encode all clips of a plan in each video; yield each clip, and an end after the last clip of each video.

        Memory doesn't grow with the length of a video. Windows are read in one pass, with about 32 MiB of decoded
        frames at a time in each process that reads (see `openxclip.video.reading.read_planned`); several clips over a
        video take about 256 MiB. Some dozens of resized clips wait besides the batch. All batches but the last are
        full, so that the same sources give the same features, to the bit on the same machine.

        Args:
            sources: as for `encode_videos`.
            plan: which clips to read of each video.
            first: clips of the first video to skip when resuming.
            read: as for `encode_videos`, but `limits.seconds` holds for each piece of a video.
            batch: the number of clips in one call of the model; "auto" is as for `encode_videos`.
            skip_repeats: don't run the model for a clip whose resized frames equal those of the clip before (a still
                camera, a slide), which has the same features.
            reading: reads the clips of a video in another way than the plan says, see
                `openxclip.pipeline.clip_reading.ReadFrames`.

        Raises:
            ValueError: as for `encode_videos`; or `first` is given with `reading`.
        """
        if reading is not None and first:
            raise ValueError(f"first={first}: clips that `reading` chooses can't be skipped by their number.")
        reader = self._clip_reader(plan, read)
        size = self.clips_per_call(batch, reader.plan)
        items: Iterable[tuple[VideoSource, int]] = zip(sources, chain([first], repeat(0)), strict=False)
        items = list(items) if isinstance(sources, Sequence) else items
        read_item = partial(_read_clips, reader) if reading is None else partial(_form_clips, reader, reading)
        encoded = self._encode_all(items, read_item, reader.plan, batch=size, only_full=True, skip_repeats=skip_repeats)
        return separate_clips(encoded)

    def encode_parts(
        self,
        parts: Iterable[VideoPart],
        views: Views,
        plan: ClipPlan | None = None,
        *,
        read: ReadOptions | None = None,
        batch: Batch = "auto",
    ) -> Generator[VideoResult, None, None]:
        """Encode the views of each clip of parts of videos, to test a model; yield one result for each part, in order.

        All batches but the last are full, as in `encode_clips`, for the same reason.

        Args:
            parts: the parts of videos, opened by the threads that read them.
            views: returns one or more views, uint8 (N, 3, height, width), of frames, uint8 (N, 3, H, W), of one or more
                clips. It is called in a thread that reads. The processor then scales the levels.
            plan, read, batch: as for `encode_videos`; each view counts as a clip of a batch. `start` and `end` are
                those of the part.

        Returns:
            Results whose `source` is the part's, with the features and times of all views of the first clip, then of
            the second, and so on; a part that can't be opened or read has a result with an error.

        Raises:
            ValueError: as for `encode_videos`.
        """
        reader = self._clip_reader(plan or ClipPlan(), read)
        reader = replace(reader, views=views, bytes_kept=_MAX_VIEWS * reader.bytes_kept)
        size = self.clips_per_call(batch, reader.plan)
        encoded = self._encode_all(parts, partial(_read_part, reader), reader.plan, batch=size, only_full=True)
        return join_clips(encoded, lambda part: part.source)

    def complete_plan(self, plan: ClipPlan) -> ClipPlan:
        """Return the plan, with the model's number of frames if it has none."""
        if plan.num_frames is not None:
            return plan
        return replace(plan, num_frames=self.model.config.vision_config.num_frames)

    def clips_per_call(self, batch: Batch, plan: ClipPlan) -> int:
        """Return the number of clips in one call of the model, see `openxclip.pipeline.batching.batch_size`.

        Raises:
            ValueError: `batch` isn't a number of clips or "auto", or the model is in training mode.
        """
        self._check_mode()
        check_batch(batch)
        model = self.model
        return batch_size(batch, model.config, num_frames=plan.frames_per_clip, device=model.device, dtype=model.dtype)

    def _clip_reader(self, plan: ClipPlan, read: ReadOptions | None) -> ClipReader:
        """Return the reader of a plan's clips, resized for the model; several of its copies share the cores."""
        read, readers = read or self.read, self._num_readers()
        if not read.threads and readers > 1:
            read = replace(read, threads=max(1, num_cores() // readers))
        return ClipReader(
            plan=self.complete_plan(plan),
            read=read,
            views=lambda frames_TCHW: [self.processor.image_processor.levels(frames_TCHW)],
            bytes_kept=3 * self.model.config.vision_config.image_size**2,
        )

    @torch.no_grad()
    def _encode_all(
        self,
        items: Iterable[Item],
        reader: Reader[Item],
        plan: ClipPlan,
        *,
        batch: int,
        only_full: bool,
        skip_repeats: bool = False,
    ) -> Generator[Encoded[Item], None, None]:
        """Encode the clips of all items, read ahead by threads; see `encode_in_batches`."""
        if only_full and isinstance(self.model, OptimizedXCLIPModel):
            self.model.prepare_at_next_use()
        count = self._num_readers()
        if isinstance(items, Sequence):
            count = max(1, min(count, len(items)))
        # the videos of one batch, one for each reader, and one more, so that a long video doesn't stop the model
        ahead = math.ceil(batch / plan.num_clips) + count + 1
        with self._workers.borrow(count) as workers:
            readers = [partial(reader, worker) for worker in workers]
            interrupt = partial(close_workers, workers)
            read = ReadAhead(readers, items, ahead=ahead, room=batch + 1, size=len, interrupt=interrupt)
            with closing(read):
                yield from encode_in_batches(
                    read, self._encode, batch=batch, only_full=only_full, skip_repeats=skip_repeats
                )

    def _encode(self, levels: list[Tensor]) -> VideoFeatures:
        values = self.processor.image_processor.values(levels, device=self.model.device)
        return require_finite(self.model.encode_video(values), self.name)

    def _num_readers(self) -> int:
        # On a CPU one reader keeps up with the model, and more would only take cores from it.
        return 1 if self.model.device.type == "cpu" else max(1, min(num_cores() // 2, _MAX_READERS))

    def close(self) -> None:
        """End the processes that read videos; the next video starts a new one."""
        self._workers.close()

    def _check_mode(self) -> None:
        warn_if_forked()
        if self.model.training:
            raise ValueError("the model is in training mode, which applies random dropout: call model.eval().")

    @torch.no_grad()
    def score(self, text_features_KE: Tensor, features: VideoFeatures) -> Tensor:
        """Return the `logits_per_video` (C, K) of one video's C clips."""
        self._check_mode()
        logits: Tensor = self.model(text_features=text_features_KE, video_features=features).logits_per_video
        return require_finite(logits.float(), self.name)


# -- called in the threads that read -----------------------------------------------------------------------------------


def _read_part(
    reader: ClipReader, worker: DecodeWorker | None, part: VideoPart
) -> Generator[list[ReadClip], None, None]:
    try:
        own_reader = replace(reader, plan=replace(reader.plan, start=part.start, end=part.end))
        yield from own_reader.read_clips(worker, part.open())
    except VideoError as error:
        raise VideoError(part.source, error.reason) from None  # bytes have no name
    except OSError as error:
        raise VideoError(part.source, f"it cannot be opened: {error.strerror or error}") from None


def _read_clips(
    reader: ClipReader, worker: DecodeWorker | None, item: tuple[VideoSource, int]
) -> Generator[list[ReadClip], None, None]:
    source, first = item
    return _note_featureless(reader.read_clips(worker, source, first=first))


def _form_clips(
    reader: ClipReader, reading: ReadFrames, worker: DecodeWorker | None, item: tuple[VideoSource, int]
) -> Generator[list[ReadClip], None, None]:
    return _note_featureless(reading(reader, worker, item[0]))


def _note_featureless(read: Generator[list[ReadClip], None, None]) -> Generator[list[ReadClip], None, None]:
    with closing(read):
        for clips in read:
            yield [ReadClip(levels, replace(info, is_featureless=is_featureless(levels))) for levels, info in clips]
            del clips  # before the next ones are read
