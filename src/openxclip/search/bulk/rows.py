"""The rows of an index: what every writer of windows, on one machine or on many, makes of a video and its clips."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch.nn.functional as F

from openxclip.pipeline.batching import EncodedClip
from openxclip.search.patches import compress_patches
from openxclip.search.schema import FileStamp, IndexInfo, VideoRow
from openxclip.video import ReadOptions

PLAN = ("num_frames", "window", "stride", "sampling")  # settings of an index that choose the frames of its windows


def encoding_options(info: IndexInfo) -> str:
    """Return the settings of an index as JSON: windows of a video under other settings can't be mixed with these."""
    decode = {} if info.decode == "all" else {"decode": info.decode}  # older indexes don't have it
    return json.dumps({**{name: getattr(info, name) for name in PLAN}, "patches": info.patches, **decode})


def reading_options(info: IndexInfo, read: ReadOptions) -> ReadOptions:
    """Return the options with which the videos of an index are read.

    Args:
        info: description of the index, which says which frames are decoded.
        read: the other options.

    Raises:
        ValueError: the options choose to decode other frames than the index's, or read files that are cut off.
    """
    if read.decode not in ("all", info.decode):
        raise ValueError(
            f"decode={read.decode!r}: the windows of the index are made with decode={info.decode!r}, and can't be "
            "mixed with others: choose it when the index is made."
        )
    if read.allow_cut_off:
        raise ValueError("allow_cut_off=True: an index holds windows of whole files: leave it at False.")
    return replace(read, decode=info.decode)


def video_id(path: str, content: str, stamp: Sequence[int], weights: str, options: str) -> int:
    """Return the id of a video: 63 bits of a hash of all that its windows depend on.

    The same file indexed again, by any machine, has the same id, so that its windows can be recognised and are written
    once.

    Args:
        path: absolute path, URL, or the name of frames from memory.
        content: SHA-256 of the file in hexadecimal; "" if it isn't a regular file.
        stamp: stamp of the file, which counts if there is no `content`.
        weights: SHA-256 of the model's weights.
        options: see `encoding_options`.
    """
    identity = json.dumps([path, content or [*stamp], weights, options])
    return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big") >> 1


def new_video(path: str, content: str, stamp: FileStamp, info: IndexInfo, **values: Any) -> VideoRow:
    """Return the row of a video whose windows are to be written.

    Args:
        path, content, stamp: see `VideoRow`.
        info: description of the index.
        **values: other columns.
    """
    options = encoding_options(info)
    number = video_id(path, content, stamp, info.weights, options)
    return VideoRow(id=number, path=path, content=content, options=options, **stamp._asdict(), **values)


def window_row(
    video: VideoRow, clip: EncodedClip, *, patches: bool, columns: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the row of a video's next window, see `windows_schema`.

    Args:
        video: row of the video, with the number of windows that it has so far.
        clip: the window, with its features.
        patches: whether the index stores patch features.
        columns: values of the index's metadata columns.
    """
    assert clip.features is not None
    return {
        **(columns or {}),
        "video": video.id, "path": video.path, "number": video.windows, "start": clip.start, "end": clip.end,
        "duration": clip.duration, "size": video.size, "featureless": clip.is_featureless,
        "embedding": F.normalize(clip.features.pooled[0].float(), dim=0).cpu().numpy(),
        "patches": compress_patches(clip.features.patches[0].float().cpu().numpy()) if patches else None,
    }  # fmt: skip


def with_window(video: VideoRow, clip: EncodedClip) -> VideoRow:
    """Return the row of a video after one more window, with what the clip says of the video."""
    width, height = clip.size
    return replace(video, windows=video.windows + 1, duration=clip.duration, width=width, height=height)
