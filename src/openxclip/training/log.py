"""The log of a training: one JSON object per line, and curves for TensorBoard."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from openxclip.common.files import as_os_error, atomic_file


class TrainingLog:
    """Append to `log.jsonl`, and to `curves/` if `tensorboard` is installed.

    Entries of steps that will be repeated are removed first.

    Args:
        folder: folder of the training; created if it is missing.
        first_step: step at which the training starts or resumes.
    """

    def __init__(self, folder: Path, *, first_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "log.jsonl"
        kept = []
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue  # the program was killed while it wrote this line
                if isinstance(entry, dict) and isinstance(entry.get("step"), int) and entry["step"] < first_step:
                    kept.append(line + "\n")
        with atomic_file(path) as partial:
            partial.write_text("".join(kept), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")
        self._curves: Any = None
        with suppress(ImportError):
            from torch.utils.tensorboard import SummaryWriter

            self._curves = SummaryWriter(str(folder / "curves"), purge_step=first_step)

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Write an entry. Each number but the epoch is also a point of the curve "kind/name"."""
        try:
            self._file.write(json.dumps({"kind": kind, "step": step, **values}, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            as_os_error(error, self._file.name)  # adds the file name, which errors of writing lack
            raise
        if self._curves is not None:
            for name, value in values.items():
                if isinstance(value, int | float) and name != "epoch":
                    self._curves.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Close the files."""
        if self._curves is not None:
            self._curves.close()
        with suppress(OSError):  # an error of writing has been raised before
            self._file.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of the log in a folder."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
