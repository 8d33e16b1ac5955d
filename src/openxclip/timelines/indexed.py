"""Find when labels are seen in the videos of an index, from the features that it stores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from openxclip.config import TimeContract
from openxclip.errors import VideoIndexError
from openxclip.search.opening import OpenIndex
from openxclip.search.paths import absolute_path, matching_paths
from openxclip.search.schema import VideoRow
from openxclip.search.scoring import logits_of_rows
from openxclip.timelines.finder import OnClip, TimelineFinder
from openxclip.timelines.segments import SegmentOptions
from openxclip.timelines.timeline import Timeline

_ROWS_AT_ONCE = 256  # windows; their patches take tens of megabytes

_NO_PATCHES = (
    "the index has no patch features, so its windows are scored without video-specific prompts: scores differ from "
    "those of the files, and the model's thresholds may not suit them."
)
_NOT_EXACT = (
    "the index was made without decoding all frames (--decode), so its windows show earlier frames than those of the "
    "files: scores differ from theirs, and short actions can be missed."
)


class IndexedTimelineFinder:
    """Finds when labels are seen in the videos of an index, without decoding.

    Args:
        index: the index, with its model.
        labels: one or more labels.
        options, template, neutral_texts, contract, on_text: see `TimelineFinder`. The windows are those of the index.

    Raises:
        VideoIndexError: there is no index.
        CheckpointError: the index's model can't be found or loaded, or its contract is invalid.
        ValueError: as for `TimelineFinder`; or the model isn't the index's.
    """

    def __init__(
        self,
        index: OpenIndex,
        labels: Sequence[str],
        *,
        options: SegmentOptions | None = None,
        template: str = "{}",
        neutral_texts: Sequence[str] | None = None,
        contract: TimeContract | None = None,
        on_text: Callable[[int], object] = lambda done: None,
    ) -> None:
        info = index.require()
        self._index, self._prompts = index, info.patches
        self.finder = TimelineFinder(
            index.pipeline(),
            labels,
            window=info.window,
            stride=info.stride,
            num_frames=info.num_frames,
            options=options,
            template=template,
            neutral_texts=neutral_texts,
            contract=contract,
            on_text=on_text,
        )
        notes = [*([] if info.patches else [_NO_PATCHES]), *([] if info.decode == "all" else [_NOT_EXACT])]
        self.notes = (*self.finder.notes, *notes)

    def __call__(
        self, videos: Sequence[VideoRow], *, on_clip: OnClip = lambda path, end, duration: None
    ) -> Iterator[Timeline]:
        """Yield the timeline of each video.

        Args:
            videos: rows of `videos_named`.
            on_clip: as for `TimelineFinder`.
        """
        return (self._find(video, on_clip) for video in videos)

    def _find(self, video: VideoRow, on_clip: OnClip) -> Timeline:
        scorer, store = self.finder.scorer, self._index.store
        columns = ["number", "start", "end", *(["embedding", "patches"] if self._prompts else ["embedding"])]
        starts, ends = np.zeros(video.windows), np.zeros(video.windows)
        scores = np.zeros((video.windows, len(self.finder.labels)), np.float32)
        for first in range(0, video.windows, _ROWS_AT_ONCE):
            where = f"video = {video.id} AND number >= {first} AND number < {first + _ROWS_AT_ONCE}"
            rows: list[dict[str, Any]] = []
            for table in store.read_windows(columns, where):
                rows += [{**row, "path": video.path} for row in table.to_pylist()]
            if len(rows) != min(_ROWS_AT_ONCE, video.windows - first):
                raise VideoIndexError(
                    f"{store.uri}: windows of {video.path} are missing: remove the video, and index it again."
                )
            numbers = [row["number"] for row in rows]
            starts[numbers], ends[numbers] = [row["start"] for row in rows], [row["end"] for row in rows]
            for i in range(0, len(rows), scorer.clips_at_once):
                some = rows[i : i + scorer.clips_at_once]
                logits = logits_of_rows(self.finder.pipeline, scorer.text_features, some, prompts=self._prompts)
                scores[[row["number"] for row in some]] = scorer.shares(logits)
            on_clip(video.path, float(ends[: first + len(rows)].max()), video.duration)
        return self.finder.find_segments(
            Timeline(
                path=video.path,
                labels=self.finder.labels,
                starts=starts,
                ends=ends,
                scores=scores,
                window=self.finder.plan.window or math.nan,
                stride=self.finder.plan.stride or math.nan,
                duration=video.duration,
                size=(video.width, video.height),
                notes=self.notes,
            )
        )


def videos_named(index: OpenIndex, names: Sequence[Any] | None) -> list[VideoRow]:
    """Return the videos of an index that are named, by path; all its videos without names.

    Args:
        index: the index.
        names: files, folders with all videos below them, or patterns with `*` that match paths of the index.

    Raises:
        VideoIndexError: there is no index, or it doesn't have one of the videos.
    """
    index.require()
    complete = index.store.complete_videos()
    known = sorted(complete)
    if names is None:
        return [complete[path] for path in known]
    found: dict[str, None] = {}
    for name in names:
        paths = matching_paths(str(name), known) or matching_paths(absolute_path(name), known)
        if not paths:
            raise VideoIndexError(f"{name}: {_why_missing(index, name)}")
        found.update(dict.fromkeys(paths))
    return [complete[path] for path in found]


def _why_missing(index: OpenIndex, name: Any) -> str:
    for row in index.store.videos():
        if row.path == absolute_path(name) and row.state == "failed":
            return f"could not be read when it was indexed: {row.reason}"
        if row.path == absolute_path(name) and row.state == "reading":
            return f"is not complete in the index {index.store.uri}: run `openxclip index` again to finish it."
    return f"isn't in the index {index.store.uri}: add it with `openxclip index`."
