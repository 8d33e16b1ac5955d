"""Check the settings of processors, and keyword arguments that are no settings."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from openxclip.common.argument_names import did_you_mean

#: Arguments of transformers' `from_pretrained` without effect: there is one tokenizer, one set of transforms, and no
#: weights.
_UNNEEDED_IN_LOADING = frozenset(
    {
        "attn_implementation", "backend", "clean_up_tokenization_spaces", "config", "device_map", "dtype", "from_slow",
        "image_processor_type", "legacy", "low_cpu_mem_usage", "tokenizer_type", "torch_dtype", "use_fast",
        "use_safetensors",
    }
)  # fmt: skip
#: Arguments of a call without effect: frames are always RGB, and grouping changes no value.
_UNNEEDED_IN_CALLS = frozenset({"disable_grouping", "do_convert_rgb", "verbose"})


def settings_only(options: Mapping[str, Any], known: Collection[str], owner: str) -> dict[str, Any]:
    """Return the settings among the options of a `from_pretrained` or a constructor.

    Args:
        options: options by name, without those of the hub.
        known: names of settings.
        owner: name of the function that takes them, for the message.

    Raises:
        TypeError: an option is neither a setting nor an argument of transformers.
    """
    settings = {name: value for name, value in options.items() if name not in _UNNEEDED_IN_LOADING}
    for name in settings:
        if name not in known:
            raise TypeError(f"{owner} has no argument {name!r}{did_you_mean(name, known)}")
    return settings


def warn_of_unknown(names: Iterable[str], known: Collection[str]) -> None:
    """Warn the caller's caller of arguments that have no effect, and suggest the most similar known argument."""
    for name in names:
        if name not in known and name not in _UNNEEDED_IN_CALLS:
            what = f"the argument {name!r} is unknown and has no effect"
            warnings.warn(what + did_you_mean(name, known), stacklevel=3)


def checked_size(value: Any, *, name: str, square: bool) -> dict[str, int]:
    """Return a size in any of its forms as a dict of pixels; ValueError if it has another form.

    Args:
        value: a number, two of them (height, width), or a dict.
        name: name of the setting, for the message.
        square: whether a single number is both sides, rather than the shorter one.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        value = {"height": value, "width": value} if square else {"shortest_edge": value}
    elif isinstance(value, list | tuple) and len(value) == 2:
        value = {"height": value[0], "width": value[1]}
    allowed = [{"height", "width"}] if square else [{"height", "width"}, {"shortest_edge"}]
    if not isinstance(value, Mapping) or set(value) not in allowed:
        keys = " or ".join(str(sorted(keys)) for keys in allowed)
        raise ValueError(f"{name}={value!r} should be a number of pixels, (height, width), or have the keys {keys}")
    if not all(isinstance(pixels, int) and pixels > 0 for pixels in value.values()):
        raise ValueError(f"{name}={value!r} should hold whole numbers of pixels above 0")
    return dict(value)


def per_channel(value: Any, *, name: str) -> tuple[float, ...]:
    """Return three numbers (red, green, blue), from three or from one; ValueError if there are others."""
    values = (value,) * 3 if isinstance(value, int | float) else tuple(float(number) for number in value)
    if len(values) != 3:
        raise ValueError(f"{name}={value!r} should be three numbers (red, green, blue), or one")
    return values
