"""What the user chose for loading a bundle, and the plan that it leaves; knows no files and nothing that is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aesedge.errors import UsageError
from aesedge.eye import WORTH_KEEPING_S
from aesedge.memory import MOST_PHOTOS, Plan
from aesedge.vision import Device, vision_type

if TYPE_CHECKING:
    from pathlib import Path

    from aesedge.manifest import Manifest

DEFAULT_BUDGET = "2GB"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user chose for loading; None or ``auto`` leaves it to aesedge."""

    gguf: str | None = None
    """Quantization type, any case; None takes the manifest's default."""
    vision: str = "auto"
    """Precision of the vision graph; ``auto`` is decided by :func:`aesedge.vision.vision_type`."""
    image_tokens: int | None = None
    device: Device = "auto"
    gpu_layers: int | Literal["auto"] = "auto"
    """Layers of the language model on the GPU."""
    threads: int | None = None
    ctx: int | None = None
    """Positions of the KV cache, over all that share it; None takes what ``photos`` need."""
    photos: int = 1
    """How many photos will be worked on side by side, if memory allows and ``ctx`` says nothing."""
    kv_type: str = "f16"
    cache: str = DEFAULT_BUDGET
    """What image embeddings may take on disk: ``2GB``, ``5%`` of the disk; ``0`` keeps none beyond this process."""
    cache_folder: Path | None = None
    """Where they and KV are kept; None is the user's own folder for caches."""
    worth_keeping_s: float = WORTH_KEEPING_S
    """How long embeddings, or the text before every image, must take for them to be kept on disk."""
    memory: str | None = None
    """What the process may take, e.g. ``6GB`` or ``50%``; None is what the machine has free."""

    def __post_init__(self) -> None:
        for name in ("image_tokens", "threads", "ctx", "photos"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name.replace('_', '-')} is {value}; it must be 1 or more")

    def plan(self, manifest: Manifest) -> Plan:
        """Return how a bundle is loaded with these options.

        Raises:
            ProviderError: the device that was asked for is not there.
            UsageError: the bundle has no such number of image tokens, or there is no such KV type.
        """
        return Plan(
            gguf=self.gguf or manifest.defaults.gguf,
            vision=vision_type(self.vision, manifest.types("vision"), manifest.defaults.vision, self.device),
            n_image_tokens=_n_image_tokens(manifest, self.image_tokens),
            device=self.device,
            gpu_layers=self.gpu_layers,
            ctx=self.ctx,
            n_photos=min(self.photos, MOST_PHOTOS),
            kv_type=self.kv_type,
        )


def _n_image_tokens(manifest: Manifest, asked: int | None) -> int:
    least, most = manifest.image_tokens.min, manifest.image_tokens.max
    if asked is not None and not least <= asked <= most:
        have = str(most) if least == most else f"{least} to {most}"
        raise UsageError(f"--image-tokens {asked}: bundle {manifest.name!r} has {have} image tokens")
    return asked or most
