"""What functions that compute in the model's process get: the pipeline, the index, and the running task."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from openxclip.errors import MissingPackageError, OpenXCLIPError
from openxclip.pipeline import VideoPipeline
from openxclip.serve.engine.errors import NoIndexError, WrongIndexError
from openxclip.serve.engine.settings import EngineSettings, name_of_folder, shown_model
from openxclip.serve.engine.work import Work, current_work, with_names

if TYPE_CHECKING:
    from openxclip.search import VideoIndex
    from openxclip.search.opening import OpenIndex


class ModelContext:
    """What functions in the model's process use.

    Attributes:
        pipeline: the model. Its decoders end when the current task is cancelled.
        name: the model's name for clients.
        settings: settings of the engine.
    """

    def __init__(self, pipeline: VideoPipeline, settings: EngineSettings) -> None:
        self.pipeline, self.settings = pipeline, settings
        self.name = shown_model(settings.model)
        self._own = threading.local()  # an index for each thread

    @property
    def work(self) -> Work:
        """The running task: call `work.check()` or `work.progress(done, total)` often, so that it can be cancelled."""
        work = current_work()
        assert work is not None  # in the thread of a task
        return work

    def open_index(self) -> OpenIndex:
        """Return the open index, with the server's model.

        Raises:
            NoIndexError: there is no index yet.
            WrongIndexError: the index was made with another model, or can't be opened.
            MissingPackageError: LanceDB isn't installed.
        """
        index: OpenIndex | None = getattr(self._own, "index", None)
        if index is not None and index.refresh():
            return index
        folder = self.settings.index
        if not _has_files(folder):
            raise NoIndexError("there is no index yet: add videos to it first.")
        from openxclip.search import VideoIndex  # here, because LanceDB and pyarrow take time to import
        from openxclip.search.opening import OpenIndex

        try:
            index = OpenIndex(folder, self.pipeline, {}, {})
            if index.info is not None:
                index.check_model()
                self._own.index, self._own.videos = index, VideoIndex(index)
                return index
        except MissingPackageError:
            raise
        except (OpenXCLIPError, ValueError) as error:
            made_with = None if index is None or index.info is None else index.info.model
            raise WrongIndexError(with_names(str(error), name_of_folder(made_with))) from None
        raise NoIndexError("there is no index yet: add videos to it first.")

    def problem_of_index(self) -> str | None:
        """Open the index if there is one, which imports LanceDB, so that the first search needn't.

        Returns:
            Why the index can't be searched; None if it can be, or if there is none.
        """
        try:
            self.open_index()
        except (NoIndexError, MissingPackageError):
            return None
        except OpenXCLIPError as error:
            return with_names(str(error), self.settings.hidden)
        return None

    def video_index(self) -> VideoIndex:
        """Return the index to search in; errors as for `open_index`."""
        self.open_index()
        index: VideoIndex = self._own.videos
        return index


def _has_files(folder: Path) -> bool:
    """Return whether a folder is there and has files; also True for what can't be listed, which opening it explains."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except FileNotFoundError:
        return False
    except OSError:
        return True
