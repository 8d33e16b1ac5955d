"""Attributes and methods of models that training libraries and client code use, under transformers' names."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from openxclip.config.attributes import check_attention
from openxclip.model.layers import Encoder


class Members(nn.Module):
    """Attributes and methods that are the same for every model class.

    Attributes:
        base_model_prefix: name of the attribute in which a class that wraps an `XCLIPModel` holds it.
        main_input_name: the argument whose size is the size of a batch.
        supports_gradient_checkpointing: always True.
        name_or_path: name from which the model was loaded; PEFT saves it with an adapter.
        vocab_size: number of tokens; exists only after it was changed.
    """

    base_model_prefix: ClassVar[str] = "x_clip"
    main_input_name: ClassVar[str] = "input_ids"
    supports_gradient_checkpointing: ClassVar[bool] = True
    # Modules with a residual connection, which must stay on one device: Accelerate and FSDP wrap these.
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
        """The device of the weights."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the weights."""
        return next(self.parameters()).dtype

    @property
    def base_model(self) -> nn.Module:
        """The X-CLIP in the attribute `base_model_prefix` of a model that wraps it; otherwise the model itself."""
        base: nn.Module = getattr(self, self.base_model_prefix, self)
        return base

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Count the parameters.

        Args:
            only_trainable: count only those that require a gradient.
            exclude_embeddings: leave out the tables of `nn.Embedding`.
        """
        tables = {
            id(module.weight) for module in self.modules() if exclude_embeddings and isinstance(module, nn.Embedding)
        }
        counted = (p for p in self.parameters() if id(p) not in tables)
        return sum(p.numel() for p in counted if p.requires_grad or not only_trainable)

    def get_memory_footprint(self, return_buffers: bool = True) -> int:
        """Return the bytes of the parameters and, with `return_buffers`, the buffers."""
        tensors = [*self.parameters(), *(self.buffers() if return_buffers else ())]
        return sum(tensor.nbytes for tensor in tensors)

    @classmethod
    def can_generate(cls) -> bool:
        """Return False, because the model generates no text."""
        return False

    def tie_weights(self, *_: Any, **__: Any) -> None:
        """Do nothing, because no two parts share a weight."""

    def set_attn_implementation(self, attn_implementation: str | dict[str, str]) -> None:
        """Check the name, and change nothing: PyTorch picks the kernel.

        Raises:
            ValueError: the name is unknown.
        """
        check_attention(attn_implementation)

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """Recompute activations inside blocks in the backward pass, which is slower and needs far less memory.

        Args:
            gradient_checkpointing_kwargs: has no effect, because checkpointing is always non-reentrant.
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
        """Call `gradient_checkpointing_enable`, which has this newer name."""
        self.gradient_checkpointing_enable(activation_checkpointing_kwargs, **options)

    activation_checkpointing_disable = gradient_checkpointing_disable  # the newer name

    def _set_gradient_checkpointing(self, enabled: bool) -> None:
        for module in self.modules():
            if isinstance(module, Encoder):
                module.gradient_checkpointing = enabled

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether gradient checkpointing is enabled in any part."""
        return any(isinstance(m, Encoder) and m.gradient_checkpointing for m in self.modules())

    is_activation_checkpointing = is_gradient_checkpointing  # the newer name

    def get_input_embeddings(self) -> nn.Module:
        """Return the token embedding, or in a model without texts the patch embedding.

        Raises:
            NotImplementedError: a subclass has neither.
        """
        return self.get_submodule(self._input_embeddings_path())

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the module that `get_input_embeddings` returns."""
        parent, _, name = self._input_embeddings_path().rpartition(".")
        setattr(self.get_submodule(parent), name, value)

    def get_output_embeddings(self) -> None:
        """Return None, because the model generates no text."""

    def _input_embeddings_path(self) -> str:
        """Return the path of the token embedding, or else of the patch embedding."""
        paths = [str(path) for path, _ in self.named_modules()]
        for name in ("token_embedding", "patch_embedding"):
            for path in paths:
                if path.rpartition(".")[2] == name:
                    return path
        raise NotImplementedError(f"{type(self).__name__} has no embedding of tokens or patches.")

    def enable_input_require_grads(self) -> None:
        """Make the outputs of the input embeddings require a gradient, as is needed to train only adapters."""
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
        """Change the number of tokens, in the config too.

        Args:
            new_num_tokens: new number of tokens; None keeps the old one.
            pad_to_multiple_of: round up to a multiple of this.
            mean_resizing: initialise new tokens as the mean of the others; otherwise at random with std 0.02.

        Returns:
            The new token embedding.

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
                "the end of a text is found as its highest token id: a text with a new token now ends at that token.",
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
