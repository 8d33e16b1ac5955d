"""Where `openxclip timeline` takes windows from: files that are decoded, or an index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from openxclip.cli.options import found_videos, named_videos, read_options
from openxclip.hub import DEFAULT_MODEL

if TYPE_CHECKING:
    from openxclip.pipeline.batching import Batch
    from openxclip.timelines import Timeline
    from openxclip.timelines.finder import OnClip
    from openxclip.timelines.shots import Shots
    from openxclip.video import ReadOptions


class FileSource:
    """Videos that are decoded.

    Args:
        videos: the arguments of the command.
        options: its options for windows, reading and the model.

    Attributes:
        count: number of videos.
        paths, batch: the videos, and windows in one call of the model.
        model: name of the model.
        read_again: how to read the videos for pictures and clips.
        finder: the finder, once the model is loaded.
    """

    def __init__(self, videos: tuple[str, ...], options: dict[str, Any]) -> None:
        from openxclip.timelines import DEFAULT_WINDOW
        from openxclip.timelines.shots import load_detectors
        from openxclip.video import ClipPlan

        self._read = read_options(options)
        self.read_again: ReadOptions | None = replace(self._read, decode="all")
        self.batch: Batch = options["batch"]
        self._windows = {name: options[name] for name in ("window", "stride", "num_frames")}
        self._shots: Shots | None = options["shots"]
        self._loading = {name: options[name] for name in ("device", "precision")}
        ClipPlan(**{**self._windows, "window": self._windows["window"] or DEFAULT_WINDOW})  # checks the values
        if self._shots is not None:
            load_detectors()
        self.model: str = options["model"] or DEFAULT_MODEL
        self.paths = found_videos(videos)
        self.count = len(self.paths)

    def load(self, labels: list[str], settings: dict[str, Any]) -> tuple[str, ...]:
        """Load the model, encode the labels, and return notes for the user."""
        from openxclip.pipeline import VideoPipeline
        from openxclip.timelines import TimelineFinder

        pipeline = VideoPipeline.from_pretrained(self.model, read=self._read, **self._loading)
        self.finder = TimelineFinder(pipeline, labels, shots=self._shots, **self._windows, **settings)
        return self.finder.notes

    def timelines(self, on_clip: OnClip) -> Iterator[Timeline]:
        """Yield the timeline of each video."""
        return self.finder(self.paths, batch=self.batch, on_clip=on_clip)


class IndexSource:
    """Videos of an index, whose windows are stored.

    Args:
        uri: the index.
        videos: the arguments of the command; without any, all videos of the index.
        options: its options for the model.

    Attributes:
        count: number of videos.
        paths: empty, because videos of an index are files.
        model: name of the model, "" if it is the index's.
        read_again: None, the default.
    """

    def __init__(self, uri: str, videos: tuple[str, ...], options: dict[str, Any]) -> None:
        from openxclip.search.opening import OpenIndex
        from openxclip.timelines.indexed import videos_named

        self.model: str = options["model"] or ""
        self.read_again = None
        self.paths: list[str] = []
        loading = {name: options[name] for name in ("device", "precision")}
        self._index = OpenIndex(uri, options["model"], {}, loading)
        self._videos = videos_named(self._index, list(named_videos(videos, takes_pipes=False)) if videos else None)
        self.count = len(self._videos)
        if not self.count:
            raise click.UsageError(f"{uri}: the index is empty: add videos with `openxclip index`.")

    def load(self, labels: list[str], settings: dict[str, Any]) -> tuple[str, ...]:
        """Load the model, encode the labels, and return notes for the user."""
        from openxclip.timelines.indexed import IndexedTimelineFinder

        self._finder = IndexedTimelineFinder(self._index, labels, **settings)
        return self._finder.notes

    def timelines(self, on_clip: OnClip) -> Iterator[Timeline]:
        """Yield the timeline of each video."""
        return self._finder(self._videos, on_clip=on_clip)
