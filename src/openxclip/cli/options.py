"""Options that several verbs share, and functions that find the videos named by the arguments."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click
from click.core import ParameterSource

from openxclip.cli.help import usage_errors
from openxclip.cli.names import names_from
from openxclip.cli.terminal import Command, is_set, kept_flag, note, printable, say
from openxclip.common.files import checked_folder, target_path
from openxclip.common.sizes import parse_bytes
from openxclip.common.times import format_time, parse_time
from openxclip.hub import DEFAULT_MODEL
from openxclip.video import DEFAULT_LIMITS, Limits, ReadOptions

if TYPE_CHECKING:
    from openxclip.video import VideoSource
    from openxclip.video.finding import LeftOut

_LEFT_OUT = "openxclip.left_out"  # key in click's meta


class Bytes(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """An amount of memory in bytes, such as 2GB or 512MiB."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number of bytes, or fail with click's error."""
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


class _Shots(click.Choice):  # type: ignore[type-arg,unused-ignore]
    """How to find cuts; an option without a value takes the next argument, so the error says where to put it."""

    def __init__(self) -> None:
        super().__init__(["sampled", "exact"])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value, or fail with click's error."""
        if value not in self.choices:
            self.fail(f"{value!r}: must be sampled or exact; put --shots without a value after the videos.", param, ctx)
        return value


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


model_option = click.option(
    "--model", default=DEFAULT_MODEL, help="A folder, a hub id, or mini (knows only the rendered playground)."
)
frames_option = click.option(
    "--frames", "num_frames", type=click.IntRange(1), help="Frames of a clip.  [default: as the model was trained]"
)
stride_option = click.option(
    "--stride", type=Time(above=0), help="Time from the start of one window to the next.  [default: the window]"
)
shots_option = click.option(
    "--shots",
    type=_Shots(),
    is_flag=False,
    flag_value="sampled",
    help="Let windows follow the cuts, which are found among the frames that are read anyway, or with exact among all "
    "frames (needs openxclip[timeline]).",
)
sampling_option = click.option(
    "--sampling",
    type=click.Choice(["time", "frames"]),
    default="time",
    help="Choose evenly spaced frames by time, or by number as the authors do; it matters if the frame rate varies.",
)
decode_option = click.option(
    "--decode",
    type=click.Choice(["all", "nonref", "key"]),
    default="all",
    help="Frames to decode: all is exact; nonref leaves out those to which no other refers, key all but key frames. In "
    "their place, windows get the last decoded frame before them.",
)
device_option = click.option("--device", help="cpu, cuda, cuda:1, …  [default: a GPU if there is one]")
batch_option = click.option(
    "--batch",
    type=_BatchSize(),
    default="auto",
    help="Clips per call of the model, even from several videos; auto uses the GPU's memory, and is 1 on a CPU.",
)
fps_option = click.option(
    "--fps",
    type=click.FloatRange(0, min_open=True),
    metavar="RATE",
    help="Frames per second of folders of images and .npy arrays, which have no timestamps.  [default: 25]",
)
index_option = click.option(
    "--in", "uri", required=True, metavar="DIR", envvar="OPENXCLIP_INDEX", show_envvar=True, help="The index."
)
where_option = click.option(
    "--where",
    metavar="CONDITION",
    help="SQL on path, start, end, duration, size, modified: \"duration < 60 and path like '%cam2%'\".",
)
hidden_option = click.option(
    "--hidden", is_flag=True, help="Include hidden files and folders: .name, __MACOSX, @eaDir; short for hidden=true."
)


def all_of(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Return a decorator that adds several options, in this order."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


device_options = all_of(
    device_option,
    click.option(
        "--precision",
        type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
        default="auto",
        help="Precision of the model; auto is fp32 on a CPU and fp16 on a GPU.",
    ),
)
limit_options = all_of(
    click.option(
        "--max-seconds",
        type=Time(above=0),
        default=DEFAULT_LIMITS.seconds,
        help="Maximum time for reading one video.",
    ),
    click.option(
        "--max-pixels",
        type=click.IntRange(1),
        default=DEFAULT_LIMITS.pixels,
        help="Maximum number of pixels of a frame.",
    ),
    click.option(
        "--max-frames",
        type=click.IntRange(1),
        default=DEFAULT_LIMITS.frames,
        help="Maximum number of frames of a video.",
    ),
    click.option(
        "--max-memory",
        type=Bytes(),
        default=DEFAULT_LIMITS.memory,
        show_default="8GiB",
        help="Maximum memory for a video's frames or a pipe's data: 2GB, 512MiB.",
    ),
)
footage_options = all_of(
    click.option(
        "--track",
        type=click.IntRange(0),
        metavar="N",
        help="The video track of each file to read, counted from 0.  [default: the one that players show]",
    ),
    fps_option,
    limit_options,
    click.option(
        "--allow-protocols",
        type=_Names(),
        default=(),
        help="Open URLs and playlists, with these protocols only: https,tls,tcp; add file for playlists that name "
        "files. The author of a playlist can then make this machine open anything that these protocols reach.",
    ),
)
finding_options = all_of(
    kept_flag("--hidden", text="Include hidden files and folders: .name, __MACOSX, @eaDir and similar."),
    kept_flag("--verbose", text="Name every file that is left out."),
)
clip_options = all_of(  # for a CLIP from which an X-CLIP starts
    click.option(
        "--activation",
        "--hidden-act",
        "hidden_act",
        type=click.Choice(["quick_gelu", "gelu"]),
        help="Activation of a CLIP whose file doesn't state it: quick_gelu for OpenAI's weights.",
    ),
    *(
        click.option(
            f"--{tower}-heads",
            type=click.IntRange(1),
            help=f"Attention heads of the {tower} tower, if its width doesn't determine them.",
        )
        for tower in ("vision", "text")
    ),
    click.option("--seed", type=int, default=0, help="Seed of the parts that a CLIP lacks, which start at random."),
)


def read_options(arguments: dict[str, Any]) -> ReadOptions:
    """Pop the options for reading videos from the arguments of a command.

    Raises:
        click.UsageError: a value is out of range.
    """
    limits = {name: arguments.pop(f"max_{name}") for name in ("seconds", "pixels", "frames", "memory")}
    others = {name: arguments.pop(name) for name in ("allow_protocols", "fps", "track", "decode") if name in arguments}
    with usage_errors():
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


def refuse_given(names: Iterable[str], why: str) -> None:
    """Refuse options that were typed but have no use beside others.

    Args:
        names: names of the command's parameters.
        why: the end of the message, after the option.

    Raises:
        click.UsageError: one of them was typed.
    """
    context, refused = click.get_current_context(), set(names)
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in refused and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{parameter.opts[0]} {why}")


def checked_empty_folder(folder: Path, what: str) -> None:
    """Check that a folder can be made or is empty, and can be written.

    Args:
        folder: path of the folder.
        what: the word for what it is for.

    Raises:
        ValueError: it isn't empty, or nothing can be written there.
    """
    checked_folder(folder)
    with suppress(OSError):  # the folder doesn't exist
        if any(folder.iterdir()):
            raise ValueError(f"{folder}: is not empty: choose another folder for {what}.")


def lines_of(file: TextIO | None) -> list[str]:
    """Return the lines of an open text file; none without a file.

    Raises:
        click.UsageError: the file isn't text in UTF-8.
    """
    try:
        return list(file or ())
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{getattr(file, 'name', file)}: is not text in UTF-8 ({error.reason}).") from error


def found_videos(videos: tuple[str, ...]) -> list[VideoSource]:
    """Return every video that the arguments name, for a command with `finding_options`.

    Raises:
        click.UsageError: there are no videos.
    """
    from openxclip.video.finding import require_videos

    named = list(named_videos(videos))
    if not named:
        raise click.UsageError("no videos are named.")
    with usage_errors():
        return require_videos(search(named))


def search(named: Iterable[str]) -> list[VideoSource]:
    """Call `find_videos` with the command's `finding_options`, and report each left-out file once."""
    from openxclip.video import find_videos, natural_key

    left_out: list[LeftOut] = []
    found = find_videos(named, hidden=is_set("hidden"), on_left_out=left_out.append)
    reported: set[LeftOut] = click.get_current_context().meta.setdefault(_LEFT_OUT, set())
    new = [file for file in dict.fromkeys(left_out) if file not in reported]
    new.sort(key=lambda file: natural_key(str(file.path)))
    reported.update(new)
    if is_set("verbose"):
        for file in new:
            say(f"left out {file.path}: {file.reason}")
    elif new:
        note(_count_left_out(new))
    return found


def _count_left_out(left_out: list[LeftOut]) -> str:
    hidden = sum(file.reason == "hidden" for file in left_out)
    linked = sum(file.reason == "a link to a folder" for file in left_out)
    others = len(left_out) - hidden - linked
    parts = []
    if others:
        parts.append("1 file that is not a video" if others == 1 else f"{others} files that are not videos")
    if hidden:
        parts.append("1 hidden file or folder" if hidden == 1 else f"{hidden} hidden files and folders")
    if linked:
        parts.append("1 link to a folder" if linked == 1 else f"{linked} links to folders")
    includes = ", --hidden includes the hidden ones" if hidden else ""
    return f"left out {' and '.join(parts)}; --verbose names them{includes}."


def note_of_model(model: str) -> None:
    """Print a note about the limits of the included model."""
    if model == "mini":
        note(
            "mini knows only openxclip's rendered playground (emoji that move), not real footage; "
            f"for that, use --model {DEFAULT_MODEL} or another X-CLIP."
        )
