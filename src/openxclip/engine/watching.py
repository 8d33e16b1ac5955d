"""Detect changes of a model since it was prepared."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_SAMPLES = 3  # values of each small weight that are compared, since a change through `.data` bumps no version
_MAX_SAMPLED = 1 << 14  # numbers; reading larger weights would bring pages of their file into memory


class Watch:
    """Records the state of a module and everything in it.

    `has_changed` detects weights that were assigned, updated in place (by an optimizer's step, `load_state_dict`) or
    moved, and submodules that were replaced. It detects changes that PyTorch doesn't notice (`weight.data.mul_()`) if
    they change one of the compared values: a few of each bias, norm and other small weight. It takes some tens of
    microseconds for a hundred modules.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules: list[tuple[dict[str, Any], str, int]] = []
        self._weights: list[tuple[dict[str, Any], str, int, int, int]] = []
        self._samples: list[tuple[Any, bytes]] = []
        self._all = list(model.modules())
        for module in self._all:
            for name, part in module._modules.items():
                self._modules.append((module._modules, name, id(part)))
            for table in (module._parameters, module._buffers):
                for name, weight in table.items():
                    if weight is not None:
                        self._weights.append((table, name, id(weight), weight.data_ptr(), _version(weight)))
                        self._add_samples(weight)

    def _add_samples(self, weight: Tensor) -> None:
        is_small = 0 < weight.numel() <= _MAX_SAMPLED and weight.is_contiguous()
        if is_small and weight.device.type == "cpu" and weight.dtype == torch.float32:
            values = weight.detach().view(-1).numpy()
            values = values[:: max(1, (values.size - 1) // (_SAMPLES - 1))][:_SAMPLES]
            self._samples.append((values, values.tobytes()))  # as bytes, NaN equals itself

    def has_changed(self) -> bool:
        """Return whether the module has changed since it was recorded."""
        for table, name, identity in self._modules:
            if id(table.get(name)) != identity:
                return True
        for table, name, identity, address, version in self._weights:
            weight = table.get(name)
            if weight is None or id(weight) != identity:
                return True
            if weight.data_ptr() != address or _version(weight) != version:
                return True
        return any(values.tobytes() != before for values, before in self._samples)

    def obstacle(self) -> str:
        """Return why prepared parts may not replace the modules as they are now, or "" if they may."""
        for module in self._all:
            if module.training:
                return "training mode"
            if module._forward_hooks or module._forward_pre_hooks:
                return f"a hook on a {type(module).__name__}"
        return ""


def _version(weight: Tensor) -> int:
    return -1 if weight.is_inference() else weight._version
