"""What is worth trying on this hardware, the most valuable first; knows settings and cores, times nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import psutil

from aesedge.config.plan import N_UBATCH
from aesedge.llm.gpu_offload import gpu_devices
from aesedge.system.machine import default_n_threads, n_cores
from aesedge.tuning.steps import same_batches
from aesedge.vision.tower import PROVIDERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aesedge.config.plan import Settings
    from aesedge.tuning.steps import Phase

N_UBATCHES = (512, 128)
"""Beside the default."""
_PRECISE_FIRST = ("fp32", "fp16", "int8")
_MANY_CORES = 4


class Change(NamedTuple):
    """Other values of settings, and what they are about."""

    name: str
    values: dict[str, Any]
    """Fields of :class:`aesedge.config.plan.Settings`."""
    phases: frozenset[Phase]
    """What they can make faster."""
    grows: bool = False
    """Whether it matters how much is in the cache."""
    whole_batches: bool = False
    """Whether it is about the batches themselves."""

    @property
    def part(self) -> Literal["vision", "language"]:
        """Who runs otherwise."""
        return "vision" if "vision" in self.phases else "language"


class Hardware(NamedTuple):
    """What decides about candidates."""

    n_logical: int
    """Processors that this process may use."""
    n_physical: int
    has_gpu: bool
    """Whether llama.cpp has one."""
    is_small: bool
    """Whether the model is so small that threads mostly wait for one another."""
    repacks: bool
    """Whether llama.cpp would repack anything of the file."""
    is_busy: bool = False
    """Whether other programs take cores now: fewer threads can be faster then, and slower when those are gone."""


def hardware(device: str, model_bytes: int, *, repacks: bool, is_busy: bool) -> Hardware:
    """Look at this machine.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``metal``.
        model_bytes: of tower and language model.
        repacks: see :class:`Hardware`.
        is_busy: see :class:`Hardware`.
    """
    n_logical = n_cores()
    n_physical = min(n_logical, psutil.cpu_count(logical=False) or n_logical)
    has_gpu = device != "cpu" and bool(gpu_devices())
    return Hardware(n_logical, n_physical, has_gpu, default_n_threads(model_bytes) == 1, repacks, is_busy)


def most_precise(types: Sequence[str]) -> str:
    """Return the vision precision that others are compared with."""
    return min(types, key=lambda t: _PRECISE_FIRST.index(t.lower()) if t.lower() in _PRECISE_FIRST else 99)


def usable(types: Sequence[str], provider: str) -> list[str]:
    """Return the precisions that can be fast: a CPU computes fp16 in float32, 8-bit products run on the CPU alone."""
    unfit = "fp16" if provider == PROVIDERS["cpu"] else "int8" if provider == PROVIDERS["cuda"] else ""
    return [t for t in types if t.lower() != unfit] or list(types)


def vision_changes(
    start: Settings, types: Sequence[str], provider: str, machine: Hardware, devices: Sequence[str] = ()
) -> list[Change]:
    """Return what to try with the tower.

    Args:
        start: the settings at the beginning.
        types: precisions that are worth trying.
        provider: what runs the graph at the beginning.
        machine: this machine.
        devices: where else the graph may run.
    """
    about: frozenset[Phase] = frozenset(("vision",))
    found = [Change("vision precision", {"vision": t}, about) for t in usable(types, provider) if t != start.vision]
    if provider == PROVIDERS["cpu"]:
        threads = _thread_counts(machine, halves=True)
        found += [Change("threads, vision", {"threads_vision": n}, about) for n in threads if n != start.threads_vision]
    others = [device for device in devices if PROVIDERS[device] != provider]
    return found + [Change("vision provider", {"vision_device": device}, about) for device in others]


def language_changes(start: Settings, n_image: int, machine: Hardware) -> list[Change]:
    """Return what to try with the language model."""
    prefill: frozenset[Phase] = frozenset(("prefill",))
    decode: frozenset[Phase] = frozenset(("decode",))
    both = prefill | decode
    found = []
    if machine.has_gpu:
        other: int | str = 0 if start.gpu_layers == "auto" else "auto"
        found.append(Change("GPU layers", {"gpu_layers": other}, both))
    if machine.repacks:
        found.append(Change("weight repacking", {"repack": not start.repack}, both))
    # Half of a few cores is no candidate for work that all of them are busy with.
    many = machine.n_physical >= _MANY_CORES
    found += [
        Change("threads, prefill", {"threads_batch": n}, prefill)
        for n in _thread_counts(machine, halves=many or machine.is_small)
        if n != start.threads_batch
    ]
    found += [
        Change("threads, decode", {"threads": n}, decode)
        for n in _thread_counts(machine, halves=True)
        if n != start.threads
    ]
    found.append(Change("flash attention", {"flash_attention": not start.flash_attention}, both, grows=True))
    found.append(Change("KV type", {"kv_type": "q8_0" if start.kv_type == "f16" else "f16"}, both, grows=True))
    found += [
        Change("n_ubatch", {"n_ubatch": n}, prefill, whole_batches=True)
        for n in (N_UBATCH, *N_UBATCHES)
        if not same_batches(n_image, n, start.n_ubatch)
    ]
    return found


def _thread_counts(machine: Hardware, *, halves: bool) -> list[int]:
    """Return counts of threads to try.

    A small model never gets all cores, however fast that was while nobody else wanted one: where another program takes
    a core from one thread, all others wait for it, and a photo takes seconds instead of a tenth of one.
    """
    if machine.is_busy:
        return []
    half = max(1, machine.n_physical // 2)
    if machine.is_small:
        return sorted({1, half})
    return sorted({machine.n_physical, machine.n_logical} | ({half} if halves else set()), reverse=True)


def is_possible(settings: Settings) -> bool:
    """Whether llama.cpp takes these settings together: keys and values of 8 bits need flash attention."""
    return settings.kv_type == "f16" or settings.flash_attention


def tower_of(settings: Settings) -> tuple[str, str, int]:
    """Return what of settings the tower depends on."""
    return settings.vision, settings.vision_device, settings.threads_vision
