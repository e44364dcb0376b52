"""Decide how a bundle is loaded: by the user's options, then by tuning results, then by the hardware."""

from __future__ import annotations

import logging
import platform
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Literal

from aesedge.config.plan import MOST_PHOTOS, Plan
from aesedge.config.profile import load_profile
from aesedge.errors import UsageError
from aesedge.llm.accelerator import kernels_in_use
from aesedge.llm.gpu_offload import gpu_devices
from aesedge.system.machine import default_n_threads
from aesedge.vision.providers import vision_type

if TYPE_CHECKING:
    from aesedge.bundle.bundle import Bundle
    from aesedge.bundle.manifest import BundleFile, Manifest
    from aesedge.config.options import Options

_FLOATS = {"f32", "f16", "bf16"}
_LARGE_BYTES = 1_000_000_000
_log = logging.getLogger("aesedge")


def make_plan(options: Options, bundle: Bundle) -> Plan:
    """Return how a bundle is loaded: as the user wants it, else as measured here, else by what the hardware is.

    Raises:
        ProviderError: the device that was asked for is not there.
        UsageError: the bundle has no such number of image tokens, or there is no such KV type.
    """
    plan = _by_hardware(options, bundle)
    profile = load_profile(bundle.manifest, plan.gguf, options.device) if options.tuned else None
    settings = profile.settings.get(options.purpose) if profile else None
    if settings is not None:
        plan = replace(plan, **asdict(settings))
    chosen: dict[str, Any] = {} if options.vision == "auto" else {"vision": options.vision}
    if options.gpu_layers != "auto":
        chosen["gpu_layers"] = options.gpu_layers
    if options.kv_type is not None:
        chosen["kv_type"] = options.kv_type
        if options.kv_type != "f16":  # llama.cpp has it with flash attention alone, whatever was tuned
            chosen["flash_attention"] = True
    if not options.kernels:
        chosen["kernels"] = False
    if options.threads is not None:
        chosen |= dict.fromkeys(("threads", "threads_batch", "threads_vision"), options.threads)
    return replace(plan, **chosen)


def _by_hardware(options: Options, bundle: Bundle) -> Plan:
    """Return a plan where nothing was measured."""
    manifest = bundle.manifest
    gguf = options.gguf or manifest.defaults.gguf
    vision = vision_type(options.vision, manifest.types("vision"), manifest.defaults.vision, options.device)
    files = [manifest.file("llm", gguf), manifest.file("vision", vision)]
    # With a GPU llama.cpp computes large batches there, and would not if the kernels took them.
    on_cpu = options.device == "cpu" or not gpu_devices()
    kernels = options.kernels and on_cpu and gguf.lower() not in _FLOATS
    n_threads = default_n_threads(sum(file.n_bytes for file in files if file is not None))
    return Plan(
        gguf=gguf,
        vision=vision,
        n_image_tokens=check_image_tokens(manifest, options.image_tokens),
        device=options.device,
        vision_device=options.device,
        ctx=options.ctx,
        n_photos=min(options.photos, MOST_PHOTOS),
        repack=repacking_pays(gguf, kernels=kernels),
        kernels=kernels,
        flash_attention=_flash_attention_pays(options, manifest.file("llm", gguf)),
        threads=n_threads,
        threads_batch=n_threads,
        threads_vision=n_threads,
    )


def _flash_attention_pays(options: Options, llm: BundleFile | None) -> bool:
    """Return whether to fuse attention, if nobody measured.

    Not for texts of large models on x86: at 7B on two Zen 4 cores it makes prefill 1.1 times as fast, and decoding
    behind an image 1.2 times as slow, so that a critique of more than 50 tokens is over later.
    """
    is_large = llm is not None and llm.n_bytes > _LARGE_BYTES
    on_cpu = options.device == "cpu" or not gpu_devices()
    return not (options.purpose == "critique" and is_large and on_cpu and _is_x86())


def repacking_pays(gguf: str, *, kernels: bool = False) -> bool:
    """Return whether to let llama.cpp repack a type's weights, if nobody measured.

    Not K-quants on x86: at 7B in Q4_K_M on two Zen 4 cores that costs a third of the prefill's speed and 4 GB, and buys
    a fifth of the decoding's. On Arm it is what makes use of dot products. The kernels take weights as they are in the
    file.
    """
    if not _is_x86():
        return True
    return not ("_k" in gguf.lower() or (gguf.lower() == "q4_0" and kernels_in_use(wanted=kernels)))


def _is_x86() -> bool:
    return platform.machine().lower() in {"x86_64", "amd64"}


def check_image_tokens(manifest: Manifest, asked: int | Literal["auto"] | None) -> int:
    """Return how many positions an image takes; None is as many as there are.

    Raises:
        UsageError: the bundle cannot make so many.
    """
    least, most = manifest.image_tokens.min, manifest.image_tokens.max
    if asked == "auto":
        if least < most and not manifest.image_tokens.curve:
            _log.warning(
                "--image-tokens auto takes all %d: nobody measured what fewer cost with bundle %r; 'aesedge tune "
                "--bundle %s --quality PHOTOS' does",
                *(most, manifest.name, manifest.name),
            )
        return manifest.image_tokens.auto()
    if asked is not None and not least <= asked <= most:
        have = str(most) if least == most else f"{least} to {most}"
        raise UsageError(f"--image-tokens {asked}: bundle {manifest.name!r} has {have} image tokens")
    return asked or most
