"""Choose what ONNX Runtime runs the vision graph on: its execution providers, and whether CUDA can be used.

With :mod:`aesedge.vision.tower`, the only module that uses onnxruntime.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from aesedge.errors import MissingExtraError, ProviderError
from aesedge.system.cuda import no_cuda_gpu, preload_cuda_libraries
from aesedge.system.interrupt import Interrupt

if TYPE_CHECKING:
    from collections.abc import Sequence

Device = Literal["auto", "cpu", "cuda", "metal"]
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "metal": "CoreMLExecutionProvider"}
FATAL_ONLY = 4
"""onnxruntime's log severity: its errors come as exceptions, once is enough."""
_WARNING = 2  # its default
_IDENTITY = (
    b'\x08\x08:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)
"""An ONNX model of one node, float32 [1] to itself, as onnx.helper makes it."""
_log = logging.getLogger("aesedge")


def vision_devices() -> list[Device]:
    """Return the devices on which this ONNX Runtime can run a graph."""
    available = load_onnxruntime().get_available_providers()
    devices: tuple[Device, ...] = ("cpu", "cuda", "metal")
    usable = [device for device in devices if PROVIDERS[device] in available]
    return [device for device in usable if device != "cuda" or not _no_cuda()]


class RuntimeBuild(NamedTuple):
    """Version and build of ONNX Runtime."""

    version: str
    providers: list[str]
    """Execution providers that it was built with, by its own names; whether a device is there is another question."""
    build: str
    """How it was built, in its own words."""


def runtime_build() -> RuntimeBuild:
    """Return version and build of the installed ONNX Runtime.

    Raises:
        MissingExtraError: it is not installed.
    """
    ort = load_onnxruntime()
    words = getattr(ort, "get_build_info", str)()  # since 1.15
    return RuntimeBuild(ort.__version__, list(ort.get_available_providers()), words)


def vision_type(asked: str, types: Sequence[str], default: str, device: Device) -> str:
    """Return the precision of the vision graph to load.

    ``auto`` takes fp16 on CUDA, else fp32: ONNX Runtime's 8-bit products run on the CPU alone. Elsewhere it takes the
    bundle's default, but never fp16 where there is another: a CPU computes it in float32, with casts.

    Args:
        asked: a precision, or ``auto``.
        types: what the bundle has.
        default: the manifest's choice.
        device: where the graph is to run.

    Raises:
        ProviderError: the device that was asked for is not there.
    """
    if asked != "auto":
        return asked
    if len(types) == 1:
        return default
    on_cuda = device in {"auto", "cuda"} and choose_provider(load_onnxruntime(), device) == PROVIDERS["cuda"]
    wanted = ("fp16", "fp32", default) if on_cuda else (default, "fp32", "int8")
    unfit = set() if on_cuda else {"fp16"}
    return next((t for t in wanted if t in types and t not in unfit), default)


def load_onnxruntime() -> Any:
    """Import ONNX Runtime, which never reports usage; the module has no types.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        with Interrupt():  # its native part would turn Ctrl-C into an ImportError
            import onnxruntime
    except ImportError:
        raise MissingExtraError("ONNX Runtime is not installed", "cpu") from None
    # ORT_DISABLE_TELEMETRY was set when aesedge was imported; this is for programs that imported onnxruntime before.
    onnxruntime.disable_telemetry_events()
    return onnxruntime


def choose_provider(ort: Any, device: Device) -> str:
    """Return the execution provider for a device; ``auto`` is CUDA where it can be used, else the CPU with a warning.

    Raises:
        ProviderError: the device that was asked for cannot be used.
    """
    available = ort.get_available_providers()
    if device == "auto":
        return PROVIDERS["cuda"] if PROVIDERS["cuda"] in available and not _warn_no_cuda() else PROVIDERS["cpu"]
    provider = PROVIDERS[device]
    if provider not in available:
        have = ", ".join(name for name, p in PROVIDERS.items() if p in available)
        hint = " (pip install 'aesedge[cuda]')" if device == "cuda" else ""
        raise ProviderError(f"device {device}: this ONNX Runtime has no {provider}{hint}; it has: {have}")
    if device == "cuda" and (problem := _no_cuda()):
        raise ProviderError(f"device cuda: ONNX Runtime cannot use CUDA: {problem}; --device cpu runs without it")
    return provider


@cache
def _warn_no_cuda() -> str:
    """Return what :func:`_no_cuda` does, and say it once."""
    problem = _no_cuda()
    if problem:
        _log.warning(
            "ONNX Runtime's CUDA build runs the vision tower on the CPU: %s. --device cpu says that it is wanted",
            problem,
        )
    return problem


@cache
def _no_cuda() -> str:
    """Return why this ONNX Runtime cannot use CUDA, or an empty text. It is tried, with a graph of one node."""
    if problem := no_cuda_gpu():
        return problem
    preload_cuda_libraries()
    ort = load_onnxruntime()
    ort.set_default_logger_severity(FATAL_ONLY)  # else it writes what follows to the terminal, in color
    try:
        providers = ort.InferenceSession(_IDENTITY, providers=[PROVIDERS["cuda"]]).get_providers()
    except Exception as error:  # noqa: BLE001 (onnxruntime's exceptions share no base class)
        return " ".join(str(error).split())
    finally:
        ort.set_default_logger_severity(_WARNING)
    if PROVIDERS["cuda"] in providers:
        return ""
    return "libraries of CUDA or cuDNN are missing or do not fit the driver; pip install 'aesedge[cuda]' brings them"
