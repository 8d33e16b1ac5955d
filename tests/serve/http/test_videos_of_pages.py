"""Uploads and their visits, the collection, and files for players."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from serving_fakes import H264, VIDEO, error_of, make_client
from starlette.testclient import TestClient

from openxclip.errors import VideoError
from openxclip.serve.engine.tasks import FrameTask, PreviewTask
from openxclip.serve.media import Media, container_of
from openxclip.serve.visits import GRACE, LONGEST_IDLE, VisitStore

STREAM = "/v1/videos/films/a.mp4/stream"
SIZE = len(VIDEO)


def send(client: TestClient, name: str = "b.mp4") -> Any:
    answer = client.post("/v1/uploads", params={"name": name}, content=VIDEO, headers={"Content-Type": "video/mp4"})
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("header", "status", "content"),
    [
        ("bytes=0-0", 206, VIDEO[:1]),
        ("bytes=10-19", 206, VIDEO[10:20]),
        ("bytes=100-", 206, VIDEO[100:]),
        ("bytes=-5", 206, VIDEO[-5:]),
        ("bytes=-999999", 206, VIDEO),
        ("bytes=0-999999", 206, VIDEO),
        ("Bytes = 0-1", 206, VIDEO[:2]),
        ("bytes=5-2", 200, VIDEO),
        ("bytes=a-b", 200, VIDEO),
        ("bytes=", 200, VIDEO),
        ("bytes=--1", 200, VIDEO),
        ("frames=0-1", 200, VIDEO),
        ("0-1", 200, VIDEO),
        ("bytes=" + "0-1," * 200, 200, VIDEO),
    ],
)
def test_a_range_gives_its_part_and_what_is_none_gives_the_file(
    client: TestClient, header: str, status: int, content: bytes
) -> None:
    answer = client.get(STREAM, headers={"Range": header})
    assert answer.status_code == status
    assert answer.content == content
    assert answer.headers["content-type"] == "video/mp4"
    if status == 206:
        assert answer.headers["content-range"].endswith(f"/{SIZE}")


@pytest.mark.parametrize("header", [f"bytes={SIZE}-", "bytes=9999999-", "bytes=-0", "bytes=0-1,99999-"])
def test_a_range_outside_of_the_file_is_refused(client: TestClient, header: str) -> None:
    answer = client.get(STREAM, headers={"Range": header})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{SIZE}"
    assert error_of(answer)["code"] == "range_not_satisfiable"


def test_several_ranges_come_in_parts_and_overlapping_ones_once(client: TestClient) -> None:
    answer = client.get(STREAM, headers={"Range": "bytes=0-1,10-11"})
    assert answer.status_code == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert answer.content.count(b"Content-Range: bytes ") == 2
    merged = client.get(STREAM, headers={"Range": ",".join(f"bytes={i}-" if not i else f"{i}-" for i in range(16))})
    assert len(merged.content) <= SIZE + 1000


def test_a_changed_file_is_sent_whole(client: TestClient) -> None:
    etag = client.get(STREAM).headers["etag"]
    assert client.get(STREAM, headers={"Range": "bytes=0-0", "If-Range": etag}).status_code == 206
    assert client.get(STREAM, headers={"Range": "bytes=0-0", "If-Range": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({}, "mp4"),
        ({"codec": "hevc"}, None),
        ({"codec": "av1"}, "mp4"),
        ({"codec": "vp8"}, None),
        ({"pixel_format": "yuv420p10le"}, None),
        ({"container": "avi"}, None),
        ({"container": "matroska,webm", "codec": "vp9"}, None),
        ({"container": "matroska,webm", "codec": "vp9", "path": "a.webm"}, "webm"),
        ({"container": "webm", "codec": "h264", "path": "a.webm"}, None),
        ({"error": "broken"}, None),
    ],
)
def test_browsers_play_h264_vp8_vp9_and_av1(change: dict[str, Any], kind: str | None) -> None:
    assert container_of({"path": "a.mp4", **H264, **change}) == kind


def test_what_browsers_cannot_play_becomes_a_preview_once(client: TestClient) -> None:
    engine = client.app.state.engine
    engine.report = {**H264, "codec": "hevc"}
    for _ in range(3):
        answer = client.get(STREAM, headers={"Range": "bytes=0-2"})
        assert answer.status_code == 206
        assert answer.content == b"pre"
    assert sum(isinstance(task, PreviewTask) for task in engine.tasks) == 1
    assert client.get("/v1/videos/films/a.mp4/info").json()["plays"] is False


def test_a_preview_that_takes_long_has_progress_and_goes_on_without_its_client(tmp_path: Path) -> None:
    with make_client(tmp_path) as client:
        engine = client.app.state.engine
        engine.report = {**H264, "codec": "hevc"}
        client.get("/v1/videos/films/a.mp4/info")
        engine.blocks, engine.progress = asyncio.Event(), [(1.0, 4.0)]
        answer = client.get(STREAM)
        assert answer.status_code == 202
        assert answer.json() == {"status": "preparing", "progress": 0.25}
        assert answer.headers["retry-after"] == "1"
        client.portal.call(engine.blocks.set)
        assert client.get(STREAM).status_code in (200, 202)
        assert client.get(STREAM).content == b"preview"


def test_a_broken_video_has_no_preview_but_a_reason(client: TestClient) -> None:
    engine = client.app.state.engine
    engine.report = {"path": "x", "error": "it has no frames."}
    assert error_of(client.get(STREAM))["message"] == "films/a.mp4: it has no frames."
    os.utime(client.app.state.settings.roots[0] / "a.mp4", (1, 1))  # another version, which is looked at again
    engine.report, engine.error = {**H264, "codec": "hevc"}, None
    client.get("/v1/videos/films/a.mp4/info")
    engine.error = VideoError("films/a.mp4", "broke off.")
    assert error_of(client.get(STREAM))["code"] == "video_unreadable"


def test_the_cache_of_previews_has_a_limit(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.mp4").write_bytes(b"x" * 100)
        os.utime(tmp_path / f"{number}.mp4", (number, number))
    Media(None, tmp_path).trim(limit=250)  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2.mp4", "3.mp4"]


def test_a_frame_is_a_jpeg_that_is_made_once(client: TestClient) -> None:
    for _ in range(2):
        answer = client.get("/v1/videos/films/a.mp4/frame?t=1.5&width=64")
        assert answer.headers["content-type"] == "image/jpeg"
        assert "max-age" in answer.headers["cache-control"]
    (task,) = client.app.state.engine.tasks
    assert isinstance(task, FrameTask)
    assert (task.time, task.width) == (1.5, 64)


def test_the_collection_is_listed_in_pages_without_hidden_files_and_links_out(tmp_path: Path) -> None:
    films = tmp_path / "films"
    (films / "more").mkdir(parents=True)
    (tmp_path / "secret.mp4").write_bytes(VIDEO)
    for name in ("b.mkv", "more/ä 100%.mp4", ".hidden.mp4", "notes.txt", "more/C.MP4"):
        (films / name).write_bytes(VIDEO)
    (films / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    (films / os.fsdecode(b"not text\xff.mp4")).write_bytes(VIDEO)
    with make_client(tmp_path) as client:
        whole = client.get("/v1/videos").json()
        ids = [video["id"] for video in whole["videos"]]
        assert ids == ["films/a.mp4", "films/b.mkv", "films/more/C.MP4", "films/more/ä 100%.mp4"]
        assert whole["roots"] == ["collection", "films"]
        assert whole["left_out"] == 1
        part = client.get("/v1/videos?limit=3&offset=1").json()
        assert [video["id"] for video in part["videos"]] == ids[1:]
        assert client.get("/v1/videos?limit=2").json()["next"] == 2
        assert [v["name"] for v in client.get("/v1/videos?q=MORE%20c").json()["videos"]] == ["C.MP4"]
        assert client.get("/v1/videos/films/more/%C3%A4%20100%25.mp4/stream").status_code == 200
        assert client.get("/v1/videos/films%2Fmore%2FC.MP4/stream").status_code == 200


def test_a_name_with_a_line_break_has_an_address(tmp_path: Path) -> None:
    with make_client(tmp_path) as client:
        (tmp_path / "films" / "two\nlines.mp4").write_bytes(VIDEO)
        assert client.get("/v1/videos?q=lines").json()["total"] == 1
        assert client.get("/v1/videos/films/two%0Alines.mp4/stream").content == VIDEO


@pytest.mark.parametrize(
    "path",
    [
        *("films/../../etc/passwd", "films%2F..%2F..%2Fetc%2Fpasswd", "..%2Fdata%2Fjobs.sqlite", "%2Fetc%2Fpasswd"),
        *("films/%2e%2e/%2e%2e/secret.mp4", "films%00", "films/a.mp4%00.jpg", "films\\..\\..\\secret"),
        *("collection/../jobs.sqlite", "films/.", "films/..", "%252e%252e/secret.mp4", "films//etc/passwd"),
        "films/a.mp4/../../../secret.mp4",
    ],
)  # fmt: skip
def test_no_address_leads_out_of_the_roots(client: TestClient, home: Path, path: str) -> None:
    (home / "secret.mp4").write_bytes(b"content of the secret")
    for part in ("stream", "frame", "info"):
        answer = client.get(f"/v1/videos/{path}/{part}")
        assert answer.status_code in (403, 404), answer.text
        assert b"content of" not in answer.content
        assert str(home) not in answer.text
    assert client.app.state.engine.tasks == []


def test_uploads_have_addresses_as_videos_have(client: TestClient) -> None:
    upload = send(client)["id"]
    assert client.get(f"/v1/uploads/{upload}/stream").content == VIDEO
    assert client.get(f"/v1/uploads/{upload}/info").json()["path"] == "b.mp4"
    assert client.get(f"/v1/uploads/{upload}/frame?t=0").status_code == 200


def test_a_kept_upload_moves_to_the_collection_and_replaces_nothing(client: TestClient) -> None:
    kept = []
    for name in ("b.mp4", "b.mp4", "../../b.mp4", ".hidden", "x" * 300, "ü" * 300 + ".mp4", "." + "y" * 300, "..", ""):
        upload = send(client, name)["id"]
        answer = client.post(f"/v1/uploads/{upload}/keep")
        assert answer.status_code == 201, answer.text
        kept.append(answer.json()["id"])
        assert error_of(client.get(f"/v1/uploads/{upload}/info"))["code"] == "upload_not_found"
    assert kept[:4] == ["collection/b.mp4", "collection/b (2).mp4", "collection/b (3).mp4", "collection/hidden.mp4"]
    assert len({*kept}) == 9
    assert all(len(name.encode()) < 220 for name in kept)
    assert kept[5].endswith("ü.mp4")
    assert client.get("/v1/videos/collection/b.mp4/stream").content == VIDEO
    assert "collection/b.mp4" in [video["id"] for video in client.get("/v1/videos").json()["videos"]]
    assert list(client.app.state.settings.uploads.iterdir()) == []


def test_an_upload_that_is_no_video_is_not_kept(client: TestClient) -> None:
    upload = send(client, "notes.mp4")["id"]
    client.app.state.engine.report = {"error": "it is not a video."}
    error = error_of(client.post(f"/v1/uploads/{upload}/keep"))
    assert (error["code"], error["message"]) == ("video_unreadable", "notes.mp4: it is not a video.")
    assert client.get("/v1/videos").json()["total"] == 1
    assert client.delete(f"/v1/uploads/{upload}").status_code == 204


def test_uploads_that_a_stopped_server_left_are_deleted_at_the_start(tmp_path: Path) -> None:
    left = tmp_path / "data/uploads"
    (left / "folder").mkdir(parents=True)
    (left / "folder/x").write_bytes(b"x")
    (left / "1.part").write_bytes(b"x")
    (left / "link").symlink_to(tmp_path)
    with make_client(tmp_path) as client:
        assert list(left.iterdir()) == []
        send(client)
    assert list(left.iterdir()) == []
    assert (tmp_path / "films/a.mp4").exists()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def new_store(folder: Path) -> tuple[VisitStore, Clock, str, Path]:
    """A store with a visit that has a file."""
    clock = Clock()
    store = VisitStore(folder, clock=clock)
    store.prepare()
    visit = store.visit(None)
    path = store.new_path(".mp4")
    path.write_bytes(VIDEO)
    return store, clock, visit, path


def test_a_visit_ends_a_minute_after_its_page_was_closed(tmp_path: Path) -> None:
    store, clock, visit, path = new_store(tmp_path)
    store.add(path, "a.mp4", 1, visit)
    store.say_goodbye(visit)
    clock.now += GRACE - 1
    assert store.end_old() == 0
    store.touch(visit)  # the page was only loaded again
    clock.now += GRACE + 1
    assert store.end_old() == 0
    store.say_goodbye(visit)
    clock.now += GRACE + 1
    assert store.end_old() == 1
    assert not path.exists()


def test_a_visit_without_requests_ends_after_an_hour(tmp_path: Path) -> None:
    store, clock, visit, path = new_store(tmp_path)
    upload = store.add(path, "a.mp4", 1, visit)
    clock.now += LONGEST_IDLE - 1
    store.get(upload.id)  # counts as a request of the visit
    clock.now += LONGEST_IDLE - 1
    assert store.end_old() == 0
    clock.now += 2
    assert store.end_old() == 1
    assert not path.exists()


def test_a_file_that_a_request_reads_stays_until_its_end(tmp_path: Path) -> None:
    store, clock, visit, path = new_store(tmp_path)
    upload = store.hold(store.add(path, "a.mp4", 1, visit).id)
    clock.now += LONGEST_IDLE + 1
    store.end_old()
    assert path.exists()
    store.release(upload)
    assert not path.exists()


def test_the_visit_is_that_of_the_cookie_and_a_made_up_one_is_replaced(client: TestClient) -> None:
    send(client)
    visit = client.cookies["openxclip_visit"]
    send(client)
    assert client.cookies["openxclip_visit"] == visit
    client.cookies.clear()
    headers = {"Content-Type": "video/mp4", "Cookie": "openxclip_visit=../../etc"}
    answer = client.post("/v1/uploads", content=VIDEO, headers=headers)
    assert "../../etc" not in answer.headers["set-cookie"]


def test_the_goodbye_of_a_page_is_noted(client: TestClient) -> None:
    send(client)
    visit = client.cookies["openxclip_visit"]
    assert client.post("/v1/visits/end").status_code == 204
    assert client.app.state.visits.expires_in(visit) <= GRACE
    client.get("/v1/models")
    assert client.app.state.visits.expires_in(visit) > GRACE
