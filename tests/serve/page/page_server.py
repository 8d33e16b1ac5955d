"""A server with a model and a small collection, and a browser, for the tests of the page."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--headless", "--disable-background-networking"]
DEADLINE = 120_000  # milliseconds; what a slow machine needs to load the model and read a film


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_server(data: Path, *arguments: str, token: str | None = None) -> Iterator[str]:
    """Run `openxclip serve` until the block ends, and yield its address."""
    port = free_port()
    command = [sys.executable, "-m", "openxclip", "serve", "--model", "mini", "--port", str(port), "--data", str(data)]
    environment = {**os.environ, **({"OPENXCLIP_TOKEN": token} if token else {})}
    log = data.parent / f"{data.name}.log"
    with log.open("wb") as sink:
        process = subprocess.Popen([*command, *arguments], env=environment, stdout=sink, stderr=subprocess.STDOUT)
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(process, f"{address}/healthz", log)
            yield address
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise AssertionError(f"the server did not stop:\n{log.read_text()}") from None


def wait_for(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    for _ in range(600):
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise AssertionError(f"the server does not answer:\n{log.read_text()}")


class Watched:
    """A page of the browser, and everything that it complained about."""

    def __init__(self, browser: Browser, address: str, **options: Any) -> None:
        self.context = browser.new_context(base_url=address, viewport={"width": 1280, "height": 900}, **options)
        self.context.set_default_timeout(DEADLINE)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        self.page.on("console", lambda message: message.type in ("error", "warning") and self._add(message.text))
        self.page.on("pageerror", lambda error: self._add(str(error)))
        self.page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))

    def _add(self, text: str) -> None:
        # The browser itself reports every answer of 400 and more, also those that the page expects and explains.
        if not text.startswith("Failed to load resource: the server responded with a status of"):
            self.complaints.append(text)

    def until(self, predicate: str, argument: object = None) -> None:
        """Wait until a function of JavaScript returns true; Playwright's own way needs eval, which the page forbids."""
        end = time.monotonic() + DEADLINE / 1000
        while not self.page.evaluate(predicate, argument):
            assert time.monotonic() < end, f"never true: {predicate}"
            self.page.wait_for_timeout(50)

    def use_labels(self, *labels: str) -> None:
        """Replace the labels by typing others."""
        field = self.page.get_by_role("textbox", name="Look for")
        field.focus()
        for _ in range(self.page.locator(".chip").count()):
            field.press("Backspace")
        for label in labels:
            field.fill(label)
            field.press("Enter")

    def close(self) -> None:
        self.context.close()
