"""The browser, the collection and the server that the tests of the page share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from page_server import CHROMIUM, FLAGS, Watched, running_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SAMPLES = Path(__file__).parents[3] / "samples"


@pytest.fixture(scope="module")  # Playwright keeps an event loop in this thread, where other tests start their own
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip("needs Debian's package chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the samples, and six clips each of two actions."""
    from page_clips import write_actions

    folder = tmp_path_factory.mktemp("page") / "films"
    shutil.copytree(SAMPLES, folder, ignore=shutil.ignore_patterns("*.txt"))
    write_actions(folder, {"spin": "spins clockwise", "rise": "moves up"}, each=6)
    return folder


@pytest.fixture(scope="session")
def server(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_server(tmp_path_factory.mktemp("serve") / "data", "--root", str(films)) as address:
        yield address


@pytest.fixture
def watched(browser: Browser, server: str) -> Iterator[Watched]:
    """A fresh page; the test fails if the browser reports an error, or if another host is asked."""
    opened = Watched(browser, server)
    yield opened
    opened.close()
    assert opened.complaints == []
    assert opened.hosts <= {server.split("/")[2]}
