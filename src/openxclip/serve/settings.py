"""Settings of the server, checked when they are made."""

from __future__ import annotations

import ipaddress
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

from openxclip.hub import DEFAULT_MODEL

GIB = 1 << 30
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_MIN_TOKEN = 8  # characters; shorter ones can be guessed over a network
_PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_TABLES = frozenset({"windows.lance", "videos.lance"})  # of an index, see `openxclip.search.store`


def default_data_folder() -> Path:
    """Return the folder of uploads, jobs and labels: below `XDG_DATA_HOME`, else below ~/.local/share."""
    for base in (os.environ.get("XDG_DATA_HOME", ""), "~/.local/share"):
        expanded = os.path.expanduser(base)  # noqa: PTH111 (Path.expanduser raises an error without a home)
        if os.path.isabs(expanded):  # noqa: PTH117 (the standard ignores relative paths)
            return Path(expanded) / "openxclip" / "serve"
    raise ValueError("there is no home folder for uploads and jobs: name one with --data.")


def is_loopback(host: str) -> bool:
    """Return whether only programs of this machine can connect to an address to listen on."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class ServeSettings:
    """What decides how the server runs.

    Attributes:
        host, port: the address to listen on. Another host than loopback needs `token` or `no_auth`.
        model: a folder, a hub id, or "mini".
        precision: "auto", "fp32", "bf16" or "fp16"; auto is fp32 on a CPU and fp16 on a GPU.
        device: "cpu", "cuda", "cuda:1", …; None is a GPU if there is one.
        index: folder of the index that is searched, which may not exist yet; None is `data`/index.
        roots: folders with the collections of videos, which are only read.
        data: folder of uploads, the kept collection, jobs, labels and previews.
        token: what clients must send; None if none is needed.
        no_auth: whether another address than loopback may be used without a token.
        allow_hosts: more names that the header Host may have, beside the address itself and, on loopback, localhost.
        max_upload: largest size of an upload in bytes.
        max_json: largest size of a JSON body in bytes; videos in data URLs count.
        max_duration: longest video that is accepted, in seconds.
        max_labels: largest number of labels of a request.
        queue_size: largest number of requests that wait for the model; past it they are refused with 429.
        request_timeout: longest time of a request in seconds, from its body on.
        body_timeout: longest time without a byte of the body, in seconds.
        min_rate: lowest mean rate of a body in bytes per second, after the first 10 seconds.
        idle_unload: end the model's process after this many seconds without a request; None never.
        allow_urls: whether the server fetches videos from public addresses of the network.
        concurrency: number of requests in the model's process at once.
        preload: whether the model is loaded at the start instead of at the first request.

    Raises:
        ValueError: a value is out of range, a root is no folder or given twice, the index is something else, or the
            address needs a token.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    model: str = DEFAULT_MODEL
    precision: str = "auto"
    device: str | None = None
    index: Path | None = None
    roots: tuple[Path, ...] = ()
    data: Path = field(default_factory=default_data_folder)
    token: str | None = field(default=None, repr=False)  # never in logs
    no_auth: bool = False
    allow_hosts: tuple[str, ...] = ()
    max_upload: int = 2 * GIB
    max_json: int = 64 << 20
    max_duration: float = 4 * 3600.0
    max_labels: int = 1000
    queue_size: int = 32
    request_timeout: float = 300.0
    body_timeout: float = 20.0
    min_rate: int = 1024
    idle_unload: float | None = None
    allow_urls: bool = False
    concurrency: int = 2  # while the model computes for one, the video of the other is decoded
    preload: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", Path(self.data).absolute())
        object.__setattr__(self, "index", None if self.index is None else Path(self.index).absolute())
        object.__setattr__(self, "roots", tuple(_checked_root(root) for root in self.roots))
        for root in self.roots:
            if self.roots.count(root) > 1:
                raise ValueError(f"root {root}: is given {self.roots.count(root)} times: name it once.")
        if self.index is not None:
            _check_index(self.index)
        for name in self.allow_hosts:
            if not name or set(name) & set("/ ") or name.count(":") == 1:  # more colons: an IPv6 address
                raise ValueError(
                    f"allowed host {name!r}: give a name such as videos.example.org, without http and port."
                )
        if self.precision not in _PRECISIONS:
            raise ValueError(f"precision={self.precision!r}: must be {', '.join(_PRECISIONS[:-1])} or fp16.")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port={self.port}: must be from 0 to 65535.")
        for name in ("max_upload", "max_json", "max_labels", "queue_size", "concurrency"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be 1 or more.")
        for name in ("max_duration", "request_timeout", "body_timeout", "idle_unload"):
            seconds = getattr(self, name)
            if seconds is not None and not 0 < seconds < math.inf:
                raise ValueError(f"{name}={seconds}: must be more than 0 seconds.")
        if self.token is not None:
            _check_token(self.token)
        elif not (self.no_auth or is_loopback(self.host)):
            raise ValueError(
                f"host {self.host!r} can be reached from other machines: set a token with --token-file or "
                "OPENXCLIP_TOKEN, or allow everybody with --no-auth."
            )

    @property
    def index_folder(self) -> Path:
        """The folder of the index, which may not exist."""
        return self.data / "index" if self.index is None else self.index

    @property
    def collection(self) -> Path:
        """The folder of uploads that were added to the collection, which is a root too."""
        return self.data / "collection"

    @property
    def uploads(self) -> Path:
        """The folder of uploads, which are deleted when their visit ends."""
        return self.data / "uploads"

    @property
    def previews(self) -> Path:
        """The folder of cached previews."""
        return self.data / "previews"

    @property
    def named_roots(self) -> dict[str, Path]:
        """The roots by name, `collection` first. A collection's videos have ids such as "films/holiday.mp4".

        A root is named as its folder; of several with one name, the second is "films-2", the third "films-3".
        """
        named = {"collection": self.collection}
        for root in self.roots:
            base = name = root.name or "root"
            number = 2
            while name in named:
                name, number = f"{base}-{number}", number + 1
            named[name] = root
        return named


def _checked_root(root: str | Path) -> Path:
    if not str(root).strip():  # a variable of a script that is not set; Path would make it the current folder
        raise ValueError("a root is empty: name a folder.")
    path = Path(root).expanduser()
    try:
        path = path.resolve(strict=True)
    except (OSError, RuntimeError):
        raise ValueError(f"root {root}: there is no such folder: check the path.") from None
    if not path.is_dir():
        raise ValueError(f"root {root}: is a file: give a folder.")
    return path


def _check_index(folder: Path) -> None:
    """Refuse a folder of other files; the model's process opens the index, and says what else is wrong with it."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 (the names are enough)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise ValueError(f"index {folder}: is a file, not the folder of an index: name a folder.") from None
    except OSError as error:
        raise ValueError(f"index {folder}: can't be read: {error.strerror or error}.") from None
    if names and not _TABLES.intersection(names):
        raise ValueError(
            f"index {folder}: is not an index of videos: name the folder of one, or an empty or a new folder."
        )


def _check_token(token: str) -> None:
    if len(token) < _MIN_TOKEN:
        raise ValueError(f"the token has {len(token)} characters: it must have {_MIN_TOKEN} or more.")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ValueError("the token has spaces or characters outside ASCII, which can't be sent in a header.")
