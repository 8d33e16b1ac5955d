"""Who may ask: Host, Origin, token and cookie; what every answer has; what the log doesn't have."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from serving_fakes import VIDEO, error_of, make_client
from starlette.testclient import TestClient

from openxclip.cli.serve import command
from openxclip.serve.security import SESSION_COOKIE, Tokens
from openxclip.serve.settings import ServeSettings

TOKEN = "correct-horse-battery"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.", "", "a b", "127.0.0.1:x"])
def test_another_host_is_refused_without_a_token_too(client: TestClient, host: str) -> None:
    answer = client.get("/v1/models", headers={"Host": host})
    if host == "localhost.":  # the same name, as DNS writes it
        assert answer.status_code == 200
    else:
        assert error_of(answer)["code"] == "host_not_allowed"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1234", "127.0.0.1", "[::1]:8000"])
def test_the_names_of_loopback_are_allowed(client: TestClient, host: str) -> None:
    assert client.get("/v1/models", headers={"Host": host}).status_code == 200


def test_a_server_on_all_addresses_answers_to_addresses_and_allowed_names(tmp_path: Path) -> None:
    with make_client(tmp_path, host="0.0.0.0", no_auth=True, allow_hosts=("video.example", "*.lan")) as client:
        for host, status in {
            "192.168.1.7:8000": 200,
            "[fd00::7]": 200,
            "video.example": 200,
            "a.lan": 200,
            "lan": 403,
            "evil.example": 403,
            "xvideo.example": 403,
        }.items():
            assert client.get("/v1/models", headers={"Host": host}).status_code == status, host


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://127.0.0.1:9999", "http://localhost:8000", "file://", "https://evil", "*"],
)
def test_a_foreign_origin_is_refused(client: TestClient, origin: str) -> None:
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/classify"), ("POST", "/v1/visits/end")):
        answer = client.request(method, path, headers={"Origin": origin})
        assert error_of(answer)["code"] == "origin_not_allowed"
        assert "access-control-allow-origin" not in answer.headers


def test_the_own_origin_is_allowed_also_behind_a_proxy_with_https(client: TestClient) -> None:
    for origin in ("http://127.0.0.1:8000", "https://127.0.0.1:8000"):
        assert client.get("/v1/models", headers={"Origin": origin}).status_code == 200
    answer = client.get("/v1/models", headers={"Host": "localhost", "Origin": "https://localhost:443"})
    assert answer.status_code == 200


def test_requests_that_browsers_mark_as_cross_site_are_refused_but_links_to_the_page_work(client: TestClient) -> None:
    image = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert error_of(client.get("/v1/videos/films/a.mp4/frame", headers=image))["code"] == "origin_not_allowed"
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/", headers=link).status_code == 200
    assert error_of(client.get("/v1/models", headers=link))["code"] == "origin_not_allowed"
    assert error_of(client.post("/", headers=link))["code"] == "origin_not_allowed"


def test_two_hosts_and_a_compressed_body_are_refused(client: TestClient) -> None:
    twice = client.get("/healthz", headers=[("Host", "localhost"), ("Host", "localhost")])  # type: ignore[arg-type]
    assert error_of(twice)["code"] == "bad_request"
    for encoding in ("gzip", "deflate", "br", "zstd", "gzip, gzip", "unknown"):
        headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
        answer = client.post("/v1/classify", content=b"\x1f\x8b", headers=headers)
        assert answer.status_code == 415
        assert "Content-Encoding" in error_of(answer)["message"]


def test_a_token_is_needed_but_for_the_page_its_files_and_health(tmp_path: Path) -> None:
    with make_client(tmp_path, token=TOKEN) as client:
        for path in ("/", "/healthz", "/readyz", "/docs", "/openapi.json", "/v1/session"):
            assert client.get(path).status_code == 200, path
        for path in ("/v1/models", "/metrics", "/v1/videos", "/v1/nothing", "/nothing", "/v1/session/x"):
            answer = client.get(path)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert error_of(answer)["message"] == "this server needs a token."
        assert client.get("/v1/models", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        for wrong in (TOKEN[:-1], f"{TOKEN}x", TOKEN.upper(), "", "ü"):
            header = f"Bearer {wrong}".encode()
            answer = client.get("/v1/models", headers={"Authorization": header})  # type: ignore[dict-item]
            assert answer.status_code == 401, wrong
            assert TOKEN not in answer.text
        basic = client.get("/v1/models", headers={"Authorization": f"Basic {TOKEN}"})
        assert basic.status_code == 401
        assert client.get(f"/v1/models?token={TOKEN}").status_code == 401


def test_the_page_shows_the_token_once_and_then_has_a_cookie_without_it(tmp_path: Path) -> None:
    with make_client(tmp_path, token=TOKEN) as client:
        assert client.get("/v1/session").json() == {"required": True, "authenticated": False}
        assert error_of(client.post("/v1/session", json={"token": "wrong"}))["code"] == "unauthorized"
        answer = client.post("/v1/session", json={"token": TOKEN}, headers={"X-Forwarded-Proto": "https"})
        cookie = answer.headers["set-cookie"]
        assert TOKEN not in cookie
        assert {"HttpOnly", "SameSite=strict", "Secure", "Path=/"} <= set(cookie.split("; "))
        value = cookie.partition("=")[2].partition(";")[0]
        headers = {"Cookie": f"{SESSION_COOKIE}={value}"}
        assert client.get("/v1/session", headers=headers).json()["authenticated"]
        assert client.get("/v1/models", headers=headers).status_code == 200
        end, _, signature = value.partition(".")
        for wrong in (f"{int(end) + 9}.{signature}", f"{end}.{signature[:-1]}", end, f".{signature}", "x", f"{value}x"):
            assert client.get("/v1/models", headers={"Cookie": f"{SESSION_COOKIE}={wrong}"}).status_code == 401
        out = client.delete("/v1/session", headers=headers)
        assert 'openxclip_session=""' in out.headers["set-cookie"]


def test_a_cookie_ends_with_its_time_and_with_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    value = Tokens(TOKEN).new_session()
    assert Tokens(TOKEN).is_session(value)
    assert not Tokens(f"{TOKEN}2").is_session(value)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 31 * 24 * 3600)
    assert not Tokens(TOKEN).is_session(value)


def test_cookies_without_https_have_no_secure_flag(client: TestClient) -> None:
    answer = client.post("/v1/uploads", content=VIDEO, headers={"Content-Type": "video/mp4"})
    flags = set(answer.headers["set-cookie"].split("; "))
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= flags
    assert "Secure" not in flags


def test_every_answer_has_the_headers_of_security(client: TestClient) -> None:
    for path in ("/", "/docs", "/healthz", "/v1/models", "/nothing", "/v1/videos/films/a.mp4/stream"):
        headers = client.get(path).headers
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cross-origin-resource-policy"] == "same-origin"
    assert client.get("/", headers={"Host": "evil"}).headers["x-content-type-options"] == "nosniff"


def test_the_log_has_no_token_no_query_and_no_line_of_a_client(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with make_client(tmp_path, token=TOKEN) as client:
        client.get(f"/v1/models?token={TOKEN}", headers={"Authorization": f"Bearer {TOKEN}"})
        client.post("/v1/session", json={"token": TOKEN})
        client.get("/a%0d%0aFake%20line%1b[31m")
        client.app.state.engine.error = RuntimeError(f"no {TOKEN} here")
        own = [record.getMessage() for record in caplog.records if record.name == "openxclip.serve.access"]
        assert own[0].startswith("GET /v1/models 200 ")
        assert "\\r\\nFake" in own[2]
        assert all(TOKEN not in line and "\n" not in line and "\x1b" not in line for line in own)


def test_an_open_address_needs_a_token_or_no_auth(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.7", "example.org"):
        with pytest.raises(ValueError, match="can be reached from other machines"):
            ServeSettings(host=host, data=tmp_path)
        ServeSettings(host=host, data=tmp_path, token=TOKEN)
        ServeSettings(host=host, data=tmp_path, no_auth=True)
    for host in ("localhost", "127.0.0.1", "127.8.9.1", "::1", "[::1]"):
        ServeSettings(host=host, data=tmp_path)
    assert TOKEN not in repr(ServeSettings(data=tmp_path, token=TOKEN))
    for token in ("short", "with space and more", "ümlaut-ümlaut"):
        with pytest.raises(ValueError, match="token"):
            ServeSettings(data=tmp_path, token=token)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "can be reached from other machines"),
        (["--root", "none"], "there is no such folder"),
        (["--root", ".", "--root", "."], "is given 2 times"),
        (["--token-file", "token"], "8 or more"),
        (["--in", "videos"], "is not an index of videos"),
        (["--in", ""], "--in is empty"),
    ],
)
def test_a_mistake_of_the_command_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(VIDEO)
    (tmp_path / "token").write_text("short\n")
    done = CliRunner().invoke(command, ["--data", "data", *options])
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
    assert isinstance(done.exception, SystemExit)


def test_a_root_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    for other in (tmp_path, tmp_path / "link", tmp_path / "."):
        with pytest.raises(ValueError, match="is given 2 times: name it once"):
            ServeSettings(data=tmp_path / "data", roots=(tmp_path, other))


def test_a_folder_that_is_no_index_is_refused(tmp_path: Path) -> None:
    new, empty, other, index, file = (tmp_path / name for name in ("new", "empty", "other", "index", "file"))
    for folder in (empty, other, index / "windows.lance"):
        folder.mkdir(parents=True)
    (other / "notes.txt").touch()
    file.touch()
    for folder in (new, empty, index):
        assert ServeSettings(data=tmp_path, index=folder).index_folder == folder
    for folder, reason in ((other, "is not an index of videos"), (file, "is a file, not the folder of an index")):
        with pytest.raises(ValueError, match=f"^index {folder}: {reason}"):
            ServeSettings(data=tmp_path, index=folder)


def test_a_problem_of_the_index_is_told_only_to_those_with_the_token(tmp_path: Path) -> None:
    with make_client(tmp_path, token=TOKEN) as client:
        client.app.state.engine.problem = "the index was made with another model."
        assert client.get("/readyz").json()["problem"] is None
        told = client.get("/readyz", headers={"Authorization": f"Bearer {TOKEN}"}).json()
        assert (told["status"], told["problem"]) == ("ready", "the index was made with another model.")


def test_the_reason_of_a_failed_model_is_told_only_to_those_with_the_token(tmp_path: Path) -> None:
    with make_client(tmp_path, token=TOKEN) as client:
        client.app.state.engine.loading = "failed"
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert "/secret" not in answer.text
        assert "/secret" in client.get("/readyz", headers={"Authorization": f"Bearer {TOKEN}"}).text
