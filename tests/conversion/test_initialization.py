"""Untrained model folders that start from CLIPs of every format."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from made_models import assert_starts_from, clip_model, openai_state, sizes
from peers import quiet_transformers
from safetensors.torch import save_file

from openxclip import XCLIPModel, XCLIPProcessor
from openxclip.conversion import Initialization, init_from_clip
from openxclip.errors import CheckpointError

VOCABULARY = 49408  # CLIP's


@pytest.fixture(scope="module")
def clip() -> transformers.CLIPModel:
    return clip_model(vocab=VOCABULARY)


@pytest.fixture(scope="module")
def clip_file(clip: transformers.CLIPModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "ViT-tiny.pt"
    torch.save({**openai_state(clip), **sizes(clip)}, path)
    return path


@pytest.fixture(scope="module")
def done(clip_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Initialization:
    return init_from_clip(clip_file, tmp_path_factory.mktemp("made") / "start", num_frames=5, seed=7)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_complete_folder_is_written(done: Initialization, clip: transformers.CLIPModel, clip_file: Path) -> None:
    assert (done.source, done.format) == (str(clip_file), "openai")
    assert (done.frames, done.resolution, done.seed) == (5, 32, 7)
    model, processor = XCLIPModel.from_pretrained(done.target), XCLIPProcessor.from_pretrained(done.target)
    assert_starts_from(model, clip, tolerance=1e-5)
    assert processor.num_frames == 5
    assert processor.image_processor.size == {"shortest_edge": 32}
    assert processor.image_processor.image_mean == (0.485, 0.456, 0.406)
    assert done.parameters == model.num_parameters()
    fresh = [name for name, _ in model.named_parameters() if "message" in name or name.startswith(("mit.", "prompts_"))]
    assert done.fresh_parameters == sum(model.get_parameter(name).numel() for name in fresh)
    assert any("untrained" in note for note in done.notes)
    with quiet_transformers():
        _, report = transformers.XCLIPModel.from_pretrained(done.target, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))


def test_the_model_card(done: Initialization) -> None:
    card = (done.target / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: openxclip\n")
    for words in (
        "Not trained yet",
        f"`{done.source}` (openai)",
        "with seed 7",
        f"{done.fresh_parameters / 1e6:.1f} M of",
        "5 frames of 32 × 32",
        "ImageNet's mean",
    ):
        assert words in card


@pytest.mark.slow
def test_the_seed_determines_random_weights(clip_file: Path, done: Initialization, tmp_path: Path) -> None:
    torch.manual_seed(99)
    again = init_from_clip(clip_file, tmp_path / "again", num_frames=5, seed=7)
    assert files(again.target) == files(done.target)
    other = init_from_clip(clip_file, tmp_path / "other", num_frames=5, seed=8)
    assert files(other.target)["model.safetensors"] != files(done.target)["model.safetensors"]
    assert files(other.target)["config.json"] == files(done.target)["config.json"]


@pytest.mark.slow
def test_a_hugging_face_clip(clip: transformers.CLIPModel, tmp_path: Path) -> None:
    with quiet_transformers():
        clip.save_pretrained(tmp_path / "clip")
    done = init_from_clip(tmp_path / "clip", tmp_path / "start")
    assert (done.format, done.frames, done.seed) == ("huggingface_clip", 8, 0)
    assert_starts_from(XCLIPModel.from_pretrained(tmp_path / "start"), clip)


@pytest.mark.slow
def test_an_open_clip_clip(tmp_path: Path) -> None:
    clip = clip_model(vocab=VOCABULARY, act="gelu")
    save_file(openai_state(clip), tmp_path / "clip.safetensors")
    done = init_from_clip(tmp_path / "clip.safetensors", tmp_path / "start", num_frames=3)
    assert done.format == "open_clip"
    assert any("GELU is assumed" in note for note in done.notes)
    assert_starts_from(XCLIPModel.from_pretrained(tmp_path / "start"), clip)
    other = init_from_clip(tmp_path / "clip.safetensors", tmp_path / "other", num_frames=3, hidden_act="quick_gelu")
    assert not any("assumed" in note for note in other.notes)
    assert XCLIPModel.from_pretrained(other.target).config.vision_config.hidden_act == "quick_gelu"


@pytest.mark.slow
def test_an_existing_folder_is_kept_without_force(clip_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "start"
    target.mkdir()
    init_from_clip(clip_file, target, num_frames=2)  # an empty folder may be used
    before = files(target)
    (target / "notes.txt").write_text("mine")
    (target / "pytorch_model.bin").write_bytes(b"older")
    with pytest.raises(CheckpointError, match="--force"):
        init_from_clip(clip_file, target, num_frames=3)
    assert {name: before[name] for name in before} == {name: files(target)[name] for name in before}
    init_from_clip(clip_file, target, num_frames=3, force=True)
    assert XCLIPModel.from_pretrained(target).config.vision_config.num_frames == 3
    assert (target / "notes.txt").read_text() == "mine"
    assert not (target / "pytorch_model.bin").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["start"]


def test_invalid_targets_are_refused(clip_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match="is a file, but this model needs a folder"):
        init_from_clip(clip_file, tmp_path / "file", force=True)
    with pytest.raises(CheckpointError, match="can't be a folder, because"):
        init_from_clip(clip_file, tmp_path / "file" / "start")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(CheckpointError, match="link to itself"):
        init_from_clip(clip_file, tmp_path / "loop")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("where", ["weights", pytest.param("card", marks=pytest.mark.slow)])
def test_failures_leave_no_files(where: str, clip_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    name = "huggingface_hub.save_torch_state_dict" if where == "weights" else "openxclip.conversion.from_clip._card"
    with monkeypatch.context() as patch:
        patch.setattr(name, full)
        with pytest.raises(CheckpointError, match="No space left"):
            init_from_clip(clip_file, tmp_path / "deep" / "start")
    assert list((tmp_path / "deep").iterdir()) == []


def test_invalid_sources_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="X-CLIP already"):
        init_from_clip(tiny_folder, tmp_path / "start")
    with pytest.raises(CheckpointError, match="nowhere"):
        init_from_clip(tmp_path / "nowhere.pt", tmp_path / "start")
    torch.save(openai_state(clip_model()), tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="vocabulary has 99 entries, but the tokenizer 49408"):
        init_from_clip(tmp_path / "other.pt", tmp_path / "start", hidden_act="gelu")
    with pytest.raises(CheckpointError, match=r"other\.pt: activation 'swish' is unknown"):
        XCLIPModel.from_clip(tmp_path / "other.pt", hidden_act="swish")
    with pytest.raises(ValueError, match="num_frames=0"):
        init_from_clip(tmp_path / "other.pt", tmp_path / "start", num_frames=0)
    assert [path.name for path in tmp_path.iterdir()] == ["other.pt"]


@pytest.mark.slow
def test_a_clip_keeps_its_own_tokenizer(clip: transformers.CLIPModel, done: Initialization, tmp_path: Path) -> None:
    """The tokenizer of a CLIP's folder is kept with its weights."""
    with quiet_transformers():
        clip.save_pretrained(tmp_path / "clip")
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"):
        if (done.target / name).is_file():
            shutil.copy(done.target / name, tmp_path / "clip")
    config = tmp_path / "clip" / "tokenizer_config.json"
    config.write_text(config.read_text().replace('"model_max_length": 77', '"model_max_length": 55'))
    init_from_clip(tmp_path / "clip", tmp_path / "start")
    assert XCLIPProcessor.from_pretrained(tmp_path / "start").tokenizer.model_max_length == 55
