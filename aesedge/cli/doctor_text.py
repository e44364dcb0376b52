"""Text of ``doctor``: checks, machine, libraries and advice, in sections and tables that fit a terminal."""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from aesedge.cli.terminal import bold, dim, table
from aesedge.system.byte_sizes import size_text
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from aesedge.doctor import CacheReport, Check, Finding
    from aesedge.doctor.advice import Advice
    from aesedge.doctor.difference import Limits
    from aesedge.doctor.libraries import Libraries
    from aesedge.system.gpus import Gpu
    from aesedge.system.hardware import Disk, Hardware
    from aesedge.system.measurement_noise import NoiseSource

_NAME_WIDTH = 17
_WORD_WIDTH = 8
_LEAST_WIDTH = 60
_MOST_WIDTH = 110
_INDENT = "  "


def fitness_section(findings: Sequence[Finding]) -> str:
    """Return what was examined, with its verdict."""
    rows = [(f.name, "pass" if f.passed else "FAIL", f.found if f.passed else "see above") for f in findings]
    return _section("is it fit", (_row(name, found, word) for name, word, found in rows))


def hardware_section(machine: Hardware, disks: Sequence[Disk]) -> str:
    """Return what the machine has."""
    cores = f"{machine.cpu}, {_cores(machine)}"
    return _section("this machine", (_row(*row) for row in (
        ("system", f"{machine.system}, {machine.architecture}" + (", a virtual machine" if machine.is_virtual else "")),
        ("processor", cores),
        ("instructions", " ".join(machine.instructions) or "the system does not tell"),
        ("memory", f"{size_text(machine.ram_bytes)}, {size_text(machine.ram_free_bytes)} free"),
        *(("GPU", _gpu(gpu)) for gpu in machine.gpus),
        *([] if machine.gpus else [("GPU", "none to be seen")]),
        *((f"disk, {disk.what}", _disk(disk)) for disk in disks),
    )))  # fmt: skip


def _cores(machine: Hardware) -> str:
    both = f"{machine.n_physical} cores" if machine.n_physical != 1 else "1 core"
    if machine.n_logical != machine.n_physical:
        both += f" ({machine.n_logical} logical)"
    return both + (f", {machine.n_usable} for this process" if machine.n_usable < machine.n_logical else "")


def _gpu(gpu: Gpu) -> str:
    parts = [gpu.name]
    if gpu.total_bytes is not None:
        parts.append(size_text(gpu.total_bytes) + (" shared with the processor" if gpu.shares_ram else ""))
    if gpu.free_bytes is not None:
        parts.append(f"{size_text(gpu.free_bytes)} free")
    return ", ".join(parts if gpu.has_driver else [*parts, "without a driver"])


def _disk(disk: Disk) -> str:
    free = "free space unknown" if disk.free_bytes is None else f"{size_text(disk.free_bytes)} free"
    return f"{free} in {disk.folder}"


def libraries_section(built: Libraries) -> str:
    """Return what the libraries are and were built with."""
    llama = f"llama-cpp-python {built.llama_cpp_python or 'not installed'}"
    ggml = f"{built.ggml}{f', commit {built.ggml_commit}' if built.ggml_commit else ''}"
    gpu = " ".join(built.gpu_features)
    packages = " and ".join(built.onnxruntime_packages)
    rows = [
        ("llama.cpp", f"{llama}" + (f", llama.cpp {built.llama_cpp}" if built.llama_cpp else "")),
        ("ggml", ggml or "-"),
        ("backends", f"{', '.join(built.backends) or '-'}"),
        ("devices", "; ".join(built.devices) or "-"),
        ("CPU built for", " ".join(built.cpu_features) or "-"),
        *([("GPU built for", gpu)] if gpu else []),
        ("weight layouts", ", ".join(built.extra_buffers) or "as in the file only"),
        ("matrix kernels", f"aesedge's own, {built.kernels}" if built.kernels else built.kernels_missing or "-"),
        ("ONNX Runtime", f"{built.onnxruntime or 'not installed'}{f' ({packages})' if packages else ''}"),
        ("providers", ", ".join(name.removesuffix("ExecutionProvider") for name in built.providers) or "-"),
    ]
    return _section("its libraries", (_row(*row) for row in rows))


def advice_section(advices: Sequence[Advice]) -> str:
    """Return what would be faster, each with what to type."""
    if not advices:
        return _section("what would be faster", [_INDENT + "nothing that aesedge knows of"])
    lines = (line for a in advices for line in (_row(a.what, a.why), *([_command(a.command)] if a.command else [])))
    return _section("what would be faster", lines)


def disturbances_section(found: Sequence[NoiseSource]) -> str:
    """Return what disturbs measurements, what does not, and what cannot be known here."""
    known = sorted((d for d in found if d.known), key=lambda d: not d.disturbs)
    rows = [_row(d.what, d.found, "disturbs" if d.disturbs else "ok") for d in known]
    silent = [d.what for d in found if not d.known]
    if silent:
        rows.append(_row("not told here", ", ".join(silent), "unknown"))
    return _section("what disturbs measurements", rows)


def _section(title: str, lines: Iterator[str] | Sequence[str]) -> str:
    return "\n".join([bold(title), *lines])


def _width() -> int:
    return max(_LEAST_WIDTH, min(_MOST_WIDTH, shutil.get_terminal_size().columns))


def _row(name: str, text: str, word: str | None = None) -> str:
    """Return a row whose text goes on in further lines below itself."""
    head = f"{_INDENT}{name:<{_NAME_WIDTH}}" + ("" if word is None else f"{word:<{_WORD_WIDTH}}  ")
    lines = textwrap.wrap(sanitize(text, lines=True), max(20, _width() - len(head)), break_on_hyphens=False) or [""]
    return "\n".join([head + lines[0], *(" " * len(head) + line for line in lines[1:])])


def _command(command: str) -> str:
    """Return a command that can be copied as it stands; a shell joins its lines again."""
    indent = _INDENT + " " * _NAME_WIDTH
    if os.name == "nt":
        return dim(indent + command)
    lines = textwrap.wrap(
        sanitize(command),
        _width() - len(indent) - 2,
        break_long_words=False,
        break_on_hyphens=False,
        subsequent_indent="  ",
    )
    return "\n".join(dim(indent + line + (" \\" if line is not lines[-1] else "")) for line in lines)


def reuse_table(report: CacheReport) -> str:
    """Return the checks of reuse, each with the noise and the limit that it is held against."""
    rows = [_check_row(check) for check in report.checks]
    floors = report.floors
    legend = (
        "nats/token: change in negative log-likelihood of a given text, against a model that has just been opened\n"
        "noise:      what this machine changes by itself, computing in the same batches or in others\n"
        f"points:     change of the score, of 10; noise {_points(floors.same)} or {_points(floors.other)}"
    )
    return table(rows, header=["check", "nats/token", "noise", "limit", "points", "bits", ""]) + "\n" + dim(legend)


def reuse_verdict(bundle: str, report: CacheReport) -> str:
    """Return the result in one line."""
    n_failed = sum(not check.passed for check in report.checks)
    n_skipped = sum(bool(check.skipped) for check in report.checks)
    skipped = f" ({n_skipped} not examined)" if n_skipped else ""
    if n_failed:
        return f"FAIL: {bundle}: {n_failed} of {len(report.checks)} checks{skipped}"
    return f"pass: {bundle}: reuse changes nothing, and no photo answers for another{skipped}"


def _check_row(check: Check) -> list[str]:
    if check.skipped:
        return [check.name, "-", "-", "-", "-", "", "skip"]
    found, limits, least = check.found, check.limits, check.least_nll
    return [
        check.name,
        _figure(found.nll),
        _figure(limits.noise.nll),
        _figure(limits.nll) if least is None else f"> {_figure(least)}",
        _figure(found.points),
        "" if least is not None else "same" if found.same_bits else "other",
        "pass" if check.passed else "FAIL",
    ]


def _points(limits: Limits) -> str:
    return f"{_figure(limits.noise.points)} (limit {_figure(limits.points)})"


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return "0" if value == 0 else f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e+")
