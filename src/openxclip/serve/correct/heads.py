"""Classify by a head that was trained on corrections."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openxclip.serve.correct.schemas import HEAD_NAME
from openxclip.serve.engine.tasks import CallTask


def head_path(data: Path, name: str) -> Path:
    """Return the file of a head below the server's data folder."""
    return data / "heads" / f"{name}.safetensors"


def head_task(data: Path, name: str, path: Path, video: str, labels: Sequence[str], top: int) -> CallTask:
    """Return the task that classifies a video by a head; its result is that of a `ClassifyTask`, with None for scores.

    Args:
        data: the server's data folder.
        name: name of the head.
        path: file of the video.
        video: what the client calls the video.
        labels: labels to choose from.
        top: maximum number of labels in the result.

    Raises:
        ValueError: there is no such head.
    """
    head = head_path(data, name)
    if re.fullmatch(HEAD_NAME, name) is None or not head.is_file():
        raise ValueError(f"head={name!r:.80}: there is no such head: train one with POST /v1/labels/retrain.")
    arguments: dict[str, Any] = {"head": head, "name": name, "labels": list(labels), "top": top}
    return CallTask(function="windows:classify", arguments=arguments, path=path, name=video)
