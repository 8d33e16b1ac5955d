"""The files for containers name what there is; scripts/check_container_steps.py runs the steps themselves."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def instructions() -> list[tuple[str, str]]:
    spec = importlib.util.spec_from_file_location(
        "check_container_steps", ROOT / "scripts" / "check_container_steps.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: list[tuple[str, str]] = module.instructions((ROOT / "Dockerfile").read_text(encoding="utf-8"))
    return found


def test_everything_that_is_copied_is_in_the_build_context() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [
        word for name, rest in instructions() if name == "COPY" and "--from" not in rest for word in rest.split()[:-1]
    ]
    assert copied
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name}" in ignored


def test_the_extras_of_the_image_exist() -> None:
    (install,) = (rest for name, rest in instructions() if name == "RUN" and "'.[" in rest)
    extras = re.search(r"\.\[(.*?)\]", install)
    assert extras is not None
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extra in extras[1].split(","):
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra


def test_the_server_of_the_image_has_no_rights_and_no_token() -> None:
    found = dict(instructions())
    assert found["USER"] == "10001"
    assert "token" not in found["ENTRYPOINT"].lower()
    assert "--no-auth" not in found["ENTRYPOINT"] + found["CMD"]
    assert json.loads(found["HEALTHCHECK"].partition(" CMD ")[2])[0] == "python"


@pytest.mark.parametrize("words", ["ENTRYPOINT", "compose"])
def test_the_options_of_the_image_are_those_of_the_command(words: str) -> None:
    from click import Context

    from openxclip.cli.main import cli

    found = dict(instructions())
    given = json.loads(found["ENTRYPOINT"])[2:]
    if words == "compose":
        service = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]["openxclip"]
        given += [re.sub(r"\$\{\w+-(.*?)\}", r"\1", word) for word in service["command"]]
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    command = cli.get_command(Context(cli), "serve")
    assert command is not None
    known = {name for option in command.params for name in option.opts}
    options = [word for word in given if word.startswith("--")]
    assert options
    assert set(options) <= known
