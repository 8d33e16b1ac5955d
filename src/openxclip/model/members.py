"""What training libraries and client code ask of a model, under transformers' names."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from openxclip.config_attributes import check_attention
from openxclip.model.layers import Encoder


class Members(nn.Module):
    """Attributes and methods that are the same for every model class.

    Attributes:
        base_model_prefix: under this name a class that wraps an `XCLIPModel` holds it.
        main_input_name: the argument whose size says how much a batch is.
        supports_gradient_checkpointing: always True.
        name_or_path: what the model was loaded from; PEFT writes it beside an adapter.
        vocab_size: the number of tokens; there once it was changed.
    """

    base_model_prefix: ClassVar[str] = "x_clip"
    main_input_name: ClassVar[str] = "input_ids"
    supports_gradient_checkpointing: ClassVar[bool] = True
    # Modules that stay on one device, because a residual goes around them: Accelerate and FSDP wrap these.
    _no_split_modules: ClassVar[list[str]] = [
        "Block",
        "CrossFrameBlock",
        "PromptDecoderLayer",
        "TextEmbeddings",
        "VisionEmbeddings",
    ]
    config: Any
    name_or_path: str
    vocab_size: int

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the weights."""
        return next(self.parameters()).dtype

    @property
    def base_model(self) -> nn.Module:
        """The X-CLIP inside a model that wraps it as `base_model_prefix` says; otherwise the model itself."""
        found: nn.Module = getattr(self, self.base_model_prefix, self)
        return found

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """How many numbers the weights are.

        Args:
            only_trainable: count only those that take a gradient.
            exclude_embeddings: leave out the tables of `nn.Embedding`.
        """
        tables = {
            id(module.weight) for module in self.modules() if exclude_embeddings and isinstance(module, nn.Embedding)
        }
        counted = (p for p in self.parameters() if id(p) not in tables)
        return sum(p.numel() for p in counted if p.requires_grad or not only_trainable)

    def get_memory_footprint(self, return_buffers: bool = True) -> int:
        """Bytes of the weights, and of the buffers."""
        tensors = [*self.parameters(), *(self.buffers() if return_buffers else ())]
        return sum(tensor.nbytes for tensor in tensors)

    @classmethod
    def can_generate(cls) -> bool:
        """False: the model writes no text."""
        return False

    def tie_weights(self, *_: Any, **__: Any) -> None:
        """Do nothing: no two parts share a weight."""

    def set_attn_implementation(self, attn_implementation: str | dict[str, str]) -> None:
        """Check the name, and go on with PyTorch's kernels, which give attention maps too when they are asked for.

        Raises:
            ValueError: there is no attention of this name.
        """
        check_attention(attn_implementation)

    # -- gradient checkpointing --------------------------------------------------------------------------------------

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """Keep no activations inside blocks for the backward pass, but compute them again: slower, far less memory.

        Args:
            gradient_checkpointing_kwargs: accepted and not needed: checkpointing is always the non-reentrant kind.
            options: `every_n_layers=1` and `offload=False`, the only values of transformers' options that are
                supported.

        Raises:
            ValueError: an option has another value.
        """
        for name, only in (("every_n_layers", 1), ("offload", False)):
            given = options.pop(name, only)
            if given != only:
                raise ValueError(f"{name}={given!r} is not supported: every block is checkpointed, in the same memory.")
        if options:
            raise TypeError(f"gradient_checkpointing_enable has no argument {', '.join(options)}.")
        self._set_gradient_checkpointing(True)

    def gradient_checkpointing_disable(self) -> None:
        """Undo `gradient_checkpointing_enable`."""
        self._set_gradient_checkpointing(False)

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """`gradient_checkpointing_enable`, by its newer name."""
        self.gradient_checkpointing_enable(activation_checkpointing_kwargs, **options)

    def activation_checkpointing_disable(self) -> None:
        """`gradient_checkpointing_disable`, by its newer name."""
        self.gradient_checkpointing_disable()

    def _set_gradient_checkpointing(self, enabled: bool) -> None:
        for module in self.modules():
            if isinstance(module, Encoder):
                module.gradient_checkpointing = enabled

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether any part keeps no activations."""
        return any(isinstance(m, Encoder) and m.gradient_checkpointing for m in self.modules())

    @property
    def is_activation_checkpointing(self) -> bool:
        """`is_gradient_checkpointing`, by its newer name."""
        return self.is_gradient_checkpointing

    # -- embeddings --------------------------------------------------------------------------------------------------

    def get_input_embeddings(self) -> nn.Module:
        """The table of tokens; in a model without texts, the convolution that makes patches.

        Raises:
            NotImplementedError: a subclass has neither.
        """
        return self.get_submodule(self._input_embeddings())

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Put another module in the place of `get_input_embeddings`."""
        above, _, name = self._input_embeddings().rpartition(".")
        setattr(self.get_submodule(above), name, value)

    def get_output_embeddings(self) -> None:
        """None: the model writes no text."""

    def _input_embeddings(self) -> str:
        paths = [str(path) for path, _ in self.named_modules()]
        for wanted in ("token_embedding", "patch_embedding"):
            for path in paths:
                if path.rpartition(".")[2] == wanted:
                    return path
        raise NotImplementedError(f"{type(self).__name__} has no embedding of tokens or patches.")

    def enable_input_require_grads(self) -> None:
        """Have the input embeddings give outputs that take a gradient, as training of adapters alone needs."""
        self.disable_input_require_grads()
        self._require_grads_hook = self.get_input_embeddings().register_forward_hook(_require_grad)

    def disable_input_require_grads(self) -> None:
        """Undo `enable_input_require_grads`."""
        hook = self.__dict__.pop("_require_grads_hook", None)
        if hook is not None:
            hook.remove()

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Module:
        """Change the number of tokens; the config says it too afterwards.

        Args:
            new_num_tokens: how many; None leaves them as they are.
            pad_to_multiple_of: round up to a multiple of this.
            mean_resizing: new tokens start as the mean of the others; otherwise at random, of std 0.02.

        Returns:
            The table, an `nn.Embedding`.

        Raises:
            ValueError: the model has no tokens.
        """
        old = self.get_input_embeddings()
        if not isinstance(old, nn.Embedding):
            raise ValueError(f"{type(self).__name__} has no tokens whose number could change.")
        count = old.num_embeddings if new_num_tokens is None else new_num_tokens
        if pad_to_multiple_of is not None:
            count = -(-count // pad_to_multiple_of) * pad_to_multiple_of
        if count == old.num_embeddings:
            return old
        if count > old.num_embeddings:
            warnings.warn(
                "the end of a text is found as its highest token id: a text with one of the new tokens ends at it.",
                stacklevel=2,
            )
        weight = old.weight.detach()
        kept, new = weight[:count], weight.new_empty(max(0, count - len(weight)), weight.shape[1])
        start = weight.mean(dim=0).expand_as(new) if mean_resizing else nn.init.normal_(new, std=0.02)
        frozen = not old.weight.requires_grad
        table: nn.Embedding = nn.Embedding.from_pretrained(torch.cat([kept, start]), freeze=frozen)
        self.set_input_embeddings(table)
        getattr(self.config, "text_config", self.config).vocab_size = self.vocab_size = count
        return table


def _require_grad(module: nn.Module, args: Any, output: Tensor) -> None:
    output.requires_grad_(True)
