"""Open a LLaVA-1.5 checkpoint: configuration, tensors by canonical name, preprocessing, vocabulary."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from aesedge.errors import CheckpointError
from aesedge.image.image_spec import CLIP_MEAN, CLIP_STD, ImageSpec, llava_spec

from .architecture import Architecture, is_hf, read_architecture
from .json_file import read_config, read_json_object
from .layouts import language_shapes
from .model_files import find_model_files
from .vocabulary import Vocabulary, has_tokenizer, open_tokenizer, read_vocabulary
from .weights import FLOATS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import torch

    from . import layouts
    from .lora import MergedTensor
    from .model_files import ModelFiles
    from .weights import StoredTensor


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint, its tensors under canonical names (see :mod:`.layouts`) and read when asked for."""

    folder: Path
    layout: str
    architecture: Architecture
    vocabulary: Vocabulary
    image: ImageSpec
    base: Path | None
    """Folder of the model that a LoRA checkpoint, or a projector, was trained on."""
    tokenizer_folder: Path
    """Where the tokenizer is: ``folder``, or the base."""
    _sources: Mapping[str, StoredTensor | MergedTensor]
    """Canonical name to where the values are."""

    @property
    def n_bytes(self) -> int:
        """Bytes of all weights that an export reads, as they are stored."""
        return sum(self._sources[name].n_bytes for name in self.architecture.expected_shapes())

    @property
    def n_text_parameters(self) -> int:
        """Weights of the language model."""
        return _n_values(language_shapes(self.architecture.text))

    @property
    def n_vision_parameters(self) -> int:
        """Weights of the projector and of the tower's layers that are needed."""
        return _n_values(self.architecture.expected_shapes()) - self.n_text_parameters

    def tensor(self, name: str) -> torch.Tensor:
        """Return a tensor as it is stored; a LoRA checkpoint's merged, in the base's type.

        Raises:
            CheckpointError: a value of it is not finite, or its file is damaged.
        """
        return self._sources[name].tensor()

    def rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Return rows ``[start, stop)`` of a tensor; of the same values as :meth:`tensor`, the others are not read.

        Raises:
            CheckpointError: as for :meth:`tensor`.
        """
        return self._sources[name].rows(start, stop)

    def dtype(self, name: str) -> torch.dtype:
        """Return the type in which a tensor is stored."""
        return self._sources[name].dtype

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return self._sources[name].shape

    def encode(self, text: str) -> list[int]:
        """Return the ids of one text, without BOS, by the checkpoint's own tokenizer and independent of llama.cpp."""
        return self._tokenizer(text) if text else []

    @cached_property
    def _tokenizer(self) -> Callable[[str], list[int]]:
        return open_tokenizer(self.tokenizer_folder)

    def names(self, prefix: str) -> list[str]:
        """Return the canonical names that begin so."""
        return [name for name in self._sources if name.startswith(prefix)]


def _n_values(shapes: layouts.Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def open_checkpoint(folder: Path, *, vision_tower: Path | None = None, base: Path | None = None) -> Checkpoint:
    """Recognise a checkpoint and check that all of it is there; no weights are read.

    Args:
        folder: a Hugging Face ``LlavaForConditionalGeneration``, an original-LLaVA checkpoint, a LoRA checkpoint, or a
            projector that was trained alone.
        vision_tower: folder of the CLIP model, for a checkpoint without the tower's weights.
        base: folder of the model that a LoRA checkpoint or a projector was trained on; by default the one that it
            names, if that is on this machine.

    Raises:
        CheckpointError: it is not such a checkpoint, or something is missing or of another shape.
    """
    files = find_model_files(folder, base=base, vision_tower=vision_tower)
    shapes = {name: source.shape for name, source in files.tensors.items()}
    clip = None if files.clip is None else read_config(files.clip)
    architecture = read_architecture(folder, files.config, shapes, clip)
    _check_tensors(folder, architecture, files.tensors)
    tokenizer = next((place for place in (folder, files.base) if place is not None and has_tokenizer(place)), folder)
    return Checkpoint(
        folder=folder,
        layout=files.layout,
        architecture=architecture,
        vocabulary=read_vocabulary(tokenizer, architecture.text.vocab_size, architecture.special_tokens),
        image=_image_spec(_preprocessor(folder, files), architecture.vision.image_size),
        base=files.base,
        tokenizer_folder=tokenizer,
        _sources=files.tensors,
    )


def _check_tensors(
    folder: Path, architecture: Architecture, tensors: Mapping[str, StoredTensor | MergedTensor]
) -> None:
    expected = architecture.expected_shapes()
    missing = [name for name in expected if name not in tensors]
    if missing:
        what = _part(missing[0])
        raise CheckpointError(
            f"{folder}: {what} is not complete: {len(missing)} tensors are missing, the first is '{missing[0]}'; "
            + _way_out(missing[0])
        )
    for name, shape in expected.items():
        found = tensors[name]
        if found.shape != shape:
            raise CheckpointError(
                f"{found.path}: '{found.name}' has the shape {list(found.shape)}, config.json says {list(shape)}; "
                "use the files as they were published together"
            )
        if found.dtype not in FLOATS:
            kind = str(found.dtype).removeprefix("torch.")
            raise CheckpointError(f"{found.path}: '{found.name}' is stored as {kind}; use an unquantized checkpoint")


def _part(name: str) -> str:
    parts = {"multi_modal_projector": "the projector", "vision_tower": "the vision tower"}
    return parts.get(name.split(".", maxsplit=1)[0], "the language model")


def _way_out(name: str) -> str:
    if name.startswith("vision_tower."):
        return "give the folder of its CLIP model as the vision tower (--vision-tower)"
    return "download the checkpoint again"


def _preprocessor(folder: Path, files: ModelFiles) -> Path:
    """Return the preprocessor_config.json that applies; it may not be there."""
    # The original LLaVA takes CLIP's, transformers its own.
    found = [folder, files.base, files.clip] if is_hf(files.config) else [files.clip, folder, files.base]
    places = [place for place in found if place is not None]
    paths = [place / "preprocessor_config.json" for place in places]
    return next((path for path in paths if path.is_file()), paths[0])


def _image_spec(path: Path, size: int) -> ImageSpec:
    """Return the preprocessing; mean and std from preprocessor_config.json where there is one, else CLIP's."""
    given = read_json_object(path)
    try:
        mean = tuple(float(x) for x in given.get("image_mean") or CLIP_MEAN)
        std = tuple(float(x) for x in given.get("image_std") or CLIP_STD)
    except (TypeError, ValueError):
        mean = std = ()
    if len(mean) != 3 or len(std) != 3:
        raise CheckpointError(f"{path}: image_mean and image_std need three numbers each; download it again")
    return llava_spec(size, mean, std)
