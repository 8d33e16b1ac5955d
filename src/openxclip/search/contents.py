"""The videos of an index: added, updated, removed, exported; and the model that they were encoded with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from openxclip._version import __version__
from openxclip.common.files import checked_target
from openxclip.errors import VideoIndexError
from openxclip.pipeline import VideoPipeline
from openxclip.pipeline.batching import Batch
from openxclip.pipeline.loading import as_pipeline
from openxclip.processing.sources import in_memory
from openxclip.search.adding import Adding, OnClip, OnVideo, absolute, is_gone, is_parquet, is_text, sort_out
from openxclip.search.of_model import about_model, check_weights, named_model
from openxclip.search.parquet import SUFFIX, ParquetWindows, add_parquet, write_parquet
from openxclip.search.removing import held_back, matching
from openxclip.search.results import Added
from openxclip.search.schema import VideoRow, new_id, sampling_of
from openxclip.search.store import Store
from openxclip.search.upkeep import disk_bytes
from openxclip.video import Limits, find_videos

WINDOW_S = 10.0


class IndexContents:
    """What `VideoIndex` does to its videos, and how it comes by its model."""

    def __init__(
        self,
        store: Store,
        about: dict[str, Any] | None,
        model: str | Path | VideoPipeline | None,
        *,
        wanted: dict[str, Any],
        loading: dict[str, Any],
    ) -> None:
        self._store, self._about, self._model = store, about, model
        self._wanted, self._loading = wanted, loading  # of an index that is yet to be made, and of its model
        self._pipeline: VideoPipeline | None = None

    def __len__(self) -> int:
        """How many windows there are."""
        return self._store.count() if self._about else 0

    @property
    def about(self) -> dict[str, Any] | None:
        """What it is of: `model`, its `weights`' SHA-256, `window`, `stride`, `num_frames`, `sampling`,
        `patches`; None of none.
        """
        return dict(self._about) if self._about else None

    def files(self) -> list[str]:
        """The videos that a search sees."""
        return sorted(self._store.complete()) if self._about else []

    def unfinished(self) -> dict[str, int]:
        """Videos that an interrupted `add` left half done, with the number of windows kept; `add` resumes there."""
        if not self._begun():
            return {}
        return {row.path: row.windows for row in self._store.videos() if row.state == "reading" and row.windows}

    # -- adding ------------------------------------------------------------------------------------------------------

    def add(
        self,
        paths: str | Path | Iterable[str | Path],
        *,
        retry: bool = False,
        batch: Batch = "auto",
        fps: float | None = None,
        limits: Limits | None = None,
        on_video: OnVideo = lambda path, error: None,
        on_clip: OnClip = lambda path, end, duration: None,
    ) -> Added:
        """Put videos into the index.

        A file that is in the index is recognised by its size, modification time, change time and inode, or else by its
        content (SHA-256), and skipped. One that was moved keeps its windows under the new path; those of a copy are
        copied. The windows of a changed file replace the old ones when all of them are written. Work is committed every
        minute or 64 MiB, within a long video too: after an interruption, the same call resumes. Others may search
        meanwhile, but not write.

        A Parquet file that `export` wrote, perhaps on another machine, adds the windows that it has; no video is read.
        This is one commit, and isn't resumed.

        Args:
            paths: one or more files, folders and globs (see `openxclip.video.find_videos`).
            retry: try again to read files that could not be read before and haven't changed since; by default their
                error is only reported again.
            batch, fps, limits: see `VideoPipeline.encode_videos`. A folder or array that is unchanged keeps its `fps`.
            on_video: called with each video's path when it is done or skipped, and its error if it can't be read.
            on_clip: called after each window with the video's path, the window's end and the video's duration, in
                seconds.

        Raises:
            ValueError: the model isn't the index's.
            CheckpointError: the model can't be found or loaded.
            VideoIndexError: another process is writing to the index; a Parquet file isn't of its model and windows.
        """
        named = [paths] if isinstance(paths, str | Path) else list(paths)
        found = list(dict.fromkeys(absolute(path) for path in find_videos(named)))
        self._check_model()
        tables = [path for path in found if is_parquet(path)]
        added = self._add_tables(tables, on_video) if tables else []
        before = self._store.videos() if self._begun() else []
        videos = [path for path in found if not is_parquet(path)]
        todo, unchanged, errors = sort_out(videos, before, retry=retry, on_video=on_video)
        if not todo:
            return Added(tuple(added), tuple(unchanged), (), tuple(errors))
        pipeline, about = self._ready(), self._needed()
        with self._store.writing():
            work = Adding(
                self._store, about, pipeline, batch=batch, fps=fps, limits=limits, on_video=on_video, on_clip=on_clip
            )
            work.run(todo)
            self._store.tidy()
        return Added(
            (*added, *work.added), (*unchanged, *work.unchanged), (), (*errors, *work.errors), tuple(work.moved)
        )

    def add_frames(self, name: str, frames: Any, fps: float, *, batch: Batch = "auto") -> Added:
        """Put a video that is in memory into the index, under a name.

        Frames of the same name that are already there are replaced, unless they are the same. `update` never touches
        them; `remove(name)` removes them.

        Args:
            name: what hits call it; not the path of a file of the index.
            frames: one video, in the forms that `openxclip.classify` takes.
            fps: frames per second, for the times of windows.
            batch: see `VideoPipeline.encode_clips`.

        Raises:
            TypeError, ValueError: these aren't frames, or the name or rate can't be; the model isn't the index's.
            CheckpointError: the model can't be found or loaded.
            VideoIndexError: another process is writing to the index.
        """
        if not name or "\0" in name or not is_text(name):
            raise ValueError(f"name={name!r}: must be text, in valid UTF-8.")
        video = in_memory(frames, name)
        pipeline = self._ready()
        about = self._needed()
        content = hashlib.sha256(f"{video.digest()} {float(fps)}".encode()).hexdigest()
        before = self._store.complete().get(name)
        if before is not None and before.kind == "file":
            raise ValueError(f"name={name!r}: the index has a file of this name: choose another one.")
        if before is not None and before.content == content:
            return Added(unchanged=(name,))
        with self._store.writing():
            work = Adding(self._store, about, pipeline, batch=batch)
            work.add_frames(VideoRow(id=new_id(), path=name, kind="frames", content=content), video, fps)
            self._store.tidy()
        return Added(tuple(work.added), errors=tuple(work.errors))

    def update(
        self,
        *,
        retry: bool = True,
        folders: Iterable[str | Path] = (),
        allow_removing: int | None = None,
        **options: Any,
    ) -> Added:
        """Look at every file of the index again: changed ones are read, missing ones are removed.

        So that a disk that isn't mounted doesn't empty the index, nothing is removed if more than 10 files and more
        than 10 % of all are missing, or all of two or more files below one of `folders` or in the whole index: they are
        returned as `held_back`. A file that can't be looked at (no permission, a network failure) isn't missing.

        Args:
            retry: try again to read what could not be read before.
            folders: folders that the user named.
            allow_removing: remove up to so many missing files, without these checks.
            **options: see `add`.
        """
        if not self._begun():
            return Added()
        self._check_model()
        known = [row.path for row in self._store.videos() if row.kind == "file" and row.state != "removed"]
        missing = [path for path in dict.fromkeys(known) if is_gone(path)]
        held = held_back(missing, known, [absolute(folder) for folder in folders], allow_removing)
        if missing and not held:
            self._forget(missing)
        gone = set(missing)
        done = self.add([path for path in dict.fromkeys(known) if path not in gone], retry=retry, **options)
        return replace(done, removed=() if held else tuple(missing), held_back=tuple(held))

    def remove(self, paths: str | Path | Iterable[str | Path]) -> Added:
        """Forget videos: files, folders with all that the index has below them, or patterns with `*` of their paths.

        Raises:
            VideoIndexError: one of them isn't in the index.
        """
        self._check_model()
        named = [paths] if isinstance(paths, str | Path) else list(paths)
        known = sorted({row.path for row in self._store.videos()}) if self._begun() else []
        gone: dict[str, None] = {}
        for name in named:
            found = matching(str(name), known) or matching(absolute(name), known)
            if not found:
                raise VideoIndexError(f"{name}: isn't in the index {self._store.uri}.")
            gone.update(dict.fromkeys(found))
        self._forget(gone)
        return Added(removed=tuple(gone))

    def _forget(self, paths: Iterable[str]) -> None:
        gone = set(paths)
        with self._store.writing():
            self._store.forget(row for row in self._store.videos() if row.path in gone)
            self._store.tidy()

    def compact(self) -> tuple[int, int]:
        """Write the index without what was deleted, and remove its old versions; the bytes before and after.

        A search that is under way in another process may fail and has to be repeated.

        Raises:
            VideoIndexError: there is no index, or another process is writing to it.
        """
        self._needed()
        folder = self._store.folder
        before = disk_bytes(folder) if folder else 0
        with self._store.writing():
            self._store.compact()
        return before, disk_bytes(folder) if folder else 0

    def export(self, path: str | Path) -> int:
        """Write all windows, with all that is known of them, as Parquet; `add` takes it. The number of windows.

        Args:
            path: of the file, .parquet; one that is there is replaced.

        Raises:
            ValueError: its name has another suffix, or there is no such folder.
            VideoIndexError: there is no index.
            OSError: it can't be written.
        """
        target = checked_target(path, SUFFIX)
        self._needed()
        return write_parquet(self._store, target)

    def _add_tables(self, paths: list[str], on_video: OnVideo) -> list[str]:
        files = [ParquetWindows(path) for path in paths]
        about = self._begun()
        wanted = about or {**files[0].about, **self._wanted}
        width = self._store.width if about else files[0].width
        for windows in files:
            windows.check(wanted, width)
        videos = [windows.videos() for windows in files]
        if about is None:
            if self._model is not None:
                pipeline = as_pipeline(self._model, **self._loading)
                of_model = about_model(pipeline, by_name=not isinstance(self._model, VideoPipeline))
                check_weights(wanted, of_model, self._store.uri)
                self._pipeline = pipeline
                wanted["model"] = of_model["model"]
            about = self._create(wanted, width)
        with self._store.writing():
            for windows in files:
                add_parquet(self._store, windows, patches=about["patches"])
            self._store.tidy()
        added = list(dict.fromkeys(path for of_file in videos for path in of_file))
        for path in added:
            on_video(path, None)
        return added

    # -- the model ---------------------------------------------------------------------------------------------------

    def _begun(self) -> dict[str, Any] | None:
        """What the index is of, as it is now; None if there is none yet."""
        if self._about is None:
            self._about = self._store.open()
            if self._about is not None:  # another process has made it since
                check_wanted(self._store.uri, self._about, self._wanted)
        else:
            self._store.refresh()
        return self._about

    def _needed(self) -> dict[str, Any]:
        about = self._begun()
        if about is None:
            raise VideoIndexError(f"{self._store.uri}: there is no index: make one with `openxclip index`.")
        return about

    def _check_model(self) -> None:
        """Refuse a model that was given and isn't the index's, even if there is nothing to do for it."""
        if self._model is not None and self._begun():
            self._ready()

    def _create(self, about: dict[str, Any], width: int) -> dict[str, Any]:
        self._store.create({**about, "openxclip": __version__}, width)
        return self._needed()

    def _ready(self) -> VideoPipeline:
        """The model, which is loaded once and checked to be the index's; of a new index, which is made."""
        if self._pipeline is not None:
            return self._pipeline
        pipeline = as_pipeline(named_model(self._model, self._about, self._store.uri), **self._loading)
        of_model = about_model(pipeline, by_name=not isinstance(self._model, VideoPipeline))
        if self._about is None:
            window = self._wanted.get("window", WINDOW_S)
            plan = {
                "num_frames": pipeline.model.config.vision_config.num_frames,
                "window": window,
                "stride": window,
                "sampling": "time",
                "patches": True,
            }
            self._create({**of_model, **plan, **self._wanted}, pipeline.model.config.projection_dim)
        assert self._about is not None
        check_weights(self._about, of_model, self._store.uri)
        self._pipeline = pipeline
        return pipeline


def check_wanted(uri: str, about: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse what isn't as the index was made.

    Raises:
        ValueError: window, stride, frames, sampling or patches differ.
    """
    for name, value in wanted.items():
        own = sampling_of(about) if name == "sampling" else about[name]
        if own != value:
            raise ValueError(f"{name}={value}: the index {uri} was made with {name}={own}; leave it out.")
