"""Patterns of projects that use the model's classes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from registry import DIFFERS, EQUAL, ONLY_HERE, ONLY_THERE, pattern
from torch import Tensor, nn

# transformers 4.57's get_video_features always fails: without return_dict, its MIT returns a tuple.
STATES = "the features are a tensor: with output_hidden_states=True it has the states of the tower"


def features(output: Any) -> Tensor:
    """The tensor from either version's get_*_features, as careful clients get it."""
    found: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return found


def batch(lib: Any, given: Any) -> Any:
    return given.processor(lib)(text=given.texts, images=given.images, return_tensors="pt", padding=True)


def logits(lib: Any, given: Any, model: Any = None) -> Tensor:
    model = given.model(lib) if model is None else model
    found: Tensor = model(given.input_ids, given.pixel_values).logits_per_video
    return found


def vision_tower(lib: Any, given: Any) -> Any:
    """The vision tower with the folder's weights. 5.x can't load a tower from the folder of a whole model."""
    whole = given.model(lib)
    tower = lib.XCLIPVisionModel(whole.config.vision_config).eval()
    getattr(tower, "vision_model", tower).load_state_dict(whole.vision_model.state_dict())
    return tower


@pattern("client", outcome_4=ONLY_HERE)
def softmax_of_logits_per_video(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    inputs = given.processor(lib)(text=given.texts, videos=[given.arrays], return_tensors="pt", padding=True)
    return model(**inputs).logits_per_video.softmax(dim=1)


@pattern("client", outcome_4=ONLY_HERE)
def more_frames_and_texts(lib: Any, given: Any) -> Any:
    config = lib.XCLIPConfig.from_pretrained(given.folder)
    config.vision_config.num_frames = 32
    model = lib.XCLIPModel(config).eval()
    state = given.model(lib).state_dict()
    state["mit.position_embedding"] = torch.linspace(-1, 1, 32 * 16).view(1, 32, 16)
    model.load_state_dict(state)
    frames = given.arrays * 8
    inputs = given.processor(lib)(text=given.texts * 3, videos=[frames], return_tensors="pt", padding=True)
    with torch.no_grad():
        return model(**inputs).logits_per_video


@pattern("client", outcome_4=ONLY_HERE)
def features_tensor_or_object_by_isinstance(lib: Any, given: Any) -> Any:
    model, inputs = given.model(lib), batch(lib, given)
    with torch.no_grad():
        video = features(model.get_video_features(pixel_values=inputs["pixel_values"]))
        text = features(model.get_text_features(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]))
    return F.normalize(video, dim=-1) @ F.normalize(text, dim=-1).T


@pattern("client", outcome_4=ONLY_HERE)
def features_tensor_or_object_by_hasattr(lib: Any, given: Any) -> Any:
    output = given.model(lib).get_video_features(given.pixel_values)
    return output.pooler_output if hasattr(output, "pooler_output") else output


@pattern("client", outcome_4=ONLY_HERE)
def features_by_pooler_output(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    video, text = model.get_video_features(given.pixel_values), model.get_text_features(given.input_ids)
    return [video.pooler_output, text.pooler_output]


@pattern("client", outcome=DIFFERS, outcome_4=EQUAL, reason="a tensor, as in 4.x; 5.x's object has no norm")
def norm_of_features(lib: Any, given: Any) -> Any:
    text = given.model(lib).get_text_features(given.input_ids)
    return text / text.norm(p=2, dim=-1, keepdim=True) if isinstance(text, Tensor) else "an object"


@pattern("client", outcome=ONLY_THERE, outcome_4=EQUAL, reason=STATES)
def last_hidden_state_of_features(lib: Any, given: Any) -> Any:
    return given.model(lib).get_video_features(given.pixel_values).last_hidden_state


@pattern("client", outcome_4=ONLY_HERE)
def last_hidden_state_of_features_with_hidden_states(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    video = model.get_video_features(given.pixel_values, output_hidden_states=True)
    text = model.get_text_features(given.input_ids, output_hidden_states=True)
    return [video.last_hidden_state, text.last_hidden_state, *video.hidden_states, *text.hidden_states]


@pattern("client")
def numpy_pixel_values(lib: Any, given: Any) -> Any:
    return given.model(lib)(given.input_ids.float(), given.pixel_values)


@pattern("client")
def best_label(lib: Any, given: Any) -> Any:
    model, inputs = given.model(lib), batch(lib, given)
    with torch.no_grad():
        probabilities = model(**inputs).logits_per_video.softmax(dim=-1)
    return [given.texts[int(probabilities.argmax())], float(probabilities.max())]


@pattern("client", outcome_4=ONLY_HERE)
def features_of_4d_images(lib: Any, given: Any) -> Any:
    model, processor = given.model(lib), given.processor(lib)
    import numpy as np

    pixels = processor(images=np.stack(given.arrays), return_tensors="pt")["pixel_values"]
    pixels = pixels if pixels.ndim == 5 else pixels[None]
    return F.normalize(features(model.get_video_features(pixels)), dim=-1)


@pattern("client")
def sliding_window(lib: Any, given: Any) -> Any:
    model, processor = given.model(lib), given.processor(lib)
    frames, scores = given.images * 3, []
    for start in range(0, len(frames) - 3, 2):
        inputs = processor(text=given.texts, images=frames[start : start + 4], return_tensors="pt", padding=True).to(
            model.device
        )
        with torch.no_grad():
            scores.append(model(**inputs).logits_per_video[0])
    return torch.stack(scores)


@pattern("client")
def gradients_with_a_batch_of_assigned_keys(lib: Any, given: Any) -> Any:
    model, inputs = given.model(lib), batch(lib, given)
    inputs["pixel_values"] = inputs["pixel_values"].requires_grad_()
    model(**inputs).logits_per_video[0, 0].backward()
    return inputs["pixel_values"].grad


@pattern("client", tolerance=1e-4)
def training_step_of_a_class_with_two_towers(lib: Any, given: Any) -> Any:
    class Classifier(nn.Module):
        def __init__(self, whole: Any) -> None:
            super().__init__()
            self.vision, self.mit, self.projection = whole.vision_model, whole.mit, whole.visual_projection
            self.head = nn.Linear(16, 5)
            nn.init.constant_(self.head.weight, 0.1)
            nn.init.zeros_(self.head.bias)

        def forward(self, pixels: Tensor) -> Tensor:
            frames = self.projection(self.vision(pixels.flatten(0, 1))[1])
            logits: Tensor = self.head(self.mit(frames.unflatten(0, pixels.shape[:2]))[1])
            return logits

    model = Classifier(given.model(lib)).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(3):
        loss = F.cross_entropy(model(given.pixel_values), torch.tensor([1, 3]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss)
    return torch.stack(losses)


@pattern("client", tolerance=2e-2)
def half_precision_of_images(lib: Any, given: Any) -> Any:
    model, inputs = given.model(lib, torch_dtype=torch.float16), batch(lib, given)
    with torch.no_grad():
        out = model(inputs["input_ids"], inputs["pixel_values"].half(), inputs["attention_mask"])
    return out.logits_per_video.float()


@pattern("client")
def short_video_padded_with_its_last_frame(lib: Any, given: Any) -> Any:
    frames = given.images[:3]
    frames += [frames[-1]] * (given.model(lib).config.vision_config.num_frames - len(frames))
    inputs = given.processor(lib)(text=given.texts, images=frames, return_tensors="pt", padding=True)
    return given.model(lib)(**inputs).logits_per_video


@pattern("client")
def mit_called_with_return_dict(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    frames = model.visual_projection(model.vision_model(given.pixel_values.flatten(0, 1)).pooler_output)
    out = model.mit(hidden_states=frames.unflatten(0, (2, 4)), return_dict=True)
    return [out.last_hidden_state, out.pooler_output, out[1]]


@pattern("client", outcome=DIFFERS, outcome_4=DIFFERS, reason="4.x left mit_output out; order and nested fields differ")
def tuple_unpacking(lib: Any, given: Any) -> Any:
    found = given.model(lib)(given.input_ids, given.pixel_values, return_dict=False)
    return [list(value.shape) if isinstance(value, Tensor) else len(value) for value in found]


@pattern("client", outcome_4=ONLY_HERE)
def tokenizer_and_features_of_the_auto_classes(lib: Any, given: Any) -> Any:
    tokenizer, model = lib.AutoTokenizer.from_pretrained(given.folder), lib.AutoModel.from_pretrained(given.folder)
    text = features(model.get_text_features(**tokenizer(given.texts, padding=True, return_tensors="pt")))
    return [text, features(model.get_video_features(given.pixel_values))]


@pattern("client", tolerance=2e-2)
def precomputed_texts_and_parts_called_by_position(lib: Any, given: Any) -> Any:
    model = lib.AutoModel.from_pretrained(given.folder, device_map="cpu", torch_dtype=torch.float16)
    with torch.no_grad():
        text = features(model.get_text_features(given.input_ids))
        vision = model.vision_model(given.pixel_values.flatten(0, 1).half())
        frames = model.visual_projection(vision[1]).unflatten(0, (2, 4))
        video = model.mit(frames)[1]
        patches = model.prompts_visual_layernorm(vision[0][:, 1:]) @ model.prompts_visual_projection
        patches = patches.unflatten(0, (2, 4)).mean(dim=1)
        text = text.expand(2, -1, -1)
        text = F.normalize(text + model.prompts_generator(text, patches), dim=-1)
        return torch.einsum("bd,bkd->bk", F.normalize(video, dim=-1), model.logit_scale.exp() * text).float()


@pattern("client")
def copied_forward_with_flags_of_the_config(lib: Any, given: Any) -> Any:
    """A forward copied from transformers 4's source, which reads three flags of the config."""
    model, pixels = given.model(lib), given.pixel_values
    flags = {
        "output_attentions": model.config.output_attentions,
        "output_hidden_states": model.config.output_hidden_states,
        "return_dict": model.config.use_return_dict,
    }
    vision = model.vision_model(pixel_values=pixels.flatten(0, 1), interpolate_pos_encoding=False, **flags)
    frames = model.visual_projection(vision[1]).view(2, 4, -1)
    mit = model.mit(frames, **flags)
    text = model.text_model(input_ids=given.input_ids, attention_mask=None, position_ids=None, **flags)
    return [mit[1], model.text_projection(text[1]), vision[0]]


@pattern("client")
def text_tower_and_projection(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    return model.text_projection(model.text_model(given.input_ids).pooler_output)


@pattern("client")
def dummy_text_for_the_video_alone(lib: Any, given: Any) -> Any:
    inputs = given.processor(lib)(text=["dummy"], images=given.images, return_tensors="pt", padding=True)
    return given.model(lib)(**inputs).video_embeds


@pattern("client")
def pixel_values_without_a_mask(lib: Any, given: Any) -> Any:
    return given.model(lib)(input_ids=given.input_ids, pixel_values=given.pixel_values).logits_per_video


@pattern("client")
def one_caption_for_one_video(lib: Any, given: Any) -> Any:
    out = given.model(lib)(given.input_ids[:1], given.pixel_values[:1])
    return [out.text_embeds, out.video_embeds, (out.text_embeds[:, 0] * out.video_embeds).sum(-1)]


@pattern("client", outcome=ONLY_HERE)
def more_frames_than_the_model_was_trained_for(lib: Any, given: Any) -> Any:
    pixels = given.pixel_values
    return given.model(lib)(given.input_ids, torch.cat([pixels, pixels], dim=1)).logits_per_video


@pattern("client", outcome_4=ONLY_HERE)
def list_of_lists_of_num_frames_frames(lib: Any, given: Any) -> Any:
    model, count = given.model(lib), given.model(lib).config.vision_config.num_frames
    videos = [given.arrays[:count], given.arrays[::-1][:count]]
    return features(model.get_video_features(given.processor(lib)(videos=videos, return_tensors="pt").pixel_values))


@pattern("client")
def tokens_updated_with_the_frames(lib: Any, given: Any) -> Any:
    processor = given.processor(lib)
    inputs = processor.tokenizer(given.texts, padding=True, return_tensors="pt")
    inputs.update(processor(images=given.images, return_tensors="pt"))
    return given.model(lib)(**inputs).logits_per_video


@pattern("client", outcome_4=ONLY_HERE)
def learning_rates_per_layer(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    groups = []
    for depth, block in enumerate(model.vision_model.encoder.layers):
        block.train()
        groups.append({"params": list(block.parameters()), "lr": 0.01 * 0.5**depth})
    groups.append({"params": model.mit.parameters(), "lr": 0.02})
    optimizer = torch.optim.SGD(groups)
    features(model.get_video_features(given.pixel_values)).square().mean().backward()
    optimizer.step()
    return features(model.get_video_features(given.pixel_values))


@pattern("client")
def data_parallel_on_the_cpu(lib: Any, given: Any) -> Any:
    wrapped = nn.DataParallel(given.model(lib))
    return wrapped(input_ids=given.input_ids, pixel_values=given.pixel_values).logits_per_video


@pattern("client", outcome_4=ONLY_HERE)
def frozen_features_under_a_head(lib: Any, given: Any) -> Any:
    model = given.model(lib).requires_grad_(False)
    head = nn.Linear(16, 3)
    nn.init.eye_(head.weight)
    nn.init.zeros_(head.bias)
    head(features(model.get_video_features(given.pixel_values))).sum().backward()
    return [head.weight.grad, all(parameter.grad is None for parameter in model.parameters())]


@pattern("client")
def interpolated_positions_of_an_integration_test(lib: Any, given: Any) -> Any:
    pixels = F.interpolate(given.pixel_values.flatten(0, 1), size=(48, 40)).unflatten(0, (2, 4))
    out = given.model(lib)(given.input_ids, pixels, interpolate_pos_encoding=True)
    return [out.logits_per_video, list(out.vision_model_output.last_hidden_state.shape)]


@pattern("client", outcome=ONLY_HERE, outcome_4=EQUAL)
def config_of_the_conversion_script(lib: Any, given: Any) -> Any:
    text = lib.XCLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12)
    vision = lib.XCLIPVisionConfig(patch_size=14, num_frames=8, hidden_size=1024, num_attention_heads=16)
    vision.mit_hidden_size, vision.mit_intermediate_size = 768, 3072
    config = lib.XCLIPConfig.from_text_vision_configs(text, vision)
    config.projection_dim = 768
    return [config.projection_dim, config.vision_config.mit_hidden_size, config.text_config.hidden_size]


@pattern("client")
def every_field_of_a_forward(lib: Any, given: Any) -> Any:
    out = given.model(lib)(given.input_ids, given.pixel_values)
    names = ("logits_per_video", "logits_per_text", "text_embeds", "video_embeds")
    parts = (out.text_model_output, out.vision_model_output, out.mit_output)
    return {**{name: out[name] for name in names}, "parts": [[p.last_hidden_state, p.pooler_output] for p in parts]}
