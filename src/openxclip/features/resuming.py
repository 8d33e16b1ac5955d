"""Keep the rows of an unfinished file in a folder beside it, so that an interrupted run can be resumed.

A manifest, written once, says what the work is. Each shard has some rows, and the progress of the work with them.
Shards are written atomically, so the folder is valid at every moment.
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

from openxclip.common.files import as_os_error, atomic_file
from openxclip.common.locks import take_lock
from openxclip.features.files import Columns

_MANIFEST, _LOCK, _MOVED = "manifest.json", "lock", "moved"
_KIND = "unfinished file of features"

Position = tuple[int, int]  # the number of a video, and of one of its clips, from 0


@dataclass(frozen=True)
class Progress:
    """How far the work has come.

    Attributes:
        next: which video comes next, and which of its clips.
        errors: number of each video that can't be read, and the reason.
    """

    next: Position = (0, 0)
    errors: tuple[tuple[int, str], ...] = ()


class Unfinished:
    """The folder of an unfinished `target`, for one run at a time; close it, or use it as a context manager.

    Raises:
        ValueError: something else has the folder's name, or another run uses the folder.
        OSError: it can't be written.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.folder = target.with_name(f"{target.name}.part")
        self._whole = self.folder / f"whole{target.suffix}"
        if self.folder.is_dir() and not self._is_ours():
            raise ValueError(f"{self.folder}: is no folder of an unfinished {target.name}: move it away.")
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder}: is not a folder, but unfinished work goes there: move it away.")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / _LOCK).open("w")
        try:
            if not take_lock(self._lock):
                raise ValueError(f"{self.target}: another run is at work on it.")
            if (self.folder / _MOVED).exists() and not self._whole.exists():
                self._clear()  # a run was killed after its file had taken its place
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> Unfinished:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other runs use the folder; an empty folder is removed."""
        if not (self.folder / _MANIFEST).exists():
            (self.folder / _LOCK).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self.folder.rmdir()
        self._lock.close()

    def begin(self, manifest: dict[str, Any], *, overwrite: bool) -> dict[str, Any]:
        """Begin the work, or resume it.

        Args:
            manifest: JSON. To resume, `options`, a dict, and `videos`, a list of lists that begin with a path, must be
                those of the folder.
            overwrite: start again if they are not.

        Returns:
            The manifest to work by: the folder's, if the work is resumed.

        Raises:
            ValueError: the folder has other work, and `overwrite` is False.
        """
        earlier = self._manifest()
        if earlier is not None:
            difference = _difference(earlier, manifest)
            if not difference:
                for leftover in (self._whole, self.folder / _MOVED, *self.folder.glob("*.tmp")):
                    leftover.unlink(missing_ok=True)
                return earlier
            if not overwrite:
                raise ValueError(
                    f"{self.folder}: is of an unfinished run with {difference}: resume it with the same arguments, or "
                    "start again with force=True."
                )
        self._clear()
        manifest = {"kind": _KIND, **manifest}
        self._write(self.folder / _MANIFEST, json.dumps(manifest, indent=1, allow_nan=False).encode())
        return manifest

    def progress(self) -> Progress:
        """Return how far the work has come, after deleting damaged shards (left by a system crash) and later ones."""
        progress, errors = Progress(), []
        shards = self._shards()
        for number, shard in enumerate(shards):
            try:
                with safe_open(shard, framework="np") as opened:
                    values = json.loads(opened.metadata()["progress"])
            except (SafetensorError, OSError, ValueError, KeyError, TypeError):
                for damaged in shards[number:]:
                    damaged.unlink()
                break
            errors += [(int(video), str(reason)) for video, reason in values["errors"]]
            progress = Progress((int(values["next"][0]), int(values["next"][1])), tuple(errors))
        return progress

    def add(self, rows: Columns, progress: Progress) -> None:
        """Write some more rows.

        Args:
            rows: rows of videos that don't come before those already written.
            progress: how far the work has come with them; only errors since the last call.
        """
        shards = self._shards()
        number = int(shards[-1].stem) + 1 if shards else 0
        self._write(self.folder / f"{number:08}.safetensors", save(rows, {"progress": json.dumps(asdict(progress))}))

    def rows(self, names: Sequence[str], *, without: Collection[int] = ()) -> Iterator[Columns]:
        """Yield these columns and `video`, shard by shard, without the rows of some videos."""
        left_out = np.array(sorted(without), dtype=np.int64)
        for shard in self._shards():
            with safe_open(shard, framework="np") as opened:
                kept = ~np.isin(opened.get_tensor("video"), left_out)
                columns = {name: opened.get_tensor(name) for name in ("video", *names)} if kept.any() else {}
            if columns:
                yield {name: column[kept] for name, column in columns.items()}

    @contextlib.contextmanager
    def finishing(self) -> Iterator[Path]:
        """Lend the path where the file is written; then move the file to its place and remove the folder."""
        try:
            yield self._whole
        except BaseException as error:
            as_os_error(error, self.target)
            self._whole.unlink(missing_ok=True)
            raise
        (self.folder / _MOVED).touch()
        self._whole.replace(self.target)
        self._clear()

    def discard(self) -> None:
        """Delete all rows, without making a file."""
        self._clear()

    # -- files -------------------------------------------------------------------------------------------------------

    def _shards(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.safetensors") if path.stem.isdecimal())

    def _manifest(self) -> dict[str, Any] | None:
        with contextlib.suppress(OSError, ValueError, RecursionError):
            manifest = json.loads((self.folder / _MANIFEST).read_bytes())
            if isinstance(manifest, dict) and manifest.get("kind") == _KIND:
                return manifest
        return None

    def _is_ours(self) -> bool:
        names = {path.name for path in self.folder.iterdir() if not path.name.startswith(f".{_MANIFEST}.")}
        return self._manifest() is not None or names <= {_LOCK, _MOVED}

    def _clear(self) -> None:
        """Delete all our files, the manifest last: without it, the folder would count as somebody else's."""
        ours = [*self._shards(), *self.folder.glob("*.tmp"), self._whole, self.folder / _MANIFEST, self.folder / _MOVED]
        for path in ours:
            path.unlink(missing_ok=True)

    def _write(self, path: Path, content: bytes) -> None:
        try:
            with atomic_file(path) as partial:
                partial.write_bytes(content)
        except OSError as error:
            error.filename = str(self.folder)
            raise


def _difference(earlier: dict[str, Any], now: dict[str, Any]) -> str:
    """Describe the first difference between two manifests; empty if they are of the same work."""
    now = json.loads(json.dumps(now))  # as it looks after reading
    before, options = earlier.get("options", {}), now["options"]
    for name in {**before, **options}:
        if before.get(name) != options.get(name):
            old, new = json.dumps(before.get(name)), json.dumps(options.get(name))
            return f"another {name}" + (f" ({old}, now {new})" if max(len(old), len(new)) < 80 else "")
    videos = earlier.get("videos", [])
    for number, (old, new) in enumerate(zip(videos, now["videos"], strict=False)):
        if old[0] != new[0]:
            return f"other videos (number {number + 1} was {old[0]}, now {new[0]})"
        if old != new:
            return f"other videos ({new[0]} has changed since)"
    return "" if len(videos) == len(now["videos"]) else f"{len(videos)} videos (now {len(now['videos'])})"
