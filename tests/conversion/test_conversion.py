"""Conversion from one format to another and back."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from made_models import assert_starts_from, authors_model, clip_model, openai_state, sizes
from peers import quiet_transformers

import openxclip
from openxclip.errors import CheckpointError

KEPT = ("model.safetensors", "config.json", "preprocessor_config.json")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_hub_to_authors_and_back_gives_the_same_bytes(tiny_folder: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(tiny_folder, tmp_path / "source"))
    openxclip.XCLIPProcessor.from_pretrained(source).save_pretrained(source)  # with the files of the tokenizer
    config = (source / "config.json").read_text()
    (source / "config.json").write_text(config.replace("{\n", '{\n   "kept":  "ü",\n', 1))  # unlike ours
    done = openxclip.convert(source, tmp_path / "x.pth", to="authors")
    assert (done.kind, done.format, done.frames) == ("xclip", "hub", 4)
    back = openxclip.convert(tmp_path / "x.pth", tmp_path / "back")
    assert back.format == "authors"
    assert back.parameters == done.parameters
    for name in KEPT:
        assert (tmp_path / "back" / name).read_bytes() == (source / name).read_bytes(), name
    assert sorted(files(tmp_path / "back")) == sorted(files(source))


def test_half_precision_stays_half(tiny_folder: Path, tmp_path: Path) -> None:
    openxclip.XCLIPModel.from_pretrained(tiny_folder).half().save_pretrained(tmp_path / "half")
    openxclip.convert(tmp_path / "half", tmp_path / "x.pth", to="authors")
    openxclip.convert(tmp_path / "x.pth", tmp_path / "back")
    for name in KEPT[:2]:
        assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "half" / name).read_bytes()


@pytest.mark.slow
def test_the_authors_code_loads_the_file(tmp_path: Path) -> None:
    authors = authors_model()
    torch.save({"model": authors.state_dict()}, tmp_path / "k400.pth")
    openxclip.convert(tmp_path / "k400.pth", tmp_path / "hub")
    openxclip.convert(tmp_path / "hub", tmp_path / "again.pth", to="authors")
    read = torch.load(tmp_path / "again.pth", weights_only=True)["model"]
    fresh = authors_model(seed=5)
    fresh.load_state_dict(read, strict=True)
    for name, value in authors.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value), name
    with quiet_transformers():
        theirs, report = transformers.XCLIPModel.from_pretrained(tmp_path / "hub", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ids, pixels = torch.tensor([[5, 98], [7, 98]]), torch.randn(2, 4, 3, 32, 32)
    with torch.no_grad():
        expected = authors(ids, pixels)["logits_per_video"]
        for model in (theirs.eval(), openxclip.XCLIPModel.from_pretrained(tmp_path / "hub")):
            actual = model(input_ids=ids, pixel_values=pixels).logits_per_video
            assert (actual - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.slow
def test_a_clip_is_converted_to_an_untrained_x_clip(tmp_path: Path) -> None:
    clip = clip_model(act="gelu")
    torch.save(openai_state(clip), tmp_path / "clip.pt")
    done = openxclip.convert(tmp_path / "clip.pt", tmp_path / "start", num_frames=5)
    assert (done.kind, done.format, done.frames) == ("clip", "open_clip", 5)
    assert any("GELU" in note for note in done.notes)
    assert any("untrained" in note for note in done.notes)
    model = openxclip.XCLIPModel.from_pretrained(tmp_path / "start")
    assert_starts_from(model, clip)
    processor = openxclip.XCLIPProcessor.from_pretrained(tmp_path / "start")
    assert processor.num_frames == 5
    assert processor.image_processor.size == {"shortest_edge": 32}
    openxclip.convert(tmp_path / "clip.pt", tmp_path / "same", num_frames=5, hidden_act="gelu")
    assert files(tmp_path / "same") == files(tmp_path / "start")
    done = openxclip.convert(tmp_path / "start", tmp_path / "start.pth", to="authors")
    assert any("QuickGELU" in note for note in done.notes)
    assert openxclip.XCLIPModel.from_pretrained(tmp_path / "start.pth").config.vision_config.hidden_act == "gelu"


def test_other_numbers_of_heads_are_noted(tmp_path: Path) -> None:
    torch.save({"model": authors_model(joint=128, text_width=64).state_dict()}, tmp_path / "x.pth")
    openxclip.convert(tmp_path / "x.pth", tmp_path / "hub")
    assert openxclip.convert(tmp_path / "hub", tmp_path / "y.pth", to="authors").notes == ()
    config = openxclip.XCLIPConfig.from_pretrained(tmp_path / "hub")
    config.prompt_num_attention_heads = 4
    config.save_pretrained(tmp_path / "hub")
    notes = openxclip.convert(tmp_path / "hub", tmp_path / "z.pth", to="authors").notes
    assert "2 heads" in notes[0]


@pytest.mark.slow
def test_a_hugging_face_clip_keeps_its_tokenizer(tmp_path: Path) -> None:
    with quiet_transformers():
        clip_model().save_pretrained(tmp_path / "clip")
    (tmp_path / "clip" / "preprocessor_config.json").write_text('{"image_mean": [0.1, 0.1, 0.1]}')
    openxclip.convert(tmp_path / "clip", tmp_path / "start")
    processor = openxclip.XCLIPProcessor.from_pretrained(tmp_path / "start")
    assert processor.image_processor.image_mean == (0.485, 0.456, 0.406)  # the paper's, not CLIP's


@pytest.mark.parametrize("kind", ["one tensor", "slices", "overlapping", "one flat buffer"])
@pytest.mark.slow
def test_tensors_that_share_memory_are_all_written(kind: str, tiny_folder: Path, tmp_path: Path) -> None:
    openxclip.convert(tiny_folder, tmp_path / "x.pth", to="authors")
    value = torch.load(tmp_path / "x.pth", weights_only=True)
    state = value["model"]
    names = [name for name in state if name.startswith("visual.ln_")]
    width = state[names[0]].numel()
    if kind == "one flat buffer":
        flat = torch.cat([tensor.flatten() for tensor in state.values()])
        parts = flat.split([tensor.numel() for tensor in state.values()])
        state = {name: part.view(state[name].shape) for name, part in zip(state, parts, strict=True)}
    else:
        base = torch.randn(2 * width)
        step = {"one tensor": 0, "slices": width, "overlapping": 1}[kind]
        state |= {name: base[i * step :][:width] for i, name in enumerate(names[:2])}
    torch.save({**value, "model": state}, tmp_path / "x.pth")
    before = openxclip.XCLIPModel.from_pretrained(tmp_path / "x.pth").state_dict()
    openxclip.convert(tmp_path / "x.pth", tmp_path / "x")
    after = openxclip.XCLIPModel.from_pretrained(tmp_path / "x").state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


# Existing targets


def test_an_existing_target_is_kept_without_force(tiny_folder: Path, tmp_path: Path) -> None:
    for to, target in (("hub", tmp_path / "folder"), ("authors", tmp_path / "file.pth")):
        if to == "hub":
            target.mkdir()
            openxclip.convert(tiny_folder, target)  # an empty folder may be used
            (target / "notes.txt").write_text("mine")
            (target / "pytorch_model.bin").write_bytes(b"older")
        else:
            target.write_bytes(b"mine")
        with pytest.raises(CheckpointError, match="--force"):
            openxclip.convert(tiny_folder, target, to=to)  # type: ignore[arg-type]
        openxclip.convert(tiny_folder, target, to=to, force=True)  # type: ignore[arg-type]
        openxclip.XCLIPModel.from_pretrained(target)
    assert (tmp_path / "folder" / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "folder" / "pytorch_model.bin").exists()
    with pytest.raises(CheckpointError, match="is a folder"):
        openxclip.convert(tiny_folder, tmp_path / "folder", to="authors", force=True)
    with pytest.raises(CheckpointError, match="is a file"):
        openxclip.convert(tiny_folder, tmp_path / "file.pth", force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.pth", "folder"]


def test_special_files_and_links(tiny_folder: Path, tmp_path: Path) -> None:
    pipe, link, loop, file = (tmp_path / name for name in ("pipe", "link.pth", "loop", "file.pth"))
    os.mkfifo(pipe)
    for to in ("hub", "authors"):
        with pytest.raises(CheckpointError, match="is a device or pipe"):
            openxclip.convert(tiny_folder, pipe, to=to, force=True)  # type: ignore[arg-type]
    assert pipe.is_fifo()
    loop.symlink_to(loop)
    with pytest.raises(CheckpointError, match="can't be written"):
        openxclip.convert(tiny_folder, loop, to="authors")
    link.symlink_to(file)  # the link's target is written
    openxclip.convert(tiny_folder, link, to="authors")
    assert link.is_symlink()
    openxclip.XCLIPModel.from_pretrained(file)
    with pytest.raises(CheckpointError, match="--force"):
        openxclip.convert(tiny_folder, link, to="authors")


@pytest.mark.parametrize("to", ["hub", "authors"])
def test_failures_leave_no_files(to: Any, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.save_torch_state_dict", full)
        patch.setattr(torch, "save", full)
        with pytest.raises(CheckpointError, match="No space left"):
            openxclip.convert(tiny_folder, tmp_path / "x", to=to)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CheckpointError, match="nowhere"):
        openxclip.convert(tmp_path / "nowhere.pth", tmp_path / "x", to=to)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_files_have_default_permissions(tiny_folder: Path, tmp_path: Path) -> None:
    openxclip.convert(tiny_folder, tmp_path / "x.pth", to="authors")
    openxclip.convert(tiny_folder, tmp_path / "x")
    (tmp_path / "like").touch()
    mode = (tmp_path / "like").stat().st_mode
    assert (tmp_path / "x.pth").stat().st_mode == mode
    assert {path.stat().st_mode for path in (tmp_path / "x").iterdir()} == {mode}
    (tmp_path / "made").mkdir()
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "made").stat().st_mode
    assert os.access(tmp_path / "x", os.R_OK)


def test_invalid_arguments_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="number of frames can be given only for a CLIP"):
        openxclip.convert(tiny_folder, tmp_path / "x", num_frames=4)
    with pytest.raises(ValueError, match=r"this model's config.json has them"):
        openxclip.convert(tiny_folder, tmp_path / "x", vision_heads=1)
    with pytest.raises(ValueError, match="to='onnx'"):
        openxclip.convert(tiny_folder, tmp_path / "x", to="onnx")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_the_source_may_be_overwritten(tiny_folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "x.pth"
    clip = clip_model()
    openxclip.convert(tiny_folder, source, to="authors")
    before = openxclip.XCLIPModel.from_pretrained(source).state_dict()
    openxclip.convert(source, source, to="authors", force=True)
    after = openxclip.XCLIPModel.from_pretrained(source).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    torch.save({**openai_state(clip), **sizes(clip)}, source)
    openxclip.convert(source, source, to="authors", force=True)
    assert_starts_from(openxclip.XCLIPModel.from_pretrained(source), clip)
