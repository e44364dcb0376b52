"""Declare the user's options for loading a bundle; the command line and the plan derive theirs from it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aesedge.system.bounds import check_choice, check_real, check_type, check_whole
from aesedge.system.byte_sizes import parse_size
from aesedge.system.machine import most_threads, n_cores

if TYPE_CHECKING:
    from aesedge.config.profile import Purpose
    from aesedge.vision.providers import Device

WORTH_KEEPING_S = 0.1
"""Below this tower time, recomputing is cheaper than a cache file."""


_MOST_POSITIONS = 1 << 20  # eight times what the longest contexts have; llama.cpp counts in 32 bits
_MOST_LAYERS = 10_000
_MOST_SECONDS = 1e9
DEVICES: tuple[Device, ...] = ("auto", "cpu", "cuda", "metal")
PURPOSES: tuple[Purpose, ...] = ("critique", "score")


def _shown(default: Any, text: str, *, otherwise: str | None = None, name: str = "", flags: str = "") -> Any:
    """Declare a field that is an option of the command line too.

    Args:
        default: its default value.
        text: its help text.
        otherwise: the default in words, for the help; None shows the value.
        name: of the option, if it is not the field's.
        flags: as Typer takes them, if they are not the name's.
    """
    return field(default=default, metadata={"help": text, "default": otherwise, "name": name, "flags": flags})


@dataclass(frozen=True, kw_only=True)
class Options:
    """The user's options for loading a bundle; None or ``auto`` leaves the choice to aesedge."""

    gguf: str | None = _shown(None, "Quantization type, e.g. q4_k_m.", otherwise="the bundle's")
    """Any case; None takes the manifest's default."""
    vision: str = _shown("auto", "Precision of the vision graph: fp32, fp16, int8.")
    """``auto`` is what was tuned, or decided by :func:`aesedge.vision.tower.vision_type`."""
    image_tokens: int | Literal["auto"] | None = _shown(
        None,
        "Positions that an image takes: a number, or auto for the fewest that cost little (see tune).",
        otherwise="all",
    )
    """``auto`` is the fewest that cost no more than the stated tolerance on measured photos (see
    :meth:`aesedge.bundle.manifest.ImageTokens.auto`), None all of them."""
    device: Device = _shown("auto", "Where to run.")
    gpu_layers: int | Literal["auto"] = _shown("auto", "Layers on the GPU: auto, or a number.")
    """Of the language model; -1 is all."""
    threads: int | None = _shown(None, "CPU threads.", otherwise="tuned, or one per core")
    """Of both models; as many as :func:`aesedge.system.machine.most_threads` says at most."""
    ctx: int | None = _shown(None, "Positions for image, questions and answers.", otherwise="image + 1024")
    """Of the KV cache, over all that share it; None takes what ``photos`` need."""
    photos: int = 1
    """Photos to process side by side, if memory allows and ``ctx`` is None."""
    cache: str = _shown("2GB", "Limit of cached photos on disk: 2GB, 5% of the disk, 0.", name="cache_size")
    """Limit of image embeddings on disk; ``0`` stores none."""
    kv_type: str | None = _shown(None, "Type of the KV cache: f16, q8_0.", otherwise="tuned, or f16")
    purpose: Purpose = "critique"
    """Main use: the fastest settings for scores and for texts differ."""
    memory: str | None = _shown(
        None,
        "Memory limit: 6GB, 50%. A bundle that does not fit is not loaded.",
        otherwise="free memory",
    )
    kernels: bool = _shown(
        True, "Leave out aesedge's own matrix kernels for CPUs.", name="matrix_kernels", flags=" /--no-kernels"
    )
    """Whether to use aesedge's own matrix kernels on CPUs; they are compiled once, where there is a C++ compiler."""
    tuned: bool = _shown(True, "Use the settings that 'aesedge tune' found on this machine.")
    cache_folder: Path | None = None
    """Folder of cached embeddings and KV states; None is the user's cache folder."""
    worth_keeping_s: float = WORTH_KEEPING_S
    """Least time in seconds for which embeddings, or the text before every image, are stored on disk."""

    def __post_init__(self) -> None:
        for name in ("gguf", "kv_type", "memory"):
            check_type(name, getattr(self, name), (str, type(None)), "a text or None")
        for name in ("vision", "cache"):
            check_type(name, getattr(self, name), str, "a text")
        for name in ("kernels", "tuned"):
            check_type(name, getattr(self, name), bool, "True or False")
        check_choice("device", self.device, DEVICES)
        check_choice("purpose", self.purpose, PURPOSES)
        check_real("worth_keeping_s", self.worth_keeping_s, 0, _MOST_SECONDS)
        if self.cache_folder is not None:
            check_type("cache_folder", self.cache_folder, (str, os.PathLike), "a path")
            object.__setattr__(self, "cache_folder", Path(self.cache_folder))
        check_whole("photos", self.photos, 1, _MOST_POSITIONS)
        for name, most in (("image_tokens", _MOST_POSITIONS), ("ctx", _MOST_POSITIONS)):
            value = getattr(self, name)
            if value is not None and value != "auto":
                check_whole(name.replace("_", "-"), value, 1, most)
        if self.gpu_layers != "auto":
            check_whole("gpu-layers", self.gpu_layers, -1, _MOST_LAYERS)
        parse_size(self.cache, name="cache size", whole=lambda: 0)  # wrong text is found before anything is loaded
        if self.threads is not None:
            n = n_cores()
            check_whole("threads", self.threads, 1, most_threads(), f"on {n} processor{'s' if n > 1 else ''}")
