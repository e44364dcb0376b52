"""How a bundle is to be loaded, as far as memory depends on it; knows options, not sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aesedge.errors import UsageError
from aesedge.llm.context import KV_TYPES

if TYPE_CHECKING:
    from aesedge.vision import Device

ROOM_FOR_TEXT = 1024
"""Positions for questions and answers beside the image, unless ``--ctx`` says otherwise."""
ROOM_FOR_ONE_ANSWER = 256
"""Positions beside each further image: its questions, and a critique of usual length."""
MOST_PHOTOS = 4
"""At once: decoding is limited by memory bandwidth, more sequences gain ever less, and all of them are done later."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What :class:`aesedge.engine.Options` leaves once ``auto`` is decided."""

    gguf: str
    vision: str
    """Precision of the vision graph; not ``auto``."""
    n_image_tokens: int
    device: Device = "auto"
    gpu_layers: int | Literal["auto"] = "auto"
    ctx: int | None = None
    """Positions of the KV cache; None takes what text and image need and ``ROOM_FOR_TEXT`` more."""
    n_photos: int = 1
    """Photos with room beside each other in the KV cache, ``MOST_PHOTOS`` at most, where ``ctx`` says nothing."""
    kv_type: str = "f16"
    repack: bool = True
    """Whether llama.cpp copies weights into layouts for this CPU."""

    def __post_init__(self) -> None:
        if self.kv_type not in KV_TYPES:
            raise UsageError(f"unknown KV type {self.kv_type!r}; there are {', '.join(KV_TYPES)}")

    def n_ctx(self, n_prefix: int) -> int:
        """Return the positions of the KV cache, by the number of tokens before every image."""
        further = (self.n_photos - 1) * (self.n_image_tokens + ROOM_FOR_ONE_ANSWER)
        return self.ctx or n_prefix + self.n_image_tokens + ROOM_FOR_TEXT + further
