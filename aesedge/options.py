"""What the user chose for loading a bundle, and the plan that it leaves; knows no files and nothing that is loaded."""

from __future__ import annotations

import logging
import platform
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from aesedge.errors import UsageError
from aesedge.eye import WORTH_KEEPING_S
from aesedge.llm.placement import gpu_devices
from aesedge.machine import default_n_threads, most_threads, n_cores
from aesedge.plan import MOST_PHOTOS, Plan
from aesedge.profile import Purpose, load_profile
from aesedge.sizes import parse_size
from aesedge.system.bounds import check_whole
from aesedge.vision import Device, vision_type

if TYPE_CHECKING:
    from pathlib import Path

    from aesedge.bundle import Bundle
    from aesedge.manifest import BundleFile, Manifest

DEFAULT_BUDGET = "2GB"
_LARGE_BYTES = 1_000_000_000
_MOST_POSITIONS = 1 << 20  # eight times what the longest contexts have; llama.cpp counts in 32 bits
_MOST_LAYERS = 10_000
_log = logging.getLogger("aesedge")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user chose for loading; None or ``auto`` leaves it to aesedge."""

    gguf: str | None = None
    """Quantization type, any case; None takes the manifest's default."""
    vision: str = "auto"
    """Precision of the vision graph; ``auto`` is what was tuned, or decided by :func:`aesedge.vision.vision_type`."""
    image_tokens: int | Literal["auto"] | None = None
    """Positions that an image takes; ``auto`` is the fewest that cost no more than the stated tolerance on measured
    photos (see :meth:`aesedge.manifest.ImageTokens.auto`), None all of them."""
    device: Device = "auto"
    gpu_layers: int | Literal["auto"] = "auto"
    """Layers of the language model on the GPU; -1 is all."""
    threads: int | None = None
    """CPU threads of both models; as many as :func:`aesedge.machine.most_threads` says at most."""
    ctx: int | None = None
    """Positions of the KV cache, over all that share it; None takes what ``photos`` need."""
    photos: int = 1
    """How many photos will be worked on side by side, if memory allows and ``ctx`` says nothing."""
    kv_type: str | None = None
    """Type of the KV cache; None is what was tuned, or f16."""
    purpose: Purpose = "critique"
    """What it will be used for most; the fastest settings for scores and for texts differ."""
    tuned: bool = True
    """Whether what ``aesedge tune`` has measured is used."""
    cache: str = DEFAULT_BUDGET
    """What image embeddings may take on disk: ``2GB``, ``5%`` of the disk; ``0`` keeps none beyond this process."""
    cache_folder: Path | None = None
    """Where they and KV are kept; None is the user's own folder for caches."""
    worth_keeping_s: float = WORTH_KEEPING_S
    """How long embeddings, or the text before every image, must take for them to be kept on disk."""
    memory: str | None = None
    """What the process may take, e.g. ``6GB`` or ``50%``; None is what the machine has free."""

    def __post_init__(self) -> None:
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

    def plan(self, bundle: Bundle) -> Plan:
        """Return how a bundle is loaded: as the user wants it, else as measured here, else by what the hardware is.

        Raises:
            ProviderError: the device that was asked for is not there.
            UsageError: the bundle has no such number of image tokens, or there is no such KV type.
        """
        plan = self._by_hardware(bundle)
        profile = load_profile(bundle.manifest, plan.gguf, self.device) if self.tuned else None
        settings = profile.settings.get(self.purpose) if profile else None
        if settings is not None:
            plan = replace(plan, **msgspec.structs.asdict(settings))
        chosen: dict[str, Any] = {} if self.vision == "auto" else {"vision": self.vision}
        if self.gpu_layers != "auto":
            chosen["gpu_layers"] = self.gpu_layers
        if self.kv_type is not None:
            chosen["kv_type"] = self.kv_type
            if self.kv_type != "f16":  # llama.cpp has it with flash attention alone, whatever was tuned
                chosen["flash_attention"] = True
        if self.threads is not None:
            chosen |= dict.fromkeys(("threads", "threads_batch", "threads_vision"), self.threads)
        return replace(plan, **chosen)

    def _by_hardware(self, bundle: Bundle) -> Plan:
        """Return a plan where nothing was measured."""
        manifest = bundle.manifest
        gguf = self.gguf or manifest.defaults.gguf
        vision = vision_type(self.vision, manifest.types("vision"), manifest.defaults.vision, self.device)
        files = [manifest.file("llm", gguf), manifest.file("vision", vision)]
        n_threads = default_n_threads(sum(file.n_bytes for file in files if file is not None))
        return Plan(
            gguf=gguf,
            vision=vision,
            n_image_tokens=check_image_tokens(manifest, self.image_tokens),
            device=self.device,
            vision_device=self.device,
            ctx=self.ctx,
            n_photos=min(self.photos, MOST_PHOTOS),
            repack=repacking_pays(gguf),
            flash_attention=self._flash_attention_pays(manifest.file("llm", gguf)),
            threads=n_threads,
            threads_batch=n_threads,
            threads_vision=n_threads,
        )

    def _flash_attention_pays(self, llm: BundleFile | None) -> bool:
        """Whether to fuse attention, where nobody measured.

        Not for texts of large models on x86: at 7B on two Zen 4 cores it makes prefill 1.1 times as fast, and decoding
        behind an image 1.2 times as slow, so that a critique of more than 50 tokens is over later.
        """
        is_large = llm is not None and llm.n_bytes > _LARGE_BYTES
        on_cpu = self.device == "cpu" or not gpu_devices()
        return not (self.purpose == "critique" and is_large and on_cpu and _is_x86())


def repacking_pays(gguf: str) -> bool:
    """Whether to let llama.cpp copy a type's weights into other layouts, where nobody measured.

    Not K-quants on x86: at 7B in Q4_K_M on two Zen 4 cores that costs a third of the prefill's speed and 4 GB, and buys
    a fifth of the decoding's. On Arm it is what makes use of dot products.
    """
    return not ("_k" in gguf.lower() and _is_x86())


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
                "--image-tokens auto takes all %d: nobody measured what fewer cost with bundle %r; 'aesedge tune %s "
                "--quality PHOTOS' does",
                *(most, manifest.name, manifest.name),
            )
        return manifest.image_tokens.auto()
    if asked is not None and not least <= asked <= most:
        have = str(most) if least == most else f"{least} to {most}"
        raise UsageError(f"--image-tokens {asked}: bundle {manifest.name!r} has {have} image tokens")
    return asked or most
