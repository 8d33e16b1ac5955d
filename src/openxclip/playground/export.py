"""Write clips as mp4 files."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from torch import Tensor

from openxclip.common.files import atomic_file
from openxclip.playground.clips import Split, render_clips
from openxclip.video.writing import write_mp4


def export_clip(frames: Tensor | Iterable[Tensor], path: str | Path, *, fps: float = 24, quality: int = 26) -> Path:
    """Write frames as H.264 (yuv420p) mp4, atomically.

    Args:
        frames: uint8 (T, 3, H, W) with even H and W, or several such tensors, written one after the other.
        path: path of the file, which is replaced if it exists.
        fps: frames per second.
        quality: x264's CRF; a lower number gives a better and larger file.

    Raises:
        ValueError: H or W is odd, which yuv420p can't represent.
        OSError: the file can't be written.
    """
    path = Path(path)
    parts = [frames] if isinstance(frames, Tensor) else frames
    arrays = (frame.permute(1, 2, 0).contiguous().numpy() for part_TCHW in parts for frame in part_TCHW)
    with atomic_file(path) as partial, partial.open("wb") as file:
        write_mp4(arrays, file, fps=fps, quality=quality)
    return path


def export_clips(
    folder: str | Path,
    number: int,
    seed: int,
    *,
    size: int = 256,
    seconds: float = 2.0,
    fps: float = 24,
    split: Split = "all",
    hard: float = 1.0,
    on_clip: Callable[[], object] = lambda: None,
) -> Path:
    """Render clips into a folder: 00000.mp4 and so on, and captions.jsonl with a line for each.

    If it is interrupted, all files so far are complete and have a line.

    Args:
        folder: created if it doesn't exist.
        number: number of clips.
        seed: seeds the clips.
        size: side of the square frames, in pixels; even.
        seconds, fps: length of a clip, and frames per second.
        split, hard: see `render_clips`.
        on_clip: called after each clip.

    Returns:
        The path of captions.jsonl.

    Raises:
        FileExistsError: one of the files exists.
        ValueError: an argument is out of its range.
        OSError: the folder can't be written.
    """
    folder = Path(folder)
    captions = folder / "captions.jsonl"
    paths = [folder / f"{i:05}.mp4" for i in range(number)]
    refuse_existing(captions, *paths)
    folder.mkdir(parents=True, exist_ok=True)
    num_frames = max(1, round(seconds * fps))
    with captions.open("x", encoding="utf-8") as lines, _remove_if_empty(captions):
        for i, path in enumerate(paths):
            clip = render_clips(
                1, seed * 1_000_003 + i, size=size, num_frames=num_frames, split=split, hard=hard, empty=0.0
            )
            export_clip(clip.frames[0], path, fps=fps)
            lines.write(json.dumps({"path": path.name, "caption": clip.captions[0], **clip.names(0)}) + "\n")
            lines.flush()
            on_clip()
    return captions


@contextmanager
def _remove_if_empty(captions: Path) -> Iterator[None]:
    """Remove the file at the end if it is empty, so that the next call doesn't refuse to replace it."""
    try:
        yield
    finally:
        if captions.stat().st_size == 0:
            captions.unlink()
            with suppress(OSError):  # the folder holds other files
                captions.parent.rmdir()


def refuse_existing(*paths: Path) -> None:
    """Raise FileExistsError for the first path that exists."""
    for path in paths:
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
