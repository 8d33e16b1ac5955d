"""What every part of X-CLIP is made of: attention, MLP, the pre-norm block, drop path (arXiv 2208.02816, §3.2).

Shape suffixes, here and in the files beside this one: B videos, T frames, P patches, K texts, D width, E joint width,
H heads, N any batch, L tokens that ask, S tokens that are asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from openxclip.model.outputs import TransformerOutput, asked, returned


def quick_gelu(x: Tensor) -> Tensor:
    """`x * sigmoid(1.702 x)`: the GELU that OpenAI's CLIP was trained with."""
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
    """The function of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation {name!r} is not known; known are {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]


class Activation(nn.Module):
    """An activation by name, as a module: hooks and replacements reach it, and checkpoints number it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.function = activation(name)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape in and out."""
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
    """Multi-head attention on projected inputs.

    Args:
        q_NLD, k_NSD, v_NSD: queries, keys and values.
        num_heads: H, a divisor of D.
        mask: broadcastable to (N, H, L, S): bool, True where a query may look; or numbers to be added to the scores.
        is_causal: instead of a mask: query l looks at keys up to l (L equals S).
        dropout: probability of dropping a weight.
        need_weights: also return the weights; the plain path, for no fused kernel gives them.

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
    """(length, length) bool, True on and below the diagonal."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def _both(mask: Tensor | None, other: Tensor | None) -> Tensor | None:
    """What two attention masks say together."""
    if mask is None or other is None:
        return other if mask is None else mask
    if mask.dtype == other.dtype == torch.bool:
        return mask & other
    return _added(mask) + _added(other)


def _added(mask: Tensor) -> Tensor:
    """An attention mask as numbers to be added to scores."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=torch.float32).masked_fill(~mask, float("-inf"))


class Attention(nn.Module):
    """Multi-head attention of tokens among themselves."""

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
        """Attend.

        Args:
            hidden_states: (N, L, D).
            attention_mask, causal_attention_mask: see `attend`; what one of them forbids is forbidden.
            output_attentions: also return the weights.
            is_causal: without a mask, a token looks at itself and those before it.

        Returns:
            (N, L, D), and the (N, H, L, L) weights or None.
        """
        out_NLD, weights = attend(
            self.q_proj(hidden_states),
            self.k_proj(hidden_states),
            self.v_proj(hidden_states),
            self.num_heads,
            mask=_both(attention_mask, causal_attention_mask),
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
        """Same shape in and out."""
        if self._is_quick_gelu() and is_bare(self.fc1, nn.Linear) and is_bare(self.fc2, nn.Linear):
            return self._with_scales_in_products(hidden_states)
        out: Tensor = self.fc2(self.activation_fn(self.fc1(hidden_states)))
        return out

    def _is_quick_gelu(self) -> bool:
        return is_bare(self.activation_fn, Activation) and self.activation_fn.function is quick_gelu

    def _with_scales_in_products(self, x: Tensor) -> Tensor:
        """QuickGELU(h) is SiLU(1.702 h) / 1.702; both factors ride along in the products, so that of its three passes
        over the widest tensor of the model one is left.
        """
        scale = 1.702
        inner = torch.addmm(self.fc1.bias, x.flatten(0, -2), self.fc1.weight.T, beta=scale, alpha=scale)
        out = torch.addmm(self.fc2.bias, F.silu(inner), self.fc2.weight.T, alpha=1 / scale)
        unflattened: Tensor = out.unflatten(0, x.shape[:-1])
        return unflattened


def is_bare(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether its weights say all that it does: nobody wrapped it (LoRA, quantisation) or hangs on its call."""
    return type(module) is kind and not (
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def is_traced() -> bool:
    """Whether what runs is recorded for other inputs (compiled, exported, traced): then nothing may hang on values."""
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None


class DropPath(nn.Module):
    """Stochastic depth (arXiv 1603.09382): in training, a residual branch is dropped for whole videos at random.

    Frames of one video share their fate, and what is kept is scaled so that the expectation stays the same.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor, num_videos: int) -> Tensor:
        """`x` is (B * anything, ...), the rows of a video lying together."""
        if self.rate == 0.0 or not self.training:
            return x
        kept_B = torch.rand(num_videos, device=x.device) >= self.rate
        scale_B = kept_B.to(x.dtype) / (1 - self.rate)
        scaled: Tensor = x.unflatten(0, (num_videos, -1)) * scale_B.view(-1, *[1] * x.ndim)
        return scaled.flatten(0, 1)

    def extra_repr(self) -> str:
        """The rate, for print(model)."""
        return f"rate={self.rate:.3f}"


class Block(nn.Module):
    """Pre-norm transformer block, as in CLIP's text tower and in MIT."""

    def __init__(
        self,
        width: int,
        inner_width: int,
        num_heads: int,
        *,
        hidden_act: str,
        eps: float,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.self_attn = Attention(width, num_heads, dropout)
        self.layer_norm1 = nn.LayerNorm(width, eps=eps)
        self.mlp = MLP(width, inner_width, hidden_act)
        self.layer_norm2 = nn.LayerNorm(width, eps=eps)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        causal_attention_mask: Tensor | None = None,
        output_attentions: bool | None = False,
        *,
        is_causal: bool = False,
    ) -> tuple[Tensor, ...]:
        """Arguments as of `Attention.forward`. Returns a tuple of (N, L, D), and the weights if they are asked for."""
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
    """Blocks one after the other."""

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
        **how: Any,
    ) -> TransformerOutput | tuple[Any, ...]:
        """Run every block.

        Args:
            inputs_embeds: (N, L, D), the first block's input.
            attention_mask, causal_attention_mask: of all blocks, see `Attention.forward`.
            output_attentions, output_hidden_states: also return every block's.
            return_dict: False for a tuple.
            **how: other arguments of the blocks: `is_causal`; in the video tower `num_frames`.

        Returns:
            `last_hidden_state` (N, L, D); no `pooler_output`.
        """
        with_attentions = asked(self.config, "output_attentions", output_attentions)
        with_states = asked(self.config, "output_hidden_states", output_hidden_states)
        x, masks = inputs_embeds, (attention_mask, causal_attention_mask)
        hidden_states, attentions = [x], []
        for layer in self.layers:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                # Non-reentrant: gradients are right whether or not x asks for one. Drop path's randomness is replayed.
                found = checkpoint(layer, x, *masks, with_attentions, use_reentrant=False, **how)
            else:
                found = layer(x, *masks, with_attentions, **how)
            x = found[0]
            if with_states:  # else every block's would be kept alive to the end
                hidden_states.append(x)
            if with_attentions:
                attentions.append(found[1])
        output = TransformerOutput(
            x,
            hidden_states=tuple(hidden_states) if with_states else None,
            attentions=tuple(attentions) if with_attentions else None,
        )
        return returned(self.config, output, return_dict)


def order_as_transformers(model: nn.Module) -> None:
    """Put the parameters into the order of transformers 5's class: an optimizer's state knows them by it.

    They are not made in that order, so that a seed goes on giving the same random start.
    """
    for part in list(model.modules()):
        order: tuple[str, ...] = getattr(part, "module_order", ())
        if order != tuple(name for name, _ in part.named_children() if name in order):
            for name in order:
                child = getattr(part, name, None)
                if child is None:  # a subclass has removed it
                    continue
                delattr(part, name)
                setattr(part, name, child)


def start_as_clip(blocks: Iterable[nn.Module], width: int, num_layers: int, factor: float) -> None:
    """Random start of a tower's blocks as in OpenAI's CLIP (arXiv 2103.00020): narrower where residuals add up."""
    residual_std = width**-0.5 * (2 * num_layers) ** -0.5 * factor
    for block in blocks:
        attention, mlp = block.self_attn, block.mlp
        assert isinstance(attention, Attention)
        assert isinstance(mlp, MLP)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            nn.init.normal_(projection.weight, std=width**-0.5 * factor)
        nn.init.normal_(attention.out_proj.weight, std=residual_std)
        nn.init.normal_(mlp.fc1.weight, std=(2 * width) ** -0.5 * factor)
        nn.init.normal_(mlp.fc2.weight, std=residual_std)
        for linear in (
            attention.q_proj,
            attention.k_proj,
            attention.v_proj,
            attention.out_proj,
            mlp.fc1,
            mlp.fc2,
        ):
            nn.init.zeros_(linear.bias)


def start_truncated(module: nn.Module) -> None:
    """Every linear in it: truncated normal of 0.02, zero bias. So start MIT and the prompt generator."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
