"""What the command sets for its process before PyTorch is loaded."""

from __future__ import annotations

import os

import pytest

from openxclip.cli import main

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@pytest.mark.parametrize("given", [None, *NAMES])
def test_threads_sleep_unless_the_user_chose_otherwise(given: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "1")
        monkeypatch.delenv(name)  # both, so that what the call sets is taken back
    if given is not None:
        monkeypatch.setenv(given, "7")
    main._let_threads_sleep()
    assert {name: os.environ[name] for name in NAMES if name in os.environ} == (
        {"OMP_WAIT_POLICY": "PASSIVE"} if given is None else {given: "7"}
    )
