"""The text tower: CLIP's causal transformer, pooled at the end-of-text token (arXiv 2103.00020, §2.4)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from openxclip.config import XCLIPTextConfig
from openxclip.model.layers import Block, Encoder, causal_mask, initialize_like_clip
from openxclip.model.outputs import TransformerOutput, output_or_tuple
from openxclip.model.pretrained import XCLIPPreTrainedModel


class TextEmbeddings(nn.Module):
    """Token embeddings plus learned positions."""

    def __init__(self, config: XCLIPTextConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        nn.init.normal_(self.token_embedding.weight, std=0.02 * config.initializer_factor)
        nn.init.normal_(self.position_embedding.weight, std=0.01 * config.initializer_factor)

    @property
    def position_ids(self) -> Tensor:
        """Position numbers 0, 1, 2, …, (1, context)."""
        return torch.arange(self.position_embedding.num_embeddings, device=self.position_embedding.weight.device)[None]

    def forward(
        self,
        input_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        """Return (K, L, D) for token ids (K, L), or for `inputs_embeds` (K, L, D) instead of token embeddings."""
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("pass input_ids or inputs_embeds.")
            inputs_embeds = self.token_embedding(input_ids)
        length, context = inputs_embeds.shape[-2], self.position_embedding.num_embeddings
        if length > context:
            raise ValueError(
                f"input_ids has {length} tokens per text, but the model's context is {context}: truncate the texts "
                f"(truncation=True, max_length={context})."
            )
        if position_ids is None:
            position_KLD = self.position_embedding.weight[:length]
        else:
            position_KLD = self.position_embedding(position_ids)
        embedded: Tensor = inputs_embeds + position_KLD
        return embedded


class XCLIPTextModel(XCLIPPreTrainedModel):
    """Encode texts into one state per token and one per text, before the projection to the joint width.

    Examples:
        >>> from openxclip import CLIPTokenizer, XCLIPTextModel
        >>> tower = XCLIPTextModel.from_pretrained("mini")
        >>> outputs = tower(**CLIPTokenizer()(["a cat runs"], return_tensors="pt"))
        >>> outputs.last_hidden_state.shape, outputs.pooler_output.shape
        (torch.Size([1, 5, 192]), torch.Size([1, 192]))
    """

    config_class = XCLIPTextConfig
    weights_prefix = "text_model."
    config: XCLIPTextConfig

    def __init__(self, config: XCLIPTextConfig) -> None:
        super().__init__(config)
        config = self.config
        width, inner_width, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
        depth = config.num_hidden_layers
        self.embeddings = TextEmbeddings(config)
        self.encoder = Encoder((Block(config, width, inner_width, heads) for _ in range(depth)), config)
        self.final_layer_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        initialize_like_clip(self.encoder.layers, width, depth, config.initializer_factor)
        self.post_init()

    @property
    def text_model(self) -> XCLIPTextModel:
        """The tower itself: in transformers 4 its parts are in an attribute of this name."""
        return self

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> TransformerOutput | tuple[Any, ...]:
        """Encode texts.

        Args:
            input_ids: (K, L) token ids, L up to the context (77); the highest id of a text marks its end. Several
                leading dimensions are flattened into K.
            attention_mask: (K, L), 0 for tokens that are not attended to. Padding after the end of a text never changes
                its `pooler_output`, because attention is causal.
            position_ids: (K, L) or (1, L); default 0, 1, 2, …
            output_attentions, output_hidden_states: also return every block's attentions or hidden states.
            return_dict: False returns a tuple.

        Returns:
            `last_hidden_state` (K, L, D) and `pooler_output` (K, D).
        """
        input_ids_KL = input_ids.reshape(-1, input_ids.shape[-1])
        mask = None
        if attention_mask is not None:
            mask_KL = attention_mask.reshape(-1, attention_mask.shape[-1]).bool()
            if mask_KL.shape != input_ids_KL.shape:
                raise ValueError(
                    f"attention_mask of {tuple(attention_mask.shape)} doesn't fit input_ids of "
                    f"{tuple(input_ids.shape)}."
                )
            mask = causal_mask(input_ids_KL.shape[1], input_ids.device) & mask_KL[:, None, None, :]  # (K, 1, L, L)
        encoded = self.encoder(
            self.embeddings(input_ids=input_ids_KL, position_ids=position_ids),
            mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            is_causal=mask is None,
        )
        last_KLD = self.final_layer_norm(encoded.last_hidden_state)
        pooled_KD = last_KLD[torch.arange(last_KLD.shape[0], device=last_KLD.device), input_ids_KL.argmax(-1)]
        output = TransformerOutput(last_KLD, pooled_KD, encoded.hidden_states, encoded.attentions)
        return output_or_tuple(self.config, output, return_dict)
