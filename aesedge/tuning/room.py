"""Whether memory has room for what is tried, alone or beside something else; knows estimates, opens nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from aesedge.memory import estimate, limits_now

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aesedge.bundle import Bundle
    from aesedge.memory import MemoryEstimate
    from aesedge.plan import Plan
    from aesedge.profile import Settings

Weights = tuple[str | int, bool]
"""What decides how weights lie in memory: layers on the GPU, and repacking."""
_OF_WEIGHTS = {"weights", "weights, repacked", "vocabulary and outputs"}
_OF_CONTEXT = {"KV cache", "compute buffers"}


def weights_of(settings: Settings) -> Weights:
    """Return how settings load the weights."""
    return settings.gpu_layers, settings.repack


class Room:
    """What memory there was before anything was opened.

    Args:
        bundle: what is tried.
        plan: how, but for the settings.
        memory: the user's budget, as :func:`aesedge.memory.parse_memory` reads it.
        n_ctx: positions of the KV caches that are opened here.
    """

    def __init__(self, bundle: Bundle, plan: Plan, memory: str | None, n_ctx: int) -> None:
        self._bundle = bundle
        self._plan = plan
        self._n_ctx = n_ctx
        self._limits = limits_now(plan.device, memory)
        self._known: dict[tuple[Settings, int | None], MemoryEstimate] = {}

    def estimate(self, settings: Settings, ctx: int | None = None) -> MemoryEstimate:
        """Return what settings take, with so many positions, or with as many as users have."""
        if (settings, ctx) not in self._known:
            plan = replace(self._plan, **msgspec.structs.asdict(settings), ctx=ctx)
            self._known[settings, ctx] = estimate(self._bundle, plan, process_bytes=self._limits.process_bytes)
        return self._known[settings, ctx]

    def gpu_layers(self, settings: Settings) -> int:
        """Return the number of layers on the GPU, -1 for all."""
        return self.estimate(settings, self._n_ctx).gpu_layers

    def repacks(self, settings: Settings) -> bool:
        """Whether there is anything in the file that llama.cpp would repack."""
        return "weights, repacked" in self.estimate(msgspec.structs.replace(settings, repack=True), self._n_ctx).parts

    def has(self, settings: Settings) -> bool:
        """Whether settings fit as users run them."""
        return self._limits.hold(self.estimate(settings))

    def has_for(self, opened: Iterable[Settings], idle: Iterable[Settings] = ()) -> bool:
        """Whether several fit beside each other, with the weights of others that are loaded and not used now."""
        opened, idle = list(opened), list(idle)
        by_weights = {weights_of(s): self.estimate(s, self._n_ctx) for s in [*idle, *opened]}
        contexts = [self.estimate(s, self._n_ctx) for s in opened]
        rest = max((_sum(e.parts, but=_OF_WEIGHTS | _OF_CONTEXT) for e in contexts), default=self._limits.process_bytes)
        needed = rest + sum(_sum(e.parts, _OF_WEIGHTS) for e in by_weights.values())
        needed += sum(_sum(e.parts, _OF_CONTEXT) for e in contexts)
        on_gpu = sum(_sum(e.gpu_parts, _OF_WEIGHTS) for e in by_weights.values())
        on_gpu += sum(_sum(e.gpu_parts, but=_OF_WEIGHTS) for e in contexts)
        return needed <= self._limits.ram_bytes and on_gpu <= self._limits.gpu_bytes


def _sum(parts: dict[str, int], names: set[str] | None = None, *, but: set[str] | None = None) -> int:
    return sum(n for name, n in parts.items() if (names is None or name in names) and name not in (but or set()))
