"""Patterns of mistakes: both libraries raise errors that one `except` clause catches."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from registry import DIFFERS, EQUAL, ONLY_HERE, ONLY_THERE, pattern


def copied(given: Any) -> Path:
    """Copy the folder, so that it may be damaged."""
    return Path(shutil.copytree(given.folder, given.scratch / "model"))


def caught(run: Any) -> str:
    """Return the exception class that client code with a fallback would catch."""
    try:
        run()
    except OSError:
        return "OSError"
    return "nothing"


@pattern("errors")
def missing_hub_id(lib: Any, given: Any) -> Any:
    return lib.XCLIPModel.from_pretrained("nobody/no-such-xclip", local_files_only=True)


@pattern("errors")
def missing_hub_id_is_an_os_error(lib: Any, given: Any) -> Any:
    return caught(lambda: lib.XCLIPModel.from_pretrained("nobody/no-such-xclip", local_files_only=True))


@pattern("errors", outcome_4=ONLY_HERE)
def missing_folder(lib: Any, given: Any) -> Any:
    return caught(lambda: lib.XCLIPModel.from_pretrained(str(given.scratch / "none")))


@pattern("errors")
def missing_hub_id_of_a_config(lib: Any, given: Any) -> Any:
    return caught(lambda: lib.XCLIPConfig.from_pretrained("nobody/no-such-xclip", local_files_only=True))


@pattern("errors")
def missing_hub_id_of_a_processor(lib: Any, given: Any) -> Any:
    return caught(lambda: lib.XCLIPProcessor.from_pretrained("nobody/no-such-xclip", local_files_only=True))


@pattern("errors")
def missing_hub_id_of_a_tower(lib: Any, given: Any) -> Any:
    return caught(lambda: lib.XCLIPVisionModel.from_pretrained("nobody/no-such-xclip", local_files_only=True))


@pattern("errors")
def missing_hub_id_of_an_auto_class(lib: Any, given: Any) -> Any:
    return caught(lambda: lib.AutoModel.from_pretrained("nobody/no-such-xclip", local_files_only=True))


@pattern("errors")
def missing_subfolder(lib: Any, given: Any) -> Any:
    return caught(lambda: given.model(lib, subfolder="none"))


@pattern("errors")
def missing_weights(lib: Any, given: Any) -> Any:
    folder = copied(given)
    (folder / "model.safetensors").unlink()
    return caught(lambda: lib.XCLIPModel.from_pretrained(folder))


@pattern("errors", outcome=DIFFERS, reason="a folder without a config is a CheckpointError, not the default config")
def missing_config_file(lib: Any, given: Any) -> Any:
    folder = copied(given)
    (folder / "config.json").unlink()
    return caught(lambda: lib.XCLIPConfig.from_pretrained(folder))


@pattern("errors")
def config_that_is_not_json(lib: Any, given: Any) -> Any:
    folder = copied(given)
    (folder / "config.json").write_text("{")
    return caught(lambda: lib.XCLIPModel.from_pretrained(folder))


@pattern("errors")
def truncated_weights(lib: Any, given: Any) -> Any:
    folder = copied(given)
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:5000])
    return lib.XCLIPModel.from_pretrained(folder).training


@pattern("errors")
def fallback_to_another_model(lib: Any, given: Any) -> Any:
    try:
        model = lib.XCLIPModel.from_pretrained("nobody/no-such-xclip", local_files_only=True)
    except OSError:
        model = lib.XCLIPModel.from_pretrained(given.folder)
    return model.logit_scale


@pattern("errors", outcome_4=ONLY_HERE)
def fallback_on_environment_error(lib: Any, given: Any) -> Any:
    try:
        return lib.XCLIPModel.from_pretrained(given.scratch / "none")
    except EnvironmentError:  # noqa: UP024 (as older code spells it)
        return "caught"


@pattern("errors", outcome=ONLY_THERE, outcome_4=EQUAL, reason="heads that don't divide the width are a ValueError")
def width_that_heads_do_not_divide(lib: Any, given: Any) -> Any:
    config = lib.XCLIPConfig.from_pretrained(given.folder)
    config.text_config.num_attention_heads = 3
    return lib.XCLIPModel(config).config.text_config.num_attention_heads


@pattern("errors", outcome=DIFFERS, reason="a value that can't be is a ValueError")
def unknown_activation(lib: Any, given: Any) -> Any:
    config = lib.XCLIPConfig.from_pretrained(given.folder)
    config.text_config.hidden_act = "bogus"
    return lib.XCLIPModel(config)


@pattern("errors")
def model_without_a_config(lib: Any, given: Any) -> Any:
    return lib.XCLIPModel()


@pattern("errors", outcome=DIFFERS, reason="a config of another class is a TypeError")
def model_from_a_tower_config(lib: Any, given: Any) -> Any:
    return lib.XCLIPModel(lib.XCLIPTextConfig())


@pattern("errors")
def model_from_a_dict(lib: Any, given: Any) -> Any:
    return lib.XCLIPModel({"projection_dim": 16})


@pattern("errors", outcome_4=DIFFERS, reason="a value that can't be is a ValueError")
def unknown_dtype(lib: Any, given: Any) -> Any:
    return given.model(lib, dtype="float99")


@pattern("errors")
def state_dict_with_missing_keys(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    state = model.state_dict()
    del state["logit_scale"]
    return model.load_state_dict(state)


@pattern("errors")
def state_dict_with_unexpected_keys(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    return model.load_state_dict({**model.state_dict(), "head.weight": torch.zeros(2)})


@pattern("errors")
def state_dict_with_unexpected_keys_not_strict(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    found = model.load_state_dict({**model.state_dict(), "head.weight": torch.zeros(2)}, strict=False)
    return [found.missing_keys, found.unexpected_keys]


@pattern("errors", outcome=ONLY_THERE, reason="weights that are missing are a CheckpointError")
def folder_with_missing_weights(lib: Any, given: Any) -> Any:
    from safetensors.torch import load_file, save_file

    folder = copied(given)
    state = load_file(folder / "model.safetensors")
    del state["mit.position_embedding"]
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    torch.manual_seed(0)
    return "loaded" if lib.XCLIPModel.from_pretrained(folder) else ""


@pattern("errors")
def too_long_text(lib: Any, given: Any) -> Any:
    return given.model(lib).get_text_features(torch.full((1, 100), 320))


@pattern("errors")
def frames_of_another_size(lib: Any, given: Any) -> Any:
    return given.model(lib)(given.input_ids, torch.zeros(1, 4, 3, 40, 40))


@pattern("errors", outcome=DIFFERS, reason="inputs that are missing are a ValueError that names them")
def nothing_to_encode(lib: Any, given: Any) -> Any:
    return given.model(lib)()


@pattern("errors", outcome=ONLY_THERE, reason="an unknown keyword is a TypeError")
def unknown_keyword(lib: Any, given: Any) -> Any:
    return given.model(lib).get_text_features(given.input_ids, bogus=1)


@pattern("errors")
def missing_attribute(lib: Any, given: Any) -> Any:
    return given.model(lib).no_such_thing


@pattern("errors", outcome=DIFFERS, reason="a folder that is no X-CLIP is a CheckpointError")
def model_of_another_family(lib: Any, given: Any) -> Any:
    folder = copied(given)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "no-such-type"}))
    return lib.AutoModel.from_pretrained(folder)


@pattern("errors", outcome=ONLY_THERE, reason="a folder that can't be written is a CheckpointError")
def save_to_a_path_that_is_a_file(lib: Any, given: Any) -> Any:
    (given.scratch / "file").touch()
    given.model(lib).save_pretrained(given.scratch / "file")
    return (given.scratch / "file").is_file()
