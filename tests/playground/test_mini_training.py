"""The training script: an interrupted run goes on where it stopped and ends where an uninterrupted one does."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from openxclip.hub import resolve_folder
from openxclip.model import XCLIPModel

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import evaluate_mini
import train_mini


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(train_mini, "SIZE", 32)
    monkeypatch.setattr(train_mini, "REMEMBERED", 64)
    for part, changes in {
        "text_config": {"num_hidden_layers": 1},
        "vision_config": {"num_hidden_layers": 1, "image_size": 32, "patch_size": 16},
    }.items():
        monkeypatch.setitem(train_mini.CONFIG, part, train_mini.CONFIG[part] | changes)
    return tuple(replace(stage, steps=2, batch=2) for stage in train_mini.STAGES)


def test_an_interrupted_run_ends_as_an_uninterrupted_one(short, tmp_path, capsys):
    whole = train_mini.train(tmp_path / "whole", short).state_dict()
    for steps in (1, 3, 99):
        parts = train_mini.train(tmp_path / "parts", short, stop_after=steps).state_dict()
    assert torch.load(tmp_path / "parts/last.pt")["stage"] == len(short)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    again = train_mini.train(tmp_path / "parts", short).state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_an_exported_model_scores_as_the_trained_one(short, tmp_path):
    texts = train_mini.Texts()
    torch.manual_seed(0)
    model = train_mini.build(len(texts.used)).eval()
    evaluate_mini.export(model, texts.used, tmp_path, 32)
    exported, processor = evaluate_mini.load(tmp_path)
    sentences = ["a cat moves left", "a video of a dog spinning clockwise", "an empty scene"]
    pixels = torch.randn(2, 8, 3, 32, 32)
    with torch.inference_mode():
        here = model(input_ids=texts.ids(sentences), pixel_values=pixels).logits_per_video
        inputs = processor(text=sentences, padding=True, return_tensors="pt")
        there = exported(**inputs, pixel_values=pixels).logits_per_video
    torch.testing.assert_close(here, there, atol=0.05, rtol=0)


def test_the_shipped_folder():
    folder = resolve_folder("mini")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 40_000_000
    assert "knows only" in (folder / "README.md").read_text()
    model, processor = evaluate_mini.load(folder)
    assert isinstance(model, XCLIPModel)
    assert processor.video_processor.size["shortest_edge"] == model.config.vision_config.image_size


def test_mini_has_learnt_its_world():
    model, processor = evaluate_mini.load(resolve_folder("mini"))
    right = evaluate_mini.ask(model, processor, 77, 40)
    assert right["thing"] > 0.6  # the model card has the measured figures; this guards against a broken folder
    assert right["action"] > 0.5
