"""Behaviour of the model: order and number of frames, features, losses, outputs, precision and errors."""

from __future__ import annotations

import inspect
import re
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peers import TINY, fields, make_ids, make_pixels, our_config, our_model, relative_delta, with_settings

import openxclip
from openxclip.model import VideoFeatures, XCLIPOutput


@pytest.fixture(autouse=True)
def no_gradients() -> Any:
    with torch.no_grad():
        yield


@pytest.fixture
def model() -> openxclip.XCLIPModel:
    return our_model(TINY)


def tiny_inputs(videos: int = 2, texts: int = 3, **options: Any) -> dict[str, torch.Tensor]:
    ids, _ = make_ids(TINY, texts, 9)
    return {"input_ids": ids, "pixel_values": make_pixels(TINY, videos, **options)}


def same(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-5) -> bool:
    return relative_delta(a, b) <= tolerance


# Frames


def test_only_mit_depends_on_the_order_of_frames(model: openxclip.XCLIPModel) -> None:
    inputs = tiny_inputs()
    order = torch.tensor([5, 2, 7, 0, 3, 6, 1, 4])
    shuffled = {**inputs, "pixel_values": inputs["pixel_values"][:, order]}
    with_positions = model(**inputs).logits_per_video
    assert not same(model(**shuffled).logits_per_video, with_positions, 1e-4)
    model.mit.position_embedding.zero_()
    assert same(model(**shuffled).logits_per_video, model(**inputs).logits_per_video)
    assert not same(model(**inputs).logits_per_video, with_positions, 1e-4)


def test_frames_exchange_messages(model: openxclip.XCLIPModel) -> None:
    """A change in the last frame changes the state of the first one, but not that of another video."""
    pixels = make_pixels(TINY, 2)
    before = model.vision_model(pixels.flatten(0, 1)).last_hidden_state
    pixels[0, -1] += 1
    after = model.vision_model(pixels.flatten(0, 1)).last_hidden_state
    assert not same(after[0], before[0], 1e-4)
    assert torch.equal(after[8:], before[8:])


@pytest.mark.parametrize("frames", [1, 5, 12, 32])
def test_any_number_of_frames(frames: int) -> None:
    model = our_model(TINY)
    inputs = tiny_inputs(frames=frames)
    with pytest.warns(UserWarning, match=rf"\b8\b.*\b{frames}\b.*linear") as caught:
        outputs = model(**inputs)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = model(**inputs)
        model(**tiny_inputs(frames=frames + 2))
        model(**tiny_inputs())
    assert torch.equal(outputs.logits_per_video, again.logits_per_video)
    assert outputs.logits_per_video.shape == (2, 3)
    assert outputs.video_embeds.shape == (2, 128)
    assert outputs.mit_output.last_hidden_state.shape == (2, frames, 128)
    assert outputs.vision_model_output.last_hidden_state.shape == (2 * frames, 17, 96)
    assert all(torch.isfinite(tensor).all() for tensor in fields(outputs).values())


def test_the_trained_number_of_frames_does_not_warn(model: openxclip.XCLIPModel) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(**tiny_inputs())


@pytest.mark.filterwarnings("ignore:.*temporal positions:UserWarning")
@pytest.mark.parametrize("frames", [1, 3, 5, 8, 12, 16, 32])
def test_positions_are_interpolated_linearly_between_segment_middles(frames: int) -> None:
    """A position stands for the middle of its segment of the clip; beyond the outermost middles it is constant."""
    model = our_model(TINY)
    trained = model.mit.position_embedding[0].double()
    expected = []
    for index in range(frames):
        place = min(max((index + 0.5) * 8 / frames - 0.5, 0.0), 7.0)
        low = min(int(place), 6)
        expected.append(trained[low] + (place - low) * (trained[low + 1] - trained[low]))
    features = torch.randn(2, frames, 128)
    seen = model.mit(features, output_hidden_states=True).hidden_states[0] - features
    torch.testing.assert_close(seen[0].double(), torch.stack(expected), atol=2e-6, rtol=0)
    torch.testing.assert_close(seen[0], seen[1], atol=2e-6, rtol=0)


def test_the_interpolation_is_documented() -> None:
    from openxclip.model import integration

    assert "linear" in inspect.getdoc(integration.MultiframeIntegrationTransformer)


def test_4d_pixels_have_the_frames_of_the_config(model: openxclip.XCLIPModel) -> None:
    inputs = tiny_inputs(videos=3)
    nested = model(**inputs)
    flat = model(**{**inputs, "pixel_values": inputs["pixel_values"].flatten(0, 1)})
    for name, tensor in fields(nested).items():
        assert torch.equal(fields(flat)[name], tensor), name
    assert torch.equal(
        model.get_video_features(inputs["pixel_values"].flatten(0, 1)),
        model.get_video_features(inputs["pixel_values"]),
    )


@pytest.mark.filterwarnings("ignore:.*temporal positions:UserWarning")
def test_num_frames_splits_4d_pixels(model: openxclip.XCLIPModel) -> None:
    inputs = tiny_inputs(videos=3, frames=4)
    nested = model(**inputs)
    flat = model(**{**inputs, "pixel_values": inputs["pixel_values"].flatten(0, 1)}, num_frames=4)
    assert torch.equal(flat.logits_per_video, nested.logits_per_video)
    assert torch.equal(
        model.get_video_features(inputs["pixel_values"].flatten(0, 1), num_frames=4),
        model.get_video_features(inputs["pixel_values"]),
    )


def test_4d_pixels_that_cannot_be_split(model: openxclip.XCLIPModel) -> None:
    pixels = make_pixels(TINY, 1, frames=12)[0]
    with pytest.raises(ValueError, match=r"\b12\b.*\b8\b"):
        model(pixel_values=pixels)
    with pytest.raises(ValueError, match=r"\b12\b.*\b5\b"):
        model(pixel_values=pixels, num_frames=5)
    with pytest.raises(ValueError, match="num_frames=5"):
        model(pixel_values=make_pixels(TINY, 1), num_frames=5)
    with pytest.raises(ValueError, match=r"num_frames=-?\d"):
        model(pixel_values=pixels, num_frames=0)
    with pytest.raises(ValueError, match=r"num_frames=-?\d"):
        model(pixel_values=pixels, num_frames=-4)
    with pytest.raises(ValueError, match=re.escape("(3, 32, 32)")):
        model(pixel_values=pixels[0])


def test_another_resolution_needs_interpolate_pos_encoding(model: openxclip.XCLIPModel) -> None:
    with pytest.raises(ValueError, match=r"40.*48.*32"):
        model(pixel_values=make_pixels(TINY, 1, size=(40, 48)))
    with pytest.raises(ValueError, match="patch"):
        model(pixel_values=make_pixels(TINY, 1, size=(40, 7)), interpolate_pos_encoding=True)


# Texts


def test_padding_after_the_end_of_a_text_has_no_effect(model: openxclip.XCLIPModel) -> None:
    ids, _ = make_ids(TINY, 3, 9)
    bare = model.get_text_features(ids)
    for filling in (0, 5, 98):
        padded = torch.cat([ids, torch.full((3, 60), filling)], dim=1)
        assert same(model.get_text_features(padded), bare, 2e-6)
    padded = torch.cat([ids, torch.randint(0, 98, (3, 60))], dim=1)
    assert same(model.get_text_features(padded), bare, 2e-6)
    mask = (torch.arange(69) < 9).long().expand(3, -1)
    assert same(model.get_text_features(padded, attention_mask=mask), bare, 2e-6)
    changed = ids.clone()
    changed[:, 1] = (changed[:, 1] + 1) % 90
    assert not same(model.get_text_features(changed), bare, 1e-3)


def test_one_text_without_a_batch_dimension(model: openxclip.XCLIPModel) -> None:
    """transformers accepts (L,) ids as one text."""
    ids, _ = make_ids(TINY, 1, 9)
    assert same(model.get_text_features(ids[0]), model.get_text_features(ids))
    pixels = make_pixels(TINY, 2)
    assert same(model(ids[0], pixels).logits_per_video, model(ids, pixels).logits_per_video)


def test_a_text_longer_than_the_context_is_refused(model: openxclip.XCLIPModel) -> None:
    with pytest.raises(ValueError, match=r"78.*77"):
        model.get_text_features(torch.ones(1, 78, dtype=torch.int64))


def test_a_mask_of_another_shape_is_refused(model: openxclip.XCLIPModel) -> None:
    with pytest.raises(ValueError, match=r"\(2, 8\).*\(2, 9\)"):
        model.get_text_features(make_ids(TINY, 2, 9)[0], attention_mask=torch.ones(2, 8))


def test_a_set_of_texts_for_each_video(model: openxclip.XCLIPModel) -> None:
    ids = torch.stack([make_ids(TINY, 4, 9, pad=0, seed=seed)[0] for seed in range(3)])
    mask = torch.stack([make_ids(TINY, 4, 9, pad=0, seed=seed)[1] for seed in range(3)])
    pixels = make_pixels(TINY, 3)
    together = model(input_ids=ids, pixel_values=pixels, attention_mask=mask)
    assert together.logits_per_video.shape == (3, 4)
    assert together.logits_per_text.shape == (4, 3)
    assert torch.equal(together.logits_per_text, together.logits_per_video.T)
    features = model.get_text_features(ids, attention_mask=mask)
    assert features.shape == (3, 4, 128)
    passed = model(text_features=features, pixel_values=pixels)
    assert same(passed.logits_per_video, together.logits_per_video)
    for video in range(3):
        alone = model(input_ids=ids[video], pixel_values=pixels[video : video + 1], attention_mask=mask[video])
        assert same(together.logits_per_video[video], alone.logits_per_video[0])
        assert same(together.text_embeds[video], alone.text_embeds[0])
        assert same(features[video], model.get_text_features(ids[video], attention_mask=mask[video]))


def test_sets_of_texts_for_another_number_of_videos_are_refused(model: openxclip.XCLIPModel) -> None:
    ids = make_ids(TINY, 8, 9)[0].view(4, 2, 9)
    with pytest.raises(ValueError, match=r"\b4\b.*\b3\b"):
        model(input_ids=ids, pixel_values=make_pixels(TINY, 3))
    with pytest.raises(ValueError, match=r"\b64\b.*\b128\b"):
        model(text_features=torch.randn(4, 64), pixel_values=make_pixels(TINY, 3))


# Precomputed features


def test_precomputed_features_give_the_same_scores(model: openxclip.XCLIPModel) -> None:
    inputs = tiny_inputs()
    whole = model(**inputs)
    text = model.get_text_features(inputs["input_ids"])
    video = model.encode_video(inputs["pixel_values"])
    assert isinstance(video, VideoFeatures)
    assert video.pooled.shape == (2, 128)
    assert video.patches.shape == (2, 16, 128)
    assert same(video.pooled, model.get_video_features(inputs["pixel_values"]), 1e-6)
    mixed = (
        {"text_features": text, "video_features": video},
        {"input_ids": inputs["input_ids"], "video_features": video},
        {"text_features": text, "pixel_values": inputs["pixel_values"]},
        {"text_features": text, "video_features": tuple(video)},
        {"text_features": text, "video_features": VideoFeatures(*(x.clone() for x in video))},
    )
    for given in mixed:
        outputs = model(**given)
        for name in ("logits_per_video", "logits_per_text", "text_embeds", "video_embeds"):
            assert same(getattr(outputs, name), getattr(whole, name), 1e-6), (list(given), name)
    outputs = model(text_features=text, video_features=video)
    assert outputs.text_model_output is None
    assert outputs.vision_model_output is None
    assert outputs.mit_output is None
    loss = model(text_features=text[:2], video_features=video, return_loss=True).loss
    assert same(loss, model(inputs["input_ids"][:2], inputs["pixel_values"], return_loss=True).loss)


@pytest.mark.filterwarnings("ignore:.*temporal positions:UserWarning")
def test_encoded_videos_of_other_shapes(model: openxclip.XCLIPModel) -> None:
    text = model.get_text_features(make_ids(TINY, 3, 9)[0])
    pixels = make_pixels(TINY, 2, frames=5, size=(24, 56))
    options = {"interpolate_pos_encoding": True}
    whole = model(text_features=text, pixel_values=pixels, **options)
    video = model.encode_video(pixels, **options)
    assert video.patches.shape == (2, 21, 128)
    assert same(model(text_features=text, video_features=video).logits_per_video, whole.logits_per_video)
    flat = model.encode_video(pixels.flatten(0, 1), num_frames=5, **options)
    assert torch.equal(flat.pooled, video.pooled)


def test_video_features_of_a_wrong_shape_are_refused(model: openxclip.XCLIPModel) -> None:
    text = torch.randn(3, 128)
    for pooled, patches in (((2, 64), (2, 16, 64)), ((2, 128), (3, 16, 128)), ((2, 128), (16, 128))):
        with pytest.raises(ValueError, match=re.escape(str(patches))):
            model(text_features=text, video_features=(torch.randn(pooled), torch.randn(patches)))


def test_texts_or_videos_alone(model: openxclip.XCLIPModel) -> None:
    inputs = tiny_inputs()
    video = model(pixel_values=inputs["pixel_values"])
    assert list(video) == ["video_embeds", "vision_model_output", "mit_output"]
    expected = F.normalize(model.get_video_features(inputs["pixel_values"]), dim=-1)
    assert same(video.video_embeds, expected, 1e-6)
    assert same(video.video_embeds, model(**inputs).video_embeds, 1e-6)
    text = model(input_ids=inputs["input_ids"])
    assert list(text) == ["text_embeds", "text_model_output"]
    assert same(text.text_embeds, F.normalize(model.get_text_features(inputs["input_ids"]), dim=-1), 1e-6)
    assert video.logits_per_video is None
    assert text.logits_per_video is None


def test_missing_or_duplicate_inputs_are_refused(model: openxclip.XCLIPModel) -> None:
    inputs = tiny_inputs()
    text = model.get_text_features(inputs["input_ids"])
    video = model.encode_video(inputs["pixel_values"])
    with pytest.raises(ValueError, match=r"input_ids.*pixel_values"):
        model()
    with pytest.raises(ValueError, match=r"input_ids.*text_features"):
        model(**inputs, text_features=text)
    with pytest.raises(ValueError, match=r"pixel_values.*video_features"):
        model(**inputs, video_features=video)
    with pytest.raises(ValueError, match="encode_video"):
        model(text_features=text, video_features=video.pooled)
    for options in ({"return_loss": True}, {"labels": torch.tensor([0, 1])}):
        with pytest.raises(ValueError, match="loss"):
            model(pixel_values=inputs["pixel_values"], **options)
        with pytest.raises(ValueError, match="loss"):
            model(input_ids=inputs["input_ids"], **options)


# Losses


def test_class_labels(model: openxclip.XCLIPModel) -> None:
    inputs = tiny_inputs(videos=4, texts=3)
    logits = model(**inputs).logits_per_video
    labels = torch.tensor([2, 0, 1, 1])
    actual = model(**inputs, labels=labels)
    assert same(actual.loss, F.cross_entropy(logits, labels), 1e-6)
    assert actual.loss.ndim == 0
    soft = torch.rand(4, 3).softmax(-1)
    assert same(model(**inputs, labels=soft).loss, F.cross_entropy(logits, soft), 1e-6)
    features = model.encode_video(inputs["pixel_values"])
    text = model.get_text_features(inputs["input_ids"])
    assert same(
        model(text_features=text, video_features=features, labels=labels).loss,
        F.cross_entropy(logits, labels),
    )


def test_labels_of_per_video_texts(model: openxclip.XCLIPModel) -> None:
    ids = make_ids(TINY, 6, 9)[0].view(2, 3, 9)
    pixels = make_pixels(TINY, 2)
    labels = torch.tensor([2, 0])
    outputs = model(input_ids=ids, pixel_values=pixels, labels=labels)
    assert same(outputs.loss, F.cross_entropy(outputs.logits_per_video, labels), 1e-6)


@pytest.mark.parametrize(
    "labels",
    [
        torch.tensor([0, 1]),
        torch.tensor(0),
        torch.tensor([0.0, 1.0, 0.0, 1.0]),
        torch.zeros(4, 2),
        torch.zeros(3, 4),
        torch.zeros(4, 3, dtype=torch.int64),
        torch.zeros(4, 3, 1),
    ],
)
def test_labels_of_a_wrong_shape_are_refused(model: openxclip.XCLIPModel, labels: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=re.escape(str(tuple(labels.shape)))):
        model(**tiny_inputs(videos=4, texts=3), labels=labels)


def test_a_label_outside_the_texts_is_an_error(model: openxclip.XCLIPModel) -> None:
    with pytest.raises((ValueError, IndexError)):
        model(**tiny_inputs(videos=2, texts=3), labels=torch.tensor([0, 3]))


def test_the_contrastive_loss_needs_pairs(model: openxclip.XCLIPModel) -> None:
    with pytest.raises(ValueError, match=r"\b3\b.*\b2\b"):
        model(**tiny_inputs(videos=2, texts=3), return_loss=True)
    ids = make_ids(TINY, 4, 9)[0].view(2, 2, 9)
    with pytest.raises(ValueError, match="labels"):
        model(input_ids=ids, pixel_values=make_pixels(TINY, 2), return_loss=True)


def test_no_loss_by_default(model: openxclip.XCLIPModel) -> None:
    assert model(**tiny_inputs(videos=3)).loss is None
    assert model(**tiny_inputs(videos=3), return_loss=False).loss is None


# The output class

ORDER = [
    "loss",
    "logits_per_video",
    "logits_per_text",
    "text_embeds",
    "video_embeds",
    "text_model_output",
    "vision_model_output",
    "mit_output",
]


def test_fields_by_name_and_position(model: openxclip.XCLIPModel) -> None:
    inputs = tiny_inputs(videos=3)
    outputs = model(**inputs, return_loss=True)
    assert isinstance(outputs, XCLIPOutput)
    assert list(outputs.keys()) == ORDER
    assert list(outputs) == ORDER
    assert len(outputs) == 8
    assert "loss" in outputs
    for position, name in enumerate(ORDER[:5]):
        assert outputs[position] is getattr(outputs, name)
        assert outputs[name] is getattr(outputs, name)
    assert outputs[-1][1] is outputs.mit_output.pooler_output
    assert outputs["text_model_output"]["pooler_output"] is outputs.text_model_output.pooler_output
    first, second = outputs[1:3]
    assert first is outputs.logits_per_video
    assert second is outputs.logits_per_text
    without = model(**inputs)
    assert list(without.keys()) == ORDER[1:]
    assert "loss" not in without
    assert without[0] is without.logits_per_video
    assert dict(without.items())["video_embeds"] is without.video_embeds
    with pytest.raises(KeyError, match="logit_per_video"):
        without["logit_per_video"]
    with pytest.raises(IndexError):
        without[7]


def test_outputs_as_tuples(model: openxclip.XCLIPModel) -> None:
    inputs = tiny_inputs(videos=3)
    named = model(**inputs, return_loss=True, output_hidden_states=True)
    for listed in (
        named.to_tuple(),
        model(**inputs, return_loss=True, output_hidden_states=True, return_dict=False),
    ):
        assert type(listed) is tuple
        assert len(listed) == 8
        for name, value in zip(ORDER[:5], listed, strict=False):
            assert torch.equal(value, named[name]), name
        for name, value in zip(ORDER[5:], listed[5:], strict=True):
            assert type(value) is tuple
            assert torch.equal(value[0], getattr(named, name).last_hidden_state)
            assert torch.equal(value[1], getattr(named, name).pooler_output)
            assert torch.equal(value[2][0], getattr(named, name).hidden_states[0])
    assert torch.equal(model(**inputs, return_dict=False)[0], named.logits_per_video)


def test_tower_outputs_as_tuples(model: openxclip.XCLIPModel) -> None:
    inputs = tiny_inputs()
    for tower, value in (
        (model.text_model, inputs["input_ids"]),
        (model.vision_model, inputs["pixel_values"].flatten(0, 1)),
    ):
        named = tower(value, output_attentions=True)
        listed = tower(value, output_attentions=True, return_dict=False)
        assert len(listed) == 3
        assert torch.equal(listed[1], named.pooler_output)
        assert torch.equal(listed[2][0], named.attentions[0])
        assert torch.equal(named[1], named.pooler_output)


def test_output_flags_of_the_config(model: openxclip.XCLIPModel) -> None:
    """As in transformers, `output_hidden_states` and `return_dict` default to the config's values."""
    for part in (model.config, model.config.text_config, model.config.vision_config):
        part.output_hidden_states = True
        part.return_dict = False
    inputs = tiny_inputs()
    listed = model(**inputs)
    assert type(listed) is tuple
    assert len(listed[4]) == 3
    assert model(**inputs, return_dict=True, output_hidden_states=False).text_model_output.hidden_states is None


def test_attention_rows_sum_to_one_and_texts_are_causal(model: openxclip.XCLIPModel) -> None:
    outputs = model(**tiny_inputs(), output_attentions=True)
    for part in ("text_model_output", "vision_model_output", "mit_output"):
        for weights in getattr(outputs, part).attentions:
            torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    assert outputs.text_model_output.attentions[0].triu(1).abs().max() == 0
    assert outputs.vision_model_output.attentions[0].shape == (16, 6, 18, 18)
    assert outputs.mit_output.attentions[0].shape == (2, 2, 8, 8)


# Precision, modes, device


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 0.02), (torch.bfloat16, 0.1)])
def test_half_precision_is_close(dtype: torch.dtype, tolerance: float) -> None:
    model = our_model(TINY)
    ids, mask = make_ids(TINY, 4, 9, pad=0)
    inputs = {"input_ids": ids, "pixel_values": make_pixels(TINY, 2), "attention_mask": mask}
    expected = fields(model(**inputs, output_attentions=True, output_hidden_states=True))
    model.to(dtype)
    assert model.dtype == dtype
    for pixels in (inputs["pixel_values"], inputs["pixel_values"].to(dtype)):
        outputs = fields(model(**{**inputs, "pixel_values": pixels}, output_attentions=True, output_hidden_states=True))
        for name, tensor in outputs.items():
            assert tensor.dtype == dtype, name
            assert relative_delta(tensor, expected[name]) < tolerance, name


@pytest.mark.filterwarnings("ignore:.*temporal positions:UserWarning")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_of_other_shapes(dtype: torch.dtype) -> None:
    model = our_model(TINY)
    inputs = tiny_inputs(frames=5, size=(40, 24))
    expected = model(**inputs, interpolate_pos_encoding=True).logits_per_video
    actual = model.to(dtype)(**inputs, interpolate_pos_encoding=True).logits_per_video
    assert actual.dtype == dtype
    assert relative_delta(actual, expected) < 0.1


def test_autocast() -> None:
    model = our_model(TINY)
    inputs = tiny_inputs()
    expected = model(**inputs).logits_per_video
    with torch.autocast("cpu", torch.bfloat16):
        actual = model(**inputs).logits_per_video
    assert relative_delta(actual.float(), expected) < 0.1


def test_double_precision(model: openxclip.XCLIPModel) -> None:
    inputs = tiny_inputs()
    expected = model(**inputs).logits_per_video
    actual = model.double()(**inputs).logits_per_video
    assert actual.dtype == torch.float64
    assert relative_delta(actual, expected) < 1e-5


def test_device_and_dtype(model: openxclip.XCLIPModel) -> None:
    assert model.device == torch.device("cpu")
    assert model.dtype == torch.float32
    assert model.to("meta").device.type == "meta"


def test_training_mode_changes_nothing_without_dropout(model: openxclip.XCLIPModel) -> None:
    inputs = tiny_inputs()
    expected = model(**inputs).logits_per_video
    assert torch.equal(model.train()(**inputs).logits_per_video, expected)


def test_a_batch_gives_the_same_as_single_videos(model: openxclip.XCLIPModel) -> None:
    inputs = tiny_inputs(videos=4)
    together = model(**inputs)
    for video in range(4):
        alone = model(inputs["input_ids"], inputs["pixel_values"][video : video + 1])
        assert same(alone.logits_per_video[0], together.logits_per_video[video])
        assert same(alone.text_embeds[0], together.text_embeds[video])


def test_strided_inputs(model: openxclip.XCLIPModel) -> None:
    """Channels-last frames, as from decoders, and sliced ids."""
    inputs = tiny_inputs()
    expected = model(**inputs).logits_per_video
    pixels = inputs["pixel_values"].permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    ids = torch.cat([inputs["input_ids"], inputs["input_ids"]], dim=1)[:, :9]
    assert not pixels.is_contiguous()
    assert not ids.is_contiguous()
    assert same(model(ids, pixels).logits_per_video, expected)
    steps = pixels.repeat_interleave(2, 1)[:, ::2]
    assert same(model(ids, steps).logits_per_video, expected)


def test_inputs_are_not_modified(model: openxclip.XCLIPModel) -> None:
    inputs = tiny_inputs()
    kept = {name: tensor.clone() for name, tensor in inputs.items()}
    model(**inputs)
    video, text = model.encode_video(inputs["pixel_values"]), model.get_text_features(inputs["input_ids"])
    pooled, patches, words = video.pooled.clone(), video.patches.clone(), text.clone()
    model(text_features=text, video_features=video)
    assert all(torch.equal(inputs[name], tensor) for name, tensor in kept.items())
    assert torch.equal(video.pooled, pooled)
    assert torch.equal(video.patches, patches)
    assert torch.equal(text, words)


def test_a_wrong_config_is_refused() -> None:
    config = our_config(TINY)
    with pytest.raises(TypeError, match="XCLIPTextConfig"):
        openxclip.XCLIPModel(config.text_config)
    with pytest.raises(ValueError, match="no_such_gelu"):
        our_model(with_settings(TINY, vision_hidden_act="no_such_gelu"))
