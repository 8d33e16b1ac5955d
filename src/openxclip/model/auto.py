"""AutoConfig and AutoModel, for code that uses transformers' classes of these names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from openxclip import hub
from openxclip.config import XCLIPConfig, XCLIPTextConfig, XCLIPVisionConfig, read_model_type
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
    """Make a config of the class that a folder's config.json names."""

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Any:
        """Read an XCLIPConfig, or a tower's config from a tower's folder; see `XCLIPConfig.from_pretrained`.

        Raises:
            CheckpointError: there is no such model, or it belongs to another family.
            TypeError: an option is neither in `HubOptions` nor an attribute of such a config.
        """
        config_class = _select_class(_CONFIGS, pretrained_model_name_or_path, kwargs)
        return config_class.from_pretrained(pretrained_model_name_or_path, **kwargs)

    @staticmethod
    def for_model(model_type: str, **fields: Any) -> AnyConfig:
        """Make a config of a `model_type`: "xclip", "xclip_text_model" or "xclip_vision_model".

        Raises:
            ValueError: there is no such type, or a field is out of its range.
        """
        if model_type not in _CONFIGS:
            raise ValueError(f"model_type={model_type!r} is unknown; openxclip has {', '.join(_CONFIGS)}.")
        return _CONFIGS[model_type](**fields)


class AutoModel:
    """Make a model of the class that a folder's config.json names."""

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Any:
        """Load an XCLIPModel, or a tower from a tower's folder; see `XCLIPModel.from_pretrained`.

        Raises:
            CheckpointError: there is no such model, or it belongs to another family.
        """
        if hub.existing_file(pretrained_model_name_or_path) is not None:
            return XCLIPModel.from_pretrained(pretrained_model_name_or_path, **kwargs)
        model_class = _select_class(_MODELS, pretrained_model_name_or_path, kwargs)
        return model_class.from_pretrained(pretrained_model_name_or_path, **kwargs)

    @staticmethod
    def from_config(config: Any, **kwargs: Any) -> Any:
        """Make a randomly initialised model in training mode from a config of this package or of transformers.

        Args:
            config: config of a whole model or a tower.
            kwargs: `dtype` or `torch_dtype` of the weights, by default float32; `attn_implementation` and
                `trust_remote_code` have no effect.

        Raises:
            TypeError: the config belongs to another family, or there is no such argument.
        """
        model_class = _MODELS.get(getattr(config, "model_type", None) or "")
        if model_class is None:
            raise TypeError(f"there is no model for a config of type {type(config).__name__}: give an XCLIPConfig.")
        dtype = kwargs.pop("dtype", None) or kwargs.pop("torch_dtype", None)
        for name in kwargs.keys() - {"attn_implementation", "torch_dtype", "trust_remote_code"}:
            raise TypeError(f"AutoModel.from_config has no argument {name!r}.")
        model = model_class(config)
        return model if dtype is None else model.to(as_dtype(dtype))


def _select_class(classes: dict[str, Any], name: str | Path, options: dict[str, Any]) -> Any:
    """Return the class for the `model_type` in a model's config.json; raise CheckpointError if there is none."""
    hub_options, _ = hub.split_options(options)
    model_type = read_model_type(name, **hub_options)
    if model_type not in classes:
        raise CheckpointError(f"{name}: model_type is {model_type!r}; openxclip has {', '.join(classes)}.")
    return classes[model_type]
