"""Run the steps of the Dockerfile in a fresh environment, where no container engine runs.

    python scripts/check_container_steps.py

The instructions are read from the Dockerfile, so they can't drift from it. Each runs on this machine, with the folders
of the image below a temporary one: the environment is made, PyTorch and openxclip are installed, and the entry point
starts. If this is root on Linux, the server runs without capabilities and as the image's user (if that user may run
this Python), with everything but its data and /tmp read-only, as with `read_only: true` in compose.yaml. Then the
health check must succeed, a video must be classified, and SIGTERM must end the server with status 0. Not checked: the
base image, and what only an engine does (limits of memory and processes, ports).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("/opt/openxclip", "/src", "/data", "/videos")  # of the image, which are made below the temporary folder
NOT_HERE = ("useradd ", "install -d ")  # change the system; the folders are made by this script
TOKEN = "a-token-for-this-check"


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile as pairs of name and arguments, without comments."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [
        (name, rest.strip()) for line in joined.splitlines() if line.strip() for name, _, rest in [line.partition(" ")]
    ]


class Box:
    """Runs instructions with the folders of the image below `folder`."""

    def __init__(self, folder: Path, arguments: dict[str, str]) -> None:
        self.folder, self.arguments = folder, arguments
        self.variables: dict[str, str] = {}
        self.environment: dict[str, str] = {}
        self.user: int | None = None
        self.health: list[str] = []
        self.command: dict[str, list[str]] = {"ENTRYPOINT": [], "CMD": []}
        for name in FOLDERS:
            self.at(name).mkdir(parents=True)

    def at(self, path: str) -> Path:
        """Return where a folder of the image is here."""
        return self.folder / path.lstrip("/")

    def here(self, text: str) -> str:
        """Return a text with the folders of the image replaced."""
        return re.sub(rf"(?<![\w./-])({'|'.join(FOLDERS)})(?=[/\s:\"',]|$)", lambda found: str(self.at(found[1])), text)

    def run(self, name: str, rest: str) -> None:
        """Run one instruction."""
        if name == "ARG":
            key, _, default = rest.partition("=")
            self.variables[key] = self.arguments.get(key, default)
        elif name == "RUN" and rest.startswith(NOT_HERE):
            print(f"not run here: {rest}")
        elif name == "RUN":
            command = re.sub(r"^python ", f"{shlex.quote(sys.executable)} ", self.here(rest))
            print("+", command, flush=True)
            environment = {**os.environ, **self.variables}
            subprocess.run(command, shell=True, cwd=self.at("/src"), env=environment, check=True)
        elif name == "COPY" and not rest.startswith("--from"):
            *sources, target = rest.split()
            for source in sources:
                copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
                copy(ROOT / source, self.at("/src") / target / ("" if target != "./" else source))
        elif name == "ENV":
            self.environment |= dict(part.partition("=")[::2] for part in shlex.split(self.here(rest)))
        elif name == "USER":
            self.user = int(rest)
        elif name in self.command:
            self.command[name] = json.loads(self.here(rest))
        elif name == "HEALTHCHECK":
            self.health = json.loads(rest.partition(" CMD ")[2])
        elif name not in ("FROM", "COPY", "WORKDIR", "VOLUME", "EXPOSE"):
            raise SystemExit(f"{name}: this script doesn't know the instruction.")

    def rights(self) -> str:
        """Return the options of setpriv for the image's user, or none if that user can't run this Python."""
        options = f"--reuid {self.user} --regid {self.user} --clear-groups"
        python = self.at("/opt/openxclip/bin/python")
        if subprocess.run(["setpriv", *options.split(), python, "-c", ""], capture_output=True, check=False).returncode:
            print(f"user {self.user} can't run {python.resolve()}: the server runs as this user, without capabilities")
            return ""
        return options

    def boxed(self, words: list[str], *, read_only: bool) -> list[str]:
        """Return a command that runs as the image's user, with a read-only system; needs root."""
        if not read_only:
            return words
        data = shlex.quote(str(self.at("/data")))
        steps = [
            "mount --make-rprivate /",
            f"mount --bind {data} {data}",
            "mount -t tmpfs -o mode=1777 tmpfs /tmp",
            "mount -o remount,ro,bind /",
            f"exec setpriv {self.rights()} --no-new-privs --bounding-set=-all --inh-caps=-all {shlex.join(words)}",
        ]
        return ["unshare", "--mount", "sh", "-c", " && ".join(steps)]


def wait_until_healthy(box: Box, server: subprocess.Popen[bytes]) -> None:
    """Run the health check of the image until it succeeds."""
    for _ in range(120):
        if server.poll() is not None:
            raise SystemExit(f"the server ended with {server.returncode} before it was healthy.")
        check = subprocess.run(box.health, env=box.environment, capture_output=True, text=True, check=False)
        if check.returncode == 0:
            return
        time.sleep(0.5)
    raise SystemExit(f"not healthy after a minute: {check.stderr}")


def ask(box: Box, url: str) -> Any:
    """Classify a video of the root with the client of the installed package."""
    code = (
        "import openxclip, sys; client = openxclip.Client(sys.argv[1], token=sys.argv[2])\n"
        "video = openxclip.ServerVideo(path='owl_vanishes.mp4')\n"
        "print(client.classify(video, ['an owl vanishes', 'a cat moves left'])[0].outcome)"
    )
    command = ["python", "-c", code, url, TOKEN]
    done = subprocess.run(
        command, env=box.environment, cwd=box.at("/data"), capture_output=True, text=True, check=False
    )
    if done.stdout.strip() != "an owl vanishes":
        raise SystemExit(f"the answer is wrong: {done.stdout}{done.stderr}")


def main() -> None:
    """Run all steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-index", default="", help="build argument TORCH_INDEX; default is pip's own index")
    parser.add_argument("--port", type=int, default=8000, help="port of the server, if 8000 is taken")
    arguments = parser.parse_args()
    read_only = sys.platform == "linux" and os.geteuid() == 0
    with tempfile.TemporaryDirectory(dir="/var/tmp" if Path("/var/tmp").is_dir() else None) as folder:
        Path(folder).chmod(0o755)
        box = Box(Path(folder), {"TORCH_INDEX": arguments.torch_index})
        for name, rest in instructions((ROOT / "Dockerfile").read_text(encoding="utf-8")):
            box.run(name, rest)
        for sample in (ROOT / "samples").glob("*.mp4"):
            shutil.copy(sample, box.at("/videos"))
        words = [word if word != "8000" else str(arguments.port) for word in box.command["ENTRYPOINT"]]
        box.health = [word.replace(":8000/", f":{arguments.port}/") for word in box.health]
        environment = box.environment
        refused = subprocess.run(
            [*words, "--model", "mini"], env=environment, capture_output=True, text=True, check=False
        )
        if refused.returncode == 0 or "token" not in refused.stderr:
            raise SystemExit(f"without a token the server must refuse: {refused.stderr}")
        print("without a token:", refused.stderr.strip())
        if read_only:
            os.chown(box.at("/data"), box.user or 0, box.user or 0)
        shutil.rmtree(box.at("/src"))  # the second stage doesn't have it
        command = box.boxed([*words, *box.command["CMD"]], read_only=read_only)
        server = subprocess.Popen(command, env={**environment, "OPENXCLIP_TOKEN": TOKEN}, cwd=box.at("/data"))
        try:
            wait_until_healthy(box, server)
            ask(box, f"http://127.0.0.1:{arguments.port}")
            server.send_signal(signal.SIGTERM)
            status = server.wait(timeout=60)
        finally:
            server.kill()
            server.wait()
    if status != 0:
        raise SystemExit(f"SIGTERM ended the server with status {status}.")
    print(
        "healthy, an answer, ended by SIGTERM;",
        "read-only system, user without rights" if read_only else "as this user",
    )


if __name__ == "__main__":
    main()
