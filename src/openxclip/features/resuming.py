"""Work that can be interrupted: a folder beside the file that it is to become, with what is done of it so far.

A manifest, written once, says what the work is. Each shard has some rows, and says how far the work had come with them;
it appears whole or not at all, so that the folder is right at every moment.
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
_IS_OURS = "unfinished file of features"


@dataclass(frozen=True)
class Progress:
    """How far the work has come.

    Attributes:
        next: which video comes next, and which of its clips, counted from 0.
        errors: of videos that can't be read, why, by their number.
    """

    next: tuple[int, int] = (0, 0)
    errors: tuple[tuple[int, str], ...] = ()


class Unfinished:
    """The folder of what is to become `target`, for one run at a time; close it, or use it as a context manager.

    Raises:
        ValueError: something else has the folder's name, or another run is at work in it.
        OSError: it can't be written.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.folder = target.with_name(f"{target.name}.part")
        self._whole = self.folder / f"whole{target.suffix}"
        if self.folder.is_dir() and self._is_anothers():
            raise ValueError(f"{self.folder}: is no folder of an unfinished {target.name}: move it away.")
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder}: is not a folder, but unfinished work goes there: move it away.")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / _LOCK).open("w")
        try:
            if not take_lock(self._lock):
                raise ValueError(f"{self.target}: another run is at work on it.")
            if (self.folder / _MOVED).exists() and not self._whole.exists():
                self._clear()  # of a run that was ended when its file had taken its place
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> Unfinished:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others work on it; without anything done, the folder is gone."""
        if not (self.folder / _MANIFEST).exists():
            (self.folder / _LOCK).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self.folder.rmdir()
        self._lock.close()

    def begin(self, manifest: dict[str, Any], *, anew: bool) -> dict[str, Any]:
        """Say what the work is.

        Args:
            manifest: JSON; `options`, a dict, and `videos`, a list of lists that begin with a path, must be those of
                what is there.
            anew: begin from the beginning if they are not.

        Returns:
            The manifest that rules: what is there, if it is the same work.

        Raises:
            ValueError: there is the beginning of other work, and `anew` is False.
        """
        there = self._manifest()
        if there is not None:
            others = _difference(there, manifest)
            if not others:
                for leftover in (self._whole, self.folder / _MOVED, *self.folder.glob("*.tmp")):
                    leftover.unlink(missing_ok=True)
                return there
            if not anew:
                raise ValueError(
                    f"{self.folder}: is of an unfinished run with {others}: finish it as it was begun, or begin anew "
                    "with force=True."
                )
        self._clear()
        manifest = {"kind": _IS_OURS, **manifest}
        self._write(self.folder / _MANIFEST, json.dumps(manifest, indent=1, allow_nan=False).encode())
        return manifest

    def progress(self) -> Progress:
        """How far it has come; a damaged shard (a crash of the system may leave such) is deleted, and all after it."""
        progress, errors = Progress(), []
        shards = self._shards()
        for number, shard in enumerate(shards):
            try:
                with safe_open(shard, framework="np") as opened:
                    said = json.loads(opened.metadata()["progress"])
            except (SafetensorError, OSError, ValueError, KeyError, TypeError):
                for damaged in shards[number:]:
                    damaged.unlink()
                break
            errors += [(int(video), str(reason)) for video, reason in said["errors"]]
            progress = Progress((int(said["next"][0]), int(said["next"][1])), tuple(errors))
        return progress

    def add(self, rows: Columns, progress: Progress) -> None:
        """Keep some more rows.

        Args:
            rows: of no video that comes before those kept already.
            progress: how far it has come with them; its errors are those since the last call alone.
        """
        said = asdict(progress)
        shards = self._shards()
        number = int(shards[-1].stem) + 1 if shards else 0
        self._write(self.folder / f"{number:08}.safetensors", save(rows, {"progress": json.dumps(said)}))

    def rows(self, names: Sequence[str], *, without: Collection[int] = ()) -> Iterator[Columns]:
        """What was kept in these columns and in `video`, shard by shard, but for the rows of some videos."""
        left_out = np.array(sorted(without), dtype=np.int64)
        for shard in self._shards():
            with safe_open(shard, framework="np") as opened:
                kept = ~np.isin(opened.get_tensor("video"), left_out)
                columns = {name: opened.get_tensor(name) for name in ("video", *names)} if kept.any() else {}
            if columns:
                yield {name: column[kept] for name, column in columns.items()}

    @contextlib.contextmanager
    def finishing(self) -> Iterator[Path]:
        """Where the whole file is to be written; it takes its place then, and the folder is gone."""
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
        """Delete what was kept: it makes no file."""
        self._clear()

    # -- files -------------------------------------------------------------------------------------------------------

    def _shards(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.safetensors") if path.stem.isdecimal())

    def _manifest(self) -> dict[str, Any] | None:
        with contextlib.suppress(OSError, ValueError, RecursionError):
            manifest = json.loads((self.folder / _MANIFEST).read_bytes())
            if isinstance(manifest, dict) and manifest.get("kind") == _IS_OURS:
                return manifest
        return None

    def _is_anothers(self) -> bool:
        held = {path.name for path in self.folder.iterdir() if not path.name.startswith(f".{_MANIFEST}.")}
        return self._manifest() is None and not held <= {_LOCK, _MOVED}

    def _clear(self) -> None:
        """Delete what is here, the manifest last: without it, whatever else there is would be somebody else's."""
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


def _difference(there: dict[str, Any], now: dict[str, Any]) -> str:
    """In which way what is there is other work; nothing if it is the same."""
    now = json.loads(json.dumps(now))  # as it looks when it is read
    before, options = there.get("options", {}), now["options"]
    others = [name for name in {**before, **options} if before.get(name) != options.get(name)]
    if others:
        name = others[0]
        shown = [json.dumps(one.get(name)) for one in (before, options)]
        return f"another {name}" + (f" ({shown[0]}, now {shown[1]})" if max(map(len, shown)) < 80 else "")
    videos = there.get("videos", [])
    for number, (old, new) in enumerate(zip(videos, now["videos"], strict=False)):
        if old[0] != new[0]:
            return f"other videos (number {number + 1} was {old[0]}, now {new[0]})"
        if old != new:
            return f"other videos ({new[0]} has changed since)"
    return "" if len(videos) == len(now["videos"]) else f"{len(videos)} videos (now {len(now['videos'])})"
