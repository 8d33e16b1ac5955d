"""Patterns from transformers' documentation of X-CLIP, rewritten so that nothing is downloaded."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from registry import DIFFERS, EQUAL, ONLY_HERE, pattern


def sample_frames(frames: list[np.ndarray], count: int) -> list[np.ndarray]:
    """Sample frames of a video by indices like those of the documentation's helper."""
    rng = np.random.default_rng(0)
    end = rng.integers(count, len(frames) + 1)
    return [frames[i] for i in np.linspace(0, end - 1, count).astype(int)]


def values_of(features: Any) -> torch.Tensor:
    return features if isinstance(features, torch.Tensor) else features.pooler_output


@pattern("docs")
def config_of_a_text_tower(lib: Any, given: Any) -> Any:
    configuration = lib.XCLIPTextConfig(num_hidden_layers=1, hidden_size=16, num_attention_heads=2)
    model = lib.XCLIPTextModel(configuration)
    return [model.config.hidden_size, sum(p.numel() for p in model.parameters())]


@pattern("docs")
def config_of_a_vision_tower(lib: Any, given: Any) -> Any:
    configuration = lib.XCLIPVisionConfig(
        num_hidden_layers=1, hidden_size=24, num_attention_heads=2, mit_hidden_size=16
    )
    model = lib.XCLIPVisionModel(configuration)
    return [model.config.hidden_size, model.config.patch_size]


@pattern("docs", outcome=ONLY_HERE, outcome_4=EQUAL)
def config_from_two_tower_configs(lib: Any, given: Any) -> Any:
    text, vision = lib.XCLIPTextConfig(hidden_size=16), lib.XCLIPVisionConfig(hidden_size=24)
    config = lib.XCLIPConfig.from_text_vision_configs(text, vision)
    return [config.text_config.hidden_size, config.vision_config.hidden_size, config.projection_dim]


@pattern("docs")
def config_by_default(lib: Any, given: Any) -> Any:
    config = lib.XCLIPConfig()
    return [config.projection_dim, config.prompt_layers, config.text_config.vocab_size, config.vision_config.image_size]


@pattern("docs")
def pooled_output_of_the_text_tower(lib: Any, given: Any) -> Any:
    model = given.model(lib).text_model
    tokenizer = lib.AutoTokenizer.from_pretrained(given.folder)
    inputs = tokenizer(["a photo of a cat", "a photo of a dog"], padding=True, return_tensors="pt")
    outputs = model(**inputs)
    return [outputs.last_hidden_state, outputs.pooler_output]


@pattern("docs", outcome_4=ONLY_HERE)
def pooled_output_of_the_vision_tower(lib: Any, given: Any) -> Any:
    processor = lib.AutoProcessor.from_pretrained(given.folder)
    model = given.model(lib).vision_model
    pixel_values = processor(videos=sample_frames(given.arrays * 2, 4), return_tensors="pt").pixel_values
    _, _, num_channels, height, width = pixel_values.shape
    outputs = model(pixel_values.reshape(-1, num_channels, height, width))
    return outputs.last_hidden_state


@pattern("docs")
def text_features(lib: Any, given: Any) -> Any:
    tokenizer = lib.AutoTokenizer.from_pretrained(given.folder)
    model = lib.AutoModel.from_pretrained(given.folder)
    inputs = tokenizer(["a photo of a cat", "a photo of a dog"], padding=True, return_tensors="pt")
    return values_of(model.get_text_features(**inputs))


@pattern("docs")
def text_features_in_inference_mode(lib: Any, given: Any) -> Any:
    tokenizer = lib.AutoTokenizer.from_pretrained(given.folder)
    model = lib.AutoModel.from_pretrained(given.folder)
    inputs = tokenizer(["a photo of a cat", "a photo of a dog"], padding=True, return_tensors="pt")
    with torch.inference_mode():
        return values_of(model.get_text_features(**inputs))


@pattern("docs", outcome_4=ONLY_HERE)
def video_features(lib: Any, given: Any) -> Any:
    processor = lib.AutoProcessor.from_pretrained(given.folder)
    model = lib.AutoModel.from_pretrained(given.folder)
    inputs = processor(videos=sample_frames(given.arrays * 2, 4), return_tensors="pt")
    return values_of(model.get_video_features(**inputs))


@pattern("docs", outcome_4=ONLY_HERE)
def width_of_video_features(lib: Any, given: Any) -> Any:
    processor = lib.AutoProcessor.from_pretrained(given.folder)
    inputs = processor(videos=list(given.arrays), return_tensors="pt")
    return list(values_of(given.model(lib).get_video_features(**inputs)).shape)


@pattern("docs", outcome_4=ONLY_HERE)
def classification_among_three_texts(lib: Any, given: Any) -> Any:
    processor = lib.AutoProcessor.from_pretrained(given.folder)
    model = lib.AutoModel.from_pretrained(given.folder)
    inputs = processor(
        text=["playing sports", "eating spaghetti", "go shopping"],
        videos=sample_frames(given.arrays * 2, 4),
        return_tensors="pt",
        padding=True,
    )
    with torch.no_grad():
        outputs = model(**inputs)
    return outputs.logits_per_video.softmax(dim=1)


@pattern("docs", outcome_4=ONLY_HERE)
def classification_with_the_processor_class(lib: Any, given: Any) -> Any:
    processor, model = given.processor(lib), given.model(lib)
    inputs = processor(text=given.texts, videos=given.arrays, return_tensors="pt", padding=True)
    return {name: list(value.shape) for name, value in inputs.items()} | {
        "best": model(**inputs).logits_per_video.argmax(dim=-1)
    }


@pattern("docs")
def contrastive_loss(lib: Any, given: Any) -> Any:
    return given.model(lib)(given.input_ids[:2], given.pixel_values, return_loss=True).loss


@pattern("docs")
def interpolated_positions(lib: Any, given: Any) -> Any:
    pixels = torch.nn.functional.interpolate(given.pixel_values.flatten(0, 1), size=(48, 48)).unflatten(0, (2, 4))
    return given.model(lib)(given.input_ids, pixels, interpolate_pos_encoding=True).logits_per_video


@pattern("docs")
def all_outputs(lib: Any, given: Any) -> Any:
    outputs = given.model(lib)(given.input_ids, given.pixel_values)
    return {
        name: getattr(outputs, name) for name in ("logits_per_video", "logits_per_text", "text_embeds", "video_embeds")
    }


@pattern("docs", outcome=DIFFERS, outcome_4=EQUAL, reason="4.x's order of the fields")
def output_as_a_tuple(lib: Any, given: Any) -> Any:
    return given.model(lib)(given.input_ids, given.pixel_values).to_tuple()[0]


@pattern("docs")
def config_of_the_model(lib: Any, given: Any) -> Any:
    configuration = given.model(lib).config
    return [configuration.model_type, configuration.text_config.model_type, configuration.vision_config.model_type]


@pattern("docs", outcome_4=ONLY_HERE)
def half_precision_on_a_device(lib: Any, given: Any) -> Any:
    model = lib.AutoModel.from_pretrained(given.folder, dtype=torch.bfloat16, device_map="auto")
    inputs = given.processor(lib)(text=given.texts, videos=given.arrays, return_tensors="pt", padding=True)
    inputs = inputs.to(model.device, torch.bfloat16)
    return [str(inputs["pixel_values"].dtype), list(model(**inputs).logits_per_video.shape)]
