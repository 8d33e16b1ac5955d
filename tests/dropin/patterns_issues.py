"""Patterns from issue threads and forum questions, rewritten."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from patterns_models import STATES, features, vision_tower
from registry import DIFFERS, EQUAL, ONLY_HERE, ONLY_THERE, pattern
from torch import Tensor, nn

TENSOR_WITHOUT_STATES = "a tensor in place of 5.x's object: " + STATES


@pattern("issues", outcome_4=EQUAL)
def one_image_as_a_video(lib: Any, given: Any) -> Any:
    """One image, repeated to the number of frames."""
    inputs = given.processor(lib)(text=given.texts, images=given.images[:1] * 4, return_tensors="pt", padding=True)
    return given.model(lib)(**inputs).logits_per_video


@pattern("issues", outcome=ONLY_HERE)
def one_image_alone(lib: Any, given: Any) -> Any:
    inputs = given.processor(lib)(text=given.texts, images=given.images[:1], return_tensors="pt", padding=True)
    return given.model(lib)(**inputs).logits_per_video


@pattern("issues", outcome_4=ONLY_HERE)
def pooler_output_of_features(lib: Any, given: Any) -> Any:
    return given.model(lib).get_text_features(given.input_ids).pooler_output


@pattern("issues", outcome_4=ONLY_HERE)
def hidden_states_of_features(lib: Any, given: Any) -> Any:
    return list(given.model(lib).get_video_features(given.pixel_values, output_hidden_states=True).hidden_states)


@pattern("issues", outcome_4=ONLY_HERE)
def attentions_of_features(lib: Any, given: Any) -> Any:
    model = given.model(lib, attn_implementation="eager")
    return list(model.get_text_features(given.input_ids, output_attentions=True).attentions)


@pattern("issues", outcome=DIFFERS, outcome_4=EQUAL, reason=TENSOR_WITHOUT_STATES)
def type_of_features(lib: Any, given: Any) -> Any:
    return isinstance(given.model(lib).get_text_features(given.input_ids), Tensor)


@pattern("issues", outcome=ONLY_THERE, outcome_4=EQUAL, reason=TENSOR_WITHOUT_STATES)
def features_as_a_dict(lib: Any, given: Any) -> Any:
    return given.model(lib).get_text_features(given.input_ids)["pooler_output"]


@pattern("issues", outcome_4=ONLY_HERE)
def wrapper_of_an_evaluation_suite(lib: Any, given: Any) -> Any:
    model = given.model(lib)

    def image_features(frames: Tensor) -> Tensor:
        found = model.get_video_features(pixel_values=frames)
        found = found.pooler_output if hasattr(found, "pooler_output") else found
        return found / found.norm(dim=-1, keepdim=True)

    def text_features(ids: Tensor) -> Tensor:
        found = features(model.get_text_features(input_ids=ids, attention_mask=torch.ones_like(ids)))
        return found / found.norm(dim=-1, keepdim=True)

    with torch.no_grad():
        return model.logit_scale.exp() * image_features(given.pixel_values) @ text_features(given.input_ids).T


@pattern("issues", outcome_4=EQUAL)
def feature_extraction_of_the_text_tower(lib: Any, given: Any) -> Any:
    """pipeline("feature-extraction") uses the first item of an output."""
    tower = given.model(lib).text_model
    return tower(given.input_ids)[0]


@pattern("issues", outcome=ONLY_HERE)
def eight_frames_for_a_model_of_four(lib: Any, given: Any) -> Any:
    return features(given.model(lib).get_video_features(given.pixel_values.repeat(1, 2, 1, 1, 1)))


@pattern("issues", outcome=ONLY_HERE)
def two_frames_for_a_model_of_four(lib: Any, given: Any) -> Any:
    return given.model(lib)(given.input_ids, given.pixel_values[:, :2]).logits_per_video


@pattern("issues", outcome=DIFFERS, outcome_4=DIFFERS, reason="videos of a wrong number of frames are mixed there")
def six_frames_in_the_vision_tower(lib: Any, given: Any) -> Any:
    tower = vision_tower(lib, given)
    try:
        return list(tower(given.pixel_values.flatten(0, 1)[:6]).last_hidden_state.shape)
    except Exception as error:
        return type(error).__name__


@pattern("issues")
def batch_of_5d_pixels(lib: Any, given: Any) -> Any:
    both = given.model(lib)(given.input_ids, given.pixel_values).logits_per_video
    single = [given.model(lib)(given.input_ids, one[None]).logits_per_video for one in given.pixel_values]
    return [both, torch.cat(single)]


@pattern("issues")
def scores_with_other_texts(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    raw = model(given.input_ids, given.pixel_values).logits_per_video
    fewer = model(given.input_ids[:2], given.pixel_values).logits_per_video
    return [raw[:, :2] - fewer, raw.softmax(-1)[:, 0], fewer.softmax(-1)[:, 0]]


@pattern("issues", outcome_4=ONLY_HERE)
def scores_without_prompts(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    video = F.normalize(features(model.get_video_features(given.pixel_values)), dim=-1)
    text = F.normalize(features(model.get_text_features(given.input_ids)), dim=-1)
    return [video @ text.T, model.logit_scale.exp() * (video @ text.T)]


@pattern("issues")
def features_of_frames_before_mit(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    frames = model.visual_projection(model.vision_model(given.pixel_values.flatten(0, 1)).pooler_output)
    return frames.unflatten(0, (2, 4)).mean(dim=1)


@pattern("issues")
def padded_texts_with_and_without_a_mask(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    ids = F.pad(given.input_ids, (0, 5), value=0)
    mask = (torch.arange(9) < 4).long().expand(3, -1)
    with_mask = features(model.get_text_features(ids, attention_mask=mask))
    return [with_mask, features(model.get_text_features(ids))]


@pattern("issues", tolerance=1e-4)
def fine_tuning_of_the_last_layers(lib: Any, given: Any) -> Any:
    model = given.model(lib).train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith(("mit.", "visual_projection", "text_projection", "logit_scale"))
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=1e-3)
    losses = []
    for _ in range(3):
        loss = model(input_ids=given.input_ids[:2], pixel_values=given.pixel_values, return_loss=True).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss)
    return torch.stack(losses)


@pattern("issues", tolerance=1e-4)
def cross_entropy_over_the_logits(lib: Any, given: Any) -> Any:
    model = given.model(lib).train()
    loss = F.cross_entropy(model(given.input_ids, given.pixel_values).logits_per_video, torch.tensor([1, 2]))
    loss.backward()
    return [loss, model.mit.position_embedding.grad, model.logit_scale.grad]


@pattern("issues")
def gradient_checkpointing_gives_the_same_gradients(lib: Any, given: Any) -> Any:
    model = given.model(lib).train()
    model.gradient_checkpointing_enable()
    model(given.input_ids[:2], given.pixel_values, return_loss=True).loss.backward()
    return [model.is_gradient_checkpointing, model.visual_projection.weight.grad]


@pattern("issues")
def classification_head(lib: Any, given: Any) -> Any:
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.xclip = given.model(lib)
            self.head = nn.Linear(self.xclip.config.projection_dim, 4)
            nn.init.eye_(self.head.weight)
            nn.init.zeros_(self.head.bias)

        def forward(self, ids: Tensor, pixels: Tensor) -> Tensor:
            found: Tensor = self.head(self.xclip(ids, pixels).video_embeds)
            return found

    return Classifier()(given.input_ids[:1], given.pixel_values)


@pattern("issues")
def save_and_load_a_fine_tuned_model(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    with torch.no_grad():
        model.logit_scale.fill_(2.0)
    model.save_pretrained(given.scratch / "mine")
    return lib.XCLIPModel.from_pretrained(given.scratch / "mine")(given.input_ids, given.pixel_values).logits_per_video


@pattern("issues", outcome_4=ONLY_HERE)
def batch_of_videos_of_equal_length(lib: Any, given: Any) -> Any:
    videos = [given.images, given.images[::-1]]
    inputs = given.processor(lib)(text=given.texts, videos=videos, return_tensors="pt", padding=True)
    return [list(inputs["pixel_values"].shape), given.model(lib)(**inputs).logits_per_video]


@pattern("issues")
def similarity_of_two_videos(lib: Any, given: Any) -> Any:
    video = given.model(lib)(given.input_ids, given.pixel_values).video_embeds
    return video @ video.T


@pattern("issues", outcome_4=ONLY_HERE)
def features_saved_and_loaded(lib: Any, given: Any) -> Any:
    with torch.no_grad():
        torch.save(features(given.model(lib).get_video_features(given.pixel_values)), given.scratch / "video.pt")
    return torch.load(given.scratch / "video.pt", weights_only=True)


@pattern("issues", outcome_4=ONLY_HERE)
def features_as_arrays(lib: Any, given: Any) -> Any:
    with torch.no_grad():
        found = features(given.model(lib).get_video_features(given.pixel_values))
    return [found.cpu().numpy(), found.tolist()]


@pattern("issues")
def pixel_values_as_the_first_argument(lib: Any, given: Any) -> Any:
    return given.model(lib)(given.pixel_values, given.input_ids)


@pattern("issues")
def vision_tower_with_4d_pixels(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    out = model.vision_model(given.pixel_values.reshape(-1, 3, 32, 32))
    return [list(out.last_hidden_state.shape), out.pooler_output]
