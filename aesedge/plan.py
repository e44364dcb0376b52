"""How a bundle is loaded and run, once nothing is left to decide; knows no files, no machine and no sizes."""

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


CHUNK = 256
"""Rows of one image, or tokens of one text, in a batch, if nobody measured: at 7B on two cores 128 to 512 rows are
within 7 % of one another, and nobody else waits for a whole image."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What :class:`aesedge.options.Options` leaves once ``auto`` is decided.

    What changes what a bundle says comes first, what changes only how fast it says it comes last.
    """

    gguf: str
    vision: str
    """Precision of the vision graph; not ``auto``."""
    n_image_tokens: int
    kv_type: str = "f16"
    device: Device = "auto"
    vision_device: Device = "auto"
    """Where the vision graph runs; the language model goes by ``device`` and ``gpu_layers``."""
    ctx: int | None = None
    """Positions of the KV cache; None takes what text and image need and ``ROOM_FOR_TEXT`` more."""
    n_photos: int = 1
    """Photos with room beside each other in the KV cache, ``MOST_PHOTOS`` at most, where ``ctx`` says nothing."""
    gpu_layers: int | Literal["auto"] = "auto"
    repack: bool = True
    """Whether llama.cpp copies weights into layouts for this CPU."""
    flash_attention: bool = True
    chunk: int = CHUNK
    """Rows of one image, or tokens of one text, in a batch."""
    threads: int = 1
    """CPU threads that decode."""
    threads_batch: int = 1
    """CPU threads that prefill."""
    threads_vision: int = 1
    """CPU threads of the vision tower."""

    def __post_init__(self) -> None:
        if self.kv_type not in KV_TYPES:
            raise UsageError(f"unknown KV type {self.kv_type!r}; there are {', '.join(KV_TYPES)}")

    def n_ctx(self, n_prefix: int) -> int:
        """Return the positions of the KV cache, by the number of tokens before every image."""
        further = (self.n_photos - 1) * (self.n_image_tokens + ROOM_FOR_ONE_ANSWER)
        return self.ctx or n_prefix + self.n_image_tokens + ROOM_FOR_TEXT + further
