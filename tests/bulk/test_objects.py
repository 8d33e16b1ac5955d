"""The files of an object store and of a folder: conditional writes, waiting, and what errors say."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import obstore
import pytest
from s3_server import S3Server

from openxclip.errors import OpenXCLIPError, StoreError
from openxclip.search.bulk import objects as objects_module
from openxclip.search.bulk.objects import Objects, ambient_options
from openxclip.search.bulk.probe import check_conditional_writes

SMALL_S = 0.5  # patience


@pytest.fixture(params=["s3", "folder"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty place."""
    if request.param == "folder":
        return str(tmp_path / "a folder")
    server: S3Server = request.getfixturevalue("s3")
    return f"{server.bucket(f'objects-{time.monotonic_ns()}')}/with a/prefix"


@pytest.fixture
def objects(place: str) -> Objects:
    return Objects.open(place)


def test_objects_are_written_read_listed_and_deleted(objects: Objects) -> None:
    assert objects.get("a") is None
    objects.put("a", b"1")
    objects.put("a", b"22")
    objects.put("folder/b c", b"")
    assert objects.get("a")[0] == b"22"
    infos = {info.name: info for info in objects.list()}
    assert {name: info.size for name, info in infos.items()} == {"a": 2, "folder/b c": 0}
    assert abs(infos["a"].modified_ns / 1e9 - time.time()) < 60
    assert infos["a"].etag == objects.get("a")[1]
    assert [info.name for info in objects.list("folder")] == ["folder/b c"]
    objects.delete(["a", "missing", "folder/b c"])
    assert list(objects.list()) == []


def test_objects_are_listed_in_the_order_of_their_names(objects: Objects) -> None:
    names = ["b", "a/2", "a/10", "c", "B"]
    for name in names:
        objects.put(name, b"")
    assert [info.name for info in objects.list()] == sorted(names)


def test_a_list_goes_on_where_it_was_interrupted(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = Objects.open(s3.bucket("listed") + "/below", on_wait=lambda message: None)
    for number in range(5):
        objects.put(f"{number}", b"")
    listed, broken = obstore.list, [True, True]

    def list_and_break(*args: Any, **options: Any) -> Iterator[Any]:
        yield next(iter(listed(*args, **options)))
        if broken:
            broken.pop()
            raise OSError("error sending request")
        yield from list(listed(*args, **options))[1:]

    monkeypatch.setattr(objects_module, "_LISTED", 2)
    monkeypatch.setattr(obstore, "list", list_and_break)
    assert [info.name for info in objects.list()] == ["0", "1", "2", "3", "4"]
    assert not broken


def test_a_name_that_can_not_be_used_is_said(s3: S3Server) -> None:
    objects = Objects.open(s3.bucket("names"))
    expected = r'the name of an object can.t be used \(.*"a//b" contained empty path segment\): rename it, or list'
    with pytest.raises(StoreError, match=expected):
        objects.put("a//b", b"")
    s3._request("PUT", "/names/a//b", b"1")
    with pytest.raises(StoreError, match=expected):
        list(objects.list())


def test_an_object_is_created_once(objects: Objects) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: objects.create("one", b"%d" % number), range(8)))
    assert sum(made) == 1
    assert objects.get("one")[0] == b"%d" % made.index(True)


def test_an_object_is_replaced_only_if_it_has_not_changed(objects: Objects) -> None:
    assert objects.replace("one", b"x", "etag") is None
    objects.put("one", b"first")
    etag = objects.get("one")[1]
    with ThreadPoolExecutor(8) as pool:
        etags = list(pool.map(lambda number: objects.replace("one", b"%d" % number, etag), range(8)))
    assert sum(new is not None for new in etags) == 1
    content, now = objects.get("one")
    assert now == next(filter(None, etags))
    assert content == b"%d" % etags.index(now)


def test_a_large_object_is_read_in_chunks(objects: Objects) -> None:
    content = bytes(range(256)) * (9 << 12)  # 9 MiB
    objects.put("large", content)
    chunks = list(objects.read_chunks("large"))
    assert len(chunks) > 1
    assert b"".join(chunks) == content
    objects.put("empty", b"")
    assert list(objects.read_chunks("empty")) == []
    with pytest.raises(StoreError, match=r"missing: there is no such object\."):
        next(objects.read_chunks("missing"))


class Cut:
    """An answer that ends with an error after its first chunk."""

    def __init__(self, result: Any, before: Callable[[], object] = lambda: None) -> None:
        self.meta, self._result, self._before = result.meta, result, before

    def stream(self, **options: Any) -> Iterator[bytes]:
        yield next(iter(self._result.stream(**options)))
        self._before()
        raise OSError("request or response body error: connection reset")


def test_reading_goes_on_where_it_was_interrupted(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = Objects.open(s3.bucket("resumed"), on_wait=lambda message: None)
    content = bytes(range(256)) * (9 << 12)
    objects.put("large", content)
    get, answers = obstore.get, iter([Cut])
    asked: list[Any] = []

    def get_and_cut(*args: Any, options: Any = None) -> Any:
        asked.append(options)
        return next(answers, lambda result: result)(get(*args, options=options))

    monkeypatch.setattr(obstore, "get", get_and_cut)
    assert b"".join(objects.read_chunks("large")) == content
    assert len(asked) == 2
    assert asked[1]["range"]["offset"] > 0


def test_a_changed_object_is_not_mixed_with_the_new_one(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = Objects.open(s3.bucket("changed"), on_wait=lambda message: None)
    objects.put("large", b"a" * (9 << 20))
    get = obstore.get
    monkeypatch.setattr(
        obstore, "get", lambda *a, **k: Cut(get(*a, **k), before=lambda: objects.put("large", b"b" * (9 << 20)))
    )
    with pytest.raises(StoreError, match="large: the object changed while it was read"):
        list(objects.read_chunks("large"))


def test_a_call_waits_until_the_store_answers_again_and_says_so_once(s3: S3Server) -> None:
    said: list[str] = []
    objects = Objects.open(s3.bucket("waiting"), patience=1.0, on_wait=said.append).with_patience(60)
    objects._store = Objects.open("s3://waiting", patience=1.0)._store  # a request that isn't answered ends after 1 s
    objects.put("a", b"1")
    with s3.stopped():
        threading.Timer(1.5, s3.go_on).start()
        assert objects.get("a")[0] == b"1"
    assert len(said) == 1
    assert said[0].startswith(f"s3://waiting: the store doesn't answer at {s3.url}: check AWS_ENDPOINT_URL")
    assert said[0].endswith("(waiting for up to 60 s).")


def test_a_write_whose_answer_was_lost_counts(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = Objects.open(s3.bucket("lost"), on_wait=lambda message: None)
    put, lost = obstore.put, [1, 1]

    def put_and_lose(*args: object, **options: object) -> object:
        done = put(*args, **options)
        if lost and lost.pop():
            raise OSError("error sending request: connection closed before message completed")
        return done

    monkeypatch.setattr(obstore, "put", put_and_lose)
    assert objects.create("one", b"mine")
    etag = objects.get("one")[1]
    new = objects.replace("one", b"mine too", etag)
    assert new == objects.get("one")[1]
    assert not lost
    assert not objects.create("one", b"other")


def test_errors_that_do_not_pass_are_said_at_once(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.bucket("private")
    cases = {}
    for name, call in {
        "no bucket": lambda: Objects.open("s3://no-such-bucket/x").get("a"),
        "no bucket to list": lambda: list(Objects.open("s3://no-such-bucket/x").list()),
    }.items():
        with pytest.raises(StoreError) as caught:
            call()
        cases[name] = caught.value
    with s3.checking_credentials(), pytest.raises(StoreError) as caught:
        Objects.open("s3://private").put("a", b"1")
    cases["wrong credentials"] = caught.value
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    with pytest.raises(StoreError) as caught:
        Objects.open("s3://private").get("a")
    cases["http"] = caught.value
    assert {name: str(error) for name, error in cases.items()} == {
        "no bucket": "s3://no-such-bucket/x: there is no bucket no-such-bucket: make it, or correct the name.",
        "no bucket to list": "s3://no-such-bucket/x: there is no bucket no-such-bucket: make it, or correct the name.",
        "wrong credentials": "s3://private: the store refuses the credentials (InvalidAccessKeyId): check "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN, if they are temporary).",
        "http": "s3://private: the endpoint is http, without encryption: set AWS_ALLOW_HTTP=true to allow it.",
    }
    assert not any(error.may_pass for error in cases.values())


def test_no_answer_ends_after_the_patience(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")
    said: list[str] = []
    with pytest.raises(StoreError, match=r"doesn't answer at http://127\.0\.0\.1:9: check AWS_ENDPOINT_URL") as caught:
        Objects.open("s3://any", patience=SMALL_S, on_wait=said.append).get("a")
    assert caught.value.may_pass
    assert len(said) == 1
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.may_pass) == (str(caught.value), True)


def test_without_a_listener_waiting_is_a_warning(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")
    with pytest.warns(RuntimeWarning, match="doesn't answer"), pytest.raises(StoreError):
        Objects.open("s3://any", patience=SMALL_S).get("a")


@pytest.mark.parametrize("uri", ["ftp://host/x", "s3:///x", "http://host/x"])
def test_other_addresses_are_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="give a folder, s3://"):
        Objects.open(uri)


def test_a_file_in_the_way_of_a_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OpenXCLIPError, match="file/index: can't be written: Not a directory"):
        Objects.open(tmp_path / "file" / "index")


def test_the_environment_of_object_stores_is_handed_on(s3: S3Server) -> None:
    options = ambient_options()
    assert options["AWS_ENDPOINT_URL"] == s3.url
    assert all(name.startswith(("AWS_", "GOOGLE_", "AZURE_")) for name in options)


def test_a_store_with_conditional_writes_is_accepted(objects: Objects) -> None:
    check_conditional_writes(objects)
    assert list(objects.list()) == []


def test_a_store_without_conditional_writes_is_refused(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "create", lambda name, data: objects.put(name, data) is None)
    with pytest.raises(StoreError, match=r"doesn't honour conditional writes: 16 of 16 writers made the same object"):
        check_conditional_writes(objects)
    assert list(objects.list()) == []


def test_a_store_that_replaces_changed_objects_is_refused(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(name: str, data: bytes, etag: str) -> str:
        objects.put(name, data)
        return "etag"

    monkeypatch.setattr(objects, "replace", replace)
    with pytest.raises(StoreError, match="it replaced a changed object"):
        check_conditional_writes(objects)
