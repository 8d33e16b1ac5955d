"""What several verbs share: options, and the videos that the arguments name."""

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
from openxclip.common.times import clock, parse_time
from openxclip.hub import DEFAULT_MODEL
from openxclip.video import limits

if TYPE_CHECKING:
    from openxclip.video import VideoSource
    from openxclip.video.finding import LeftOut

Command = TypeVar("Command", bound=Callable[..., Any])

_HIDDEN, _VERBOSE, _LEFT_OUT = "openxclip.hidden", "openxclip.verbose", "openxclip.left_out"  # in click's meta


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
            self.fail(f"{value!r}: must be names of FFmpeg's protocols, separated by commas: https,tls,tcp", param, ctx)
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
    """A time or length in seconds (83.5), or as tables show it (1:23.5).

    Args:
        above: it must be more than this.
        least, most: the shortest and the longest allowed.
    """

    name = "TIME"

    def __init__(self, *, above: float = -1.0, least: float = 0.0, most: float = math.inf) -> None:
        self.above, self.least, self.most = above, least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds, or click's error of a value that can't be."""
        try:
            seconds = float(value) if isinstance(value, int | float) else parse_time(value)
        except ValueError as error:
            self.fail(printable(str(error)), param, ctx)
        if seconds <= self.above:
            self.fail(f"{value!r}: must be more than {self.above:g} seconds.", param, ctx)
        if not self.least <= seconds <= self.most:
            most = "" if self.most == math.inf else f", and at most {clock(self.most)}"
            self.fail(f"{value!r}: must be {self.least:g} seconds or more{most}.", param, ctx)
        return seconds


class Target(click.Path):
    """A file or folder that is to be written: a name that it can have, with the home folder for a leading `~`.

    Args:
        file_okay, dir_okay: whether what is there already may be a file, or a folder.
    """

    def __init__(self, *, file_okay: bool = True, dir_okay: bool = True) -> None:
        super().__init__(file_okay=file_okay, dir_okay=dir_okay, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, or click's error of a value that can't be."""
        try:
            return super().convert(target_path(value), param, ctx)
        except ValueError as error:
            self.fail(printable(str(error)), param, ctx)


batch_option = click.option(
    "--batch",
    type=_BatchSize(),
    default="auto",
    show_default=True,
    help="Clips in one call of the model, of one video or several; auto goes by the GPU's memory, and is 1 on a CPU.",
)

_DEFAULT = limits.DEFAULT_LIMITS

_LIMITS = (
    click.option(
        "--max-seconds",
        type=Time(above=0),
        metavar="TIME",
        default=_DEFAULT.seconds,
        show_default=True,
        help="Time that reading one video may take.",
    ),
    click.option(
        "--max-pixels",
        type=click.IntRange(1),
        default=_DEFAULT.pixels,
        show_default=True,
        help="Pixels that a frame may have.",
    ),
    click.option(
        "--max-frames",
        type=click.IntRange(1),
        default=_DEFAULT.frames,
        show_default=True,
        help="Frames that a video may have.",
    ),
    click.option(
        "--max-memory",
        type=_Bytes(),
        default=_DEFAULT.memory,
        show_default="8GiB",
        help="Memory for the frames asked for of a video, or for what a pipe gives: 2GB, 512MiB.",
    ),
)
_protocols = click.option(
    "--allow-protocols",
    type=_Names(),
    default=(),
    help="Open addresses and playlists, by these protocols alone: https,tls,tcp; add file for playlists that name "
    "files. Whoever wrote a playlist then makes this machine open whatever they reach.",
)


def limit_options(command: Command) -> Command:
    """Add the options of what reading videos may cost; `taken_limits` takes them from the arguments."""
    for option in reversed(_LIMITS):
        command = option(command)
    return command


fps_option = click.option(
    "--fps",
    type=click.FloatRange(0, min_open=True),
    metavar="RATE",
    help="Frames per second of what has no times: folders of images, .npy arrays.  [default: 25, which is a guess]",
)
_track = click.option(
    "--track",
    type=click.IntRange(0),
    metavar="N",
    help="Which video track of each file to read, counted from 0.  [default: the one that players show]",
)


sampling_option = click.option(
    "--sampling",
    type=click.Choice(["time", "frames"]),
    default="time",
    show_default=True,
    help="Where the frame rate varies, choose frames evenly by time, or by counting them, as the authors do.",
)


def footage_options(command: Command) -> Command:
    """Add the options of what reading videos may cost and open, of which track is read, and at which rate."""
    return _track(fps_option(limit_options(_protocols(command))))


def finding_options(command: Command) -> Command:
    """Add the options of how folders are searched for videos; `search` reads them."""

    def flag(name: str, key: str, text: str) -> Callable[[Command], Command]:
        def keep(context: click.Context, _: click.Parameter, value: bool) -> None:
            context.meta[key] = value

        return click.option(name, is_flag=True, expose_value=False, callback=keep, help=text)

    text = "Take hidden files too, and search through hidden folders: .name, __MACOSX, @eaDir and the like."
    hidden = flag("--hidden", _HIDDEN, text)
    verbose = flag("--verbose", _VERBOSE, "Name every file that is left out of a folder.")
    return hidden(verbose(command))


hidden_option = click.option(
    "--hidden", is_flag=True, help="Take hidden files and folders, too: .name, __MACOSX, @eaDir; short for hidden=true."
)


def with_hidden(changes: tuple[str, ...], hidden: bool) -> tuple[str, ...]:
    """The changes of a recipe, with that of `hidden_option`."""
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
    help="What the model computes in; auto is fp32 on a CPU and fp16 on a GPU.",
)


def renamed_option(old: str, new: str) -> Callable[[Command], Command]:
    """Add the old name of an option, hidden; using it is an error that says the new one."""

    def refuse(context: click.Context, parameter: click.Parameter, value: object) -> None:
        if value is not None:
            raise click.UsageError(f"{old} is called {new} now.", context)

    return click.option(old, hidden=True, expose_value=False, callback=refuse)


def taken_limits(arguments: dict[str, Any]) -> limits.Limits:
    """The limits that the options say, taken out of `arguments`."""
    return limits.Limits(**{name: arguments.pop(f"max_{name}") for name in ("seconds", "pixels", "frames", "memory")})


def named_videos(videos: tuple[str, ...], *, takes_pipes: bool = True) -> Iterator[str]:
    """The names given, with those of standard input where one is "-".

    Args:
        videos: as the user gave them.
        takes_pipes: the verb reads videos from /dev/stdin too.

    Raises:
        click.UsageError: standard input holds something else than names.
    """
    for name in videos:
        if name == "-":
            yield from names_from(sys.stdin, takes_pipes=takes_pipes)
        else:
            yield name


def found_videos(videos: tuple[str, ...]) -> list[VideoSource]:
    """Every video that the arguments of a command with `finding_options` name.

    Raises:
        click.UsageError: there is none.
    """
    from openxclip.video.finding import check_found

    named = list(named_videos(videos))
    if not named:
        raise click.UsageError("no videos are named.")
    try:
        return check_found(search(named))
    except ValueError as error:
        raise click.UsageError(printable(str(error))) from error


def search(named: Iterable[str]) -> list[VideoSource]:
    """What `find_videos` finds by the command's `finding_options`; of what it left out, each thing is said once."""
    from openxclip.video import find_videos, natural_key

    meta = click.get_current_context().meta
    left_out: list[LeftOut] = []
    found = find_videos(named, hidden=meta.get(_HIDDEN, False), on_left_out=left_out.append)
    before: set[LeftOut] = meta.setdefault(_LEFT_OUT, set())
    new = list(dict.fromkeys(one for one in left_out if one not in before))
    before.update(new)
    new.sort(key=lambda one: natural_key(str(one.path)))
    if meta.get(_VERBOSE):
        for one in new:
            say(f"left out {one.path}: {one.reason}")
    elif new:
        note(_counted(new))
    return found


def _counted(left_out: list[LeftOut]) -> str:
    hidden = sum(one.reason == "hidden" for one in left_out)
    others = len(left_out) - hidden
    parts = []
    if others:
        parts.append("1 file that is not a video" if others == 1 else f"{others} files that are not videos")
    if hidden:
        parts.append("1 hidden file or folder" if hidden == 1 else f"{hidden} hidden files and folders")
    includes = ", --hidden includes what is hidden" if hidden else ""
    return f"left out {' and '.join(parts)}; --verbose names them{includes}."


def note_of_model(model: str) -> None:
    """Say, after all else, what the shipped model doesn't know."""
    if model == "mini":
        note(
            "mini knows only openxclip's rendered playground (emoji that move), not real footage; "
            f"for that, use --model {DEFAULT_MODEL} or another X-CLIP."
        )


def common_to_all(command: click.Command) -> click.Command:
    """The command with what every verb has: `--quiet` (see `terminal.is_quiet`), and help that cuts no word."""

    def keep(context: click.Context, _: click.Parameter, value: bool) -> None:
        context.meta[QUIET] = value

    if command.context_class is not Context:
        text = "Show no progress and no notes; warnings and errors are shown."
        quiet = click.Option(["-q", "--quiet"], is_flag=True, expose_value=False, callback=keep, help=text)
        command.params.append(quiet)
        command.context_class = Context
    return command
