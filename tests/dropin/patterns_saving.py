"""Patterns of custom classes, and of `save_pretrained`."""

from __future__ import annotations

import copy
import json
from typing import Any

import torch
from patterns_pretrained import scores
from registry import DIFFERS, EQUAL, ONLY_HERE, pattern
from safetensors.torch import load_file

# Custom classes


def headed(lib: Any) -> Any:
    """Return a subclass of the model that adds a head."""

    class Classifier(lib.XCLIPModel):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.head = torch.nn.Linear(config.projection_dim, config.num_labels)
            self.post_init()

    return Classifier


def wrapping(lib: Any) -> Any:
    """Return a class that holds the model under the usual name."""

    class Wrapper(lib.XCLIPPreTrainedModel):
        config_class = lib.XCLIPConfig

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.x_clip = lib.XCLIPModel(config)
            self.head = torch.nn.Linear(config.projection_dim, config.num_labels)
            self.post_init()

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            features = self.x_clip.get_video_features(pixel_values)
            features = features if isinstance(features, torch.Tensor) else features.pooler_output
            return self.head(features)

    return Wrapper


@pattern("from_pretrained")
def subclass_with_a_head(lib: Any, given: Any) -> Any:
    model, info = headed(lib).from_pretrained(given.folder, num_labels=5, output_loading_info=True)
    return {
        "missing": sorted(info["missing_keys"]),
        "head": list(model.head.weight.shape),
        "scores": scores(model, given),
    }


@pattern("from_pretrained")
def subclass_saved_and_loaded(lib: Any, given: Any) -> Any:
    model = headed(lib).from_pretrained(given.folder, num_labels=5)
    model.save_pretrained(given.scratch)
    again, info = headed(lib).from_pretrained(given.scratch, output_loading_info=True)
    return [len(info["missing_keys"]), bool(torch.equal(model.head.weight, again.head.weight)), again.config.num_labels]


@pattern("from_pretrained")
def wrapper_around_a_model(lib: Any, given: Any) -> Any:
    model, info = wrapping(lib).from_pretrained(given.folder, num_labels=5, output_loading_info=True)
    return {"missing": sorted(info["missing_keys"]), "scores": scores(model.x_clip, given)}


@pattern("from_pretrained", outcome_4=ONLY_HERE)
def training_step_of_a_wrapper(lib: Any, given: Any) -> Any:
    model = wrapping(lib).from_pretrained(given.folder, num_labels=2)
    torch.nn.init.constant_(model.head.weight, 0.1)
    torch.nn.init.zeros_(model.head.bias)
    loss = torch.nn.functional.cross_entropy(model(given.pixel_values), torch.tensor([0, 1]))
    loss.backward()
    return {"loss": loss, "gradient": model.x_clip.visual_projection.weight.grad}


@pattern("from_pretrained")
def wrapper_saved_and_loaded(lib: Any, given: Any) -> Any:
    model = wrapping(lib).from_pretrained(given.folder, num_labels=5)
    model.save_pretrained(given.scratch)
    again = wrapping(lib).from_pretrained(given.scratch)
    return [bool(torch.equal(model.head.weight, again.head.weight)), scores(again.x_clip, given)]


@pattern("from_pretrained")
def model_from_the_folder_of_a_wrapper(lib: Any, given: Any) -> Any:
    wrapping(lib).from_pretrained(given.folder, num_labels=5).save_pretrained(given.scratch)
    return scores(lib.XCLIPModel.from_pretrained(given.scratch), given)


@pattern("from_pretrained")
def model_from_the_folder_of_a_subclass(lib: Any, given: Any) -> Any:
    headed(lib).from_pretrained(given.folder, num_labels=5).save_pretrained(given.scratch)
    model, info = lib.XCLIPModel.from_pretrained(given.scratch, output_loading_info=True)
    return {"unexpected": sorted(info["unexpected_keys"]), "scores": scores(model, given)}


@pattern("from_pretrained")
def head_of_another_size(lib: Any, given: Any) -> Any:
    headed(lib).from_pretrained(given.folder, num_labels=5).save_pretrained(given.scratch)
    model = headed(lib).from_pretrained(given.scratch, num_labels=3, ignore_mismatched_sizes=True)
    return list(model.head.weight.shape)


@pattern("from_pretrained")
def base_model_of_a_wrapper(lib: Any, given: Any) -> Any:
    model = wrapping(lib).from_pretrained(given.folder)
    return [type(model.base_model).__name__, model.base_model is model.x_clip]


@pattern("from_pretrained")
def base_model_of_a_model(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    return model.base_model is model


@pattern("from_pretrained")
def init_weights_of_a_subclass(lib: Any, given: Any) -> Any:
    class Started(headed(lib)):  # type: ignore[misc]
        def _init_weights(self, module: torch.nn.Module) -> None:
            if isinstance(module, torch.nn.Linear) and module is getattr(self, "head", None):
                torch.nn.init.constant_(module.weight, 0.5)
                torch.nn.init.zeros_(module.bias)

    model = Started.from_pretrained(given.folder, num_labels=2)
    return [model.head.weight, scores(model, given)]


# Saving


def names_in(folder: Any) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pattern("from_pretrained")
def saved_files(lib: Any, given: Any) -> Any:
    given.model(lib).save_pretrained(given.scratch)
    return names_in(given.scratch)


@pattern("from_pretrained")
def saved_by_the_main_process(lib: Any, given: Any) -> Any:
    given.model(lib).save_pretrained(given.scratch, is_main_process=True, save_function=torch.save)
    return names_in(given.scratch)


@pattern("from_pretrained")
def saved_from_a_state_dict(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    state = {name: value + 1 for name, value in model.state_dict().items()}
    model.save_pretrained(given.scratch, state_dict=state)
    return load_file(given.scratch / "model.safetensors")["logit_scale"]


@pattern("from_pretrained")
def saved_with_a_variant(lib: Any, given: Any) -> Any:
    given.model(lib).save_pretrained(given.scratch, variant="fp16")
    return [names_in(given.scratch), scores(lib.XCLIPModel.from_pretrained(given.scratch, variant="fp16"), given)]


@pattern("from_pretrained")
def saved_with_a_variant_in_shards(lib: Any, given: Any) -> Any:
    given.model(lib).save_pretrained(given.scratch, variant="ema", max_shard_size="1MB")
    return scores(lib.XCLIPModel.from_pretrained(given.scratch, variant="ema"), given)


@pattern("from_pretrained")
def missing_variant(lib: Any, given: Any) -> Any:
    return given.model(lib, variant="fp16")


@pattern("from_pretrained")
def saved_in_shards(lib: Any, given: Any) -> Any:
    given.model(lib).save_pretrained(given.scratch, max_shard_size="100KB")
    return scores(lib.XCLIPModel.from_pretrained(given.scratch), given)


@pattern("from_pretrained")
def saved_config(lib: Any, given: Any) -> Any:
    given.model(lib).save_pretrained(given.scratch)
    saved = json.loads((given.scratch / "config.json").read_text())
    return [saved["architectures"], saved["model_type"], saved["text_config"]["hidden_size"]]


@pattern("from_pretrained")
def saved_over_its_own_folder(lib: Any, given: Any) -> Any:
    given.model(lib).save_pretrained(given.scratch)
    model = lib.XCLIPModel.from_pretrained(given.scratch)
    model.save_pretrained(given.scratch)
    return scores(lib.XCLIPModel.from_pretrained(given.scratch), given)


@pattern("from_pretrained", outcome_4=ONLY_HERE)
def towers_saved(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    model.text_model.save_pretrained(given.scratch)
    again = lib.XCLIPTextModel.from_pretrained(given.scratch)
    return again(given.input_ids).pooler_output


@pattern("from_pretrained")
def safe_serialization(lib: Any, given: Any) -> Any:
    given.model(lib).save_pretrained(given.scratch, safe_serialization=True)
    return names_in(given.scratch)


@pattern("from_pretrained", outcome=DIFFERS, outcome_4=EQUAL, reason="5.x starts it at random")
def text_tower_of_a_whole_folder(lib: Any, given: Any) -> Any:
    return lib.XCLIPTextModel.from_pretrained(given.folder)(given.input_ids).pooler_output


@pattern("from_pretrained", outcome=DIFFERS, outcome_4=EQUAL, reason="5.x starts it at random")
def vision_tower_of_a_whole_folder(lib: Any, given: Any) -> Any:
    model = lib.XCLIPVisionModel.from_pretrained(given.folder)
    return model(given.pixel_values.flatten(0, 1)).pooler_output


@pattern("from_pretrained")
def auto_model(lib: Any, given: Any) -> Any:
    return type(lib.AutoModel.from_pretrained(given.folder, device_map="cpu")).__name__


@pattern("from_pretrained")
def state_dict_of_the_other_library(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    found = model.load_state_dict(copy.deepcopy(model.state_dict()))
    return [found.missing_keys, found.unexpected_keys]


@pattern("from_pretrained")
def name_or_path(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    return [str(model.name_or_path) == str(given.folder), str(model.config._name_or_path) == str(given.folder)]


@pattern("from_pretrained")
def from_config(lib: Any, given: Any) -> Any:
    model = lib.XCLIPModel._from_config(lib.XCLIPConfig.from_pretrained(given.folder), attn_implementation="eager")
    return [str(model.dtype), model.training, sorted(model.state_dict())[0]]
