"""The OpenAPI schema is true: schemathesis makes requests for every route, and checks each answer against it."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import pytest
from serving import SAMPLES, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Schemas can't say everything: of valid requests, those for a video that isn't there or isn't one are refused.
NOT_CHECKED = "positive_data_acceptance"


def test_answers_of_every_route_are_those_of_the_schema(tmp_path: Path) -> None:
    """In a server of its own, because invented requests also cancel jobs and end visits."""
    tool = Path(sysconfig.get_path("scripts")) / "schemathesis"
    options = ["--phases=examples,fuzzing", "--max-examples=1", "--generation-deterministic",
               f"--exclude-checks={NOT_CHECKED}", "--continue-on-failure", "--suppress-health-check=filter_too_much",
               "--request-timeout=60", "--workers=2", "--warnings=off", "--no-color"]  # fmt: skip
    with running(tmp_path, "--root", SAMPLES, check_log=False) as server:
        schema = server.http.get("/openapi.json").json()
        command = [tool, "run", f"{server.url}/openapi.json", *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        operations = sum(len(methods.keys() - {"parameters"}) for methods in schema["paths"].values())
        assert done.returncode == 0, done.stdout[-20_000:]
        assert f"Tested: {operations}" in done.stdout
        assert server.http.get("/healthz").status_code == 200
    assert " fault " not in server.log.read_text(), server.log.read_text()[-20_000:]
