"""Layers that the parts of X-CLIP share: attention, MLP, pre-norm block, drop path (arXiv 2208.02816, §3.2).

Shape suffixes in this folder: B videos, T frames, P patches, K texts, D width, E joint width, H heads, N any batch,
L query tokens, S key tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from openxclip.config import XCLIPTextConfig, XCLIPVisionConfig
from openxclip.model.outputs import TransformerOutput, output_or_tuple, resolve_flag


def quick_gelu(x: Tensor) -> Tensor:
    """Compute `x * sigmoid(1.702 x)`, the GELU that OpenAI's CLIP was trained with."""
    return x * torch.sigmoid(1.702 * x)


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "quick_gelu": quick_gelu,
    "gelu": F.gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "relu": F.relu,
    "selu": F.selu,
    "silu": F.silu,
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """Return the activation function of that name.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation {name!r} is unknown; known are {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]


class Activation(nn.Module):
    """An activation as a module, so that it can be hooked or replaced, and is counted in an `nn.Sequential`."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.function = activation(name)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation elementwise."""
        return self.function(x)


def attend(
    q_NLD: Tensor,
    k_NSD: Tensor,
    v_NSD: Tensor,
    num_heads: int,
    *,
    mask: Tensor | None = None,
    is_causal: bool = False,
    dropout: float = 0.0,
    need_weights: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Compute multi-head attention on projected inputs.

    Args:
        q_NLD, k_NSD, v_NSD: queries, keys and values.
        num_heads: H, a divisor of D.
        mask: broadcastable to (N, H, L, S): bool, True where a query may attend; or numbers to add to the scores.
        is_causal: without a mask, query l attends to keys up to l (L equals S).
        dropout: probability of dropping an attention weight.
        need_weights: also return the weights, which is slower because no fused kernel returns them.

    Returns:
        (N, L, D), and the (N, H, L, S) weights or None.
    """
    q, k, v = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (q_NLD, k_NSD, v_NSD))  # (N, H, L|S, D/H)
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.to(q.dtype)
    weights = None
    if need_weights:
        if is_causal and mask is None:
            mask = causal_mask(q.shape[-2], q.device)
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        if mask is not None:
            is_bool = mask.dtype == torch.bool
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min) if is_bool else scores + mask
        weights = scores.softmax(-1, dtype=torch.float32).to(v.dtype)
        weights = F.dropout(weights, dropout) if dropout else weights
        out = weights @ v
    else:
        is_causal = is_causal and mask is None
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=is_causal)
    return out.transpose(1, 2).flatten(2), weights


def causal_mask(length: int, device: torch.device) -> Tensor:
    """Return (length, length) bool, True on and below the diagonal."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def _combine_masks(mask: Tensor | None, other: Tensor | None) -> Tensor | None:
    """Return the mask that allows only what both masks allow."""
    if mask is None or other is None:
        return other if mask is None else mask
    if mask.dtype == other.dtype == torch.bool:
        return mask & other
    return _as_additive(mask) + _as_additive(other)


def _as_additive(mask: Tensor) -> Tensor:
    """Return an attention mask as numbers to add to scores."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=torch.float32).masked_fill(~mask, float("-inf"))


class Attention(nn.Module):
    """Multi-head self-attention."""

    module_order = ("k_proj", "v_proj", "q_proj", "out_proj")

    def __init__(self, width: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.embed_dim, self.num_heads, self.head_dim = width, num_heads, width // num_heads
        self.scale = self.head_dim**-0.5
        self.dropout = dropout
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        causal_attention_mask: Tensor | None = None,
        output_attentions: bool | None = False,
        *,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Apply self-attention.

        Args:
            hidden_states: (N, L, D).
            attention_mask, causal_attention_mask: see `attend`; both must allow a pair of tokens.
            output_attentions: also return the weights.
            is_causal: without a mask, a token attends to itself and the tokens before it.

        Returns:
            (N, L, D), and the (N, H, L, L) weights or None.
        """
        out_NLD, weights = attend(
            self.q_proj(hidden_states),
            self.k_proj(hidden_states),
            self.v_proj(hidden_states),
            self.num_heads,
            mask=_combine_masks(attention_mask, causal_attention_mask),
            is_causal=is_causal,
            dropout=self.dropout if self.training else 0.0,
            need_weights=bool(output_attentions),
        )
        return self.out_proj(out_NLD), weights


class MLP(nn.Module):
    """Two linear layers with an activation between them, the inner one wider (4 x D in CLIP)."""

    def __init__(self, width: int, inner_width: int, hidden_act: str) -> None:
        super().__init__()
        self.activation_fn = Activation(hidden_act)
        self.fc1 = nn.Linear(width, inner_width)
        self.fc2 = nn.Linear(inner_width, width)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return (…, D) for (…, D)."""
        if self._is_quick_gelu() and is_bare(self.fc1, nn.Linear) and is_bare(self.fc2, nn.Linear):
            return self._quick_gelu_fused(hidden_states)
        out: Tensor = self.fc2(self.activation_fn(self.fc1(hidden_states)))
        return out

    def _is_quick_gelu(self) -> bool:
        return is_bare(self.activation_fn, Activation) and self.activation_fn.function is quick_gelu

    def _quick_gelu_fused(self, x: Tensor) -> Tensor:
        """Apply the MLP. Its inner tensor, the widest of the model, is processed once instead of three times.

        QuickGELU(h) is SiLU(1.702 h) / 1.702, and both factors are folded into the matrix products.
        """
        scale = 1.702
        inner = torch.addmm(self.fc1.bias, x.flatten(0, -2), self.fc1.weight.T, beta=scale, alpha=scale)
        out = torch.addmm(self.fc2.bias, F.silu(inner), self.fc2.weight.T, alpha=1 / scale)
        unflattened: Tensor = out.unflatten(0, x.shape[:-1])
        return unflattened


def is_bare(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Return whether a module has exactly this class and no hooks, so that its weights may be used without a call."""
    return type(module) is kind and not (
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def is_traced() -> bool:
    """Return whether the code is compiled, exported or traced, which rules out data-dependent control flow."""
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None


class DropPath(nn.Module):
    """Stochastic depth (arXiv 1603.09382): in training, drop a residual branch for whole videos at random.

    Kept videos are scaled so that the expectation stays the same.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor, num_videos: int) -> Tensor:
        """Drop videos of `x` (B * n, …), in which the rows of a video are contiguous."""
        if self.rate == 0.0 or not self.training:
            return x
        kept_B = torch.rand(num_videos, device=x.device) >= self.rate
        scale_B = kept_B.to(x.dtype) / (1 - self.rate)
        scaled: Tensor = x.unflatten(0, (num_videos, -1)) * scale_B.view(-1, *[1] * x.ndim)
        return scaled.flatten(0, 1)

    def extra_repr(self) -> str:
        """Return the rate, for print(model)."""
        return f"rate={self.rate:.3f}"


class Block(nn.Module):
    """Pre-norm transformer block, as in CLIP's text tower and in MIT."""

    def __init__(
        self, config: XCLIPTextConfig | XCLIPVisionConfig, width: int, inner_width: int, num_heads: int
    ) -> None:
        super().__init__()
        self.self_attn = Attention(width, num_heads, config.attention_dropout)
        self.layer_norm1 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = MLP(width, inner_width, config.hidden_act)
        self.layer_norm2 = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        causal_attention_mask: Tensor | None = None,
        output_attentions: bool | None = False,
        *,
        is_causal: bool = False,
    ) -> tuple[Tensor, ...]:
        """Return a tuple of (N, L, D) and, with `output_attentions`, the weights; see `Attention.forward`."""
        attended, weights = self.self_attn(
            self.layer_norm1(hidden_states),
            attention_mask,
            causal_attention_mask,
            output_attentions,
            is_causal=is_causal,
        )
        x_NLD = hidden_states + attended
        x_NLD = x_NLD + self.mlp(self.layer_norm2(x_NLD))
        return (x_NLD,) if weights is None else (x_NLD, weights)


class Encoder(nn.Module):
    """A sequence of blocks."""

    def __init__(self, layers: Iterable[nn.Module], config: Any) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(layers)
        self.gradient_checkpointing = False

    def forward(
        self,
        inputs_embeds: Tensor,
        attention_mask: Tensor | None = None,
        causal_attention_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **block_options: Any,
    ) -> TransformerOutput | tuple[Any, ...]:
        """Run every block.

        Args:
            inputs_embeds: (N, L, D), the first block's input.
            attention_mask, causal_attention_mask: masks for all blocks, see `Attention.forward`.
            output_attentions, output_hidden_states: also return every block's attentions or hidden states.
            return_dict: False returns a tuple.
            **block_options: further arguments of the blocks: `is_causal`, or in the video tower `num_frames`.

        Returns:
            `last_hidden_state` (N, L, D); no `pooler_output`.
        """
        with_attentions = resolve_flag(self.config, "output_attentions", output_attentions)
        with_states = resolve_flag(self.config, "output_hidden_states", output_hidden_states)
        x, masks = inputs_embeds, (attention_mask, causal_attention_mask)
        hidden_states, attentions = [x], []
        for layer in self.layers:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                # Non-reentrant, so that gradients are right even if x requires none, and drop path is replayed.
                outputs = checkpoint(layer, x, *masks, with_attentions, use_reentrant=False, **block_options)
            else:
                outputs = layer(x, *masks, with_attentions, **block_options)
            x = outputs[0]
            if with_states:  # otherwise the list would keep every block's output in memory
                hidden_states.append(x)
            if with_attentions:
                attentions.append(outputs[1])
        output = TransformerOutput(
            x,
            hidden_states=tuple(hidden_states) if with_states else None,
            attentions=tuple(attentions) if with_attentions else None,
        )
        return output_or_tuple(self.config, output, return_dict)


def reorder_like_transformers(model: nn.Module) -> None:
    """Put the parameters into the order of transformers 5's class, because an optimizer's state is indexed by it.

    They are created in another order, which is kept so that a seed always gives the same initialisation.
    """
    for part in list(model.modules()):
        order: tuple[str, ...] = getattr(part, "module_order", ())
        if order != tuple(name for name, _ in part.named_children() if name in order):
            for name in order:
                child = getattr(part, name, None)
                if child is None:  # removed by a subclass
                    continue
                delattr(part, name)
                setattr(part, name, child)


def initialize_like_clip(blocks: Iterable[nn.Module], width: int, num_layers: int, factor: float) -> None:
    """Initialise a tower's blocks as in OpenAI's CLIP (arXiv 2103.00020), with smaller weights before residual sums."""
    attention_std = width**-0.5 * factor
    inner_std = (2 * width) ** -0.5 * factor
    residual_std = width**-0.5 * (2 * num_layers) ** -0.5 * factor
    for block in blocks:
        attention, mlp = block.self_attn, block.mlp
        assert isinstance(attention, Attention)
        assert isinstance(mlp, MLP)
        inputs = [(linear, attention_std) for linear in (attention.q_proj, attention.k_proj, attention.v_proj)]
        for linear, std in [*inputs, (attention.out_proj, residual_std), (mlp.fc1, inner_std), (mlp.fc2, residual_std)]:
            nn.init.normal_(linear.weight, std=std)
            nn.init.zeros_(linear.bias)


def initialize_truncated_normal(module: nn.Module) -> None:
    """Initialise every linear layer in a module with a truncated normal of std 0.02 and a zero bias."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
