"""The client against answers made by hand: what it sends, what it makes of answers and errors, when it tries again."""

from __future__ import annotations

import asyncio
import base64
import math
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from answering import CLASSIFICATION, HIT, JOB, TIMELINE, Answers, events, refusal

from openxclip import AsyncClient, Client, ServerError, ServerVideo, VideoError, VideoIndexError
from openxclip.client import FoundMoment, InvalidRequestError
from openxclip.client.errors import error_of, retry_after
from openxclip.client.sending import Event, EventReader, Retries
from openxclip.errors import DecoderCrashError

CLASSIFIED = {"model": "mini", "result": CLASSIFICATION}


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that a client makes, which take no time."""
    made: list[float] = []

    async def pause(seconds: float) -> None:
        made.append(seconds)

    monkeypatch.setattr("openxclip.client.blocking.time.sleep", made.append)
    monkeypatch.setattr("openxclip.client.awaiting.asyncio.sleep", pause)
    return made


def client(*given: Any, **options: Any) -> tuple[Client, Answers]:
    answers = Answers(*given)
    return Client(transport=httpx.MockTransport(answers), **options), answers


def video(folder: Path, name: str = "cat.mp4") -> Path:
    (folder / name).write_bytes(b"\0" * 300)
    return folder / name


# --- what is sent ---


def test_a_file_is_sent_as_a_form_with_a_field_for_each_label(tmp_path: Path) -> None:
    asking, answers = client(CLASSIFIED)
    path = video(tmp_path)
    (result,) = asking.classify(path, ["a cat", "a dog"], top_k=2, min_score=0.25)
    body = answers.bodies[0]
    assert result.path == str(path)
    assert body.count(b'name="labels"') == 2
    assert b'name="file"; filename="cat.mp4"\r\nContent-Type: video/mp4' in body
    assert b'name="min_score"\r\n\r\n0.25' in body
    assert b'name="template"' not in body


def test_a_video_of_the_server_is_named_in_json() -> None:
    asking, answers = client(CLASSIFIED)
    asking.classify(ServerVideo(video="films/cat.mp4"), ["a cat"])
    assert answers.sent() == {"video": "films/cat.mp4", "labels": ["a cat"], "top": 5}


def test_the_token_is_sent_and_not_shown() -> None:
    asking, answers = client({"object": "list", "data": []}, token="very-secret")
    asking.models()
    assert answers.requests[0].headers["authorization"] == "Bearer very-secret"
    assert "very-secret" not in repr(asking)


def test_a_refused_client_is_told_where_the_token_goes() -> None:
    hint = "Send the header Authorization: Bearer TOKEN."
    asking, _ = client(refusal(401, "unauthorized", "this server needs a token.", hint))
    with pytest.raises(ServerError, match=r"this server needs a token\. Give the client .* token=") as raised:
        asking.models()
    assert "header" not in str(raised.value)


def test_texts_are_embedded_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openxclip.client.requesting.TEXTS_AT_ONCE", 2)

    def answer(request: httpx.Request) -> dict[str, Any]:
        texts = answers.sent()["input"]
        vectors = [base64.b64encode(np.full(3, len(text), "<f4").tobytes()).decode() for text in texts]
        rows = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
        return {"object": "list", "data": rows[::-1], "model": "mini", "usage": {}}

    asking, answers = client(answer)
    assert asking.embed_texts(["a", "bb", "ccc"])[:, 0].tolist() == [1, 2, 3]
    assert len(answers.requests) == 2


def test_a_video_is_embedded_as_a_data_url(tmp_path: Path) -> None:
    vector = base64.b64encode(np.ones(4, "<f4").tobytes()).decode()
    asking, answers = client({"data": [{"index": 0, "embedding": vector}]})
    assert asking.embed_videos(video(tmp_path)).shape == (1, 4)
    (part,) = answers.sent()["messages"][0]["content"]
    assert base64.b64decode(part["video_url"]["url"].removeprefix("data:video/mp4;base64,")) == b"\0" * 300


def test_a_hit_is_searched_for_by_its_best_window() -> None:
    asking, answers = client({"hits": [HIT]})
    (hit,) = asking.search("a cat", k=1)
    assert (hit.path, hit.best_start, hit.video) == ("/films/cat.mp4", 1.5, "films/cat.mp4")
    asking.search(moment=hit, merge=False)
    assert answers.sent()["moment"] == {"video": "films/cat.mp4", "start": 1.5, "end": 2.5}


def test_what_the_server_cut_is_a_warning(tmp_path: Path) -> None:
    asking, _ = client({**CLASSIFIED, "notes": ["the label 'a cat' is cut."]})
    with pytest.warns(UserWarning, match="is cut"):
        asking.classify(video(tmp_path), ["a cat"])


def test_uploads_and_paths_are_indexed_by_one_job(tmp_path: Path) -> None:
    asking, answers = client({"id": "u1"}, JOB)
    job = asking.index.add("films", uploads=video(tmp_path))
    assert [request.url.path for request in answers.requests] == ["/v1/uploads", "/v1/index"]
    assert answers.sent() == {"paths": ["films"], "uploads": ["u1"]}
    assert (job.id, job.progress, job.is_over) == ("j1", {"done": 1, "total": 2}, False)


# --- results ---


def test_a_timeline_has_scores_and_segments_and_missing_numbers_are_nan(tmp_path: Path) -> None:
    asking, answers = client({"model": "mini", "result": TIMELINE})
    found = asking.timeline(video(tmp_path), ["a cat"], min_duration=0.5)
    assert b'name="min_length"\r\n\r\n0.5' in answers.bodies[0]
    assert found.scores.shape == (3, 1)
    assert math.isnan(found.scores[2, 0])
    assert [(one.start, one.end) for one in found.segments] == [(1, 2)]
    assert (found.cuts, found.size, found.reused, found.thresholds) == ((1.5,), (64, 48), 1, {"a cat": 0.5})
    assert "00:00:01.000 --> 00:00:02.000" in found.to_webvtt()


def test_progress_of_a_timeline_is_told_before_its_result(tmp_path: Path) -> None:
    told: list[tuple[float, float]] = []
    stream = events(
        ("progress", {"done": 1, "duration": 3}),
        ("progress", {"done": 2, "duration": None}),
        ("result", {"model": "mini", "result": TIMELINE}),
    )
    asking, answers = client(stream)
    found = asking.timeline(
        video(tmp_path), ["a cat"], on_progress=lambda done, duration: told.append((done, duration))
    )
    assert answers.requests[0].headers["accept"] == "text/event-stream"
    assert [done for done, _ in told] == [1, 2]
    assert math.isnan(told[1][1])
    assert len(found.segments) == 1


@pytest.mark.parametrize("form", [lambda error: error, lambda error: {"error": error}])
def test_an_error_event_of_a_timeline_is_raised(form: Any, tmp_path: Path) -> None:
    error = {"code": "video_unreadable", "message": "cat.mp4: has no frames.", "hint": None}
    asking, _ = client(events(("error", form(error))))
    with pytest.raises(VideoError, match="has no frames"):
        asking.timeline(video(tmp_path), ["a cat"], on_progress=lambda *_: None)


def test_a_stream_that_ends_early_is_an_error(tmp_path: Path) -> None:
    asking, _ = client(events(("progress", {"done": 1, "duration": 3})))
    with pytest.raises(ServerError, match="before the result"):
        asking.timeline(video(tmp_path), ["a cat"], on_progress=lambda *_: None)


def test_events_of_a_job_go_on_where_the_connection_broke(pauses: list[float]) -> None:
    done = {**JOB, "state": "done", "result": {"added": 1}}
    asking, answers = client(events(("progress", {"done": 1})), JOB, events(("state", done), first=2), done, done)
    assert asking.wait("j1").result == {"added": 1}
    assert [request.headers.get("last-event-id") for request in answers.requests[:3]] == [None, None, "1"]
    assert len(pauses) == 1


def test_a_failed_job_raises_its_error() -> None:
    failed = {
        **JOB,
        "state": "failed",
        "error": {"code": "video_unreadable", "message": "x.mp4: is empty.", "hint": None},
    }
    asking, _ = client(events(("state", failed)), failed)
    with pytest.raises(VideoError, match=r"x\.mp4: is empty"):
        asking.wait("j1")


# --- errors ---


def test_a_video_that_cannot_be_read_is_a_result_with_an_error(tmp_path: Path) -> None:
    path = video(tmp_path)
    asking, _ = client(refusal(422, "video_unreadable", "cat.mp4: is no video.", "Send another."), CLASSIFIED)
    broken, good = asking.classify([path, path], ["a cat"])
    assert isinstance(broken.error, VideoError)
    assert (broken.error.source, good.outcome) == (str(path), "a cat")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (422, "video_crashed_decoder", DecoderCrashError),
        (404, "no_index", VideoIndexError),
        (422, "invalid_request", InvalidRequestError),
        (422, "invalid_request", ValueError),
        (503, "model_gone", ServerError),
    ],
)
def test_codes_become_exceptions(status: int, code: str, kind: type[Exception], tmp_path: Path) -> None:
    asking, _ = client(refusal(status, code, "It is wrong.", "Do this."))
    with pytest.raises(kind, match="It is wrong") as raised:
        asking.search(video=video(tmp_path))
    if isinstance(raised.value, ServerError):
        assert (raised.value.code, raised.value.hint, raised.value.status) == (code, "Do this.", status)


def test_an_answer_of_something_else_is_named() -> None:
    asking, _ = client(httpx.Response(502, text="<html>bad gateway</html>"))
    with pytest.raises(ServerError, match="502") as raised:
        asking.models()
    assert raised.value.code == "no_error_form"


def test_a_redirect_is_not_followed() -> None:
    asking, answers = client(httpx.Response(302, headers={"location": "http://elsewhere/"}), token="very-secret")
    with pytest.raises(ServerError, match="302"):
        asking.models()
    assert len(answers.requests) == 1


def test_a_server_that_is_not_there_is_named() -> None:
    asking, _ = client(httpx.ConnectError("Connection refused"), url="http://localhost:9")
    with pytest.raises(ServerError, match=r"http://localhost:9: can't connect .* openxclip serve"):
        asking.models()


def test_errors_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(ServerError("No.", "queue_full", "Wait.", 429, 2.0)))
    assert (str(error), error.code, error.status, error.retry_after) == ("No. Wait.", "queue_full", 429, 2.0)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda asking: asking.classify("a.mp4", "a cat"), TypeError, "did you mean"),
        (lambda asking: asking.classify("a.mp4", []), ValueError, "no labels"),
        (lambda asking: asking.classify(7, ["a cat"]), TypeError, "not int"),
        (lambda asking: asking.search(), ValueError, "exactly one"),
        (lambda asking: asking.search(ServerVideo(video="films/a.mp4")), TypeError, "give a video as video="),
        (lambda asking: asking.search("a cat", video="a.mp4"), ValueError, "exactly one"),
        (lambda asking: asking.index.add(), ValueError, "no videos"),
        (lambda asking: asking.job("../x"), ValueError, "no id"),
        (lambda asking: asking.embed_texts("a cat"), TypeError, "did you mean"),
        (lambda asking: asking.embed_videos(ServerVideo(video="a")), ValueError, "content of a video"),
        (lambda asking: ServerVideo(), ValueError, "exactly one"),
        (lambda asking: Client("ftp://host"), ValueError, "must begin with http"),
        (lambda asking: Client(token="a\nb"), ValueError, "header"),
        (lambda asking: Client(timeout=0), ValueError, "more than 0"),
        (lambda asking: Client(retries=-1), ValueError, "0 or more"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_sent(call: Any, kind: type[Exception], message: str) -> None:
    asking, answers = client(AssertionError("nothing may be sent"))
    with pytest.raises(kind, match=message):
        call(asking)
    assert not answers.requests


@pytest.mark.parametrize("name", ["missing.mp4", "https://host/a.mp4"])
def test_a_file_that_is_not_there_is_an_error_of_this_video_alone(name: str) -> None:
    asking, answers = client(AssertionError("nothing may be sent"))
    (result,) = asking.classify(name, ["a cat"])
    assert isinstance(result.error, VideoError)
    assert not answers.requests


# --- trying again ---


def test_a_busy_server_is_asked_again_after_the_time_it_told(pauses: list[float], tmp_path: Path) -> None:
    busy = refusal(429, "queue_full", "32 requests wait.", **{"Retry-After": "2"})
    asking, answers = client(busy, busy, CLASSIFIED)
    assert asking.classify(video(tmp_path), ["a cat"])[0].outcome == "a cat"
    assert [2 <= pause <= 2.5 for pause in pauses] == [True, True]
    boundaries = [request.headers["content-type"].rpartition("=")[2].encode() for request in answers.requests]
    bodies = [body.replace(name, b"") for body, name in zip(answers.bodies, boundaries, strict=True)]
    assert bodies[0] == bodies[1] == bodies[2], "the whole file is sent each time"


def test_tries_end_with_the_error(pauses: list[float]) -> None:
    asking, answers = client(refusal(429, "queue_full", "32 requests wait.", **{"Retry-After": "1"}), retries=3)
    with pytest.raises(ServerError) as raised:
        asking.models()
    assert len(answers.requests) == 4
    assert raised.value.retry_after == 1


def test_a_long_wait_is_not_begun(pauses: list[float]) -> None:
    asking, _ = client(refusal(429, "queue_full", "32 requests wait.", **{"Retry-After": "20"}), max_wait=10)
    with pytest.raises(ServerError):
        asking.models()
    assert not pauses


def test_a_failure_is_not_asked_again(pauses: list[float]) -> None:
    asking, answers = client(refusal(503, "model_gone", "The model's process was killed.", **{"Retry-After": "1"}))
    with pytest.raises(ServerError):
        asking.models()
    assert len(answers.requests) == 1


def test_an_open_file_that_cannot_be_rewound_is_sent_once(pauses: list[float]) -> None:
    class Pipe:
        name = "pipe"

        def __init__(self) -> None:
            self.parts = [b"\0" * 10, b""]

        def read(self, size: int = -1) -> bytes:
            return self.parts.pop(0)

    asking, answers = client(refusal(429, "queue_full", "32 requests wait.", **{"Retry-After": "1"}))
    with pytest.raises(ServerError):
        asking.classify(Pipe(), ["a cat"])  # type: ignore[arg-type]
    assert len(answers.requests) == 1


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("3", 3.0), ("Wed, 21 Oct 2015 07:28:10 GMT", 10.0), ("soon", None), ("nan", None), ("-1", 0.0)],
)
def test_the_header_retry_after_has_seconds_or_a_date(header: str, seconds: float | None) -> None:
    headers = {"retry-after": header, "date": "Wed, 21 Oct 2015 07:28:00 GMT"}
    assert retry_after(httpx.Response(429, headers=headers)) == seconds


def test_pauses_grow_if_the_server_tells_none() -> None:
    answer = httpx.Response(429)
    pauses = [Retries().pause(answer, tried, 0) for tried in (1, 2, 3)]
    assert [low <= (pause or 0) <= 1.25 * low for pause, low in zip(pauses, (0.5, 1, 2), strict=True)] == [True] * 3


def test_an_event_may_have_several_lines_and_no_id() -> None:
    reader = EventReader()
    lines = [": hello", "", "data: [1,", "data:2]", "", "event: x", "", "id: 7", "event: y", "data: 3", ""]
    found = [event for line in lines if (event := reader.read(line)) is not None]
    assert found == [Event("message", [1, 2], ""), Event("y", 3, "7")]


# --- asyncio ---


def test_the_asynchronous_client_does_the_same(pauses: list[float], tmp_path: Path) -> None:
    done = {**JOB, "state": "done", "result": {}}
    answers = Answers(
        refusal(429, "queue_full", "32 requests wait.", **{"Retry-After": "2"}),
        CLASSIFIED,
        refusal(422, "video_unreadable", "cat.mp4: is no video."),
        events(("progress", {"done": 1, "duration": 3}), ("result", {"model": "mini", "result": TIMELINE})),
        {"hits": [HIT]},
        JOB,
        events(("state", done)),
        done,
    )
    path = video(tmp_path)
    told: list[float] = []

    async def ask() -> None:
        async with AsyncClient(transport=httpx.MockTransport(answers.awaited)) as asking:
            results = [result async for result in asking.iter_classify([path, path], ["a cat"])]
            assert [result.outcome for result in results] == ["a cat", None]
            found = await asking.timeline(path, ["a cat"], on_progress=lambda done, duration: told.append(done))
            assert len(found.segments) == 1
            (hit,) = await asking.search("a cat")
            assert isinstance(hit, FoundMoment)
            assert (await asking.wait(await asking.index.add("films"))).state == "done"

    asyncio.run(ask())
    assert told == [1]
    assert [2 <= pause <= 2.5 for pause in pauses] == [True]


def test_both_clients_have_the_same_methods() -> None:
    def names(kind: type[Any]) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert names(Client) == names(AsyncClient)


def test_a_client_needs_no_pytorch() -> None:
    code = """
import sys, httpx, openxclip
from answering import *
answers = Answers({"model": "mini", "result": CLASSIFICATION}, {"model": "mini", "result": TIMELINE}, {"hits": [HIT]})
client = openxclip.Client(transport=httpx.MockTransport(answers))
client.classify(b"x", ["a cat"]), client.timeline(b"x", ["a cat"]), client.search("a cat")
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=False).returncode == 0


def test_the_body_of_an_error_without_the_form_is_no_reason_to_fail() -> None:
    request = httpx.Request("GET", "http://host/v1/models")
    for body in (b"", b"[]", b'{"error": "text"}', b'{"error": {"code": 1}}'):
        error = error_of(httpx.Response(500, content=body, request=request))
        assert isinstance(error, ServerError)
        assert error.status == 500
