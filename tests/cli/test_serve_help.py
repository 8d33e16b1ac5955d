"""The help of `openxclip serve` shows defaults as they are typed."""

from __future__ import annotations

import re

from click.testing import CliRunner

from openxclip.cli.main import cli
from openxclip.cli.serve import command


def test_every_default_that_the_help_shows_can_be_typed() -> None:
    text = " ".join(CliRunner().invoke(cli, ["serve", "--help"]).output.split())
    assert "[default: 4:00:00]" in text
    assert "[default: 5:00]" in text
    assert not re.search(r"default: (\(|\d+\.0\])", text)


def test_the_defaults_are_those_of_the_settings() -> None:
    from openxclip.serve.settings import ServeSettings

    parsed = command.make_context("serve", [], resilient_parsing=True).params
    settings = ServeSettings()
    for name in ("max_upload", "max_duration", "max_labels", "queue_size", "request_timeout", "concurrency"):
        assert parsed[name] == getattr(settings, name), name
