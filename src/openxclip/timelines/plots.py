"""Draw a timeline as a picture: thumbnails, the scores of each label and its segments, on a common time axis."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from openxclip.common.figures import new_figure
from openxclip.common.files import atomic_file, checked_target
from openxclip.common.times import format_time
from openxclip.errors import VideoError
from openxclip.timelines import drawing
from openxclip.timelines.reading import options_for, read_thumbnails
from openxclip.timelines.results import TimelineData
from openxclip.video import ReadOptions, VideoSource

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SUFFIXES = (".png", ".svg")
_WIDTH, _LEFT, _RIGHT = 11.0, 2.35, 0.35  # inches: the figure, the column of labels, the margin
_INCHES = _WIDTH - _LEFT - _RIGHT  # of the time axis
_TOP, _BOTTOM, _GAP = 0.5, 0.45, 0.09
_DPI = 150
_MAX_LABELS = 50
_MAX_POINTS = 24_000  # of all curves together, so that an SVG stays below 1 MB
_MAX_THUMBNAILS, _STRIP_INCHES, _MAX_STRIP_INCHES = 12, 0.62, 1.1  # number; wanted and largest height
_LABEL_WIDTH = 26  # narrow characters


@dataclass(frozen=True)
class _Strip:
    """Frames of the video on the time axis.

    Attributes:
        times: when each frame is shown, in seconds.
        frames: uint8 RGB (H, W, 3).
        slots: number of frames that the whole time axis has room for.
    """

    times: Sequence[float]
    frames: Sequence[NDArray[np.uint8]]
    slots: int

    @property
    def aspect(self) -> float:
        """Width of a frame divided by its height."""
        height, width = self.frames[0].shape[:2]
        return float(width / height)

    @property
    def inches(self) -> float:
        """Height of the row."""
        return min(_MAX_STRIP_INCHES, 0.97 * _INCHES / self.slots / self.aspect)


@dataclass(frozen=True)
class _Rows:
    """Where the rows of a picture are, in inches."""

    thumbnails: float
    cuts: float
    label: float
    num_labels: int
    footer: float

    @property
    def height(self) -> float:
        above = sum(row + _GAP for row in (self.thumbnails, self.cuts) if row)
        return _TOP + above + self.num_labels * (self.label + _GAP) + _BOTTOM + self.footer


def plot_timeline(
    timeline: TimelineData,
    path: str | Path,
    *,
    video: VideoSource | None = None,
    read: ReadOptions | None = None,
    thumbnails: bool = True,
    dark: bool = False,
) -> Path:
    """Draw a timeline as PNG or SVG, by the suffix of the file's name.

    From top to bottom: frames of the video, each of them the one shown at the time below its middle; the cuts, if they
    were looked for; and a row for each label with the curve of its scores, its threshold as a dashed line, and its
    segments in orange. A part of the video that wasn't read is hatched. The curve of a video with very many windows
    shows the highest score in each column of pixels, so that no peak is lost. Of more than 50 labels, those with the
    highest scores are drawn, and the picture says so.

    Args:
        timeline: the timeline.
        path: the file, which is written atomically. Its name ends with .png or .svg.
        video: the video; default is the file `timeline.path`. If it can't be read, there are no thumbnails, and a
            warning says why.
        read: how to open the video; default is `ReadOptions()`.
        thumbnails: whether to draw frames of the video.
        dark: whether to draw bright lines on a dark ground.

    Returns:
        The path.

    Raises:
        MissingPackageError: matplotlib isn't installed.
        ValueError: the name ends with another suffix, or no file can be written there; or the timeline has no label.
        OSError: the file can't be written.
    """
    target = checked_target(path, *_SUFFIXES)
    if not timeline.labels:
        raise ValueError(f"{timeline.path}: the timeline has no label, so there is nothing to draw.")
    figure = new_figure(_WIDTH, 1.0, layout=None)  # first, because it needs a package
    notes: list[str] = []
    end = _end_of(timeline)
    strip: _Strip | None = None
    if thumbnails:
        try:
            strip = _read_strip(timeline, timeline.path if video is None else video, read, end)
        except VideoError as error:
            notes.append(f"the picture has no frames of the video: {error}")
    shown = _shown_labels(timeline)
    is_svg = target.suffix.lower() == ".svg"
    _draw(figure, timeline, shown, strip, end, drawing.DARK if dark else drawing.LIGHT)
    names, missing = drawing.fonts_for(
        drawing.printable(" ".join([timeline.path, *(timeline.labels[k] for k in shown)]))
    )
    if missing and not is_svg:  # an SVG holds text, for which its viewer chooses fonts
        notes.append(
            f"this machine has no font for {len(missing)} of the characters in the picture ({missing[:8]}): they are "
            "drawn as boxes. Install a font that has them, such as Noto Sans CJK, or write an SVG."
        )
    for text in figure.findobj(match=_is_text):
        text.set_fontfamily(names)  # type: ignore[attr-defined]
    _save(figure, target, is_svg=is_svg)
    for note in notes:
        warnings.warn(note, UserWarning, stacklevel=2)
    return target


def _is_text(artist: Any) -> bool:
    return hasattr(artist, "set_fontfamily")


def _end_of(timeline: TimelineData) -> float:
    """Return the end of the time axis in seconds."""
    known = [timeline.duration, *timeline.ends[-1:].tolist(), *(segment.end for segment in timeline.segments)]
    return max((seconds for seconds in known if math.isfinite(seconds) and seconds > 0), default=1.0)


def _read_strip(timeline: TimelineData, video: VideoSource, read: ReadOptions | None, end: float) -> _Strip | None:
    """Read the frames at the middles of equal parts of the time axis, as many as fit."""
    width, height = timeline.size if all(timeline.size) else (16, 9)
    slots = min(_MAX_THUMBNAILS, max(1, round(_INCHES / (_STRIP_INCHES * width / height))))
    until = float(timeline.ends[-1]) if timeline.error is not None and len(timeline.ends) else end
    times = [(number + 0.5) * end / slots for number in range(slots)]
    times = [time for time in times if time < until]
    frames = read_thumbnails(video, times, side=round(_INCHES / slots * _DPI), read=options_for(timeline, read))
    return _Strip(times, frames, slots) if frames else None


def _shown_labels(timeline: TimelineData) -> Sequence[int]:
    """Return the numbers of the labels to draw, in their order."""
    count = len(timeline.labels)
    if count <= _MAX_LABELS or not len(timeline.scores):
        return range(min(count, _MAX_LABELS))
    highest_K = np.fmax.reduce(timeline.scores, axis=0)
    return sorted(np.argsort(-np.nan_to_num(highest_K, nan=-1.0), kind="stable")[:_MAX_LABELS].tolist())


def _draw(
    figure: Figure,
    timeline: TimelineData,
    shown: Sequence[int],
    strip: _Strip | None,
    end: float,
    colours: drawing.Colours,
) -> None:
    footer = _footer(timeline, len(shown))
    height = 1.5 if len(shown) == 1 else max(0.42, min(1.0, 6.5 / len(shown)))
    rows = _Rows(
        thumbnails=0.0 if strip is None else strip.inches,
        cuts=0.0 if timeline.cuts is None else 0.16,
        label=height,
        num_labels=len(shown),
        footer=0.24 * len(footer),
    )
    figure.set_size_inches(_WIDTH, rows.height)
    figure.set_facecolor(colours.background)
    top = rows.height - _TOP
    _write_title(figure, timeline, rows, colours)

    def new_row(row: float) -> Axes:
        nonlocal top
        top -= row
        box = (_LEFT / _WIDTH, top / rows.height, _INCHES / _WIDTH, row / rows.height)
        axes = figure.add_axes(box, xlim=(0, end))
        axes.set_facecolor(colours.panel)
        axes.set_axisbelow(True)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, labelbottom=False, colors=colours.faint_text, labelsize=7)
        top -= _GAP
        return axes

    if strip is not None:
        _draw_strip(new_row(rows.thumbnails), strip, end)
    ticks = drawing.time_ticks(end, most=11)
    if timeline.cuts is not None:
        axes = new_row(rows.cuts)
        axes.set(yticks=[], ylim=(0, 1), xticks=[])
        cuts = drawing.distinct_columns(np.asarray(timeline.cuts, dtype=np.float64), end=end, most=1500)
        axes.vlines(cuts, 0.1, 0.9, color=colours.cut, linewidth=0.8)
        _write_label(axes, f"{len(timeline.cuts)} cut{'' if len(timeline.cuts) == 1 else 's'}", colours, is_faint=True)
    most = max(200, min(1250, _MAX_POINTS // len(shown)))
    for number in shown:
        axes = new_row(rows.label)
        axes.set_xticks(ticks)
        axes.grid(axis="x", color=colours.grid, linewidth=0.6)
        _draw_label(axes, timeline, number, end, most, colours)
        lines = 1 if rows.label < 0.5 else 2 if rows.label < 0.9 else 3
        _write_label(axes, drawing.wrapped(timeline.labels[number], width=_LABEL_WIDTH, lines=lines), colours)
        if rows.label >= 0.5:
            axes.set_yticks([0, 1], ["0", "1"])
        else:
            axes.set_yticks([])
    axes.tick_params(axis="x", length=3, labelbottom=True, labelsize=8, color=colours.faint_text)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else end
    axes.set_xticks(ticks, [drawing.tick_text(tick, step=step) for tick in ticks])
    for number, text in enumerate(footer):
        y = (rows.footer - 0.24 * number + 0.05) / rows.height
        figure.text(_LEFT / _WIDTH, y, text, color=colours.faint_text, fontsize=8, va="center", parse_math=False)


def _footer(timeline: TimelineData, num_shown: int) -> list[str]:
    """Return what the picture leaves out."""
    lines = []
    if timeline.error is not None:
        lines.append(drawing.wrapped(f"Not read to its end: {timeline.error.reason}", width=120, lines=1))
    if num_shown < len(timeline.labels):
        lines.append(f"{num_shown} of {len(timeline.labels)} labels are drawn: those with the highest scores.")
    num_lost = int(np.isnan(timeline.scores).any(axis=1).sum())
    if num_lost:
        lines.append(f"{num_lost} of {len(timeline.scores)} windows have a label without a score: the curve has a gap.")
    if not len(timeline.scores):
        lines.append("There are no windows, so there are no scores.")
    return lines


def _write_title(figure: Figure, timeline: TimelineData, rows: _Rows, colours: drawing.Colours) -> None:
    name = drawing.wrapped(Path(timeline.path).name or timeline.path, width=80, lines=1)
    y = 1 - 0.27 / rows.height
    style: dict[str, Any] = {"va": "center", "parse_math": False}
    figure.text(0.15 / _WIDTH, y, name, color=colours.text, fontsize=11, fontweight="bold", **style)
    length = f"{format_time(timeline.duration)} long, " if math.isfinite(timeline.duration) else ""
    count = len(timeline.segments)
    text = f"{length}{count} segment{'' if count == 1 else 's'}"
    figure.text(1 - _RIGHT / _WIDTH, y, text, color=colours.faint_text, fontsize=9, ha="right", **style)


def _write_label(axes: Axes, text: str, colours: drawing.Colours, *, is_faint: bool = False) -> None:
    axes.annotate(
        text,
        xy=(0, 0.5),
        xycoords="axes fraction",
        xytext=((0.15 - _LEFT) * 72, 0),  # points
        textcoords="offset points",
        va="center",
        color=colours.faint_text if is_faint else colours.text,
        fontsize=8 if is_faint else 9,
        parse_math=False,
    )


def _draw_strip(axes: Axes, strip: _Strip, end: float) -> None:
    """Draw each frame around its time."""
    half = strip.inches * strip.aspect / _INCHES * end / 2
    for time, frame in zip(strip.times, strip.frames, strict=True):
        # an SVG then holds the frame as it is
        axes.imshow(frame, extent=(time - half, time + half, 0, 1), aspect="auto", interpolation="none")
    axes.set(xlim=(0, end), ylim=(0, 1), xticks=[], yticks=[])
    axes.patch.set_visible(False)


def _draw_label(
    axes: Axes, timeline: TimelineData, number: int, end: float, most: int, colours: drawing.Colours
) -> None:
    """Draw the curve, the threshold and the segments of a label."""
    label = timeline.labels[number]
    axes.set_ylim(0, 1.04)
    segments = [(segment.start, segment.duration) for segment in timeline.segments_of(label)]
    shortest = 2 * end / (_DPI * _INCHES)  # two pixels
    spans = [(start, max(length, shortest)) for start, length in segments]
    axes.broken_barh(spans, (0, 1.04), color=colours.segment, alpha=0.25, linewidth=0)
    times, scores = drawing.curve(timeline.starts, timeline.ends, timeline.scores[:, number], end=end, most=most)
    axes.plot(times, scores, color=colours.curve, linewidth=1.2, solid_joinstyle="round")
    axes.broken_barh(spans, (0, 0.09), color=colours.segment, linewidth=0)
    threshold = timeline.thresholds.get(label)
    if threshold is not None and math.isfinite(threshold):
        axes.axhline(threshold, color=colours.faint_text, linewidth=0.7, linestyle=(0, (4, 3)))
    read_until = float(timeline.ends[-1]) if len(timeline.ends) else 0.0
    if (timeline.error is not None or not len(timeline.ends)) and read_until < end:
        axes.axvspan(read_until, end, facecolor="none", edgecolor=colours.unread, hatch="////", linewidth=0)
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8, "color": colours.text}
        axes.text((read_until + end) / 2, 0.5, "not read", **style, bbox={"fc": colours.panel, "ec": "none", "pad": 2})


def _save(figure: Figure, target: Path, *, is_svg: bool) -> None:
    from matplotlib import rc_context

    # text stays text, so that its viewer finds fonts for it; the same picture gives the same bytes
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "openxclip", "hatch.linewidth": 0.6}
    with rc_context(settings), atomic_file(target) as partial, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        if is_svg:
            figure.savefig(partial, format="svg", metadata={"Date": None, "Creator": None})
        else:
            figure.savefig(partial, format="png", dpi=_DPI, metadata={"Software": None})
