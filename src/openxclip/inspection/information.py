"""What a path is: a model, a checkpoint or a video."""

from __future__ import annotations

import os
from pathlib import Path

from openxclip import hub
from openxclip.checkpoints import CheckpointDescription, describe_checkpoint
from openxclip.checkpoints.files import looks_like_weights
from openxclip.common.files import user_path
from openxclip.errors import CheckpointError
from openxclip.video import VIDEO_SUFFIXES, DecodeWorker, ReadOptions, VideoReport

_CONFIGS = ("config.json", "open_clip_config.json")


def info(
    path: str | os.PathLike[str],
    *,
    read: ReadOptions | None = None,
) -> CheckpointDescription | VideoReport:
    """What a path is: sizes, frames, how it was made, and what is wrong with it.

    Of a model only headers are read, and nothing is downloaded; of a video, the first frame is decoded, in a process of
    its own.

    Args:
        path: a model's folder, a file of weights, the hub id of a model in the cache, `"mini"`; or a video, as for
            `openxclip.video.VideoReader`.
        read: how a video is read, as for `openxclip.video.VideoReader`.

    Raises:
        CheckpointError: it is a model or checkpoint that can't be read. (A video's error is in its report.)
    """
    if is_checkpoint(path):
        return describe_checkpoint(path if isinstance(path, str) else Path(path), local_files_only=True)
    with DecodeWorker() as worker:
        return worker.inspect(path, read=read)


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Whether a path is for a model rather than for a video, judged by its name and, of a folder, by what is in it."""
    name = os.fspath(path)
    if name in hub.SHIPPED_MODELS:
        return True
    there = user_path(name)
    if os.path.isdir(there):  # noqa: PTH112 (Path's raises an error of too long a name)
        # of a model, or at least no folder of pictures: a config without weights is told what it lacks
        try:
            names = os.listdir(there)  # noqa: PTH208
        except OSError:
            return False  # the report on the video gives the reason
        return any(config in names for config in _CONFIGS) or any(
            Path(file).suffix in hub.WEIGHTS_SUFFIXES for file in names
        )
    if os.path.exists(there):  # noqa: PTH110
        return there.suffix.lower() in hub.WEIGHTS_SUFFIXES or (there.is_file() and looks_like_weights(there))
    if there.suffix.lower() in VIDEO_SUFFIXES or "://" in name:
        return False
    if there.suffix.lower() in hub.WEIGHTS_SUFFIXES:
        return True
    try:
        hub.resolve_folder(name, local_files_only=True, allow_patterns=_CONFIGS)
    except CheckpointError:
        return name.count("/") == 1 and name.split("/")[-1].startswith("xclip")
    return True
