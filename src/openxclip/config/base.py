"""The base class of configs, which reads and writes them as dicts, JSON and folders."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from openxclip import hub
from openxclip.common.argument_names import did_you_mean
from openxclip.common.files import atomic_file, cannot_write
from openxclip.config.attributes import NAME, CommonAttributes
from openxclip.errors import CheckpointError

if TYPE_CHECKING:
    from typing_extensions import Unpack  # in typing since Python 3.11

CONFIG_NAME = "config.json"

_MAX_INT = (1 << 31) - 1  # larger than any width, count or size of a model
_FLAGS = ("output_attentions", "output_hidden_states", "return_dict", "gradient_checkpointing")

ConfigT = TypeVar("ConfigT", bound="Config")


@dataclass(init=False, eq=False)
class Config(CommonAttributes):
    """Base class of the configs. Unknown keys, which the hub's folders have, are kept as attributes and saved."""

    model_type: ClassVar[str] = ""
    sub_configs: ClassVar[dict[str, Any]] = {}
    attribute_map: ClassVar[dict[str, str]] = {}
    keys_to_ignore_at_inference: ClassVar[list[str]] = []

    def __init__(self, **values: Any) -> None:
        if values.get("dtype") is not None:
            values.pop("torch_dtype", None)
        for f in fields(self):
            default = f.default if f.default_factory is MISSING else f.default_factory()
            setattr(self, f.name, values.pop(f.name, default))
        for name, value in values.items():
            if name != "model_type":
                self._set(name, value)
        self._check_types()
        self._validate()

    def _set(self, name: str, value: Any) -> None:
        """Set a field or an unknown key; raise ValueError if the key would hide a method or a read-only property."""
        own = getattr(type(self), name, None)
        if callable(own) or (isinstance(own, property) and own.fset is None) or name.startswith("__"):
            raise ValueError(f"{name!r} is not a field of a {type(self).__name__} and can't be set.")
        setattr(self, name, value)

    def _check_types(self) -> None:
        """Raise ValueError if a field has the wrong type, or a count isn't positive."""
        for f in fields(self):
            value = getattr(self, f.name)
            if f.type == "int":
                is_valid = type(value) is int and 0 < value <= _MAX_INT
                expected = f"a whole number from 1 to {_MAX_INT}"
            elif f.type == "float":
                is_valid, expected = type(value) in (int, float) and math.isfinite(value), "a number"
            elif f.type == "str":
                is_valid, expected = isinstance(value, str), "a string"
            else:
                continue
            if not is_valid:
                is_long = type(value) is int and abs(value) >= 1 << 63
                shown = "(a number of over 18 digits)" if is_long else f"{value!r:.80}"
                raise ValueError(f"{f.name}={shown}: must be {expected}.")
        for name in _FLAGS:
            if (value := getattr(self, name)) not in (True, False, None):
                raise ValueError(f"{name}={value!r:.80}: must be True or False.")

    def _validate(self) -> None:
        """Raise ValueError if two fields contradict each other."""

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> Config:
        """Return the text tower's config, or the config itself if it has no towers."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return all fields and all other attributes that were set, as plain JSON values."""
        plain = {
            name: value.to_dict() if isinstance(value, Config) else copy.deepcopy(value)
            for name, value in vars(self).items()
            if name != NAME
        }
        return {**plain, "model_type": self.model_type}

    def to_diff_dict(self) -> dict[str, Any]:
        """Return `to_dict` without defaults, but always with `model_type`."""
        return {**_without_defaults(self.to_dict(), type(self)().to_dict()), "model_type": self.model_type}

    @classmethod
    def from_dict(
        cls: type[ConfigT], config_dict: dict[str, Any], *, return_unused_kwargs: bool = False, **overrides: Any
    ) -> ConfigT:
        """Make a config from a dict, as read from JSON, and from overrides.

        Args:
            config_dict: fields by name.
            return_unused_kwargs: return `(config, unused)`, where `unused` has the overrides that aren't attributes.
            **overrides: fields to set. A dict for a part such as `text_config` changes the fields that it names.

        Raises:
            ValueError, TypeError: a value is out of its range, or two contradict each other.
        """
        merged = copy.deepcopy(config_dict)
        unused = {k: v for k, v in overrides.items() if return_unused_kwargs and not cls.has_field(k, merged)}
        for name, value in overrides.items():
            if name not in unused:
                merged[name] = _merge(merged.get(name), value)
        config = cls(**merged)
        return (config, unused) if return_unused_kwargs else config  # type: ignore[return-value]

    @classmethod
    def has_field(cls, name: str, values: dict[str, Any] | None = None) -> bool:
        """Return whether configs of this class have an attribute of that name, or `values` has the key."""
        return name in {f.name for f in fields(cls)} or name in (values or {}) or hasattr(cls, name)

    def update(self, config_dict: dict[str, Any]) -> None:
        """Set several attributes; a dict for a part such as `text_config` changes the fields that it names."""
        for name, value in config_dict.items():
            part = getattr(self, name, None)
            if isinstance(part, Config) and isinstance(value, dict):
                part.update(value)
            elif name != "model_type":
                self._set(name, value)

    def to_json_string(self, use_diff: bool = False) -> str:
        """Return `to_dict` (`to_diff_dict` if `use_diff`) as indented JSON with sorted keys and a final newline."""
        values = self.to_diff_dict() if use_diff else self.to_dict()
        return json.dumps(_json_value(values), indent=2, sort_keys=True) + "\n"

    def to_json_file(self, json_file_path: str | Path, use_diff: bool = False) -> None:
        """Write `to_json_string` into a file, atomically."""
        with atomic_file(Path(json_file_path)) as partial:
            partial.write_text(self.to_json_string(use_diff), encoding="utf-8")

    @classmethod
    def from_json_file(cls: type[ConfigT], json_file: str | Path) -> ConfigT:
        """Read a config from a JSON file, or raise CheckpointError."""
        try:
            return cls(**hub.read_json(Path(json_file)))
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{json_file}: {error}") from error

    def save_pretrained(
        self,
        save_directory: str | Path,
        push_to_hub: bool = False,
        *,
        repo_id: str | None = None,
        **push_options: Any,
    ) -> None:
        """Write `config.json` into the folder, which is created if it doesn't exist.

        Args:
            save_directory: the folder.
            push_to_hub: upload the folder afterwards to `repo_id`, by default a repository with the folder's name.
            repo_id, **push_options: see `openxclip.hub.push_folder`.

        Raises:
            CheckpointError: the folder can't be written.
        """
        hub.check_push_options(push_options, push_to_hub)
        folder = Path(save_directory)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(cannot_write(folder, error)) from error
        self.to_json_file(folder / CONFIG_NAME)
        if push_to_hub:
            hub.push_folder(folder, repo_id or folder.name, **push_options)

    def push_to_hub(self, repo_id: str, **push_options: Any) -> str:
        """Upload `config.json` to a hub repository and return the commit's URL; see `openxclip.hub.push_folder`."""
        return hub.save_and_push(self.save_pretrained, repo_id, **push_options)

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | Path, **options: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return this class's part of a folder's `config.json`, and the options that aren't `HubOptions`."""
        hub_options, others = hub.split_options(options)
        values, path = _read_config_json(pretrained_model_name_or_path, **hub_options)
        try:
            return cls.select_part(values, path), others
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{path}: {error}") from error

    @classmethod
    def from_pretrained(
        cls: type[ConfigT],
        pretrained_model_name_or_path: str | Path,
        *,
        return_unused_kwargs: bool = False,
        **options: Any,
    ) -> ConfigT:
        """Read `config.json` from a folder, a hub repository, or the shipped `"mini"`.

        Args:
            pretrained_model_name_or_path: a folder, a hub id such as `"microsoft/xclip-base-patch32"`, or `"mini"`.
            return_unused_kwargs: return `(config, unused)`, where `unused` has the options that aren't attributes.
            **options: `openxclip.hub.HubOptions`, and attributes that override the file's. A dict for a part such as
                `text_config` changes the fields that it names.

        Raises:
            CheckpointError: there is no such folder, repository or file, or it isn't the JSON of such a config.
            TypeError: an option is neither in `HubOptions` nor an attribute of such a config.
        """
        values, overrides = cls.get_config_dict(pretrained_model_name_or_path, **options)
        unused = {name: overrides.pop(name) for name in list(overrides) if not cls.has_field(name, values)}
        if unused and not return_unused_kwargs:
            name = next(iter(unused))
            raise TypeError(
                f"{cls.__name__}.from_pretrained has no argument {name!r}, and its configs have no such "
                f"attribute{did_you_mean(name, [f.name for f in fields(cls)])}"
            )
        try:
            config = cls.from_dict(values, **overrides)
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{pretrained_model_name_or_path}: {CONFIG_NAME}: {error}") from error
        return (config, unused) if return_unused_kwargs else config  # type: ignore[return-value]

    @classmethod
    def select_part(cls, values: dict[str, Any], source: Path) -> dict[str, Any]:
        """Return the part of a config.json that describes this class.

        Args:
            values: content of the config.json.
            source: path of the config.json, for messages.

        Raises:
            CheckpointError: the config.json describes a model of another family.
        """
        model_type = values.get("model_type")
        if model_type == cls.model_type:
            return values
        if model_type == "clip":
            raise CheckpointError(
                f"{source}: model_type is 'clip': this is a CLIP (no video parts): "
                "`openxclip init` (in Python XCLIPModel.from_clip) starts an X-CLIP from it."
            )
        raise CheckpointError(f"{source}: model_type is {model_type!r}, but {cls.__name__} reads {cls.model_type!r}.")

    @classmethod
    def of(cls: type[ConfigT], config: Any) -> ConfigT:
        """Return a config of this class as it is, or convert transformers' config of the same `model_type`.

        Raises:
            TypeError: the object is neither.
            ValueError: two fields contradict each other.
        """
        if isinstance(config, cls):
            config._validate()
            return config
        if getattr(config, "model_type", None) == cls.model_type and callable(getattr(config, "to_dict", None)):
            converted = cls(**_convert_values(cls, config))
            converted.name_or_path = getattr(config, NAME, "") or ""
            return converted
        raise TypeError(f"a {cls.__name__} is needed, not an object of type {type(config).__name__}.")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and type(other) is type(self) and other.to_dict() == self.to_dict()

    __hash__ = None  # type: ignore[assignment]  # mutable, so not hashable

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string().rstrip()}"


_HINTS = {  # for folders that have this file but no config.json
    "adapter_config.json": "it is a PEFT adapter: load its base model, then peft.PeftModel.from_pretrained(model, …)",
    "training_args.bin": "transformers' Trainer writes weights alone: train with openxclip.Trainer, or call "
    "model.save_config(folder)",
}


def read_model_type(name_or_path: str | Path, **hub_options: Unpack[hub.HubOptions]) -> Any:
    """Return the `model_type` in the config.json of a folder, a hub repository or the shipped `"mini"`.

    Raises:
        CheckpointError: there is no such folder or repository, or no JSON object in its config.json.
    """
    values, _ = _read_config_json(name_or_path, **hub_options)
    return values.get("model_type")


def _read_config_json(name_or_path: str | Path, **hub_options: Unpack[hub.HubOptions]) -> tuple[dict[str, Any], Path]:
    """Return the object in a model's config.json, and the path of that file."""
    folder = hub.resolve_folder(name_or_path, allow_patterns=[CONFIG_NAME], **hub_options)
    path = folder / CONFIG_NAME
    if not path.is_file():
        hint = next((f": {hint}" for name, hint in _HINTS.items() if (folder / name).is_file()), "")
        raise CheckpointError(f"{folder}: no {CONFIG_NAME} in this folder (it holds {hub.content_of(folder)}){hint}.")
    return hub.read_json(path), path


def _merge(value: Any, change: Any) -> Any:
    """Return the change, or if both are dicts the fields of the first as changed by the second."""
    value = value.to_dict() if isinstance(value, Config) else value
    return {**value, **change} if isinstance(value, dict) and isinstance(change, dict) else change


def _without_defaults(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for name, value in values.items():
        if name not in defaults:
            changed[name] = value
        elif value != defaults[name]:
            is_part = isinstance(value, dict) and isinstance(defaults[name], dict)
            changed[name] = _without_defaults(value, defaults[name]) if is_part else value
    return changed


def _convert_values(cls: type[Config], config: Any) -> dict[str, Any]:
    """Return a transformers config's fields of this class, and its other attributes that aren't defaults."""
    all_values, defaults = config.to_dict(), type(config)().to_dict()
    own = {f.name for f in fields(cls)}
    values = {name: value for name, value in all_values.items() if name in own or (name, value) not in defaults.items()}
    values.pop(NAME, None)
    values.pop("transformers_version", None)
    return {**values, **{name: _convert_values(part, getattr(config, name)) for name, part in cls.sub_configs.items()}}


def _json_value(value: Any) -> Any:
    """Return the value with everything that JSON can't represent turned into text, such as the names of dtypes."""
    if isinstance(value, dict):
        return {name: _json_value(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    return value if value is None or isinstance(value, str | int | float) else str(value).removeprefix("torch.")
