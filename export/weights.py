"""The weight files of a folder: which tensors they hold, and one tensor at a time; knows nothing of models.

Safetensors are read by range. Pickled ``.bin`` files go through ``torch.load(weights_only=True)``, which runs no code
from them.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from aesedge.errors import CheckpointError


@dataclass(frozen=True)
class Weights:
    """Tensors of one folder, read only when asked for."""

    folder: Path
    shapes: dict[str, tuple[int, ...]]
    """Tensor name, as the files spell it, to its shape."""
    files: dict[str, Path]
    """Tensor name to the file that holds it."""
    pickled: dict[Path, dict[str, torch.Tensor]] = field(default_factory=dict, repr=False)
    """Tensors of ``.bin`` files, which are memory-mapped as a whole."""

    def read(self, name: str) -> torch.Tensor:
        """Return one tensor as it is stored (any float type)."""
        path = self.files[name]
        if path.suffix == ".bin":
            return self.pickled[path][name]
        with _safetensors(path) as file:
            return file.get_tensor(name)


def open_weights(folder: Path) -> Weights | None:
    """Find the weight files of a folder and list their tensors.

    Returns:
        The tensors, or None where the folder holds no weight files.

    Raises:
        CheckpointError: a file that the index names is missing, or a file cannot be read.
    """
    weights = Weights(folder, {}, {})
    for path in _weight_files(folder):
        if path.suffix == ".bin":
            tensors = weights.pickled[path] = _load_pickled(path)
            shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        else:
            with _safetensors(path) as file:
                shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        weights.shapes.update(shapes)
        weights.files.update(dict.fromkeys(shapes, path))
    return weights if weights.files else None


def _weight_files(folder: Path) -> list[Path]:
    """Return the files that hold the model, safetensors before pickles (a folder may have both, with equal content)."""
    for stem, pattern in (("model.safetensors", "model*.safetensors"), ("pytorch_model.bin", "pytorch_model*.bin")):
        index = folder / f"{stem}.index.json"
        if index.is_file():
            return _indexed(index)
        found = sorted(folder.glob(pattern))
        if found:
            return found
    return []


def _indexed(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        # An index must not lead out of the checkpoint.
        paths = [index.parent / Path(name).name for name in names]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{index}: not a weight index; download the checkpoint again") from None
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise CheckpointError(
            f"{index.parent}: {len(missing)} of {len(paths)} weight files are missing ({', '.join(missing[:3])}"
            f"{', ...' if len(missing) > 3 else ''}); download the checkpoint again"
        )
    return paths


def _safetensors(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: damaged weight file ({error}); download it again") from None


def _load_pickled(path: Path) -> dict[str, torch.Tensor]:
    try:
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # files of before torch 1.6 cannot be memory-mapped
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(f"{path}: holds more than tensors and is not opened; use a safetensors copy") from None
    except (RuntimeError, OSError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: damaged weight file ({reason}); download it again") from None
    return {name: value for name, value in loaded.items() if isinstance(value, torch.Tensor)}
