"""AutoModel, AutoProcessor and AutoTokenizer, for code that was written with transformers' classes of these names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from openxclip import hub
from openxclip.config import CONFIG_NAME, read_config_json
from openxclip.errors import CheckpointError
from openxclip.model import XCLIPModel, XCLIPPreTrainedModel, XCLIPTextModel, XCLIPVisionModel
from openxclip.processing import CLIPTokenizer, XCLIPProcessor

_MODELS: dict[str, type[XCLIPPreTrainedModel]] = {
    cls.config_class.model_type: cls for cls in (XCLIPModel, XCLIPTextModel, XCLIPVisionModel)
}
_HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")


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
        options = {name: kwargs[name] for name in _HUB_OPTIONS if name in kwargs}
        folder = hub.resolve_folder(pretrained_model_name_or_path, **options, allow_patterns=[CONFIG_NAME])
        values = read_config_json(folder)
        model_type = values.get("model_type")
        if model_type not in _MODELS:
            raise CheckpointError(
                f"{pretrained_model_name_or_path}: model_type is {model_type!r}; openxclip has {', '.join(_MODELS)}."
            )
        cls = _MODELS[model_type]
        config = cls.config_class.from_dict(values)
        return cls.from_pretrained(pretrained_model_name_or_path, **{"config": config, **kwargs})


class AutoProcessor:
    """`from_pretrained` makes an XCLIPProcessor."""

    from_pretrained = XCLIPProcessor.from_pretrained


class AutoTokenizer:
    """`from_pretrained` makes a CLIPTokenizer."""

    from_pretrained = CLIPTokenizer.from_pretrained
