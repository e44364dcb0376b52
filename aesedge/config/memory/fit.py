"""Check that a plan fits this machine, and say what would fit where it does not."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from aesedge.config.memory.estimate import PROCESS_BYTES, MemoryEstimate, estimate
from aesedge.config.memory.suggestions import suggestions
from aesedge.errors import MemoryFitError, UsageError
from aesedge.llm.gpu_offload import gpu_devices
from aesedge.system import machine
from aesedge.system.byte_sizes import parse_size, size_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aesedge.bundle.bundle import Bundle
    from aesedge.config.plan import Plan

_LEAST = 10**6
_STEP = 10**8  # what a budget is rounded up to


class Fit(NamedTuple):
    """A plan that fits."""

    estimate: MemoryEstimate
    spare_bytes: int
    """The rest of the RAM that it may take."""


class MemoryLimits(NamedTuple):
    """What there is for this process, in bytes."""

    process_bytes: int
    """What it takes without a bundle."""
    free_bytes: int
    """RAM that it has or could have."""
    ram_bytes: int
    """RAM that it may have: all of that, or the user's budget."""
    gpu_bytes: int

    def fits(self, found: MemoryEstimate) -> bool:
        """Whether a plan fits."""
        return found.needed_bytes <= self.ram_bytes and found.gpu_bytes <= self.gpu_bytes


def limits_now(device: str, memory: str | None) -> MemoryLimits:
    """Look at the machine and at the user's budget, see :func:`check_fit`."""
    mine = machine.process_bytes()
    free = mine + machine.available_bytes()
    room = free if memory is None else min(free, parse_memory(memory))
    gpu_room = sum(gpu.free_bytes for gpu in gpu_devices()) if device != "cpu" else 0
    return MemoryLimits(max(PROCESS_BYTES, mine), free, room, gpu_room)


def parse_memory(text: str) -> int:
    """Read the value of ``--memory``: ``6GB``, ``512MiB``, or ``50%`` of this machine's (or container's) RAM.

    Raises:
        UsageError: it is none of these, or nothing is left.
    """
    n_bytes = parse_size(text, name="--memory", whole=machine.total_bytes)
    if n_bytes < _LEAST:
        raise UsageError(f"--memory {text!r} is less than 1 MB; write 6GB, 512MB or 50%")
    return n_bytes


def check_fit(bundle: Bundle, plan: Plan, memory: str | None = None) -> Fit:
    """See that a plan fits this machine and the user's budget, before anything heavy is loaded.

    Needed RAM is compared with what is free now, for this process in all, or with the budget where that is less. On
    GPUs it is compared with their free memory. Where it does not fit with room for several photos, it has room for
    fewer.

    Args:
        bundle: what is to be loaded.
        plan: how.
        memory: the user's budget for the whole process, as :func:`parse_memory` reads it.

    Returns:
        The estimate, which has the number of layers for the GPU, and what is left.

    Raises:
        MemoryFitError: it does not fit; the message says by how much, and what would.
        ModelLoadError, ProviderError: see :func:`aesedge.config.memory.estimate.estimate`.
    """
    limits = limits_now(plan.device, memory)
    free, room, gpu_room = limits.free_bytes, limits.ram_bytes, limits.gpu_bytes

    def of(plan: Plan) -> MemoryEstimate:
        return estimate(bundle, plan, process_bytes=limits.process_bytes)

    for n_photos in range(plan.n_photos, 0, -1):
        plan = replace(plan, n_photos=n_photos)
        wanted = of(plan)
        if limits.fits(wanted):
            return Fit(wanted, room - wanted.needed_bytes)
    found = suggestions(bundle, plan, wanted, of, limits.fits)
    ways = [f"{words} ({size_text(smaller.needed_bytes)})" for words, smaller in found]
    if room < free and wanted.needed_bytes <= free and wanted.gpu_bytes <= gpu_room:
        ways.append(f"--memory {math.ceil(wanted.needed_bytes / _STEP) * _STEP / 1e9:.1f}GB")
    raise MemoryFitError(_message(bundle, wanted, room=room, is_budget=room < free, gpu_room=gpu_room, ways=ways))


def _message(
    bundle: Bundle, wanted: MemoryEstimate, *, room: int, is_budget: bool, gpu_room: int, ways: Sequence[str]
) -> str:
    in_ram = wanted.needed_bytes > room
    parts = wanted.parts if in_ram else wanted.gpu_parts
    listed = ", ".join(f"{name} {size_text(n)}" for name, n in sorted(parts.items(), key=lambda part: -part[1]))
    where, limit = ("RAM", room) if in_ram else ("GPU memory", gpu_room)
    there = f"--memory allows {size_text(limit)}" if in_ram and is_budget else f"{size_text(limit)} are free"
    advice = (
        f"what fits: {'; '.join(ways)}"
        if ways
        else ("nothing in this bundle fits; close other programs, or export it again with a smaller --gguf type")
    )
    plan = wanted.plan
    return (
        f"bundle {bundle.name!r} ({plan.gguf.lower()}, vision {plan.vision.lower()}, {plan.n_image_tokens} image "
        f"tokens, --ctx {wanted.n_ctx}, --kv-type {plan.kv_type}) needs {size_text(sum(parts.values()))} of {where}, "
        f"{there}: {listed}; {advice}"
    )
