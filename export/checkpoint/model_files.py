"""Find where each tensor of a model is stored: its own files, a base model's or a CLIP folder's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from aesedge.errors import CheckpointError

from . import layouts
from .architecture import class_name, is_hf, refuse_other_models
from .json_file import read_config
from .local_folder import find_folder
from .lora import is_adapter, model_name, open_adapter
from .tower_folder import clip_tensors, find_clip, refuse_stock_tower
from .weights import has_weights, open_file, open_weights

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .lora import Adapter, MergedTensor
    from .weights import StoredTensor

PROJECTOR_FILE = "mm_projector.bin"


@dataclass(frozen=True)
class ModelFiles:
    """A model whose parts may lie in several folders."""

    layout: str
    """One of :mod:`.layouts`."""
    config: dict[str, Any]
    """``config.json`` of the LLaVA among the folders."""
    tensors: Mapping[str, StoredTensor | MergedTensor]
    """By canonical name."""
    base: Path | None
    """Folder of the base that an adapter or a projector was trained on."""
    clip: Path | None
    """Folder of the CLIP model, where one is there."""


def find_model_files(folder: Path, *, base: Path | None = None, vision_tower: Path | None = None) -> ModelFiles:
    """Find all tensors of a model.

    Args:
        folder: the checkpoint: a whole model, a LoRA adapter, or a projector.
        base: folder of the model that the adapter or the projector was trained on.
        vision_tower: folder of the CLIP model, for a checkpoint without the tower's weights.

    Raises:
        CheckpointError: something is missing, damaged, or of another kind of model.
    """
    adapter = None
    if is_adapter(folder):
        adapter, model = _adapted(folder, base)
    elif not has_weights(folder) and (folder / PROJECTOR_FILE).is_file():
        model = _projected(folder, base)
    else:
        if base is not None:
            raise CheckpointError(f"{folder}: a whole model; only LoRA checkpoints have a base, give none")
        config = read_config(folder)
        refuse_other_models(folder, config)
        model = ModelFiles(layouts.HF if is_hf(config) else layouts.ORIGINAL, config, _whole(folder), None, None)
    _refuse_text_models(folder, model)
    near = [folder] if model.base is None else [folder, model.base]
    clip = find_clip(model.config, near, vision_tower)
    tensors = model.tensors
    if clip is not None and not any(name.startswith("vision_tower.") for name in tensors):
        tensors = {**tensors, **clip_tensors(clip)}
    if adapter is not None:
        tensors = adapter.merge(tensors)
    refuse_stock_tower(folder, model.base, tensors)
    return replace(model, tensors=tensors, clip=clip)


def _refuse_text_models(folder: Path, model: ModelFiles) -> None:
    config = model.config
    has_projector = any(name.startswith("multi_modal_projector.") for name in model.tensors)
    if not has_projector and not config.get("mm_projector_type") and config.get("model_type") != "llava":
        raise CheckpointError(
            f"{folder}: a '{class_name(config)}' checkpoint without LLaVA's projector; only LLaVA-1.5 models can be "
            "exported"
        )


def _whole(folder: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a folder with a whole model, a projector beside it included."""
    weights = open_weights(folder)
    if weights is None:
        raise CheckpointError(
            f"{folder}: no weight files (model*.safetensors or pytorch_model*.bin); download the checkpoint completely"
        )
    return _with_projector(folder, layouts.canonical_tensors(folder, weights, layouts.recognise(weights)))


def _with_projector(folder: Path, tensors: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    path = folder / PROJECTOR_FILE
    if any(name.startswith("multi_modal_projector.") for name in tensors) or not path.is_file():
        return tensors
    held = {model_name(name): tensor for name, tensor in open_file(path).items()}
    return {**tensors, **layouts.canonical_tensors(path, held, layouts.ORIGINAL)}


def _adapted(folder: Path, given: Path | None) -> tuple[Adapter, ModelFiles]:
    """Return a LoRA checkpoint and what it is to be merged onto."""
    if has_weights(folder):
        raise CheckpointError(
            f"{folder}: holds a whole model and a LoRA adapter, and does not say whether one is merged into the other; "
            "move one of them to another folder"
        )
    adapter = open_adapter(folder)
    base, base_config = _base(folder, "a LoRA checkpoint", adapter.base, given)
    config = _own_config(folder) or base_config
    refuse_other_models(folder, config)
    own = _with_projector(folder, layouts.canonical_tensors(folder, adapter.tensors, adapter.layout))
    return adapter, ModelFiles(layouts.LORA, config, {**_whole(base), **own}, base, None)


def _own_config(folder: Path) -> dict[str, Any]:
    """Return the configuration in a LoRA folder; PEFT writes none, and some trainers only the language model's."""
    config = read_config(folder) if (folder / "config.json").is_file() else {}
    return config if "text_config" in config or any(key.startswith("mm_") for key in config) else {}


def _projected(folder: Path, given: Path | None) -> ModelFiles:
    """Return a projector that was trained alone, on the language model that it was trained for."""
    config = read_config(folder)
    refuse_other_models(folder, config)
    base, _ = _base(folder, "only a projector", str(config.get("_name_or_path") or ""), given)
    tensors = {**_whole(base), **_with_projector(folder, {})}
    return ModelFiles(layouts.HF if is_hf(config) else layouts.ORIGINAL, config, tensors, base, None)


def _base(folder: Path, what: str, named: str, given: Path | None) -> tuple[Path, dict[str, Any]]:
    base = given or find_folder(named, [folder])
    if base is None:
        raise CheckpointError(
            f"{folder}: {what}; its base model '{named or 'not named'}' is not on this machine: download it and "
            "give its folder as the base (--base)"
        )
    config = read_config(base)
    if is_adapter(base):
        raise CheckpointError(f"{base}: the base is a LoRA checkpoint itself; merge it with PEFT's merge_and_unload")
    return base, config
