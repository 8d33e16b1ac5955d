"""The base class of models: loading (`from_pretrained`), saving (`save_pretrained`), and support for subclasses."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from openxclip import checkpoints, hub
from openxclip.checkpoints.names import is_of_clip
from openxclip.common.threads import convert_tensor
from openxclip.config import CONFIG_NAME, Config, XCLIPConfig
from openxclip.config.attributes import check_attention
from openxclip.errors import CheckpointError
from openxclip.model.arguments import drop_ignored
from openxclip.model.devices import as_device, as_dtype, check_memory
from openxclip.model.finite import check_weights
from openxclip.model.fitting import Fit, build_on_meta, fit
from openxclip.model.layers import reorder_like_transformers
from openxclip.model.members import Members

_ModelT = TypeVar("_ModelT", bound="XCLIPPreTrainedModel")


class XCLIPPreTrainedModel(Members):
    """Base class of XCLIPModel, XCLIPTextModel and XCLIPVisionModel, and of your own classes that contain one of them.

    A subclass makes its parts in `__init__` and calls `post_init()` at the end. Its `config_class` is `XCLIPConfig`
    unless it sets another, such as `XCLIPVisionConfig` for a class around the video tower. `from_pretrained` then loads
    any X-CLIP: openxclip's parts get its weights, and the subclass's own parts are initialised by its constructor or
    its `_init_weights`.
    """

    config_class: ClassVar[type[Config]] = XCLIPConfig
    weights_prefix: ClassVar[str] = ""  # prefix of this class's weights in a whole X-CLIP

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = self.config_class.of(config)
        self.name_or_path = self.config.name_or_path

    def post_init(self) -> None:
        """Finish the initialisation. Subclasses call it at the end of `__init__` too, as in transformers."""
        reorder_like_transformers(self)
        if getattr(self.config, "gradient_checkpointing", False):
            self.gradient_checkpointing_enable()
        if type(self)._init_weights is not XCLIPPreTrainedModel._init_weights:
            self.init_weights()

    @torch.no_grad()
    def init_weights(self) -> None:
        """Call `_init_weights` on every module, children first."""
        self.apply(self._init_weights)

    def _init_weights(self, module: nn.Module) -> None:
        """Do nothing: openxclip's parts are initialised when they are made. A subclass may initialise a module here."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Also accept a tower's keys with transformers 4's prefix: `vision_model.…` and `text_model.…`."""
        older = prefix + self.weights_prefix
        for name in [name for name in state_dict if self.weights_prefix and name.startswith(older)]:
            state_dict[prefix + name.removeprefix(older)] = state_dict.pop(name)
        state_dict.pop(f"{prefix}embeddings.position_ids", None)  # an index buffer that transformers saved before 4.31
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @classmethod
    def from_pretrained(
        cls: type[_ModelT],
        pretrained_model_name_or_path: str | Path | None,
        *model_args: Any,
        config: Any = None,
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
        **options: Any,
    ) -> _ModelT:
        """Load a model in eval mode from a folder, a hub repository, a file, or the shipped `"mini"`.

        Weights are mapped from the file and become the parameters: nothing is initialised at random first, and nothing
        is copied unless another dtype or device is asked for. Your own class is made by its constructor, and the
        weights are copied into it.

        Args:
            pretrained_model_name_or_path: a folder, a hub id such as `"microsoft/xclip-base-patch32"`, a file such as
                the authors' `k400_32_8.pth` (see `openxclip.checkpoints.formats`), or `"mini"` (which knows only
                openxclip's rendered playground, not real footage). None if `config` and `state_dict` are given.
            *model_args: further arguments of the class's constructor.
            config: config to use instead of the folder's.
            state_dict: weights by name to copy instead of the file's.
            dtype: type of the weights: a torch.dtype, its name, or "auto" for the file's own; default float32, as in
                transformers 4. `torch_dtype` is its older name.
            device: device of the weights; `device_map` is another name for it and takes one device too.
            max_memory: a limit for each device, such as `{0: "10GB"}`; a larger model is refused.
            ignore_mismatched_sizes: initialise weights at random, with a warning, if their shape differs from the
                config's.
            output_loading_info: return a pair: the model, and a dict of sets `missing_keys`, `unexpected_keys` and
                `mismatched_keys` (name, shape in the file, shape in the model), and a list `error_msgs`.
            key_mapping: regular expressions and their replacements in the names of the weights.
            attn_implementation: a name that transformers knows; PyTorch picks the kernel.
            use_safetensors: True refuses a folder that has only pickled weights.
            variant: read `model.<variant>.safetensors`, such as "fp16".
            **options: `openxclip.hub.HubOptions` (`use_auth_token` is an older name of `token`), top-level fields of
                the config, and further arguments of a subclass's constructor.

        Raises:
            CheckpointError: there is no such folder or repository; it has no weights; a file is damaged; or weights of
                openxclip's own parts are missing, unexpected or misshapen, all of them listed.
            ValueError: an argument has an unsupported value.
            TypeError: an option is not in `HubOptions`, a field of the config or an argument of the constructor.
        """
        check_attention(attn_implementation)
        target_dtype = as_dtype(dtype if dtype is not None else torch_dtype)
        target_device = as_device(device if device is not None else device_map)
        hub_options, options = hub.split_options(options)
        options = drop_ignored(options)
        name = pretrained_model_name_or_path
        pretrained = checkpoints.open_pretrained(
            cls.config_class,
            name,
            config=config,
            state_dict=state_dict,
            key_mapping=key_mapping,
            use_safetensors=use_safetensors,
            variant=variant,
            **hub_options,
        )
        config, arguments = cls._apply_options(pretrained.config, options)
        config.name_or_path = pretrained.config.name_or_path if name is None else name
        _warn_about_heads(config, stacklevel=3)
        with torch.inference_mode(False):  # parameters made in inference mode could never be trained
            weights = pretrained.load_weights()
        check_memory(weights.tensors, target_dtype, target_device, max_memory)
        model, matched = cls._build(
            config,
            weights,
            dtype=target_dtype,
            device=target_device,
            ignore_mismatched_sizes=ignore_mismatched_sizes,
            args=model_args,
            kwargs=arguments,
        )
        matched.warn(weights.source, stacklevel=2)
        return (model, matched.report()) if output_loading_info else model  # type: ignore[return-value]

    @classmethod
    def _apply_options(cls, config: Config, options: dict[str, Any]) -> tuple[Config, dict[str, Any]]:
        """Return the config changed by the options that are its fields, and the constructor's options."""
        fields = {name: value for name, value in options.items() if hasattr(config, name)}
        arguments = {name: value for name, value in options.items() if name not in fields}
        accepted = inspect.signature(cls.__init__).parameters
        takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in accepted.values())
        unknown = [name for name in arguments if name not in accepted and not takes_any]
        if unknown:
            raise TypeError(
                f"{cls.__name__}.from_pretrained: {', '.join(unknown)}: neither an argument nor a field of its config."
            )
        return type(config).from_dict(config.to_dict(), **fields) if fields else config, arguments

    @classmethod
    def _from_config(cls: type[_ModelT], config: Any, **options: Any) -> _ModelT:
        """Make a randomly initialised model. Client code calls transformers' method of this name."""
        check_attention(options.pop("attn_implementation", None))
        dtype = as_dtype(options.pop("dtype", options.pop("torch_dtype", None)))
        _, options = hub.split_options(options)
        return cls(config, **drop_ignored(options)).to(dtype=dtype)

    @classmethod
    def from_state(cls: type[_ModelT], config: Config, tensors: Mapping[str, Tensor], source: Path) -> _ModelT:
        """Make a model in eval mode whose parameters are these tensors, without copying them.

        Args:
            config: config of the model.
            tensors: weights by name; a tower selects its part of a whole X-CLIP.
            source: file of the weights, for messages.

        Raises:
            CheckpointError: weights are missing, unexpected or misshapen, all of them listed.
        """
        model, matched = cls._build(config, checkpoints.LoadedWeights(dict(tensors), source))
        matched.warn(source, stacklevel=2)
        return model

    @classmethod
    @torch.inference_mode(False)
    def _build(
        cls: type[_ModelT],
        config: Config,
        weights: checkpoints.LoadedWeights,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        ignore_mismatched_sizes: bool = False,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> tuple[_ModelT, Fit]:
        """Return the model with these weights, and how they matched.

        None as `dtype` or `device` keeps the weights' own. `args` and `kwargs` go to a subclass's constructor.
        """
        source = weights.source
        _check_block_count(config, weights)
        if not _is_ours(cls):  # its constructor may need real tensors, and its own parts keep their initialisation
            model = cls(config, *args, **(kwargs or {}))
            matched = model._match(weights, ignore_mismatched_sizes=ignore_mismatched_sizes)
            return model._load_copies(matched.state, dtype, device), matched
        try:
            model = build_on_meta(cls, config)
        except (RuntimeError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(f"{source}: {CONFIG_NAME} is invalid ({str(error).splitlines()[0]}).") from error
        matched = model._match(weights, ignore_mismatched_sizes=ignore_mismatched_sizes)
        if matched.initialized:
            return cls(config)._load_copies(matched.state, dtype, device), matched
        state = {
            name: convert_tensor(tensor, device=device, dtype=dtype if tensor.is_floating_point() else None)
            for name, tensor in matched.state.items()
        }
        model.load_state_dict(state, assign=True)
        return model.eval(), matched

    def _load_copies(
        self: _ModelT, state: Mapping[str, Tensor], dtype: torch.dtype | None, device: torch.device | None
    ) -> _ModelT:
        """Copy these tensors into the model; its other weights stay as they are."""
        if dtype is None:  # the file's own, the same for the whole model
            dtype = next((tensor.dtype for tensor in state.values() if tensor.is_floating_point()), None)
        self.to(device=device, dtype=dtype)
        self.load_state_dict(state, strict=False)
        return self.eval()

    def _match(self, weights: checkpoints.LoadedWeights, *, ignore_mismatched_sizes: bool = False) -> Fit:
        """Match weights to this model; raise CheckpointError, listing all problems, if they don't fit."""
        matched = fit(self, dict(_own_parts(self)), weights.tensors)
        matched.check(self, weights.source, ignore_mismatched_sizes=ignore_mismatched_sizes)
        check_weights(matched.state, weights.source)
        return matched

    @classmethod
    def _start_from_clip(cls: type[_ModelT], start: checkpoints.Pretrained[XCLIPConfig], seed: int | None) -> _ModelT:
        """Return a model with a CLIP's weights in its towers and all others at random."""
        clip = start.load_weights()
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            try:
                model = cls(start.config)
            except ValueError as error:  # an unknown activation
                raise CheckpointError(f"{clip.source}: {error}") from error
        random = {name: tensor for name, tensor in model.state_dict().items() if not is_of_clip(name)}
        matched = model._match(clip._replace(tensors={**random, **clip.tensors}))
        model.load_state_dict(matched.state)
        return model

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

        The folder is created if it doesn't exist. Every file is written atomically, so a model may be saved into the
        folder that it was loaded from, and an interruption leaves no incomplete file.

        Args:
            save_directory: the folder.
            is_main_process: False writes nothing, so that only one of several training processes saves.
            state_dict: weights to write instead of the model's own, such as their moving average.
            save_function: has no effect, because it would write pickles.
            push_to_hub: upload the folder afterwards to `repo_id`, by default a repository with the folder's name.
            max_shard_size: bytes per file, or text such as "5GB"; a larger model is split into several files.
            safe_serialization: must be True.
            variant: write `model.<variant>.safetensors`, and keep other weights in the folder.
            repo_id, **push_options: see `openxclip.hub.push_folder`.

        Raises:
            CheckpointError: the folder can't be written.
            ValueError: safe_serialization is False, or `state_dict` is empty.
        """
        for ignored in ("save_original_format", "save_peft_format"):
            push_options.pop(ignored, None)
        if push_options.get("token", "") is None:
            del push_options["token"]
        hub.check_push_options(push_options, push_to_hub)
        if not safe_serialization:
            raise ValueError("safe_serialization=False: only safetensors are written; torch.save writes pickles.")
        tensors = self.state_dict() if state_dict is None else dict(state_dict)
        if not tensors:
            raise ValueError("state_dict is empty: there is nothing to save.")
        if is_main_process:
            checkpoints.save_state_dict(tensors, Path(save_directory), max_shard_size=max_shard_size, variant=variant)
            self.config_to_save().save_pretrained(save_directory, push_to_hub, repo_id=repo_id, **push_options)

    def config_to_save(self) -> Any:
        """Return a copy of the config with the name of the class and the type of the weights."""
        config = type(self.config).from_dict(self.config.to_dict())
        config.architectures = [type(self).__name__]
        config.dtype = str(self.dtype).removeprefix("torch.")
        return config

    def save_config(self, save_directory: str | Path) -> None:
        """Write config.json alone, with the name of the class and the type of the weights."""
        self.config_to_save().save_pretrained(save_directory)

    def push_to_hub(self, repo_id: str, **push_options: Any) -> str:
        """Upload the model and return the URL of the commit; see `openxclip.hub.push_folder`."""
        return hub.save_and_push(self.save_pretrained, repo_id, **push_options)


def _is_ours(cls: type[nn.Module]) -> bool:
    return cls.__module__.partition(".")[0] == __name__.partition(".")[0]


def _own_parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the prefix of every openxclip model in `model`, and a module that has only openxclip's weights of it.

    Outer models come first; models inside a yielded one are skipped.
    """
    seen: set[str] = set()
    for path, module in model.named_modules():
        if path in seen or not isinstance(module, XCLIPPreTrainedModel):
            continue
        base = next(cls for cls in type(module).__mro__ if _is_ours(cls))
        if base is not XCLIPPreTrainedModel:
            prefix = f"{path}." if path else ""
            part = module if base is type(module) else build_on_meta(base, module.config)
            seen.update((prefix + inner).removesuffix(".") for inner, _ in part.named_modules())
            yield prefix, part


def _check_block_count(config: Config, weights: checkpoints.LoadedWeights) -> None:
    """Refuse a config with more blocks than there are tensors, because building them could take all memory."""
    parts = [config, *(getattr(config, name) for name in config.sub_configs)]
    names = ("num_hidden_layers", "mit_num_hidden_layers", "prompt_layers")
    blocks = max(getattr(part, name, 0) for part in parts for name in names)
    if blocks > len(weights.tensors):
        raise CheckpointError(
            f"{weights.source}: {CONFIG_NAME} asks for {blocks} blocks, but there are {len(weights.tensors)} tensors."
        )


def _warn_about_heads(config: Config, *, stacklevel: int) -> None:
    """Warn that scores differ from the authors' if the config has the number of heads of transformers' converter."""
    if isinstance(config, XCLIPConfig) and config.has_converters_heads:
        heads = config.authors_heads
        warnings.warn(
            f"{CONFIG_NAME} sets mit_num_attention_heads={config.vision_config.mit_num_attention_heads} and "
            f"prompt_num_attention_heads={config.prompt_num_attention_heads} at a joint width of "
            f"{config.projection_dim}, but the authors' code uses {heads} of each, so scores differ. To get "
            "the authors' scores: "
            f"config = XCLIPConfig.from_pretrained(...); config.vision_config.mit_num_attention_heads = {heads}; "
            f"config.prompt_num_attention_heads = {heads}; XCLIPModel.from_pretrained(..., config=config).",
            stacklevel=stacklevel,
        )
