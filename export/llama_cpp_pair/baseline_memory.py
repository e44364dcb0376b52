"""Find what llama.cpp needs to run beside a loaded bundle: its image encoder, and enough memory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from aesedge.bundle.checksums import cached_sha256
from aesedge.config.memory import estimate
from aesedge.config.memory.weights_and_kv_cache import LanguageMemory, language_memory
from aesedge.errors import MemoryFitError, UsageError
from aesedge.system.byte_sizes import size_text
from aesedge.system.machine import available_bytes

from .mtmd_process import DEFAULTS, N_CTX, MtmdSettings

if TYPE_CHECKING:
    from pathlib import Path

    from aesedge.bundle.bundle import Bundle
    from aesedge.config.plan import Plan
    from aesedge.engine.model import Model

MMPROJ_PATTERN = "mmproj*.gguf"
"""Name of an image encoder for llama.cpp beside a bundle's files."""
_REVISION = "mmproj sha256:"  # how an imported bundle's manifest says which encoder it was made of
_PROCESS_BYTES = 80 << 20  # interpreter, numpy and both libraries: 53 MiB measured with a model of 9 MB
_ENCODER = 1.1  # an encoder that has run, in sizes of its file: measured for ViT-L/14-336, 604 of 596 MiB


class Configuration(NamedTuple):
    """How the other program runs."""

    settings: MtmdSettings
    n_bytes: int
    """RAM that it takes beside the open bundle."""


def find_mmproj(bundle: Bundle, given: Path | None = None) -> Path:
    """Return the image encoder that llama.cpp takes for a bundle.

    Args:
        bundle: the bundle.
        given: a file that the user names; None looks beside the bundle's files.

    Raises:
        UsageError: there is none, or it is not the one that the bundle was made of.
    """
    if given is None:
        found = sorted(bundle.folder.glob(MMPROJ_PATTERN))
        if not found:
            raise UsageError(
                f"bundle {bundle.name!r} has no image encoder for llama.cpp ({MMPROJ_PATTERN}) beside its files, so "
                "libmtmd cannot see with it; bundles of 'aesedge import' and of 'bench --shape' have both forms"
            )
        given = found[0]
    if not given.is_file():
        raise UsageError(f"{given}: there is no such mmproj file")
    revision = bundle.manifest.source.revision
    if revision.startswith(_REVISION) and cached_sha256(given) != revision.removeprefix(_REVISION):
        raise UsageError(f"{given}: is not the mmproj file that bundle {bundle.name!r} was made of")
    return given


def configurations_that_fit(model: Model, encoder: Path) -> tuple[list[Configuration], str]:
    """Return the ways of running llama.cpp that memory has room for: its own defaults first, then the model's settings.

    Args:
        model: the open bundle.
        encoder: its mmproj file, which the first way loads too.

    Returns:
        The ways, and what was left out and why, if anything was.

    Raises:
        MemoryFitError: there is no room for llama.cpp's own defaults.
    """
    plan = model.internals.plan
    layers = estimate(model.bundle, plan).gpu_layers
    ours = _memory(model, plan)

    def way(settings: MtmdSettings, n_encoder: int) -> Configuration:
        needs = _memory(model, replace(plan, repack=settings.repack is not False, ctx=N_CTX, kv_type="f16"))
        shared = min(found.in_ram.get("weights", 0) for found in (needs, ours))  # both map one file
        n_bytes = sum(needs.in_ram.values()) - shared + int(_ENCODER * n_encoder) + _PROCESS_BYTES
        return Configuration(settings, n_bytes)

    default = way(DEFAULTS._replace(gpu_layers=layers), encoder.stat().st_size)
    same = way(MtmdSettings(plan.repack, plan.flash_attention, plan.n_ubatch, layers), 0)
    free = available_bytes()
    if default.n_bytes > free:
        raise MemoryFitError(
            f"--against mtmd: llama.cpp with {plan.gguf.lower()} and {encoder.name}, at its own defaults, takes "
            f"{size_text(default.n_bytes)} beside the loaded bundle, and {size_text(free)} are free; close other "
            "programs, or compare a smaller --gguf type"
        )
    if default.n_bytes + same.n_bytes > free:
        more = default.n_bytes + same.n_bytes - free
        return [default], f"llama-bench's calls at our settings: {size_text(more)} more memory would be needed"
    return [default, same], ""


def _memory(model: Model, plan: Plan) -> LanguageMemory:
    path = model.bundle.path("llm", plan.gguf)
    return language_memory(path, plan, model.internals.template.before_image, reserved_bytes=0)
