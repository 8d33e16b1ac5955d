"""Patterns of client code that uses a tower alone."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from patterns_models import vision_tower
from registry import DIFFERS, EQUAL, ONLY_HERE, pattern
from torch import Tensor, nn


@pattern("client")
def second_order_differences_of_frames(lib: Any, given: Any) -> Any:
    """A detector that needs no training and measures how evenly features move from frame to frame."""
    pixels = given.pixel_values
    with torch.no_grad():
        frames = vision_tower(lib, given)(pixels.flatten(0, 1)).pooler_output.unflatten(0, pixels.shape[:2])
    first = frames[:, 1:] - frames[:, :-1]
    second = first[:, 1:] - first[:, :-1]
    return [first.norm(dim=-1), second.norm(dim=-1).std(dim=-1)]


@pattern("client")
def similarity_of_neighbouring_frames(lib: Any, given: Any) -> Any:
    with torch.no_grad():
        frames = vision_tower(lib, given)(given.pixel_values[0]).pooler_output
    return F.cosine_similarity(frames[1:], frames[:-1], dim=-1)


@pattern("client", outcome=DIFFERS, outcome_4=EQUAL, reason="5.x finds no weights for a tower, and starts at random")
def vision_tower_of_a_whole_folder(lib: Any, given: Any) -> Any:
    return lib.XCLIPVisionModel.from_pretrained(given.folder)(given.pixel_values[0]).pooler_output


@pattern("client", outcome=DIFFERS, outcome_4=EQUAL, reason="5.x finds no weights for a tower, and starts at random")
def text_tower_with_the_processor_as_tokenizer(lib: Any, given: Any) -> Any:
    tower = lib.XCLIPTextModel.from_pretrained(given.folder)
    inputs = given.processor(lib)(text=given.texts, return_tensors="pt", padding=True)
    return tower(**inputs).pooler_output


class Patches(nn.Module):
    """Embeddings with which a client replaces the tower's."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(3 * 8 * 8, width)
        nn.init.constant_(self.projection.weight, 0.01)
        nn.init.zeros_(self.projection.bias)
        self.first = nn.Parameter(torch.linspace(-1, 1, width))

    def forward(self, pixel_values: Tensor, **_: Any) -> Tensor:
        patches = F.unfold(pixel_values, 8, stride=8).transpose(1, 2)
        first = self.first.expand(len(pixel_values), 1, -1)
        return torch.cat([first, self.projection(patches)], dim=1)


@pattern("client", outcome=ONLY_HERE, outcome_4=EQUAL)
def embeddings_of_the_inner_model_replaced(lib: Any, given: Any) -> Any:
    tower = vision_tower(lib, given)
    tower.vision_model.embeddings = Patches(tower.config.hidden_size)
    return tower(given.pixel_values[0]).last_hidden_state


@pattern("client", outcome=ONLY_HERE, outcome_4=EQUAL)
def layers_of_the_inner_model_unfrozen_under_a_head(lib: Any, given: Any) -> Any:
    tower = vision_tower(lib, given)
    for parameter in tower.parameters():
        parameter.requires_grad = False
    for parameter in tower.vision_model.encoder.layers[-1].parameters():
        parameter.requires_grad = True
    head = nn.Linear(tower.config.hidden_size, 2, bias=False)
    head.weight.data = torch.linspace(-1, 1, 48).view(2, 24)
    head(tower(given.pixel_values[0]).pooler_output).square().sum().backward()
    grads = {name: p.grad.norm() for name, p in tower.named_parameters() if p.grad is not None and "fc1" in name}
    return {name.removeprefix("vision_model."): grad for name, grad in grads.items()}


@pattern("client")
def detector_with_a_tower(lib: Any, given: Any) -> Any:
    """A detector with a tower, saved with 4.x: its file has `backbone.vision_model.…` and is loaded here."""

    class Detector(nn.Module):
        def __init__(self, tower: nn.Module) -> None:
            super().__init__()
            self.backbone, self.head = tower, nn.Linear(24, 1)

    detector = Detector(lib.XCLIPVisionModel(given.model(lib).config.vision_config).eval())
    weights = given.model(lib).vision_model.state_dict()
    state = {f"backbone.vision_model.{name}": tensor for name, tensor in weights.items()}
    if lib.name == "transformers" and not hasattr(detector.backbone, "vision_model"):
        state = {name.replace("vision_model.", ""): tensor for name, tensor in state.items()}
    detector.load_state_dict({**state, "head.weight": torch.linspace(-1, 1, 24)[None], "head.bias": torch.zeros(1)})
    return detector.head(detector.backbone(given.pixel_values[0]).pooler_output)


@pattern("client", outcome=ONLY_HERE, outcome_4=EQUAL)
def trained_tower_of_4_loaded(lib: Any, given: Any) -> Any:
    tower = lib.XCLIPVisionModel(given.model(lib).config.vision_config).eval()
    weights = given.model(lib).vision_model.state_dict()
    tower.load_state_dict({f"vision_model.{name}": tensor for name, tensor in weights.items()})
    return tower(given.pixel_values[0]).pooler_output
