"""What every config has: fields by keyword, dicts, JSON and folders as on the hub."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from openxclip import hub
from openxclip.common.argument_names import did_you_mean
from openxclip.common.files import cannot_write, written_whole
from openxclip.config.attributes import NAME, CommonAttributes
from openxclip.errors import CheckpointError

CONFIG_NAME = "config.json"

_MOST = 1 << 31  # no width, count or size of a model is more
_FLAGS = ("output_attentions", "output_hidden_states", "return_dict", "gradient_checkpointing")

ConfigT = TypeVar("ConfigT", bound="Config")


@dataclass(init=False, eq=False)
class Config(CommonAttributes):
    """Base of the configs: unknown keys are kept as attributes and written back, as the hub's folders need."""

    model_type: ClassVar[str] = ""
    sub_configs: ClassVar[dict[str, Any]] = {}
    attribute_map: ClassVar[dict[str, str]] = {}
    keys_to_ignore_at_inference: ClassVar[list[str]] = []

    def __init__(self, **values: Any) -> None:
        if values.get("dtype") is not None:
            values.pop("torch_dtype", None)
        for f in fields(self):
            if f.name in values:
                value = values.pop(f.name)
            elif f.default_factory is not dataclasses.MISSING:
                value = f.default_factory()
            else:
                value = f.default
            setattr(self, f.name, value)
        for name, value in values.items():
            if name != "model_type":
                self._set(name, value)
        self._check_types()
        self._validate()

    def _set(self, name: str, value: Any) -> None:
        """Set a field, or keep an unknown key; ValueError where it would hide a method or a fixed property."""
        own = getattr(type(self), name, None)
        if callable(own) or (isinstance(own, property) and own.fset is None) or name.startswith("__"):
            raise ValueError(f"{name!r} is not a field of a {type(self).__name__} and can't be set.")
        setattr(self, name, value)

    def _check_types(self) -> None:
        """Raise ValueError where a field is of another type than it says, or no number of things."""
        for f in fields(self):
            value = getattr(self, f.name)
            if f.type == "int":
                fits, due = type(value) is int and 0 < value < _MOST, f"a whole number from 1 to {_MOST - 1}"
            elif f.type == "float":
                fits, due = type(value) in (int, float) and math.isfinite(value), "a number"
            elif f.type == "str":
                fits, due = isinstance(value, str), "a text"
            else:
                continue
            if not fits:
                is_long = type(value) is int and abs(value) >= 1 << 63
                shown = "(a number of over 18 digits)" if is_long else f"{value!r:.80}"
                raise ValueError(f"{f.name}={shown}: must be {due}.")
        for name in _FLAGS:
            if (value := getattr(self, name)) not in (True, False, None):
                raise ValueError(f"{name}={value!r:.80}: must be True or False.")

    def _validate(self) -> None:
        """Raise ValueError where two fields cannot be true together."""

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> Config:
        """The config of what reads texts: the config itself, if it has no part for them."""
        return self

    # ------------------------------------------------------------------------------------------------ dicts and JSON

    def to_dict(self) -> dict[str, Any]:
        """Every field, everything that was set, and every kept unknown key, as plain JSON values."""
        plain = {
            name: value.to_dict() if isinstance(value, Config) else copy.deepcopy(value)
            for name, value in vars(self).items()
            if name != NAME
        }
        return {**plain, "model_type": self.model_type}

    def to_diff_dict(self) -> dict[str, Any]:
        """As `to_dict`, without what is the default; `model_type` is always there."""
        return {**_different(self.to_dict(), type(self)().to_dict()), "model_type": self.model_type}

    @classmethod
    def from_dict(
        cls: type[ConfigT], config_dict: dict[str, Any], *, return_unused_kwargs: bool = False, **overrides: Any
    ) -> ConfigT:
        """The config that a dict (as read from JSON) describes, with `overrides` on top.

        Args:
            config_dict: fields by name.
            return_unused_kwargs: return `(config, unused)`, where `unused` are the overrides that are no attributes,
                instead of setting these too.
            overrides: fields to set. A dict for a part such as `text_config` changes the fields that it names.

        Raises:
            ValueError, TypeError: a value is out of its range, or two don't go together.
        """
        merged = copy.deepcopy(config_dict)
        unused = {k: v for k, v in overrides.items() if return_unused_kwargs and not cls.has_field(k, merged)}
        for name, value in overrides.items():
            if name not in unused:
                merged[name] = _merged(merged.get(name), value)
        config = cls(**merged)
        return (config, unused) if return_unused_kwargs else config  # type: ignore[return-value]

    @classmethod
    def has_field(cls, name: str, values: dict[str, Any] | None = None) -> bool:
        """Whether configs of this class have an attribute of that name, or `values` have the key."""
        return name in {f.name for f in fields(cls)} or name in (values or {}) or hasattr(cls, name)

    def changed(self: ConfigT, **overrides: Any) -> ConfigT:
        """A copy with fields changed, as `from_dict` takes them."""
        made = self.from_dict(self.to_dict(), **overrides)
        made.name_or_path = self.name_or_path
        return made

    def update(self, config_dict: dict[str, Any]) -> None:
        """Set several attributes; a dict for a part such as `text_config` changes the fields that it names."""
        for name, value in config_dict.items():
            part = getattr(self, name, None)
            if isinstance(part, Config) and isinstance(value, dict):
                part.update(value)
            elif name != "model_type":
                self._set(name, value)

    def to_json_string(self, use_diff: bool = False) -> str:
        """`to_dict` (`to_diff_dict` if `use_diff`) as indented JSON with sorted keys and a final newline."""
        values = self.to_diff_dict() if use_diff else self.to_dict()
        return json.dumps(_plain(values), indent=2, sort_keys=True) + "\n"

    def to_json_file(self, json_file_path: str | Path, use_diff: bool = False) -> None:
        """Write `to_json_string` into a file, which appears whole or not at all."""
        with written_whole(Path(json_file_path)) as partial:
            partial.write_text(self.to_json_string(use_diff), encoding="utf-8")

    @classmethod
    def from_json_file(cls: type[ConfigT], json_file: str | Path) -> ConfigT:
        """The config in a JSON file; CheckpointError if there is none in it."""
        try:
            return cls(**hub.read_json(Path(json_file)))
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{json_file}: {error}") from error

    # ------------------------------------------------------------------------------------------------ folders

    def save_pretrained(
        self,
        save_directory: str | Path,
        push_to_hub: bool = False,
        *,
        repo_id: str | None = None,
        **push_options: Any,
    ) -> None:
        """Write `config.json` into the folder, which is made if it doesn't exist.

        Args:
            save_directory: the folder.
            push_to_hub: upload the folder afterwards, to `repo_id` or a repository of the folder's name.
            repo_id, **push_options: see `openxclip.hub.push_folder`.

        Raises:
            CheckpointError: the folder can't be written.
        """
        if push_options and not push_to_hub:
            raise TypeError(f"save_pretrained: {', '.join(push_options)}: no such argument without push_to_hub=True.")
        folder = Path(save_directory)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(cannot_write(folder, error)) from error
        self.to_json_file(folder / CONFIG_NAME)
        if push_to_hub:
            hub.push_folder(folder, repo_id or folder.name, **push_options)

    def push_to_hub(self, repo_id: str, **push_options: Any) -> str:
        """Upload `config.json` to a hub repository; options as `openxclip.hub.push_folder` takes them."""
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return hub.push_folder(folder, repo_id, **push_options)

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | Path, **options: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a folder's `config.json` says of this class, and the options that are none of the hub's."""
        hub_options, others = hub.parted_options(options)
        folder = hub.resolve_folder(pretrained_model_name_or_path, **hub_options, allow_patterns=[CONFIG_NAME])
        try:
            return cls._own_part(read_config_json(folder), folder), others
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{folder / CONFIG_NAME}: {error}") from error

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
            return_unused_kwargs: return `(config, unused)`, where `unused` are the options that are no attributes.
            **options: as in `openxclip.hub.resolve_folder` (cache_dir, force_download, local_files_only, token,
                revision, subfolder); all others are attributes to set on top of what the file says. A dict for a part
                such as `text_config` changes the fields that it names.

        Raises:
            CheckpointError: there is no such folder, repository or file, or it isn't the JSON of such a config.
            TypeError: an option is neither one of the hub's nor an attribute of such a config.
        """
        values, overrides = cls.get_config_dict(pretrained_model_name_or_path, **options)
        unknown = [name for name in overrides if not cls.has_field(name, values)]
        if unknown and not return_unused_kwargs:
            raise TypeError(
                f"{cls.__name__}.from_pretrained has no argument {unknown[0]!r}, and its configs have no such "
                f"attribute{did_you_mean(unknown[0], [f.name for f in fields(cls)])}"
            )
        try:
            config = cls.from_dict(values, **{k: v for k, v in overrides.items() if k not in unknown})
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{pretrained_model_name_or_path}: {CONFIG_NAME}: {error}") from error
        unused = {name: overrides[name] for name in unknown}
        return (config, unused) if return_unused_kwargs else config  # type: ignore[return-value]

    @classmethod
    def _own_part(cls, values: dict[str, Any], folder: Path) -> dict[str, Any]:
        """What in a whole config.json describes this class; CheckpointError if nothing does."""
        if values.get("model_type") == cls.model_type:
            return values
        if values.get("model_type") == "clip":
            raise CheckpointError(
                f"{folder / CONFIG_NAME}: model_type is 'clip': this is a CLIP (no video parts): "
                "`openxclip init` (in Python XCLIPModel.from_clip) starts an X-CLIP from it."
            )
        raise CheckpointError(
            f"{folder / CONFIG_NAME}: model_type is {values.get('model_type')!r}, "
            f"but {cls.__name__} reads {cls.model_type!r}."
        )

    @classmethod
    def of(cls: type[ConfigT], config: Any) -> ConfigT:
        """A config of this class: itself, or one made of transformers' config of the same `model_type`.

        Raises:
            TypeError: it is neither.
            ValueError: two of its fields can't be true together.
        """
        if isinstance(config, cls):
            config._validate()
            return config
        if getattr(config, "model_type", None) == cls.model_type and callable(getattr(config, "to_dict", None)):
            made = cls(**_said_by(cls, config))
            made.name_or_path = getattr(config, NAME, "") or ""
            return made
        raise TypeError(f"a {cls.__name__} is needed, not an object of type {type(config).__name__}.")

    # ------------------------------------------------------------------------------------------------ comparing

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Config) and other.to_dict() == self.to_dict()

    __hash__ = None  # type: ignore[assignment]  # mutable, so not hashable

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string().rstrip()}"


_HINTS = {  # by a file that is there instead
    "adapter_config.json": "it is PEFT's adapter: load its base model, then peft.PeftModel.from_pretrained(model, …)",
    "training_args.bin": "transformers' Trainer writes weights alone: train with openxclip.Trainer, or call "
    "model.save_config(folder)",
}


def read_config_json(folder: Path) -> dict[str, Any]:
    """The object in a folder's config.json.

    Raises:
        CheckpointError: the file is missing or is not a JSON object.
    """
    path = folder / CONFIG_NAME
    if not path.is_file():
        hint = next((f": {hint}" for name, hint in _HINTS.items() if (folder / name).is_file()), "")
        raise CheckpointError(f"{folder}: no {CONFIG_NAME} in this folder (it holds {hub.content_of(folder)}){hint}.")
    return hub.read_json(path)


def _merged(part: Any, change: Any) -> Any:
    """A part of a config with the fields of a dict changed; the change itself where it isn't one."""
    part = part.to_dict() if isinstance(part, Config) else part
    return {**part, **change} if isinstance(part, dict) and isinstance(change, dict) else change


def _different(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in values.items():
        if name not in defaults:
            made[name] = value
        elif value != defaults[name]:
            is_part = isinstance(value, dict) and isinstance(defaults[name], dict)
            made[name] = _different(value, defaults[name]) if is_part else value
    return made


def _said_by(cls: type[Config], config: Any) -> dict[str, Any]:
    """The fields of this class in transformers' config, and what else is there that isn't its default."""
    values, defaults = config.to_dict(), type(config)().to_dict()
    own = {f.name for f in fields(cls)}
    said = {name: v for name, v in values.items() if name in own or (name, v) not in defaults.items()}
    said.pop(NAME, None)
    said.pop("transformers_version", None)
    return {**said, **{name: _said_by(part, getattr(config, name)) for name, part in cls.sub_configs.items()}}


def _plain(value: Any) -> Any:
    """The value with what JSON has no name for as text: dtypes by their names."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, str | int | float) else str(value).removeprefix("torch.")
