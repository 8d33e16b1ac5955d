"""The page and the description of the API, with all their files: nothing comes from another host."""

from __future__ import annotations

import mimetypes
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import HTMLResponse, Response

from openxclip.serve.errors import ApiError
from openxclip.serve.media import MediaResponse

router = APIRouter(include_in_schema=False)

STATIC = Path(__file__).parent.parent / "static"
APIDOCS = Path(__file__).parent.parent / "apidocs"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml",
          ".woff2": "font/woff2", ".json": "application/json", ".webmanifest": "application/manifest+json"}  # fmt: skip
_IMMUTABLE = "public, max-age=31536000, immutable"  # of files whose names have a hash of their content
_NOT_BUILT = "<!doctype html><meta charset=utf-8><title>openxclip</title><p>The API runs; see <a href=/docs>/docs</a>."


class Files:
    """The files of a folder that may be served: exactly those that were there at the start.

    Args:
        folder: the folder, which may not exist.
    """

    def __init__(self, folder: Path) -> None:
        paths = folder.rglob("*") if folder.is_dir() else ()
        self._files = {path.relative_to(folder).as_posix(): path for path in paths if path.is_file()}

    def answer(self, name: str) -> Response:
        """Return a file. `ApiError` if there is none."""
        path = self._files.get(name)
        if path is None:
            raise ApiError("not_found", f"/{name[:200]}: there is no such file.")
        kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        headers = {"Cache-Control": _IMMUTABLE if name.startswith("assets/") else "no-cache"}
        return MediaResponse(path, media_type=kind, headers=headers)

    @property
    def names(self) -> list[str]:
        """Paths of the files below the folder."""
        return sorted(self._files)

    def __contains__(self, name: str) -> bool:
        return name in self._files


def files_of(request: Request, which: str) -> Files:
    """Return the files of the page ("static") or of the API's description ("apidocs")."""
    files: Files = getattr(request.app.state, which)
    return files


@router.get("/")
async def page(request: Request) -> Response:
    """The page."""
    files = files_of(request, "static")
    return files.answer("index.html") if "index.html" in files else HTMLResponse(_NOT_BUILT)


@router.get("/assets/{name:path}")
async def asset(request: Request, name: str) -> Response:
    """A file of the page."""
    return files_of(request, "static").answer(f"assets/{name}")


@router.get("/docs")
async def api_page(request: Request) -> Response:
    """The description of the API, to read and to try."""
    return files_of(request, "apidocs").answer("index.html")


@router.get("/docs/{name:path}")
async def api_asset(request: Request, name: str) -> Response:
    """A file of the API's description."""
    return files_of(request, "apidocs").answer(name)


def add_files(app: FastAPI) -> None:
    """Add a route for each file beside the page, such as its icon."""

    def route(name: str) -> Callable[[Request], Awaitable[Response]]:
        async def top_file(request: Request) -> Response:
            return files_of(request, "static").answer(name)

        return top_file

    for name in app.state.static.names:
        if "/" not in name and name != "index.html":
            app.add_api_route(f"/{name}", route(name), methods=["GET"], include_in_schema=False, response_model=None)
