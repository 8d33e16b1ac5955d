"""Runs the application on granian, a server with limits on slow headers, in this process."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from fastapi import FastAPI

from openxclip.errors import needs_package
from openxclip.serve.app import create_app
from openxclip.serve.settings import ServeSettings
from openxclip.serve.state import ServerState

logger = logging.getLogger("openxclip.serve")

HEADER_SECONDS = 10  # for all headers of a request, and for a connection that waits for the next one
STOP_SECONDS = 60.0  # for accepted requests, when the server stops
MAX_CONNECTIONS = 1024
_MAX_HEADERS = 64 << 10  # bytes; more are answered with 431


def run(settings: ServeSettings, *, on_ready: Callable[[str], object] = lambda address: None) -> None:
    """Serve until SIGTERM or SIGINT, then finish the accepted requests and end all processes.

    A second signal cancels the requests.

    Args:
        settings: settings of the server.
        on_ready: called with the address once connections are accepted.

    Raises:
        OSError: the address can't be used.
        MissingPackageError: a package that the server needs isn't installed.
    """
    check_address(settings.host, settings.port)
    _allow_files()
    asyncio.run(serve(create_app(settings), settings, on_ready=on_ready))


def check_address(host: str, port: int) -> None:
    """Check that the address can be listened on.

    Raises:
        OSError: it is in use, belongs to another machine, or the port is reserved.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.bind(address)


def _allow_files() -> None:
    """Let this process have as many open files as the system allows: every connection is one."""
    with suppress(ImportError, ValueError, OSError):  # Windows has no such limit
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def free_port(host: str) -> int:
    """Return a port that nobody uses."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as trial:
        trial.bind((host.strip("[]"), 0))
        return int(trial.getsockname()[1])


async def serve(app: FastAPI, settings: ServeSettings, *, on_ready: Callable[[str], object]) -> None:
    """Serve an application until a signal comes; see `run`."""
    with needs_package("openxclip serve", "granian", "serve"):
        from granian.constants import HTTPModes, Interfaces
        from granian.http import HTTP1Settings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it calls itself experimental
            from granian.server.embed import Server
    state: ServerState = app.state.server
    port = settings.port or free_port(settings.host)
    server: Any = Server(
        app,
        address=settings.host.strip("[]").replace("localhost", "127.0.0.1"),
        port=port,
        interface=Interfaces.ASGINL,  # the lifespan is run below, so that its errors are raised
        http=HTTPModes.http1,  # over an unencrypted connection browsers use nothing else
        http1_settings=HTTP1Settings(header_read_timeout=1000 * HEADER_SECONDS, max_buffer_size=_MAX_HEADERS),
        websockets=False,
        backpressure=MAX_CONNECTIONS,
        backlog=1024,
        log_enabled=False,  # this package logs requests itself, without queries
    )
    loop = asyncio.get_running_loop()
    stopped = 0
    running = asyncio.current_task()

    def stop() -> None:
        nonlocal stopped
        stopped += 1
        if stopped == 1:
            logger.info("stopping: accepted requests are finished; another signal cancels them")
            state.stopping.set()  # ends streams of events, which have no end of their own
            server.stop()
            loop.call_later(STOP_SECONDS, stop)
        elif running is not None:
            running.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        async with app.router.lifespan_context(app):
            if stopped:
                return
            announced = asyncio.create_task(_announce(settings.host, port, on_ready))
            try:
                await server.serve()
            except asyncio.CancelledError:
                if stopped < 2:
                    raise
                logger.warning("requests that ran were cancelled")
            finally:
                announced.cancel()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _announce(host: str, port: int, on_ready: Callable[[str], object]) -> None:
    """Call `on_ready` once the server answers."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host.strip("[]"))
    while True:
        with suppress(OSError):
            _, writer = await asyncio.open_connection(name, port)
            writer.close()
            break
        await asyncio.sleep(0.05)
    shown = f"[{name}]" if ":" in name else name
    on_ready(f"http://{shown}:{port}")
