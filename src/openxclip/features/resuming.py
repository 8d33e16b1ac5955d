"""Keep the rows of an unfinished file in a folder beside it, so that an interrupted run can be resumed.

A manifest, written once, describes the work. Each shard has some rows, and the progress up to its last row. Shards are
written atomically, so the folder is always valid.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from openxclip.common.files import as_os_error, atomic_file, take_lock
from openxclip.features.files import Columns

_MANIFEST, _LOCK, _MOVED = "manifest.json", "lock", "moved"
_KIND = "unfinished file of features"

Position = tuple[int, int]  # the number of a video, and of one of its clips, from 0


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        next: the first clip that isn't written yet.
        errors: the number of each video that can't be read, and the reason.
    """

    next: Position = (0, 0)
    errors: tuple[tuple[int, str], ...] = ()


class Unfinished:
    """The folder of an unfinished `target`, for one run at a time; close it, or use it as a context manager.

    Raises:
        ValueError: the path of the folder is taken by something else, or another run uses the folder.
        OSError: the folder can't be written.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.folder = target.with_name(f"{target.name}.part")
        self._complete = self.folder / f"whole{target.suffix}"
        if self.folder.is_dir() and not self._is_ours():
            raise ValueError(f"{self.folder}: is not the folder of an unfinished {target.name}: move it away.")
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder}: is not a folder, but unfinished work goes there: move it away.")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / _LOCK).open("w")
        try:
            if not take_lock(self._lock):
                raise ValueError(f"{self.target}: another run is at work on it.")
            if (self.folder / _MOVED).exists() and not self._complete.exists():
                self.clear()  # a run was killed after it had moved its file to the target
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> Unfinished:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Unlock the folder, and remove it if no work was begun."""
        if not (self.folder / _MANIFEST).exists():
            (self.folder / _LOCK).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self.folder.rmdir()
        self._lock.close()

    def begin(self, manifest: dict[str, Any], *, overwrite: bool) -> dict[str, Any]:
        """Begin the work, or resume it.

        Args:
            manifest: a JSON object that describes the work. The work is resumed if the folder's manifest has the same
                `options`, a dict, and `videos`, a list of lists that begin with a path.
            overwrite: start again if they differ.

        Returns:
            The manifest to use: the folder's if the work is resumed, else `manifest`.

        Raises:
            ValueError: the folder has other work, and `overwrite` is False.
        """
        earlier = self._read_manifest()
        if earlier is not None:
            difference = _describe_difference(earlier, manifest)
            if not difference:
                for leftover in (self._complete, self.folder / _MOVED, *self.folder.glob("*.tmp")):
                    leftover.unlink(missing_ok=True)
                return earlier
            if not overwrite:
                raise ValueError(
                    f"{self.folder}: belongs to an unfinished run with {difference}: resume it with the same "
                    "arguments, or start again with force=True."
                )
        self.clear()
        manifest = {"kind": _KIND, **manifest}
        self._write(self.folder / _MANIFEST, json.dumps(manifest, indent=1, allow_nan=False).encode())
        return manifest

    def progress(self) -> Progress:
        """Return how far the work has come. Delete the first shard that a system crash damaged, and all after it."""
        position, errors = (0, 0), list[tuple[int, str]]()
        shards = self._shards()
        for number, shard in enumerate(shards):
            try:
                with safe_open(shard, framework="np") as opened:
                    progress = json.loads(opened.metadata()["progress"])
            except (SafetensorError, OSError, ValueError, KeyError, TypeError):
                for damaged in shards[number:]:
                    damaged.unlink()
                break
            errors += [(int(video), str(reason)) for video, reason in progress["errors"]]
            video, clip = progress["next"]
            position = (int(video), int(clip))
        return Progress(position, tuple(errors))

    def add(self, rows: Columns, progress: Progress) -> None:
        """Write a shard of rows.

        Args:
            rows: the next rows.
            progress: how far the work has come with these rows. `errors` has only the errors since the last call.
        """
        shards = self._shards()
        number = int(shards[-1].stem) + 1 if shards else 0
        self._write(self.folder / f"{number:08}.safetensors", save(rows, {"progress": json.dumps(asdict(progress))}))

    def rows(self, names: Sequence[str], *, without: Collection[int] = ()) -> Iterator[Columns]:
        """Yield these columns and `video`, shard by shard, except for the rows of the videos in `without`."""
        excluded = np.array(sorted(without), dtype=np.int64)
        for shard in self._shards():
            with safe_open(shard, framework="np") as opened:
                kept = ~np.isin(opened.get_tensor("video"), excluded)
                columns = {name: opened.get_tensor(name) for name in ("video", *names)} if kept.any() else {}
            if columns:
                yield {name: column[kept] for name, column in columns.items()}

    @contextlib.contextmanager
    def finish(self) -> Iterator[Path]:
        """Yield the path at which to write the file; then move the file to the target, and delete the rows."""
        try:
            yield self._complete
        except BaseException as error:
            as_os_error(error, self.target)  # an OSError without a file name gets the target's
            self._complete.unlink(missing_ok=True)
            raise
        (self.folder / _MOVED).touch()
        self._complete.replace(self.target)
        self.clear()

    def clear(self) -> None:
        """Delete the rows and then the manifest, without which the folder would count as somebody else's."""
        rows = [*self._shards(), *self.folder.glob("*.tmp"), self._complete]
        for path in (*rows, self.folder / _MANIFEST, self.folder / _MOVED):
            path.unlink(missing_ok=True)

    def _shards(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.safetensors") if path.stem.isdecimal())

    def _read_manifest(self) -> dict[str, Any] | None:
        with contextlib.suppress(OSError, ValueError, RecursionError):
            manifest = json.loads((self.folder / _MANIFEST).read_bytes())
            if isinstance(manifest, dict) and manifest.get("kind") == _KIND:
                return manifest
        return None

    def _is_ours(self) -> bool:
        names = {path.name for path in self.folder.iterdir() if not path.name.startswith(f".{_MANIFEST}.")}
        return self._read_manifest() is not None or names <= {_LOCK, _MOVED}

    def _write(self, path: Path, content: bytes) -> None:
        try:
            with atomic_file(path) as partial:
                partial.write_bytes(content)
        except OSError as error:
            error.filename = str(self.folder)
            raise


def _describe_difference(earlier: dict[str, Any], now: dict[str, Any]) -> str:
    """Describe the first difference between two manifests; return "" if they describe the same work."""
    now = json.loads(json.dumps(now))  # tuples become lists, as in `earlier`
    old_options, new_options = earlier.get("options", {}), now["options"]
    for name in {**old_options, **new_options}:
        if old_options.get(name) != new_options.get(name):
            old, new = json.dumps(old_options.get(name)), json.dumps(new_options.get(name))
            return f"another {name}" + (f" ({old}, now {new})" if max(len(old), len(new)) < 80 else "")
    old_videos, new_videos = earlier.get("videos", []), now["videos"]
    for number, (old, new) in enumerate(zip(old_videos, new_videos, strict=False), start=1):
        if old[0] != new[0]:
            return f"other videos (number {number} was {old[0]}, now {new[0]})"
        if old != new:
            return f"other videos ({new[0]} has changed since)"
    return "" if len(old_videos) == len(new_videos) else f"{len(old_videos)} videos (now {len(new_videos)})"
