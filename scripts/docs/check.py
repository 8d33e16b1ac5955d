"""Check the built documentation site; exit with 1 if something is wrong.

    python scripts/docs/check.py [SITE]

These are errors: a link to a page, an anchor or a file that doesn't exist; a page that is in no menu; a reference or a
code span that names something that openxclip doesn't have; a public name without a docstring or without an entry in
the reference; anything that a page loads from another host (links to other hosts are fine).
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parents[2]
# Packages whose public names the reference lists, with the top-level package.
PACKAGES = [
    *("benchmarking", "checkpoints", "client", "config", "conversion", "datasets", "engine", "errors", "evaluation"),
    *("features", "inspection", "model", "pipeline", "playground", "processing", "recipes", "recognition", "search"),
    *("training", "video"),
]
REQUESTED = {"stylesheet", "preload", "preconnect", "dns-prefetch", "icon"}  # kinds of <link> that a browser requests
DOTTED = re.compile(r"openxclip(?:\.[A-Za-z_]\w*)+")
REMOTE_CSS = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])((?:https?:)?//[^"')\s]+)""")


@cache
def page(path: Path) -> BeautifulSoup:
    """Return the parsed HTML of a page."""
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(path: Path) -> frozenset[str]:
    """Return the places on a page that a link can name."""
    tags = page(path).find_all(attrs={"id": True}) + page(path).find_all("a", attrs={"name": True})
    return frozenset(str(tag.get("id") or tag.get("name")) for tag in tags)


def problems_of(site: Path) -> list[str]:
    """Return what is wrong with a site, one line each."""
    pages = sorted(site.rglob("*.html"))
    if not pages:
        return [f"{site}: no pages"]
    problems = [
        problem
        for check in (broken_links, remote_parts, unknown_symbols)
        for path in pages
        for problem in check(site, path)
    ]
    for path in site.rglob("*.css"):
        problems += [f"{path.relative_to(site)}: loads {url}" for url in REMOTE_CSS.findall(path.read_text("utf-8"))]
    return [*problems, *pages_in_no_menu(site, pages), *undocumented_names(site)]


def target_of(site: Path, path: Path, link: str) -> tuple[Path, str] | None:
    """Return the file and the anchor that a link leads to, or None for a link to another host."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    name = unquote(parts.path)
    base = site if name.startswith("/") else path.parent
    file = (base / name.lstrip("/")).resolve() if name else path
    return (file / "index.html" if file.is_dir() else file), unquote(parts.fragment)


def broken_links(site: Path, path: Path) -> Iterator[str]:
    """Yield the links of a page that lead nowhere."""
    if path.name == "404.html":  # its links are absolute, for any place on the server
        return
    for tag in page(path).find_all(["a", "img", "link", "script", "source", "video"]):
        link = tag.get("href") or tag.get("src")
        if not link or str(link).startswith(("data:", "mailto:", "javascript:")):
            continue
        target = target_of(site, path, str(link))
        if target is None:
            continue
        file, anchor = target
        if not file.is_file():
            yield f"{path.relative_to(site)}: broken link {link}"
        elif anchor and file.suffix == ".html" and not anchor.startswith("__") and anchor not in anchors(file):
            yield f"{path.relative_to(site)}: no such place on the page: {link}"


def remote_parts(site: Path, path: Path) -> Iterator[str]:
    """Yield what a page loads from another host."""
    for tag in page(path).find_all(["img", "script", "iframe", "source", "video", "audio", "link", "object", "embed"]):
        if tag.name == "link" and not REQUESTED & set(tag.get("rel") or []):
            continue
        url = str(tag.get("src") or tag.get("href") or tag.get("data") or "")
        if urlsplit(url).netloc:
            yield f"{path.relative_to(site)}: loads {url}"
    for style in page(path).find_all("style"):
        for url in REMOTE_CSS.findall(style.get_text()):
            yield f"{path.relative_to(site)}: loads {url}"


def pages_in_no_menu(site: Path, pages: list[Path]) -> Iterator[str]:
    """Yield the pages that the menu of the first page doesn't link."""
    home = site / "index.html"
    links = [target_of(site, home, str(link["href"])) for link in page(home).select("nav.md-nav a[href]")]
    linked = {target[0].resolve() for target in links if target} | {home.resolve()}
    for path in pages:
        if path.name != "404.html" and path.resolve() not in linked:
            yield f"{path.relative_to(site)}: in no menu"


def unknown_symbols(site: Path, path: Path) -> Iterator[str]:
    """Yield references that didn't resolve, and dotted names in code that openxclip doesn't have."""
    article = page(path).find("article")
    if article is None or path.parent.name == "changelog":  # which names what is gone
        return
    for tag in article.find_all("autoref"):
        yield f"{path.relative_to(site)}: unknown symbol {tag.get('identifier')}"
    for tag in article.find_all(["p", "li", "td"]):
        for left in re.findall(r"\]\[(openxclip[\w.]*)\]", "".join(tag.find_all(string=True, recursive=False))):
            yield f"{path.relative_to(site)}: unknown symbol {left}"
    text = "\n".join(code.get_text() for code in article.find_all("code"))
    for name in sorted(set(DOTTED.findall(text))):
        if not exists(name):
            yield f"{path.relative_to(site)}: unknown symbol {name}"


@cache
def exists(name: str) -> bool:
    """Tell whether a dotted name can be imported or is an attribute; suffixes of files (`openxclip.whl`) count too."""
    parts = name.split(".")
    value: Any = importlib.import_module(parts[0])
    for number, part in enumerate(parts[1:], 2):
        fields = getattr(value, "__dataclass_fields__", {}) if inspect.isclass(value) else {}
        annotations = getattr(value, "__annotations__", {}) if inspect.isclass(value) else {}
        try:
            value = getattr(value, part)
        except AttributeError:
            if part in fields or part in annotations:
                return number == len(parts)
            try:
                value = importlib.import_module(".".join(parts[:number]))
            except ImportError:
                return False
    return True


def public_names() -> Iterator[tuple[str, Any]]:
    """Yield each public name with its value: those of the top level, then those of the packages."""
    for module_name in ("openxclip", *(f"openxclip.{package}" for package in PACKAGES)):
        module = importlib.import_module(module_name)
        own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module_name]
        for name in getattr(module, "__all__", own):
            value = getattr(module, name)
            if not inspect.ismodule(value) and not name.startswith("_"):
                yield f"{module_name}.{name}", value


def undocumented_names(site: Path) -> Iterator[str]:
    """Yield public names without a docstring, and those that the reference doesn't have."""
    entries = set()
    for path in (site / "api").rglob("*.html"):
        entries |= anchors(path)
    places: dict[int, list[str]] = {}
    values: dict[int, Any] = {}
    for name, value in public_names():
        places.setdefault(id(value), []).append(name)
        values[id(value)] = value
    for key, names in places.items():
        value = values[key]
        home = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
        if not entries & {*names, home}:
            yield f"{names[0]}: not in the reference"
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        if not inspect.getdoc(value):
            yield f"{names[0]}: no docstring"
        for member, function in vars(value).items() if inspect.isclass(value) else ():
            is_method = inspect.isfunction(getattr(function, "__func__", function))
            if member.startswith("_") or not (is_method or isinstance(function, property)):
                continue
            entry = rf"^\s*(?:\w+, )*{member}(?:, \w+)*(?: \(.*?\))?:"  # in the section "Attributes"
            listed = re.search(entry, inspect.getdoc(value) or "", re.MULTILINE)
            if not inspect.getdoc(getattr(value, member)) and not listed:
                yield f"{names[0]}.{member}: no docstring"


def main() -> int:
    """Check the site and print its problems; return the exit status."""
    problems = problems_of(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "site").resolve())
    print("\n".join(problems) or "no problems")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
