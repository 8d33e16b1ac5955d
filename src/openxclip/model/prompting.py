"""Video-specific prompting: each text attends to a video's patches before scoring (arXiv 2208.02816, §3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from openxclip.config import XCLIPConfig
from openxclip.model.layers import Activation, attend, initialize_truncated_normal


class CrossAttention(nn.Module):
    """Attention of texts to patches, without biases on queries, keys and values."""

    module_order = ("k_proj", "v_proj", "q_proj", "proj", "proj_drop")

    def __init__(self, width: int, num_heads: int, *, attention_dropout: float, projection_dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_dropout = attention_dropout
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.proj = nn.Linear(width, width)
        self.proj_drop = nn.Dropout(projection_dropout)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return (B, K, E) for texts (B, K, E) as queries and patches (B, P, E) as both keys and values."""
        out_BKE, _ = attend(
            self.q_proj(queries),
            self.k_proj(keys),
            self.v_proj(values),
            self.num_heads,
            dropout=self.attention_dropout if self.training else 0.0,
        )
        out: Tensor = self.proj_drop(self.proj(out_BKE))
        return out


class PromptDecoderLayer(nn.Module):
    """Cross-attention and MLP, both pre-norm and residual (§3.3, eq. 12 and 13)."""

    def __init__(self, config: XCLIPConfig) -> None:
        super().__init__()
        width, eps = config.projection_dim, config.text_config.layer_norm_eps
        self.cross_attn = CrossAttention(
            width,
            config.prompt_num_attention_heads,
            attention_dropout=config.prompt_attention_dropout,
            projection_dropout=config.prompt_projection_dropout,
        )
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.norm3 = nn.LayerNorm(width, eps=eps)  # the authors' numbering, as in checkpoints
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width),
            Activation(config.prompt_hidden_act),
            nn.Dropout(config.prompt_attention_dropout),
            nn.Linear(4 * width, width),
        )

    def forward(self, hidden_states: Tensor, visual: Tensor) -> Tensor:
        """Return (B, K, E) for texts (B, K, E) and patches (B, P, E)."""
        text_BKE = hidden_states + self.cross_attn(self.norm1(hidden_states), visual, visual)
        out: Tensor = text_BKE + self.mlp(self.norm3(text_BKE))
        return out


class VideoSpecificPrompt(nn.Module):
    """The prompt of each text for each video: `alpha * decoder(text, patches)`."""

    def __init__(self, config: XCLIPConfig) -> None:
        super().__init__()
        width = config.projection_dim
        self.layernorm = nn.LayerNorm(width, eps=config.vision_config.layer_norm_eps)
        self.decoder = nn.ModuleList(PromptDecoderLayer(config) for _ in range(config.prompt_layers))
        self.alpha = nn.Parameter(torch.full((width,), config.prompt_alpha))
        initialize_truncated_normal(self.decoder)

    def forward(self, text: Tensor, visual: Tensor) -> Tensor:
        """Return the prompts (B, K, E) to add to texts (B, K, E), from patches (B, P, E)."""
        visual = self.layernorm(visual)
        for layer in self.decoder:
            text = layer(text, visual)
        return self.alpha * text
