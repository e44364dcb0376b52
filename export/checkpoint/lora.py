"""Merge a LoRA adapter and trained tensors onto a base model while its rows are read.

``W + (alpha / r) * B @ A`` is computed in float32 and rounded once to the base's type, as PEFT's ``merge_and_unload``
does with an adapter that it holds in float32.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aesedge.errors import CheckpointError

from . import layouts
from .json_file import read_json_object
from .weights import StoredTensor, check_finite, open_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<factor>[AB])(?:\.\w+)?\.weight$")
_WRAPPED = re.compile(r"\.(?:modules_to_save(?:\.default)?|base_layer)(?=\.)")
# Rows are merged in blocks at fixed places: a product's last bits depend on its shape, the merged rows must not.
_BLOCK = 512

# Values that change nothing in how an adapter is merged; with any other one the merge would be another.
_PLAIN: dict[str, tuple[object, ...]] = {
    "peft_type": ("LORA",),
    "use_dora": (False, None),
    "fan_in_fan_out": (False, None),
    "lora_bias": (False, None),
    "layer_replication": (None,),
    "use_qalora": (False, None),
    "alora_invocation_tokens": (None,),
    "init_lora_weights": (True, False, None, "gaussian", "eva", "orthogonal"),
}


@dataclass(frozen=True)
class MergedTensor:
    """A matrix of the base with what the adapter adds to it."""

    base: StoredTensor | MergedTensor
    factor_a: StoredTensor
    """[r, n_in]."""
    factor_b: StoredTensor
    """[n_out, r]."""
    scaling: float

    @property
    def name(self) -> str:
        """As the base spells it."""
        return self.base.name

    @property
    def path(self) -> Path:
        """The file of the base."""
        return self.base.path

    @property
    def dtype(self) -> torch.dtype:
        """The type in which the base is stored."""
        return self.base.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The base's."""
        return self.base.shape

    @property
    def n_bytes(self) -> int:
        """Bytes of the merged values."""
        return self.base.n_bytes

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Return merged rows ``[start, stop)`` in the base's type.

        Raises:
            CheckpointError: a value of the base, of the adapter or of the sum is not finite.
        """
        merged = self.base.rows(start, stop)
        right = self.factor_a.tensor().float()
        for first in range(start - start % _BLOCK, stop, _BLOCK):
            left = self.factor_b.rows(first, min(first + _BLOCK, self.shape[0])).float()
            added = left @ right * self.scaling
            begin, end = max(first, start), min(first + _BLOCK, stop)
            merged[begin - start : end - start] += added[begin - first : end - first]
        return check_finite(merged, self.factor_b)

    def tensor(self) -> torch.Tensor:
        """Return all merged values.

        Raises:
            CheckpointError: as for :meth:`rows`.
        """
        return self.rows(0, self.shape[0])


@dataclass(frozen=True)
class Adapter:
    """What a LoRA checkpoint holds."""

    folder: Path
    config: dict[str, Any]
    """``adapter_config.json``."""
    factors: dict[str, dict[str, StoredTensor]]
    """Module, as the adapter spells it, to its ``A`` and ``B``."""
    tensors: dict[str, StoredTensor]
    """Tensors that were trained as a whole, by the name that they have in the model."""

    @property
    def base(self) -> str:
        """The base's path on the trainer's machine or its repository; empty if the adapter does not say."""
        return str(self.config.get("base_model_name_or_path") or "")

    @property
    def layout(self) -> str:
        """How the adapter spells its modules."""
        return layouts.recognise([*self.tensors, *(f"{module}.weight" for module in self.factors)])

    def merge(self, base: Mapping[str, StoredTensor | MergedTensor]) -> dict[str, StoredTensor | MergedTensor]:
        """Return the tensors of the model.

        Args:
            base: the base's tensors by canonical name, with the adapter's whole tensors already in place.

        Raises:
            CheckpointError: a part of the adapter has no target, or does not fit it.
        """
        merged: dict[str, StoredTensor | MergedTensor] = dict(base)
        for module, factors in self.factors.items():
            canonical = layouts.canonical_name(f"{module}.weight", self.layout)
            any_factor = next(iter(factors.values()))
            where = f"{any_factor.path}: '{any_factor.name}'"
            if canonical is None or canonical not in base:
                raise CheckpointError(
                    f"{where} has no target in the base model; give the base that the adapter was trained on"
                )
            if len(factors) != 2:
                raise CheckpointError(f"{where} has no other half; download the adapter again")
            target, a, b = base[canonical], factors["A"], factors["B"]
            rank = a.shape[0] if len(a.shape) == 2 else 0
            if not rank or len(target.shape) != 2 or (b.shape, a.shape) != _factor_shapes(target.shape, rank):
                raise CheckpointError(
                    f"{where}: factors of the shapes {list(b.shape)} and {list(a.shape)} do not fit the base's "
                    f"{list(target.shape)}; give the base that the adapter was trained on"
                )
            merged[canonical] = MergedTensor(target, a, b, self._scaling(module, rank))
        return merged

    def _scaling(self, module: str, rank: int) -> float:
        stated = _by_pattern(self.config.get("rank_pattern"), module, self.config.get("r", rank))
        if stated != rank:
            raise CheckpointError(
                f"{self.folder}: '{module}' has rank {rank}, adapter_config.json says {stated}; "
                "use the files as they were published together"
            )
        default = self.config.get("lora_alpha", 8)  # PEFT's own default
        alpha = _by_pattern(self.config.get("alpha_pattern"), module, default)
        if not isinstance(alpha, int | float) or not math.isfinite(alpha):
            raise CheckpointError(f"{self.folder / 'adapter_config.json'}: lora_alpha is {alpha!r}; download it again")
        return alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank)


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds a LoRA adapter."""
    return (folder / "adapter_config.json").is_file() or any(folder.glob("adapter_model.*"))


def open_adapter(folder: Path) -> Adapter:
    """Read what a LoRA checkpoint holds: the adapter, and ``non_lora_trainables.bin`` where there is one.

    Raises:
        CheckpointError: a file is missing or damaged, or the adapter is of a kind that cannot be merged.
    """
    config_path = folder / "adapter_config.json"
    if not config_path.is_file():
        raise CheckpointError(f"{config_path}: is missing; download the adapter completely")
    config = read_json_object(config_path)
    for key, plain in _PLAIN.items():
        if key in config and config[key] not in plain:
            raise CheckpointError(
                f"{config_path}: {key} is {config[key]!r}, which cannot be merged here; merge it with PEFT's "
                "merge_and_unload and export the result"
            )
    paths = [folder / f"adapter_model{suffix}" for suffix in (".safetensors", ".bin")]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise CheckpointError(f"{folder}: no adapter_model.safetensors or adapter_model.bin; download it completely")
    adapter = Adapter(folder, config, {}, {})
    for name, tensor in open_file(path).items():
        _sort_in(adapter, name, tensor)
    trained = folder / "non_lora_trainables.bin"
    if trained.is_file():
        adapter.tensors.update({model_name(name): tensor for name, tensor in open_file(trained).items()})
    return adapter


def _factor_shapes(target: tuple[int, ...], rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return (target[0], rank), (rank, target[1])


def _sort_in(adapter: Adapter, name: str, tensor: StoredTensor) -> None:
    """Sort one tensor of the adapter's file into factors or whole tensors."""
    plain = model_name(name)
    match = _FACTOR.fullmatch(plain)
    if match:
        factors = adapter.factors.setdefault(match["module"], {})
        if match["factor"] in factors:
            raise CheckpointError(
                f"{tensor.path}: holds more than one adapter for '{match['module']}'; keep one of them"
            )
        factors[match["factor"]] = tensor
    elif "lora_" in plain:
        raise CheckpointError(
            f"{tensor.path}: '{name}' cannot be merged here; merge it with PEFT's merge_and_unload and export "
            "the result"
        )
    elif ".original_module." not in plain:  # the base's own, which a trained one replaces
        adapter.tensors[plain] = tensor


def model_name(name: str) -> str:
    """Return what a tensor of an adapter, or one trained beside it, is called in the model."""
    name = name.removeprefix("base_model.")
    # PEFT wraps the model once more; LLaVA's own loader strips it so.
    name = re.sub(r"^model\.(?=model\.|lm_head\.|language_model\.|vision_tower\.vision_model|multi_modal)", "", name)
    return _WRAPPED.sub("", name)


def _by_pattern(patterns: dict[str, Any] | None, module: str, default: Any) -> Any:
    """Return the value of the first pattern that a module's name ends with, as PEFT looks it up."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(?:.*\.)?(?:{pattern})$", module):
            return value
    return default
