"""Patterns of `from_pretrained` and `save_pretrained`."""

from __future__ import annotations

import copy
import json
from typing import Any

import torch
from registry import DIFFERS, EQUAL, ONLY_HERE, pattern
from safetensors.torch import load_file, save_file


def scores(model: Any, given: Any) -> torch.Tensor:
    """(B, K) of the shared inputs, in float32."""
    with torch.no_grad():
        return model(given.input_ids, given.pixel_values.to(model.dtype)).logits_per_video.float()


def loaded(lib: Any, given: Any, **options: Any) -> dict[str, Any]:
    """What a model is like that was loaded with these options."""
    model = given.model(lib, **options)
    return {
        "dtype": str(model.dtype),
        "device": model.device.type,
        "training": model.training,
        "first": scores(model, given)[0],
    }


# The options of client code, one by one


@pattern("from_pretrained")
def folder_as_path_and_as_text(lib: Any, given: Any) -> Any:
    return [lib.XCLIPModel.from_pretrained(name).logit_scale for name in (given.folder, str(given.folder))]


@pattern("from_pretrained")
def dtype_float32(lib: Any, given: Any) -> Any:
    return loaded(lib, given, dtype=torch.float32)


@pattern("from_pretrained", tolerance=2e-2)
def dtype_bfloat16(lib: Any, given: Any) -> Any:
    return loaded(lib, given, dtype=torch.bfloat16)


@pattern("from_pretrained", tolerance=2e-2)
def torch_dtype_float16(lib: Any, given: Any) -> Any:
    return loaded(lib, given, torch_dtype=torch.float16)


@pattern("from_pretrained", tolerance=2e-2)
def dtype_by_name(lib: Any, given: Any) -> Any:
    return loaded(lib, given, dtype="bfloat16")


@pattern("from_pretrained")
def dtype_auto(lib: Any, given: Any) -> Any:
    return loaded(lib, given, dtype="auto")


@pattern("from_pretrained")
def dtype_auto_of_a_half_folder(lib: Any, given: Any) -> Any:
    given.model(lib).half().save_pretrained(given.scratch)
    return str(lib.XCLIPModel.from_pretrained(given.scratch, dtype="auto").dtype)


@pattern("from_pretrained")
def device_map_cpu(lib: Any, given: Any) -> Any:
    return loaded(lib, given, device_map="cpu")


@pattern("from_pretrained")
def device_map_auto(lib: Any, given: Any) -> Any:
    return loaded(lib, given, device_map="auto")


@pattern("from_pretrained")
def device_map_of_the_whole(lib: Any, given: Any) -> Any:
    return loaded(lib, given, device_map={"": "cpu"})


@pattern("from_pretrained")
def device_map_of_a_torch_device(lib: Any, given: Any) -> Any:
    return loaded(lib, given, device_map=torch.device("cpu"))


@pattern("from_pretrained")
def device_map_none(lib: Any, given: Any) -> Any:
    return loaded(lib, given, device_map=None, max_memory=None, quantization_config=None)


@pattern("from_pretrained")
def max_memory_with_room(lib: Any, given: Any) -> Any:
    return loaded(lib, given, device_map="auto", max_memory={"cpu": "10GB"})


@pattern("from_pretrained")
def offload_folder(lib: Any, given: Any) -> Any:
    return loaded(lib, given, device_map="cpu", offload_folder=str(given.scratch))


@pattern("from_pretrained")
def low_cpu_mem_usage(lib: Any, given: Any) -> Any:
    return loaded(lib, given, low_cpu_mem_usage=True)


@pattern("from_pretrained")
def trust_remote_code(lib: Any, given: Any) -> Any:
    return loaded(lib, given, trust_remote_code=True)


@pattern("from_pretrained")
def use_safetensors(lib: Any, given: Any) -> Any:
    return loaded(lib, given, use_safetensors=True)


@pattern("from_pretrained")
def weights_only(lib: Any, given: Any) -> Any:
    return loaded(lib, given, weights_only=True)


@pattern("from_pretrained")
def cache_dir_and_revision(lib: Any, given: Any) -> Any:
    return loaded(lib, given, cache_dir=str(given.scratch), revision="main", local_files_only=True, token=None)


@pattern("from_pretrained")
def force_download_false(lib: Any, given: Any) -> Any:
    return loaded(lib, given, force_download=False)


@pattern("from_pretrained")
def subfolder(lib: Any, given: Any) -> Any:
    return lib.XCLIPModel.from_pretrained(given.folder.parent, subfolder=given.folder.name).logit_scale


@pattern("from_pretrained")
def attention_eager(lib: Any, given: Any) -> Any:
    return loaded(lib, given, attn_implementation="eager")


@pattern("from_pretrained", outcome_4=ONLY_HERE)
def attention_sdpa(lib: Any, given: Any) -> Any:
    return loaded(lib, given, attn_implementation="sdpa")


@pattern("from_pretrained")
def attention_that_nobody_knows(lib: Any, given: Any) -> Any:
    return loaded(lib, given, attn_implementation="bogus")


@pattern("from_pretrained")
def attention_set_later(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    model.set_attn_implementation("eager")
    return scores(model, given)


@pattern("from_pretrained")
def attention_set_to_what_nobody_knows(lib: Any, given: Any) -> Any:
    return given.model(lib).set_attn_implementation("bogus")


@pattern("from_pretrained", outcome=ONLY_HERE, outcome_4=EQUAL)
def attentions_asked_for_when_loading(lib: Any, given: Any) -> Any:
    model = given.model(lib, output_hidden_states=True)
    return len(model(given.input_ids, given.pixel_values).vision_model_output.hidden_states)


@pattern("from_pretrained")
def number_of_labels(lib: Any, given: Any) -> Any:
    model = given.model(lib, num_labels=3)
    return {"num_labels": model.config.num_labels, "id2label": {str(k): v for k, v in model.config.id2label.items()}}


@pattern("from_pretrained")
def names_of_labels(lib: Any, given: Any) -> Any:
    names = {0: "running", 1: "cooking", 2: "dancing"}
    config = given.model(lib, id2label=names, label2id={name: number for number, name in names.items()}).config
    return [config.num_labels, config.id2label[1], config.label2id["dancing"]]


@pattern("from_pretrained")
def config_object(lib: Any, given: Any) -> Any:
    config = lib.XCLIPConfig.from_pretrained(given.folder)
    config.vision_config.attention_dropout = 0.25
    return given.model(lib, config=config).config.vision_config.attention_dropout


@pattern("from_pretrained")
def a_field_of_the_config(lib: Any, given: Any) -> Any:
    return given.model(lib, logit_scale_init_value=1.5).config.logit_scale_init_value


@pattern("from_pretrained")
def weights_from_a_dict(lib: Any, given: Any) -> Any:
    state = given.model(lib).state_dict()
    state["logit_scale"] = torch.tensor(1.0)
    config = lib.XCLIPConfig.from_pretrained(given.folder)
    return lib.XCLIPModel.from_pretrained(None, config=config, state_dict=state).logit_scale


@pattern("from_pretrained", outcome=DIFFERS, reason="the weights of state_dict= are copied, not shared")
def a_copy_does_not_share_the_dict(lib: Any, given: Any) -> Any:
    state = given.model(lib).state_dict()
    model = lib.XCLIPModel.from_pretrained(None, config=lib.XCLIPConfig.from_pretrained(given.folder), state_dict=state)
    before = scores(model, given)
    state["visual_projection.weight"].zero_()
    return before - scores(model, given)


@pattern("from_pretrained")
def quantization_none(lib: Any, given: Any) -> Any:
    return loaded(lib, given, quantization_config=None)


@pattern("from_pretrained")
def a_misspelt_argument(lib: Any, given: Any) -> Any:
    return loaded(lib, given, devise_map="cpu")


@pattern("from_pretrained")
def names_of_weights_changed(lib: Any, given: Any) -> Any:
    state = load_file(given.folder / "model.safetensors")
    save_file({f"net.{k}": v for k, v in state.items()}, given.scratch / "model.safetensors", {"format": "pt"})
    (given.scratch / "config.json").write_text((given.folder / "config.json").read_text())
    return scores(lib.XCLIPModel.from_pretrained(given.scratch, key_mapping={"^net\\.": ""}), given)


@pattern("from_pretrained")
def loading_info_of_a_whole_folder(lib: Any, given: Any) -> Any:
    _, info = given.model(lib, output_loading_info=True)
    return {name: len(info[name]) for name in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs")}


@pattern("from_pretrained")
def mismatched_sizes_ignored(lib: Any, given: Any) -> Any:
    config = lib.XCLIPConfig.from_pretrained(given.folder)
    config.vision_config.num_frames = 6
    model, info = given.model(lib, config=config, ignore_mismatched_sizes=True, output_loading_info=True)
    return [
        list(model.mit.position_embedding.shape),
        [one if isinstance(one, str) else one[0] for one in info["mismatched_keys"]],
    ]


@pattern("from_pretrained", outcome=DIFFERS, reason="weights that don't fit are a CheckpointError")
def another_number_of_frames(lib: Any, given: Any) -> Any:
    config = lib.XCLIPConfig.from_pretrained(given.folder)
    config.vision_config.num_frames = 6
    return given.model(lib, config=config)


# Classes of one's own


def headed(lib: Any) -> Any:
    """A class that adds a head to the whole."""

    class Classifier(lib.XCLIPModel):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.head = torch.nn.Linear(config.projection_dim, config.num_labels)
            self.post_init()

    return Classifier


def wrapping(lib: Any) -> Any:
    """A class that holds the whole under the usual name."""

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
def wrapper_around_the_whole(lib: Any, given: Any) -> Any:
    model, info = wrapping(lib).from_pretrained(given.folder, num_labels=5, output_loading_info=True)
    return {"missing": sorted(info["missing_keys"]), "scores": scores(model.x_clip, given)}


@pattern("from_pretrained", outcome_4=ONLY_HERE)
def wrapper_is_trained_a_step(lib: Any, given: Any) -> Any:
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
def the_whole_out_of_a_wrappers_folder(lib: Any, given: Any) -> Any:
    wrapping(lib).from_pretrained(given.folder, num_labels=5).save_pretrained(given.scratch)
    return scores(lib.XCLIPModel.from_pretrained(given.scratch), given)


@pattern("from_pretrained")
def head_left_behind(lib: Any, given: Any) -> Any:
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
def base_model_of_the_whole(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    return model.base_model is model


@pattern("from_pretrained")
def own_start_of_a_head(lib: Any, given: Any) -> Any:
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
def saved_from_a_dict(lib: Any, given: Any) -> Any:
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
def a_variant_that_is_not_there(lib: Any, given: Any) -> Any:
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
def saved_over_itself(lib: Any, given: Any) -> Any:
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
def state_dicts_load(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    found = model.load_state_dict(copy.deepcopy(model.state_dict()))
    return [found.missing_keys, found.unexpected_keys]


@pattern("from_pretrained")
def name_or_path(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    return [str(model.name_or_path) == str(given.folder), str(model.config._name_or_path) == str(given.folder)]


@pattern("from_pretrained")
def made_from_a_config(lib: Any, given: Any) -> Any:
    model = lib.XCLIPModel._from_config(lib.XCLIPConfig.from_pretrained(given.folder), attn_implementation="eager")
    return [str(model.dtype), model.training, sorted(model.state_dict())[0]]
