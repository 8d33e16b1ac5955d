"""Addresses are fetched only if enabled, and never from this machine or its network."""

from __future__ import annotations

import asyncio
import ipaddress
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpcore
import pytest
from serving_fakes import VIDEO, error_of, make_client
from starlette.testclient import TestClient

from openxclip.serve import fetching
from openxclip.serve.fetching import is_public_address

PUBLIC = "93.184.215.14"


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fe80::1", "fc00::1", "fd12::1", "ff02::1", "fec0::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1"),
        *("64:ff9b:1::8.8.8.8", "2002:7f00:1::", "2002:0a00:0001::", "2001:0:7f00:1::", "100::1"),
    ],
)
def test_private_addresses_are_known_in_all_forms(address: str) -> None:
    assert not is_public_address(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "2606:4700::1111", "2a00:1450:4001:80b::200e"])
def test_public_addresses_are_known(address: str) -> None:
    assert is_public_address(ipaddress.ip_address(address))


def send(client: TestClient, url: str) -> Any:
    return client.post("/v1/classify", json={"labels": ["a"], "url": url})


@pytest.fixture(scope="module")
def shared_fetching_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with make_client(tmp_path_factory.mktemp("fetching"), allow_urls=True, max_upload=100_000) as client:
        yield client


@pytest.fixture
def fetching_client(shared_fetching_client: TestClient) -> TestClient:
    shared_fetching_client.app.state.engine.__init__()
    return shared_fetching_client


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1/", "http://localhost/", "http://0.0.0.0/", "http://[::1]/", "http://[::]/"),
        *("http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/", "http://127.1/", "http://0/"),
        *("http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[64:ff9b::7f00:1]/", "http://10.0.0.1/"),
        *("http://169.254.169.254/latest/meta-data/", "https://192.168.0.1/", "http://[fe80::1%25eth0]/"),
    ],
)
def test_private_addresses_are_refused_however_they_are_written(fetching_client: TestClient, url: str) -> None:
    answer = send(fetching_client, url)
    assert error_of(answer)["code"] in ("urls_not_allowed", "url_not_fetched", "invalid_request"), answer.text
    assert fetching_client.app.state.engine.tasks == []


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://example.org/a.mp4", "file:///etc/passwd", "gopher://example.org/", "https://", "https:///a"),
        *("http://user:pw@example.org/", "http://[::1", "http://example.org:99999/", "http://example.org:22/"),
        *("nonsense", "\0http://a", "http://exa mple.org/", "http://\r\nHost: x/"),
    ],
)
def test_what_is_no_address_of_the_web_is_refused(fetching_client: TestClient, url: str) -> None:
    answer = send(fetching_client, url)
    assert answer.status_code in (403, 422, 502), answer.text
    error_of(answer)
    assert "pw@" not in answer.text


def test_one_private_address_among_several_is_enough(
    fetching_client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolve(host: str, port: int) -> list[Any]:
        return [ipaddress.ip_address(PUBLIC), ipaddress.ip_address("10.0.0.1")]

    monkeypatch.setattr(fetching, "resolve", resolve)
    assert error_of(send(fetching_client, "https://example.org/a.mp4"))["code"] == "urls_not_allowed"


class Site:
    """A web server whose names all resolve to a public address, and connections to it come here instead."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        site = self
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.resolved: list[str] = []
        self.connected: list[str] = []
        self.addresses = {"private.example": "10.0.0.1", "mapped.example": "::ffff:127.0.0.1"}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, headers, body = site.answers.get(self.path, (404, {}, b""))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

        async def resolve(host: str, port: int) -> list[Any]:
            self.resolved.append(host)
            return [ipaddress.ip_address(self.addresses.get(host, PUBLIC))]

        real = httpcore.AnyIOBackend.connect_tcp

        async def connect(backend: Any, host: str, port: int, timeout: float | None = None, **_: Any) -> Any:
            self.connected.append(host)
            assert host == PUBLIC  # the address that was checked, and never a name
            return await real(backend, "127.0.0.1", self.server.server_port, timeout)

        monkeypatch.setattr(fetching, "resolve", resolve)
        monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", connect)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    site = Site(monkeypatch)
    yield site
    site.server.shutdown()
    site.server.server_close()


def test_a_video_is_fetched_from_the_address_that_was_checked(fetching_client: TestClient, site: Site) -> None:
    site.answers["/my%20cat.mp4"] = (200, {"Content-Length": str(len(VIDEO))}, VIDEO)
    answer = send(fetching_client, "http://example.org/my%20cat.mp4")
    assert answer.status_code == 200, answer.text
    assert answer.json()["result"]["path"] == "my cat.mp4"
    assert fetching_client.app.state.engine.contents == [VIDEO]
    assert site.resolved == ["example.org"]  # once: a name that changes its address meanwhile gains nothing
    assert site.connected == [PUBLIC]
    assert list(fetching_client.app.state.settings.uploads.iterdir()) == []


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("http://private.example/a", "urls_not_allowed"),
        ("http://mapped.example/a", "urls_not_allowed"),
        ("//private.example/a", "urls_not_allowed"),
        ("file:///etc/passwd", "invalid_request"),
        ("/loop", "url_not_fetched"),
        ("http://example.org:22/", "urls_not_allowed"),
    ],
)
def test_redirects_are_checked_again(fetching_client: TestClient, site: Site, target: str, code: str) -> None:
    site.answers["/loop"] = (302, {"Location": target}, b"")
    answer = send(fetching_client, "http://example.org/loop")
    assert error_of(answer)["code"] == code
    assert fetching_client.app.state.engine.tasks == []


def test_a_redirect_to_a_public_address_is_followed(fetching_client: TestClient, site: Site) -> None:
    site.answers["/a"] = (301, {"Location": "http://other.example/b.mp4"}, b"")
    site.answers["/b.mp4"] = (200, {}, VIDEO)
    assert send(fetching_client, "http://example.org/a").status_code == 200
    assert site.resolved == ["example.org", "other.example"]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ((404, {}, b"nothing"), "url_not_fetched"),
        ((500, {}, b""), "url_not_fetched"),
        ((200, {"Content-Length": "999999999"}, b""), "body_too_large"),
        ((200, {}, b"x" * 200_000), "body_too_large"),
        ((200, {"Content-Encoding": "gzip"}, b"\x1f\x8b"), "url_not_fetched"),
        ((200, {}, b""), "video_unreadable"),
        ((200, {"Content-Length": "100"}, b"abc"), "url_not_fetched"),
    ],
)
def test_what_cannot_be_fetched_has_a_reason_and_leaves_nothing(
    fetching_client: TestClient, site: Site, answer: tuple[int, dict[str, str], bytes], code: str
) -> None:
    site.answers["/a"] = answer
    assert error_of(send(fetching_client, "http://example.org/a"))["code"] == code
    assert list(fetching_client.app.state.settings.uploads.iterdir()) == []


def test_names_are_resolved_to_all_their_addresses() -> None:
    assert ipaddress.ip_address("127.0.0.1") in asyncio.run(fetching.resolve("localhost", 80))
