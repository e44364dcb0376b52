"""Define the plan: how a bundle is loaded and run once every option is decided."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

import msgspec

from aesedge.errors import UsageError
from aesedge.llm.limits import KV_TYPES, N_BATCH_MAX
from aesedge.vision.providers import Device  # noqa: TC001 (msgspec reads the annotations of Settings)

Threads = Annotated[int, msgspec.Meta(ge=1, le=1 << 16)]
ROOM_FOR_TEXT = 1024
"""Positions for questions and answers beside the image, unless ``--ctx`` says otherwise."""
ROOM_FOR_ONE_ANSWER = 256
"""Positions beside each further image: its questions, and a critique of usual length."""
MOST_PHOTOS = 4
"""At once: with the matrix kernels a step of 4 texts takes as long as one of 1, of 8 texts 1.4 times as long
(docs/speed.md), but each further photo takes KV cells, shares no prefill, and is done later."""


N_UBATCH = 256
"""Default ``n_ubatch``: at 7B on two cores 128 to 512 are within 7 % of one another, and other jobs do not wait for a
whole image."""


def _tuned(words: str, default: Any) -> Any:
    """Declare a setting that is measured, with the words that tables have for it."""
    return field(default=default, metadata={"words": words})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What only the speed depends on, within a tolerance, and ``aesedge tune`` measures."""

    vision: str = _tuned("vision", "fp32")
    """Precision of the vision graph; not ``auto``."""
    vision_device: Device = _tuned("vision provider", "auto")
    """Where the vision graph runs; the language model goes by ``device`` and ``gpu_layers``."""
    kv_type: str = _tuned("KV cache", "f16")
    gpu_layers: Annotated[int, msgspec.Meta(ge=-1, le=1 << 16)] | Literal["auto"] = _tuned("layers on the GPU", "auto")
    repack: bool = _tuned("weight repacking", default=True)
    """Whether llama.cpp copies weights into layouts for this CPU."""
    kernels: bool = _tuned("matrix kernels", default=True)
    """Whether aesedge's own kernels compute products with two and more columns, where there are any."""
    flash_attention: bool = _tuned("flash attention", default=True)
    n_ubatch: Annotated[int, msgspec.Meta(ge=1, le=N_BATCH_MAX)] = _tuned("n_ubatch", N_UBATCH)
    """Image embeddings or tokens of one prompt that are computed in one batch; llama.cpp's ``--ubatch-size``."""
    threads_vision: Threads = _tuned("threads, vision", 1)
    threads_batch: Threads = _tuned("threads, prefill", 1)
    threads: Threads = _tuned("threads, decode", 1)


@dataclass(frozen=True, kw_only=True)
class Plan(Settings):
    """What :class:`aesedge.config.options.Options` leaves once ``auto`` is decided."""

    gguf: str
    n_image_tokens: int
    device: Device = "auto"
    ctx: int | None = None
    """Positions of the KV cache; None takes what text and image need and ``ROOM_FOR_TEXT`` more."""
    n_photos: int = 1
    """Photos with room beside each other in the KV cache, ``MOST_PHOTOS`` at most, where ``ctx`` says nothing."""

    @property
    def settings(self) -> Settings:
        """What is measured."""
        return Settings(**{setting.name: getattr(self, setting.name) for setting in fields(Settings)})

    def __post_init__(self) -> None:
        if self.kv_type not in KV_TYPES:
            raise UsageError(f"unknown KV type {self.kv_type!r}; there are {', '.join(KV_TYPES)}")

    def n_ctx(self, n_prefix: int) -> int:
        """Return the positions of the KV cache, by the number of tokens before every image."""
        further = (self.n_photos - 1) * (self.n_image_tokens + ROOM_FOR_ONE_ANSWER)
        return self.ctx or n_prefix + self.n_image_tokens + ROOM_FOR_TEXT + further
