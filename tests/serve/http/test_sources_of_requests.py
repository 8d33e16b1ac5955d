"""A video comes as a body, a form, a path, an upload, an id or a data URL; what was sent is deleted afterwards."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from serving_fakes import VIDEO, error_of, make_client
from starlette.testclient import TestClient

LABELS = {"labels": ["a cat", "a dog"]}


def left_in(client: TestClient) -> list[str]:
    return [path.name for path in client.app.state.settings.uploads.iterdir()]


def classify(client: TestClient, **body: Any) -> Any:
    return client.post("/v1/classify", json={**LABELS, **body})


def test_a_raw_body_has_its_options_in_the_query(client: TestClient) -> None:
    query = {"labels": ["a cat", "a dog"], "top": "1", "name": "my cat.mp4"}
    answer = client.post("/v1/classify", params=query, content=VIDEO, headers={"Content-Type": "video/mp4"})
    assert answer.status_code == 200
    assert answer.json()["model"] == "mini"
    assert answer.json()["result"]["path"] == "my cat.mp4"
    assert [row["label"] for row in answer.json()["result"]["labels"]] == ["a cat"]
    engine = client.app.state.engine
    assert engine.contents == [VIDEO]
    assert engine.tasks[0].path.suffix == ".mp4"
    assert left_in(client) == []


def test_a_form_may_have_its_fields_after_the_file(client: TestClient) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="../../etc/a b.mp4"\r\n'
        b"Content-Type: video/mp4\r\n\r\n" + VIDEO + b"\r\n"
        b'--x\r\nContent-Disposition: form-data; name="labels"\r\n\r\na cat\r\n'
        b'--x\r\nContent-Disposition: form-data; name="labels"\r\n\r\nein H\xc3\xbchnchen\r\n--x--\r\n'
    )
    answer = client.post("/v1/classify", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["result"]["path"] == "a b.mp4"
    assert client.app.state.engine.tasks[0].labels == ("a cat", "ein Hühnchen")
    assert client.app.state.engine.contents == [VIDEO]
    assert left_in(client) == []


def test_quotes_and_line_breaks_in_the_name_of_a_file_are_read_as_browsers_write_them(client: TestClient) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="the %22big%22 cat%0A 100%25 %20.mp4"\r\n\r\n'
        + VIDEO + b'\r\n--x\r\nContent-Disposition: form-data; name="labels"\r\n\r\na\r\n--x--\r\n'
    )  # fmt: skip
    answer = client.post("/v1/classify", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert answer.json()["result"]["path"] == 'the "big" cat 100%25 %20.mp4'


def test_a_path_is_absolute_or_relative_to_a_root_or_an_id(client: TestClient, home: Path) -> None:
    for fields in ({"path": "a.mp4"}, {"path": "films/a.mp4"}, {"path": str(home / "films/a.mp4")}):
        answer = classify(client, **fields)
        assert answer.status_code == 200, answer.text
        assert answer.json()["result"]["path"] == fields["path"]
    assert classify(client, video="films/a.mp4").status_code == 200
    assert {task.path for task in client.app.state.engine.tasks} == {(home / "films/a.mp4").resolve()}


def test_a_data_url_is_a_video(client: TestClient) -> None:
    url = f"data:video/mp4;base64,{base64.b64encode(VIDEO).decode()}"
    assert classify(client, url=url).status_code == 200
    assert client.app.state.engine.contents == [VIDEO]
    assert left_in(client) == []


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("data:video/mp4,abc", "invalid_request"),
        ("data:text/html;base64,YWJj", "unsupported_media_type"),
        ("data:video/mp4;base64,a*bc", "invalid_request"),
        ("data:video/mp4;base64,", "video_unreadable"),
        ("data:video/mp4" + ";a=b" * 500 + ";base64,YWJj", "invalid_request"),
        ("https://example.org/a.mp4", "urls_not_allowed"),
        ("file:///etc/passwd", "urls_not_allowed"),
    ],
)
def test_a_wrong_url_is_refused(client: TestClient, url: str, code: str) -> None:
    assert error_of(classify(client, url=url))["code"] == code
    assert client.app.state.engine.tasks == []
    assert left_in(client) == []


def test_an_upload_can_be_used_until_it_is_deleted(client: TestClient) -> None:
    sent = client.post("/v1/uploads?name=b.webm", content=VIDEO, headers={"Content-Type": "video/webm"})
    assert sent.status_code == 201
    upload = sent.json()["id"]
    assert sent.json()["name"] == "b.webm"
    assert sent.json()["size"] == len(VIDEO)
    assert classify(client, upload=upload).json()["result"]["path"] == "b.webm"
    assert client.delete(f"/v1/uploads/{upload}").status_code == 204
    assert error_of(classify(client, upload=upload))["code"] == "upload_not_found"
    assert left_in(client) == []


@pytest.mark.parametrize(
    "path",
    [
        *("../secret.mp4", "films/../../secret.mp4", "/etc/passwd", "a/../../secret.mp4", "films/../films/a.mp4"),
        *("link.mp4", "films/link.mp4", "folder/secret.mp4", "/proc/self/environ", "films//etc/passwd/../../x"),
    ],
)
def test_nothing_outside_of_the_roots_is_read(client: TestClient, home: Path, path: str) -> None:
    (home / "secret.mp4").write_bytes(b"secret")
    (home / "films/link.mp4").symlink_to(home / "secret.mp4")
    (home / "films/folder").symlink_to(home)
    for answer in (classify(client, path=path), classify(client, video=path)):
        assert answer.status_code in (403, 404), answer.text
        assert str(home) not in answer.text
    assert client.app.state.engine.tasks == []


def test_a_link_within_a_root_is_followed(client: TestClient, home: Path) -> None:
    (home / "films/inner.mp4").symlink_to(home / "films/a.mp4")
    assert classify(client, path="inner.mp4").status_code == 200


def test_a_nul_a_folder_and_a_pipe_are_no_videos(client: TestClient, home: Path) -> None:
    import os

    (home / "films/folder").mkdir()
    os.mkfifo(home / "films/pipe.mp4")
    for path in ("a.mp4\0", "\0", "folder", "pipe.mp4", "x" * 1999, "missing.mp4"):
        assert error_of(classify(client, path=path))["code"] == "video_not_found"
    assert error_of(classify(client, video="films"))["code"] == "video_not_found"
    assert error_of(classify(client, path="films/a.mp4/x"))["code"] == "video_not_found"


def test_the_data_folder_is_not_shown_even_if_a_root_holds_it(tmp_path: Path) -> None:
    with make_client(tmp_path, roots=(tmp_path,)) as client:
        sent = client.post("/v1/uploads", content=VIDEO, headers={"Content-Type": "video/mp4"})
        (upload,) = client.app.state.settings.uploads.iterdir()
        assert sent.status_code == 201
        assert error_of(classify(client, path=f"data/uploads/{upload.name}"))["code"] == "path_not_allowed"
        assert error_of(classify(client, path=str(upload)))["code"] == "path_not_allowed"
        names = [video["name"] for video in client.get("/v1/videos").json()["videos"]]
        assert names == ["a.mp4"]


def test_a_path_that_several_roots_have_needs_the_name_of_one(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mp4").write_bytes(VIDEO)
    with make_client(tmp_path, roots=(tmp_path / "one", tmp_path / "two")) as client:
        assert error_of(classify(client, path="a.mp4"))["code"] == "ambiguous_path"
        assert classify(client, path="two/a.mp4").status_code == 200


@pytest.mark.parametrize(
    ("content", "boundary", "code"),
    [
        (b"--x\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nabc", "x", "invalid_form"),  # breaks off
        (b"no form at all", "x", "invalid_form"),
        (b"--x\r\nContent-Disposition: form-data; name=\"labels\"\r\n\r\na\r\n--x--\r\n", "x", "invalid_form"),
        (b"--x\r\n\r\nabc\r\n--x--\r\n", "x", "invalid_form"),  # a part without a name
        (b"", "x", "invalid_form"),
        (b"--x--\r\n", "", "invalid_form"),
        (b"--x\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n\r\n--x--\r\n", "x", "video_unreadable"),
        (b"--x\r\nContent-Disposition: form-data; name=\"labels\"\r\n\r\n\xff\r\n--x--\r\n", "x", "invalid_form"),
        (b"--x\r\nContent-Disposition: form-data; name=\"labels\"\r\n\r\n" + b"a" * 9000 + b"\r\n--x--\r\n", "x",
         "invalid_request"),
        (2 * b"--x\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nabc\r\n" + b"--x--\r\n", "x",
         "invalid_form"),
        (b"--x\r\n" + b"A: b\r\n" * 5000 + b"\r\nabc\r\n--x--\r\n", "x", "invalid_form"),
    ],
)  # fmt: skip
def test_a_wrong_form_is_refused_and_leaves_nothing(
    client: TestClient, content: bytes, boundary: str, code: str
) -> None:
    kind = f"multipart/form-data; boundary={boundary}" if boundary else "multipart/form-data"
    answer = client.post("/v1/classify", content=content, headers={"Content-Type": kind})
    assert error_of(answer)["code"] == code, answer.text
    assert client.app.state.engine.tasks == []
    assert left_in(client) == []


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "audio/mpeg"])
def test_another_media_type_is_refused(client: TestClient, kind: str) -> None:
    answer = client.post("/v1/classify", content=b"abc", headers={"Content-Type": kind})
    assert answer.status_code == 415
    assert error_of(answer)["code"] == "unsupported_media_type"


def test_a_query_beside_a_json_body_is_refused(client: TestClient) -> None:
    answer = client.post("/v1/classify?top=1", json={**LABELS, "path": "a.mp4"})
    assert error_of(answer)["message"].startswith("query top")


def test_an_error_of_the_engine_deletes_what_was_sent(client: TestClient) -> None:
    from openxclip.errors import VideoError

    client.app.state.engine.error = VideoError("video", "is broken.")
    answer = client.post("/v1/classify?labels=a", content=VIDEO, headers={"Content-Type": "video/mp4"})
    assert error_of(answer) == {
        "code": "video_unreadable",
        "message": "video: is broken.",
        "hint": "`openxclip check` says more about a file.",
    }
    assert left_in(client) == []
