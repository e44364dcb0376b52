"""What would make a bundle faster on this machine, each with the command to type; loads no weights, changes nothing."""

from __future__ import annotations

import platform
from dataclasses import replace
from typing import TYPE_CHECKING

from aesedge.config.memory import estimate
from aesedge.config.memory.fit import limits_now
from aesedge.config.planning import make_plan
from aesedge.config.profile import load_profile
from aesedge.doctor.build_advice import Advice, quoted, rebuilding
from aesedge.errors import AesedgeError
from aesedge.system.byte_sizes import size_text
from aesedge.system.power_saving import remedy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aesedge.bundle.bundle import Bundle
    from aesedge.bundle.manifest import Source
    from aesedge.config.options import Options
    from aesedge.config.plan import Plan
    from aesedge.doctor.libraries import Libraries
    from aesedge.system.hardware import Hardware
    from aesedge.system.noise_source import NoiseSource

__all__ = ["Advice", "advice"]

_LARGE_GRAPH_BYTES = 100_000_000
"""Smaller vision graphs take milliseconds in any precision."""


def advice(
    bundle: Bundle,
    options: Options,
    machine: Hardware,
    built: Libraries,
    disturbed: Sequence[NoiseSource] = (),
) -> list[Advice]:
    """Say what would be faster, what gains most first: other builds, then the bundle, tuning, power, memory.

    Args:
        bundle: which is to be run.
        options: how.
        machine: as :func:`aesedge.system.hardware.hardware` describes it.
        built: as :func:`aesedge.doctor.libraries.libraries` describes it.
        disturbed: what :func:`aesedge.system.measurement_noise.disturbances` found.
    """
    found = rebuilding(machine, built)
    try:
        plan = make_plan(options, bundle)
    except AesedgeError:  # the examination says why
        return found
    found += _vision(bundle, plan, built)
    found += _image_tokens(bundle, options)
    found += _tuning(bundle, options, plan)
    found += _power_saving(disturbed)
    swaps = any(sign.what == "swapping" and sign.disturbs for sign in disturbed)
    return found + list(_memory(bundle, options, plan, swaps=swaps))


def _named(bundle: Bundle) -> str:
    """Return what to type for a bundle: its name may be another bundle's where it was given as a folder."""
    return bundle.name if bundle.folder.name == bundle.name else quoted(str(bundle.folder))


def _vision(bundle: Bundle, plan: Plan, built: Libraries) -> Iterator[Advice]:
    on_gpu = built.has_cuda_vision and plan.device in {"auto", "cuda"}
    types = [t.lower() for t in bundle.manifest.types("vision")]
    file = bundle.manifest.file("vision", plan.vision)
    if on_gpu or "int8" in types or file is None or file.n_bytes < _LARGE_GRAPH_BYTES:
        return
    why = (
        f"the vision graph is there in {', '.join(types)} only; in int8 a CPU is two to three times as fast "
        "(2.8 times on two Zen 4 cores)"
    )
    yield Advice("vision in int8", why, _made_again(bundle.manifest.source, ",".join([*types, "int8"])))


def _made_again(source: Source, precisions: str) -> str:
    """Return the command that makes a bundle with other vision graphs, as far as its manifest tells how it was made."""
    if source.layout.startswith("llama.cpp pair"):
        files = " ".join(quoted(name) for name in source.checkpoint.split(" + "))
        return f"aesedge import {files} --vision {precisions}"
    return f"aesedge export {quoted(source.checkpoint)} --vision {precisions}" if source.layout else ""


def _image_tokens(bundle: Bundle, options: Options) -> Iterator[Advice]:
    tokens = bundle.manifest.image_tokens
    if options.image_tokens is not None or tokens.min == tokens.max:
        return
    fewest = tokens.auto()
    if not tokens.curve:
        why = f"fewer than {tokens.max} are faster; nobody measured what they cost with this bundle"
        yield Advice("image tokens", why, f"aesedge tune {_named(bundle)} --quality PHOTOS")
    elif fewest < tokens.max:
        drift = next(point.score_drift for point in tokens.curve if point.n == fewest)
        why = f"{fewest} of {tokens.max} move scores by {drift:.2f} of 10 points on average, as measured on photos"
        yield Advice("image tokens", why, f"aesedge run --bundle {_named(bundle)} --image-tokens auto")


def _tuning(bundle: Bundle, options: Options, plan: Plan) -> Iterator[Advice]:
    if not options.tuned or load_profile(bundle.manifest, plan.gguf, options.device) is not None:
        return
    gguf = "" if options.gguf is None else f" --gguf {plan.gguf.lower()}"
    device = "" if options.device == "auto" else f" --device {options.device}"
    why = "nobody measured which settings are fastest on this machine"
    yield Advice("tuning", why, f"aesedge tune {_named(bundle)}{gguf}{device}")


def _power_saving(disturbed: Sequence[NoiseSource]) -> Iterator[Advice]:
    remedies: dict[str, str] = {}
    for sign in disturbed:
        command = remedy(sign.what, platform.system()) if sign.disturbs else ""
        if command:
            remedies.setdefault(command, f"{sign.what}: {sign.found}")  # one command may be against several
    for command, why in remedies.items():
        yield Advice("power saving", why, command)
    on_battery = next((sign for sign in disturbed if sign.what == "battery" and sign.disturbs), None)
    if on_battery is not None:
        yield Advice("power saving", "the machine runs on its battery: plug it in", "")


def _memory(bundle: Bundle, options: Options, plan: Plan, *, swaps: bool) -> Iterator[Advice]:
    files = sorted((f for f in bundle.manifest.files if f.role == "llm"), key=lambda file: file.n_bytes)
    own = bundle.manifest.file("llm", plan.gguf)
    if own is None:
        return
    if swaps:
        smaller = [file.type.lower() for file in files if file.n_bytes < own.n_bytes]
        command = f"aesedge run --bundle {_named(bundle)} --gguf {smaller[-1]}" if smaller else ""
        yield Advice("memory", "this machine swaps: close other programs" + (", or" if smaller else ""), command)
    better = next((file.type for file in files if file.n_bytes > own.n_bytes), None)
    if better is None:
        return
    try:
        limits = limits_now(plan.device, options.memory)
        wanted = estimate(bundle, replace(plan, gguf=better), process_bytes=limits.process_bytes)
    except AesedgeError:
        return
    if wanted.needed_bytes > limits.ram_bytes:
        needed = f"{better.lower()}, which is nearer to the original, needs {size_text(wanted.needed_bytes)}"
        if wanted.needed_bytes <= limits.free_bytes:
            yield Advice("memory", f"{needed}; --memory allows {size_text(limits.ram_bytes)}", "")
        else:
            free = size_text(limits.free_bytes)
            yield Advice("memory", f"{needed}; {free} are free: close other programs, or add memory", "")
