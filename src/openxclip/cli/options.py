"""What several verbs share: options of reading videos, names from standard input, a bar of progress."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from openxclip.cli.terminal import printable
from openxclip.files import target_path
from openxclip.video import limits

Command = TypeVar("Command", bound=Callable[..., Any])


class _Bytes(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return value if isinstance(value, int) else limits.parse_bytes(value)
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
        type=click.FloatRange(0, min_open=True),
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


def footage_options(command: Command) -> Command:
    """Add the options of what reading videos may cost and open."""
    return limit_options(_protocols(command))


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


def taken_limits(arguments: dict[str, Any]) -> limits.Limits:
    """The limits that the options say, taken out of `arguments`."""
    return limits.Limits(**{name: arguments.pop(f"max_{name}") for name in ("seconds", "pixels", "frames", "memory")})


def named_videos(videos: tuple[str, ...]) -> Iterator[str]:
    """The names given, with those of standard input where one is "-"."""
    for name in videos:
        if name == "-":
            lines = (line.strip().removeprefix("\ufeff") for line in sys.stdin)  # Windows puts one before a file
            yield from (line for line in lines if line)
        else:
            yield name


@contextmanager
def progress(what: str, total: int) -> Iterator[Any]:
    """A bar on stderr where there are several videos and someone to see it."""
    if total < 2 or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)
