"""Downloads from and uploads to the hub: calls of huggingface_hub, and its errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

import openxclip
from openxclip import CheckpointError, XCLIPModel, XCLIPProcessor, hub


def test_push_uploads_what_save_writes(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, Any]] = []

    class Api:
        def __init__(self, token: str | None = None) -> None:
            calls.append(("token", token))

        def create_repo(self, repo_id: str, **options: Any) -> None:
            calls.append(("create", (repo_id, options)))

        def upload_folder(self, *, repo_id: str, folder_path: str, **options: Any) -> Any:
            calls.append(("upload", (repo_id, sorted(path.name for path in Path(folder_path).iterdir()), options)))
            return type("Commit", (), {"commit_url": "address"})()

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    model = XCLIPModel.from_pretrained(tiny_folder)
    assert model.push_to_hub("me/mine", token="secret", private=True, revision="draft") == "address"
    assert calls == [
        ("token", "secret"),
        ("create", ("me/mine", {"private": True, "exist_ok": True})),
        (
            "upload",
            (
                "me/mine",
                ["config.json", "model.safetensors"],
                {"revision": "draft", "commit_message": "Upload with openxclip", "create_pr": False},
            ),
        ),
    ]
    calls.clear()
    XCLIPProcessor.from_pretrained(tiny_folder).push_to_hub("me/mine")
    assert {"preprocessor_config.json", "tokenizer.json"} <= set(calls[-1][1][1])


def test_save_pretrained_with_push_to_hub(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed: list[Any] = []
    monkeypatch.setattr(hub, "push_folder", lambda *args, **options: pushed.append((*args, options)))
    XCLIPModel.from_pretrained(tiny_folder).save_pretrained(tmp_path / "mine", push_to_hub=True, private=True)
    assert pushed == [(tmp_path / "mine", "mine", {"private": True})]


def test_arguments_of_downloads(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def download(repo_id: str, **options: Any) -> str:
        asked.append((repo_id, options))
        return str(tiny_folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    options = {"revision": "abc", "cache_dir": tmp_path, "token": "secret", "force_download": True}
    XCLIPModel.from_pretrained("someone/some-model", **options)
    for repo_id, given in asked:
        assert repo_id == "someone/some-model"
        assert {name: given[name] for name in options} == options
    patterns = {pattern for _, given in asked for pattern in given["allow_patterns"]}
    assert {"config.json", "model*.safetensors"} <= patterns
    assert not any("bin" in pattern for pattern in patterns)  # no pickle is downloaded where safetensors are


def fails(error: Exception) -> Any:
    def download(*_: Any, **__: Any) -> str:
        raise error

    return download


class Response:
    """The attributes that huggingface_hub's errors read."""

    headers: dict[str, str] = {}  # noqa: RUF012
    request = None
    status_code = 404


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.LocalEntryNotFoundError("no"), "the hub can't be reached"),
        (errors.RepositoryNotFoundError("no", response=Response()), "no such repository"),  # type: ignore[arg-type]
        (errors.RevisionNotFoundError("no", response=Response()), "no revision 'abc'"),  # type: ignore[arg-type]
        (errors.GatedRepoError("no", response=Response()), "access is restricted: request it"),  # type: ignore[arg-type]
        (ConnectionResetError("no"), "the hub can't be reached"),
    ],
)
def test_hub_errors_become_checkpoint_errors(error: Exception, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fails(error))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(CheckpointError, match=message) as raised:
        hub.resolve_folder("someone/some-model", revision="abc")
    assert "someone/some-model" in str(raised.value)


def test_a_local_folder_takes_precedence_over_the_hub(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fails(AssertionError("asked the hub")))
    monkeypatch.chdir(tiny_folder.parent)
    assert hub.resolve_folder(tiny_folder.name) == Path(tiny_folder.name)


def test_the_package_exports_its_public_names() -> None:
    assert {"XCLIPModel", "classify", "video"} <= set(openxclip.__all__)
    for name in openxclip.__all__:
        value = getattr(openxclip, name)
        assert getattr(value, "__name__", name).removeprefix("openxclip.") == name
    with pytest.raises(AttributeError, match="attribute nonsense"):
        _ = openxclip.nonsense


def test_only_cached_x_clips_are_listed(tmp_path: Path) -> None:
    for name, config in (
        ("me/xclip-of-mine", '{"model_type": "clip"}'),
        ("you/videos", '{"model_type": "xclip"}'),
        ("them/bert", '{"model_type": "bert"}'),
        ("them/torn", '{"model_type": '),
    ):
        repo = tmp_path / f"models--{name.replace('/', '--')}"
        snapshot = repo / "snapshots" / ("0" * 40)
        for folder in (snapshot, repo / "blobs", repo / "refs"):
            folder.mkdir(parents=True)
        (repo / "refs" / "main").write_text("0" * 40)
        (repo / "blobs" / "a").write_text(config)
        (snapshot / "config.json").symlink_to("../../blobs/a")
    assert hub.cached_models(tmp_path) == ["me/xclip-of-mine", "you/videos"]
    assert hub.cached_models(tmp_path / "none") == []
