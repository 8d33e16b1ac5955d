"""Wrong requests get one form of error, which names the value; what waits too long or breaks has its status."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
from serving_fakes import VIDEO, error_of, make_client
from starlette.testclient import TestClient

from openxclip.errors import CheckpointError, DecoderCrashError, MissingPackageError, VideoError, VideoIndexError
from openxclip.serve.engine import errors as engine_errors
from openxclip.serve.errors import CODES


def classify(client: TestClient, **body: Any) -> Any:
    return client.post("/v1/classify", json={"labels": ["a"], "path": "a.mp4", **body})


@pytest.mark.parametrize("body", [b"", b"{", b"[1", b'{"a": NaN}', b'{"a": Infinity}', b"\xff", b'{"a": "\\ud800"}'])
def test_what_is_not_json_is_refused(client: TestClient, body: bytes) -> None:
    for path in ("/v1/classify", "/v1/timeline", "/v1/embeddings", "/v1/search", "/v1/index", "/v1/session"):
        answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, answer.text
        assert error_of(answer)["code"] == "invalid_json"


@pytest.mark.parametrize("body", [[], "text", 7, None, {}, {"labels": ["a"]}, {"path": "a.mp4"}])
def test_json_of_another_form_is_refused(client: TestClient, body: Any) -> None:
    answer = client.post("/v1/classify", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert error_of(answer)["code"] == "invalid_request"
    assert client.app.state.engine.tasks == []


def test_deep_json_is_refused(client: TestClient) -> None:
    deep = b'{"labels":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    answer = client.post("/v1/classify", content=deep, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"labels": []}, "labels"),
        ({"labels": "a, b"}, "labels"),
        ({"labels": [""]}, "labels"),
        ({"labels": ["a", "  "]}, "label 2 of 2 is empty"),
        ({"labels": ["a", "a "]}, "label 'a' is given twice"),
        ({"labels": [1]}, "labels"),
        ({"labels": ["x" * 3000]}, "labels"),
        ({"top": 0}, "top=0"),
        ({"top": "5"}, "top='5'"),
        ({"top": 1.5}, "top=1.5"),
        ({"top": 10**30}, "top="),
        ({"top": True}, "top"),
        ({"min_score": 1.01}, "min_score=1.01"),
        ({"min_score": -1}, "min_score=-1"),
        ({"min_score": 1e308}, "min_score=1e+308"),
        ({"template": "no place"}, "template"),
        ({"template": "{} {}"}, "template"),
        ({"head": "../labels"}, "head"),
        ({"nonsense": 1}, "nonsense: there is no such field"),
        ({"path": None}, "path"),
        ({"path": ""}, "path"),
        ({"video": "films/a.mp4"}, "path and video are given"),
    ],
)
def test_a_wrong_value_is_named(client: TestClient, fields: dict[str, Any], part: str) -> None:
    answer = classify(client, **fields)
    assert answer.status_code == 422, answer.text
    assert part in error_of(answer)["message"]
    assert client.app.state.engine.tasks == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labels": []}, "labels: is empty."),
        ({"labels": "a, b"}, "labels='a, b': must be a list."),
        ({"top": 0}, "top=0: must be 1 or more."),
        ({"top": "many"}, "top='many': must be a whole number."),
        ({"min_score": 7}, "min_score=7: must be 1 or less."),
    ],
)
def test_a_wrong_value_is_explained_in_plain_words(client: TestClient, fields: dict[str, Any], message: str) -> None:
    assert error_of(classify(client, **fields)) == {"code": "invalid_request", "message": message, "hint": None}
    two = error_of(classify(client, **fields, nonsense=1))
    assert two["hint"] == "There is 1 more mistake."


def test_a_body_that_is_no_object_or_is_empty_is_explained(client: TestClient) -> None:
    json_type = {"Content-Type": "application/json"}
    listed = client.post("/v1/classify", content=b"[]", headers=json_type)
    assert error_of(listed)["message"] == "the body must be a JSON object."
    empty = client.post("/v1/classify", content=b"", headers=json_type)
    assert error_of(empty)["message"] == "the body is empty: JSON is needed."
    assert error_of(client.post("/v1/classify", content=b"{", headers=json_type))["hint"] is None
    not_finite = client.post("/v1/classify", content=b'{"a": NaN}', headers=json_type)
    assert error_of(not_finite)["hint"] == "NaN and Infinity aren't JSON."


def test_every_message_is_a_sentence_because_a_hint_may_follow(client: TestClient) -> None:
    client.app.state.engine.error = VideoError("a.mp4", "it is cut off. Copy it again")
    assert error_of(classify(client))["message"] == "a.mp4: it is cut off. Copy it again."


def test_an_integer_may_be_written_as_a_float(client: TestClient) -> None:
    assert classify(client, top=3.0).status_code == 200
    assert client.app.state.engine.tasks[0].top == 3


@pytest.mark.parametrize("query", ["top=1&top=2", "top=x", "top=nan", "min_score=inf", "labels=&labels=b", "none=1"])
def test_a_wrong_query_of_a_raw_body_is_named(client: TestClient, query: str) -> None:
    answer = client.post(f"/v1/classify?labels=a&{query}", content=VIDEO, headers={"Content-Type": "video/mp4"})
    assert answer.status_code == 422
    assert error_of(answer)["message"].startswith("query ")


def test_thousands_of_labels_are_refused_by_number(client: TestClient) -> None:
    answer = classify(client, labels=[f"label {i}" for i in range(1001)])
    assert error_of(answer) == {
        "code": "too_many_labels",
        "message": "labels: there are 1001, but this server takes 1000.",
        "hint": "Send some at a time: scores of labels don't depend on each other.",
    }
    assert classify(client, labels=[f"label {i}" for i in range(1000)]).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/nothing", 404),
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/models/", 404),
        ("GET", "/assets/nothing.js", 404),
        ("GET", "/docs/../app.py", 404),
        ("GET", "/v1/jobs/nothing", 404),
        ("GET", "/v1/videos/films/nothing.mp4/stream", 404),
        ("GET", "/v1/uploads/nothing/info", 404),
        ("POST", "/v1/models", 405),
        ("OPTIONS", "/v1/classify", 405),
        ("PATCH", "/v1/jobs/x", 405),
        ("TRACE", "/healthz", 405),
        ("GET", "/v1/jobs?limit=0", 422),
        ("GET", "/v1/jobs?limit=x", 422),
        ("GET", "/v1/videos?offset=-1", 422),
        ("GET", "/v1/videos/films/a.mp4/frame?t=nan", 422),
        ("GET", "/v1/videos/films/a.mp4/frame?t=1e400", 422),
        ("GET", "/v1/videos/films/a.mp4/frame?width=100000", 422),
    ],
)
def test_every_refusal_has_the_one_form(client: TestClient, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status, answer.text
    error_of(answer)
    if status == 405:
        assert answer.headers["allow"]
        assert method not in answer.headers["allow"].split(", ")


def test_head_is_as_get_without_the_body(client: TestClient) -> None:
    for path in ("/healthz", "/v1/models", "/v1/videos/films/a.mp4/stream", "/nothing", "/"):
        head, get = client.head(path), client.get(path)
        assert head.status_code == get.status_code
        assert head.content == b""
        assert head.headers["content-length"] == get.headers["content-length"]


def test_the_allowed_methods_are_those_of_all_routes_of_an_address(client: TestClient) -> None:
    assert client.put("/v1/jobs/x").headers["allow"] == "DELETE, GET, HEAD"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (engine_errors.QueueFullError(7), 429, "queue_full"),
        (engine_errors.ModelGoneError("the process was killed."), 503, "model_gone"),
        (engine_errors.ModelNotLoadedError("no such model.", 3), 503, "model_not_loaded"),
        (engine_errors.EngineStoppedError("stopping."), 503, "stopping"),
        (engine_errors.VideoTooLongError("v", "lasts 5 h."), 422, "video_too_long"),
        (engine_errors.NoIndexError("none."), 404, "no_index"),
        (engine_errors.WrongIndexError("other model."), 409, "wrong_index"),
        (TimeoutError("after 300 s."), 504, "timed_out"),
        (DecoderCrashError("v", "killed the decoder."), 422, "video_crashed_decoder"),
        (VideoError("v", "is broken."), 422, "video_unreadable"),
        (VideoIndexError("broken."), 409, "index_error"),
        (MemoryError("the GPU has no memory left."), 503, "out_of_memory"),
        (CheckpointError("broken."), 503, "model_not_loaded"),
        (MissingPackageError("search", "lancedb", "search"), 501, "not_installed"),
        (ValueError("two labels have the same tokens."), 422, "invalid_request"),
        (OSError(errno.ENOSPC, "No space left on device"), 507, "disk_full"),
        (OSError(errno.EIO, "I/O error", "/secret/file"), 500, "internal_error"),
        (RuntimeError("/secret"), 500, "internal_error"),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "/secret"), 500, "internal_error"),
    ],
)
def test_an_exception_has_its_status_and_code(client: TestClient, error: Exception, status: int, code: str) -> None:
    client.app.state.engine.error = error
    answer = classify(client)
    assert answer.status_code == status == CODES[code][0]
    told = error_of(answer)
    assert told["code"] == code
    assert "/secret" not in answer.text
    assert told["message"]
    if status == 429:
        assert answer.headers["retry-after"] == "7"
    if code in ("model_gone", "stopping", "model_not_loaded") and "retry" in str(vars(error)):
        assert int(answer.headers["retry-after"]) >= 1


def test_a_body_above_the_limit_is_refused(tmp_path: Path) -> None:
    with make_client(tmp_path, max_upload=1000, max_json=500) as client:
        headers = {"Content-Type": "video/mp4"}
        for content in (VIDEO, iter([VIDEO])):  # with Content-Length, and chunked
            answer = client.post("/v1/classify?labels=a", content=content, headers=headers)
            assert answer.status_code == 413
            assert "1 kB" in error_of(answer)["message"]
        large = b" " * (9 << 20)
        for path, content in (("/v1/classify", large), ("/v1/classify", iter([large])), ("/v1/session", b" " * 501)):
            kind = "video/mp4" if path == "/v1/classify" else "application/json"
            answer = client.post(path, content=content, headers={"Content-Type": kind})
            assert answer.status_code == 413, answer.text
            error_of(answer)
        answer = client.post("/v1/session", content=b" " * 501, headers={"Content-Type": "video/mp4"})
        assert answer.status_code == 413  # no other route takes a large body, whatever its type
        form = client.post("/v1/classify", data={"labels": "a"}, files={"file": VIDEO})
        assert form.status_code == 413
        assert list(client.app.state.settings.uploads.iterdir()) == []


def test_a_length_that_is_no_number_is_refused(client: TestClient) -> None:
    for length in ("x", "-1", "9" * 30, "1 2", "٣"):
        headers = {"Content-Type": "application/json", "Content-Length": length.encode()}
        answer = client.post("/v1/classify", content=b"{}", headers=headers)  # type: ignore[arg-type]
        assert answer.status_code in (400, 413)
        error_of(answer)


def test_a_full_disk_is_told_and_nothing_is_left(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from openxclip.serve import receiving

    headers = {"Content-Type": "video/mp4"}
    monkeypatch.setattr(receiving, "FREE_SPACE", 1 << 60)
    answer = client.post("/v1/uploads", content=VIDEO, headers=headers)
    assert error_of(answer)["code"] == "disk_full"
    monkeypatch.undo()

    def fail(self: Any, data: bytes) -> None:
        self._partial.write_bytes(data[:5])
        raise OSError(errno.ENOSPC, "No space left on device", str(self._partial))

    monkeypatch.setattr(receiving.Writer, "_write", fail)
    for answer in (
        client.post("/v1/uploads", content=VIDEO, headers=headers),
        client.post("/v1/classify", data={"labels": "a"}, files={"file": VIDEO}),
        client.post("/v1/uploads", files={"file": VIDEO}),
    ):
        assert answer.status_code == 507
        assert error_of(answer)["code"] == "disk_full"
        assert "uploads" not in answer.text
    assert list(client.app.state.settings.uploads.iterdir()) == []


def test_no_answer_has_nan(client: TestClient) -> None:
    answer = client.post("/v1/timeline", json={"labels": ["a"], "path": "a.mp4"})
    assert json.loads(answer.content, parse_constant=pytest.fail)["result"]["duration"] is None


def test_a_full_queue_refuses_before_the_body_is_read(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from openxclip.serve import receiving

    client.app.state.engine.full = engine_errors.QueueFullError(3)
    monkeypatch.setattr(receiving.Writer, "write", pytest.fail)
    for path in ("/v1/classify?labels=a", "/v1/timeline?labels=a", "/v1/search"):
        answer = client.post(path, content=VIDEO, headers={"Content-Type": "video/mp4"})
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "3"
        assert error_of(answer)["code"] == "queue_full"


def test_large_json_bodies_at_once_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from openxclip.serve import bodies

    monkeypatch.setattr(bodies, "_MOST_JSON", 0.5)
    with make_client(tmp_path, max_json=3_000_000) as client:
        small = client.post("/v1/embeddings", json={"input": "a"})
        assert small.status_code == 200
        large = b'{"input": "a"' + b" " * 2_000_000 + b"}"
        for content in (large, iter([large])):
            answer = client.post("/v1/embeddings", content=content, headers={"Content-Type": "application/json"})
            assert answer.status_code == 429
            assert error_of(answer)["code"] == "too_many_bodies"
            assert answer.headers["retry-after"] == "2"


def test_a_wrong_token_is_not_repeated(client: TestClient) -> None:
    for token in (123456789, ["secret-secret"], "secret" * 300):
        answer = client.post("/v1/session", json={"token": token})
        assert answer.status_code == 422
        assert "secret" not in answer.text
        assert "12345" not in answer.text
