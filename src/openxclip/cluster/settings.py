"""What a caller chooses for a bulk run over an index, besides the videos."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openxclip.search.opening import OpenIndex
from openxclip.video import ReadOptions
from openxclip.video.options import Decode
from openxclip.video.sampling import Sampling

if TYPE_CHECKING:
    from openxclip.engine import Precision
    from openxclip.pipeline.batching import Batch


@dataclass(frozen=True, kw_only=True)
class IndexSettings:
    """The model and the windows of an index, and how to read and encode videos.

    Attributes:
        model: a folder, a hub id or "mini", which every machine must be able to load; None is the index's model, or the
            default model for a new index.
        window, stride, num_frames, sampling, decode: see `VideoIndex.open`.
        patches: whether a new index stores patch features; None is False here, because many windows make them large.
        device: device of the model where there is no cluster; see `VideoPipeline.from_pretrained`.
        precision: see `VideoPipeline.from_pretrained`.
        batch, read: see `VideoPipeline.encode_clips`.
    """

    model: str | Path | None = None
    window: float | None = None
    stride: float | None = None
    num_frames: int | None = None
    sampling: Sampling | None = None
    decode: Decode | None = None
    patches: bool | None = None
    device: str | None = None
    precision: Precision | None = None
    batch: Batch = "auto"
    read: ReadOptions = field(default_factory=ReadOptions)

    def open(self, uri: str | Path) -> OpenIndex:
        """Open an index, which may not exist yet.

        Raises:
            MissingPackageError: LanceDB isn't installed, or is too old.
            ValueError: a setting is invalid, or differs from the index's.
            VideoIndexError: the place holds something else.
        """
        names = ("window", "stride", "num_frames", "sampling", "decode", "patches")
        settings: dict[str, Any] = {name: getattr(self, name) for name in names}
        loading = {"device": self.device, "precision": self.precision}
        index = OpenIndex(uri, self.model, settings, loading)
        if index.info is None and self.patches is None:
            index = OpenIndex(uri, self.model, {**settings, "patches": False}, loading)
        return index
