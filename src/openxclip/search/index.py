"""`VideoIndex`: an index of many videos."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from openxclip.common.files import checked_target, is_utf8
from openxclip.engine import Precision
from openxclip.errors import VideoIndexError
from openxclip.pipeline import VideoPipeline
from openxclip.pipeline.batching import Batch
from openxclip.processing.sources import in_memory
from openxclip.search.connecting import PATIENCE_S
from openxclip.search.duplicates import MIN_SIMILARITY, OVERLAP, DuplicateGroup, Keep, find_duplicates
from openxclip.search.indexed_videos import IndexedVideos
from openxclip.search.indexer import Indexer, OnClip, OnVideo, skip_known
from openxclip.search.maintenance import disk_bytes
from openxclip.search.moments import SearchOptions
from openxclip.search.not_duplicates import remember
from openxclip.search.opening import OpenIndex
from openxclip.search.parquet import SUFFIX, export_windows, import_windows, is_parquet
from openxclip.search.partitions import open_indexes
from openxclip.search.paths import absolute_path, is_missing, matching_paths, may_remove
from openxclip.search.results import Added, Hit
from openxclip.search.schema import IndexInfo
from openxclip.search.searching import Searcher, check_query
from openxclip.video import ReadOptions, VideoSource, find_videos
from openxclip.video.options import Decode
from openxclip.video.sampling import Sampling


class VideoIndex:
    """An index of the windows of many videos; call `open` to get one.

    Examples:
        >>> from pathlib import Path
        >>> from openxclip import VideoIndex
        >>> index = VideoIndex.open("samples.index", model="mini", window=1)
        >>> len(index.add("samples").added)
        6
        >>> (best,) = index.search("a cat moves left", k=1)
        >>> Path(best.path).name
        'cat_moves_left.mp4'
    """

    def __init__(self, index: OpenIndex) -> None:
        self._index, self._store = index, index.store
        self._searcher: Searcher | None = None

    @classmethod
    def open(
        cls,
        uri: str | Path | Sequence[str | Path],
        *,
        model: str | Path | VideoPipeline | None = None,
        window: float | None = None,
        stride: float | None = None,
        num_frames: int | None = None,
        sampling: Sampling | None = None,
        patches: bool | None = None,
        decode: Decode | None = None,
        device: torch.device | str | None = None,
        precision: Precision | None = None,
        patience: float = PATIENCE_S,
    ) -> VideoIndex:
        """Open an index. If there is none, the first `add` creates it.

        Args:
            uri: folder of the index or another place that LanceDB takes (`s3://…`); several are searched as one index.
            model: a folder, a hub id, "mini", or a loaded pipeline. The default is the index's model, and for a new
                index the default of `VideoPipeline.from_pretrained`. All videos of an index are encoded by one model.
            window: seconds per window; the default is the window of the model's contract of time, or 10 if it has none.
                This and the next five settings apply to a new index.
            stride: seconds from one window to the next; the default is `window`, or the contract's if `window` is.
            num_frames: frames per window; the default is the contract's, or the number that the model was trained with.
            sampling: how the frames of a window are chosen, see `openxclip.video.sampling.Timeline`; default "time".
            patches: store patch features, from which prompts are made, so that hits can be reranked; default True.
            decode: which frames are decoded, see `openxclip.video.ReadOptions`; default "all". With "key" indexing is
                faster, but a window shows key frames only.
            device, precision: see `VideoPipeline.from_pretrained`.
            patience: about how many seconds one call waits for an object store that doesn't answer.

        Raises:
            MissingPackageError: LanceDB isn't installed, or is too old.
            ValueError: an argument is invalid, or differs from the index's.
            VideoIndexError: the place holds something else.
        """
        settings = {
            "window": window, "stride": stride, "num_frames": num_frames, "sampling": sampling, "patches": patches,
            "decode": decode,
        }  # fmt: skip
        return cls(open_indexes(uri, model, settings, {"device": device, "precision": precision}, patience=patience))

    def __len__(self) -> int:
        """Return the number of searchable windows."""
        return self._store.count_windows() if self._index.info else 0

    @property
    def info(self) -> IndexInfo | None:
        """The model and the windows of the index; None if there is no index yet."""
        return self._index.info

    def files(self) -> list[str]:
        """Return the paths of the searchable videos."""
        return sorted(self._store.complete_videos()) if self._index.info else []

    def unfinished(self) -> dict[str, int]:
        """Return the videos that an interrupted `add` left incomplete, with the number of windows kept for resuming."""
        return {row.path: row.windows for row in self._index.videos() if row.state == "reading" and row.windows}

    # -- adding and removing videos ----------------------------------------------------------------------------------

    def add(
        self,
        paths: str | Path | Iterable[str | Path],
        *,
        retry: bool = False,
        batch: Batch = "auto",
        read: ReadOptions | None = None,
        on_video: OnVideo = lambda path, error: None,
        on_clip: OnClip = lambda path, end, duration: None,
    ) -> Added:
        """Add videos to the index.

        Files that the index has are recognised by their size, modification time, change time and inode, or else by
        their content (SHA-256), and are skipped. A moved file keeps its windows under the new path; a copy gets copies
        of them. A changed file's new windows replace the old ones once all are written. Work is committed every minute
        or 64 MiB, also within a long video: after an interruption, the same call resumes. Other processes may search
        meanwhile, but not write.

        The windows in a Parquet file that `export` wrote, perhaps on another machine, are added without reading a
        video. This is one commit and can't be resumed.

        Args:
            paths: one or more files, folders and globs (see `openxclip.video.find_videos`).
            retry: try again to read unchanged files that could not be read before; by default their error is only
                reported again.
            batch, read: see `VideoPipeline.encode_clips`. An unchanged folder or array keeps its `fps`.
            on_video: called with each video's path when it is done or skipped, and its error if it can't be read.
            on_clip: called after each window with the video's path, the window's end and the video's duration, in
                seconds.

        Raises:
            ValueError: the model isn't the index's, or `read` decodes other frames than the index's, or reads files
                that are cut off.
            CheckpointError: the model can't be found or loaded.
            VideoIndexError: another process is writing to the index, or the windows of a Parquet file don't fit it.
        """
        names = [paths] if isinstance(paths, str | Path) else list(paths)
        files = list(dict.fromkeys(absolute_path(path) for path in find_videos(names)))
        self._index.check_model()
        imported = import_windows(self._index, [path for path in files if is_parquet(path)], on_video)
        videos = [path for path in files if not is_parquet(path)]
        to_read, skipped = skip_known(videos, self._index.videos(), retry=retry, on_video=on_video)
        done = Added(added=tuple(imported)) + skipped
        if not to_read:
            return done
        self._index.pipeline()  # creates a new index
        with self._store.writing():
            indexer = Indexer(self._index, batch=batch, read=read, on_video=on_video, on_clip=on_clip)
            indexer.add_files(to_read)
            self._store.tidy()
        return done + indexer.result

    def add_frames(self, name: str, frames: Any, fps: float, *, batch: Batch = "auto") -> Added:
        """Add a video from memory under a name, in place of other frames of that name.

        `update` doesn't touch such videos; `remove(name)` removes them.

        Args:
            name: name of the video in hits; it must not be the path of a file of the index.
            frames: one video, in the forms that `openxclip.classify` takes.
            fps: frames per second, for the times of windows.
            batch: see `VideoPipeline.encode_clips`.

        Raises:
            TypeError, ValueError: the frames, the name or the rate are invalid, or the model isn't the index's.
            CheckpointError: the model can't be found or loaded.
            VideoIndexError: another process is writing to the index.
        """
        if not name or "\0" in name or not is_utf8(name):
            raise ValueError(f"name={name!r}: must be text, in valid UTF-8.")
        video = in_memory(frames, name)
        pipeline = self._index.pipeline()
        self._index.require()
        content = hashlib.sha256(f"{video.digest()} {float(fps)}".encode()).hexdigest()
        known = self._store.complete_videos().get(name)
        if known is not None and known.kind == "file":
            raise ValueError(f"name={name!r}: the index has a file of this name: choose another name.")
        if known is not None and known.content == content:
            return Added(unchanged=(name,))
        with self._store.writing():
            indexer = Indexer(self._index, batch=batch, read=replace(pipeline.read, fps=fps))
            indexer.add_frames(video, content)
            self._store.tidy()
        return indexer.result

    def update(
        self,
        *,
        retry: bool = True,
        folders: Iterable[str | Path] = (),
        allow_removing: int | None = None,
        **options: Any,
    ) -> Added:
        """Check every file of the index: read changed files again, and remove missing ones.

        An unmounted disk must not empty the index. So nothing is removed if more than 10 files and more than 10 % of
        all files are missing, or if every file of the index or below one of `folders` is missing, and there are two or
        more. The missing files are then returned as `held_back`. A file that can't be examined (no permission, a
        network failure) doesn't count as missing.

        Args:
            retry: try again to read what could not be read before.
            folders: folders that the user named.
            allow_removing: remove up to this many missing files without these checks.
            **options: see `add`.
        """
        if not self._index.refresh():
            return Added()
        self._index.check_model()
        rows = self._index.videos()
        known = list(dict.fromkeys(row.path for row in rows if row.kind == "file" and row.state != "removed"))
        missing = [path for path in known if is_missing(path)]
        is_allowed = may_remove(missing, known, [absolute_path(folder) for folder in folders], allow_removing)
        if missing and is_allowed:
            self._remove(missing)
        gone = set(missing)
        done = self.add([path for path in known if path not in gone], retry=retry, **options)
        return replace(done, removed=tuple(missing)) if is_allowed else replace(done, held_back=tuple(missing))

    def remove(self, paths: str | Path | Iterable[str | Path]) -> Added:
        """Remove videos: files, folders with all videos below them, or patterns with `*` that match paths.

        Raises:
            VideoIndexError: one of them isn't in the index.
        """
        self._index.check_model()
        names = [paths] if isinstance(paths, str | Path) else list(paths)
        known = sorted({row.path for row in self._index.videos()})
        removed: dict[str, None] = {}
        for name in names:
            matches = matching_paths(str(name), known) or matching_paths(absolute_path(name), known)
            if not matches:
                raise VideoIndexError(f"{name}: isn't in the index {self._store.uri}.")
            removed.update(dict.fromkeys(matches))
        self._remove(removed)
        return Added(removed=tuple(removed))

    def _remove(self, paths: Iterable[str]) -> None:
        removed = set(paths)
        with self._store.writing():
            self._store.remove_videos(row for row in self._store.videos() if row.path in removed)
            self._store.tidy()

    def compact(self) -> tuple[int, int]:
        """Rewrite the index without deleted data and old versions, and return its bytes before and after.

        A search that runs meanwhile in another process may fail and must be repeated.

        Raises:
            VideoIndexError: there is no index, or another process is writing to it.
        """
        self._index.require()
        folder = self._store.folder
        before = disk_bytes(folder) if folder else 0
        with self._store.writing():
            self._store.compact()
        return before, disk_bytes(folder) if folder else 0

    def export(self, path: str | Path) -> int:
        """Write all windows with their times, videos and embeddings to a Parquet file, which `add` takes.

        Args:
            path: path of the file, .parquet; an existing file is replaced.

        Returns:
            The number of windows.

        Raises:
            ValueError: the name has another suffix, or its folder doesn't exist.
            VideoIndexError: there is no index.
            OSError: the file can't be written.
        """
        target = checked_target(path, SUFFIX)
        self._index.require_one()
        return export_windows(self._store, target)

    # -- searching ---------------------------------------------------------------------------------------------------

    def search(
        self,
        text: str | None = None,
        *,
        video: VideoSource | None = None,
        start: float | None = None,
        end: float | None = None,
        read: ReadOptions | None = None,
        k: int = 10,
        where: str | None = None,
        rerank: int | None = None,
        per_video: int | None = None,
        min_score: float | Literal["auto"] | None = None,
        min_similarity: float | None = None,
        merge: bool = True,
    ) -> list[Hit]:
        """Return the moments that are most similar to a sentence or to a video, the best first.

        Neighbouring windows of a video are one hit. It grows from its best window to both sides over candidates that
        touch or overlap it and whose similarity is at least halfway from the average window's similarity to the best
        window's. `docs/search.md` has the details.

        Args:
            text: sentence to search for.
            video: video to search for instead of a text, as one clip.
            start, end: the part of `video` to search for, in seconds; the default is the whole video.
            read: how `video` is read; the default is the pipeline's.
            k: maximum number of hits.
            where: SQL condition that windows must meet, on `path`, `start`, `end`, `duration`, `size` (bytes),
                `modified` (nanoseconds) and a manifest's columns, such as "duration < 60 and path like '%cam2%'".
            rerank: number of candidates, found by the plain text, to order by their cosine with prompts; 0 turns
                prompts off. The default is 200, or 0 if the index has no patch features; a number then reads the videos
                of so many candidates again. A search by video isn't reranked: prompts change texts only.
            per_video: maximum number of hits from one video.
            min_score: minimum score of a hit, from 0 to 1, in a search by text; "auto" is the threshold of the model's
                contract of time for this text. The search ends when a round of candidates brings no such hit.
            min_similarity: minimum similarity of a hit, from -1 to 1.
            merge: False makes each window a hit of its own.

        Raises:
            ValueError: an argument is invalid.
            CheckpointError: the model can't be found or loaded, or its contract is invalid.
            VideoIndexError: there is no index.
            VideoError: the video can't be read.
        """
        check_query(text, video, start, end, min_score)
        options = SearchOptions(
            k=k, where=where, rerank=rerank, per_video=per_video, min_score=None if min_score == "auto" else min_score,
            min_similarity=min_similarity, merge=merge,
        )  # fmt: skip
        info = self._index.require()
        if self._searcher is None:
            self._searcher = Searcher(self._store, self._index.pipeline(), info)
        if text is not None:
            if min_score == "auto":
                options = replace(options, min_score=self._index.pipeline().contract.threshold_of(text.strip()))
            return self._searcher.by_text(text, options)
        assert video is not None
        return self._searcher.by_video(video, options, start=start, end=end, read=read)

    def duplicates(
        self,
        *,
        min_similarity: float = MIN_SIMILARITY,
        overlap: float = OVERLAP,
        keep: Keep = "longest",
        not_duplicates: Iterable[tuple[str | Path, str | Path]] = (),
        where: str | None = None,
        on_video: Callable[[], object] = lambda: None,
    ) -> list[DuplicateGroup]:
        """Find videos that are copies or parts of others, by their embeddings. The model isn't needed.

        Featureless windows (black, white, frozen) don't count. Files that are missing, have changed, or are links to
        another file of the index are left out; if no file of the index is on this machine, only links are.

        Args:
            min_similarity: minimum cosine of similar windows. The right value depends on the model, and on how similar
                different videos are.
            overlap: minimum share of a video's windows that are similar to a window of the other video.
            keep: which video of a group comes first, out of the videos that contain all the others: the "longest"
                (lengths that differ by up to 0.25 s are equal), the "largest" in bytes, the "oldest" by modification
                time, or the one with the "highest-resolution". The other criteria, in the order longest,
                highest-resolution, largest, oldest, decide between equals.
            not_duplicates: pairs of paths that are never reported as duplicates, by this call and by later calls: the
                index remembers them.
            where: condition that windows must meet, as in `search`.
            on_video: called after each video.

        Raises:
            ValueError: an argument is out of its range, or a pair isn't two videos of the index.
            VideoIndexError: there is no index, or it can't remember a pair.
        """
        self._index.require_one()
        rows = self._store.complete_videos()
        pairs = remember(self._store.uri, not_duplicates, rows)
        windows = self._store.read_windows(IndexedVideos.COLUMNS, where)
        return find_duplicates(
            IndexedVideos.read(rows.values(), windows).without_changed_files(),
            min_similarity=min_similarity,
            overlap=overlap,
            keep=keep,
            not_duplicates=pairs,
            on_video=on_video,
        )
