"""Bundles of random weights for ``aesedge bench --shape``, kept in the cache folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aesedge.bundle.gguf_types import COMMON_TYPES
from aesedge.config.memory import fit
from aesedge.errors import MemoryFitError, UsageError
from aesedge.system.byte_sizes import size_text
from aesedge.system.paths import shapes_folder

from ..language.tensor_types import parse_type
from ..plan import listed
from ..progress_display import display_steps
from .shape_cache import cached_bundle
from .shapes import parse_shape
from .size_estimate import memory_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from aesedge.bundle.bundle import Bundle

DEFAULT_GGUF, DEFAULT_VISION = "q4_k_m", "int8"


def bundle_of_shape(
    shape: str,
    gguf: str = DEFAULT_GGUF,
    vision: str = DEFAULT_VISION,
    *,
    mmproj: bool = True,
    device: str = "auto",
    memory: str | None = None,
    quiet: bool = False,
) -> Bundle:
    """Return the bundle of random weights of a shape, made in the cache folder if it is not there.

    Args:
        shape: ``llava-1.5-7b``, ``llava-1.5-13b``, ``pocket``, or one of one's own: ``name:n_embd=2048,n_layer=22``.
        gguf: quantization types with commas between, any case; the first is the one that will be run.
        vision: precisions of the vision graph, with commas between.
        mmproj: whether llama.cpp's form of the tower is written beside it; at 7B that takes 6 s and 0.6 GB.
        device: where it will run.
        memory: the user's budget, as :func:`aesedge.config.memory.parse_memory` reads it.
        quiet: whether no progress is shown on stderr.

    Raises:
        UsageError: there is no such shape or type.
        MemoryFitError: the machine could not run it, or not make it; nothing was written.
        BundleError: there is no room on the disk, or the folder cannot be written.
    """
    numbers = parse_shape(shape)
    types, precisions = _listed(gguf, "--gguf"), _listed(vision, "--vision")
    kind = parse_type(types[0])

    def check() -> None:
        _check_memory(numbers.name, kind, lambda t: memory_parts(numbers, t, precisions), device, memory)

    with display_steps(quiet=quiet) as report:
        return cached_bundle(
            shapes_folder(),
            numbers,
            gguf_types=types,
            vision_types=precisions,
            mmproj=mmproj,
            check=check,
            progress=report,
        )


def _listed(text: str, option: str) -> list[str]:
    found = listed(text)
    if not found:
        raise UsageError(f"{option} names nothing; give a type, as in {option} {DEFAULT_GGUF}")
    return found


def _check_memory(
    name: str, kind: str, parts_of: Callable[[str], Mapping[str, int]], device: str, memory: str | None
) -> None:
    """See that a shape fits this machine, before anything of it is made."""
    limits = fit.limits_now(device, memory)

    def lacks(parts: Mapping[str, int]) -> bool:
        on_gpu = min(limits.gpu_bytes, parts.get("weights", 0) + parts.get("KV cache", 0))
        return sum(parts.values()) - on_gpu > limits.ram_bytes

    parts = parts_of(kind)
    if not lacks(parts):
        return
    listed = ", ".join(f"{part} {size_text(n)}" for part, n in sorted(parts.items(), key=lambda part: -part[1]))
    smaller = _first_that_fits(kind, parts_of, lacks)
    advice = f"--gguf {smaller} would fit" if smaller else "take a smaller shape, or close other programs"
    there = "--memory allows" if memory is not None else "there is room for"
    raise MemoryFitError(
        f"--shape {name} in {kind.lower()} takes about {size_text(sum(parts.values()))} of memory ({listed}), {there} "
        f"{size_text(limits.ram_bytes)}; {advice}"
    )


def _first_that_fits(
    kind: str, parts_of: Callable[[str], Mapping[str, int]], lacks: Callable[[Mapping[str, int]], bool]
) -> str:
    """Return the largest common type that fits, or an empty text."""
    candidates: Sequence[str] = [t for t in COMMON_TYPES if t != kind.lower()]
    return next((t for t in candidates if not lacks(parts_of(t.upper()))), "")
