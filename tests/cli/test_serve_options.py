"""The help of `openxclip serve` shows defaults as they are typed; mistakes in options are refused at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from openxclip.cli.main import cli
from openxclip.cli.serve import command
from openxclip.serve.settings import ServeSettings


def test_every_default_that_the_help_shows_can_be_typed() -> None:
    text = " ".join(CliRunner().invoke(cli, ["serve", "--help"]).output.split())
    assert "[default: 4:00:00]" in text
    assert "[default: 5:00]" in text
    assert not re.search(r"default: (\(|\d+\.0\])", text)


def test_the_defaults_are_those_of_the_settings() -> None:
    parsed = command.make_context("serve", [], resilient_parsing=True).params
    settings = ServeSettings()
    for name in ("max_upload", "max_duration", "max_labels", "queue_size", "request_timeout", "concurrency"):
        assert parsed[name] == getattr(settings, name), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", ""), "--data is empty"),
        (("--in", " "), "--in is empty"),
        (("--root", ""), "a root is empty"),
        (("--allow-host", "https://videos.example.org"), "without http and port"),
        (("--allow-host", "videos.example.org:8000"), "without http and port"),
        (("--root", "missing"), "there is no such folder"),
        (("--host", "0.0.0.0"), "set a token"),
    ],
)
def test_a_mistake_in_an_option_is_refused_before_anything_is_written(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("granian")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["serve", "--model", "mini", *arguments])
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
    assert list(tmp_path.iterdir()) == []


def test_several_kinds_of_names_are_allowed(tmp_path: Path) -> None:
    names = ("videos.example.org", "*.lan", "fd00::1")
    assert ServeSettings(data=tmp_path, allow_hosts=names).allow_hosts == names
