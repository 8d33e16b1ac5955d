"""Arguments of transformers' `from_pretrained` and `save_pretrained` that change nothing here, or can't be obeyed."""

from __future__ import annotations

from typing import Any

# Weights are always mapped, safetensors are always preferred, no code is ever run from a repository, and nothing is
# ever left on disk or in another memory.
_UNNEEDED = frozenset(
    {
        "experts_implementation",
        "low_cpu_mem_usage",
        "offload_buffers",
        "offload_folder",
        "offload_state_dict",
        "resume_download",
        "trust_remote_code",
        "use_kernels",
        "weights_only",
    }
)
_QUANTIZED = "weights are not quantized while they are loaded: load them, then use torch.ao or torchao on the model"
_SPLIT = "the model is not split over devices"
_REFUSED = {
    "adapter_kwargs": "load the model, then use peft.PeftModel.from_pretrained(model, folder)",
    "device_mesh": _SPLIT,
    "distributed_config": _SPLIT,
    "from_flax": "only safetensors and PyTorch's files are read",
    "from_tf": "only safetensors and PyTorch's files are read",
    "generation_config": "the model generates no text",
    "gguf_file": "only safetensors and PyTorch's files are read",
    "load_in_4bit": _QUANTIZED,
    "load_in_8bit": _QUANTIZED,
    "mirror": "set HF_ENDPOINT to the mirror's address",
    "proxies": "set HTTPS_PROXY to the proxy's address",
    "quantization_config": _QUANTIZED,
    "tp_plan": _SPLIT,
    "tp_size": _SPLIT,
}


def without_unneeded(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments that are left when those are taken out that need no doing.

    Raises:
        ValueError: one of them asks for what can't be had; None, False and empty values ask for nothing.
    """
    for name, instead in _REFUSED.items():
        if given.get(name):
            raise ValueError(f"{name}={given[name]!r:.80} is not supported: {instead}.")
    return {name: value for name, value in given.items() if name not in _UNNEEDED and name not in _REFUSED}


def token_of(token: str | bool | None, use_auth_token: str | bool | None) -> str | bool | None:
    """The token for the hub, by its name or its older one.

    Raises:
        ValueError: both are given.
    """
    if token is not None and use_auth_token is not None:
        raise ValueError("token and use_auth_token are one argument by two names: pass token alone.")
    return use_auth_token if token is None else token
