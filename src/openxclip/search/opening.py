"""Open or create an index, together with its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from openxclip._version import __version__
from openxclip.checkpoints.fingerprints import fingerprint, fingerprint_by_name
from openxclip.common.files import target_path
from openxclip.config import TimeContract
from openxclip.errors import VideoIndexError
from openxclip.hub import DEFAULT_MODEL
from openxclip.pipeline import VideoPipeline
from openxclip.pipeline.loading import as_pipeline
from openxclip.search.connecting import PATIENCE_S
from openxclip.search.schema import IndexInfo, VideoRow
from openxclip.search.store import Store
from openxclip.video import ClipPlan, ReadOptions

_WINDOW_S = 10.0  # of a new index whose model names no window


class OpenIndex:
    """An index that may not exist yet, and its model, which is loaded when it is first needed.

    `info` is the description of the index; None if there is no index.

    Args:
        uri: place of the index.
        model: name of the model or a pipeline; None is the index's model, or the default model for a new index.
        settings: `window`, `stride`, `num_frames`, `sampling`, `patches` and `decode`; None accepts the index's value,
            and for a new index the default, which the model's contract of time may set.
        loading: options for loading the model; None is an option's default.
        patience: see `Store`.

    Raises:
        MissingPackageError: LanceDB isn't installed, or is too old.
        ValueError: a setting is invalid, or differs from the index's.
        VideoIndexError: the place holds something else.
    """

    def __init__(
        self,
        uri: str | Path,
        model: str | Path | VideoPipeline | None,
        settings: Mapping[str, Any],
        loading: Mapping[str, Any],
        *,
        patience: float = PATIENCE_S,
    ) -> None:
        uri = str(uri)  # Path would turn "s3://" into "s3:/"
        self.store = Store(uri if "://" in uri or not uri else str(target_path(uri)), patience=patience)
        self._model = model
        self._settings = {name: value for name, value in settings.items() if value is not None}
        self._loading = {name: value for name, value in loading.items() if value is not None}
        self._pipeline: VideoPipeline | None = None
        self.info: IndexInfo | None = None
        if not self.refresh():
            plan = {name: value for name, value in self._settings.items() if name not in ("patches", "decode")}
            ClipPlan(**{"window": _WINDOW_S, **plan})  # checks the values
            ReadOptions(decode=self._settings.get("decode", "all"))

    def refresh(self) -> IndexInfo | None:
        """Load the latest version and return the description; None if there is still no index."""
        if self.info is not None:
            self.store.refresh()
            return self.info
        self.info = self.store.open()
        if self.info is not None:
            self._check_settings(self.info)
        return self.info

    def require(self) -> IndexInfo:
        """Load the latest version and return the description.

        Raises:
            VideoIndexError: there is no index.
        """
        info = self.refresh()
        if info is None:
            raise VideoIndexError(f"{self.store.uri}: there is no index: make one with `openxclip index`.")
        return info

    def require_one(self) -> IndexInfo:
        """As `require`, for what can't be done with several indexes at once."""
        return self.require()

    def videos(self) -> list[VideoRow]:
        """Load the latest version and return the videos in every state."""
        return self.store.videos() if self.refresh() else []

    def pipeline(self) -> VideoPipeline:
        """Return the model, after loading it and creating the index if necessary.

        Raises:
            CheckpointError: the model can't be found or loaded, or a new index needs its contract, which is invalid.
            ValueError: the model isn't the index's.
        """
        if self._pipeline is not None and self.info is not None:
            return self._pipeline
        pipeline = self._pipeline or as_pipeline(self._model_to_load(), **self._loading)
        described = self._describe(pipeline)
        if self.info is None:
            self.create(described, pipeline.model.config.projection_dim)
        assert self.info is not None
        self._check_weights(self.info, described)
        self._pipeline = pipeline
        return pipeline

    def release_model(self) -> None:
        """Release the loaded model, for a process that only commits: the model is loaded again when it is needed."""
        self._pipeline = None

    def described(self) -> tuple[VideoPipeline, IndexInfo]:
        """Return the model and the description of the index, or of the one that would be created with it.

        Raises:
            Exception: see `pipeline`.
        """
        self._pipeline = self._pipeline or as_pipeline(self._model_to_load(), **self._loading)
        own = self._describe(self._pipeline)
        if self.info is not None:
            self._check_weights(self.info, own)
        return self._pipeline, self.info or own

    def check_model(self) -> None:
        """Check that a given model is the index's, even if nothing needs to be encoded. Raises as `pipeline` does."""
        if self._model is not None and self.refresh():
            self.pipeline()

    def info_for_import(self, exported: IndexInfo) -> IndexInfo:
        """Return the description that exported windows must fit: the description of the index or of a new one.

        Args:
            exported: description of the index that the windows come from.

        Raises:
            CheckpointError: the given model can't be found or loaded.
            ValueError: the windows weren't made with the given model.
        """
        info = self.refresh()
        if info is not None:
            return info
        info = replace(exported, **self._settings)
        if self._model is not None:
            self._pipeline = as_pipeline(self._model, **self._loading)
            described = self._describe(self._pipeline)
            self._check_weights(info, described)
            info = replace(info, model=described.model)
        return info

    def create(self, info: IndexInfo, width: int) -> None:
        """Create the index; see `Store.create`."""
        self.store.create(replace(info, openxclip=__version__), width)
        self.require()

    def _model_to_load(self) -> str | Path | VideoPipeline:
        if self._model is not None:
            return self._model
        model = self.info.model if self.info else DEFAULT_MODEL
        if model is None:
            raise ValueError(f"{self.store.uri}: the index's model was never saved to a file: give it as model=.")
        return model

    def _describe(self, pipeline: VideoPipeline) -> IndexInfo:
        """Return the description of a new index with this model."""
        name = pipeline.name
        is_unchanged = not isinstance(self._model, VideoPipeline)  # the caller may have changed a loaded model
        names = ("window", "stride", "num_frames")
        contract = pipeline.contract if self.info is None else TimeContract()  # an existing index keeps its windows
        given = contract.windows(**{name: self._settings.get(name) for name in names})
        window = _WINDOW_S if given.window is None else given.window
        return IndexInfo(
            model=str(Path(name).resolve()) if name is not None and Path(name).is_dir() else name,
            weights=fingerprint_by_name(pipeline.model, name) if is_unchanged and name else fingerprint(pipeline.model),
            transforms=pipeline.processor.image_processor.to_dict(),
            num_frames=given.num_frames or pipeline.model.config.vision_config.num_frames,
            window=float(window),  # 1 and 1.0 must give the same ids
            stride=float(window if given.stride is None else given.stride),
            sampling=self._settings.get("sampling", "time"),
            patches=self._settings.get("patches", True),
            decode=self._settings.get("decode", "all"),
        )

    def _check_settings(self, info: IndexInfo) -> None:
        for name, value in self._settings.items():
            own = getattr(info, name)
            if own != value:
                raise ValueError(
                    f"{name}={value}: the index {self.store.uri} was made with {name}={own}; leave it out."
                )

    def _check_weights(self, info: IndexInfo, described: IndexInfo) -> None:
        if info.weights != described.weights:
            raise ValueError(
                f"the index {self.store.uri} was made with the model {info.model}; "
                f"{described.model or 'the given model'} has other weights: features of two models can't be compared."
            )
