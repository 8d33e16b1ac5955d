"""Patterns of configs: fields, JSON, overrides, Auto classes."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import torch
from registry import EQUAL, ONLY_HERE, ONLY_THERE, pattern

SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")


def sizes(config: Any) -> dict[str, Any]:
    return {name: getattr(config, name) for name in SIZES}


@pattern("config")
def defaults(lib: Any, given: Any) -> Any:
    config = lib.XCLIPConfig()
    return [config.projection_dim, config.prompt_layers, config.vision_config.num_frames, sizes(config.text_config)]


@pattern("config")
def flags_of_outputs(lib: Any, given: Any) -> Any:
    config = lib.XCLIPConfig.from_pretrained(given.folder)
    return [config.output_attentions, config.output_hidden_states, config.return_dict, config.is_encoder_decoder]


@pattern("client")
def name_of_return_dict_in_4(lib: Any, given: Any) -> Any:
    config = given.model(lib).config
    return [config.return_dict, config.use_return_dict]


@pattern("client")
def flags_of_a_loaded_model(lib: Any, given: Any) -> Any:
    config = given.model(lib).config
    return [config.output_attentions, config.output_hidden_states, config.return_dict]


@pattern("config")
def flags_by_keyword(lib: Any, given: Any) -> Any:
    config = lib.XCLIPConfig(output_hidden_states=True, return_dict=False)
    return [config.output_hidden_states, config.return_dict, config.output_attentions]


@pattern("config")
def flag_of_hidden_states_in_saved_json(lib: Any, given: Any) -> Any:
    lib.XCLIPConfig(output_hidden_states=True).save_pretrained(given.scratch)
    return json.loads((given.scratch / "config.json").read_text())["output_hidden_states"]


@pattern("config")
def override_of_the_text_tower(lib: Any, given: Any) -> Any:
    return sizes(lib.XCLIPConfig.from_pretrained(given.folder, text_config={"vocab_size": 20}).text_config)


@pattern("config")
def override_of_the_vision_tower(lib: Any, given: Any) -> Any:
    config = lib.XCLIPConfig.from_pretrained(given.folder, vision_config={"num_frames": 6})
    return [config.vision_config.num_frames, config.vision_config.hidden_size, config.vision_config.mit_hidden_size]


@pattern("config")
def override_of_a_field(lib: Any, given: Any) -> Any:
    return lib.XCLIPConfig.from_pretrained(given.folder, prompt_alpha=0.5).prompt_alpha


@pattern("config")
def from_dict_with_overrides(lib: Any, given: Any) -> Any:
    config = lib.XCLIPConfig.from_dict(lib.XCLIPConfig().to_dict(), text_config={"vocab_size": 20}, prompt_layers=3)
    return [config.prompt_layers, sizes(config.text_config)]


@pattern("config")
def dtype_by_its_older_name(lib: Any, given: Any) -> Any:
    config = lib.XCLIPConfig(torch_dtype=torch.float16)
    return [str(config.torch_dtype), json.loads(config.to_json_string())["dtype"]]


@pattern("config")
def dtype_by_name(lib: Any, given: Any) -> Any:
    return str(lib.XCLIPConfig(dtype="bfloat16").dtype)


@pattern("config")
def dtype_of_a_folder(lib: Any, given: Any) -> Any:
    return str(lib.XCLIPConfig.from_pretrained(given.folder).dtype)


@pattern("config")
def name_or_path_of_a_config(lib: Any, given: Any) -> Any:
    config = lib.XCLIPConfig.from_pretrained(given.folder)
    return [config._name_or_path == str(given.folder), config.name_or_path == str(given.folder)]


@pattern("config")
def name_or_path_of_a_new_config(lib: Any, given: Any) -> Any:
    return [lib.XCLIPConfig()._name_or_path, lib.XCLIPConfig().name_or_path]


@pattern("config")
def name_or_path_of_a_models_config(lib: Any, given: Any) -> Any:
    return given.model(lib).config._name_or_path == str(given.folder)


@pattern("config")
def json_file(lib: Any, given: Any) -> Any:
    lib.XCLIPConfig(prompt_layers=3).to_json_file(given.scratch / "some.json")
    return lib.XCLIPConfig.from_json_file(given.scratch / "some.json").prompt_layers


@pattern("config")
def json_file_of_differences(lib: Any, given: Any) -> Any:
    lib.XCLIPConfig(prompt_layers=3).to_json_file(given.scratch / "some.json", use_diff=True)
    return lib.XCLIPConfig(**json.loads((given.scratch / "some.json").read_text())).prompt_layers


@pattern("config")
def whole_json_string(lib: Any, given: Any) -> Any:
    said = json.loads(lib.XCLIPConfig(prompt_layers=3).to_json_string(use_diff=False))
    return [said["prompt_layers"], said["projection_dim"], said["text_config"]["vocab_size"]]


@pattern("config")
def difference_from_the_defaults(lib: Any, given: Any) -> Any:
    said = lib.XCLIPConfig(prompt_layers=3).to_diff_dict()
    return [said["prompt_layers"], said["model_type"]]


@pattern("config")
def update_of_fields(lib: Any, given: Any) -> Any:
    config = lib.XCLIPConfig()
    config.update({"prompt_layers": 3, "prompt_alpha": 0.2, "my_own": "kept"})
    return [config.prompt_layers, config.prompt_alpha, config.my_own]


@pattern("config")
def text_config_of_a_config(lib: Any, given: Any) -> Any:
    config = lib.XCLIPConfig.from_pretrained(given.folder)
    return [sizes(config.get_text_config()), sizes(config.text_config.get_text_config())]


@pattern("config")
def unknown_keys_are_kept(lib: Any, given: Any) -> Any:
    lib.XCLIPConfig(my_own={"a": [1, 2]}).save_pretrained(given.scratch)
    return lib.XCLIPConfig.from_pretrained(given.scratch).my_own


@pattern("config")
def deep_copy(lib: Any, given: Any) -> Any:
    config = lib.XCLIPConfig()
    copied = copy.deepcopy(config)
    copied.text_config.vocab_size = 7
    return [config.text_config.vocab_size, copied.text_config.vocab_size, copied == config]


@pattern("config")
def pickled(lib: Any, given: Any) -> Any:
    return pickle.loads(pickle.dumps(lib.XCLIPConfig(prompt_layers=3))).prompt_layers


@pattern("config")
def equality(lib: Any, given: Any) -> Any:
    return [lib.XCLIPConfig() == lib.XCLIPConfig(), lib.XCLIPConfig() == lib.XCLIPConfig(prompt_layers=3)]


@pattern("config", outcome=ONLY_HERE, outcome_4=EQUAL)
def from_text_vision_configs(lib: Any, given: Any) -> Any:
    text = lib.XCLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12)
    vision = lib.XCLIPVisionConfig(mit_hidden_size=768, mit_intermediate_size=3072, mit_num_attention_heads=12)
    config = lib.XCLIPConfig.from_text_vision_configs(text, vision)
    config.projection_dim = 768
    return [config.projection_dim, config.text_config.hidden_size, config.vision_config.mit_hidden_size]


@pattern("config")
def width_set_after_large_towers(lib: Any, given: Any) -> Any:
    text = lib.XCLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12)
    vision = lib.XCLIPVisionConfig(mit_hidden_size=768, mit_intermediate_size=3072, mit_num_attention_heads=12)
    config = lib.XCLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict())
    config.projection_dim = 768
    return config.projection_dim


@pattern("config", outcome_4=ONLY_HERE)
def tower_as_an_object(lib: Any, given: Any) -> Any:
    return lib.XCLIPConfig(text_config=lib.XCLIPTextConfig(vocab_size=20)).text_config.vocab_size


@pattern("config")
def tower_from_a_whole_folder(lib: Any, given: Any) -> Any:
    text = lib.XCLIPTextConfig.from_pretrained(given.folder)
    return [sizes(text), lib.XCLIPVisionConfig.from_pretrained(given.folder).num_frames]


@pattern("config")
def labels(lib: Any, given: Any) -> Any:
    config = lib.XCLIPConfig(id2label={"0": "cat", "1": "dog", "2": "cow"})
    return [config.num_labels, config.id2label[2]]


@pattern("config")
def number_of_labels(lib: Any, given: Any) -> Any:
    config = lib.XCLIPConfig(num_labels=5)
    return [config.num_labels, config.id2label[4], config.label2id["LABEL_4"], lib.XCLIPConfig().num_labels]


@pattern("config")
def labels_through_a_folder(lib: Any, given: Any) -> Any:
    lib.XCLIPConfig(id2label={0: "cat", 1: "dog", 2: "cow"}).save_pretrained(given.scratch)
    return lib.XCLIPConfig.from_pretrained(given.scratch).id2label[2]


@pattern("config")
def number_of_labels_of_a_folder(lib: Any, given: Any) -> Any:
    return lib.XCLIPConfig.from_pretrained(given.folder, num_labels=5).num_labels


@pattern("config")
def auto_config(lib: Any, given: Any) -> Any:
    config = lib.AutoConfig.from_pretrained(given.folder)
    return [type(config).__name__, config.model_type, sizes(config.text_config)]


@pattern("config")
def auto_config_with_a_field(lib: Any, given: Any) -> Any:
    return lib.AutoConfig.from_pretrained(given.folder, prompt_alpha=0.25).prompt_alpha


@pattern("config")
def auto_config_of_a_type(lib: Any, given: Any) -> Any:
    made = lib.AutoConfig.for_model
    return [made("xclip").prompt_layers, made("xclip", prompt_layers=3).prompt_layers]


@pattern("config")
def auto_model_of_a_config(lib: Any, given: Any) -> Any:
    config = lib.AutoConfig.from_pretrained(given.folder)
    model = lib.AutoModel.from_config(config)
    return [type(model).__name__, sum(p.numel() for p in model.parameters()), model.training]


@pattern("config")
def auto_model_with_a_config(lib: Any, given: Any) -> Any:
    config = lib.AutoConfig.from_pretrained(given.folder)
    model = lib.AutoModel.from_pretrained(given.folder, config=config)
    return model(given.input_ids, given.pixel_values).logits_per_text


@pattern("config")
def config_of_transformers_into_a_model(lib: Any, given: Any) -> Any:
    import transformers

    config = transformers.XCLIPConfig.from_pretrained(given.folder)
    config.prompt_layers = 1
    model = lib.XCLIPModel(config)
    return [model.config.prompt_layers, sum(p.numel() for p in model.parameters())]


@pattern("config")
def config_of_transformers_into_from_pretrained(lib: Any, given: Any) -> Any:
    import transformers

    config = transformers.AutoConfig.from_pretrained(given.folder)
    model = lib.XCLIPModel.from_pretrained(given.folder, config=config)
    return model(given.input_ids, given.pixel_values).logits_per_video


@pattern("config")
def tower_config_of_transformers_into_a_tower(lib: Any, given: Any) -> Any:
    import transformers

    config = transformers.XCLIPConfig.from_pretrained(given.folder)
    return [
        sum(p.numel() for p in lib.XCLIPTextModel(config.text_config).parameters()),
        sum(p.numel() for p in lib.XCLIPVisionModel(config.vision_config).parameters()),
    ]


@pattern("config")
def model_of_a_changed_config(lib: Any, given: Any) -> Any:
    config = lib.XCLIPConfig.from_pretrained(given.folder)
    config.vision_config.num_hidden_layers = 1
    return sum(p.numel() for p in lib.XCLIPModel(config).parameters())


@pattern("config")
def unused_options(lib: Any, given: Any) -> Any:
    config, unused = lib.XCLIPConfig.from_pretrained(given.folder, return_unused_kwargs=True, prompt_layers=3, foo=1)
    return [config.prompt_layers, unused]


@pattern("config", outcome=ONLY_THERE, reason="an unknown option is an error; transformers drops it")
def misspelt_option(lib: Any, given: Any) -> Any:
    return lib.XCLIPConfig.from_pretrained(given.folder, promt_layers=3).prompt_layers


@pattern("config")
def dict_of_a_config(lib: Any, given: Any) -> Any:
    said, others = lib.XCLIPConfig.get_config_dict(given.folder)
    return [said["model_type"], said["projection_dim"], others]


@pattern("config")
def sub_configs(lib: Any, given: Any) -> Any:
    return {name: part.__name__ for name, part in lib.XCLIPConfig.sub_configs.items()}


@pattern("config")
def absent_folder(lib: Any, given: Any) -> Any:
    return lib.XCLIPConfig.from_pretrained(given.scratch / "nowhere", local_files_only=True)


@pattern("config", outcome=ONLY_THERE, reason="a config of another family is refused; transformers warns and reads it")
def config_of_another_family(lib: Any, given: Any) -> Any:
    (given.scratch / "config.json").write_text('{"model_type": "clip"}')
    return lib.XCLIPConfig.from_pretrained(given.scratch).model_type


@pattern("config", outcome=ONLY_THERE, reason="widths that no model can have are refused when the config is made")
def widths_that_differ(lib: Any, given: Any) -> Any:
    return lib.XCLIPConfig(projection_dim=256).projection_dim


@pattern("config")
def iterating_over_a_config(lib: Any, given: Any) -> Any:
    return {"hidden_size", "num_hidden_layers"} <= set(lib.XCLIPTextConfig())


@pattern("config")
def name_of_the_attention_of_a_loaded_model(lib: Any, given: Any) -> Any:
    return given.model(lib).config._attn_implementation in ("sdpa", "eager")
