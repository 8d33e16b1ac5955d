"""AutoModel and its like, for code that was written with transformers' classes of these names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from openxclip import hub
from openxclip.config import CONFIG_NAME, XCLIPConfig, XCLIPTextConfig, XCLIPVisionConfig, read_config_json
from openxclip.errors import CheckpointError
from openxclip.model import XCLIPModel, XCLIPPreTrainedModel, XCLIPTextModel, XCLIPVisionModel
from openxclip.model.devices import as_dtype

AnyConfig = XCLIPConfig | XCLIPTextConfig | XCLIPVisionConfig
_CONFIGS: dict[str, type[AnyConfig]] = {
    cls.model_type: cls for cls in (XCLIPConfig, XCLIPTextConfig, XCLIPVisionConfig)
}
_MODELS: dict[str, type[XCLIPPreTrainedModel]] = {
    cls.config_class.model_type: cls for cls in (XCLIPModel, XCLIPTextModel, XCLIPVisionModel)
}


class AutoConfig:
    """`from_pretrained` makes the class that a folder's config.json names."""

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Any:
        """An XCLIPConfig, or a tower's where the folder holds one alone; see `XCLIPConfig.from_pretrained`.

        Raises:
            CheckpointError: there is no such model, or it is of another family.
            TypeError: an option is neither one of the hub's nor an attribute of such a config.
        """
        return _class_of(pretrained_model_name_or_path, _CONFIGS, kwargs).from_pretrained(
            pretrained_model_name_or_path, **kwargs
        )

    @staticmethod
    def for_model(model_type: str, **fields: Any) -> AnyConfig:
        """A config of the class with that `model_type`: "xclip", "xclip_text_model" or "xclip_vision_model".

        Raises:
            ValueError: there is no such type, or a field is out of its range.
        """
        if model_type not in _CONFIGS:
            raise ValueError(f"model_type={model_type!r} is unknown; openxclip has {', '.join(_CONFIGS)}.")
        return _CONFIGS[model_type](**fields)


class AutoModel:
    """`from_pretrained` makes the class that a folder's config.json names."""

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Any:
        """An XCLIPModel, or a tower where the folder holds one alone; see `XCLIPModel.from_pretrained`.

        Raises:
            CheckpointError: there is no such model, or it is of another family.
        """
        if hub.existing_file(pretrained_model_name_or_path) is not None:
            return XCLIPModel.from_pretrained(pretrained_model_name_or_path, **kwargs)
        cls = _class_of(pretrained_model_name_or_path, _MODELS, kwargs)
        return cls.from_pretrained(pretrained_model_name_or_path, **kwargs)

    @staticmethod
    def from_config(config: Any, **kwargs: Any) -> Any:
        """The model of a config of this package or of transformers, with a random start, in training mode.

        Args:
            config: of a whole model or a tower.
            kwargs: `dtype` or `torch_dtype` of the weights, float32 if not given; `attn_implementation` and
                `trust_remote_code` are not needed.

        Raises:
            TypeError: the config is of another family, or there is no such argument.
        """
        cls = _MODELS.get(getattr(config, "model_type", None) or "")
        if cls is None:
            raise TypeError(f"there is no model of an object of type {type(config).__name__}: give an XCLIPConfig.")
        dtype = kwargs.pop("dtype", None) or kwargs.pop("torch_dtype", None)
        for name in kwargs.keys() - {"attn_implementation", "torch_dtype", "trust_remote_code"}:
            raise TypeError(f"AutoModel.from_config has no argument {name!r}.")
        model = cls(config)
        return model if dtype is None else model.to(as_dtype(dtype))


def _class_of(name: str | Path, classes: dict[str, Any], options: dict[str, Any]) -> Any:
    """The class that a model's config.json names; CheckpointError if it names none of them."""
    hub_options, _ = hub.parted_options(options)
    values = read_config_json(hub.resolve_folder(name, **hub_options, allow_patterns=[CONFIG_NAME]))
    model_type = values.get("model_type")
    if model_type not in classes:
        raise CheckpointError(f"{name}: model_type is {model_type!r}; openxclip has {', '.join(classes)}.")
    return classes[model_type]
