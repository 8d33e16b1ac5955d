"""X-CLIP: both towers, MIT and the prompts meet (arXiv 2208.02816, §3.1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openxclip.checkpoints import read_checkpoint
from openxclip.checkpoints.names import is_of_clip
from openxclip.checkpoints.shapes import UnclearError, start_from_clip
from openxclip.config import XCLIPConfig
from openxclip.errors import CheckpointError
from openxclip.model.devices import as_device, as_dtype
from openxclip.model.features import with_attributes
from openxclip.model.integration import MultiframeIntegrationTransformer
from openxclip.model.layers import is_traced
from openxclip.model.losses import class_loss, contrastive_loss
from openxclip.model.outputs import TransformerOutput, VideoFeatures, XCLIPOutput, asked, returned
from openxclip.model.pretrained import XCLIPPreTrainedModel
from openxclip.model.prompting import VideoSpecificPrompt
from openxclip.model.text import XCLIPTextModel
from openxclip.model.vision import XCLIPVisionModel


class EncodedVideo(NamedTuple):
    """A video's features, and the outputs of the parts that made them."""

    features: VideoFeatures
    vision_output: TransformerOutput
    mit_output: TransformerOutput


class XCLIPModel(XCLIPPreTrainedModel):
    """Scores videos against texts.

    Names, arguments, outputs and state dict are those of transformers' XCLIPModel; what is beyond it is keyword-only.
    """

    config_class = XCLIPConfig
    config: XCLIPConfig
    module_order = (
        "text_model",
        "vision_model",
        "visual_projection",
        "text_projection",
        "prompts_visual_layernorm",
        "mit",
        "prompts_generator",
    )

    def __init__(self, config: XCLIPConfig) -> None:
        super().__init__(config)
        config = self.config
        text, vision, width, factor = (
            config.text_config,
            config.vision_config,
            config.projection_dim,
            config.initializer_factor,
        )
        self.projection_dim = width
        self.text_embed_dim, self.vision_embed_dim = text.hidden_size, vision.hidden_size
        self.text_model = XCLIPTextModel(text)
        self.vision_model = XCLIPVisionModel(vision)
        self.text_projection = nn.Linear(text.hidden_size, width, bias=False)
        self.visual_projection = nn.Linear(vision.hidden_size, width, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init_value))
        self.mit = MultiframeIntegrationTransformer(vision)
        self.prompts_visual_layernorm = nn.LayerNorm(vision.hidden_size, eps=vision.layer_norm_eps)
        self.prompts_visual_projection = nn.Parameter(torch.empty(vision.hidden_size, width))
        self.prompts_generator = VideoSpecificPrompt(config)
        nn.init.normal_(self.text_projection.weight, std=text.hidden_size**-0.5 * factor)
        nn.init.normal_(self.visual_projection.weight, std=vision.hidden_size**-0.5 * factor)
        nn.init.normal_(self.prompts_visual_projection)
        self.post_init()

    @classmethod
    @torch.inference_mode(False)  # parameters made under it could never be trained
    def from_clip(
        cls,
        name_or_path: str | Path,
        *,
        num_frames: int = 8,
        hidden_act: str | None = None,
        vision_heads: int | None = None,
        text_heads: int | None = None,
        seed: int | None = None,
        dtype: torch.dtype | str | None = None,
        device: torch.device | str | None = None,
        **hub_options: Any,
    ) -> XCLIPModel:
        """An X-CLIP to be trained: its towers are a CLIP's, and messages, MIT and prompts start at random (§4.1).

        Args:
            name_or_path: of an OpenAI, open_clip or Hugging Face CLIP: a file, a folder or a hub id.
            num_frames: T of the clips that it will be trained with.
            hidden_act, vision_heads, text_heads: see `openxclip.checkpoints.read_checkpoint`.
            seed: of the random start; None draws from torch's generator, which a seed leaves alone.
            dtype: of the weights, default float32.
            device: where to.
            **hub_options: see `openxclip.hub.resolve_folder`.

        Returns:
            The model in eval mode, as from `from_pretrained`.

        Raises:
            CheckpointError: nothing there, or it isn't a whole CLIP with a vision transformer.
        """
        found = read_checkpoint(
            name_or_path, hidden_act=hidden_act, vision_heads=vision_heads, text_heads=text_heads, **hub_options
        )
        if found.kind != "clip":
            raise CheckpointError(
                f"{name_or_path}: this is an X-CLIP already: load it with XCLIPModel.from_pretrained."
            )
        target_dtype, target_device = as_dtype(dtype), as_device(device)
        try:
            config = XCLIPConfig.from_dict(start_from_clip(found.config, num_frames=num_frames))
        except UnclearError as error:
            raise CheckpointError(f"{found.source}: {error}.") from error
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            model = cls(config)
        fresh = {name: tensor for name, tensor in model.state_dict().items() if not is_of_clip(name)}
        state = model._fit({**fresh, **found.tensors}, found.source).state
        model.load_state_dict(state)
        return model.to(device=target_device, dtype=target_dtype).eval()

    def get_text_features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Tensor:
        """Text features before any prompt, not normalised; `forward(text_features=…)` takes them.

        Args:
            input_ids: (K, L) token ids; or (B, K, L), a set of texts for each video; (L,) is one text.
            attention_mask, position_ids: see `XCLIPTextModel.forward`.
            output_attentions, output_hidden_states: also keep every block's, for the attributes of the features.
            return_dict: taken for transformers' sake; it changes nothing.

        Returns:
            (K, E), or (B, K, E); its attribute `pooler_output` is the same, see `with_attributes`.
        """
        shown = self._shown(output_attentions, output_hidden_states)
        if any(shown.values()):
            return with_attributes(*self._encode_text(input_ids, attention_mask, position_ids, **shown))
        trimmed = self._trimmed(input_ids, attention_mask, position_ids)
        return with_attributes(self._encode_text(*trimmed)[0], None)

    def get_video_features(
        self,
        pixel_values: Tensor,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        *,
        interpolate_pos_encoding: bool = False,
        num_frames: int | None = None,
    ) -> Tensor:
        """Video features after MIT, not normalised. To score texts later use `encode_video`: prompts need its patches.

        Args:
            pixel_values, interpolate_pos_encoding, num_frames: see `forward`.
            output_attentions, output_hidden_states: also keep every block's, for the attributes of the features.
            return_dict: taken for transformers' sake; it changes nothing.

        Returns:
            (B, E); its attribute `pooler_output` is the same, see `with_attributes`.
        """
        shown = self._shown(output_attentions, output_hidden_states)
        vision_output, mit_output = self._integrate(pixel_values, interpolate_pos_encoding, num_frames, **shown)
        return with_attributes(mit_output.pooler_output, vision_output if any(shown.values()) else None)

    def encode_video(
        self, pixel_values: Tensor, *, interpolate_pos_encoding: bool = False, num_frames: int | None = None
    ) -> VideoFeatures:
        """All that must be kept of a video to score it against any texts later with `forward(video_features=…)`.

        Args:
            pixel_values, interpolate_pos_encoding, num_frames: see `forward`.
        """
        return self._encode_video(pixel_values, interpolate_pos_encoding, num_frames).features

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        return_loss: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        interpolate_pos_encoding: bool = False,
        return_dict: bool | None = None,
        *,
        labels: Tensor | None = None,
        num_frames: int | None = None,
        text_features: Tensor | None = None,
        video_features: VideoFeatures | tuple[Tensor, Tensor] | None = None,
    ) -> XCLIPOutput | tuple[Any, ...]:
        """Score every video against every text, or encode only the side that is given.

        Args:
            input_ids: (K, L) token ids; or (B, K, L), a set of texts for each video.
            pixel_values: (B, T, C, H, W), any T (see `MultiframeIntegrationTransformer` for T that differs from the
                config's); or (B * T, C, H, W), where T is `num_frames`.
            attention_mask, position_ids: see `XCLIPTextModel.forward`.
            return_loss: also the contrastive loss of CLIP, for K = B texts of which text i belongs to video i.
            output_attentions, output_hidden_states: also every block's, in the outputs of the parts.
            interpolate_pos_encoding: take frames of another size than `config.vision_config.image_size`.
            return_dict: False for a tuple of the fields that are there.
            labels: the class of each video as (B,) indices, or (B, K) soft targets: the loss is their cross-entropy
                with `logits_per_video`, whatever `return_loss` says.
            num_frames: T of a 4-D `pixel_values`; default `config.vision_config.num_frames`.
            text_features: instead of `input_ids`: (K, E) or (B, K, E) from `get_text_features`.
            video_features: instead of `pixel_values`: what `encode_video` returned.

        Raises:
            ValueError: nothing to encode, a side given twice, or shapes that don't fit, which are named.
        """
        for name, given in (("input_ids", input_ids), ("pixel_values", pixel_values)):
            if given is not None and not isinstance(given, Tensor):
                raise TypeError(f'{name} is a {type(given).__name__}, not a tensor: pass return_tensors="pt".')
        _only_one(input_ids=input_ids, text_features=text_features)
        _only_one(pixel_values=pixel_values, video_features=video_features)
        if pixel_values is not None:
            self.vision_model.split_frames(pixel_values, num_frames)  # a wrong shape is refused before anything is done
        text_output = vision_output = mit_output = None
        shown = self._shown(output_attentions, output_hidden_states)
        if input_ids is not None:
            text_features, text_output = self._encode_text(input_ids, attention_mask, position_ids, **shown)
        if pixel_values is not None:
            video_features, vision_output, mit_output = self._encode_video(
                pixel_values, interpolate_pos_encoding, num_frames, **shown
            )
        found: dict[str, Tensor]
        if text_features is not None and video_features is not None:
            found = self._score(text_features, *self._checked(video_features), labels, return_loss)
        elif labels is not None or return_loss:
            raise ValueError("a loss needs both texts and videos.")
        elif text_features is not None:
            found = {"text_embeds": F.normalize(text_features, dim=-1)}
        elif video_features is not None:
            found = {"video_embeds": F.normalize(self._checked(video_features).pooled, dim=-1)}
        else:
            raise ValueError("pass input_ids or text_features, pixel_values or video_features, or one of each.")
        output = XCLIPOutput(
            **found, text_model_output=text_output, vision_model_output=vision_output, mit_output=mit_output
        )
        return returned(self.config, output, return_dict)

    def _shown(self, output_attentions: bool | None, output_hidden_states: bool | None) -> dict[str, bool]:
        return {
            "output_attentions": asked(self.config, "output_attentions", output_attentions),
            "output_hidden_states": asked(self.config, "output_hidden_states", output_hidden_states),
        }

    def _encode_text(
        self, input_ids: Tensor, attention_mask: Tensor | None, position_ids: Tensor | None, **shown: bool
    ) -> tuple[Tensor, TransformerOutput | None]:
        input_ids = torch.atleast_2d(input_ids)
        encoded = self.text_model(input_ids, attention_mask, position_ids, return_dict=True, **shown)
        features = self.text_projection(encoded.pooler_output)
        return features.unflatten(0, input_ids.shape[:-1]), encoded

    def _trimmed(
        self, input_ids: Tensor, attention_mask: Tensor | None, position_ids: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Without what lies after the longest text's end, which changes no text's features: attention is causal."""
        length = input_ids.shape[-1]
        fits = 0 < length <= self.config.text_config.max_position_embeddings and input_ids.numel() > 0
        alike = all(t is None or t.shape[-1] == length for t in (attention_mask, position_ids))
        if is_traced() or input_ids.is_meta or not (fits and alike):  # what doesn't fit is refused further on
            return input_ids, attention_mask, position_ids
        longest = int(input_ids.argmax(-1).max()) + 1
        return (
            input_ids[..., :longest],
            None if attention_mask is None else attention_mask[..., :longest],
            None if position_ids is None else position_ids[..., :longest],
        )

    def _integrate(
        self, pixel_values: Tensor, interpolate_pos_encoding: bool, num_frames: int | None, **shown: bool
    ) -> tuple[TransformerOutput, TransformerOutput]:
        pixels_NCHW, num_frames = self.vision_model.split_frames(pixel_values, num_frames)
        vision_output = self.vision_model(
            pixels_NCHW,
            interpolate_pos_encoding=interpolate_pos_encoding,
            num_frames=num_frames,
            return_dict=True,
            **shown,
        )
        frames_BTE = self.visual_projection(vision_output.pooler_output).unflatten(0, (-1, num_frames))
        return vision_output, self.mit(frames_BTE, return_dict=True, **shown)

    def _encode_video(
        self, pixel_values: Tensor, interpolate_pos_encoding: bool, num_frames: int | None, **shown: bool
    ) -> EncodedVideo:
        vision_output, mit_output = self._integrate(pixel_values, interpolate_pos_encoding, num_frames, **shown)
        patches_NPD = self.prompts_visual_layernorm(vision_output.last_hidden_state[:, 1:])
        num_videos = mit_output.pooler_output.shape[0]
        # the mean over frames goes first: T times less to project
        patches_BPE = patches_NPD.unflatten(0, (num_videos, -1)).mean(dim=1) @ self.prompts_visual_projection
        return EncodedVideo(VideoFeatures(mit_output.pooler_output, patches_BPE), vision_output, mit_output)

    def _score(
        self,
        text: Tensor,
        video_BE: Tensor,
        patches_BPE: Tensor,
        labels: Tensor | None,
        return_loss: bool | None,
    ) -> dict[str, Tensor]:
        """The fields that need both sides."""
        text_BKE = self._texts_for_each_video(text, video_BE.shape[0])
        text_BKE = F.normalize(text_BKE + self._prompts(text_BKE, patches_BPE), dim=-1)
        video_BE = F.normalize(video_BE, dim=-1)
        logits_BK = self.logit_scale.exp() * torch.einsum("be,bke->bk", video_BE, text_BKE)
        found = {
            "logits_per_video": logits_BK,
            "logits_per_text": logits_BK.T,
            "text_embeds": text_BKE,
            "video_embeds": video_BE,
        }
        if labels is not None:
            found["loss"] = class_loss(logits_BK, labels)
        elif return_loss:
            if text.ndim == 3:
                raise ValueError(
                    "return_loss pairs text i with video i of one shared set of texts; with a set for each video, "
                    "pass labels=."
                )
            found["loss"] = contrastive_loss(logits_BK)
        return found

    def _prompts(self, text_BKE: Tensor, patches_BPE: Tensor) -> Tensor:
        prompts: Tensor = self.prompts_generator(text_BKE, patches_BPE)
        return prompts

    def _checked(self, features: VideoFeatures | tuple[Tensor, Tensor]) -> VideoFeatures:
        if isinstance(features, Tensor) or len(features) != 2:
            raise ValueError(
                "video_features must be what encode_video returns, (pooled, patches): the prompts need the patches, "
                "which get_video_features doesn't give."
            )
        width = self.config.projection_dim
        pooled, patches = features
        videos = pooled.shape[:1]
        if pooled.shape != (*videos, width) or patches.ndim != 3 or patches[:, 0].shape != pooled.shape:
            raise ValueError(
                f"video_features of {tuple(pooled.shape)} and {tuple(patches.shape)}: must be (videos, {width}) and "
                f"(videos, patches, {width})."
            )
        return VideoFeatures(pooled, patches)

    def _texts_for_each_video(self, text: Tensor, num_videos: int) -> Tensor:
        width = self.config.projection_dim
        if text.ndim == 2 and text.shape[-1] == width:
            return text.expand(num_videos, -1, -1)
        if text.ndim == 3 and text.shape[0] == num_videos and text.shape[-1] == width:
            return text
        raise ValueError(
            f"texts of {tuple(text.shape)} don't fit {num_videos} videos: they must be (texts, {width}) for all of "
            f"them, or ({num_videos}, texts, {width}), a set for each."
        )


def _only_one(**given: Any) -> None:
    if all(value is not None for value in given.values()):
        raise ValueError(f"pass {' or '.join(given)}, not both.")
