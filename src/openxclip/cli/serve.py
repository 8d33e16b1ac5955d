"""`openxclip serve`: an HTTP API and a page over a model, an index and jobs."""

from __future__ import annotations

import logging
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from openxclip.cli.help import usage_errors
from openxclip.cli.options import Bytes, Time, device_options
from openxclip.cli.terminal import is_set, note, say
from openxclip.common.files import reason_of
from openxclip.errors import needs_package
from openxclip.hub import DEFAULT_MODEL

_TOKEN = "OPENXCLIP_TOKEN"
_PACKAGES = ("fastapi", "granian", "prometheus_client", "python_multipart")


@click.command("serve")
@click.option("--host", default="127.0.0.1", help="Address to listen on; another than loopback needs a token.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, help="Port to listen on; 0 takes a free one.")
@click.option("--model", default=DEFAULT_MODEL, help="A folder, a hub id, or mini.")
@click.option(
    "--in",
    "index",
    metavar="DIR",
    envvar="OPENXCLIP_INDEX",
    show_envvar=True,
    help="The index to search in, which may not exist yet.  [default: index in --data]",
)
@click.option(
    "--root",
    "roots",
    multiple=True,
    metavar="DIR",
    help="A folder with videos, which are shown and can be indexed, but not changed; may be repeated.",
)
@click.option(
    "--data",
    metavar="DIR",
    envvar="OPENXCLIP_DATA",
    show_envvar=True,
    help="The folder of uploads, jobs, labels and previews.  [default: ~/.local/share/openxclip/serve]",
)
@click.option(
    "--token-file",
    type=click.File(encoding="utf-8"),
    metavar="FILE",
    help=f"Clients must send the token in this file. {_TOKEN} in the environment does the same.",
)
@click.option("--token", metavar="TOKEN", help="The token itself: other users of this machine can see it in ps.")
@click.option("--no-auth", is_flag=True, help="Allow everybody who can reach the address to use it.")
@click.option(
    "--allow-host",
    "allow_hosts",
    multiple=True,
    metavar="NAME",
    help="Also answer requests to this name (*.example.org for all below); may be repeated.",
)
@click.option("--allow-urls", is_flag=True, help="Fetch videos from public addresses that clients name.")
@click.option("--max-upload", type=Bytes(), default="2GiB", help="Largest size of a video that is sent.")
@click.option("--max-duration", type=Time(above=0), default="4:00:00", help="Longest video.")
@click.option("--max-labels", type=click.IntRange(1), default=1000, help="Most labels of a request.")
@click.option("--queue", "queue_size", type=click.IntRange(1), default=32, help="Most requests that wait.")
@click.option("--request-timeout", type=Time(above=0), default="5:00", help="Longest time of a request, with its wait.")
@click.option("--concurrency", type=click.IntRange(1), default=2, help="Requests in the model at once.")
@click.option(
    "--idle-unload",
    type=Time(above=0),
    help="Free the model's memory after this time without a request; the next one loads it again.",
)
@click.option("--preload/--no-preload", default=True, help="Load the model at the start, or at the first request.")
@device_options
def command(token: str | None, token_file: Any, data: str | None, **options: Any) -> None:
    """Serve an HTTP API and a page to watch, search, index and correct.

    Then open http://127.0.0.1:8000 in a browser; /docs describes the API. `openxclip.Client` uses it from Python.

    Only programs of this machine can connect, unless --host says otherwise. SIGTERM and Ctrl-C finish the accepted
    requests; a second one cancels them.
    """
    for package in _PACKAGES:
        with needs_package("openxclip serve", package, "serve"):
            import_module(package)
    from openxclip.serve.settings import ServeSettings

    for option, folder in (("--data", data), ("--in", options["index"])):
        if folder is not None and not folder.strip():  # a variable of a script that is not set
            raise click.UsageError(f"{option} is empty: name a folder.")
    if data is not None:
        options["data"] = Path(data).expanduser()
    if options["index"] is not None:
        options["index"] = Path(options["index"]).expanduser()
    with usage_errors():
        settings = ServeSettings(token=_token(token, token_file), **options)
    from openxclip.serve.server import run

    _log()
    if settings.token is None and settings.no_auth:
        note("no token is needed (--no-auth): everybody who can reach the address can use the server.")
    try:
        run(settings, on_ready=lambda address: say(f"serving {settings.model} on {address}"))
    except OSError as error:
        if getattr(error, "filename", None):
            raise
        say(f"{settings.host}:{settings.port}: can't be listened on: {reason_of(error)}.")
        sys.exit(1)


def _token(token: str | None, file: Any) -> str | None:
    """Return the token from the only place that has one; None without.

    Raises:
        click.UsageError: two places have one, or the file is empty.
    """
    if token is not None and file is not None:
        raise click.UsageError("--token and --token-file both give a token: use one.")
    if token is not None:
        return token
    if file is None:
        return os.environ.get(_TOKEN) or None
    text: str = file.read(10_000).strip()
    if not text:
        raise click.UsageError(f"{file.name}: is empty: write a token into it.")
    return text


def _log() -> None:
    """Write the log of requests and faults to stderr; with --quiet only warnings and errors."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("openxclip")
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING if is_set("quiet") else logging.INFO)
