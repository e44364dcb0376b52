"""Find the CLIP folder of an original LLaVA, and refuse stock CLIP where the tower was trained."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from aesedge.errors import CheckpointError

from . import layouts
from .json_file import read_config
from .local_folder import find_folder
from .lora import MergedTensor
from .weights import StoredTensor, open_weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# What OpenAI calls its towers; folders on trainers' machines are called after them.
OPENAI_NAME = re.compile(r"(?:.*/)?(clip-vit-(?P<size>\w+)-patch\d+(?:-\d+)?)/*")


def tower_name(config: dict[str, Any]) -> str:
    """Return what a configuration calls its vision tower; empty if it names none."""
    return str(config.get("mm_vision_tower") or config.get("vision_tower") or "").replace("\\", "/")


def find_clip(config: dict[str, Any], near: Sequence[Path], given: Path | None) -> Path | None:
    """Return the folder of the CLIP model: the one given, else the one that the configuration names.

    Args:
        config: ``config.json`` of the LLaVA.
        near: folders of the checkpoint.
        given: the folder that the user gave.

    Raises:
        CheckpointError: the folder that was given is not one of a CLIP model.
    """
    if given is not None:
        kind = read_config(given).get("model_type")
        if kind not in {None, "clip", "clip_vision_model"}:
            raise CheckpointError(f"{given}: not a CLIP model but '{kind}'; give the folder of the CLIP model")
        return given
    named = tower_name(config)
    openai = OPENAI_NAME.fullmatch(named)
    return find_folder(named, near) or (find_folder(f"openai/{openai[1]}", near) if openai else None)


def clip_tensors(clip: Path) -> dict[str, StoredTensor]:
    """Return the tower's tensors by canonical name.

    Raises:
        CheckpointError: there are none, or a file is missing or damaged.
    """
    weights = open_weights(clip)
    if weights is None:
        raise CheckpointError(f"{clip}: no weight files of the vision tower; download the CLIP model completely")
    return layouts.canonical_tensors(clip, weights, layouts.CLIP)


def refuse_stock_tower(folder: Path, base: Path | None, tensors: Mapping[str, StoredTensor | MergedTensor]) -> None:
    """Check that a tower that was trained along is there: LLaVA-1.5's own CLIP would give other answers.

    Raises:
        CheckpointError: a configuration says ``unfreeze_mm_vision_tower`` and its folder does not hold the tower.
    """
    tuned = [place for place in (folder, base) if place is not None and _is_tuned(place)]
    tower = [tensor for name, tensor in tensors.items() if name.startswith("vision_tower.")]
    if tuned and not any(isinstance(tensor, MergedTensor) or tensor.path.parent in tuned for tensor in tower):
        raise CheckpointError(
            f"{tuned[0]}: its vision tower was trained along (unfreeze_mm_vision_tower) and is not in its weight "
            "files; the stock CLIP model would give other answers, download the checkpoint completely"
        )


def _is_tuned(folder: Path) -> bool:
    return (folder / "config.json").is_file() and bool(read_config(folder).get("unfreeze_mm_vision_tower"))
