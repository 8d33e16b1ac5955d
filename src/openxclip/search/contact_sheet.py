"""Write hits as an HTML page on which a clip of each moment plays."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path, PurePath

from openxclip.common.files import atomic_file, checked_target
from openxclip.common.times import format_time
from openxclip.errors import VideoError, needs_package
from openxclip.search.previews import preview_clip, preview_span, thumbnail
from openxclip.search.results import Hit
from openxclip.video import DecodeWorker


def write_contact_sheet(
    hits: Sequence[Hit], path: str | Path, *, title: str, on_hit: Callable[[], object] = lambda: None
) -> None:
    """Write a self-contained page that shows moments. It says so if a video is missing or can't be read.

    Args:
        hits: results of a search.
        path: path of the page, .html or .htm; an existing file is replaced.
        title: heading of the page, usually the query.
        on_hit: called after each moment's clip is made.

    Raises:
        MissingPackageError: jinja2 isn't installed.
        ValueError: the path has another suffix, or its folder doesn't exist.
        OSError: the page can't be written.
    """
    target = check_contact_sheet(path)
    import jinja2

    template = files("openxclip.search").joinpath("contact_sheet.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    with DecodeWorker() as reader, atomic_file(target) as partial:
        cards = [_card(hit, reader, on_hit) for hit in hits]
        page = environment.from_string(template).render(title=title, cards=cards)
        partial.write_text(page, encoding="utf-8", errors="replace")  # file names on Linux may be no valid text


def check_contact_sheet(path: str | Path) -> Path:
    """Check, before a long search, that the page can be written, and return its path.

    Raises:
        MissingPackageError, ValueError: as for `write_contact_sheet`.
    """
    with needs_package("a page of HTML", "jinja2", "search"):
        import jinja2  # noqa: F401
    return checked_target(path, ".html", ".htm")


def _card(hit: Hit, reader: DecodeWorker, on_hit: Callable[[], object]) -> dict[str, object]:
    card: dict[str, object] = {
        "name": PurePath(hit.path).name,
        "path": hit.path,
        "start": format_time(hit.start),
        "end": format_time(hit.end),
        "score": "" if hit.score is None else f"{hit.score:.2f}",
        "similarity": f"{hit.similarity:.3f}",
        "prompts": hit.reranked,
        "best": format_time(hit.best_start) if hit.windows > 1 else "",
    }
    start, end = preview_span(hit)
    if (start, end) != (hit.start, hit.end):
        card["shown"] = f"{format_time(start)} – {format_time(end)}"
    try:
        card["poster"] = _data_url("image/jpeg", thumbnail(hit, reader=reader))
        card["clip"] = _data_url("video/mp4", preview_clip(hit, reader=reader))
    except VideoError as error:
        card["error"] = error.reason
    on_hit()
    return card


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
