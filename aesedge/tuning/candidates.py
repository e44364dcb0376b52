"""The settings that are worth trying on this hardware, the most valuable first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

from aesedge.config.plan import N_UBATCH
from aesedge.llm.gpu_offload import gpu_devices
from aesedge.llm.limits import even_ubatch
from aesedge.system.machine import default_n_threads, n_cores
from aesedge.vision.providers import PROVIDERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aesedge.config.plan import Settings
    from aesedge.tuning.comparison import Part, Phase

_N_UBATCHES = (N_UBATCH, 512, 128)
_PRECISE_FIRST = ("fp32", "fp16", "int8")
_MANY_CORES = 4
_VISION: frozenset[Phase] = frozenset(("vision",))
_PREFILL: frozenset[Phase] = frozenset(("prefill",))
_DECODE: frozenset[Phase] = frozenset(("decode",))


class Candidate(NamedTuple):
    """Other values of settings."""

    name: str
    values: dict[str, Any]
    """Fields of :class:`aesedge.config.plan.Settings`."""
    phases: frozenset[Phase]
    """What they can make faster."""
    grows: bool = False
    """Whether their effect depends on the number of cells in the cache."""
    whole_batches: bool = False
    """Whether they are about the batches themselves."""

    @property
    def part(self) -> Part:
        """Which runtime they are for."""
        return "vision" if "vision" in self.phases else "language"


class Conditions(NamedTuple):
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
    has_kernels: bool = False
    """Whether aesedge's own matrix kernels run here."""
    is_busy: bool = False
    """Whether other programs take cores now: fewer threads can be faster then, and slower when those are gone."""


def conditions(device: str, model_bytes: int, *, repacks: bool, has_kernels: bool, is_busy: bool) -> Conditions:
    """Look at this machine; ``model_bytes`` is the size of tower and language model."""
    n_logical = n_cores()
    n_physical = min(n_logical, psutil.cpu_count(logical=False) or n_logical)
    has_gpu = device != "cpu" and bool(gpu_devices())
    is_small = default_n_threads(model_bytes) == 1
    return Conditions(n_logical, n_physical, has_gpu, is_small, repacks, has_kernels, is_busy)


def most_precise(types: Sequence[str]) -> str:
    """Return the vision precision that others are compared with."""
    return min(types, key=lambda t: _PRECISE_FIRST.index(t.lower()) if t.lower() in _PRECISE_FIRST else 99)


def usable(types: Sequence[str], provider: str) -> list[str]:
    """Return the precisions that can be fast: a CPU computes fp16 in float32, 8-bit products run on the CPU alone."""
    unfit = "fp16" if provider == PROVIDERS["cpu"] else "int8" if provider == PROVIDERS["cuda"] else ""
    return [t for t in types if t.lower() != unfit] or list(types)


def vision_candidates(
    start: Settings, types: Sequence[str], provider: str, machine: Conditions, devices: Sequence[str] = ()
) -> list[Candidate]:
    """Return what to try with the tower: ``types`` that are worth it, threads on a CPU, and other ``devices``."""
    found: list[tuple[str, str, str | int]] = [("vision precision", "vision", t) for t in usable(types, provider)]
    if provider == PROVIDERS["cpu"]:
        found += [("threads, vision", "threads_vision", n) for n in _thread_counts(machine, halves=True)]
    found += [("vision provider", "vision_device", device) for device in devices if PROVIDERS[device] != provider]
    return [Candidate(name, {fld: value}, _VISION) for name, fld, value in found if value != getattr(start, fld)]


def language_candidates(start: Settings, n_image: int, machine: Conditions) -> list[Candidate]:
    """Return what to try with the language model, by the rows of an image."""
    both = _PREFILL | _DECODE
    found = []
    if machine.has_gpu:
        found.append(Candidate("GPU layers", {"gpu_layers": 0 if start.gpu_layers == "auto" else "auto"}, both))
    if machine.repacks:
        found.append(Candidate("weight repacking", {"repack": not start.repack}, both))
    if machine.has_kernels and not (machine.repacks and start.repack):  # which leaves them nothing
        found.append(Candidate("matrix kernels", {"kernels": not start.kernels}, both))
    # Half of a few cores is no candidate for work that all of them are busy with.
    many = machine.n_physical >= _MANY_CORES or machine.is_small
    for name, fld, phases, halves in (
        ("threads, prefill", "threads_batch", _PREFILL, many),
        ("threads, decode", "threads", _DECODE, True),
    ):
        counts = [n for n in _thread_counts(machine, halves=halves) if n != getattr(start, fld)]
        found += [Candidate(name, {fld: n}, phases) for n in counts]
    found += [
        Candidate("flash attention", {"flash_attention": not start.flash_attention}, both, grows=True),
        Candidate("KV type", {"kv_type": "q8_0" if start.kv_type == "f16" else "f16"}, both, grows=True),
    ]
    sizes = [n for n in _N_UBATCHES if even_ubatch(n_image, n) != even_ubatch(n_image, start.n_ubatch)]
    return found + [Candidate("n_ubatch", {"n_ubatch": n}, _PREFILL, whole_batches=True) for n in sizes]


def _thread_counts(machine: Conditions, *, halves: bool) -> list[int]:
    """Return counts of threads to try.

    A small model never gets all cores, however fast that was while they were free: where another program takes a core
    from one thread, all others wait for it, and a photo takes seconds instead of a tenth of one.
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
    """Return the settings that the tower depends on."""
    return settings.vision, settings.vision_device, settings.threads_vision
