"""What the engine does for requests: one dataclass for each kind of work.

Tasks are sent to other processes. Videos are sent as paths, never as content. In every task about a video, `path` is
the file, and `name` is what the client calls it: messages and results have the name in place of the path.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

#: Where a task waits. Each lane has its own queue and threads, so that texts don't wait behind long videos, and frames
#: not behind previews. "videos" and "texts" are lanes of the model's process, the others of the one for media.
Lane = Literal["videos", "texts", "frames", "previews"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """Base of all tasks.

    Attributes:
        has_time_limit: whether `request_timeout` holds for the task.
    """

    lane: ClassVar[Lane] = "videos"
    has_time_limit: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class ClassifyTask(Task):
    """Classify a video as `openxclip.classify`.

    Result: {"model": name, "result": as `openxclip classify --json`, "notes": list of sentences}.
    """

    path: Path
    name: str
    labels: tuple[str, ...]
    top: int = 5
    min_score: float | None = None
    template: str = "{}"
    num_clips: int = 1
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True, kw_only=True)
class TimelineTask(Task):
    """Find when labels are seen as `openxclip.timeline`; progress is (seconds done, duration).

    Result: {"model": name, "result": as `openxclip timeline --json`, "notes": list of sentences}. A video that can't
    be read to its end has "error" in its result; one that can't be read at all raises an error.
    """

    path: Path
    name: str
    labels: tuple[str, ...]
    window: float | None = None
    stride: float | None = None
    threshold: float | None = None
    stop: float | None = None
    smooth: float | None = None
    min_duration: float | None = None
    merge_gap: float | None = None
    template: str = "{}"
    shots: Literal["sampled", "exact"] | None = None
    scores: bool = True


@dataclass(frozen=True, kw_only=True)
class EmbedTextsTask(Task):
    """Compute the features of texts.

    Result: {"model": name, "embeddings": float32 (K, E), each of length 1, "tokens": number of tokens of all texts,
    "notes": list of sentences}.
    """

    lane: ClassVar[Lane] = "texts"

    texts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class EmbedVideoTask(Task):
    """Compute the features of a video as one clip.

    Result: {"model": name, "embeddings": float32 (1, E), of length 1, "frames": number of frames read, "notes": …}.
    """

    path: Path
    name: str
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True, kw_only=True)
class SearchTask(Task):
    """Search the index by `text`, or by the video `path`, as `VideoIndex.search`.

    Result: {"model": name, "hits": list of dicts with the fields of `openxclip.search.Hit`, "notes": …}. The path of a
    hit is the file's, which the routes turn into the id of a video.
    """

    text: str | None = None
    path: Path | None = None
    name: str = ""
    start: float | None = None
    end: float | None = None
    k: int = 10
    where: str | None = None
    per_video: int | None = None
    min_score: float | Literal["auto"] | None = None
    min_similarity: float | None = None
    rerank: int | None = None
    merge: bool = True


@dataclass(frozen=True, kw_only=True)
class IndexInfoTask(Task):
    """Describe the index; `NoIndexError` if there is none.

    Result: {"videos", "windows", "unfinished": numbers, "model": name, "window", "stride": seconds,
    "num_frames", "patches"}.
    """

    lane: ClassVar[Lane] = "texts"


@dataclass(frozen=True, kw_only=True)
class ModelInfoTask(Task):
    """Describe the model.

    Result: {"model", "precision", "device", "frames", "image_size", "embedding_size", "contract": dict}.
    """

    lane: ClassVar[Lane] = "texts"


@dataclass(frozen=True, kw_only=True)
class CallTask(Task):
    """Call a function of `openxclip.serve.correct` in the model's process: `function(context, **arguments)`.

    `context` is a `openxclip.serve.engine.context.ModelContext`. The result is what the function returns.

    Attributes:
        function: "module:function" below `openxclip.serve.correct`, such as "head:train".
        arguments: keyword arguments that can be pickled.
        path, name: the video that the function reads, if it reads one of a client; passed on to the function.
    """

    function: str
    arguments: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class CheckTask(Task):
    """Inspect a video as `openxclip.check`, without decoding all of it.

    Result: the report as JSON values (`VideoReport.as_dict`), with "path": name. A video that can't be read has
    "error" in it.
    """

    lane: ClassVar[Lane] = "frames"

    path: Path
    name: str


@dataclass(frozen=True, kw_only=True)
class FrameTask(Task):
    """Read the frame that is shown at a time, in seconds. Result: JPEG bytes, at most `width` pixels wide."""

    lane: ClassVar[Lane] = "frames"

    path: Path
    name: str
    time: float
    width: int = 320


@dataclass(frozen=True, kw_only=True)
class PreviewTask(Task):
    """Write a video as a small H.264 MP4 without sound to `out`; a partial file is never left behind.

    Progress is (seconds done, duration). Result: {"duration": seconds, "width", "height", "size": bytes, "notes": …}.
    """

    lane: ClassVar[Lane] = "previews"
    has_time_limit: ClassVar[bool] = False  # the larger the video, the longer it takes

    path: Path
    name: str
    out: Path
    height: int = 480


#: The task by which `serve/correct` computes with the model.
HeadTask = CallTask


def lane_of(task: Task) -> Lane:
    """Return the lane of a task; a search and a call that read no video go with the texts."""
    if isinstance(task, SearchTask | CallTask) and task.path is None:
        return "texts"
    return task.lane
