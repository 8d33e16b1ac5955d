"""The routes of corrections, with an engine that computes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from openxclip.serve.app import create_app
from openxclip.serve.engine.errors import NoIndexError
from openxclip.serve.engine.job_store import Job
from openxclip.serve.engine.tasks import CheckTask
from openxclip.serve.settings import ServeSettings

PROPOSALS = {"order": "typical", "windows": 9, "notes": []}
RETRAINED = {
    "before": 0.5, "after": 1.0, "held_out": 4, "left_out": 0, "groups": "video", "p": 0.5, "outcome": "unclear",
    "verdict": "With 4 held-out labels, this gain may be chance (p = 0.5): add more labels.", "head": "default",
    "classes": ["waves", "sits"], "labels": 4, "seconds": 0.1, "notes": [],
}  # fmt: skip


class FakeEngine:
    """Keeps the tasks, and answers with `answers` by the name of the function."""

    def __init__(self) -> None:
        self.tasks: list[Any] = []
        self.answers: dict[str, Any] = {}
        self.report: dict[str, Any] = {"duration": 4.0, "error": None}
        self.state = SimpleNamespace(state="ready", error=None)

    async def start(self) -> None: ...

    async def stop(self, **_: Any) -> None: ...

    async def run(self, task: Any, **_: Any) -> Any:
        if isinstance(task, CheckTask):
            return {**self.report, "path": task.name}
        self.tasks.append(task)
        answer = self.answers[task.function]
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakeJobs:
    """Keeps the jobs that were submitted."""

    def __init__(self) -> None:
        self.submitted: list[tuple[str, dict[str, Any]]] = []

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def submit(self, kind: str, arguments: dict[str, Any]) -> Job:
        self.submitted.append((kind, arguments))
        return Job(id="7", kind=kind, state="queued", arguments=arguments, created=0.0)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the shared server: films is its root, data its data folder."""
    folder = tmp_path_factory.mktemp("corrections").resolve()
    (folder / "films").mkdir()
    return folder


@pytest.fixture(scope="module")
def shared_client(home: Path) -> Iterator[TestClient]:
    """A server whose routes are built once for all tests."""
    app = create_app(ServeSettings(data=home / "data", roots=(home / "films",)), FakeEngine(), FakeJobs())
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def films(home: Path) -> Path:
    """The root, with two files."""
    shutil.rmtree(home / "films")
    (home / "films").mkdir()
    for name in ("a.mp4", "b.mp4"):
        (home / "films" / name).write_bytes(b"video")
    return home / "films"


@pytest.fixture
def client(shared_client: TestClient, home: Path, films: Path) -> TestClient:
    """A client of the shared server, which is as new."""
    state = shared_client.app.state.server
    for path in (home / "data").glob("labels.*"):
        path.unlink()
    state.engine.__init__()
    state.jobs.__init__()
    state.media.__init__(state.engine, state.settings.previews)
    return shared_client


@pytest.fixture
def engine(client: TestClient) -> FakeEngine:
    found: FakeEngine = client.app.state.engine
    return found


@pytest.fixture
def jobs(client: TestClient) -> FakeJobs:
    found: FakeJobs = client.app.state.jobs
    return found


def put(client: TestClient, label: str = "waves", path: str = "films/a.mp4", start: float = 0, end: float = 2) -> Any:
    return client.put("/v1/labels", json={"path": path, "label": label, "start": start, "end": end})


def delete(client: TestClient, **window: Any) -> Any:
    return client.request("DELETE", "/v1/labels", json={"path": "films/a.mp4", "start": 0, "end": 2, **window})


def code_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_a_label_is_put_listed_and_downloaded(client: TestClient, films: Path) -> None:
    assert client.get("/v1/labels").json() == {"labels": [], "counts": {}}
    shown = {"path": "films/a.mp4", "video": "films/a.mp4", "label": "waves", "start": 0.0, "end": 2.0}
    assert put(client).json() == {"before": None, "after": shown}
    assert client.get("/v1/labels").json() == {"labels": [shown], "counts": {"waves": 1}}
    answer = client.get("/v1/labels.csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.text == f"path,label,start,end\n{films / 'a.mp4'},waves,0,2\n"


def test_a_label_is_replaced_removed_and_brought_back(client: TestClient) -> None:
    put(client, "waves")
    assert put(client, "sits").json()["before"]["label"] == "waves"
    assert delete(client).json()["before"]["label"] == "sits"
    assert delete(client).json() == {"before": None, "after": None}
    assert client.post("/v1/labels/undo").json()["after"]["label"] == "sits"
    assert client.post("/v1/labels/undo").json()["after"]["label"] == "waves"
    assert client.post("/v1/labels/undo").json()["after"] is None
    assert client.post("/v1/labels/undo").json() == {"before": None, "after": None}


@pytest.mark.parametrize("form", ["path", "name"])
def test_a_path_is_kept_as_the_index_has_it(client: TestClient, films: Path, form: str) -> None:
    link = films / "link.mp4"
    link.symlink_to(films / "b.mp4")
    after = put(client, path=str(link) if form == "path" else "films/link.mp4").json()["after"]
    assert (after["path"], after["video"]) == ("films/link.mp4", "films/b.mp4")
    assert client.get("/v1/labels.csv").text.splitlines()[1] == f"{link},waves,0,2"


def test_a_path_through_a_link_to_the_root_is_kept_too(client: TestClient, films: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(films)
    path = str(tmp_path / "link" / "a.mp4")
    after = put(client, path=path).json()["after"]
    assert (after["path"], after["video"]) == (path, "films/a.mp4")


@pytest.mark.parametrize(("start", "end"), [(0, 4.2), (4, 5), (100, 200)])
def test_a_window_past_the_end_of_the_video_is_refused(client: TestClient, start: float, end: float) -> None:
    answer = put(client, start=start, end=end)
    assert code_of(answer) == (422, "invalid_request")
    assert "must lie within the video, which lasts 4.000 s" in answer.json()["error"]["message"]
    assert client.get("/v1/labels").json()["labels"] == []
    assert put(client, start=2, end=4.05).status_code == 200  # clients round times


def test_a_window_of_a_broken_or_vanished_video_is_refused(client: TestClient, engine: FakeEngine, films: Path) -> None:
    engine.report = {"duration": None, "error": "it has no frames."}
    assert code_of(put(client)) == (422, "video_unreadable")
    (films / "b.mp4").unlink()
    for path in ("films/b.mp4", str(films / "b.mp4")):
        answer = put(client, path=path)
        assert code_of(answer) == (404, "video_not_found")
        assert str(films) not in answer.text


def test_the_label_of_a_vanished_video_can_be_removed(client: TestClient, films: Path) -> None:
    path = str(films / "a.mp4")
    put(client, path=path)
    (films / "a.mp4").unlink()
    assert delete(client, path=path).json()["before"]["label"] == "waves"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/etc/passwd", "path_not_allowed"),
        ("films/../../etc/passwd", "path_not_allowed"),
        ("films/c.mp4", "video_not_found"),
        ("a\0", "video_not_found"),
    ],
)
def test_a_path_outside_of_the_roots_is_refused(client: TestClient, path: str, code: str) -> None:
    assert code_of(put(client, path=path))[1] == code


def test_a_link_out_of_a_root_is_refused(client: TestClient, films: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.mp4").write_bytes(b"")
    (films / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    for path in ("films/link.mp4", str(films / "link.mp4"), f"{films}/../secret.mp4"):
        assert code_of(put(client, path=path)) == (403, "path_not_allowed")


@pytest.mark.parametrize(
    "change", [{"label": "12"}, {"label": " "}, {"label": "a" * 201}, {"end": 0}, {"start": 2, "end": 1}, {"who": "me"}]
)
def test_a_wrong_label_is_refused(client: TestClient, change: dict[str, Any]) -> None:
    values = {"path": "films/a.mp4", "label": "waves", "start": 0, "end": 2, **change}
    assert code_of(client.put("/v1/labels", json=values)) == (422, "invalid_request")
    assert client.get("/v1/labels").json()["labels"] == []


def test_a_list_that_an_editor_spoilt_is_an_error_that_says_so(client: TestClient, home: Path) -> None:
    (home / "data" / "labels.csv").write_text("path,label\n", encoding="utf-8")
    answer = client.get("/v1/labels")
    assert code_of(answer) == (422, "invalid_request")
    assert "must have the columns" in answer.json()["error"]["message"]


def test_proposals_have_the_id_of_their_video(client: TestClient, engine: FakeEngine, films: Path) -> None:
    window = {"start": 0.0, "end": 2.0, "label": "waves", "probability": 0.6}
    found = [{**window, "path": str(films / "a.mp4")}, {**window, "path": "/elsewhere/b.mp4"}]
    engine.answers["windows:propose_windows"] = {**PROPOSALS, "proposals": found}
    put(client)
    answer = client.get("/v1/labels/proposals?n=5&labels=waves&labels=sits").json()
    assert answer["proposals"] == [{**found[0], "path": "films/a.mp4", "video": "films/a.mp4"}]
    assert answer["notes"] == ["Left out, because their videos are below no root: 1 of 2 windows."]
    (task,) = engine.tasks
    assert task.arguments["classes"] == ["waves", "sits"]
    assert task.arguments["count"] == 5
    assert [label.label for label in task.arguments["labels"]] == ["waves"]


@pytest.mark.parametrize("query", ["n=0", "n=101", "n=x", "order=best", "who=me", "labels=", "n=1&n=2"])
def test_a_wrong_query_is_refused(client: TestClient, query: str) -> None:
    assert code_of(client.get(f"/v1/labels/proposals?{query}")) == (422, "invalid_request")


def test_proposals_need_an_index(client: TestClient, engine: FakeEngine) -> None:
    engine.answers["windows:propose_windows"] = NoIndexError("there is no index yet.")
    assert code_of(client.get("/v1/labels/proposals")) == (404, "no_index")


def test_retraining_answers_with_what_was_gained(client: TestClient, engine: FakeEngine, home: Path) -> None:
    engine.answers["windows:retrain"] = RETRAINED
    put(client)
    assert client.post("/v1/labels/retrain", json={}).json() == RETRAINED
    arguments = engine.tasks[0].arguments
    assert arguments["path"] == home / "data" / "heads" / "default.safetensors"
    assert arguments["name"] == "default"


@pytest.mark.parametrize("name", ["../x", "", "A", "a b", "a" * 65])
def test_the_name_of_a_head_is_no_path(client: TestClient, name: str) -> None:
    for route in ("retrain", "train"):
        assert code_of(client.post(f"/v1/labels/{route}", json={"name": name})) == (422, "invalid_request")


def test_full_training_is_a_job_on_a_copy_of_the_labels(client: TestClient, jobs: FakeJobs, films: Path) -> None:
    put(client, "waves")
    assert code_of(client.post("/v1/labels/train", json={})) == (409, "job_not_possible")
    put(client, "sits", path="films/b.mp4")
    answer = client.post("/v1/labels/train", json={"name": "mine"})
    assert (answer.status_code, answer.headers["location"]) == (202, "/v1/jobs/7")
    ((kind, arguments),) = jobs.submitted
    assert (kind, arguments["name"]) == ("train", "mine")
    assert arguments["names"][str(films)] == "films"  # for notes
    delete(client)
    assert len(Path(arguments["labels"]).read_text(encoding="utf-8").splitlines()) == 3


def test_the_schema_describes_the_routes(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {path for path in paths if path.startswith("/v1/labels")} == {
        "/v1/labels", "/v1/labels.csv", "/v1/labels/proposals", "/v1/labels/retrain", "/v1/labels/train",
        "/v1/labels/undo",
    }  # fmt: skip
    assert {each["name"] for each in paths["/v1/labels/proposals"]["get"]["parameters"]} == {"n", "labels", "order"}
    assert "label" in paths["/v1/labels"]["put"]["requestBody"]["content"]["application/json"]["schema"]["required"]
