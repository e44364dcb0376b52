"""Read the architecture of a LLaVA-1.5 from either layout's configuration, and refuse what cannot be exported."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch  # noqa: F401 (before transformers, which without it prints a warning of its own)
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

from aesedge.errors import CheckpointError

from . import layouts
from .tower_folder import OPENAI_NAME, tower_name

if TYPE_CHECKING:
    from pathlib import Path

_OPENAI_HEAD_WIDTH = 64  # all of OpenAI's CLIP towers
_OPENAI_LAYERS = {"base": 12, "large": 24}


@dataclass(frozen=True)
class Architecture:
    """The shape of a checkpoint's language model, tower and projector, and its special tokens."""

    text: LlamaConfig
    vision: CLIPVisionConfig
    """The whole tower, with the layers after the selected one."""
    n_tower_layers: int
    """Layers whose output the projector reads; later ones are not needed."""
    projector_bias: bool
    special_tokens: dict[str, int | None]
    """Ids of ``bos``, ``eos`` and ``pad``; None where the configuration names none."""

    @property
    def n_image_tokens(self) -> int:
        """Patches of one image; the class token is not among them."""
        return int((self.vision.image_size // self.vision.patch_size) ** 2)

    def expected_shapes(self) -> layouts.Shapes:
        """Return name and shape of every tensor that a bundle is made of."""
        return {
            **layouts.projector_shapes(self.text, self.vision, bias=self.projector_bias),
            **layouts.tower_shapes(self.vision, self.n_tower_layers),
            **layouts.language_shapes(self.text),
        }


def read_architecture(
    folder: Path, config: dict[str, Any], shapes: layouts.Shapes, clip: dict[str, Any] | None
) -> Architecture:
    """Read the configuration of a checkpoint.

    Args:
        folder: the checkpoint, for messages.
        config: its ``config.json``.
        shapes: canonical name to shape of the tensors that are there.
        clip: ``config.json`` of the CLIP model, where the original layout names a local one.

    Raises:
        CheckpointError: the model is another one than LLaVA-1.5.
    """
    try:
        read = _read_hf(config) if is_hf(config) else _read_original(config, shapes, clip)
        _check(read)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from None
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{folder}: config.json is not one of LLaVA-1.5 ({error}); download it again") from None
    return read


def is_hf(config: dict[str, Any]) -> bool:
    """Return whether a configuration is transformers' own; the model type alone does not tell: both are 'llava'."""
    if "text_config" in config or "vision_config" in config:
        return True
    return config.get("model_type") == "llava" and not any(key.startswith("mm_") for key in config)


def refuse_other_models(folder: Path, config: dict[str, Any]) -> None:
    """Check that a configuration is not one of LLaVA's relatives.

    Raises:
        CheckpointError: it is.
    """
    if config.get("model_type") not in {None, "llava", "llava_llama", "llama"}:
        raise CheckpointError(
            f"{folder}: a '{class_name(config)}' checkpoint (model type '{config['model_type']}'); only LLaVA-1.5 "
            "models with a Llama as their text half can be exported"
        )
    # Where it is not stated, the names of the projector's tensors tell.
    projector = config.get("mm_projector_type") or "mlp2x_gelu"
    if projector != "mlp2x_gelu":
        raise CheckpointError(f"{folder}: mm_projector_type is {projector!r}, only 'mlp2x_gelu' can be exported")


def class_name(config: dict[str, Any]) -> str:
    """Return what a configuration calls its model."""
    named = config.get("architectures")
    return str(named[0] if isinstance(named, list) and named else config.get("model_type", "unknown"))


def _require(actual: object, allowed: tuple[object, ...], what: str) -> None:
    if actual not in allowed:
        names = " or ".join(repr(a) for a in allowed if a is not None)
        raise CheckpointError(f"{what} is {actual!r}, only {names} can be exported")


def _read_hf(config: dict[str, Any]) -> Architecture:
    for part, kind in (("text_config", "llama"), ("vision_config", "clip_vision_model")):
        _require((config.get(part) or {}).get("model_type", kind), (kind,), f"the model type of {part}")
    llava = LlavaConfig.from_dict(config)
    _require(llava.vision_feature_select_strategy, ("default",), "vision_feature_select_strategy")
    _require(llava.projector_hidden_act, ("gelu",), "projector_hidden_act")
    text = llava.text_config
    pad = text.pad_token_id if text.pad_token_id is not None else llava.pad_token_id
    return Architecture(
        text,
        llava.vision_config,
        _n_layers(llava.vision_feature_layer, llava.vision_config.num_hidden_layers),
        bool(llava.multimodal_projector_bias),
        _special_tokens(text, pad),
    )


def _read_original(config: dict[str, Any], shapes: layouts.Shapes, clip: dict[str, Any] | None) -> Architecture:
    _require(config.get("mm_vision_select_feature", "patch"), ("patch",), "mm_vision_select_feature")
    _require(config.get("mm_patch_merge_type", "flat"), ("flat",), "mm_patch_merge_type")
    _require(config.get("image_aspect_ratio", "pad"), ("pad", None), "image_aspect_ratio")
    _require(bool(config.get("mm_use_im_start_end")), (False,), "mm_use_im_start_end")
    text = LlamaConfig(**{key: value for key, value in config.items() if key not in {"model_type", "architectures"}})
    vision = _openai_tower(config, shapes) if clip is None else CLIPVisionConfig(**clip.get("vision_config", clip))
    n_layers = _n_layers(config.get("mm_vision_select_layer", -2), vision.num_hidden_layers)
    return Architecture(text, vision, n_layers, True, _special_tokens(text, text.pad_token_id))


def _openai_tower(config: dict[str, Any], shapes: layouts.Shapes) -> CLIPVisionConfig:
    """Return the configuration of a tower of which only the weights and a name on the hub are there."""
    name = tower_name(config)
    patches = shapes.get("vision_tower.embeddings.patch_embedding.weight")
    if patches is None:
        raise CheckpointError(
            f"the vision tower '{name}' is neither in the checkpoint nor a folder here; download it from the hub and "
            "give its folder as the vision tower (--vision-tower)"
        )
    openai = OPENAI_NAME.fullmatch(name)
    if openai is None:
        raise CheckpointError(
            f"the shape of the vision tower '{name}' is not known; give the folder of its CLIP model as vision tower "
            "(--vision-tower)"
        )
    n_positions, width = shapes["vision_tower.embeddings.position_embedding.weight"]
    layers = {name.split(".")[3] for name in shapes if name.startswith("vision_tower.encoder.layers.")}
    # The selected layer is counted from the last one.
    if len(layers) != _OPENAI_LAYERS.get(openai["size"], len(layers)):
        raise CheckpointError(
            f"the vision tower has {len(layers)} layers, '{name}' {_OPENAI_LAYERS[openai['size']]}; download the "
            "checkpoint again"
        )
    return CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=shapes["vision_tower.encoder.layers.0.mlp.fc1.weight"][0],
        num_hidden_layers=len(layers),
        num_attention_heads=width // _OPENAI_HEAD_WIDTH,
        image_size=math.isqrt(n_positions - 1) * patches[-1],
        patch_size=patches[-1],
    )


def _n_layers(selected: object, n_layers: int) -> int:
    """Return how many layers run for the selected hidden state; 0 is the embedding, -1 the last layer's output."""
    if not isinstance(selected, int):
        raise CheckpointError(f"the selected vision layer is {selected!r}, only one layer can be exported")
    n_needed = selected if selected >= 0 else n_layers + 1 + selected
    if not 0 < n_needed <= n_layers:
        raise CheckpointError(f"the selected vision layer {selected} is not one of the tower's {n_layers}")
    return n_needed


def _special_tokens(text: LlamaConfig, pad: int | None) -> dict[str, int | None]:
    eos = text.eos_token_id
    return {"bos": text.bos_token_id, "eos": eos[0] if isinstance(eos, list) else eos, "pad": pad}


def _check(read: Architecture) -> None:
    """Refuse what llama.cpp's llama graph or our ONNX graph would compute differently."""
    text, vision = read.text, read.vision
    _require(text.hidden_act, ("silu",), "hidden_act of the language model")
    _require(bool(text.attention_bias or text.mlp_bias), (False,), "attention_bias or mlp_bias")
    scaling = text.rope_scaling or {}
    _require(scaling.get("rope_type", scaling.get("type", "default")), ("default", "linear"), "rope_scaling")
    if vision.image_size % vision.patch_size:
        raise CheckpointError(f"image size {vision.image_size} is not a multiple of the patch size {vision.patch_size}")
