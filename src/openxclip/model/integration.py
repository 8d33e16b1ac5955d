"""MIT, the multi-frame integration transformer, which models the order of frames (arXiv 2208.02816, §3.2, eq. 9)."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openxclip.config import XCLIPVisionConfig
from openxclip.model.layers import Block, Encoder, initialize_truncated_normal
from openxclip.model.outputs import TransformerOutput, output_or_tuple


class MultiframeIntegrationTransformer(nn.Module):
    """Add temporal positions, apply pre-norm blocks and a residual around them, and average over frames.

    Any number of frames is accepted. If it differs from the T for which the positions were trained, they are
    interpolated linearly along time, with a warning the first time. Each position belongs to the middle of one of T
    equal parts of the clip (`align_corners=False`), so that 8 and 16 frames of a clip get positions for the same times.
    """

    def __init__(self, config: XCLIPVisionConfig) -> None:
        super().__init__()
        self.config = config
        width, inner_width, heads = config.mit_hidden_size, config.mit_intermediate_size, config.mit_num_attention_heads
        depth = config.mit_num_hidden_layers
        self.position_embedding = nn.Parameter(torch.empty(1, config.num_frames, width))
        self.encoder = Encoder((Block(config, width, inner_width, heads) for _ in range(depth)), config)
        nn.init.trunc_normal_(self.position_embedding, std=0.02)
        initialize_truncated_normal(self.encoder)
        self._has_warned = False

    def positions(self, num_frames: int) -> Tensor:
        """Return the temporal positions, (1, num_frames, E)."""
        trained = self.position_embedding.shape[1]
        if num_frames == trained:
            return self.position_embedding
        if not torch.compiler.is_compiling() and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"the model's temporal positions are for {trained} frames; for {num_frames} they are interpolated "
                "linearly (this warning is shown once).",
                stacklevel=2,
            )
        return F.interpolate(
            self.position_embedding.transpose(1, 2), size=num_frames, mode="linear", align_corners=False
        ).transpose(1, 2)

    def forward(
        self,
        hidden_states: Tensor,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> TransformerOutput | tuple[Any, ...]:
        """Integrate the frames of videos.

        Args:
            hidden_states: (B, T, E) features of the frames.
            output_attentions, output_hidden_states: also return every block's attentions or hidden states.
            return_dict: False returns a tuple.

        Returns:
            `last_hidden_state` (B, T, E), and `pooler_output` (B, E), its mean over T.
        """
        encoded = self.encoder(
            hidden_states + self.positions(hidden_states.shape[1]),
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        last_BTE = encoded.last_hidden_state + hidden_states  # the residual has no positions
        output = TransformerOutput(last_BTE, last_BTE.mean(dim=1), encoded.hidden_states, encoded.attentions)
        return output_or_tuple(self.config, output, return_dict)
