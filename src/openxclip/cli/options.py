"""Options that several verbs share, and functions that find the videos named by the arguments."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from openxclip.cli.help import Context
from openxclip.cli.names import names_from
from openxclip.cli.terminal import QUIET, note, printable, say
from openxclip.common.files import target_path
from openxclip.common.sizes import parse_bytes
from openxclip.common.times import format_time, parse_time
from openxclip.hub import DEFAULT_MODEL
from openxclip.video import DEFAULT_LIMITS, Limits, ReadOptions

if TYPE_CHECKING:
    from openxclip.video import VideoSource
    from openxclip.video.finding import LeftOut

Command = TypeVar("Command", bound=Callable[..., Any])

_HIDDEN, _VERBOSE, _LEFT_OUT = "openxclip.hidden", "openxclip.verbose", "openxclip.left_out"  # keys in click's meta


class _Bytes(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return value if isinstance(value, int) else parse_bytes(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Names(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    name = "NAMES"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(name.strip() for name in value.split(",") if name.strip())
        if not all(name.isascii() and name.isalnum() for name in names):
            self.fail(f"{value!r}: must be names of FFmpeg protocols, separated by commas: https,tls,tcp", param, ctx)
        return names


class _BatchSize(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    name = "auto|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "auto" or isinstance(value, int):
            return value
        if not (value.isascii() and value.isdecimal() and int(value) >= 1):
            self.fail(f"{value!r}: must be a number of clips, 1 or more, or auto", param, ctx)
        return int(value)


class Time(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A time or duration in seconds (83.5) or in the form that tables show (1:23.5).

    Args:
        above: exclusive lower bound in seconds.
        minimum, maximum: inclusive bounds in seconds.
    """

    name = "TIME"

    def __init__(self, *, above: float = -1.0, minimum: float = 0.0, maximum: float = math.inf) -> None:
        self.above, self.minimum, self.maximum = above, minimum, maximum

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds, or fail with click's error."""
        try:
            seconds = float(value) if isinstance(value, int | float) else parse_time(value)
        except ValueError as error:
            self.fail(printable(str(error)), param, ctx)
        if seconds <= self.above:
            self.fail(f"{value!r}: must be more than {self.above:g} seconds.", param, ctx)
        if not self.minimum <= seconds <= self.maximum:
            maximum = "" if self.maximum == math.inf else f", and at most {format_time(self.maximum)}"
            self.fail(f"{value!r}: must be {self.minimum:g} seconds or more{maximum}.", param, ctx)
        return seconds


class Target(click.Path):
    """The path of an output file or folder. A leading `~` is expanded, and impossible names are refused.

    Args:
        file_okay, dir_okay: whether an existing file, or an existing folder, is allowed.
    """

    def __init__(self, *, file_okay: bool = True, dir_okay: bool = True) -> None:
        super().__init__(file_okay=file_okay, dir_okay=dir_okay, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or fail with click's error."""
        try:
            return super().convert(target_path(value), param, ctx)
        except ValueError as error:
            self.fail(printable(str(error)), param, ctx)


batch_option = click.option(
    "--batch",
    type=_BatchSize(),
    default="auto",
    show_default=True,
    help="Clips per call of the model, even from several videos; auto uses the GPU's memory, and is 1 on a CPU.",
)

_LIMITS = (
    click.option(
        "--max-seconds",
        type=Time(above=0),
        metavar="TIME",
        default=DEFAULT_LIMITS.seconds,
        show_default=True,
        help="Maximum time for reading one video.",
    ),
    click.option(
        "--max-pixels",
        type=click.IntRange(1),
        default=DEFAULT_LIMITS.pixels,
        show_default=True,
        help="Maximum number of pixels of a frame.",
    ),
    click.option(
        "--max-frames",
        type=click.IntRange(1),
        default=DEFAULT_LIMITS.frames,
        show_default=True,
        help="Maximum number of frames of a video.",
    ),
    click.option(
        "--max-memory",
        type=_Bytes(),
        default=DEFAULT_LIMITS.memory,
        show_default="8GiB",
        help="Maximum memory for the frames of one video, or for the data of a pipe: 2GB, 512MiB.",
    ),
)
_protocols = click.option(
    "--allow-protocols",
    type=_Names(),
    default=(),
    help="Open URLs and playlists, with these protocols only: https,tls,tcp; add file for playlists that name files. "
    "The author of a playlist can then make this machine open anything that these protocols reach.",
)


def limit_options(command: Command) -> Command:
    """Add the options that limit the cost of reading a video; `read_options` takes them from the arguments."""
    for option in reversed(_LIMITS):
        command = option(command)
    return command


fps_option = click.option(
    "--fps",
    type=click.FloatRange(0, min_open=True),
    metavar="RATE",
    help="Frames per second of folders of images and .npy arrays, which have no timestamps.  [default: 25]",
)
_track = click.option(
    "--track",
    type=click.IntRange(0),
    metavar="N",
    help="The video track of each file to read, counted from 0.  [default: the one that players show]",
)


sampling_option = click.option(
    "--sampling",
    type=click.Choice(["time", "frames"]),
    default="time",
    show_default=True,
    help="Choose evenly spaced frames by time, or by number as the authors do; it matters if the frame rate varies.",
)


def footage_options(command: Command) -> Command:
    """Add the options for limits, protocols, track and frame rate of videos."""
    return _track(fps_option(limit_options(_protocols(command))))


def finding_options(command: Command) -> Command:
    """Add the options for searching folders; `search` reads them."""

    def flag(name: str, key: str, text: str) -> Callable[[Command], Command]:
        def keep(context: click.Context, _: click.Parameter, value: bool) -> None:
            context.meta[key] = value

        return click.option(name, is_flag=True, expose_value=False, callback=keep, help=text)

    text = "Include hidden files and folders: .name, __MACOSX, @eaDir and similar."
    hidden = flag("--hidden", _HIDDEN, text)
    verbose = flag("--verbose", _VERBOSE, "Name every file that is left out.")
    return hidden(verbose(command))


hidden_option = click.option(
    "--hidden", is_flag=True, help="Include hidden files and folders: .name, __MACOSX, @eaDir; short for hidden=true."
)


def with_hidden(changes: tuple[str, ...], hidden: bool) -> tuple[str, ...]:
    """Add `hidden=true` to the changes of a recipe if the user passed --hidden."""
    return (*changes, "hidden=true") if hidden else changes


index_option = click.option(
    "--in", "uri", required=True, metavar="DIR", envvar="OPENXCLIP_INDEX", show_envvar=True, help="The index."
)

where_option = click.option(
    "--where",
    metavar="CONDITION",
    help="SQL on path, start, end, duration, size, modified: \"duration < 60 and path like '%cam2%'\".",
)


precision_option = click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="Precision of the model; auto is fp32 on a CPU and fp16 on a GPU.",
)


def heads_options(command: Command) -> Command:
    """Add the options for the attention heads of a CLIP's towers."""
    for tower in ("text", "vision"):
        text = f"Attention heads of the {tower} tower, if its width doesn't determine them."
        command = click.option(f"--{tower}-heads", type=click.IntRange(1), help=text)(command)
    return command


def renamed_option(old: str, new: str) -> Callable[[Command], Command]:
    """Add the old name of an option, hidden. Using it is an error that names the new option."""

    def refuse(context: click.Context, parameter: click.Parameter, value: object) -> None:
        if value is not None:
            raise click.UsageError(f"{old} is called {new} now.", context)

    return click.option(old, hidden=True, expose_value=False, callback=refuse)


def read_options(arguments: dict[str, Any]) -> ReadOptions:
    """Pop the options for reading videos from the arguments of a command."""
    limits = {name: arguments.pop(f"max_{name}") for name in ("seconds", "pixels", "frames", "memory")}
    others = {name: arguments.pop(name) for name in ("allow_protocols", "fps", "track") if name in arguments}
    return ReadOptions(limits=Limits(**limits), **others)


def named_videos(videos: tuple[str, ...], *, takes_pipes: bool = True) -> Iterator[str]:
    """Yield the names of videos, and the names on standard input for "-".

    Args:
        videos: the arguments of the command.
        takes_pipes: whether the verb also reads a video from /dev/stdin.

    Raises:
        click.UsageError: standard input doesn't hold names.
    """
    for name in videos:
        if name == "-":
            yield from names_from(sys.stdin, takes_pipes=takes_pipes)
        else:
            yield name


def found_videos(videos: tuple[str, ...]) -> list[VideoSource]:
    """Return every video that the arguments name, for a command with `finding_options`.

    Raises:
        click.UsageError: there are no videos.
    """
    from openxclip.video.finding import require_videos

    named = list(named_videos(videos))
    if not named:
        raise click.UsageError("no videos are named.")
    try:
        return require_videos(search(named))
    except ValueError as error:
        raise click.UsageError(printable(str(error))) from error


def search(named: Iterable[str]) -> list[VideoSource]:
    """Call `find_videos` with the command's `finding_options`, and report each left-out file once."""
    from openxclip.video import find_videos, natural_key

    meta = click.get_current_context().meta
    left_out: list[LeftOut] = []
    found = find_videos(named, hidden=meta.get(_HIDDEN, False), on_left_out=left_out.append)
    before: set[LeftOut] = meta.setdefault(_LEFT_OUT, set())
    new = list(dict.fromkeys(file for file in left_out if file not in before))
    before.update(new)
    new.sort(key=lambda file: natural_key(str(file.path)))
    if meta.get(_VERBOSE):
        for file in new:
            say(f"left out {file.path}: {file.reason}")
    elif new:
        note(_count_left_out(new))
    return found


def _count_left_out(left_out: list[LeftOut]) -> str:
    hidden = sum(file.reason == "hidden" for file in left_out)
    others = len(left_out) - hidden
    parts = []
    if others:
        parts.append("1 file that is not a video" if others == 1 else f"{others} files that are not videos")
    if hidden:
        parts.append("1 hidden file or folder" if hidden == 1 else f"{hidden} hidden files and folders")
    includes = ", --hidden includes the hidden ones" if hidden else ""
    return f"left out {' and '.join(parts)}; --verbose names them{includes}."


def note_of_model(model: str) -> None:
    """Print a note about the limits of the included model."""
    if model == "mini":
        note(
            "mini knows only openxclip's rendered playground (emoji that move), not real footage; "
            f"for that, use --model {DEFAULT_MODEL} or another X-CLIP."
        )


def common_to_all(command: click.Command) -> click.Command:
    """Add to a command what every verb has: `--quiet` (see `terminal.is_quiet`), and help that doesn't split words."""

    def keep(context: click.Context, _: click.Parameter, value: bool) -> None:
        context.meta[QUIET] = value

    if command.context_class is not Context:
        text = "Hide progress and notes; warnings and errors are always shown."
        quiet = click.Option(["-q", "--quiet"], is_flag=True, expose_value=False, callback=keep, help=text)
        command.params.append(quiet)
        command.context_class = Context
    return command
