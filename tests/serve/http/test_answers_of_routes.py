"""Embeddings in OpenAI's shape, search, index and jobs, timelines as events, and the description of it all."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from serving_fakes import VIDEO, error_of, make_client
from starlette.testclient import TestClient

from openxclip.errors import VideoError
from openxclip.serve import answers
from openxclip.serve.engine.errors import QueueFullError
from openxclip.serve.engine.tasks import SearchTask
from openxclip.serve.errors import CODES

HIT = {"start": 0.0, "end": 4.0, "best_start": 1.0, "best_end": 3.0, "windows": 3, "duration": 9.0}
HIT |= {"score": None, "similarity": 0.5, "reranked": False}


def events_of(text: str) -> list[tuple[str, Any]]:
    found = []
    for block in text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((lines["event"], json.loads(lines["data"])))
    return found


def test_embeddings_are_lists_or_base64(client: TestClient) -> None:
    answer = client.post("/v1/embeddings", json={"input": ["a", "b"], "model": "mini"}).json()
    assert answer["object"] == "list"
    assert [row["index"] for row in answer["data"]] == [0, 1]
    assert answer["data"][1]["embedding"] == [0.0, 1.0, 0.0, 0.0]
    assert answer["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    coded = client.post("/v1/embeddings", json={"input": "a", "encoding_format": "base64"}).json()
    vector = np.frombuffer(base64.b64decode(coded["data"][0]["embedding"]), "<f4")
    assert vector.tolist() == [1.0, 0.0, 0.0, 0.0]


def test_a_video_is_embedded_as_a_message(client: TestClient) -> None:
    url = f"data:video/mp4;base64,{base64.b64encode(VIDEO).decode()}"
    content = [{"type": "video_url", "video_url": {"url": url}}]
    answer = client.post("/v1/embeddings", json={"messages": [{"role": "user", "content": content}]})
    assert answer.status_code == 200, answer.text
    assert client.app.state.engine.contents == [VIDEO]
    assert list(client.app.state.settings.uploads.iterdir()) == []


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        ({"input": [1, 2, 3]}, 422, "tokens"),
        ({"input": [[1, 2]]}, 422, "tokens"),
        ({"input": []}, 422, "input"),
        ({"input": ""}, 422, "input"),
        ({}, 422, "exactly one of input, messages"),
        ({"input": "a", "messages": []}, 422, "messages"),
        ({"input": "a", "dimensions": 2}, 422, "dimensions=2: the vectors of this model have 4 values"),
        ({"input": "a", "model": "gpt"}, 404, "'gpt'"),
        ({"input": "a", "encoding_format": "int8"}, 422, "encoding_format"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 422, "messages"),
    ],
)
def test_wrong_embeddings_are_refused(client: TestClient, body: dict[str, Any], status: int, part: str) -> None:
    answer = client.post("/v1/embeddings", json=body)
    assert answer.status_code == status, answer.text
    assert part in error_of(answer)["message"]


def test_hits_have_ids_and_addresses_in_place_of_paths(client: TestClient, home: Path) -> None:
    other = home / "other.mp4"
    other.touch()
    client.app.state.engine.hits = [{**HIT, "path": str(home / "films/a.mp4")}, {**HIT, "path": str(other)}]
    hits = client.post("/v1/search", json={"query": "a cat", "k": 2}).json()["hits"]
    assert hits[0]["path"] == hits[0]["video"] == "films/a.mp4"
    assert hits[0]["id"] == "films/a.mp4#t=0.000,4.000"
    assert hits[0]["thumbnail"] == "/v1/videos/films/a.mp4/frame?t=2.000&width=320"
    assert hits[0]["preview"] == "/v1/videos/films/a.mp4/stream#t=0.000,4.000"
    assert client.get(hits[0]["thumbnail"]).status_code == 200
    assert (hits[1]["path"], hits[1]["video"], hits[1]["thumbnail"]) == (str(other), None, None)


def test_moments_of_deleted_files_are_left_out_with_a_note(client: TestClient, home: Path) -> None:
    paths = [
        str(home / "films/a.mp4"),
        str(home / "films/gone.mp4"),
        str(home / "films/gone.mp4"),
        "frames from memory",
    ]
    client.app.state.engine.hits = [{**HIT, "path": path} for path in paths]
    answer = client.post("/v1/search", json={"query": "a cat"}).json()
    assert [hit["path"] for hit in answer["hits"]] == ["films/a.mp4", "frames from memory"]
    (note,) = answer["notes"]
    assert answer["left_out"] == 2
    assert note.startswith("2 of 4 moments left out: their files were deleted or moved.")


def test_more_like_this_searches_by_a_part_of_a_video(client: TestClient, home: Path) -> None:
    moment = {"video": "films/a.mp4", "start": 1, "end": 2.5}
    assert client.post("/v1/search", json={"moment": moment}).status_code == 200
    sent = client.post("/v1/search?k=3&end=2", content=VIDEO, headers={"Content-Type": "video/mp4"})
    assert sent.status_code == 200, sent.text
    first, second = client.app.state.engine.tasks
    assert isinstance(first, SearchTask)
    assert (first.path, first.start, first.end) == (home.resolve() / "films/a.mp4", 1.0, 2.5)
    assert (second.k, second.end, second.text) == (3, 2.0, None)
    for body in ({"query": "a", "moment": moment}, {}, {"moment": None}, {"moment": moment, "min_score": 0.5}):
        assert error_of(client.post("/v1/search", json=body))["code"] == "invalid_request"
    outside = client.post("/v1/search", json={"moment": {"video": "../../etc/passwd"}})
    assert error_of(outside)["code"] == "path_not_allowed"


def test_an_index_job_gets_paths_below_roots_and_kept_uploads(client: TestClient, home: Path) -> None:
    upload = client.post("/v1/uploads?name=b.mp4", content=VIDEO, headers={"Content-Type": "video/mp4"}).json()["id"]
    answer = client.post("/v1/index", json={"paths": ["films", "a.mp4", "collection"], "uploads": [upload]})
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == "/v1/jobs/job0"
    assert str(home) not in answer.text
    arguments = client.app.state.jobs.jobs["job0"].arguments
    root = home.resolve()
    assert arguments["paths"] == [
        str(root / part) for part in ("films", "films/a.mp4", "data/collection", "data/collection/b.mp4")
    ]
    assert arguments["names"][str(root / "films")] == "films"
    for body, code in (
        ({"paths": ["/etc"]}, "path_not_allowed"),
        ({"paths": [".."]}, "path_not_allowed"),
        ({"paths": ["films", "missing"]}, "video_not_found"),
        ({"uploads": ["x"]}, "upload_not_found"),
        ({}, "invalid_request"),
        ({"paths": "films"}, "invalid_request"),
    ):
        assert error_of(client.post("/v1/index", json=body))["code"] == code
    assert len(client.app.state.jobs.jobs) == 1


def test_a_wrong_upload_of_an_index_job_moves_no_other(client: TestClient) -> None:
    upload = client.post("/v1/uploads?name=b.mp4", content=VIDEO, headers={"Content-Type": "video/mp4"}).json()["id"]
    client.post("/v1/index", json={"uploads": [upload, "x"]})
    assert client.get(f"/v1/uploads/{upload}/stream").status_code == 200
    client.app.state.engine.report = {"error": "it is not a video."}
    other = client.post("/v1/uploads?name=c.mp4", content=VIDEO, headers={"Content-Type": "video/mp4"}).json()["id"]
    refused = client.post("/v1/index", json={"uploads": [upload, other]})
    assert error_of(refused)["code"] == "video_unreadable"
    assert client.get(f"/v1/uploads/{upload}/stream").status_code == 200


def test_events_of_a_job_go_on_after_the_last_that_was_seen(client: TestClient) -> None:
    client.post("/v1/index", json={"paths": ["films"]})
    answer = client.get("/v1/jobs/job0/events", headers={"Last-Event-ID": "1"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "id: 1\n" not in answer.text
    assert answer.text.startswith('id: 2\nevent: note\ndata: {"text": "2"}\n\n')
    for wrong in ("x", "-1", "1" * 20, "1.5"):
        refused = client.get("/v1/jobs/job0/events", headers={"Last-Event-ID": wrong})
        assert error_of(refused)["code"] == "invalid_request"
    job = client.app.state.jobs.jobs["job0"]
    client.app.state.jobs.jobs["job0"] = type(job)(**{**vars(job), "state": "done"})
    assert client.get("/v1/jobs/job0/events", headers={"Last-Event-ID": "3"}).status_code == 204  # so browsers stop
    assert client.get("/v1/jobs/job0/events").status_code == 200
    assert error_of(client.get("/v1/jobs/x/events"))["code"] == "job_not_found"


def test_a_timeline_as_events_has_progress_and_the_result(client: TestClient) -> None:
    client.app.state.engine.progress = [(1.0, 4.0), (4.0, 4.0)]
    answer = client.post(
        "/v1/timeline", json={"labels": ["a"], "path": "a.mp4"}, headers={"Accept": "text/event-stream"}
    )
    found = events_of(answer.text)
    assert found[-1][0] == "result"
    assert found[-1][1]["result"]["path"] == "a.mp4"
    assert all(data == {"done": 4.0, "duration": 4.0} for _, data in found[:-1])


@pytest.mark.parametrize("error", [QueueFullError(2), VideoError("a.mp4", "is broken.")])
def test_a_timeline_that_is_refused_has_a_status_and_no_events(client: TestClient, error: Exception) -> None:
    client.app.state.engine.error = error
    for accept in ("text/event-stream", "application/json"):
        answer = client.post("/v1/timeline", json={"labels": ["a"], "path": "a.mp4"}, headers={"Accept": accept})
        assert answer.status_code in (422, 429)
        error_of(answer)


def test_the_model_is_listed_as_openai_does(client: TestClient) -> None:
    (model,) = client.get("/v1/models").json()["data"]
    assert (model["id"], model["object"], model["owned_by"]) == ("mini", "model", "openxclip")
    assert (model["precision"], model["device"], model["state"]) == ("fp32", "cpu", "ready")


def test_a_folder_of_a_model_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "my-model").mkdir()
    with make_client(tmp_path, model=str(tmp_path / "my-model")) as client:
        answer = client.get("/v1/models")
        assert answer.json()["data"][0]["id"] == "my-model"
        assert str(tmp_path) not in answer.text + client.get("/readyz").text


def test_requests_are_counted_by_route_and_not_by_address(client: TestClient) -> None:
    def count(text: str) -> float:
        counter = 'openxclip_requests_total{method="GET",route="/v1/jobs/{job_id}",status="404"} '
        return sum(float(line.removeprefix(counter)) for line in text.splitlines() if line.startswith(counter))

    before = count(client.get("/metrics").text)  # other tests use the server too
    client.get("/v1/jobs/abc")
    client.get("/no/such/place")
    text = client.get("/metrics").text
    assert count(text) == before + 1
    assert "such" not in text


def test_the_page_and_the_description_load_nothing_from_other_hosts(client: TestClient) -> None:
    for path in ("/", "/docs", "/docs/start.js", "/docs/swagger-ui.css"):
        text = client.get(path).text
        assert "http://" not in text.replace("http://www.w3.org", "").replace("http://127.0.0.1", "") or path != "/docs"
        assert 'src="http' not in text
        assert 'href="http' not in text
        assert "url(http" not in text
    assert "immutable" not in client.get("/").headers["cache-control"]


def test_the_schema_lists_every_error_and_every_answer_fits_it(client: TestClient, home: Path) -> None:
    schema = client.get("/openapi.json").json()
    assert "HTTPValidationError" not in schema["components"]["schemas"]
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            statuses = set(operation["responses"])
            assert {"400", "401", "403", "500"} <= statuses, (method, path)
            for status, answer in operation["responses"].items():
                if int(status) >= 400 and status not in ("414", "431"):  # which granian answers by itself
                    assert answer["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorAnswer")
                    assert all(CODES[code][0] == int(status) for code in _codes(answer["description"]))
    client.app.state.engine.hits = [{**HIT, "path": str(home / "films/a.mp4")}]
    body = {"labels": ["a"], "path": "a.mp4"}
    for model, answer in (
        (answers.ClassifyAnswer, client.post("/v1/classify", json=body)),
        (answers.TimelineAnswer, client.post("/v1/timeline", json=body)),
        (answers.EmbeddingsAnswer, client.post("/v1/embeddings", json={"input": "a"})),
        (answers.SearchAnswer, client.post("/v1/search", json={"query": "a"})),
        (answers.JobAnswer, client.post("/v1/index", json={"paths": ["films"]})),
        (answers.JobList, client.get("/v1/jobs")),
        (answers.IndexAnswer, client.get("/v1/index")),
        (answers.ModelList, client.get("/v1/models")),
        (answers.VideoList, client.get("/v1/videos")),
        (answers.VideoInfo, client.get("/v1/videos/films/a.mp4/info")),
        (answers.ReadyAnswer, client.get("/readyz")),
        (answers.ErrorAnswer, client.get("/nothing")),
    ):
        jsonschema.validate(answer.json(), model.model_json_schema())


def _codes(description: str) -> list[str]:
    return [line.split("`")[1] for line in description.splitlines()]


def test_the_schema_refuses_what_the_server_refuses(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    for path, good, bad in (
        ("/v1/classify", {"labels": ["a"], "path": "a.mp4"}, {"labels": ["a"]}),
        ("/v1/classify", {"labels": ["a"], "video": "films/a.mp4"}, {"labels": ["a"], "path": "a", "video": "b"}),
        ("/v1/search", {"query": "a"}, {"query": "a", "path": "a.mp4"}),
        ("/v1/search", {"query": "a", "per_video": None}, {"query": None}),
        ("/v1/search", {"moment": {"video": "films/a.mp4"}}, {"moment": {"video": ""}}),
        ("/v1/embeddings", {"input": "a"}, {"input": "a", "messages": []}),
        ("/v1/embeddings", {"input": ["a"], "user": "me"}, {"input": [1]}),
    ):
        own = schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        whole = {**own, "components": schema["components"]}
        jsonschema.validate(good, whole)
        assert client.post(path, json=good).status_code == 200
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, whole)
        assert client.post(path, json=bad).status_code == 422


@pytest.mark.slow
def test_the_server_does_not_load_pytorch() -> None:
    import subprocess

    code = (
        "import sys, openxclip.serve.app as app, openxclip.serve.settings as s; "
        "app.create_app(s.ServeSettings(data='/nonexistent')); "
        "sys.exit(bool({'torch', 'lancedb'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
