"""The video tower: CLIP's vision transformer with a cross-frame message in every block (arXiv 2208.02816, §3.2).

In each block, a linear layer makes a message token from each frame's class token. The messages of a video's frames
attend to each other (cross-frame fusion attention). Then each frame attends to its own tokens and its message
(intra-frame diffusion attention), and the message is discarded.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openxclip.config import XCLIPVisionConfig
from openxclip.model.layers import MLP, Attention, DropPath, Encoder, initialize_like_clip, is_bare
from openxclip.model.outputs import TransformerOutput, output_or_tuple
from openxclip.model.pretrained import XCLIPPreTrainedModel


class VisionEmbeddings(nn.Module):
    """A class token, patches as tokens, and learned positions."""

    def __init__(self, config: XCLIPVisionConfig) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        self.config = config
        self.embed_dim, self.image_size, self.patch_size = width, config.image_size, patch
        self.grid_size = config.image_size // patch
        self.num_patches, self.num_positions = self.grid_size**2, self.grid_size**2 + 1
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.patch_embedding = nn.Conv2d(config.num_channels, width, kernel_size=patch, stride=patch, bias=False)
        self.position_embedding = nn.Embedding(self.num_positions, width)
        nn.init.normal_(self.class_embedding, std=width**-0.5 * config.initializer_factor)
        nn.init.normal_(self.patch_embedding.weight, std=config.initializer_range * config.initializer_factor)
        nn.init.normal_(self.position_embedding.weight, std=width**-0.5 * config.initializer_factor)

    @property
    def position_ids(self) -> Tensor:
        """Position numbers 0, 1, 2, …, (1, 1 + P)."""
        return torch.arange(self.num_positions, device=self.position_embedding.weight.device)[None]

    def forward(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Tensor:
        """Return (N, 1 + P, D) for frames (N, C, H, W)."""
        pixels_NCHW = pixel_values.to(self.patch_embedding.weight.dtype)
        positions = self.positions(*pixels_NCHW.shape[-2:], interpolate=interpolate_pos_encoding)
        patches_NPD = self._embed_patches(pixels_NCHW)
        class_N1D = self.class_embedding.expand(pixels_NCHW.shape[0], 1, -1)
        return torch.cat([class_N1D, patches_NPD], dim=1) + positions

    def positions(self, height: int, width: int, *, interpolate: bool) -> Tensor:
        """Return the positions (1 + P, D) for frames of that size.

        Raises:
            ValueError: the size isn't the model's and `interpolate` is False, or it is smaller than one patch.
        """
        expected = self.image_size
        if (height, width) == (expected, expected):
            return self.position_embedding.weight
        if interpolate:
            return self._resized_positions(height // self.patch_size, width // self.patch_size)
        raise ValueError(
            f"pixel_values are {height}x{width} but the model's image_size is {expected}x{expected}: resize them, "
            "or pass interpolate_pos_encoding=True."
        )

    def _embed_patches(self, pixels_NCHW: Tensor) -> Tensor:
        """Return patches as tokens (N, P, D). A linear layer gives the convolution's result faster."""
        convolution = self.patch_embedding
        if not is_bare(convolution, nn.Conv2d):
            wrapped: Tensor = convolution(pixels_NCHW)
            return wrapped.flatten(2).transpose(1, 2)
        return F.linear(cut_into_patches(pixels_NCHW, self.patch_size), convolution.weight.flatten(1))

    def _resized_positions(self, rows: int, columns: int) -> Tensor:
        """Return the positions resized bicubically to a grid of rows x columns: (1 + rows * columns, D)."""
        if rows < 1 or columns < 1:
            raise ValueError(f"pixel_values are smaller than one patch of {self.patch_size}x{self.patch_size}.")
        weight = self.position_embedding.weight
        grid_1DGG = weight[1:].unflatten(0, (self.grid_size, self.grid_size)).permute(2, 0, 1)[None]
        resized = F.interpolate(grid_1DGG, size=(rows, columns), mode="bicubic", align_corners=False)
        return torch.cat([weight[:1], resized[0].flatten(1).T])


def cut_into_patches(pixels_NCHW: Tensor, patch: int) -> Tensor:
    """Return patches (N, P, C * patch * patch), row by row, without incomplete ones at the right and bottom."""
    rows, columns = pixels_NCHW.shape[-2] // patch, pixels_NCHW.shape[-1] // patch
    cropped = pixels_NCHW[..., : rows * patch, : columns * patch]
    grid = cropped.unflatten(3, (columns, patch)).unflatten(2, (rows, patch))  # (N, C, rows, patch, columns, patch)
    patches: Tensor = grid.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
    return patches


class CrossFrameBlock(nn.Module):
    """One block of the cross-frame communication transformer (§3.2, eq. 4 to 8)."""

    module_order = (
        "self_attn",
        "layer_norm1",
        "mlp",
        "layer_norm2",
        "message_fc",
        "message_ln",
        "message_attn",
        "drop_path",
    )

    def __init__(self, config: XCLIPVisionConfig, drop_path_rate: float) -> None:
        super().__init__()
        width, heads, eps = config.hidden_size, config.num_attention_heads, config.layer_norm_eps
        self.embed_dim, self.num_frames = width, config.num_frames
        self.message_fc = nn.Linear(width, width)
        self.message_ln = nn.LayerNorm(width, eps=eps)
        self.message_attn = Attention(width, heads, config.attention_dropout)
        self.layer_norm1 = nn.LayerNorm(width, eps=eps)
        self.self_attn = Attention(width, heads, config.attention_dropout)
        self.layer_norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = MLP(width, config.intermediate_size, config.hidden_act)
        self.drop_path = DropPath(drop_path_rate)
        self._initialize_messages()

    def _initialize_messages(self) -> None:
        # message_fc keeps nn.Linear's initialisation; message_attn gets nn.MultiheadAttention's: Xavier over the
        # stacked (3 D, D) input projection, and zero biases.
        attention = self.message_attn
        bound = (6 / (4 * self.message_fc.in_features)) ** 0.5
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            nn.init.uniform_(projection.weight, -bound, bound)
            nn.init.zeros_(projection.bias)
        nn.init.zeros_(attention.out_proj.bias)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        causal_attention_mask: Tensor | None = None,
        output_attentions: bool | None = False,
        *,
        num_frames: int | None = None,
    ) -> tuple[Tensor, ...]:
        """Let each frame attend to its tokens and its message.

        Args:
            hidden_states: (B * T, 1 + P, D).
            attention_mask, causal_attention_mask: see `Attention.forward`. There are 1 + P + 1 tokens; the last
                token is the message.
            output_attentions: also return the weights.
            num_frames: T; default `config.num_frames`.

        Returns:
            A tuple of (B * T, 1 + P, D), and with `output_attentions` the (B * T, H, 1 + P + 1, 1 + P + 1) weights.
        """
        x_NLD, num_frames = hidden_states, self.num_frames if num_frames is None else num_frames
        num_videos = x_NLD.shape[0] // num_frames
        message_BTD = self.message_fc(x_NLD[:, 0]).unflatten(0, (num_videos, num_frames))
        fused_BTD, _ = self.message_attn(self.message_ln(message_BTD))
        message_BTD = message_BTD + self.drop_path(fused_BTD, num_videos)

        # The message is a query too, although its result is discarded: hooks then see one call with all tokens, and
        # attention maps have a row for the message. It costs one token in 51 and saves a copy.
        tokens_NSD = self.layer_norm1(torch.cat([x_NLD, message_BTD.flatten(0, 1)[:, None]], dim=1))
        attended, weights = self.self_attn(tokens_NSD, attention_mask, causal_attention_mask, output_attentions)
        x_NLD = x_NLD + self.drop_path(attended[:, :-1], num_videos)
        x_NLD = x_NLD + self.drop_path(self.mlp(self.layer_norm2(x_NLD)), num_videos)
        return (x_NLD,) if weights is None else (x_NLD, weights)


class XCLIPVisionModel(XCLIPPreTrainedModel):
    """Encode frames into one state per patch and one per frame, before the projection to the joint width.

    Examples:
        >>> import torch
        >>> from openxclip import XCLIPVisionModel
        >>> tower = XCLIPVisionModel.from_pretrained("mini")
        >>> outputs = tower(torch.zeros(1, 8, 3, 64, 64))
        >>> outputs.last_hidden_state.shape, outputs.pooler_output.shape
        (torch.Size([8, 65, 192]), torch.Size([8, 192]))
    """

    config_class = XCLIPVisionConfig
    weights_prefix = "vision_model."
    module_order = ("embeddings", "encoder", "post_layernorm", "pre_layernorm")
    main_input_name = "pixel_values"
    config: XCLIPVisionConfig

    def __init__(self, config: XCLIPVisionConfig) -> None:
        super().__init__(config)
        config = self.config
        width, depth = config.hidden_size, config.num_hidden_layers
        self.embeddings = VisionEmbeddings(config)
        self.pre_layernorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.encoder = Encoder(
            (CrossFrameBlock(config, config.drop_path_rate * i / max(depth - 1, 1)) for i in range(depth)), config
        )
        self.post_layernorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        initialize_like_clip(self.encoder.layers, width, depth, config.initializer_factor)
        self.post_init()

    @property
    def vision_model(self) -> XCLIPVisionModel:
        """The tower itself: in transformers 4 its parts are in an attribute of this name."""
        return self

    def split_frames(self, pixel_values: Tensor, num_frames: int | None = None) -> tuple[Tensor, int]:
        """Return the frames of a batch of videos, and the number of frames of a video.

        Args:
            pixel_values: (B, T, C, H, W), or (B * T, C, H, W).
            num_frames: T of a 4-D `pixel_values`; default `config.num_frames`.

        Returns:
            (B * T, C, H, W), and T.

        Raises:
            ValueError: the frames can't be divided into videos of T frames.
        """
        if pixel_values.ndim == 5:
            if num_frames is not None and num_frames != pixel_values.shape[1]:
                raise ValueError(
                    f"num_frames={num_frames}, but pixel_values of {tuple(pixel_values.shape)} "
                    f"has {pixel_values.shape[1]} frames per video."
                )
            return pixel_values.flatten(0, 1), pixel_values.shape[1]
        if pixel_values.ndim != 4:
            raise ValueError(
                "pixel_values must be (videos, frames, channels, height, width) or (videos * frames, channels, height, "
                f"width), got {tuple(pixel_values.shape)}."
            )
        frames = self.config.num_frames if num_frames is None else num_frames
        if frames < 1:
            raise ValueError(f"num_frames={frames}: a video has at least 1 frame.")
        if pixel_values.shape[0] % frames:
            raise ValueError(
                f"pixel_values has {pixel_values.shape[0]} frames, not a multiple of num_frames={frames}: pass "
                "(videos, frames, channels, height, width), or another num_frames=."
            )
        return pixel_values, frames

    def forward(
        self,
        pixel_values: Tensor,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        interpolate_pos_encoding: bool = False,
        return_dict: bool | None = None,
        *,
        num_frames: int | None = None,
    ) -> TransformerOutput | tuple[Any, ...]:
        """Encode the frames of videos, which exchange messages with the other frames of their video.

        Args:
            pixel_values: (B, T, C, H, W), any T; or (B * T, C, H, W), with `num_frames` for T.
            output_attentions, output_hidden_states: also return every block's attentions or hidden states.
            interpolate_pos_encoding: accept frames of any size of at least one patch, by resizing the position grid.
            return_dict: False returns a tuple.
            num_frames: T of a 4-D `pixel_values`; default `config.num_frames`.

        Returns:
            `last_hidden_state` (B * T, 1 + P, D) and `pooler_output` (B * T, D).
        """
        pixels_NCHW, num_frames = self.split_frames(pixel_values, num_frames)
        embedded_NLD = self.embeddings(pixels_NCHW, interpolate_pos_encoding=interpolate_pos_encoding)
        encoded = self.encoder(
            self.pre_layernorm(embedded_NLD),
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            num_frames=num_frames,
        )
        last_NLD = encoded.last_hidden_state
        pooled_ND = self.post_layernorm(last_NLD[:, 0])
        output = TransformerOutput(last_NLD, pooled_ND, encoded.hidden_states, encoded.attentions)
        return output_or_tuple(self.config, output, return_dict)
