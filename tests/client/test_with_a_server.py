"""The clients, the official client of OpenAI and curl ask a server that runs with mini."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import httpx
import numpy as np
import pytest
from serving import SAMPLES, Server, running

import openxclip
from openxclip import AsyncClient, Client, ServerError, ServerVideo, VideoError
from openxclip.client import InvalidRequestError

pytestmark = pytest.mark.slow
LABELS = ["a cat moves left", "an owl vanishes", "a rocket leaves"]
CAT = SAMPLES / "cat_moves_left.mp4"


@pytest.fixture(scope="module")
def pipeline() -> openxclip.VideoPipeline:
    return openxclip.VideoPipeline.from_pretrained("mini", device="cpu")


def test_classifications_are_those_of_the_library(served: Server, pipeline: openxclip.VideoPipeline) -> None:
    expected = openxclip.classify(SAMPLES, LABELS, model=pipeline)
    with Client(served.url) as client:
        found = client.classify(SAMPLES, LABELS)
    assert [result.path for result in found] == [str(result.path) for result in expected]
    assert [result.outcome for result in found] == [result.outcome for result in expected]
    for one, other in zip(found, expected, strict=True):
        assert [row.score for row in one.labels] == pytest.approx([row.score for row in other.labels], abs=1e-3)
        np.testing.assert_allclose(one.times, other.times, atol=1e-3)


@pytest.mark.parametrize("form", ["file", "bytes", "open file", "collection", "path", "upload"])
def test_a_video_comes_in_every_form(form: str, served: Server) -> None:
    with Client(served.url) as client, CAT.open("rb") as file:
        upload = client._http.post("/v1/uploads", files={"file": ("cat.mp4", CAT.read_bytes())}).json()["id"]
        video = {
            "file": CAT,
            "bytes": CAT.read_bytes(),
            "open file": file,
            "collection": ServerVideo(video="samples/cat_moves_left.mp4"),
            "path": ServerVideo(path="cat_moves_left.mp4"),
            "upload": ServerVideo(upload=upload),
        }[form]
        (result,) = client.classify(video, LABELS)
    assert result.error is None
    assert result.outcome == "a cat moves left"


def test_a_timeline_is_that_of_the_library(served: Server, pipeline: openxclip.VideoPipeline) -> None:
    expected = openxclip.timeline(CAT, LABELS, model=pipeline)
    told: list[float] = []
    with Client(served.url) as client:
        plain = client.timeline(CAT, LABELS)
        found = client.timeline(CAT, LABELS, on_progress=lambda done, duration: told.append(done))
    for timeline in (plain, found):
        assert [one.label for one in timeline.segments] == [one.label for one in expected.segments]
        np.testing.assert_allclose(timeline.scores, expected.scores, atol=1e-3)
        np.testing.assert_allclose(timeline.starts, expected.starts, atol=1e-3)
        assert timeline.thresholds == pytest.approx(expected.thresholds)
    assert told == sorted(told)


def test_a_search_finds_the_clip_and_more_like_it(served: Server) -> None:
    with Client(served.url) as client:
        assert client.wait(client.index.add("samples")).state == "done"
        assert client.index.info().videos == 6
        (hit,) = client.search("an owl vanishes", k=1)
        assert Path(hit.path).name == "owl_vanishes.mp4"
        assert hit.video == "samples/owl_vanishes.mp4"
        assert client.search(moment=hit, k=1)[0].path == hit.path
        assert Path(client.search(video=CAT, k=1)[0].path).name == CAT.name
        assert hit.thumbnail is not None
        picture = client._http.get(hit.thumbnail)
        assert picture.headers["content-type"] == "image/jpeg"


def test_broken_videos_and_wrong_arguments(served: Server, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(CAT.read_bytes()[:2000])
    with Client(served.url) as client:
        bad, good = client.classify([broken, CAT], LABELS)
        assert isinstance(bad.error, VideoError)
        assert bad.error.source == str(broken)
        assert good.outcome == "a cat moves left"
        with pytest.raises(VideoError):
            client.timeline(broken, LABELS)
        with pytest.raises(InvalidRequestError, match="top"):
            client.classify(CAT, LABELS, top_k=0)
        with pytest.raises(InvalidRequestError, match="twice"):
            client.classify(CAT, ["a cat", "a cat"])
        with pytest.raises(ServerError) as raised:
            client.classify(ServerVideo(path="../../etc/passwd"), LABELS)
        assert raised.value.code in ("path_not_allowed", "video_not_found")


def test_many_requests_at_once(served: Server) -> None:
    async def ask() -> list[openxclip.recognition.Classification]:
        async with AsyncClient(served.url) as client:
            answers = await asyncio.gather(*(client.classify(CAT, LABELS) for _ in range(60)))
            return [result for answer in answers for result in answer]

    assert {result.outcome for result in asyncio.run(ask())} == {"a cat moves left"}


def test_more_requests_than_the_queue_has_places_are_refused_and_nothing_else_fails(served: Server) -> None:
    """`benchmarks/serve.py` puts load on the server for longer."""

    async def ask() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=80)
        async with httpx.AsyncClient(base_url=served.url, timeout=120, trust_env=False, limits=limits) as http:
            body = {"labels": LABELS, "path": CAT.name}
            return await asyncio.gather(*(http.post("/v1/classify", json=body) for _ in range(80)))

    answers = asyncio.run(ask())
    assert {answer.status_code for answer in answers} == {200, 429}
    for answer in answers:
        if answer.status_code == 429:
            assert answer.json()["error"]["code"] == "queue_full"
            assert int(answer.headers["retry-after"]) >= 1
    assert sum(answer.status_code == 200 for answer in answers) >= 32


def test_the_token(tmp_path: Path) -> None:
    (tmp_path / "token.txt").write_text("a-long-secret\n")
    with running(tmp_path, "--token-file", tmp_path / "token.txt", "--no-preload") as server:
        with Client(server.url) as client, pytest.raises(ServerError) as raised:
            client.models()
        assert (raised.value.code, raised.value.status) == ("unauthorized", 401)
        with Client(server.url, token="a-long-secret") as client:
            assert [model.id for model in client.models()] == ["mini"]
        assert "a-long-secret" not in server.log.read_text()


def test_the_official_client_reads_embeddings(served: Server, pipeline: openxclip.VideoPipeline) -> None:
    import openai

    client = openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)
    texts = ["a cat moves left", "an owl vanishes"]
    plain = client.embeddings.create(model="mini", input=texts, encoding_format="float")
    default = client.embeddings.create(model="mini", input=texts)  # asks for base64 and decodes it
    assert [row.index for row in default.data] == [0, 1]
    assert default.usage.prompt_tokens > 0
    assert client.embeddings.create(model="mini", input=texts[0]).data[0].embedding == pytest.approx(
        default.data[0].embedding, abs=1e-6
    )
    vectors = np.array([row.embedding for row in default.data])
    np.testing.assert_allclose(vectors, [row.embedding for row in plain.data], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    own = np.asarray(pipeline.encode_texts(texts))
    np.testing.assert_allclose(vectors, own / np.linalg.norm(own, axis=1, keepdims=True), atol=1e-3)
    assert [model.id for model in client.models.list()] == ["mini"]
    with pytest.raises(openai.NotFoundError, match="other"):
        client.embeddings.create(model="other", input=texts)
    with pytest.raises(openai.UnprocessableEntityError, match="dimensions"):
        client.embeddings.create(model="mini", input=texts, dimensions=7)
    with pytest.raises((openai.UnprocessableEntityError, openai.BadRequestError)):
        client.embeddings.create(model="mini", input=[1, 2, 3])  # tokens


def test_embeddings_of_videos_in_the_form_of_vllm(served: Server) -> None:
    url = "data:video/mp4;base64," + base64.b64encode(CAT.read_bytes()).decode()
    content = [{"type": "video_url", "video_url": {"url": url}}]
    body = {"model": "mini", "messages": [{"role": "user", "content": content}], "encoding_format": "float"}
    row = served.http.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]
    with Client(served.url) as client:
        np.testing.assert_allclose(client.embed_videos(CAT)[0], row, atol=1e-4)
        texts = client.embed_texts(LABELS)
    assert (texts @ np.array(row)).argmax() == 0
