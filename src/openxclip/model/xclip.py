"""X-CLIP: both towers, MIT and the prompts (arXiv 2208.02816, §3.1)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openxclip import checkpoints
from openxclip.config import XCLIPConfig
from openxclip.model.devices import as_device, as_dtype
from openxclip.model.integration import MultiframeIntegrationTransformer
from openxclip.model.layers import is_traced
from openxclip.model.losses import class_loss, contrastive_loss
from openxclip.model.outputs import TransformerOutput, VideoFeatures, XCLIPOutput, output_or_tuple, resolve_flag
from openxclip.model.pretrained import XCLIPPreTrainedModel
from openxclip.model.prompting import VideoSpecificPrompt
from openxclip.model.text import XCLIPTextModel
from openxclip.model.vision import XCLIPVisionModel

if TYPE_CHECKING:
    from typing_extensions import Unpack  # in typing since Python 3.11


class VideoOutputs(NamedTuple):
    """The features of videos, and the outputs of the video tower and MIT."""

    features: VideoFeatures
    vision_output: TransformerOutput
    mit_output: TransformerOutput


class XCLIPModel(XCLIPPreTrainedModel):
    """Score videos against texts.

    Names, arguments, outputs and state dict are the same as in transformers' XCLIPModel; additional arguments are
    keyword-only. Source: arXiv 2208.02816, §3.

    Args:
        config: sizes of the model; its weights start at random. `from_pretrained` loads a trained model.

    Examples:
        >>> import torch
        >>> from openxclip import XCLIPModel, XCLIPProcessor
        >>> from openxclip.video import read_clip
        >>> model = XCLIPModel.from_pretrained("mini")
        >>> processor = XCLIPProcessor.from_pretrained("mini")
        >>> frames = read_clip("samples/cat_moves_left.mp4", num_frames=8).frames_THWC
        >>> texts = ["a cat moves left", "a cat moves right"]
        >>> inputs = processor(text=texts, videos=list(frames), return_tensors="pt", padding=True)
        >>> with torch.inference_mode():
        ...     outputs = model(**inputs)
        >>> texts[int(outputs.logits_per_video.argmax())]
        'a cat moves left'
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
        text, vision = config.text_config, config.vision_config
        width, factor = config.projection_dim, config.initializer_factor
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
    def from_clip(
        cls,
        name_or_path: str | Path,
        *,
        num_frames: int = 8,
        seed: int | None = None,
        dtype: torch.dtype | str | None = None,
        device: torch.device | str | None = None,
        **options: Unpack[checkpoints.CheckpointOptions],
    ) -> XCLIPModel:
        """Make an untrained X-CLIP with a CLIP's towers and random messages, MIT and prompts (§4.1).

        Args:
            name_or_path: a file, a folder or a hub id of an OpenAI, open_clip or Hugging Face CLIP.
            num_frames: T, the frames of a clip in training.
            seed: seeds the random initialisation without changing torch's generator; None draws from that generator.
            dtype: type of the weights, by default float32.
            device: device of the weights.
            **options: `hidden_act`, `vision_heads`, `text_heads` and `HubOptions`, see
                `openxclip.checkpoints.read_checkpoint`.

        Returns:
            The model in eval mode, as from `from_pretrained`.

        Raises:
            CheckpointError: there is no such checkpoint, it isn't a whole CLIP with a vision transformer, or its
                activation is unknown.
        """
        target_dtype, target_device = as_dtype(dtype), as_device(device)
        with torch.inference_mode(False):  # parameters made in inference mode could never be trained
            start = checkpoints.open_clip_start(name_or_path, num_frames=num_frames, **options)
            return cls._start_from_clip(start, seed).to(device=target_device, dtype=target_dtype).eval()

    def get_text_features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Tensor:
        """Encode texts into unnormalised features without prompts, for `forward(text_features=…)`.

        Args:
            input_ids: (K, L) token ids; or (B, K, L), a set of texts for each video; (L,) is one text.
            attention_mask, position_ids: see `XCLIPTextModel.forward`.
            output_attentions, output_hidden_states: also keep every block's attentions or hidden states, as
                attributes of the features.
            return_dict: has no effect.

        Returns:
            (K, E), or (B, K, E); the attribute `pooler_output` is the same tensor, see `add_attributes`.

        Examples:
            >>> from openxclip import CLIPTokenizer, XCLIPModel
            >>> model = XCLIPModel.from_pretrained("mini")
            >>> tokens = CLIPTokenizer()(["a cat runs", "a dog jumps"], padding=True, return_tensors="pt")
            >>> model.get_text_features(**tokens).shape
            torch.Size([2, 192])
        """
        flags = self._output_flags(output_attentions, output_hidden_states)
        if any(flags.values()):
            return add_attributes(*self._encode_text(input_ids, attention_mask, position_ids, **flags))
        trimmed = self._trim_padding(input_ids, attention_mask, position_ids)
        return add_attributes(self._encode_text(*trimmed)[0], None)

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
        """Encode videos into MIT's unnormalised features.

        To score texts later, use `encode_video` instead, because prompts need the patches too.

        Args:
            pixel_values, interpolate_pos_encoding, num_frames: see `forward`.
            output_attentions, output_hidden_states: also keep every block's attentions or hidden states, as
                attributes of the features.
            return_dict: has no effect.

        Returns:
            (B, E); the attribute `pooler_output` is the same tensor, see `add_attributes`.
        """
        flags = self._output_flags(output_attentions, output_hidden_states)
        pixels_NCHW, num_frames = self.vision_model.split_frames(pixel_values, num_frames)
        vision_output, mit_output = self._integrate(pixels_NCHW, num_frames, interpolate_pos_encoding, **flags)
        return add_attributes(mit_output.pooler_output, vision_output if any(flags.values()) else None)

    def encode_video(
        self, pixel_values: Tensor, *, interpolate_pos_encoding: bool = False, num_frames: int | None = None
    ) -> VideoFeatures:
        """Encode videos for `forward(video_features=…)`, to score them later. Arguments: see `forward`."""
        pixels_NCHW, num_frames = self.vision_model.split_frames(pixel_values, num_frames)
        return self._encode_video(pixels_NCHW, num_frames, interpolate_pos_encoding).features

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
        """Score every video against every text, or encode the one side that is given.

        Args:
            input_ids: (K, L) token ids; or (B, K, L), a set of texts for each video.
            pixel_values: (B, T, C, H, W), any T (see `MultiframeIntegrationTransformer` for T that differs from the
                config's); or (B * T, C, H, W), with `num_frames` for T.
            attention_mask, position_ids: see `XCLIPTextModel.forward`.
            return_loss: also return CLIP's contrastive loss for K = B texts, where text i belongs to video i.
            output_attentions, output_hidden_states: also return every block's attentions or hidden states, in
                the outputs of the parts.
            interpolate_pos_encoding: accept frames of another size than `config.vision_config.image_size`.
            return_dict: False returns a tuple of the fields that aren't None.
            labels: (B,) class indices or (B, K) soft targets. The loss is their cross-entropy with
                `logits_per_video`, whether or not `return_loss` is set.
            num_frames: T of a 4-D `pixel_values`; default `config.vision_config.num_frames`.
            text_features: replaces `input_ids`: (K, E) or (B, K, E) from `get_text_features`.
            video_features: replaces `pixel_values`: the result of `encode_video`.

        Raises:
            ValueError: there is nothing to encode, a side is given twice, or shapes don't fit.
        """
        for name, given in (("input_ids", input_ids), ("pixel_values", pixel_values)):
            if given is not None and not isinstance(given, Tensor):
                raise TypeError(f'{name} is a {type(given).__name__}, not a tensor: pass return_tensors="pt".')
        _check_given_once(input_ids=input_ids, text_features=text_features)
        _check_given_once(pixel_values=pixel_values, video_features=video_features)
        frames = None if pixel_values is None else self.vision_model.split_frames(pixel_values, num_frames)
        text_output = vision_output = mit_output = None
        flags = self._output_flags(output_attentions, output_hidden_states)
        if input_ids is not None:
            text_features, text_output = self._encode_text(input_ids, attention_mask, position_ids, **flags)
        if frames is not None:
            pixels_NCHW, num_frames = frames
            video_features, vision_output, mit_output = self._encode_video(
                pixels_NCHW, num_frames, interpolate_pos_encoding, **flags
            )
        fields: dict[str, Tensor]
        if text_features is not None and video_features is not None:
            fields = self._score(text_features, self._check_features(video_features), labels, return_loss)
        elif labels is not None or return_loss:
            raise ValueError("a loss needs both texts and videos.")
        elif text_features is not None:
            fields = {"text_embeds": F.normalize(text_features, dim=-1)}
        elif video_features is not None:
            fields = {"video_embeds": F.normalize(self._check_features(video_features).pooled, dim=-1)}
        else:
            raise ValueError("pass input_ids or text_features, pixel_values or video_features, or one of each.")
        output = XCLIPOutput(
            **fields, text_model_output=text_output, vision_model_output=vision_output, mit_output=mit_output
        )
        return output_or_tuple(self.config, output, return_dict)

    def _output_flags(self, output_attentions: bool | None, output_hidden_states: bool | None) -> dict[str, bool]:
        """Return the two arguments, by name, with the config's values for None."""
        given = {"output_attentions": output_attentions, "output_hidden_states": output_hidden_states}
        return {name: resolve_flag(self.config, name, value) for name, value in given.items()}

    def _encode_text(
        self, input_ids: Tensor, attention_mask: Tensor | None, position_ids: Tensor | None, **flags: bool
    ) -> tuple[Tensor, TransformerOutput | None]:
        """Return text features (K, E) or (B, K, E), and the text tower's output."""
        input_ids = torch.atleast_2d(input_ids)
        encoded = self.text_model(input_ids, attention_mask, position_ids, return_dict=True, **flags)
        features = self.text_projection(encoded.pooler_output)
        return features.unflatten(0, input_ids.shape[:-1]), encoded

    def _trim_padding(
        self, input_ids: Tensor, attention_mask: Tensor | None, position_ids: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Cut off the tokens after the longest text's end. Attention is causal, so they change no features."""
        length = input_ids.shape[-1]
        is_valid = 0 < length <= self.config.text_config.max_position_embeddings and input_ids.numel() > 0
        is_consistent = all(t is None or t.shape[-1] == length for t in (attention_mask, position_ids))
        if is_traced() or input_ids.is_meta or not (is_valid and is_consistent):  # the text tower raises the error
            return input_ids, attention_mask, position_ids
        longest = int(input_ids.argmax(-1).max()) + 1
        mask, positions = (None if t is None else t[..., :longest] for t in (attention_mask, position_ids))
        return input_ids[..., :longest], mask, positions

    def _integrate(
        self, pixels_NCHW: Tensor, num_frames: int, interpolate_pos_encoding: bool, **flags: bool
    ) -> tuple[TransformerOutput, TransformerOutput]:
        """Return the outputs of the video tower and of MIT."""
        flags["return_dict"] = True
        vision_output = self.vision_model(
            pixels_NCHW, interpolate_pos_encoding=interpolate_pos_encoding, num_frames=num_frames, **flags
        )
        frames_BTE = self.visual_projection(vision_output.pooler_output).unflatten(0, (-1, num_frames))
        return vision_output, self.mit(frames_BTE, **flags)

    def _encode_video(
        self, pixels_NCHW: Tensor, num_frames: int, interpolate_pos_encoding: bool, **flags: bool
    ) -> VideoOutputs:
        vision_output, mit_output = self._integrate(pixels_NCHW, num_frames, interpolate_pos_encoding, **flags)
        patches_NPD = self.prompts_visual_layernorm(vision_output.last_hidden_state[:, 1:])
        num_videos = mit_output.pooler_output.shape[0]
        # averaging over frames before the projection makes it T times cheaper
        patches_BPE = patches_NPD.unflatten(0, (num_videos, -1)).mean(dim=1) @ self.prompts_visual_projection
        return VideoOutputs(VideoFeatures(mit_output.pooler_output, patches_BPE), vision_output, mit_output)

    def _score(
        self, text: Tensor, video: VideoFeatures, labels: Tensor | None, return_loss: bool | None
    ) -> dict[str, Tensor]:
        """Return the fields of the output that need both texts and videos."""
        text_BKE = self._expand_texts(text, video.pooled.shape[0])
        text_BKE = F.normalize(text_BKE + self._prompts(text_BKE, video.patches), dim=-1)
        video_BE = F.normalize(video.pooled, dim=-1)
        logits_BK = self.logit_scale.exp() * torch.einsum("be,bke->bk", video_BE, text_BKE)
        fields = {
            "logits_per_video": logits_BK,
            "logits_per_text": logits_BK.T,
            "text_embeds": text_BKE,
            "video_embeds": video_BE,
        }
        if labels is not None:
            fields["loss"] = class_loss(logits_BK, labels)
        elif return_loss:
            if text.ndim == 3:
                raise ValueError(
                    "return_loss pairs text i with video i of one shared set of texts; with a set for each video, "
                    "pass labels=."
                )
            fields["loss"] = contrastive_loss(logits_BK)
        return fields

    def _prompts(self, text_BKE: Tensor, patches_BPE: Tensor) -> Tensor:
        prompts: Tensor = self.prompts_generator(text_BKE, patches_BPE)
        return prompts

    def _check_features(self, features: VideoFeatures | tuple[Tensor, Tensor]) -> VideoFeatures:
        if isinstance(features, Tensor) or len(features) != 2:
            raise ValueError(
                "video_features must be the result of encode_video, (pooled, patches): the prompts need the patches, "
                "which get_video_features doesn't return."
            )
        width = self.config.projection_dim
        pooled, patches = features
        is_pooled_valid = pooled.ndim == 2 and pooled.shape[1] == width
        if not is_pooled_valid or patches.ndim != 3 or patches[:, 0].shape != pooled.shape:
            raise ValueError(
                f"video_features of {tuple(pooled.shape)} and {tuple(patches.shape)}: must be (videos, {width}) and "
                f"(videos, patches, {width})."
            )
        return VideoFeatures(pooled, patches)

    def _expand_texts(self, text: Tensor, num_videos: int) -> Tensor:
        """Return text features as (B, K, E), a set for each video."""
        width = self.config.projection_dim
        if text.ndim == 2 and text.shape[-1] == width:
            return text.expand(num_videos, -1, -1)
        if text.ndim == 3 and text.shape[0] == num_videos and text.shape[-1] == width:
            return text
        raise ValueError(
            f"texts of {tuple(text.shape)} don't fit {num_videos} videos: they must be (texts, {width}) for all of "
            f"them, or ({num_videos}, texts, {width}), a set for each."
        )


def _check_given_once(**arguments: Any) -> None:
    if all(value is not None for value in arguments.values()):
        raise ValueError(f"pass {' or '.join(arguments)}, not both.")


def add_attributes(pooled: Tensor, tower_output: TransformerOutput | None) -> Tensor:
    """Give features the attributes that they have in transformers 5, although they are tensors as in transformers 4.

    The attribute `pooler_output` is the same tensor, with the same memory and gradient.

    Args:
        pooled: the features.
        tower_output: output of the tower, if the caller asked for more than the features. Its `last_hidden_state`,
            `hidden_states` and `attentions` become attributes too. They are many times larger than the features, and
            stay in memory as long as the features do.

    Returns:
        A plain tensor; it has no attributes while the model is traced, because a graph can't represent them.
    """
    if is_traced() or type(pooled) is not Tensor:
        return pooled
    # A tensor that is its own attribute would be a reference cycle. A view of a tensor without a gradient could not be
    # changed in place later, so such a tensor is detached instead.
    features = pooled.view_as(pooled) if pooled.requires_grad else pooled.detach()
    features.pooler_output = pooled  # type: ignore[attr-defined]
    if tower_output is not None:
        for name in ("last_hidden_state", "hidden_states", "attentions"):
            setattr(features, name, getattr(tower_output, name))
    return features
