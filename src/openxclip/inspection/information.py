"""Describe a path: a model, a checkpoint or a video."""

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


def info(path: str | os.PathLike[str], *, read: ReadOptions | None = None) -> CheckpointDescription | VideoReport:
    """Describe a model, checkpoint or video: its sizes, frames and format, and its problems.

    For a model, only headers are read and nothing is downloaded. For a video, the first frame is decoded in another
    process.

    Args:
        path: a model's folder, a file of weights, the hub id of a model in the cache, `"mini"`; or a video, as for
            `openxclip.video.VideoReader`.
        read: options of reading a video, as for `openxclip.video.VideoReader`.

    Raises:
        CheckpointError: the model or checkpoint can't be read. (A video's error is in its report.)
    """
    if is_checkpoint(path):
        return describe_checkpoint(path if isinstance(path, str) else Path(path), local_files_only=True)
    with DecodeWorker() as worker:
        return worker.inspect(path, read=read)


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is a model rather than a video, judged by its name and the content of a folder."""
    name = os.fspath(path)
    if name in hub.SHIPPED_MODELS:
        return True
    full_path = user_path(name)
    if os.path.isdir(full_path):  # noqa: PTH112 (Path.is_dir raises an error if the name is too long)
        # A config without weights counts as a model, whose error says what is missing
        try:
            names = os.listdir(full_path)  # noqa: PTH208
        except OSError:
            return False  # the video's report gives the reason
        return any(config in names for config in _CONFIGS) or any(
            Path(file).suffix in hub.WEIGHTS_SUFFIXES for file in names
        )
    suffix = full_path.suffix.lower()
    if os.path.exists(full_path):  # noqa: PTH110
        return suffix in hub.WEIGHTS_SUFFIXES or (full_path.is_file() and looks_like_weights(full_path))
    if suffix in VIDEO_SUFFIXES or "://" in name:
        return False
    if suffix in hub.WEIGHTS_SUFFIXES:
        return True
    try:
        hub.resolve_folder(name, local_files_only=True, allow_patterns=_CONFIGS)
    except CheckpointError:
        return name.count("/") == 1 and name.split("/")[-1].startswith("xclip")
    return True
