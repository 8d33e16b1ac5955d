"""What every model class can do beside its forward: load, save, share, checkpoint its gradients."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.backends import mps
from torch.overrides import TorchFunctionMode

from openxclip import checkpoints, hub
from openxclip.config import CONFIG_NAME, XCLIPConfig, XCLIPTextConfig, XCLIPVisionConfig
from openxclip.errors import CheckpointError
from openxclip.model.finite import check_weights
from openxclip.model.layers import Encoder
from openxclip.model.outputs import Output
from openxclip.threads import converted

Config = XCLIPConfig | XCLIPTextConfig | XCLIPVisionConfig
_ModelT = TypeVar("_ModelT", bound="XCLIPPreTrainedModel")
_OutputT = TypeVar("_OutputT", bound=Output)

# What transformers' from_pretrained takes and what needs no doing here: weights are always mapped, safetensors are
# always preferred, no code is ever run from a repository, and attention picks its own kernel.
_ACCEPTED_AND_UNNEEDED = frozenset(
    {
        "attn_implementation",
        "low_cpu_mem_usage",
        "resume_download",
        "trust_remote_code",
        "use_safetensors",
        "weights_only",
    }
)
_OUTPUT_FLAGS = frozenset({"output_attentions", "output_hidden_states", "return_dict"})  # fields a config may have


class XCLIPPreTrainedModel(nn.Module):
    """Base of XCLIPModel, XCLIPTextModel and XCLIPVisionModel."""

    config_class: ClassVar[type[Config]]
    weights_prefix: ClassVar[str] = ""  # of this class's keys in the folder of a whole X-CLIP
    main_input_name: ClassVar[str] = "input_ids"

    def __init__(self, config: Config) -> None:
        super().__init__()
        if not isinstance(config, self.config_class):
            raise TypeError(
                f"{type(self).__name__} is built from a {self.config_class.__name__}, got {type(config).__name__}."
            )
        self.config = config

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the weights."""
        return next(self.parameters()).dtype

    def num_parameters(self, only_trainable: bool = False) -> int:
        """How many numbers the weights are."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad or not only_trainable)

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict[str, Any] | None = None) -> None:
        """Keep no activations inside blocks for the backward pass, but compute them again: slower, far less memory.

        `gradient_checkpointing_kwargs` is taken for transformers' sake; checkpointing is always the non-reentrant kind.
        """
        self._set_gradient_checkpointing(True)

    def gradient_checkpointing_disable(self) -> None:
        """Undo `gradient_checkpointing_enable`."""
        self._set_gradient_checkpointing(False)

    def _set_gradient_checkpointing(self, enabled: bool) -> None:
        for module in self.modules():
            if isinstance(module, Encoder):
                module.gradient_checkpointing = enabled

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether any part keeps no activations."""
        return any(isinstance(m, Encoder) and m.gradient_checkpointing for m in self.modules())

    def _flag(self, name: str, given: bool | None) -> bool:
        """An output_* argument, or what the config says where it is None."""
        return bool(getattr(self.config, name, False)) if given is None else given

    def _returned(self, output: _OutputT, return_dict: bool | None) -> _OutputT | tuple[Any, ...]:
        if return_dict is None:
            return_dict = getattr(self.config, "return_dict", True)
        return output if return_dict else output.to_tuple()

    @classmethod
    def from_pretrained(
        cls: type[_ModelT],
        pretrained_model_name_or_path: str | Path,
        *,
        config: Config | None = None,
        dtype: torch.dtype | str | None = None,
        torch_dtype: torch.dtype | str | None = None,
        device: torch.device | str | None = None,
        device_map: torch.device | str | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str | None = None,
        subfolder: str = "",
        **config_overrides: Any,
    ) -> _ModelT:
        """A model in eval mode with the weights of a folder, of a hub repository, or the shipped `"mini"`.

        Weights are mapped from the file and become the parameters as they lie there: nothing is initialised at random
        first, and nothing is copied unless another dtype or device is asked for.

        Args:
            pretrained_model_name_or_path: a folder, a hub id such as `"microsoft/xclip-base-patch32"`, a file such as
                the authors' `k400_32_8.pth` (see `openxclip.checkpoints.formats`), or `"mini"` (which knows only
                openxclip's rendered playground, not real footage).
            config: instead of the folder's own.
            dtype: of the weights: a torch.dtype, its name, or "auto" for what the file has; default float32, as in
                transformers 4. `torch_dtype` is its older name.
            device: where to; `device_map` is another name for it and takes one device too.
            cache_dir, force_download, local_files_only, token, revision, subfolder: as in `huggingface_hub`.
            **config_overrides: top-level fields of the config.

        Raises:
            CheckpointError: no such folder or repository; no weights in it; a damaged file; or keys that are missing,
                unexpected or of another shape than the config's, all of them listed.
        """
        target_dtype = as_dtype(dtype if dtype is not None else torch_dtype)
        target_device = as_device(device if device is not None else device_map)
        hub_options: dict[str, Any] = {
            "cache_dir": cache_dir,
            "force_download": force_download,
            "local_files_only": local_files_only,
            "token": token,
            "revision": revision,
            "subfolder": subfolder,
        }
        overrides = {k: v for k, v in config_overrides.items() if k not in _ACCEPTED_AND_UNNEEDED}
        found = None
        if hub.existing_file(pretrained_model_name_or_path) is not None:
            with torch.inference_mode(False):  # parameters made under it could never be trained
                checkpoint = _read_xclip(pretrained_model_name_or_path)
            found = checkpoints.LoadedWeights(checkpoint.tensors, checkpoint.source)
            config = cls.config_of(checkpoint) if config is None else config
        elif config is None:
            config = cls.config_class.from_pretrained(pretrained_model_name_or_path, **hub_options)
        unknown = [name for name in overrides if not hasattr(config, name) and name not in _OUTPUT_FLAGS]
        if unknown:
            raise TypeError(
                f"{cls.__name__}.from_pretrained: {', '.join(unknown)}: neither an argument nor a field of its config."
            )
        if overrides:
            config = type(config).from_dict(config.to_dict(), **overrides)
        _warn_of_heads(config)

        if found is None:
            with torch.inference_mode(False):
                found = checkpoints.load_state_dict(pretrained_model_name_or_path, **hub_options)
        return cls.from_state(config, found.tensors, found.source, dtype=target_dtype, device=target_device)

    @classmethod
    @torch.inference_mode(False)
    def from_state(
        cls: type[_ModelT],
        config: Config,
        tensors: Mapping[str, Tensor],
        source: Path,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
    ) -> _ModelT:
        """A model in eval mode whose parameters are these tensors, not copies, where dtype and device are theirs.

        Args:
            config: of the model.
            tensors: by name; of a whole X-CLIP, a tower takes its part.
            source: where they are from, for messages.
            dtype, device: to be converted to; None leaves them as they are.

        Raises:
            CheckpointError: keys that are missing, unexpected or misshapen, all of them listed.
        """
        blocks = _blocks(config)
        if blocks > len(tensors):  # a config may say anything, and building costs by it
            raise CheckpointError(
                f"{source}: {CONFIG_NAME} says {blocks} blocks, but there are {len(tensors)} tensors."
            )
        try:
            with torch.device("meta"), _WithoutStart():
                model = cls(config)
        except (RuntimeError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(f"{source}: {CONFIG_NAME} makes no model ({str(error).splitlines()[0]}).") from error
        state = model._fitting_part(tensors, source)
        check_weights(state, source)
        made = {
            name: converted(tensor, device=device, dtype=dtype if tensor.is_floating_point() else None)
            for name, tensor in state.items()
        }
        model.load_state_dict(made, assign=True)
        return model.eval()

    @classmethod
    def config_of(cls, checkpoint: checkpoints.Checkpoint) -> Config:
        """What in a checkpoint's configuration describes this class."""
        try:
            whole = XCLIPConfig.from_dict(checkpoint.config)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{checkpoint.source}: {error}") from error
        parts: dict[type[Config], Config] = {
            XCLIPTextConfig: whole.text_config,
            XCLIPVisionConfig: whole.vision_config,
        }
        return parts.get(cls.config_class, whole)

    def _fitting_part(self, found: Mapping[str, Tensor], source: Path) -> dict[str, Tensor]:
        """What of a checkpoint is for this model, or CheckpointError with everything that doesn't fit."""
        prefix = self.weights_prefix
        if prefix and any(name.startswith(prefix) for name in found):  # a whole X-CLIP, of which this is a tower
            found = {name.removeprefix(prefix): t for name, t in found.items() if name.startswith(prefix)}
        # Buffers of index numbers that transformers before 4.31 saved; they can be counted out anew.
        found = {name: t for name, t in found.items() if not name.endswith("embeddings.position_ids")}
        wanted = self.state_dict()
        problems = _listed("missing", sorted(wanted.keys() - found.keys()))
        problems += _listed("unexpected", sorted(found.keys() - wanted.keys()))
        problems += _listed(
            "misshapen",
            [
                f"{name} {tuple(found[name].shape)}, the config says {tuple(tensor.shape)}"
                for name, tensor in wanted.items()
                if name in found and found[name].shape != tensor.shape
            ],
        )
        if problems:
            raise CheckpointError(f"{source}: the weights don't fit {type(self).__name__}.\n" + "\n".join(problems))
        return dict(found)

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        state_dict: Mapping[str, Tensor] | None = None,
        max_shard_size: int | str = "5GB",
        safe_serialization: bool = True,
        push_to_hub: bool = False,
        repo_id: str | None = None,
        **push_options: Any,
    ) -> None:
        """Write config.json and model.safetensors (or shards and their index) as transformers does.

        The folder is made if it doesn't exist. Every file is written whole under another name and then moved into
        place, so a model may be saved over the folder it was loaded from, and no interruption leaves a torn file.

        Args:
            save_directory: the folder.
            state_dict: other weights of this model to write, such as their running mean.
            safe_serialization: taken for transformers' sake; True is all there is.
            max_shard_size: bytes, or text such as "5GB"; a larger model is split into several files.
            push_to_hub: upload the folder afterwards, to `repo_id` or a repository of the folder's name.
            repo_id, **push_options: see `openxclip.hub.push_folder`.
        """
        if push_options and not push_to_hub:
            raise TypeError(f"save_pretrained: {', '.join(push_options)}: no such argument without push_to_hub=True.")
        if not safe_serialization:
            raise ValueError("safe_serialization=False: only safetensors are written; torch.save writes pickles.")
        tensors = self.state_dict() if state_dict is None else dict(state_dict)
        if not tensors:
            raise ValueError("state_dict is empty: there is nothing to save.")
        folder = Path(save_directory)
        written = type(self.config).from_dict(self.config.to_dict())
        written.architectures = [type(self).__name__]  # type: ignore[union-attr]  # kept as unknown keys are
        written.dtype = str(self.dtype).removeprefix("torch.")  # type: ignore[union-attr]
        checkpoints.save_state_dict(tensors, folder, max_shard_size=max_shard_size)
        written.save_pretrained(folder)
        if push_to_hub:
            hub.push_folder(folder, repo_id or folder.name, **push_options)

    def push_to_hub(self, repo_id: str, **push_options: Any) -> str:
        """Save into a temporary folder and upload it; returns the commit's address. See `openxclip.hub.push_folder`."""
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return hub.push_folder(folder, repo_id, **push_options)


class _WithoutStart(TorchFunctionMode):
    """Inside it, what fills a tensor at random or with a constant leaves it alone.

    Meta tensors have nothing to fill, and a random fill of one imports torch's compiler, which takes seconds.
    """

    _FILLS = frozenset({Tensor.normal_, Tensor.uniform_, Tensor.erfinv_, Tensor.clamp_, Tensor.zero_, Tensor.fill_})

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in self._FILLS:
            return args[0]
        if getattr(func, "__module__", None) == nn.init.__name__:  # comes with the tensor by position or by name
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def _read_xclip(name_or_path: str | Path, **options: Any) -> checkpoints.Checkpoint:
    """A checkpoint that is an X-CLIP; CheckpointError with what to do if it is a CLIP."""
    found = checkpoints.read_checkpoint(name_or_path, **options)
    if found.kind == "clip":
        raise CheckpointError(
            f"{name_or_path}: this is a CLIP (no video parts): `openxclip init --from {name_or_path} --out FOLDER` "
            "(in Python XCLIPModel.from_clip) starts an X-CLIP from it."
        )
    return found


def _blocks(config: Config) -> int:
    """How many blocks a model of this config has."""
    towers = (config.text_config, config.vision_config) if isinstance(config, XCLIPConfig) else (config,)
    names = ("num_hidden_layers", "mit_num_hidden_layers", "prompt_layers")
    counts = [getattr(part, name, 0) for part in (config, *towers) for name in names]
    return max((count for count in counts if isinstance(count, int)), default=0)


def _listed(what: str, names: Iterable[str]) -> list[str]:
    names = list(names)
    return [f"  {what} ({len(names)}):"] * bool(names) + [f"    {name}" for name in names]


def as_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """None is float32; "auto" is None, which leaves every tensor as it is."""
    if dtype is None:
        return torch.float32
    if dtype == "auto" or isinstance(dtype, torch.dtype):
        return None if dtype == "auto" else dtype  # type: ignore[return-value]
    found = getattr(torch, dtype.removeprefix("torch."), None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"dtype={dtype!r}: say float32, bfloat16, float16 or auto.")
    return found


def as_device(device: torch.device | str | None) -> torch.device | None:
    """A device that can be used here; "auto" is a GPU if there is one, None stays None."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if isinstance(device, dict):
        raise ValueError(f"device_map={device}: the model is not split over devices; name one, such as 'cuda:0'.")
    if device is None:
        return None
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # the latter is what a torch without CUDA says of it
        raise ValueError(f"device {str(device)!r} can't be used here{_why_not(str(device))}") from error


def as_computing_device(device: torch.device | str) -> torch.device:
    """As `as_device`, of a device that computes: "meta", which holds no numbers, is refused too."""
    found = as_device(device)
    assert found is not None
    if found.type == "meta":
        raise ValueError(f"device {str(device)!r} can't be used here{_why_not(found.type)}")
    return found


def _why_not(device: str) -> str:
    """The rest of a sentence on a device that can't be used: why, if that is known, and which can."""
    there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count())), *(["mps"] if mps.is_available() else [])]
    kind, why = device.split(":")[0], ""
    if kind == "gpu" and len(there) > 1:
        why = f" by this name: it is called {there[1]}"
    elif kind in ("cuda", "gpu") and not torch.backends.cuda.is_built():
        why = ", because this PyTorch was built without CUDA"
    elif kind in ("cuda", "gpu") and len(there) == 1:
        why = ", because PyTorch finds no GPU"
    return f"{why}. There is: {', '.join(there)}."


def _warn_of_heads(config: Config) -> None:
    if isinstance(config, XCLIPConfig) and config.has_converters_heads:
        heads = config.projection_dim // 64
        warnings.warn(
            f"{CONFIG_NAME} says mit_num_attention_heads={config.vision_config.mit_num_attention_heads} and "
            f"prompt_num_attention_heads={config.prompt_num_attention_heads} at a joint width of "
            f"{config.projection_dim}, and is followed; the authors' code has {heads} of each, so scores differ from "
            "theirs. To have theirs: "
            f"config = XCLIPConfig.from_pretrained(...); config.vision_config.mit_num_attention_heads = {heads}; "
            f"config.prompt_num_attention_heads = {heads}; XCLIPModel.from_pretrained(..., config=config).",
            stacklevel=3,
        )
