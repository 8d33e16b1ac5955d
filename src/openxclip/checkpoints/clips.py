"""Take from another CLIP's configuration the settings that its tensors' shapes don't tell, or refuse them.

X-CLIP's towers are CLIP's: causal text whose feature is taken at the highest id (its end), and one class token for each
frame. A CLIP that computes something else is refused: X-CLIP's towers would not do what its weights were trained for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openxclip.checkpoints.pickled import Stored
from openxclip.errors import CheckpointError

_ARGMAX_EOS = 2  # with this end of text, transformers also reads a text at its highest id
_DEFAULT_EOS = 49407

# Keys of open_clip's configurations that shapes tell, that only training or calling needs, or that are read below.
_KNOWN = {
    "model_cfg": {
        "cast_dtype", "custom_text", "embed_dim", "init_logit_scale", "nonscalar_logit_scale", "output_dict",
        "quick_gelu", "text_cfg", "vision_cfg",
    },
    "vision_cfg": {
        "act_kwargs", "attn_pooler_heads", "attn_pooler_queries", "final_ln_after_pool", "head_width", "image_size",
        "layers", "mlp_ratio", "n_queries", "norm_kwargs", "output_tokens", "patch_dropout", "patch_size", "pool_type",
        "pos_embed_type", "width",
    },
    "text_cfg": {
        "act_kwargs", "context_length", "eos_id", "final_ln_after_pool", "heads", "layers", "mlp_ratio", "norm_kwargs",
        "output_tokens", "pad_id", "pool_type", "vocab_size", "width",
    },
}  # fmt: skip
# Keys that mean something only together with another key, which is refused.
_IDLE = ("timm_pool", "timm_proj", "hf_proj_type", "hf_pooler_type", "hf_model_pretrained", "proj_type")
# Names of a block's weights in the order of OpenAI's class. open_clip has had another order since 2022.
_OPENAI_BLOCK = [
    f"{part}{kind}"
    for part in ("attn.in_proj_", "attn.out_proj.", "ln_1.", "mlp.c_fc.", "mlp.c_proj.", "ln_2.")
    for kind in ("weight", "bias")
]


def take_from_hugging_face(
    config: dict[str, Any], values: Mapping[str, Any], hidden_act: str | None, *, source: Path
) -> None:
    """Add the settings of Hugging Face's config.json of a CLIP that no shape tells.

    Args:
        config: fields of an XCLIPConfig from the shapes; changed in place.
        values: content of the config.json.
        hidden_act: activation of both towers; None takes the file's.
        source: path of the file, for messages.

    Raises:
        CheckpointError: a tower's part is no object, or texts don't end with the highest token.
    """
    for tower in ("text_config", "vision_config"):
        parts = [values.get(name) or {} for name in (tower, f"{tower}_dict")]
        if not all(isinstance(part, dict) for part in parts):
            raise CheckpointError(f"{source}: its {tower} is no object.")
        settings = {**parts[0], **parts[1]}
        for key in ("num_attention_heads", "layer_norm_eps", "attention_dropout"):
            if key in settings:
                config[tower][key] = settings[key]
            elif key == "num_attention_heads":
                config[tower][key] = 8 if tower == "text_config" else 12  # transformers doesn't write its defaults
        config[tower]["hidden_act"] = hidden_act or settings.get("hidden_act", "quick_gelu")
        if tower == "text_config":
            eos = settings.get("eos_token_id", _DEFAULT_EOS)
            if eos != _ARGMAX_EOS:
                _check_end("eos_token_id", eos, config["text_config"]["vocab_size"], source)


def take_from_open_clip(
    config: dict[str, Any], settings: Mapping[str, Any], hidden_act: str | None, *, source: Path
) -> None:
    """Add the settings of open_clip's configuration that no shape tells: GELU by tanh, and eps of the layer norms.

    Args:
        settings: content of `model_cfg`.
        config, hidden_act, source: see `take_from_hugging_face`.

    Raises:
        CheckpointError: a setting that X-CLIP's towers don't support; the message names it.
    """
    _check_known("model_cfg", settings, source)
    for part, tower in (("vision_cfg", "vision_config"), ("text_cfg", "text_config")):
        tower_settings = settings[part]
        _check_known(part, tower_settings, source)
        norm = tower_settings.get("norm_kwargs") or {}
        if not isinstance(norm, dict) or set(norm) - {"eps"}:
            raise _refused(part, "norm_kwargs", norm, source)
        if "eps" in norm:
            config[tower]["layer_norm_eps"] = norm["eps"]
        activation = tower_settings.get("act_kwargs") or {}
        if hidden_act is None and activation not in ({}, {"approximate": "none"}):
            if activation != {"approximate": "tanh"} or settings.get("quick_gelu"):
                raise _refused(part, "act_kwargs", activation, source)
            config[tower]["hidden_act"] = "gelu_pytorch_tanh"
    vision, text = settings["vision_cfg"], settings["text_cfg"]
    if vision.get("pool_type", "tok") != "tok":
        raise _refused("vision_cfg", "pool_type", vision["pool_type"], source)
    pooling = text.get("pool_type", "argmax")
    if pooling == "eos":
        _check_end("eos_id", text.get("eos_id", 2), config["text_config"]["vocab_size"], source)
    elif pooling != "argmax":
        raise _refused("text_cfg", "pool_type", pooling, source)


def is_in_openais_order(stored: Mapping[str, Stored]) -> bool:
    """Whether a block's weights come in the order of OpenAI's class."""
    prefix = "visual.transformer.resblocks.0."
    return [name.removeprefix(prefix) for name in stored if name.startswith(prefix)] == _OPENAI_BLOCK


def _check_known(part: str, settings: Mapping[str, Any], source: Path) -> None:
    """Refuse an unknown setting, unless it is off."""
    for key, value in settings.items():
        if key not in _KNOWN[part] and key not in _IDLE and value:
            raise _refused(part, key, value, source)


def _refused(part: str, key: str, value: Any, source: Path) -> CheckpointError:
    return CheckpointError(
        f"{source}: its {part} says {key}={value!r:.80}, which X-CLIP doesn't support: start from another CLIP."
    )


def _check_end(key: str, end: Any, vocabulary: int, source: Path) -> None:
    """Refuse an end of text that isn't the highest id, which X-CLIP takes for the end."""
    if end != vocabulary - 1:
        raise CheckpointError(
            f"{source}: says {key}={end!r:.80} in a vocabulary of {vocabulary}, but X-CLIP reads a text at its highest "
            "id, so X-CLIP can't start from it."
        )
