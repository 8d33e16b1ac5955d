"""docs/serve.md: its curl commands and snippets run in order against the server that the page starts."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from serving import ROOT, SAMPLES, Server, running

PAGE = "docs/serve.md"
ADDRESS = "http://127.0.0.1:8000"
_END = "=== end of a block ==="


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem + "_for_serve", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


pages = _module(ROOT / "tests" / "docs" / "test_pages.py")


def curl_commands() -> list[str]:
    return [
        command
        for block in pages.blocks(PAGE)
        if block.language == "bash"
        for command in pages.commands(block)
        if "curl " in command
    ]


def routes_of(command: str) -> set[tuple[str, str]]:
    """Methods and paths of a command, with names in place of ids."""
    found = set()
    for call in re.findall(r"curl [^|)]*", command):
        url = re.search(r"127\.0\.0\.1:8000([^\s\"?]*)", call)
        assert url is not None, call
        path = re.sub(r"\$JOB", "{job_id}", re.sub(r"\$UPLOAD", "{upload_id}", url[1]))
        path = path.replace("/film/film.mp4/", "/{video_id}/")
        method = re.search(r"-X (\w+)", call)
        sends = any(option in call for option in ("--json", "-F ", "--data-binary"))
        found.add((method[1] if method else "POST" if sends else "GET", path))
    return found


def test_the_page_has_a_command_for_every_route() -> None:
    pytest.importorskip("fastapi")
    from openxclip.serve.app import create_app
    from openxclip.serve.settings import ServeSettings

    schema = create_app(ServeSettings(model="mini")).openapi()
    routes = {
        (method.upper(), path.replace(":path}", "}"))
        for path, methods in schema["paths"].items()
        for method in methods
        if method in ("get", "post", "put", "delete")
    }
    shown = set().union(*map(routes_of, curl_commands()))
    assert routes <= shown, sorted(routes - shown)


def test_the_page_lists_every_code() -> None:
    pytest.importorskip("fastapi")
    from openxclip.serve.errors import CODES

    text = (ROOT / PAGE).read_text(encoding="utf-8")
    for code, (status, meaning) in CODES.items():
        assert f"| {status} | `{code}` | {meaning} |" in text


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """The server that the page starts, in a folder with its videos; the home folder is a temporary one."""
    shutil.copytree(SAMPLES, tmp_path / "samples")
    words = [command for block in pages.blocks(PAGE) for command in pages.commands(block)]
    render = next(command for command in words if command.startswith("openxclip playground"))
    pages.run_shell(f"{shlex.quote(sys.executable)} -m {render}", tmp_path)
    start = shlex.split(next(command for command in words if command.startswith("openxclip serve")))
    with running(tmp_path, *start[2:]) as server:
        yield server


@pytest.mark.slow
def test_the_page_runs(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(server.folder)
    names: dict[str, Any] = {"__name__": "__main__"}
    with subprocess.Popen(
        ["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=server.folder
    ) as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        for block in pages.blocks(PAGE):
            text = block.text.replace(ADDRESS, server.url)
            if block.language == "python":
                printed = pages.run_snippet(text, names)
            elif "curl " in block.text:
                printed = ""
                for command in pages.commands(pages.Block("bash", text)):
                    shell.stdin.write(f"{command}\necho; echo '{_END}' $?\n")
                    shell.stdin.flush()
                    answer = ""
                    while not (line := shell.stdout.readline()).startswith(_END):
                        assert line, command
                        answer += line
                    assert line.split()[-1] == "0", f"{command}\n{answer}"
                    is_error = '{"error":' in answer
                    assert is_error == ("missing.mp4" in command), f"{command}\n{answer}"
                    printed += answer
            else:
                continue
            if block.output is not None:
                pages.assert_printed(block.output, printed)
    for value in (names["client"], names["official"]):
        value.close()
