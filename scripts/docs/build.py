"""Build the documentation site from the Markdown in docs/, and check it.

    python scripts/docs/build.py

The pages are copied to build/docs together with the pages that live elsewhere in the repository (`ELSEWHERE`) and the
notebooks, which become Markdown. zensical turns them into a site. Each page is also written as plain Markdown
beside its HTML, and `llms.txt` lists them. At the end scripts/docs/check.py looks at the built site.
"""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from check import page as parsed
from check import problems_of
from markdownify import markdownify
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parents[2]
STAGE = ROOT / "build" / "docs"
# Pages of the site that are no files of docs/.
ELSEWHERE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
    "src/openxclip/models/mini/README.md": "mini.md",
}
LINK = re.compile(r"(?<=\]\()([^)\s:#]+)(#[^)\s]*)?(?=\))")


def stage() -> None:
    """Copy every page to build/docs."""
    shutil.rmtree(STAGE, ignore_errors=True)
    shutil.copytree(ROOT / "docs", STAGE)
    pages = {ROOT / source: STAGE / page for source, page in ELSEWHERE.items()}
    pages |= {path: STAGE / path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    for source, page in pages.items():
        text = source.read_text(encoding="utf-8")
        text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)  # the front matter of a model card
        page.write_text(move_links(text, source, page, pages), encoding="utf-8")
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        stage_notebook(notebook, STAGE / "notebooks" / f"{notebook.stem}.md", pages)


def move_links(text: str, source: Path, page: Path, pages: dict[Path, Path]) -> str:
    """Make the relative links of a file right for its place on the site.

    A link to a file of the repository that is no page loses its target and keeps its text: the site stands alone.
    """

    def moved(match: re.Match[str]) -> str:
        target = (source.parent / match[1]).resolve()
        staged = pages.get(target)
        if staged is None and target.is_relative_to(ROOT / "docs"):
            staged = STAGE / target.relative_to(ROOT / "docs")
        if staged is None and target.is_relative_to(ROOT / "notebooks") and target.suffix == ".ipynb":
            staged = STAGE / "notebooks" / f"{target.stem}.md"
        if staged is None and target.suffix in (".png", ".svg", ".gif", ".webp") and target.is_file():
            staged = STAGE / "images" / target.name
            shutil.copy(target, staged)
        if staged is None:
            return "REMOVE" if target.exists() else match[0]
        return os.path.relpath(staged, page.parent) + (match[2] or "")

    text = LINK.sub(moved, text)
    return re.sub(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(REMOVE[^)]*\)", r"\1", text)


def stage_notebook(notebook: Path, page: Path, pages: dict[Path, Path]) -> None:
    """Turn a notebook with its outputs into a page; its pictures lie in a folder beside the page."""
    page.parent.mkdir(parents=True, exist_ok=True)
    resources: dict[str, Any] = {"unique_key": page.stem, "output_files_dir": f"{page.stem}_files"}
    text, resources = MarkdownExporter().from_filename(str(notebook), resources=resources)
    text = text.replace("![png](", "![output of the cell above](")
    for name, data in resources.get("outputs", {}).items():
        target = page.parent / name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(data)
    page.write_text(move_links(text, notebook, page, pages), encoding="utf-8")


def menu(entries: list[Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield each section of the menu with its pages; pages outside sections come first, as section ""."""
    yield "", [entry for entry in entries if isinstance(entry, str)]
    for entry in entries:
        if isinstance(entry, dict):
            yield from entry.items()


def write_markdown(site: Path, config: dict[str, Any]) -> None:
    """Write each page of the menu as Markdown, and the list of them, `llms.txt` (llmstxt.org)."""
    lines = [f"# {config['site_name']}", "", f"> {config['site_description']}"]
    for section, pages in menu(config["nav"]):
        lines += ["", f"## {section or 'Overview'}", ""]
        for page in pages:
            name = page.removesuffix(".md")
            folder = site / name if Path(name).name != "index" else (site / name).parent
            html = folder / "index.html"
            found = parsed(html).find("article")
            assert found is not None, page
            article = copy.copy(found)  # the checks need the whole page
            for useless in article.select(".headerlink, .md-source-file, .md-content__button, script, style, button"):
                useless.decompose()
            text = (STAGE / page).read_text(encoding="utf-8")
            if ":::" in text:  # the reference exists only in the HTML
                text = markdownify(str(article), heading_style="ATX", code_language="python", escape_underscores=False)
                text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
            target = site / page
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            heading = article.find("h1")
            title = heading.get_text().strip() if heading else name
            paragraph = article.find("p")
            about = " ".join(paragraph.get_text().split()) if paragraph else ""
            lines.append(f"- [{title}]({page}): {about.split('. ')[0].rstrip('.:')}.")
    (site / "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> int:
    """Build and check the site; return the exit status."""
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    site = ROOT / config["site_dir"]
    stage()
    shutil.rmtree(site, ignore_errors=True)
    shutil.rmtree(ROOT / ".cache", ignore_errors=True)
    command = [Path(sys.executable).parent / "zensical", "build", "--clean"]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"})
    output = re.sub(r"\x1b\[[0-9;]*m", "", built.stdout + built.stderr)
    if built.returncode or "Warning" in output:
        print(output, file=sys.stderr)
    if built.returncode:
        return built.returncode
    write_markdown(site, config)
    docstrings = sorted({line for line in output.splitlines() if line.startswith("griffe: ")})
    problems = [*docstrings, *problems_of(site)]
    for problem in problems:
        print(problem, file=sys.stderr)
    pages = len(list(site.rglob("*.html")))
    print(f"{pages} pages in {site.relative_to(ROOT)}/, {len(problems)} problems")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
