"""What the processes need to know of the server's settings."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from openxclip.serve.settings import ServeSettings


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """The settings of the server that its processes need; see `ServeSettings`.

    Attributes:
        model, precision, device, max_duration, concurrency: as in `ServeSettings`.
        index: folder of the index, which may not exist yet.
        data: folder of the server's files.
    """

    model: str
    precision: str
    device: str | None
    max_duration: float
    concurrency: int
    index: Path
    data: Path

    @property
    def hidden(self) -> dict[str, str]:
        """What messages show instead of paths of the server, by path."""
        return {str(self.index): "the index", str(self.data): "the data folder", **name_of_folder(self.model)}

    @classmethod
    def of(cls, settings: ServeSettings) -> EngineSettings:
        """Return what the processes need of the server's settings."""
        return cls(
            model=settings.model,
            precision=settings.precision,
            device=settings.device,
            max_duration=settings.max_duration,
            concurrency=settings.concurrency,
            index=settings.index_folder,
            data=settings.data,
        )


def name_of_folder(model: str | None) -> dict[str, str]:
    """Return what messages show instead of the folder of a model, by path: its last part. Empty for other names."""
    if model is None or not (os.path.isabs(model) or Path(model).is_dir()):  # noqa: PTH117
        return {}
    return {os.path.realpath(model): Path(model).resolve().name}


def shown_model(name: str) -> str:
    """Return the name of a model for clients: of a folder, only its last part."""
    return Path(name).name or name if Path(name).is_dir() else name
