"""What functions that compute in the model's process get: the pipeline, the index, and the running task."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from openxclip.errors import MissingPackageError, OpenXCLIPError
from openxclip.pipeline import VideoPipeline
from openxclip.serve.engine.errors import NoIndexError, WrongIndexError
from openxclip.serve.engine.settings import EngineSettings, shown_model
from openxclip.serve.engine.work import Work, current_work

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
        from openxclip.search import VideoIndex  # here, because LanceDB and pyarrow take time to import
        from openxclip.search.opening import OpenIndex

        index: OpenIndex | None = getattr(self._own, "index", None)
        if index is not None and index.refresh():
            return index
        folder = self.settings.index
        try:
            index = OpenIndex(folder, self.pipeline, {}, {})
            if index.info is not None:
                index.check_model()
                self._own.index, self._own.videos = index, VideoIndex(index)
                return index
        except MissingPackageError:
            raise
        except (OpenXCLIPError, ValueError) as error:
            raise WrongIndexError(str(error)) from None
        raise NoIndexError("there is no index yet: add videos to it first.")

    def video_index(self) -> VideoIndex:
        """Return the index to search in; errors as for `open_index`."""
        self.open_index()
        index: VideoIndex = self._own.videos
        return index
