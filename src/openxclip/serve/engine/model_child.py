"""The process that holds the model and the open index."""

from __future__ import annotations

import importlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from queue import SimpleQueue
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F

from openxclip.common.files import without_nan
from openxclip.common.memory import is_out_of_memory
from openxclip.engine import OptimizedXCLIPModel, Precision
from openxclip.engine.precision import check_precision, choose_dtype
from openxclip.errors import VideoError
from openxclip.model import XCLIPModel
from openxclip.model.devices import as_computing_device
from openxclip.pipeline import VideoPipeline
from openxclip.processing import XCLIPProcessor
from openxclip.recognition import Classification, Classifier
from openxclip.serve.engine.child import serve_tasks
from openxclip.serve.engine.context import ModelContext
from openxclip.serve.engine.decoders import TaskWorkers
from openxclip.serve.engine.settings import EngineSettings
from openxclip.serve.engine.tasks import (
    CallTask,
    ClassifyTask,
    EmbedTextsTask,
    EmbedVideoTask,
    IndexInfoTask,
    Lane,
    ModelInfoTask,
    SearchTask,
    Task,
    TimelineTask,
)
from openxclip.serve.engine.wire import Channel
from openxclip.serve.engine.work import Work
from openxclip.timelines import SegmentOptions, Timeline
from openxclip.timelines.finder import TimelineFinder
from openxclip.video import ClipPlan

Made = TypeVar("Made")

_KEPT = 32  # lists of labels whose features are kept
_PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
_CALLED = "openxclip.serve.correct"  # where functions of a CallTask are


def serve(channel: Channel, messages: SimpleQueue[tuple[Any, ...]]) -> None:
    """Load the model and do tasks with it until the process ends."""
    serve_tasks(channel, messages, lambda settings: ModelHandler(settings["engine"]))


class ModelHandler:
    """Does tasks with a model.

    Args:
        settings: what to load, and how.

    Raises:
        CheckpointError: the model can't be found or loaded.
        ValueError: the device or the precision is invalid.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self.lanes: Mapping[Lane, int] = {"videos": settings.concurrency, "texts": 1}
        self.hidden: Mapping[str, str] = settings.hidden
        self._precision = cast("Precision", settings.precision)
        check_precision(self._precision)
        workers = TaskWorkers(settings.max_duration)  # a decoder starts while the model is loaded
        device = as_computing_device(settings.device or "auto")
        pipeline = VideoPipeline(
            XCLIPModel.from_pretrained(settings.model, device=device),
            XCLIPProcessor.from_pretrained(settings.model),
            precision=self._precision,
            name=settings.model,
            workers=workers,
        )
        if isinstance(pipeline.model, OptimizedXCLIPModel):
            pipeline.model.prepare_at_next_use()  # so that the first answers are as exact and fast as later ones
        self.context = ModelContext(pipeline, settings)
        self._kept: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._lock = threading.Lock()
        self._do: dict[type[Task], Callable[[Any, Work], Any]] = {
            ClassifyTask: self.classify,
            TimelineTask: self.timeline,
            EmbedTextsTask: self.embed_texts,
            EmbedVideoTask: self.embed_video,
            SearchTask: self.search,
            IndexInfoTask: self.index_info,
            ModelInfoTask: lambda task, work: self.describe(),
            CallTask: self.call,
        }

    def describe(self) -> dict[str, Any]:
        """Return the facts about the model, see `ModelInfoTask`."""
        model, pipeline = self.context.pipeline.model, self.context.pipeline
        dtype, _ = choose_dtype(model, self._precision)
        return {
            "model": self.context.name,
            "precision": _PRECISIONS.get(dtype, str(dtype)),
            "device": str(model.device),
            "frames": model.config.vision_config.num_frames,
            "image_size": model.config.vision_config.image_size,
            "embedding_size": model.config.projection_dim,
            "contract": without_nan(pipeline.contract.to_dict()),
        }

    def do(self, task: Task, work: Work) -> Any:
        """Do a task; errors are those that `Engine.run` lists."""
        try:
            return self._do[type(task)](task, work)
        except Exception as error:
            if is_out_of_memory(error):
                raise MemoryError("the memory of the server ran out: use fewer labels, or a smaller model.") from None
            raise

    def prepare(self) -> str | None:
        """Open the index; return why it can't be searched."""
        return self.context.problem_of_index()

    # -- tasks -------------------------------------------------------------------------------------------------------

    def classify(self, task: ClassifyTask, work: Work) -> dict[str, Any]:
        """See `ClassifyTask`."""
        plan = ClipPlan(num_clips=task.num_clips, start=task.start, end=task.end)
        classifier = self._keep(
            work,
            ("classify", task.labels, task.template, task.min_score),
            lambda: Classifier(
                self.context.pipeline,
                task.labels,
                template=task.template,
                min_score=task.min_score,
                on_text=work.check,
            ),
        )

        def read() -> Classification:
            (result,) = classifier([str(task.path)], plan, top_k=task.top, on_clip=work.check)
            return _without_error(result, result.error)

        result = work.read_twice(read)
        values = replace(result, path=task.name).to_dict()
        return self._answer(work, result=without_nan(values))

    def timeline(self, task: TimelineTask, work: Work) -> dict[str, Any]:
        """See `TimelineTask`."""
        names = ("threshold", "stop", "smooth", "min_duration", "merge_gap")
        options = SegmentOptions(**{name: getattr(task, name) for name in names})

        def make() -> TimelineFinder:
            return TimelineFinder(
                self.context.pipeline,
                task.labels,
                window=task.window,
                stride=task.stride,
                options=options,
                template=task.template,
                shots=task.shots,
                on_text=work.check,
            )

        key = ("timeline", task.labels, task.window, task.stride, options, task.template)
        finder = self._keep(work, key, make) if task.shots is None else make()  # one that looks for shots has a state

        def read() -> Timeline:
            (found,) = finder([str(task.path)], on_clip=lambda path, end, duration: work.progress(end, duration))
            is_refused = found.error is not None and (type(found.error) is not VideoError or not len(found.starts))
            return _without_error(found, found.error if is_refused else None)

        values = work.read_twice(read).to_dict(scores=task.scores) | {"path": task.name}
        if "error" in values:
            values["error"] = work.shown(values["error"])
        values["notes"] = [work.shown(note) for note in values["notes"]]
        return self._answer(work, result=without_nan(values))

    def embed_texts(self, task: EmbedTextsTask, work: Work) -> dict[str, Any]:
        """See `EmbedTextsTask`."""
        pipeline = self.context.pipeline
        features_KE = pipeline.encode_texts(list(task.texts), on_text=work.check)
        lengths = pipeline.processor.tokenizer(list(task.texts), truncation=True)["input_ids"]
        return self._answer(work, embeddings=_unit(features_KE), tokens=sum(map(len, lengths)))

    def embed_video(self, task: EmbedVideoTask, work: Work) -> dict[str, Any]:
        """See `EmbedVideoTask`."""
        plan = ClipPlan(start=task.start, end=task.end)

        def read() -> Any:
            (result,) = self.context.pipeline.encode_videos([str(task.path)], plan, on_clip=work.check)
            return _without_error(result, result.error)

        result = work.read_twice(read)
        return self._answer(work, embeddings=_unit(result.features.pooled), frames=sum(map(len, result.times)))

    def search(self, task: SearchTask, work: Work) -> dict[str, Any]:
        """See `SearchTask`."""
        index = self.context.video_index()
        names = ("k", "where", "per_video", "min_score", "min_similarity", "rerank", "merge")
        options: dict[str, Any] = {name: getattr(task, name) for name in names if getattr(task, name) is not None}
        if index.info is not None and not index.info.patches:
            options.pop("rerank", None)  # it would read the videos of all candidates again
        if task.path is None:
            hits = index.search(task.text, **options)
        else:
            options |= {"video": str(task.path), "start": task.start, "end": task.end}
            hits = work.read_twice(lambda: index.search(task.text, **options))
        return self._answer(work, hits=[without_nan(asdict(hit)) for hit in hits])

    def index_info(self, task: IndexInfoTask, work: Work) -> dict[str, Any]:
        """See `IndexInfoTask`."""
        index = self.context.video_index()
        info = index.info
        assert info is not None  # otherwise there is no index
        return {
            "videos": len(index.files()),
            "windows": len(index),
            "unfinished": len(index.unfinished()),
            "model": self.context.name,
            "window": info.window,
            "stride": info.stride,
            "num_frames": info.num_frames,
            "patches": info.patches,
        }

    def call(self, task: CallTask, work: Work) -> Any:
        """See `CallTask`."""
        module, _, name = task.function.partition(":")
        function = getattr(importlib.import_module(f"{_CALLED}.{module}"), name)
        return function(self.context, **task.arguments)

    # ----------------------------------------------------------------------------------------------------------------

    def _answer(self, work: Work, **values: Any) -> dict[str, Any]:
        return {"model": self.context.name, **values, "notes": list(work.notes)}

    def _keep(self, work: Work, key: tuple[Any, ...], make: Callable[[], Made]) -> Made:
        """Return what was made for the same key before, of the latest ones: the features of the same labels."""
        made: Made
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                made, notes = self._kept[key]
                for text in notes:  # such as labels that were cut
                    work.note(text)
                return made
        before = len(work.notes)
        made = make()  # without the lock, because many labels take time
        with self._lock:
            self._kept[key] = made, work.notes[before:]
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return made


def _without_error(result: Made, error: VideoError | None) -> Made:
    if error is not None:
        raise error
    return result


def _unit(features_NE: torch.Tensor) -> Any:
    return F.normalize(features_NE.float(), dim=-1).cpu().numpy()
