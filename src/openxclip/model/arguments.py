"""Arguments of transformers' `from_pretrained` that have no effect here, or are refused."""

from __future__ import annotations

from typing import Any

# Weights are always mapped from the file, no code is ever run from a repository, and nothing is offloaded.
_IGNORED = frozenset(
    {
        "experts_implementation",
        "low_cpu_mem_usage",
        "offload_buffers",
        "offload_folder",
        "offload_state_dict",
        "use_kernels",
        "weights_only",
    }
)
_QUANTIZED = "weights are not quantized while they are loaded: load them, then use torch.ao or torchao on the model"
_SPLIT = "the model is not split over devices"
_OTHER_FORMAT = "only safetensors and PyTorch's files are read"
_REFUSED = {
    "adapter_kwargs": "load the model, then use peft.PeftModel.from_pretrained(model, folder)",
    "device_mesh": _SPLIT,
    "distributed_config": _SPLIT,
    "from_flax": _OTHER_FORMAT,
    "from_tf": _OTHER_FORMAT,
    "generation_config": "the model generates no text",
    "gguf_file": _OTHER_FORMAT,
    "load_in_4bit": _QUANTIZED,
    "load_in_8bit": _QUANTIZED,
    "mirror": "set HF_ENDPOINT to the mirror's address",
    "quantization_config": _QUANTIZED,
    "tp_plan": _SPLIT,
    "tp_size": _SPLIT,
}


def drop_ignored(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments without those that have no effect.

    Raises:
        ValueError: an argument that is unsupported is neither None, False nor empty.
    """
    for name, advice in _REFUSED.items():
        if arguments.get(name):
            raise ValueError(f"{name}={arguments[name]!r:.80} is not supported: {advice}.")
    return {name: value for name, value in arguments.items() if name not in _IGNORED and name not in _REFUSED}
