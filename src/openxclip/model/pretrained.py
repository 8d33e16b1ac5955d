"""Models from folders and back: `from_pretrained`, `save_pretrained`, and what subclasses need for both."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from openxclip import checkpoints, hub
from openxclip.config import CONFIG_NAME, XCLIPConfig, XCLIPTextConfig, XCLIPVisionConfig
from openxclip.config_attributes import check_attention
from openxclip.errors import CheckpointError
from openxclip.model.arguments import token_of, without_unneeded
from openxclip.model.devices import as_device, as_dtype, check_memory
from openxclip.model.finite import check_weights
from openxclip.model.fitting import Fit, fit, on_meta
from openxclip.model.layers import order_as_transformers
from openxclip.model.members import Members
from openxclip.model.weights import check_blocks, read_weights, read_xclip, renamed, size_of, warn_of_heads
from openxclip.threads import converted

Config = XCLIPConfig | XCLIPTextConfig | XCLIPVisionConfig
_ModelT = TypeVar("_ModelT", bound="XCLIPPreTrainedModel")


class XCLIPPreTrainedModel(Members):
    """Base of XCLIPModel, XCLIPTextModel and XCLIPVisionModel, and of classes of your own that hold one of them.

    A subclass sets `config_class`, makes its parts in `__init__` and calls `post_init()` at the end. `from_pretrained`
    then loads the folder of any X-CLIP: openxclip's parts are filled from it, and what the subclass adds starts as its
    constructor, or its own `_init_weights`, has it.
    """

    config_class: ClassVar[type[Config]]
    weights_prefix: ClassVar[str] = ""  # of this class's keys in the folder of a whole X-CLIP

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = self.config_class.of(config)
        self.name_or_path = self.config.name_or_path

    def post_init(self) -> None:
        """Called at the end of `__init__`, by subclasses too, as in transformers."""
        order_as_transformers(self)
        if getattr(self.config, "gradient_checkpointing", False):
            self.gradient_checkpointing_enable()
        if type(self)._init_weights is not XCLIPPreTrainedModel._init_weights:
            self.init_weights()

    @torch.no_grad()
    def init_weights(self) -> None:
        """Call `_init_weights` on every module, children first."""
        self.apply(self._init_weights)

    def _init_weights(self, module: nn.Module) -> None:
        """A subclass may draw the start of a module here; openxclip's parts have drawn theirs when they were made."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Also take a tower's keys as transformers 4 has them, `vision_model.…` and `text_model.…`, wherever it is."""
        older = prefix + self.weights_prefix
        for name in [name for name in state_dict if self.weights_prefix and name.startswith(older)]:
            state_dict[prefix + name.removeprefix(older)] = state_dict.pop(name)
        state_dict.pop(f"{prefix}embeddings.position_ids", None)  # index numbers that transformers saved before 4.31
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @classmethod
    def from_pretrained(
        cls: type[_ModelT],
        pretrained_model_name_or_path: str | Path | None,
        *model_args: Any,
        config: Config | None = None,
        state_dict: Mapping[str, Tensor] | None = None,
        dtype: torch.dtype | str | None = None,
        torch_dtype: torch.dtype | str | None = None,
        device: torch.device | str | None = None,
        device_map: Any = None,
        max_memory: Mapping[Any, int | str] | None = None,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: bool = False,
        key_mapping: Mapping[str, str] | None = None,
        attn_implementation: str | dict[str, str] | None = None,
        use_safetensors: bool | None = None,
        variant: str | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        use_auth_token: str | bool | None = None,
        revision: str | None = None,
        subfolder: str = "",
        **options: Any,
    ) -> _ModelT:
        """A model in eval mode with the weights of a folder, of a hub repository, or the shipped `"mini"`.

        Weights are mapped from the file and become the parameters as they lie there: nothing is initialised at random
        first, and nothing is copied unless another dtype or device is asked for. A class of your own is made by its
        constructor, and its weights are copied.

        Args:
            pretrained_model_name_or_path: a folder, a hub id such as `"microsoft/xclip-base-patch32"`, a file such as
                the authors' `k400_32_8.pth` (see `openxclip.checkpoints.formats`), or `"mini"` (which knows only
                openxclip's rendered playground, not real footage). None if `config` and `state_dict` are given.
            *model_args: further arguments of the class's constructor.
            config: instead of the folder's own.
            state_dict: weights by name, instead of the file's; they are copied.
            dtype: of the weights: a torch.dtype, its name, or "auto" for what the file has; default float32, as in
                transformers 4. `torch_dtype` is its older name.
            device: where to; `device_map` is another name for it and takes one device too.
            max_memory: a limit for each device, such as `{0: "10GB"}`; a model that is larger is refused.
            ignore_mismatched_sizes: let weights of another shape than the config's start at random, with a warning.
            output_loading_info: return a pair: the model, and a dict of sets `missing_keys`, `unexpected_keys` and
                `mismatched_keys` (name, shape in the file, shape in the model), and a list `error_msgs`.
            key_mapping: regular expressions and what replaces them in the names of the weights.
            attn_implementation: a name that transformers knows; PyTorch picks the kernel whatever it is.
            use_safetensors: True refuses a folder whose weights are in pickles only.
            variant: read `model.<variant>.safetensors`, such as "fp16".
            cache_dir, force_download, local_files_only, token, revision, subfolder: as in `huggingface_hub`;
                `use_auth_token` is an older name of `token`.
            **options: top-level fields of the config, and further arguments of a subclass's constructor.

        Raises:
            CheckpointError: no such folder or repository; no weights in it; a damaged file; or keys of openxclip's own
                parts that are missing, unexpected or of another shape than the config's, all of them listed.
            ValueError: an argument has a value that can't be obeyed.
            TypeError: an option is neither a field of the config nor an argument of the constructor.
        """
        check_attention(attn_implementation)
        target_dtype = as_dtype(dtype if dtype is not None else torch_dtype)
        target_device = as_device(device if device is not None else device_map)
        hub_options: dict[str, Any] = {
            "cache_dir": cache_dir,
            "force_download": force_download,
            "local_files_only": local_files_only,
            "token": token_of(token, use_auth_token),
            "revision": revision,
            "subfolder": subfolder,
        }
        options = without_unneeded(options)
        name = pretrained_model_name_or_path
        if name is None and (config is None or state_dict is None):
            raise ValueError("from_pretrained(None) needs both config= and state_dict=; otherwise give a name.")
        config = None if config is None else cls.config_class.of(config)
        found = None
        if name is not None and hub.existing_file(name) is not None:
            checkpoint = read_xclip(name)
            found = checkpoints.LoadedWeights(checkpoint.tensors, checkpoint.source)
            config = cls.config_of(checkpoint) if config is None else config
        elif config is None:
            assert name is not None
            config = cls.config_class.from_pretrained(name, **hub_options)
        fields, extra = cls._fields_and_arguments(config, options)
        if fields:
            config = config.changed(**fields)
        config.name_or_path = config.name_or_path if name is None else name
        warn_of_heads(config, stacklevel=2)

        if found is None or state_dict is not None:
            found = read_weights(name, state_dict, variant=variant, **hub_options)
        tensors = renamed(found, key_mapping, use_safetensors)
        check_memory(size_of(tensors, target_dtype), target_device, max_memory)
        model, fitted = cls._filled(
            config,
            tensors,
            found.source,
            dtype=target_dtype,
            device=target_device,
            ignore_mismatched_sizes=ignore_mismatched_sizes,
            arguments=(model_args, extra),
        )
        fitted.warn(found.source, stacklevel=2)
        return (model, fitted.report()) if output_loading_info else model  # type: ignore[return-value]

    @classmethod
    def _fields_and_arguments(cls, config: Config, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Which options are fields of the config, and which are arguments of a subclass's constructor."""
        accepted = inspect.signature(cls.__init__).parameters
        fields = {name: value for name, value in options.items() if hasattr(config, name)}
        rest = {name: value for name, value in options.items() if name not in fields}
        takes_any = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in accepted.values())
        unknown = [name for name in rest if name not in accepted and not takes_any]
        if unknown:
            raise TypeError(
                f"{cls.__name__}.from_pretrained: {', '.join(unknown)}: neither an argument nor a field of its config."
            )
        return fields, rest

    @classmethod
    def _from_config(cls: type[_ModelT], config: Config, **options: Any) -> _ModelT:
        """A model with a random start, as transformers' method of this name, which client code calls."""
        check_attention(options.pop("attn_implementation", None))
        dtype = as_dtype(options.pop("dtype", options.pop("torch_dtype", None)))
        return cls(config, **without_unneeded(options)).to(dtype=dtype)

    @classmethod
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
        model, fitted = cls._filled(config, tensors, source, dtype=dtype, device=device)
        fitted.warn(source, stacklevel=2)
        return model

    @classmethod
    @torch.inference_mode(False)
    def _filled(
        cls: type[_ModelT],
        config: Config,
        tensors: Mapping[str, Tensor],
        source: Path,
        *,
        dtype: torch.dtype | None,
        device: torch.device | None,
        ignore_mismatched_sizes: bool = False,
        arguments: tuple[tuple[Any, ...], dict[str, Any]] = ((), {}),
    ) -> tuple[_ModelT, Fit]:
        """The model, and what of the tensors fitted it."""
        check_blocks(config, tensors, source)
        if not _is_ours(cls):  # its constructor may need numbers, and what it adds keeps the start that it makes
            model = cls(config, *arguments[0], **arguments[1])
            fitted = model._fit(tensors, source, ignore_mismatched_sizes=ignore_mismatched_sizes)
            return model._with_copies(fitted.state, dtype, device), fitted
        try:
            model = on_meta(cls, config)
        except (RuntimeError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(f"{source}: {CONFIG_NAME} makes no model ({str(error).splitlines()[0]}).") from error
        fitted = model._fit(tensors, source, ignore_mismatched_sizes=ignore_mismatched_sizes)
        if fitted.fresh:
            return cls(config)._with_copies(fitted.state, dtype, device), fitted
        made = {
            name: converted(tensor, device=device, dtype=dtype if tensor.is_floating_point() else None)
            for name, tensor in fitted.state.items()
        }
        model.load_state_dict(made, assign=True)
        return model.eval(), fitted

    def _with_copies(
        self: _ModelT, state: Mapping[str, Tensor], dtype: torch.dtype | None, device: torch.device | None
    ) -> _ModelT:
        """The model itself, with copies of these tensors; what is not among them stays as it is."""
        if dtype is None:  # as the file has it, and as one type
            dtype = next((tensor.dtype for tensor in state.values() if tensor.is_floating_point()), None)
        self.to(device=device, dtype=dtype)
        self.load_state_dict(state, strict=False)
        return self.eval()

    def _fit(self, found: Mapping[str, Tensor], source: Path, *, ignore_mismatched_sizes: bool = False) -> Fit:
        """What of a checkpoint is for this model, or CheckpointError with everything that doesn't fit."""
        fitted = fit(self, dict(_own_parts(self)), found)
        fitted.check(self, source, ignore_mismatched_sizes=ignore_mismatched_sizes)
        check_weights(fitted.state, source)
        return fitted

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

    def save_pretrained(
        self,
        save_directory: str | Path,
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        save_function: Any = None,
        push_to_hub: bool = False,
        max_shard_size: int | str = "5GB",
        safe_serialization: bool = True,
        variant: str | None = None,
        *,
        repo_id: str | None = None,
        **push_options: Any,
    ) -> None:
        """Write config.json and model.safetensors (or shards and their index) as transformers does.

        The folder is made if it doesn't exist. Every file is written whole under another name and then moved into
        place, so a model may be saved over the folder it was loaded from, and no interruption leaves a torn file.

        Args:
            save_directory: the folder.
            is_main_process: False writes nothing: of several processes that train together, one saves.
            state_dict: other weights of this model to write, such as their running mean.
            save_function: accepted and not needed, since it would write pickles.
            push_to_hub: upload the folder afterwards, to `repo_id` or a repository of the folder's name.
            max_shard_size: bytes, or text such as "5GB"; a larger model is split into several files.
            safe_serialization: True is all there is.
            variant: write `model.<variant>.safetensors`, and leave other weights in the folder alone.
            repo_id, **push_options: see `openxclip.hub.push_folder`.

        Raises:
            CheckpointError: the folder can't be written.
            ValueError: safe_serialization is False, or `state_dict` is empty.
        """
        for unneeded in ("save_original_format", "save_peft_format"):
            push_options.pop(unneeded, None)
        if push_options.get("token", "") is None:
            del push_options["token"]
        if push_options and not push_to_hub:
            raise TypeError(f"save_pretrained: {', '.join(push_options)}: no such argument without push_to_hub=True.")
        if not safe_serialization:
            raise ValueError("safe_serialization=False: only safetensors are written; torch.save writes pickles.")
        tensors = self.state_dict() if state_dict is None else dict(state_dict)
        if not tensors:
            raise ValueError("state_dict is empty: there is nothing to save.")
        if not is_main_process:
            return
        folder = Path(save_directory)
        checkpoints.save_state_dict(tensors, folder, max_shard_size=max_shard_size, variant=variant)
        self.save_config(folder)
        if push_to_hub:
            hub.push_folder(folder, repo_id or folder.name, **push_options)

    def save_config(self, save_directory: str | Path) -> None:
        """Write config.json alone, with the name of the class and the type of the weights."""
        written = type(self.config).from_dict(self.config.to_dict())
        written.architectures = [type(self).__name__]
        written.dtype = str(self.dtype).removeprefix("torch.")
        written.save_pretrained(save_directory)

    def push_to_hub(self, repo_id: str, **push_options: Any) -> str:
        """Save into a temporary folder and upload it; returns the commit's address. See `openxclip.hub.push_folder`."""
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return hub.push_folder(folder, repo_id, **push_options)


def _is_ours(cls: type[nn.Module]) -> bool:
    return cls.__module__.partition(".")[0] == __name__.partition(".")[0]


def _own_parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Of every model inside, the outermost first: its path with a final dot, and what it has of openxclip's class."""
    seen: set[str] = set()
    for path, module in model.named_modules():
        if path in seen or not isinstance(module, XCLIPPreTrainedModel):
            continue
        base = next(cls for cls in type(module).__mro__ if _is_ours(cls))
        if base is not XCLIPPreTrainedModel:
            prefix = f"{path}." if path else ""
            part = module if base is type(module) else on_meta(base, module.config)
            seen.update((prefix + inner).removesuffix(".") for inner, _ in part.named_modules())
            yield prefix, part
