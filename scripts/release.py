"""Build the sdist and the wheel into dist/ and check them; `make release` runs it.

    python scripts/release.py [--dist DIR] [--no-install]     (needs the extra `release`)

The checks: the version and CHANGELOG.md agree; the wheel has the package with mini, CLIP's vocabulary and the notices,
and nothing else; `twine check` passes; in a fresh environment far from the repository, the wheel alone classifies a
clip; the extra `all` resolves, and no two of its packages own the same file. Nothing is uploaded.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "openxclip"
NEEDED = (
    "openxclip/models/mini/model.safetensors",
    "openxclip/models/mini/config.json",
    "openxclip/models/mini/README.md",
    "openxclip/playground/CREDITS.md",
    "openxclip/playground/sprites.png",
    "openxclip/py.typed",
)
TORCH = "torch==2.13.0"
CLIP = "samples/cat_moves_left.mp4"
LABELS = "a cat moves left, a cat moves right, a dog bounces"


def version() -> str:
    """Return the version of the package."""
    found = re.search(r'__version__ = "(.+)"', (PACKAGE / "_version.py").read_text(encoding="utf-8"))
    assert found is not None
    return found[1]


def problems_of_changelog(text: str, version: str) -> list[str]:
    """Return in what way a changelog and a version disagree.

    The first section is `## VERSION`, with a date or not, or `## Unreleased` before a version that has no section yet.
    """
    sections = re.findall(r"^## \[?([^\]\s]+)", text, flags=re.MULTILINE)
    if not sections:
        return ["CHANGELOG.md has no sections"]
    if sections[0] == "Unreleased":
        return [f"CHANGELOG.md has unreleased changes after {version}"] if version in sections else []
    return [] if sections[0] == version else [f"CHANGELOG.md begins with {sections[0]}, but the version is {version}"]


def files_of_package() -> set[str]:
    """Return the files of the package in the repository, as the wheel names them."""
    files = (path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(PACKAGE.parent).as_posix() for path in files}


def problems_of_wheel(names: Iterable[str]) -> list[str]:
    """Return what a wheel lacks and what doesn't belong into it, by the names of its files."""
    names = set(names)
    info = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    package = files_of_package()
    vocabulary = {name for name in package if name.startswith("openxclip/processing/vocab/")}
    assert len(vocabulary) >= 2  # and the notice beside it
    needed = {*NEEDED, *vocabulary, *package}
    licenses = {f"{name.split('/')[0]}/licenses/{file}" for name in info for file in ("LICENSE", "NOTICE")}
    allowed = re.compile(r"[^/]+\.dist-info/(METADATA|WHEEL|RECORD|entry_points\.txt|licenses/(LICENSE|NOTICE))")
    extra = {name for name in names - package if not allowed.fullmatch(name)}
    return [f"the wheel lacks {name}" for name in sorted((needed | licenses) - names)] + [
        f"the wheel has {name}" for name in sorted(extra)
    ]


def shared_files(distributions: Iterable[Distribution]) -> list[str]:
    """Return the files that two or more installed packages own."""
    owners: dict[Path, set[str]] = defaultdict(set)
    for package in distributions:
        for file in package.files or ():
            if "__pycache__" not in file.parts:
                owners[Path(os.path.normpath(str(package.locate_file(file))))].add(package.name)
    return [f"{file}: {', '.join(sorted(names))}" for file, names in sorted(owners.items()) if len(names) > 1]


def installed_with(name: str, extra: str) -> list[Distribution]:
    """Return an installed package and everything installed that it needs with an extra."""
    from packaging.requirements import Requirement

    found: dict[tuple[str, str], Distribution] = {}
    todo = [(name, extra), (name, "")]
    while todo:
        key = todo.pop()
        if key in found:
            continue
        try:
            found[key] = distribution(key[0])
        except PackageNotFoundError:
            continue
        for line in found[key].requires or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": key[1]}):
                todo += [(needed.name, ""), *((needed.name, one) for one in needed.extras)]
    return list({package.name.lower().replace("_", "-"): package for package in found.values()}.values())


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run a command without the settings that would let it see the repository; stop if it fails."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "HF_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def stop_at(problems: list[str]) -> None:
    """Stop if there are problems."""
    if problems:
        sys.exit("\n".join(problems))


def build(dist: Path) -> tuple[Path, Path]:
    """Build the sdist, and the wheel from it; return both."""
    shutil.rmtree(dist, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", dist)
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    return sdist, wheel


def check_installed(wheel: Path) -> None:
    """Install the wheel alone in a fresh environment and classify a clip; then install the extra `all`."""
    with tempfile.TemporaryDirectory() as parent:
        far = Path(parent).resolve()
        shutil.copy(ROOT / CLIP, far / "clip.mp4")
        run(sys.executable, "-m", "venv", far / "env", cwd=far)
        programs = far / "env" / ("Scripts" if os.name == "nt" else "bin")
        pip = (programs / "python", "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt")
        run(*pip, wheel, TORCH, cwd=far)
        run(programs / "python", "-m", "pip", "check", cwd=far)
        options = ("--model", "mini", "--labels", LABELS, "--json")
        result = json.loads(run(programs / "openxclip", "classify", "clip.mp4", *options, cwd=far))
        print(f"the wheel alone: clip.mp4 shows {result['outcome']!r}")
        stop_at([] if result["outcome"] == "a cat moves left" else ["the installed wheel gives a wrong answer"])
        run(*pip, f"{wheel}[all]", TORCH, cwd=far)
        run(*pip, "packaging", cwd=far)
        shared = json.loads(run(programs / "python", Path(__file__).resolve(), "--shared-files", cwd=far))
        stop_at([f"two packages own {file}" for file in shared])
        print("the extra `all` installs, and no two packages own the same file")


def main() -> None:
    """Build and check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="folder to write, which is emptied")
    parser.add_argument("--no-install", action="store_true", help="skip the checks in a fresh environment")
    parser.add_argument("--shared-files", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.shared_files:
        print(json.dumps(shared_files(installed_with("openxclip", "all"))))
        return
    stop_at(problems_of_changelog((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), version()))
    sdist, wheel = build(options.dist.resolve())
    stop_at(problems_of_wheel(zipfile.ZipFile(wheel).namelist()))
    run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
    for file in (sdist, wheel):
        print(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB")
    if not options.no_install:
        check_installed(wheel)


if __name__ == "__main__":
    main()
