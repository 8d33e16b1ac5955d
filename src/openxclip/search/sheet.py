"""A page of what was found, in one file: a clip of each moment that plays."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path, PurePath

from openxclip.common.files import checked_target, written_whole
from openxclip.common.times import clock
from openxclip.errors import VideoError, needs_package
from openxclip.search.pictures import playing_clip, shown, thumbnail
from openxclip.search.results import Hit
from openxclip.video import DecodeWorker


def write_contact_sheet(
    hits: Sequence[Hit], path: str | Path, *, title: str, on_hit: Callable[[], object] = lambda: None
) -> None:
    """Write a page that shows moments; it needs no other file, no server and no network.

    Of a video that can't be read, or is no longer there, the page says so.

    Args:
        hits: as found.
        path: of the page, .html or .htm; one that is there is replaced.
        title: what was searched for.
        on_hit: called when a moment's clip has been made.

    Raises:
        MissingPackageError: jinja2 isn't installed.
        ValueError: it has another suffix, or there is no such folder.
        OSError: it can't be written.
    """
    target = check_sheet(path)
    import jinja2

    template = files("openxclip.search").joinpath("sheet.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    with DecodeWorker() as reader, written_whole(target) as partial:
        cards = [_card(hit, reader, on_hit) for hit in hits]
        page = environment.from_string(template).render(title=title, cards=cards)
        partial.write_text(page, encoding="utf-8", errors="replace")  # a name on Linux may be no text at all


def check_sheet(path: str | Path) -> Path:
    """The path of a page that can be written, before anything is searched for it.

    Raises:
        ValueError: as `write_contact_sheet`.
    """
    with needs_package("a page of HTML", "jinja2", "search"):
        import jinja2  # noqa: F401
    return checked_target(path, ".html", ".htm")


def _card(hit: Hit, reader: DecodeWorker, on_hit: Callable[[], object]) -> dict[str, object]:
    card: dict[str, object] = {
        "name": PurePath(hit.path).name,
        "path": hit.path,
        "start": clock(hit.start),
        "end": clock(hit.end),
        "score": "" if hit.score is None else f"{hit.score:.2f}",
        "similarity": f"{hit.similarity:.3f}",
        "prompts": hit.reranked,
        "best": clock(hit.best_start) if hit.windows > 1 else "",
    }
    clip = shown(hit)
    if clip != (hit.start, hit.end):
        card["shown"] = f"{clock(clip[0])} – {clock(clip[1])}"
    try:
        card["poster"] = _data("image/jpeg", thumbnail(hit, reader=reader))
        card["clip"] = _data("video/mp4", playing_clip(hit, reader=reader))
    except VideoError as error:
        card["error"] = error.reason
    on_hit()
    return card


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
