"""The results of `get_text_features` and `get_video_features`: tensors with attributes of transformers 5's object."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from peers import TINY, make_ids, make_pixels, our_model, their_model
from torch import Tensor

import openxclip


@pytest.fixture
def model() -> openxclip.XCLIPModel:
    return our_model(TINY)


@pytest.fixture
def given() -> dict[str, Tensor]:
    return {"input_ids": make_ids(TINY, 3, 9, pad=0)[0], "pixel_values": make_pixels(TINY, 2)}


@pytest.mark.parametrize("grad", [True, False])
def test_features_have_the_attributes_of_transformers_5(
    grad: bool, model: openxclip.XCLIPModel, given: dict[str, Tensor]
) -> None:
    theirs = their_model(TINY)
    with torch.set_grad_enabled(grad):
        for name, inputs in (("get_text_features", "input_ids"), ("get_video_features", "pixel_values")):
            features = getattr(model, name)(given[inputs])
            assert type(features) is Tensor
            assert torch.equal(features.pooler_output, features)
            assert features.pooler_output.data_ptr() == features.data_ptr()
            assert not hasattr(features, "last_hidden_state")
            asked = getattr(model, name)(given[inputs], output_hidden_states=True, output_attentions=True)
            right = getattr(theirs, name)(given[inputs], output_hidden_states=True, output_attentions=True)
            torch.testing.assert_close(asked, right.pooler_output, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(asked.last_hidden_state, right.last_hidden_state, atol=1e-4, rtol=1e-4)
            assert len(asked.hidden_states) == len(right.hidden_states)
            assert [a.shape for a in asked.attentions] == [a.shape for a in right.attentions]


def test_gradients_flow_through_the_attribute(model: openxclip.XCLIPModel, given: dict[str, Tensor]) -> None:
    weight = model.text_projection.weight
    results = []
    for read in (lambda features: features, lambda features: features.pooler_output):
        model.zero_grad()
        read(model.get_text_features(given["input_ids"])).square().sum().backward()
        results.append(weight.grad.clone())
    assert torch.equal(*results)


def test_features_can_be_changed_in_place(model: openxclip.XCLIPModel, given: dict[str, Tensor]) -> None:
    with torch.no_grad():
        features = model.get_text_features(given["input_ids"])
    before, scale = features.clone(), torch.tensor(2.0, requires_grad=True)
    features.mul_(scale)
    features.sum().backward()
    torch.testing.assert_close(scale.grad, before.sum())
    with_graph = model.get_text_features(given["input_ids"])
    with_graph.mul_(2).sum().backward()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_features_are_freed_without_the_garbage_collector(
    mode: Any, model: openxclip.XCLIPModel, given: dict[str, Tensor]
) -> None:
    gc.collect()
    gc.disable()
    try:
        with mode():
            features = model.get_video_features(given["pixel_values"])
        there = [weakref.ref(features), weakref.ref(features.pooler_output)]
        del features
        assert [ref() for ref in there] == [None, None]
    finally:
        gc.enable()


def test_kept_features_do_not_keep_other_tensors(model: openxclip.XCLIPModel) -> None:
    """Kept features keep neither the towers' states nor the inputs in memory."""

    def storages() -> dict[int, int]:
        gc.collect()
        tensors = [item for item in gc.get_objects() if type(item) is Tensor]
        return {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}

    with torch.no_grad():
        model.get_video_features(make_pixels(TINY, 1))
        before = storages()
        kept = [model.get_video_features(make_pixels(TINY, 1, seed=seed)) for seed in range(5)]
        kept += [model.get_text_features(make_ids(TINY, 1, 9, seed=seed)[0]) for seed in range(5)]
        added = storages().items() - before.items()
    assert sum(size for _, size in added) == 10 * 128 * 4
    assert all(features.pooler_output.untyped_storage().nbytes() == 128 * 4 for features in kept)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda features: pickle.loads(pickle.dumps(features))])
def test_features_are_copied_and_pickled(
    again: Any, model: openxclip.XCLIPModel, given: dict[str, Tensor], tmp_path: Path
) -> None:
    with torch.no_grad():
        features = model.get_text_features(given["input_ids"])
    made = again(features)
    assert type(made) is Tensor
    assert torch.equal(made, features)
    assert torch.equal(made.pooler_output, features)
    torch.save(features, tmp_path / "features.pt")
    assert torch.equal(torch.load(tmp_path / "features.pt", weights_only=True), features)
    assert (tmp_path / "features.pt").stat().st_size < features.numel() * 4 + 2000


def test_features_of_an_optimized_model(model: openxclip.XCLIPModel, given: dict[str, Tensor]) -> None:
    fast = openxclip.optimize(model.requires_grad_(False), "fp32", verbose=False)
    with torch.no_grad():
        features = fast.get_text_features(given["input_ids"])
        assert torch.equal(features.pooler_output, features)
        videos = fast.get_video_features(given["pixel_values"], output_hidden_states=True)
        torch.testing.assert_close(videos, model.get_video_features(given["pixel_values"]), atol=1e-4, rtol=1e-4)
        assert len(videos.hidden_states) == 4
