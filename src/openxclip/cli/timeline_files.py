"""The files that `openxclip timeline` writes: timelines in other formats, pictures, and clips."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from openxclip.cli.options import checked_empty_folder
from openxclip.cli.progress import progress
from openxclip.cli.terminal import note, say
from openxclip.common.counting import counted
from openxclip.common.files import cannot_write, target_path
from openxclip.common.times import format_time

if TYPE_CHECKING:
    from openxclip.timelines import SavedClip, Timeline
    from openxclip.video import ReadOptions

_PICTURES = (".png", ".svg")


class Files:
    """Writes each timeline to the files that the options name.

    A file that can't be written is reported and left out from then on; the others are written.

    Args:
        writes: values of --write: a file name, perhaps after the name of a format and a colon.
        plot: value of --plot; None for no picture.
        folder: folder of clips of the segments; None for none.
        num_videos: number of videos.
        read: how to read videos, for the frames in pictures.
        videos: names of the videos, if they are files.

    Attributes:
        has_failed: whether a file could not be written.

    Raises:
        MissingPackageError: a package for pictures isn't installed.
        ValueError: a file or the folder can't be written, the folder isn't empty, two files have the same name, or
            a video that would be read a second time is a pipe.
    """

    def __init__(
        self,
        writes: Iterable[str],
        plot: str | None,
        folder: Path | None,
        *,
        num_videos: int,
        read: ReadOptions | None,
        videos: Sequence[str] = (),
    ) -> None:
        from openxclip.timelines.formats import TimelineWriter, split_format

        self._writers: list[TimelineWriter | _Pictures] = []
        for text in writes:
            form, path = split_format(text)
            self._writers.append(TimelineWriter(path, format=form, num_videos=num_videos))
        if plot is not None:
            self._writers.append(_Pictures(plot, num_videos=num_videos, read=read))
        paths = [os.path.realpath(target_path(writer.path)) for writer in self._writers]
        for number, path in enumerate(paths):
            if path in paths[:number]:
                raise ValueError(f"{self._writers[number].path}: is named twice: give each file its own name.")
        if folder is not None:
            checked_empty_folder(folder, "the clips")
        for option, value in (("--plot", plot), ("--save-clips", folder)):
            if value is not None:
                _refuse_pipes(videos, option)
        self._folder, self._read = folder, read
        self._timelines: list[Timeline] = []  # whose segments are to be cut out
        self.has_failed = False
        self._noted: set[str] = set()

    def add(self, timeline: Timeline) -> None:
        """Take a finished timeline, and write the files that hold only this one."""
        if self._folder is not None:
            self._timelines.append(timeline)
        for writer in [*self._writers]:
            self._try(writer, lambda writer=writer: writer.add(timeline))  # type: ignore[misc]

    def finish(self) -> None:
        """Write the files that hold all timelines."""
        for writer in [*self._writers]:
            self._try(writer, writer.finish)
            for path in writer.written:
                say(f"wrote {path}")

    def save_clips(self) -> None:
        """Cut the segments of all timelines out, if there is a folder for clips."""
        from openxclip.timelines import save_clips

        if self._folder is None:
            return
        count = sum(len(timeline.segments) for timeline in self._timelines)
        with progress("saving clips", count, noun="clip") as display:

            def on_clip(clip: SavedClip) -> None:
                for text in [*([f"encoded, because {clip.reason}"] if clip.was_encoded else []), *clip.notes]:
                    note(f"{clip.path}: {text}")
                if clip.error is not None:
                    self.has_failed = True
                    say(f"no clip of {clip.segment.label!r} at {format_time(clip.segment.start)}: {clip.error}")
                display()

            try:
                clips = save_clips(self._timelines, self._folder, read=self._read, on_clip=on_clip)
            except (OSError, ValueError) as error:
                self.has_failed = True
                say(cannot_write(self._folder, error) if isinstance(error, OSError) else error)
                return
        if not clips:
            say(f"{self._folder}: no clips, because there are no segments.")
            return
        encoded = sum(clip.was_encoded for clip in clips)
        made = sum(clip.path is not None for clip in clips)
        say(f"{self._folder}: {counted(made, 'clip')}, {made - encoded} copied and {encoded} encoded.")

    def _try(self, writer: object, write: Callable[[], list[str]]) -> None:
        try:
            notes = write()
        except (OSError, ValueError) as error:
            self.has_failed = True
            self._writers = [other for other in self._writers if other is not writer]
            path = getattr(writer, "path", "")
            say(cannot_write(path, error) if isinstance(error, OSError) else error)
            return
        for text in notes:
            if text not in self._noted:
                self._noted.add(text)
                note(text)


def _refuse_pipes(videos: Sequence[str], option: str) -> None:
    from openxclip.video.streams import is_pipe

    for name in videos:
        is_readable_once = False
        with suppress(OSError, ValueError):  # there is no such file, which is reported when it is read
            is_readable_once = is_pipe(Path(name))
        if is_readable_once:
            raise ValueError(f"{name}: {option} reads the video again, but a pipe can be read only once: give a file.")


class _Pictures:
    """Draws the picture of one timeline, or of each if the name contains `{stem}`.

    Attributes:
        path: name of the file.
        written: the pictures so far.
    """

    def __init__(self, path: str, *, num_videos: int, read: ReadOptions | None) -> None:
        from openxclip.common.figures import new_figure
        from openxclip.timelines.formats.writing import STEM, check_stem_target

        self.path, self._read = path, read
        self.written: list[Path] = []
        if STEM not in path and num_videos > 1:
            example = f"{STEM}{Path(path).suffix}"
            raise ValueError(f"{path}: a picture shows one video: put {STEM} into the name, such as {example}.")
        check_stem_target(path, *_PICTURES)
        new_figure(1, 1)  # which needs a package

    def add(self, timeline: Timeline) -> list[str]:
        """Draw the picture of a timeline, if its video could be read."""
        from openxclip.timelines.formats.writing import stem_target

        if not len(timeline.starts):
            return [f"{timeline.path}: no picture was drawn, because it could not be read."]
        target = stem_target(self.path, timeline, taken=self.written)
        self.written.append(timeline.plot(target, read=self._read))
        return []

    def finish(self) -> list[str]:
        """Do nothing: each picture is complete."""
        return []
