"""Choosing the next token: llama.cpp's sampler chain; knows logits of a context's last batch, not text."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aesedge.errors import UsageError
from aesedge.llm import binding

if TYPE_CHECKING:
    from aesedge.llm.context import Context


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen, per call."""

    temperature: float = 0.0
    """0 takes the likeliest token always; higher is more varied (0.2 is LLaVA's own)."""
    top_k: int = 40
    """Choose among the k likeliest tokens; 0 is all."""
    top_p: float = 0.95
    """Choose among the likeliest tokens that make up this probability; 1 is all."""
    min_p: float = 0.05
    """Leave out tokens less likely than this share of the likeliest; 0 is none."""
    seed: int | None = None
    """Same seed, same text; None draws one. Without meaning at temperature 0."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 10:
            raise UsageError(f"temperature {self.temperature} is not between 0 and 10")
        if not 0 < self.top_p <= 1 or not 0 <= self.min_p <= 1 or self.top_k < 0:
            raise UsageError("top_p is above 0 and at most 1, min_p is from 0 to 1, top_k is 0 or more")


class Sampler:
    """One sequence's chain; it remembers what it chose."""

    def __init__(self, sampling: Sampling) -> None:
        lib = self._lib = binding.load()
        self._chain: Any = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        if sampling.temperature == 0:
            self._add(lib.llama_sampler_init_greedy())
            return
        if sampling.top_k:
            self._add(lib.llama_sampler_init_top_k(sampling.top_k))
        if sampling.top_p < 1:
            self._add(lib.llama_sampler_init_top_p(sampling.top_p, 1))
        if sampling.min_p:
            self._add(lib.llama_sampler_init_min_p(sampling.min_p, 1))
        self._add(lib.llama_sampler_init_temp(sampling.temperature))
        seed = sampling.seed if sampling.seed is not None else random.SystemRandom().getrandbits(31)
        self._add(lib.llama_sampler_init_dist(seed % 2**32))

    def _add(self, link: Any) -> None:
        self._lib.llama_sampler_chain_add(self._chain, link)  # the chain owns its links from now on

    def sample(self, context: Context, row: int) -> int:
        """Return the token chosen from a row of the context's last batch; -1 is its last row."""
        return int(self._lib.llama_sampler_sample(self._chain, context.handle, row))

    def close(self) -> None:
        """Free the chain. Closing twice does nothing."""
        chain, self._chain = self._chain, None
        if chain:
            self._lib.llama_sampler_free(chain)

    def __enter__(self) -> Sampler:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
