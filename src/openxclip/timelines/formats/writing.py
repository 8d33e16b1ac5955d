"""Write timelines in the format that a name's ending, or the user, chooses."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from openxclip.common.files import atomic_file, checked_target
from openxclip.timelines.formats.chapters import format_chapters
from openxclip.timelines.formats.edl import format_edl
from openxclip.timelines.formats.fcpxml import format_fcpxml
from openxclip.timelines.formats.otio import format_otio
from openxclip.timelines.formats.subtitles import format_srt, format_webvtt
from openxclip.timelines.formats.tasks import format_fiftyone, format_label_studio, format_qvhighlights
from openxclip.timelines.formats.texts import one_line, stem_of
from openxclip.timelines.results import TimelineData

#: Stands for a video's name without its suffix in the name of a file: one file for each video.
STEM = "{stem}"


@dataclass(frozen=True, kw_only=True)
class _Format:
    """A format.

    Attributes:
        suffix: the ending of its files.
        format: returns timelines as text, and adds notes about what was lost or assumed to a list.
        is_for_many: whether a file holds several videos.
        other: another ending, which chooses the format only together with its name.
    """

    suffix: str
    format: Callable[[Sequence[TimelineData], list[str]], str]
    is_for_many: bool = False
    other: str = ""


_FORMATS = {
    "webvtt": _Format(suffix=".vtt", format=format_webvtt),
    "srt": _Format(suffix=".srt", format=format_srt),
    "edl": _Format(suffix=".edl", format=format_edl),
    "otio": _Format(suffix=".otio", format=format_otio, is_for_many=True),
    "fcpxml": _Format(suffix=".fcpxml", format=format_fcpxml, is_for_many=True, other=".xml"),
    "ffmetadata": _Format(suffix=".ffmetadata", format=format_chapters, other=".txt"),
    "qvhighlights": _Format(suffix=".jsonl", format=format_qvhighlights, is_for_many=True),
    "label-studio": _Format(suffix=".json", format=format_label_studio, is_for_many=True),
    "fiftyone": _Format(suffix=".json", format=format_fiftyone, is_for_many=True),
}

#: The names of the formats.
FORMATS = tuple(_FORMATS)


class TimelineWriter:
    """Writes timelines to one file, or, if its name contains `{stem}`, to one file for each video.

    A file appears when it is complete: with `{stem}` at once, otherwise in `finish`. Nothing is written for a video
    that could not be read.

    Args:
        path: name of the file.
        format: one of `FORMATS`. By default, the name's ending decides.
        num_videos: how many videos are to come, if that is known.

    Raises:
        ValueError: see `check_target`.
    """

    def __init__(self, path: str | Path, *, format: str | None = None, num_videos: int | None = None) -> None:
        self.path = str(path)
        self.format = check_target(path, format=format, num_videos=num_videos)
        self.written: list[Path] = []
        self._held: list[TimelineData] = []
        self._has_unread = False

    def add(self, timeline: TimelineData) -> list[str]:
        """Take a timeline, and write it if it has a file for itself; return notes about what was lost or assumed.

        Raises:
            ValueError: the format holds one video, and this is the second; or the file can't be written.
            OSError: the file can't be written.
        """
        if _is_unread(timeline):
            self._has_unread = True
            return [f"{timeline.path}: left out of {self.path}, because it could not be read."]
        if STEM in self.path:
            return self._write(stem_target(self.path, timeline, taken=self.written), [timeline])
        if self._held and not _FORMATS[self.format].is_for_many:
            raise ValueError(_one_video(self.path, self.format))
        self._held.append(timeline)
        return []

    def finish(self) -> list[str]:
        """Write the file of all timelines, and return notes about what was lost or assumed.

        Raises:
            ValueError, OSError: the file can't be written.
        """
        if STEM in self.path:
            return []
        if not self._held:
            reason = "could be read" if self._has_unread else "was done"
            return [f"{self.path} was not written, because no video {reason}."]
        held, self._held = self._held, []
        return self._write(self.path, held)

    def _write(self, path: str | Path, timelines: list[TimelineData]) -> list[str]:
        target = checked_target(path)
        text, notes = format_timelines(timelines, self.format)
        with atomic_file(target) as partial:
            partial.write_text(text, encoding="utf-8", newline="\n")
        self.written.append(target)
        cut_off = (timeline for timeline in timelines if timeline.error is not None)
        return notes + [
            f"{timeline.path}: {path} has its segments up to where it could be read." for timeline in cut_off
        ]


def write_timelines(timelines: Iterable[TimelineData], path: str | Path, *, format: str | None = None) -> list[str]:
    """Write timelines to a file and return notes, in sentences for the user, about what was lost or assumed.

    Args:
        timelines: the timelines of one or more videos. One that could not be read is left out, with a note.
        path: name of the file. `{stem}` in it stands for the name of a video, with a file for each.
        format: one of `FORMATS`. By default, the name's ending decides.

    Raises:
        ValueError: see `check_target`; or the format holds one video, and there are more.
        OSError: the file can't be written.
    """
    timelines = list(timelines)
    writer = TimelineWriter(path, format=format, num_videos=sum(1 for one in timelines if not _is_unread(one)))
    notes = [note for timeline in timelines for note in writer.add(timeline)]
    return list(dict.fromkeys(notes + writer.finish()))


def format_timelines(timelines: Sequence[TimelineData], format: str) -> tuple[str, list[str]]:
    """Return timelines as the text of a file, and notes about what was lost or assumed.

    Args:
        timelines: the timelines; one if the format holds one video.
        format: one of `FORMATS`.

    Raises:
        ValueError: there is no such format, or it holds one video, and there are more or none.
    """
    chosen = _FORMATS[_check_name(format)]
    if not chosen.is_for_many and len(timelines) != 1:
        raise ValueError(f"{format} holds one video, but there are {len(timelines)}.")
    notes: list[str] = []
    return chosen.format(timelines, notes), list(dict.fromkeys(notes))


def check_target(path: str | Path, *, format: str | None = None, num_videos: int | None = None) -> str:
    """Return the format of a file to write, after checking that it can be written.

    Args:
        path: name of the file, which may contain `{stem}`.
        format: one of `FORMATS`. By default, the name's ending decides.
        num_videos: how many videos are to be written, if that is known.

    Raises:
        ValueError: no format has this ending, or several do; the format has another ending, or holds one video, and
            there are more; or the file can't be written.
    """
    name = _check_name(format) if format is not None else _infer(path)
    chosen = _FORMATS[name]
    endings = [ending for ending in (chosen.suffix, chosen.other) if ending]
    if STEM not in str(path):
        if num_videos is not None and num_videos > 1 and not chosen.is_for_many:
            raise ValueError(_one_video(str(path), name))
        checked_target(path, *endings)
    else:
        check_stem_target(path, *endings)
    return name


def check_stem_target(path: str | Path, *endings: str) -> None:
    """Check that files with `{stem}` in their names can be written.

    Args:
        path: name of the files.
        endings: the endings that it may have.

    Raises:
        ValueError: `{stem}` is in the name of a folder, the ending is another one, or the files can't be written.
    """
    if STEM in str(Path(path).parent):
        raise ValueError(f"{path}: {STEM} can't be in the name of a folder, only in the name of the file.")
    checked_target(str(path).replace(STEM, "stem"), *endings)


def stem_target(path: str, timeline: TimelineData, *, taken: Container[Path]) -> Path:
    """Return the file of a video: `path` with the video's name in place of `{stem}`.

    Args:
        path: name of the files.
        timeline: the timeline of the video.
        taken: files of earlier videos; if one has the same name, a number is added.

    Raises:
        ValueError: the file can't be written.
    """
    stem, number = one_line(stem_of(timeline.path)), 1
    target = checked_target(path.replace(STEM, stem))
    while target in taken:
        number += 1
        target = checked_target(path.replace(STEM, f"{stem}-{number}"))
    return target


def split_format(text: str) -> tuple[str | None, str]:
    """Return the name of a format and a path: `label-studio:tasks.json` has both, `out.vtt` only a path.

    Examples:
        >>> split_format("label-studio:tasks.json")
        ('label-studio', 'tasks.json')
        >>> split_format("out.vtt")
        (None, 'out.vtt')
    """
    name, colon, path = text.partition(":")
    return (name, path) if colon and name in _FORMATS else (None, text)


def _infer(path: str | Path) -> str:
    suffix = Path(path).suffix.lower()
    names = [name for name, known in _FORMATS.items() if known.suffix == suffix]
    if len(names) == 1:
        return names[0]
    if names:
        raise ValueError(f"{path}: {suffix} can be {' or '.join(names)}: name the format.")
    endings = ", ".join(f"{known.suffix} ({name})" for name, known in _FORMATS.items())
    raise ValueError(f"{path}: its name must end with one of these, which choose the format: {endings}.")


def _check_name(format: str) -> str:
    if format not in _FORMATS:
        raise ValueError(f"format={format!r:.60}: must be one of {', '.join(FORMATS)}.")
    return format


def _one_video(path: str, format: str) -> str:
    suffix = _FORMATS[format].suffix
    return f"{path}: {format} holds one video: put {STEM} into the name, such as {STEM}{suffix}, for a file for each."


def _is_unread(timeline: TimelineData) -> bool:
    return timeline.error is not None and not len(timeline.starts)
