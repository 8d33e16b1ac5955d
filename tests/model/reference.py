"""The authors' X-CLIP, reimplemented from the paper on `torch.nn.MultiheadAttention`, as a reference for openxclip.

Nothing here comes from openxclip, and no layer is shared with it: names and layout are those of OpenAI's
CLIP, on which the authors built (Ni et al., "Expanding Language-Image Pretrained Models for General Video
Recognition", arXiv 2208.02816), so it also stands for their checkpoints' key names.

Shapes: B videos, T frames, P patches, K texts, L tokens, D width, E joint width, N = B·T.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


def feed_forward(width: int, hidden: int) -> nn.Sequential:
    layers = OrderedDict(c_fc=nn.Linear(width, hidden), gelu=QuickGELU(), c_proj=nn.Linear(hidden, width))
    return nn.Sequential(layers)


def attend(attention: nn.MultiheadAttention, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    return attention(x, x, x, need_weights=True, average_attn_weights=False, attn_mask=mask)


class ResidualAttentionBlock(nn.Module):
    """CLIP's pre-norm block, used by the text tower and by MIT."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = feed_forward(width, hidden)
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        attended, weights = attend(self.attn, self.ln_1(x), mask)
        x = x + attended
        return x + self.mlp(self.ln_2(x)), weights


class CrossFrameBlock(nn.Module):
    """One block of the cross-frame communication transformer, over the frames of B videos at once."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.message_fc = nn.Linear(width, width)
        self.message_ln = nn.LayerNorm(width)
        self.message_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = feed_forward(width, hidden)
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x_NSD: Tensor, frames: int, factors: Sequence[float] = (1.0, 1.0, 1.0)) -> tuple[Tensor, Tensor]:
        """`factors` multiply the three residual branches (message, attention, MLP), as drop path does."""
        count, tokens, width = x_NSD.shape
        message_BTD = self.message_fc(x_NSD[:, 0]).view(-1, frames, width)
        fused, _ = attend(self.message_attn, self.message_ln(message_BTD))
        message_BTD = message_BTD + factors[0] * fused
        seen = torch.cat([x_NSD, message_BTD.reshape(count, 1, width)], dim=1)
        attended, weights = attend(self.attn, self.ln_1(seen))
        x_NSD = (seen + factors[1] * attended)[:, :tokens]
        return x_NSD + factors[2] * self.mlp(self.ln_2(x_NSD)), weights


class BlockStack(nn.Module):
    """A holder, so that keys read `transformer.resblocks.i`."""

    def __init__(self, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(blocks)


class VisualTower(nn.Module):
    def __init__(self, size: int, patch: int, width: int, layers: int, heads: int, hidden: int, joint: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn((size // patch) ** 2 + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = BlockStack([CrossFrameBlock(width, heads, hidden) for _ in range(layers)])
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.randn(width, joint))

    def forward(self, x_NCHW: Tensor, frames: int) -> dict[str, object]:
        x = self.conv1(x_NCHW).flatten(2).mT
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], dim=1)
        x = self.ln_pre(x + self.positional_embedding)
        states, attentions = [x], []
        for block in self.transformer.resblocks:
            x, weights = block(x, frames)
            states.append(x)
            attentions.append(weights)
        pooled = self.ln_post(x[:, 0])
        return {"states": states, "attentions": attentions, "last": x, "pooled": pooled}


class IntegrationTransformer(nn.Module):
    """MIT: frame features in time order become one video feature."""

    def __init__(self, frames: int, width: int, layers: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(1, frames, width))
        self.resblocks = nn.ModuleList(
            [ResidualAttentionBlock(width, heads, hidden) for _ in range(layers)],
        )

    def forward(self, x_BTE: Tensor) -> dict[str, object]:
        y = x_BTE + self.positional_embedding
        states, attentions = [y], []
        for block in self.resblocks:
            y, weights = block(y)
            states.append(y)
            attentions.append(weights)
        y = y + x_BTE
        return {"states": states, "attentions": attentions, "last": y, "pooled": y.mean(1)}


class CrossAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, text_BKE: Tensor, visual_BPE: Tensor) -> Tensor:
        query, key = text_BKE.transpose(0, 1), visual_BPE.transpose(0, 1)
        mixed, _ = F.multi_head_attention_forward(
            query,
            key,
            key,
            query.shape[-1],
            self.heads,
            in_proj_weight=None,
            in_proj_bias=None,
            bias_k=None,
            bias_v=None,
            add_zero_attn=False,
            dropout_p=0.0,
            out_proj_weight=self.proj.weight,
            out_proj_bias=self.proj.bias,
            use_separate_proj_weight=True,
            q_proj_weight=self.q_proj.weight,
            k_proj_weight=self.k_proj.weight,
            v_proj_weight=self.v_proj.weight,
        )
        return mixed.transpose(0, 1)


class PromptDecoder(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.cross_attn = CrossAttention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, width * 4), QuickGELU(), nn.Dropout(0.0), nn.Linear(width * 4, width))

    def forward(self, text_BKE: Tensor, visual_BPE: Tensor) -> Tensor:
        text_BKE = text_BKE + self.cross_attn(self.norm1(text_BKE), visual_BPE)
        return text_BKE + self.mlp(self.norm3(text_BKE))


class PromptGenerator(nn.Module):
    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.decoder = nn.ModuleList([PromptDecoder(width, heads) for _ in range(layers)])
        self.alpha = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, text_BKE: Tensor, visual_BPE: Tensor) -> Tensor:
        visual_BPE = self.norm(visual_BPE)
        for layer in self.decoder:
            text_BKE = layer(text_BKE, visual_BPE)
        return self.alpha * text_BKE


class AuthorsXCLIP(nn.Module):
    """The whole model. MIT and prompts have E/64 heads, as the authors have, unless given."""

    def __init__(
        self,
        *,
        image_size: int,
        patch: int,
        vision_width: int,
        vision_layers: int,
        vision_heads: int,
        joint: int,
        vocab: int,
        context: int,
        text_width: int,
        text_layers: int,
        text_heads: int,
        frames: int,
        vision_hidden: int | None = None,
        text_hidden: int | None = None,
        mit_hidden: int | None = None,
        mit_layers: int = 1,
        mit_heads: int | None = None,
        prompt_heads: int | None = None,
        prompt_layers: int = 2,
    ) -> None:
        super().__init__()
        self.frames = frames
        self.visual = VisualTower(
            image_size,
            patch,
            vision_width,
            vision_layers,
            vision_heads,
            vision_hidden or 4 * vision_width,
            joint,
        )
        self.token_embedding = nn.Embedding(vocab, text_width)
        self.positional_embedding = nn.Parameter(torch.randn(context, text_width))
        self.transformer = BlockStack(
            [ResidualAttentionBlock(text_width, text_heads, text_hidden or 4 * text_width) for _ in range(text_layers)]
        )
        self.ln_final = nn.LayerNorm(text_width)
        self.text_projection = nn.Parameter(torch.randn(text_width, joint))
        self.logit_scale = nn.Parameter(torch.tensor(2.6592))
        self.mit = IntegrationTransformer(frames, joint, mit_layers, mit_heads or joint // 64, mit_hidden or 4 * joint)
        self.prompts_visual_ln = nn.LayerNorm(vision_width)
        self.prompts_visual_proj = nn.Parameter(torch.randn(vision_width, joint))
        self.prompts_generator = PromptGenerator(joint, prompt_layers, prompt_heads or joint // 64)

    def encode_text(self, ids_KL: Tensor) -> dict[str, object]:
        length = ids_KL.shape[1]
        mask = torch.full((length, length), float("-inf"), dtype=self.positional_embedding.dtype).triu(1)
        x = self.token_embedding(ids_KL) + self.positional_embedding[:length]
        states, attentions = [x], []
        for block in self.transformer.resblocks:
            x, weights = block(x, mask)
            states.append(x)
            attentions.append(weights)
        last = self.ln_final(x)
        pooled = last[torch.arange(len(ids_KL)), ids_KL.argmax(-1)]
        return {"states": states, "attentions": attentions, "last": last, "pooled": pooled}

    def forward(self, ids_KL: Tensor, pixels_BTCHW: Tensor) -> dict[str, object]:
        videos, frames = pixels_BTCHW.shape[:2]
        vision = self.visual(pixels_BTCHW.flatten(0, 1), frames)
        mit = self.mit((vision["pooled"] @ self.visual.proj).view(videos, frames, -1))
        text = self.encode_text(ids_KL)
        patches = self.prompts_visual_ln(vision["last"][:, 1:]) @ self.prompts_visual_proj
        patches_BPE = patches.view(videos, frames, *patches.shape[1:]).mean(1)
        text_KE = text["pooled"] @ self.text_projection
        text_BKE = text_KE.expand(videos, -1, -1)
        text_BKE = text_BKE + self.prompts_generator(text_BKE, patches_BPE)
        video_BE = F.normalize(mit["pooled"], dim=-1)
        text_BKE = F.normalize(text_BKE, dim=-1)
        logits_BK = self.logit_scale.exp() * (text_BKE @ video_BE[:, :, None])[..., 0]
        return {
            "logits_per_video": logits_BK,
            "text_features": text_KE,
            "text_embeds": text_BKE,
            "video_embeds": video_BE,
            "text": text,
            "vision": vision,
            "mit": mit,
        }


_BLOCK_PARTS = (
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
    ("message_fc", "message_fc"),
    ("message_ln", "message_ln"),
)
_STACKS = (
    (r"visual\.transformer\.resblocks\.", "vision_model.encoder.layers."),
    (r"transformer\.resblocks\.", "text_model.encoder.layers."),
    (r"mit\.resblocks\.", "mit.encoder.layers."),
)
_SINGLE = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "logit_scale": "logit_scale",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layernorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layernorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "mit.positional_embedding": "mit.position_embedding",
    "prompts_visual_ln.weight": "prompts_visual_layernorm.weight",
    "prompts_visual_ln.bias": "prompts_visual_layernorm.bias",
    "prompts_visual_proj": "prompts_visual_projection",
    "prompts_generator.norm.weight": "prompts_generator.layernorm.weight",
    "prompts_generator.norm.bias": "prompts_generator.layernorm.bias",
    "prompts_generator.alpha": "prompts_generator.alpha",
}
_TRANSPOSED = {"text_projection": "text_projection.weight", "visual.proj": "visual_projection.weight"}


def _block_names(stack: str, rest: str, value: Tensor) -> dict[str, Tensor]:
    index, part = rest.split(".", 1)
    for theirs, attention in (("message_attn", "message_attn"), ("attn", "self_attn")):
        if not part.startswith(theirs + "."):
            continue
        leaf = part.removeprefix(theirs + ".")
        if leaf.startswith("in_proj_"):
            kind = leaf.removeprefix("in_proj_")
            pieces = zip("qkv", value.chunk(3), strict=True)
            return {f"{stack}{index}.{attention}.{name}_proj.{kind}": piece for name, piece in pieces}
        return {f"{stack}{index}.{attention}.{leaf}": value}
    for theirs, ours in _BLOCK_PARTS:
        if part.startswith(theirs + "."):
            return {f"{stack}{index}.{ours}{part.removeprefix(theirs)}": value}
    raise KeyError(part)


def hugging_face_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The authors' state dict under Hugging Face's names: split q/k/v, projections as `nn.Linear` weights."""
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        stack = next(((p, to) for p, to in _STACKS if re.match(p, key)), None)
        if stack is not None:
            renamed |= _block_names(stack[1], re.sub(f"^{stack[0]}", "", key), value)
        elif key in _TRANSPOSED:
            renamed[_TRANSPOSED[key]] = value.T.contiguous()
        elif key in _SINGLE:
            renamed[_SINGLE[key]] = value
        elif key.startswith("prompts_generator.decoder."):
            renamed[key] = value
        else:
            raise KeyError(key)
    return {key: value.clone() for key, value in renamed.items()}
