"""A LLaVA-1.5 checkpoint, recognised by its content: configuration, canonical tensors, preprocessing, vocabulary."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from aesedge.errors import CheckpointError
from aesedge.manifest import ImageSpec

from . import layouts
from .architecture import Architecture, read_architecture
from .vocabulary import Vocabulary, read_vocabulary
from .weights import Weights, open_weights

if TYPE_CHECKING:
    from collections.abc import Iterable

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint, its tensors under canonical names (see :mod:`.layouts`) and read when asked for."""

    folder: Path
    layout: str
    architecture: Architecture
    vocabulary: Vocabulary
    image: ImageSpec
    _sources: dict[str, tuple[Weights, str]]
    """Canonical name to the files and the name there."""

    def tensor(self, name: str) -> torch.Tensor:
        """Return a tensor as it is stored.

        Raises:
            CheckpointError: a value of it is not finite.
        """
        weights, spelled = self._sources[name]
        tensor = weights.read(spelled)
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{weights.files[spelled]}: '{spelled}' holds values that are not finite")
        return tensor

    def names(self, prefix: str) -> list[str]:
        """Return the canonical names that begin so."""
        return [name for name in self._sources if name.startswith(prefix)]


def open_checkpoint(folder: Path, *, vision_tower: Path | None = None) -> Checkpoint:
    """Recognise a checkpoint and check that all of it is there.

    Args:
        folder: a Hugging Face ``LlavaForConditionalGeneration`` or an original-LLaVA checkpoint.
        vision_tower: folder of the CLIP model, for an original-LLaVA checkpoint without the tower's weights.

    Raises:
        CheckpointError: it is not such a checkpoint, or something is missing or of another shape.
    """
    config = read_config(folder)
    if (folder / "adapter_config.json").is_file():
        raise CheckpointError(f"{folder}: a LoRA checkpoint; merge it onto its base model first")
    weights = open_weights(folder)
    if weights is None:
        raise CheckpointError(
            f"{folder}: no weight files (model*.safetensors or pytorch_model*.bin); download the checkpoint completely"
        )
    layout = _recognise(folder, config, weights.files)
    sources = _sources(weights, layout)
    clip = _clip_folder(folder, config, vision_tower) if layout == layouts.ORIGINAL else None
    if clip is not None and not any(name.startswith("vision_tower.") for name in sources):
        clip_weights = open_weights(clip)
        if clip_weights is None:
            raise CheckpointError(f"{clip}: no weight files of the vision tower; download the CLIP model completely")
        sources |= _sources(clip_weights, layouts.CLIP)
    shapes = {name: source.shapes[spelled] for name, (source, spelled) in sources.items()}
    architecture = read_architecture(folder, config, layout, shapes, None if clip is None else read_config(clip))
    _check_shapes(folder, architecture, shapes)
    vocabulary = read_vocabulary(folder, architecture.text.vocab_size, architecture.special_tokens)
    image = _image_spec(folder if clip is None else clip, architecture.vision.image_size)
    return Checkpoint(folder, layout, architecture, vocabulary, image, sources)


def read_config(folder: Path) -> dict[str, Any]:
    """Return a folder's ``config.json``.

    Raises:
        CheckpointError: there is none, or it is not JSON.
    """
    path = folder / "config.json"
    if not path.is_file():
        reason = "no config.json in it" if folder.is_dir() else "no such folder"
        raise CheckpointError(f"{folder}: not a checkpoint ({reason}); give the folder that was downloaded")
    try:
        config = json.loads(path.read_bytes())
    except ValueError:
        raise CheckpointError(f"{path}: not valid JSON; download it again") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: not a configuration; download it again")
    return config


def _recognise(folder: Path, config: dict[str, Any], names: Iterable[str]) -> str:
    """Tell the layout by the projector's spelling, which differs in all of them; names of models are not looked at."""
    names = set(names)
    if "model.mm_projector.0.weight" in names or config.get("mm_projector_type"):
        return layouts.ORIGINAL
    if any("multi_modal_projector." in name for name in names) or config.get("model_type") == "llava":
        return layouts.HF
    what = (config.get("architectures") or [config.get("model_type", "unknown")])[0]
    raise CheckpointError(
        f"{folder}: a '{what}' checkpoint without LLaVA's projector; only LLaVA-1.5 models can be exported"
    )


def _sources(weights: Weights, layout: str) -> dict[str, tuple[Weights, str]]:
    try:
        names = layouts.canonical_names(weights.files, layout)
    except CheckpointError as error:
        raise CheckpointError(f"{weights.folder}: {error}") from None
    return {canonical: (weights, spelled) for canonical, spelled in names.items()}


def _clip_folder(folder: Path, config: dict[str, Any], given: Path | None) -> Path | None:
    """Return the local folder of the CLIP model: the one given, or mm_vision_tower where that is a folder."""
    if given is not None:
        return given
    named = config.get("mm_vision_tower") or config.get("vision_tower")
    if not named:
        return None
    return next((path for path in (Path(named), folder / named) if (path / "config.json").is_file()), None)


def _check_shapes(folder: Path, architecture: Architecture, shapes: layouts.Shapes) -> None:
    expected = architecture.expected_shapes()
    missing = [name for name in expected if name not in shapes]
    if missing:
        what = _part(missing[0])
        raise CheckpointError(
            f"{folder}: {what} is not complete: {len(missing)} tensors are missing, the first is '{missing[0]}'; "
            + _way_out(missing[0])
        )
    for name, shape in expected.items():
        if shapes[name] != shape:
            raise CheckpointError(
                f"{folder}: '{name}' has the shape {list(shapes[name])}, config.json says {list(shape)}; "
                "use the files as they were published together"
            )


def _part(name: str) -> str:
    parts = {"multi_modal_projector": "the projector", "vision_tower": "the vision tower"}
    return parts.get(name.split(".", maxsplit=1)[0], "the language model")


def _way_out(name: str) -> str:
    if name.startswith("vision_tower."):
        return "give the folder of its CLIP model as the vision tower"
    return "download the checkpoint again"


def _image_spec(folder: Path, size: int) -> ImageSpec:
    """Return the preprocessing; mean and std from preprocessor_config.json where there is one, else CLIP's."""
    path = folder / "preprocessor_config.json"
    given: dict[str, Any] = {}
    if path.is_file():
        try:
            given = json.loads(path.read_bytes())
        except ValueError:
            raise CheckpointError(f"{path}: not valid JSON; download it again") from None
    mean = tuple(float(x) for x in given.get("image_mean") or CLIP_MEAN)
    std = tuple(float(x) for x in given.get("image_std") or CLIP_STD)
    if len(mean) != 3 or len(std) != 3:
        raise CheckpointError(f"{path}: image_mean and image_std need three numbers each; download it again")
    # LLaVA pads with the mean colour, rounded down (llava/mm_utils.py).
    red, green, blue = (int(x * 255) for x in mean)
    return ImageSpec(size=size, mean=mean, std=std, pad_color=(red, green, blue))
