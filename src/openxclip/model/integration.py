"""MIT, the multi-frame integration transformer: where the order of frames comes in (arXiv 2208.02816, §3.2, eq. 9)."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openxclip.config import XCLIPVisionConfig
from openxclip.model.layers import Block, Encoder, start_truncated
from openxclip.model.outputs import TransformerOutput, asked, returned


class MultiframeIntegrationTransformer(nn.Module):
    """Temporal positions, pre-norm blocks, a residual around the whole, the mean over frames.

    Any number of frames is taken: where it differs from the T that the positions were trained for, they are
    interpolated linearly along time, each position standing for the middle of its T-th of the video
    (`align_corners=False`), so that 8 frames and 16 frames of the same clip get positions of the same moments. The
    first time, a warning says so.
    """

    def __init__(self, config: XCLIPVisionConfig) -> None:
        super().__init__()
        self.config = config
        width = config.mit_hidden_size
        self.position_embedding = nn.Parameter(torch.empty(1, config.num_frames, width))
        self.encoder = Encoder(
            (
                Block(
                    width,
                    config.mit_intermediate_size,
                    config.mit_num_attention_heads,
                    hidden_act=config.hidden_act,
                    eps=config.layer_norm_eps,
                    dropout=config.attention_dropout,
                )
                for _ in range(config.mit_num_hidden_layers)
            ),
            config,
        )
        nn.init.trunc_normal_(self.position_embedding, std=0.02)
        start_truncated(self.encoder)
        self._said_interpolated = False

    def positions(self, num_frames: int) -> Tensor:
        """(1, num_frames, E)."""
        trained = self.position_embedding.shape[1]
        if num_frames == trained:
            return self.position_embedding
        if not torch.compiler.is_compiling() and not self._said_interpolated:
            self._said_interpolated = True
            warnings.warn(
                f"the model's temporal positions are for {trained} frames; for {num_frames} they are interpolated "
                "linearly (said once).",
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
            output_attentions, output_hidden_states: also return every block's.
            return_dict: False for a tuple.

        Returns:
            `last_hidden_state` (B, T, E), `pooler_output` (B, E): their mean over T.
        """
        encoded = self.encoder(
            hidden_states + self.positions(hidden_states.shape[1]),
            output_attentions=asked(self.config, "output_attentions", output_attentions),
            output_hidden_states=asked(self.config, "output_hidden_states", output_hidden_states),
            return_dict=True,
        )
        last_BTE = encoded.last_hidden_state + hidden_states  # the residual is without positions
        output = TransformerOutput(last_BTE, last_BTE.mean(dim=1), encoded.hidden_states, encoded.attentions)
        return returned(self.config, output, return_dict)
