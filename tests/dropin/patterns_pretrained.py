"""Patterns of `from_pretrained` and `save_pretrained`."""

from __future__ import annotations

from typing import Any

import torch
from registry import DIFFERS, EQUAL, ONLY_HERE, pattern
from safetensors.torch import load_file, save_file


def scores(model: Any, given: Any) -> torch.Tensor:
    """(B, K) of the shared inputs, in float32."""
    with torch.no_grad():
        return model(given.input_ids, given.pixel_values.to(model.dtype)).logits_per_video.float()


def loaded(lib: Any, given: Any, **options: Any) -> dict[str, Any]:
    """Load a model with these options and return its properties."""
    model = given.model(lib, **options)
    return {
        "dtype": str(model.dtype),
        "device": model.device.type,
        "training": model.training,
        "first": scores(model, given)[0],
    }


# Options of client code, one by one


@pattern("from_pretrained")
def folder_as_path_and_as_string(lib: Any, given: Any) -> Any:
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
def dtype_auto_of_half_precision_weights(lib: Any, given: Any) -> Any:
    given.model(lib).half().save_pretrained(given.scratch)
    return str(lib.XCLIPModel.from_pretrained(given.scratch, dtype="auto").dtype)


@pattern("from_pretrained")
def device_map_cpu(lib: Any, given: Any) -> Any:
    return loaded(lib, given, device_map="cpu")


@pattern("from_pretrained")
def device_map_auto(lib: Any, given: Any) -> Any:
    return loaded(lib, given, device_map="auto")


@pattern("from_pretrained")
def device_map_of_the_whole_model(lib: Any, given: Any) -> Any:
    return loaded(lib, given, device_map={"": "cpu"})


@pattern("from_pretrained")
def device_map_of_a_torch_device(lib: Any, given: Any) -> Any:
    return loaded(lib, given, device_map=torch.device("cpu"))


@pattern("from_pretrained")
def device_map_none(lib: Any, given: Any) -> Any:
    return loaded(lib, given, device_map=None, max_memory=None, quantization_config=None)


@pattern("from_pretrained")
def max_memory(lib: Any, given: Any) -> Any:
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
def unknown_attention(lib: Any, given: Any) -> Any:
    return loaded(lib, given, attn_implementation="bogus")


@pattern("from_pretrained")
def set_attn_implementation(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    model.set_attn_implementation("eager")
    return scores(model, given)


@pattern("from_pretrained")
def set_attn_implementation_to_an_unknown_name(lib: Any, given: Any) -> Any:
    return given.model(lib).set_attn_implementation("bogus")


@pattern("from_pretrained", outcome=ONLY_HERE, outcome_4=EQUAL)
def output_attentions_when_loading(lib: Any, given: Any) -> Any:
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
def config_field_as_a_keyword(lib: Any, given: Any) -> Any:
    return given.model(lib, logit_scale_init_value=1.5).config.logit_scale_init_value


@pattern("from_pretrained")
def weights_from_a_state_dict(lib: Any, given: Any) -> Any:
    state = given.model(lib).state_dict()
    state["logit_scale"] = torch.tensor(1.0)
    config = lib.XCLIPConfig.from_pretrained(given.folder)
    return lib.XCLIPModel.from_pretrained(None, config=config, state_dict=state).logit_scale


@pattern("from_pretrained", outcome=DIFFERS, reason="the weights of state_dict= are copied, not shared")
def weights_shared_with_the_state_dict(lib: Any, given: Any) -> Any:
    state = given.model(lib).state_dict()
    model = lib.XCLIPModel.from_pretrained(None, config=lib.XCLIPConfig.from_pretrained(given.folder), state_dict=state)
    before = scores(model, given)
    state["visual_projection.weight"].zero_()
    return before - scores(model, given)


@pattern("from_pretrained")
def quantization_none(lib: Any, given: Any) -> Any:
    return loaded(lib, given, quantization_config=None)


@pattern("from_pretrained")
def misspelt_argument(lib: Any, given: Any) -> Any:
    return loaded(lib, given, devise_map="cpu")


@pattern("from_pretrained")
def key_mapping(lib: Any, given: Any) -> Any:
    state = load_file(given.folder / "model.safetensors")
    save_file({f"net.{k}": v for k, v in state.items()}, given.scratch / "model.safetensors", {"format": "pt"})
    (given.scratch / "config.json").write_text((given.folder / "config.json").read_text())
    return scores(lib.XCLIPModel.from_pretrained(given.scratch, key_mapping={"^net\\.": ""}), given)


@pattern("from_pretrained")
def loading_info(lib: Any, given: Any) -> Any:
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
def other_number_of_frames(lib: Any, given: Any) -> Any:
    config = lib.XCLIPConfig.from_pretrained(given.folder)
    config.vision_config.num_frames = 6
    return given.model(lib, config=config)
