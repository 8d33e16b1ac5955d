"""What happened in a training: a line of JSON each."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from openxclip.common.files import as_os_error, written_whole


class Logbook:
    """Appends to `log.jsonl`; lines of steps that are taken again are left out.

    Args:
        folder: of the training; made if it isn't there.
        first_step: the step that training goes on from.
    """

    def __init__(self, folder: Path, *, first_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "log.jsonl"
        kept = []
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    known = json.loads(line)
                except ValueError:
                    continue  # torn when the program was killed
                if isinstance(known, dict) and isinstance(known.get("step"), int) and known["step"] < first_step:
                    kept.append(line + "\n")
        with written_whole(path) as partial:
            partial.write_text("".join(kept), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")

    def write(self, kind: str, step: int, **values: Any) -> None:
        """One event of a step."""
        try:
            self._file.write(json.dumps({"kind": kind, "step": step, **values}, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            as_os_error(error, self._file.name)  # whose name an error of writing lacks
            raise

    def close(self) -> None:
        """Nothing is written after this."""
        with suppress(OSError):  # what couldn't be written has been reported
            self._file.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a training's log."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
