"""Find and run the native programs, where they are built, and measure the machine's ceilings with them."""
# ruff: noqa: INP001 - a script's neighbour, no package

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from aesedge.bench.ceilings import Ceilings
from aesedge.errors import AesedgeError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aesedge.bench.ceilings import Device

_CLONE = Path(__file__).resolve().parent.parent
_PRESETS: dict[Device, tuple[str, ...]] = {"cpu": ("cpu", "cuda", "metal"), "gpu": ("cuda", "metal")}
_WRONG_CALL = 2
_END_WITHIN_S = 5.0
_CEILINGS_WITHIN_S = 60.0


def native_folder(device: Device = "cpu") -> Path | None:
    """Return the folder of the programs, or None where they are not built for this device.

    ``AESEDGE_KERNELS`` names it; otherwise it is where the presets build, beside a package that is installed in place.
    """
    named = os.environ.get("AESEDGE_KERNELS")
    if named:
        folders = [Path(named)]
    else:
        folders = [_CLONE / "build" / "kernels" / preset / "kernels_bench" for preset in _PRESETS[device]]
    return next((folder for folder in folders if (folder / "bandwidth").is_file()), None)


def require_native(device: Device = "cpu") -> Path:
    """Return the folder of the programs.

    Raises:
        AesedgeError: they are not built, or with another ggml than the installed one.
    """
    folder = native_folder(device)
    build = "make kernels" if device == "cpu" else "make kernels PRESET=cuda (or metal)"
    if folder is None:
        raise AesedgeError(f"the native benchmarks are not built for the {device}. In a clone, type: {build}")
    if not (folder / "matmul").is_file():
        raise AesedgeError(f"{folder}: built without llama-cpp-python's ggml. Install that, then type: {build}")
    return folder


def installed_ggml() -> str:
    """Return version and commit of the ggml in the installed llama-cpp-python, or an empty text if it does not tell."""
    with suppress(importlib.metadata.PackageNotFoundError, OSError):
        wheel = importlib.metadata.distribution("llama-cpp-python")
        config = Path(str(wheel.locate_file("lib/cmake/ggml/ggml-config.cmake"))).read_text(encoding="utf-8")
        found = dict(re.findall(r'set\((GGML_VERSION|GGML_BUILD_COMMIT) "([^"]*)"\)', config))
        return f"{found['GGML_VERSION']} {found['GGML_BUILD_COMMIT']}" if len(found) == 2 else ""
    return ""


def run_native(
    command: Sequence[str | Path],
    *,
    timeout_s: float,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Run a program to its end and return the object on its last line.

    Args:
        command: the program and its arguments.
        timeout_s: how long it may take.
        progress: gets each line before the last, as it comes.

    Raises:
        UsageError: the program says that the call is wrong.
        AesedgeError: it fails, takes too long, or says nothing that can be read.
    """
    name = Path(command[1] if str(command[0]).endswith(("python", "python3", "python.exe")) else command[0]).name
    try:
        process = subprocess.Popen(  # noqa: S603 - our own program
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise AesedgeError(f"{command[0]} does not start: {error}") from error
    last, complaints, late = _listen(process, timeout_s, progress)
    said = ([line for line in complaints if line.strip()] or ["it does not say why"])[-1].strip()
    if late:
        raise AesedgeError(f"{name} took longer than {timeout_s:.0f} s and was ended")
    if process.returncode == _WRONG_CALL:
        raise UsageError(f"{name}: {said}")
    if process.returncode != 0:
        raise AesedgeError(f"{name} failed (exit code {process.returncode}): {said}")
    try:
        report = msgspec.json.decode(last, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise AesedgeError(f"{name}: its last line is no JSON object: {error}") from error
    return report


def _listen(
    process: subprocess.Popen[str],
    timeout_s: float,
    progress: Callable[[str], None] | None,
) -> tuple[str, list[str], bool]:
    """Return the last line, what was written to stderr, and whether the process took too long and was ended."""
    late = threading.Event()

    def end() -> None:
        late.set()
        _end(process)

    timer = threading.Timer(timeout_s, end)
    complaints: list[str] = []
    # What is written to stderr is read at once: a full pipe would stop the program.
    listener = threading.Thread(target=lambda: complaints.extend(process.stderr or ()), daemon=True)
    last = ""
    try:
        timer.start()
        listener.start()
        for line in process.stdout or ():
            if last and progress is not None:
                progress(last)
            last = line.rstrip("\n")
        process.wait()
    finally:  # Ctrl-C too: nothing goes on behind the terminal
        timer.cancel()
        _end(process)
        listener.join()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    return last, complaints, late.is_set()


def _end(process: subprocess.Popen[str]) -> None:
    """End a program, which may end what it has started; one that does not is killed."""
    process.terminate()
    try:
        process.wait(_END_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def require_installed_ggml(report: dict[str, Any]) -> None:
    """Hold the ggml that a program ran against the installed one.

    Raises:
        AesedgeError: they are not the same: the figures would not be those of this runtime.
    """
    installed, ran = installed_ggml(), f"{report.get('ggml_version')} {report.get('ggml_commit')}"
    if installed and installed != ran:
        raise AesedgeError(
            f"the native benchmarks run ggml {ran}, the installed llama-cpp-python has {installed}. "
            f"Build them for it: make kernels"
        )


def measure_ceilings(folder: Path, n_threads: int, device: Device) -> Ceilings:
    """Measure for two to three seconds.

    Raises:
        AesedgeError: a program fails.
    """
    return _gpu_ceilings(folder) if device == "gpu" else _native_ceilings(folder, n_threads)


def _native_ceilings(folder: Path, n_threads: int) -> Ceilings:
    threads = ["--threads", str(n_threads)]
    memory = run_native(
        [folder / "bandwidth", "--ops", "read", "--seconds", "0.6", "--repetitions", "100", *threads],
        timeout_s=_CEILINGS_WITHIN_S,
    )
    peak = run_native(
        [folder / "peak", "--seconds", "0.3", "--repetitions", "100", *threads],
        timeout_s=_CEILINGS_WITHIN_S,
    )
    by_op = {row["op"]: row for row in peak["rows"]}
    instructions = ", ".join(str(by_op[op]["instruction"]) for op in ("fma_f32", "dot_int8"))
    return Ceilings(
        read_bytes_per_s=_best(memory["rows"][0], "n_bytes"),
        fma_flops_per_s=_best(by_op["fma_f32"], "n_operations"),
        int8_ops_per_s=_best(by_op["dot_int8"], "n_operations"),
        source=f"kernels_bench, {n_threads} threads: bandwidth (read), peak ({instructions})",
    )


def _gpu_ceilings(folder: Path) -> Ceilings:
    on_gpu = ["--device", "gpu", "--seconds", "0.5", "--repetitions", "50"]
    memory = run_native([folder / "device_bandwidth", *on_gpu], timeout_s=_CEILINGS_WITHIN_S)
    peak = run_native([folder / "device_peak", *on_gpu], timeout_s=_CEILINGS_WITHIN_S)
    product = peak["rows"][0]
    flops_per_s = _best(product, "n_operations")
    return Ceilings(
        read_bytes_per_s=_best(memory["rows"][0], "n_bytes"),
        fma_flops_per_s=flops_per_s,
        int8_ops_per_s=flops_per_s,  # ggml does not tell which units it uses
        source=f"kernels_bench on {peak['device']}: ggml's copy, ggml's product {product['op']} for all arithmetic",
    )


def _best(row: dict[str, Any], amount: str) -> float:
    return float(row[amount]) / float(row["min_s"])
