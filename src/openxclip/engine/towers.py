"""The parts of X-CLIP prepared for inference: fused layers with the weights of the plain parts. None is a module.

Each part computes the same as its counterpart in `openxclip.model`, in fewer and larger products. The residual stream
is float32 for every dtype of the products, since half precision would lose most there. `openxclip.model.layers`
explains the shape suffixes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openxclip.engine.linears import Kernel, Linear
from openxclip.engine.memory import release
from openxclip.model import XCLIPModel
from openxclip.model.layers import Attention, Block
from openxclip.model.prompting import PromptDecoderLayer
from openxclip.model.vision import CrossFrameBlock, cut_into_patches

_ROWS = 512  # independent rows at once: an MLP's inner layer then stays in a core's cache
_MIN_GAIN = 2  # `_attend_few` must save this many times the operations that it needs

BlockT = TypeVar("BlockT")


def _prepare_blocks(
    make: Callable[[Any, str, Kernel], BlockT],
    blocks: Iterable[nn.Module],
    act: str,
    kernel: Kernel,
    after_block: Callable[[nn.Module], None] = lambda block: None,
) -> list[BlockT]:
    """Return blocks with fused layers.

    Each plain block is copied, given to `after_block`, and released from memory before the next one is read. So a
    tower is not in memory twice.
    """
    prepared = []
    for block in blocks:
        prepared.append(make(block, act, kernel))
        after_block(block)
        release(block.parameters())
    return prepared


class _LayerNorm:
    def __init__(self, norm: nn.LayerNorm) -> None:
        self._shape, self._eps = norm.normalized_shape, norm.eps
        self._weight, self._bias = norm.weight.detach().float(), norm.bias.detach().float()

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self._shape, self._weight, self._bias, self._eps)


class _Attention:
    """Norm and self-attention, with one product for queries, keys and values."""

    def __init__(self, norm: nn.LayerNorm, attention: Attention, kernel: Kernel) -> None:
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        self._norm = _LayerNorm(norm)
        self._heads = attention.num_heads
        self._dtype = kernel.dtype
        self._qkv = Linear(torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts]), kernel)
        self._out = Linear(attention.out_proj.weight, attention.out_proj.bias, kernel)

    def __call__(self, x_NLD: Tensor, *, is_causal: bool = False) -> Tensor:
        return self.attend(x_NLD, *self.project(x_NLD), is_causal=is_causal)

    def project(self, x_NSD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of the normed states, each (N, H, S, D / H)."""
        qkv = self._qkv(self._norm(x_NSD).to(self._dtype))
        q, k, v = qkv.unflatten(-1, (3, self._heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v

    def attend(
        self,
        residual_NLD: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        is_causal: bool = False,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return the residual stream plus the attention's output."""
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal)
        return self._out.added_to(residual_NLD, out.transpose(1, 2).flatten(2))


class _MLP:
    """Norm and MLP."""

    def __init__(self, norm: nn.LayerNorm, up: nn.Linear, down: nn.Linear, hidden_act: str, kernel: Kernel) -> None:
        self._norm = _LayerNorm(norm)
        self._dtype = kernel.dtype
        self._up = Linear(up.weight, up.bias, kernel, hidden_act=hidden_act)
        self._down = Linear(down.weight, down.bias, kernel, after=hidden_act)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the residual stream plus the MLP's output."""
        return self._down.added_to(x, self._up(self._norm(x).to(self._dtype)))


class _Block:
    def __init__(self, block: Block, hidden_act: str, kernel: Kernel) -> None:
        self.attention = _Attention(block.layer_norm1, block.self_attn, kernel)
        self.mlp = _MLP(block.layer_norm2, block.mlp.fc1, block.mlp.fc2, hidden_act, kernel)

    def __call__(self, x_NLD: Tensor, *, is_causal: bool = False) -> Tensor:
        return self.mlp(self.attention(x_NLD, is_causal=is_causal))


class _CrossFrameBlock:
    """A block with a message token for each frame (§3.2, eq. 4 to 8)."""

    def __init__(self, block: CrossFrameBlock, hidden_act: str, kernel: Kernel) -> None:
        self._dtype = kernel.dtype
        self._message_fc = Linear(block.message_fc.weight, block.message_fc.bias, kernel)
        self._message_attention = _Attention(block.message_ln, block.message_attn, kernel)
        self._attention = _Attention(block.layer_norm1, block.self_attn, kernel)
        self._mlp = _MLP(block.layer_norm2, block.mlp.fc1, block.mlp.fc2, hidden_act, kernel)

    def __call__(self, x_NLD: Tensor, num_frames: int) -> Tensor:
        message_BTD = self._message_fc(x_NLD[:, 0].to(self._dtype)).float().unflatten(0, (-1, num_frames))
        message_N1D = self._message_attention(message_BTD).flatten(0, 1)[:, None]
        # The message's query is unused, but one product for all three is faster: it is one row of each frame.
        q, k, v = self._attention.project(torch.cat([x_NLD, message_N1D], dim=1))
        return self._mlp(self._attention.attend(x_NLD, q[:, :, :-1], k, v))


class VisionTower:
    """`XCLIPVisionModel`, with the projections of class tokens and patches."""

    def __init__(self, model: XCLIPModel, kernel: Kernel, after_block: Callable[[nn.Module], None]) -> None:
        vision, projection = model.vision_model, model.visual_projection
        self._embeddings = vision.embeddings  # the caller computes the positions
        self._kernel = kernel
        self._patch = Linear(vision.embeddings.patch_embedding.weight.flatten(1), None, kernel)
        self._pre_norm, self._post_norm = _LayerNorm(vision.pre_layernorm), _LayerNorm(vision.post_layernorm)
        act = vision.config.hidden_act
        self._blocks = _prepare_blocks(_CrossFrameBlock, vision.encoder.layers, act, kernel, after_block)
        self._projection = Linear(projection.weight, projection.bias, kernel)
        self._patch_norm = _LayerNorm(model.prompts_visual_layernorm)
        self._patch_projection = Linear(model.prompts_visual_projection.T, None, kernel)

    def __call__(self, pixels_NCHW: Tensor, num_frames: int, positions_SD: Tensor) -> tuple[Tensor, Tensor]:
        """Return last states (B * T, 1 + P, D) and class tokens (B * T, D), float32.

        On a CPU, videos are processed one by one if each has enough rows for all cores: several at once would not fit
        the caches.
        """
        batch = pixels_NCHW.shape[0] // num_frames
        if pixels_NCHW.device.type == "cpu":
            batch = max(1, _ROWS // (num_frames * len(positions_SD)))
        parts = [self.states(part, num_frames, positions_SD) for part in pixels_NCHW.split(batch * num_frames)]
        last_NLD = parts[0] if len(parts) == 1 else torch.cat(parts)
        return last_NLD, self._post_norm(last_NLD[:, 0])

    def states(self, pixels_NCHW: Tensor, num_frames: int, positions_SD: Tensor) -> Tensor:
        """Return last states of all videos in one batch."""
        patch = self._embeddings.patch_size
        patches_NPD = self._patch(cut_into_patches(pixels_NCHW.to(self._kernel.dtype), patch))
        first_D = self._embeddings.class_embedding.detach().float()
        x_NLD = torch.cat([first_D.expand(len(patches_NPD), 1, -1), patches_NPD.float()], dim=1)
        x_NLD = self._pre_norm(x_NLD.add_(positions_SD.float()))
        for block in self._blocks:
            x_NLD = block(x_NLD, num_frames)
        return x_NLD

    def project(self, last_NLD: Tensor, pooled_ND: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
        """Return frame features (B, T, E), and the patches (B, P, E) that prompts attend to."""
        frames_BTE = self._projection(pooled_ND.to(self._kernel.dtype)).float().unflatten(0, (-1, num_frames))
        patches_BPD = self._patch_norm(last_NLD[:, 1:]).unflatten(0, (-1, num_frames)).mean(1)
        return frames_BTE, self._patch_projection(patches_BPD.to(self._kernel.dtype)).float()


class Integration:
    """`MultiframeIntegrationTransformer` (§3.2, eq. 9)."""

    def __init__(self, model: XCLIPModel, kernel: Kernel) -> None:
        act = model.config.vision_config.hidden_act
        self._blocks = _prepare_blocks(_Block, model.mit.encoder.layers, act, kernel)

    def __call__(self, frames_BTE: Tensor, positions_1TE: Tensor) -> tuple[Tensor, Tensor]:
        """Return last states (B, T, E) and their mean (B, E), float32."""
        x_BTE = frames_BTE + positions_1TE.float()
        for block in self._blocks:
            x_BTE = block(x_BTE)
        x_BTE = x_BTE + frames_BTE
        return x_BTE, x_BTE.mean(dim=1)


class TextTower:
    """`XCLIPTextModel` with its projection."""

    def __init__(self, model: XCLIPModel, kernel: Kernel, after_block: Callable[[nn.Module], None]) -> None:
        text, projection = model.text_model, model.text_projection
        self._tokens = text.embeddings.token_embedding.weight.detach()
        self._positions = text.embeddings.position_embedding.weight.detach()
        self._blocks = _prepare_blocks(_Block, text.encoder.layers, text.config.hidden_act, kernel, after_block)
        self._final_norm = _LayerNorm(text.final_layer_norm)
        self._projection = Linear(projection.weight, projection.bias, kernel)
        self._kernel = kernel

    def __call__(self, ids_KL: Tensor, ends_K: Tensor) -> Tensor:
        """Return features (K, E), float32.

        Texts are sorted by length, and each batch is cut at the end of its longest text. Attention is causal, so the
        tokens after a text's end don't change its feature.

        Args:
            ids_KL: token ids.
            ends_K: position of each text's end-of-text.
        """
        order_K = ends_K.argsort()
        lengths = (ends_K[order_K] + 1).tolist()
        parts = []
        for batch in _split_texts(lengths, on_cpu=ids_KL.device.type == "cpu"):
            rows_N, longest = order_K[batch], lengths[batch][-1]
            parts.append(self._encode(ids_KL[rows_N, :longest], ends_K[rows_N]))
        return torch.cat(parts)[order_K.argsort()]

    def _encode(self, ids_KL: Tensor, ends_K: Tensor) -> Tensor:
        length = ids_KL.shape[1]
        x_KLD = F.embedding(ids_KL, self._tokens).float() + self._positions[:length].float()
        for block in self._blocks[:-1]:
            x_KLD = block(x_KLD, is_causal=True)
        # Only the states at the texts' ends are needed from the last block
        texts = torch.arange(len(ids_KL), device=ids_KL.device)
        at_end_K1D = x_KLD[texts, ends_K][:, None]
        if self._blocks:
            last = self._blocks[-1]
            q, k, v = last.attention.project(x_KLD)
            mask_K11L = (torch.arange(length, device=ids_KL.device) <= ends_K[:, None])[:, None, None]
            q_at_end = q[texts, :, ends_K][:, :, None]
            at_end_K1D = last.mlp(last.attention.attend(at_end_K1D, q_at_end, k, v, mask=mask_K11L))
        return self._projection(self._final_norm(at_end_K1D[:, 0]).to(self._kernel.dtype)).float()


def _split_texts(lengths: list[int], *, on_cpu: bool) -> Iterator[slice]:
    """Split texts, sorted by length, into batches of at most 1024 tokens on a CPU, else of 1024 texts."""
    start = 0
    for i, length in enumerate(lengths):
        is_full = (i + 1 - start) * length > 2 * _ROWS if on_cpu else i - start == 1024
        if is_full and i > start:
            yield slice(start, i)
            start = i
    yield slice(start, len(lengths))


class _PromptLayer:
    """`PromptDecoderLayer` (§3.3, eq. 12 and 13)."""

    def __init__(self, layer: PromptDecoderLayer, hidden_act: str, kernel: Kernel) -> None:
        attention = layer.cross_attn
        up, down = layer.mlp[0], layer.mlp[3]
        assert isinstance(up, nn.Linear)
        assert isinstance(down, nn.Linear)
        self._dtype, self._heads = kernel.dtype, attention.num_heads
        self._norm = _LayerNorm(layer.norm1)
        self._q = Linear(attention.q_proj.weight, None, kernel)
        self._kv = Linear(torch.cat([attention.k_proj.weight, attention.v_proj.weight]), None, kernel)
        self._k_HFE, self._v_HFE = (  # F is a head's width; no copies
            projection.weight.detach().unflatten(0, (self._heads, -1))
            for projection in (attention.k_proj, attention.v_proj)
        )
        self._out = Linear(attention.proj.weight, attention.proj.bias, kernel)
        self._mlp = _MLP(layer.norm3, up, down, hidden_act, kernel)

    def queries(self, text_BKE: Tensor) -> Tensor:
        return self._q(self._norm(text_BKE).to(self._dtype))

    def favours_few(self, texts: int, patches: int) -> bool:
        """Return whether `_attend_few` needs far fewer operations than projecting every patch to keys and values."""
        width: int = self._k_HFE.shape[-1]
        few = texts * (self._heads * patches + width)
        in_float32: bool = self._k_HFE.dtype == self._dtype == torch.float32
        return in_float32 and _MIN_GAIN * few < patches * width

    def __call__(self, text_BKE: Tensor, q_BKE: Tensor, patches_BPE: Tensor, *, few: bool) -> Tensor:
        out = (self._attend_few if few else self._attend)(q_BKE, patches_BPE)
        return self._mlp(self._out.added_to(text_BKE, out))

    def _attend(self, q_BKE: Tensor, patches_BPE: Tensor) -> Tensor:
        k, v = self._kv(patches_BPE).unflatten(-1, (2, self._heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        q = q_BKE.unflatten(-1, (self._heads, -1)).transpose(1, 2)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def _attend_few(self, q_BKE: Tensor, patches_BPE: Tensor) -> Tensor:
        """Compute the same as `_attend` for few texts, without projecting any patch.

        The key weights are applied to the queries and the value weights to the attended patches:
        q (W_k p) = (W_kᵀ q) p, Σ a (W_v p) = W_v Σ a p.
        """
        batch, texts, width = q_BKE.shape
        q_HNF = q_BKE.reshape(batch * texts, self._heads, -1).transpose(0, 1)
        q_BSE = (q_HNF @ self._k_HFE).transpose(0, 1).reshape(batch, texts * self._heads, width)
        weights_BSP = (q_BSE @ patches_BPE.transpose(1, 2) * q_HNF.shape[-1] ** -0.5).softmax(-1)
        attended_HNE = (weights_BSP @ patches_BPE).reshape(batch * texts, self._heads, width).transpose(0, 1)
        out_HNF: Tensor = attended_HNE @ self._v_HFE.transpose(1, 2)
        return out_HNF.transpose(0, 1).reshape(batch, texts, width)


class Prompts:
    """`VideoSpecificPrompt` (§3.3)."""

    def __init__(self, model: XCLIPModel, kernel: Kernel) -> None:
        generator, act = model.prompts_generator, model.config.prompt_hidden_act
        self._dtype = kernel.dtype
        self._norm = _LayerNorm(generator.layernorm)
        layers = [layer for layer in generator.decoder if isinstance(layer, PromptDecoderLayer)]
        self._layers = [_PromptLayer(layer, act, kernel) for layer in layers]
        self._alpha = generator.alpha.detach().float()

    def queries(self, text_KE: Tensor) -> Tensor:
        """Return the first layer's queries, (K, E) of the kernel's dtype, which depend only on the texts."""
        return self._layers[0].queries(text_KE)

    def __call__(self, text_BKE: Tensor, patches_BPE: Tensor, first_BKE: Tensor | None = None) -> Tensor:
        """Return prompts (B, K, E), float32.

        Args:
            text_BKE: text features.
            patches_BPE: patches of each video.
            first_BKE: result of `queries` for these texts; None computes it.
        """
        patches_BPE = self._norm(patches_BPE).to(self._dtype)
        if text_BKE.device.type != "cpu":
            return self._prompts(text_BKE, patches_BPE, first_BKE)
        out_BKE = torch.empty(text_BKE.shape, device="cpu", dtype=torch.float32)
        few = self._layers[0].favours_few(text_BKE.shape[1], patches_BPE.shape[1])
        videos = max(1, _ROWS // max(1, text_BKE.shape[1])) if few else 1
        for b in range(0, len(text_BKE), videos):
            for k in range(0, text_BKE.shape[1], _ROWS):
                part = (slice(b, b + videos), slice(k, k + _ROWS))
                out_BKE[part] = self._prompts(
                    text_BKE[part], patches_BPE[b : b + videos], None if first_BKE is None else first_BKE[part], few=few
                )
        return out_BKE

    def _prompts(self, text_BKE: Tensor, patches_BPE: Tensor, first_BKE: Tensor | None, *, few: bool = False) -> Tensor:
        for number, layer in enumerate(self._layers):
            q_BKE = first_BKE if number == 0 and first_BKE is not None else layer.queries(text_BKE)
            text_BKE = layer(text_BKE, q_BKE, patches_BPE, few=few)
        return self._alpha * text_BKE
